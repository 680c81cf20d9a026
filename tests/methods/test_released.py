"""Weights that come with the repository: found by name, checked by their cards, scored as a video is lifted."""

import hashlib
import json

import numpy as np
import pytest
import torch
import yaml

import models
from common.errors import InputError
from common.run import options
from common.run.run import Run
from methods import released
from tests.conftest import assert_refused
from tests.tiny_dataset import write_tiny_dataset


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of released weights with one, a small mlp that sees the pose alone."""
    torch.manual_seed(0)
    model = models.create("mlp", width=8, stages=1)
    content = {
        "state_dict": {k: v.half() for k, v in model.state_dict().items()},
        "options": json.dumps({"sees": "pose"}),
    }
    path = tmp_path / "released" / "small.pth"
    path.parent.mkdir()
    torch.save(content, path)
    card = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "command": "python run_baseline.py"}
    path.with_suffix(".yaml").write_text(yaml.safe_dump(card))
    for module in (options, released):
        monkeypatch.setattr(module, "RELEASED", path.parent)
    return path.parent


def test_names_and_cards(folder):
    assert released.names() == ["small"] and released.card("small")["command"] == "python run_baseline.py"
    assert options.saved_file("released/small") == folder / "small.pth"
    assert str(options.saved_file("released")) == "released" and str(options.saved_file("a/b.bin")) == "a/b.bin"
    with pytest.raises(InputError, match="videopose_pose.pth is missing"):
        released.best()
    with (folder / "small.pth").open("ab") as file:
        file.write(b" ")
    with pytest.raises(InputError, match="is damaged"):
        released.card("small")


def test_every_script_takes_a_name(folder, script, tmp_path):
    write_tiny_dataset(tmp_path, frames=3, actions=("Walking",))
    data = ("--dataset", "tiny", "--data-dir", tmp_path, "--cross_data", "none", "--device", "cpu")
    done = script(
        "run_baseline.py", *data, "--posenet_name", "mlp", "--stages", 1, "--epochs", 1, "--checkpoint", tmp_path / "r"
    )
    assert done.status == 0, done.err
    (file,) = (tmp_path / "r").glob("mlp/gt/*/ckpt_best.pth.tar")
    (folder / "whole.pth").write_bytes(file.read_bytes())
    scored = script(
        "run_evaluate.py", *data, "--posenet_name", "mlp", "--stages", 1, "--evaluate", "released/whole",
        "--output", tmp_path,
    )  # fmt: skip
    assert scored.status == 0 and "TINY: Protocol #1" in scored.out, scored.err
    refused = script("run_evaluate.py", *data, "--posenet_name", "mlp", "--evaluate", "released/smal")
    assert_refused(refused, "there is released/ with small, whole")


def test_the_table(folder, tmp_path, monkeypatch, script):
    """Rows for each weight and for no depth at all, columns for each set; half precision is read as it is."""
    write_tiny_dataset(tmp_path, "synthetic", frames=8, actions=("Walking",))
    write_tiny_dataset(tmp_path, "cmu", frames=8, actions=("Walking",))
    monkeypatch.setattr("common.synthetic.dataset.ensure_named", lambda *_: None)
    monkeypatch.setattr(released, "ensure_named", lambda *_: None)
    monkeypatch.setattr(released, "ensure_cross", lambda folder: folder / "test_twin.npz")
    rng = torch.Generator().manual_seed(0)
    poses, keypoints = torch.randn(5, 16, 3, generator=rng).numpy(), torch.rand(5, 16, 2, generator=rng).numpy()
    np.savez(tmp_path / "test_twin.npz", pose3d=poses, pose2d=keypoints)
    done = script("run_summary.py", "--released", "--data-dir", tmp_path, "--device", "cpu")
    assert done.status == 0, done.err
    rows = [line.split(" | ") for line in done.out.splitlines() if line.startswith("| ")]
    assert rows[0] == ["| weights", "synthetic", "cmu", "synthetic twin |"]
    assert sorted(row[0] for row in rows[2:]) == ["| no depth at all", "| small"]
    assert all(len(cell.split(" / ")) == 3 for row in rows[2:] for cell in row[1:])
    assert "2D input gt" in done.out and "25% of each sequence" in done.out
    assert_refused(script("run_summary.py", "--released", "--grid", "x.yaml"), "or --released")
    assert_refused(script("run_summary.py", "--released", "--check", "-k", "noisy"), "--keypoints gt")


@pytest.mark.parametrize("name", sorted(path.stem for path in options.RELEASED.glob("*.pth")))
def test_released_weights_score_what_their_cards_say(name, tmp_path):
    """On the synthetic twin, which is made in a second, to 0.1 mm."""
    run = Run(torch.device("cpu"), torch.Generator())
    twin = released.load_test_set(released.ensure_cross(tmp_path), released.H36M_17, run.device)
    found = released.score(options.RELEASED / f"{name}.pth", twin, run)
    card = released.card(name)
    assert released.differences(name, card, {"synthetic twin": found}) == []
    card["scores"]["synthetic twin"] = [10.0, 10.0, 9.0]
    assert "on synthetic twin: " in released.differences(name, card, {"synthetic twin": found})[0]
