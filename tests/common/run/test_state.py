"""The state of a run: every kind of part comes back, files of earlier versions are read, damaged ones are refused."""

import argparse
import json

import pytest
import torch
from torch import nn

from common.errors import InputError
from common.run import checkpoint
from common.run.run import start
from common.run.script import Interrupted
from common.run.state import FORMAT, Progress, State, random_states
from models.poseaug.replay_pool import ReplayPool


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))


def state(folder, seed: int = 0, **options) -> State:
    """A run with a part of every kind, after two steps."""
    args = argparse.Namespace(device="cpu", seed=seed, threads=1, amp=False, compile=False, no_cuda_graphs=False)
    args.log_every, args.resume, args.width = 50, "", 3
    vars(args).update(options)
    run = start(args)
    lifter, first, second, pool = network(seed), network(seed + 1), network(seed + 2), ReplayPool((2,), 4)
    adam = [torch.optim.Adam(part.parameters(), 0.01) for part in (lifter, first, second)]
    for _ in range(2):
        x = torch.rand(8, 3, generator=run.generator)
        for part, optimizer in zip((lifter, first, second), adam, strict=True):
            part(x).mean().backward()
            optimizer.step()
        pool(x[:, :2], run.generator)
    parts = {"model_pos": lifter, "optimizer": adam[0], "adam": adam[1:], "pool": pool}
    parts["state_dict"] = {"dis.": first, "dis_temporal.": second}
    return State(run, args, parts, folder / "last.bin", {"sizes": {"width": 3}}, scores=("a",))


def numbers(of: State) -> dict:
    """All that a run goes on with, and its next draws."""
    contents = of.contents(Progress())
    draws = [torch.rand(3), torch.rand(3, generator=of.run.generator)]
    return {name: contents[name] for name in of.parts} | {"draws": draws}


def assert_equal(a, b) -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, list):
        for left, right in zip(a, b, strict=True):
            assert_equal(left, right)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


LOSSES = {"sums": torch.ones(2), "rows": 4}


def test_every_part_and_the_progress_come_back(tmp_path):
    first = state(tmp_path)
    saved = Progress(3, 2, LOSSES, {"a": 1.5}, {"row": {"a": 2.5}, "lr": 0.1})
    first.save(saved, "epoch_3.bin")
    expected = numbers(first)
    for name in ("last.bin", "epoch_3.bin"):
        other = state(tmp_path, seed=0)
        other.args.resume = str(tmp_path / name)
        progress = other.resume(4)
        assert_equal(progress._asdict() | {"more": dict(progress.more)}, saved._asdict())
        assert_equal(numbers(other), expected)
        assert other.run.last_checkpoint == tmp_path / name
    assert checkpoint.load(tmp_path / "last.bin")["sizes"] == {"width": 3}


def test_without_resume_a_run_begins(tmp_path):
    assert state(tmp_path).resume(1) == Progress() and not Progress().more


def test_the_file_is_sought_as_asked_for(tmp_path, monkeypatch):
    state(tmp_path).save(Progress(1))
    monkeypatch.chdir(tmp_path.parent)
    for given, folder in ((True, None), (str(tmp_path), None), ("last.bin", tmp_path), (f"{tmp_path.name}", None)):
        assert state(tmp_path, resume=given).resume(2, folder=folder).epoch == 1


def old_form(tmp_path, **changes) -> None:
    """last.bin as it was written before format 2: the published keys, no `format`."""
    of = state(tmp_path)
    parts = {name: part.state_dict() for name, part in of.parts.items() if name in ("model_pos", "optimizer", "pool")}
    parts["adam"] = [optimizer.state_dict() for optimizer in of.parts["adam"]]
    networks = of.parts["state_dict"].items()
    parts["state_dict"] = {prefix + k: v for prefix, part in networks for k, v in part.state_dict().items()}
    ours = {"rng": random_states(of.run), "options": json.dumps({"width": 3, "seed": 0, "gone": 1})}
    checkpoint.save(of.path, {"epoch": 1, "step": 0, "losses": None, "best": None, **parts, **ours} | changes)


