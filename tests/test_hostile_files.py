"""Damaged and hostile files of every kind: one line, status 2, no memory taken, nothing written elsewhere."""

import time

import numpy as np
import pytest
import torch

from common.errors import InputError
from common.files.npz import save_npz
from common.run import checkpoint
from methods import lifters
from tests import hostile
from tests.tiny_dataset import SUBJECTS, metadata, tiny_keypoints, tiny_poses

SECONDS = 10


@pytest.mark.filterwarnings("ignore")
def test_random_damage(tmp_path):
    kinds, end, count, before = hostile.readers(tmp_path), time.process_time() + SECONDS, 0, hostile.peak_bytes()
    for kind, (read, name, good) in kinds.items():  # the good files are read, but for networks that are too small
        if kind in ("hourglass", "encoder-decoder", "whole network", "asf", "amc", "bones"):
            continue
        folder = tmp_path / f"good {kind}"
        folder.mkdir()
        (folder / name).write_bytes(good)
        read(folder / name)
    for found in hostile.findings(tmp_path, 22, kinds):
        assert found is None, found
        count += 1
        if time.process_time() > end:
            break
    assert count > 500 and hostile.peak_bytes() - before < 1 << 30


def refusal(path) -> str:
    with pytest.raises(InputError) as caught:
        lifters.network_of(lifters.load(path), path)
    return str(caught.value)


def mlp_state(width: int, stages: int = 1) -> dict:
    with torch.device("meta"):
        return lifters.models.create("mlp", width=width, stages=stages).state_dict()


def test_sizes_without_weights(tmp_path):
    path = tmp_path / "a.bin"
    one = torch.zeros(())
    views = {name: one.expand(value.shape) for name, value in mlp_state(20480).items()}
    torch.save({"model_pos": views}, path)
    assert "shows few numbers as many" in refusal(path)
    views = {name: one.expand(value.shape) for name, value in mlp_state(3000).items()}  # 72 MB, in no bytes
    torch.save({"model_pos": views}, path)
    assert "names a network of" in refusal(path)
    names = {f"linear_stages.{i}.w1.weight": one for i in range(5000)}
    torch.save({"model_pos": {"w1.weight": torch.zeros(64, 34), "w2.weight": torch.zeros(51, 64)} | names}, path)
    assert refusal(path).isprintable()
    first = {"w1.weight": torch.zeros(40960, 34), "linear_stages.0.w1.weight": one, "w2.weight": torch.zeros(48, 1)}
    torch.save({"model_pos": first}, path)  # honest bytes of one layer; the next would have 6.7 GB
    assert "names a network of" in refusal(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("weight, words", [
    (torch.zeros(64, 34, device="meta"), "_rebuild_meta_tensor"),
    (torch.eye(34).to_sparse(), "_rebuild_sparse_tensor"),
    (torch.quantize_per_tensor(torch.zeros(64, 34), 0.1, 0, torch.qint8), "_rebuild_qtensor"),
    (bytearray(10), "bytearray"),
])  # fmt: skip
def test_tensors_that_are_no_plain_numbers(tmp_path, weight, words):
    torch.save({"model_pos": {"w1.weight": weight}}, tmp_path / "a.bin")
    assert words in refusal(tmp_path / "a.bin")


def test_complex_weights(tmp_path):
    state = {name: torch.zeros(value.shape, dtype=torch.complex64) for name, value in mlp_state(16).items()}
    torch.save({"model_pos": state}, tmp_path / "a.bin")
    assert "no tensors of real numbers" in refusal(tmp_path / "a.bin")


def test_aliases_in_a_checkpoint(tmp_path):
    laughs = ["ha" * 50]
    for _ in range(40):
        laughs = [laughs, laughs]
    torch.save({"network": laughs, "model_pos": {}}, tmp_path / "a.bin")
    with pytest.raises(InputError, match="repeats its parts"):
        checkpoint.load(tmp_path / "a.bin")


def test_an_action_does_not_choose_the_place(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    action = "x/../../../outside"
    poses = tiny_poses(6, SUBJECTS, ("Walking",))
    keypoints = tiny_keypoints(poses)
    save_npz("data_3d_tiny.npz", positions_3d={s: {action: v["Walking"]} for s, v in poses.items()})
    views = {s: {action: v["Walking"]} for s, v in keypoints.items()}
    save_npz("data_2d_tiny_gt.npz", positions_2d=views, metadata=metadata())
    network = lifters.models.create("teacher", width=8, layers=1, basis=2)
    torch.save({"epoch": 1, "model_pos": network.state_dict()}, "a.bin")
    words = ("--data-dir", ".", "-d", "tiny", "-k", "gt", "--device", "cpu", "--vis", "--vis-frames", 2, "-c", "a.bin")
    basis = ("--dict-basis-size", 2)
    done = script(
        "test_teacher.py", *words, "--output", "deep/er/out", "--n-fully-connected", 8, "--n-layers", 1, *basis
    )
    written = {path for path in tmp_path.rglob("*.gif")}
    assert written and all(path.parent == tmp_path / "deep/er/out" for path in written), done
    assert not list(tmp_path.parent.glob("outside*")) and np.all([path.stat().st_size for path in written])
