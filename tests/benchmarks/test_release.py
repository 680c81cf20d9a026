"""benchmarks/release.py keeps a lifter's network and what it sees, in half precision, with a card that fits it."""

import json

import torch

import models
from common.run import checkpoint, options
from methods import lifters, released
from tests.conftest import assert_refused
from tests.tiny_dataset import write_tiny_dataset


def test_a_lifter_is_released(tmp_path, monkeypatch, script):
    write_tiny_dataset(tmp_path, "synthetic", frames=8, actions=("Walking",))
    kept = released.test_sets
    monkeypatch.setattr(released, "ensure_named", lambda *_: None)
    monkeypatch.setattr(released, "ensure_cross", lambda folder: None)
    monkeypatch.setattr(released, "load_test_set", lambda *_: None)
    monkeypatch.setattr(released, "test_sets", lambda *a: {n: s for n, s in kept(*a).items() if s is not None})
    folder = tmp_path / "released"
    for module in (options, released):
        monkeypatch.setattr(module, "RELEASED", folder)
    model = models.create("mlp", width=8, stages=1)
    content = {"state_dict": model.state_dict(), "options": json.dumps({"sees": "pose"}), "epoch": 3, "optimizer": [1]}
    torch.save(content, tmp_path / "run.pth.tar")
    words = ("benchmarks/release.py", tmp_path / "run.pth.tar", "small", "--data-dir", tmp_path, "--device", "cpu")
    done = script(*words, "--command", "python run_baseline.py")
    assert done.status == 0, done.err
    saved = checkpoint.load(folder / "small.pth")
    assert saved.keys() == {"state_dict", "options", "epoch"} and saved["state_dict"]["w1.weight"].dtype == torch.half
    assert lifters.load(folder / "small.pth").form.sees == "pose"
    card = released.card("small")
    assert card["command"] == "python run_baseline.py" and len(card["scores"]["synthetic"]) == 3
    monkeypatch.setattr(released, "score", lambda path, *_: released.Score(1.0, 1.0, 1.0 + (path.suffix == ".pth")))
    refused = script(*words[:2], "dear", *words[3:], "--command", "x")
    assert_refused(refused, "half precision changes")
    assert not (folder / "dear.pth").exists()