def test_files_before_format_2_go_on_the_same(tmp_path):
    expected = numbers(state(tmp_path))
    old_form(tmp_path)
    other = state(tmp_path, seed=0, resume=True)
    assert other.resume(2) == Progress(1)
    assert_equal(numbers(other), expected)


def test_a_published_file_resumes_at_its_epoch(tmp_path):
    checkpoint.save(tmp_path / "last.bin", {"epoch": 7, "lr": 0.5, "model_pos": network(5).state_dict()})
    of = state(tmp_path, resume=True)
    optional = ("optimizer", "adam", "pool", "state_dict", "rng", "options")
    progress = of._replace(optional=optional).resume(9)
    assert progress.epoch == 7 and dict(progress.more) == {"lr": 0.5}
    assert_equal(of.parts["model_pos"].state_dict(), network(5).state_dict())
    with pytest.raises(
        InputError, match=r"last.bin is no state.*no optimizer, adam.*run of this script, or start anew"
    ):
        of.resume(9, hint="start anew")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epoch": "x"}, "damaged"),
        ({"epoch": -1}, "damaged"),
        ({"step": None}, "damaged"),
        ({"losses": {"a": 1}}, "damaged"),
        ({"losses": 3}, "damaged"),
        ({"losses": {"sums": 1, "rows": 2}}, "damaged"),
        ({"losses": {"sums": torch.ones(2), "rows": "x"}}, "damaged"),
        ({"best": {"a": "x"}}, "damaged"),
        ({"row": {"a": [1]}}, "damaged"),
        ({"scores": "x"}, "damaged"),
        ({"best": "x"}, "damaged"),
        ({"options": "{"}, "options are damaged"),
        ({"options": '{"width": 5}'}, "--width 3 here, 5 in the checkpoint"),
        ({"rng": {}}, "random state is damaged"),
        ({"epoch": 2}, "2 finished epochs.*--num_epochs"),
        ({"format": FORMAT + 1}, f"format {FORMAT + 1}, of a later version"),
        ({"format": "x"}, "format x"),
        ({"model_pos": {}}, "no weights"),
        ({"optimizer": 5}, "optimiser's state does not fit"),
        ({"adam": [{}]}, "adam is damaged.*expected 2"),
        ({"pool": {"poses": 1}}, "pool is damaged"),
        ({"state_dict": 1}, "state_dict is damaged"),
        ({"state_dict": {1: 2}}, "state_dict is damaged"),
    ],
)
def test_a_damaged_or_other_file_is_refused_in_a_line(tmp_path, change, words):
    old_form(tmp_path, **change)
    with pytest.raises(InputError, match=words):
        state(tmp_path, resume=True).resume(2, option="--num_epochs")


def test_free_options_and_the_scripts_own_check(tmp_path):
    state(tmp_path).save(Progress(1))
    of = state(tmp_path, resume=True, width=4, threads=2)
    with pytest.raises(InputError, match="--width 4 here"):
        of.resume(2)
    assert of._replace(free=("width",)).resume(2).epoch == 1
    assert of.args.width == 4
    assert of._replace(kept=("width", "unknown")).resume(2).epoch == 1
    assert of.args.width == 3

    of.args.width = 4

    def refuse(saved, path):
        raise InputError(f"{path.name}: {saved['sizes']}")

    with pytest.raises(InputError, match=r"last.bin: {'width': 3}"):
        of.resume(2, check=refuse)


def test_stop_saves_and_says_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py", "--width", "3"])
    for words, line in (
        ((), f"stopped in epoch 3; go on with: python train.py --width 3 --resume {tmp_path}"),
        (("python this",), "stopped in epoch 3; go on with: python this"),
        (("python this", "at step 9"), "stopped at step 9; go on with: python this"),
    ):
        of = state(tmp_path)
        with pytest.raises(Interrupted) as left:
            of.stop(Progress(2, 5, LOSSES), *words)
        assert left.value.message == line
        assert state(tmp_path, resume=True).resume(4)[:2] == (2, 5)
