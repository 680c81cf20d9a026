"""export_onnx.py: the file gives PyTorch's poses for any number of them; what cannot be exported is one line."""

import pytest
import torch

import models
from tests.conftest import assert_refused

LIFTERS = {
    "mlp": {"width": 32, "stages": 1},
    "gcn": {"hidden": 16, "stages": 1},
    "videopose": {"channels": 16, "stages": 1, "architecture": "3,3"},
    "student": {"hidden": 16, "blocks": 1},
}


def save(folder, name: str):
    torch.manual_seed(0)
    path = folder / f"{name}.bin"
    torch.save({"model_pos": models.create(name, **LIFTERS[name]).state_dict()}, path)
    return path


@pytest.mark.parametrize("name", list(LIFTERS)[1:])  # the mlp: test_documented_commands.py
def test_onnx_gives_the_poses_of_pytorch(script, tmp_path, name):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    done = script("export_onnx.py", "--ckpt", save(tmp_path, name), "--output", tmp_path / "lifter.onnx")
    assert done.status == 0, done.err
    assert "differ by" in done.out  # the script compares, and leaves with an error where they disagree
    graph = onnx.load(tmp_path / "lifter.onnx").graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["keypoints", "pose"]
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param  # any number of poses
    assert [d.dim_value for d in graph.output[0].type.tensor_type.shape.dim][1:] == [17 if name == "student" else 16, 3]


def test_what_is_missing_is_said(script, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert_refused(script("export_onnx.py", "--ckpt", save(tmp_path, "mlp")), "pip install onnx")
    assert not list(tmp_path.glob("*.onnx"))


def test_a_diverged_network_is_not_written(script, tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    path = save(tmp_path, "mlp")
    saved = torch.load(path, weights_only=True)
    saved["model_pos"]["w2.bias"].fill_(float("nan"))
    torch.save(saved, path)
    assert_refused(script("export_onnx.py", "--ckpt", path), "not finite")
    assert not list(tmp_path.glob("*.onnx"))
