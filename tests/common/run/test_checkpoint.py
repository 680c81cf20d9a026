"""Checkpoints: whatever happens while saving, a loadable file remains; whatever a file holds, nothing in it runs."""

import collections
import errno
import os
import pickle
import random
import re
import resource
import runpy
import signal
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from common.errors import InputError
from common.files.atomic import write_atomic
from common.run import checkpoint


def one_line(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def small_state(epoch: int = 1) -> dict:
    return {"epoch": epoch, "lr": 0.1, "model_pos": {"w": torch.full((3,), float(epoch))}}


# ---- saving


def test_round_trip_and_link(tmp_path):
    path = tmp_path / "runs" / "a" / "ckpt.bin"
    checkpoint.save(path, {**small_state(), "rng": checkpoint.rng_state(), "options": "{}", "best": float("inf")})
    state = checkpoint.load(path)
    assert state["epoch"] == 1 and torch.equal(state["model_pos"]["w"], torch.ones(3)) and state["best"] == float("inf")
    link = tmp_path / "latest.bin"
    link.symlink_to(path)
    checkpoint.save(link, small_state(2))
    assert link.is_symlink() and checkpoint.load(path)["epoch"] == 2
    assert os.listdir(path.parent) == ["ckpt.bin"]


def forked(work) -> int:
    """The process that runs `work()` (importing torch anew takes seconds). Small tensors only: no threads there."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def test_killed_while_saving(tmp_path):
    path = tmp_path / "ckpt.bin"
    generator = random.Random(5)
    last = 0
    for _ in range(25):
        reader, writer = os.pipe()

        def save_on_and_on(first=last + 1, writer=writer):
            for epoch in range(first, 100000):
                checkpoint.save(path, {"epoch": epoch, "model_pos": torch.zeros(20000) + epoch})
                os.write(writer, b".")

        child = forked(save_on_and_on)
        os.read(reader, 1)  # one save is done, the next has begun
        time.sleep(generator.random() * 0.02)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader), os.close(writer)
        state = checkpoint.load(path)
        assert state["epoch"] > last and bool((state["model_pos"] == state["epoch"]).all())
        last = state["epoch"]


@pytest.mark.parametrize("stage", ["write", "fsync", "replace"])
def test_kill_at_each_stage(tmp_path, stage):
    path = tmp_path / "ckpt.bin"
    checkpoint.save(path, small_state(1))

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    def save():
        if stage == "write":
            write_atomic(path, lambda file: (file.write(b"half a file"), file.flush(), die()))
        setattr(os, stage, die)
        checkpoint.save(path, small_state(2))

    assert os.waitpid(forked(save), 0)[1] == signal.SIGKILL
    assert checkpoint.load(path)["epoch"] == 1
    left = [name for name in os.listdir(tmp_path) if ".tmp" in name]
    assert len(left) == 1
    other = tmp_path / re.sub(r"\.\w+-", f".00000000_{os.getpid()}-", left[0])  # of another machine
    own = tmp_path / re.sub(r"_\d+-", f"_{os.getpid()}-", left[0])
    own.touch(), other.touch()
    checkpoint.save(path, small_state(3))
    assert set(tmp_path.iterdir()) == {path, other, own}  # these may belong to processes that are writing now
    os.utime(other, (0, 0)), own.unlink()
    checkpoint.save(path, small_state(3))
    assert os.listdir(tmp_path) == ["ckpt.bin"]


@pytest.mark.parametrize("where", ["write", "fsync"])
def test_disk_full(tmp_path, monkeypatch, where):
    path = tmp_path / "ckpt.bin"
    checkpoint.save(path, small_state(1))

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(InputError) as error:
        if where == "fsync":
            monkeypatch.setattr(os, "fsync", full)
            checkpoint.save(path, small_state(2))
        else:
            write_atomic(path, lambda file: (file.write(b"half"), full()))
    assert "No space left" in one_line(error) and "the old file is intact" in one_line(error)
    assert checkpoint.load(path)["epoch"] == 1
    assert os.listdir(tmp_path) == ["ckpt.bin"]


def test_file_size_limit(tmp_path):
    """A write that the kernel itself cuts short, as on a full disk."""
    path = tmp_path / "a.bin"
    checkpoint.save(path, small_state(1))
    large = {"epoch": 2, "model_pos": torch.zeros(20000)}

    def save():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
        try:
            checkpoint.save(path, large)
        except InputError as error:
            os._exit(3 if "the old file is intact" in str(error) else 4)

    assert os.waitstatus_to_exitcode(os.waitpid(forked(save), 0)[1]) == 3
    assert checkpoint.load(path)["epoch"] == 1 and os.listdir(tmp_path) == ["a.bin"]


def test_folder_not_writable(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "a.bin", Path("/proc/nowhere/a.bin"), tmp_path):
        with pytest.raises(InputError) as error:
            checkpoint.save(path, small_state())
        assert "cannot write" in one_line(error)
    assert os.listdir(tmp_path) == ["file"]


def test_interrupted_write_leaves_nothing(tmp_path):
    def interrupted(file):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a.bin", interrupted)
    assert os.listdir(tmp_path) == []


# ---- loading


class Evil:
    def __init__(self, call, *arguments):
        self.made_of = call, arguments

    def __reduce__(self):
        return self.made_of


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "name, call, argument",
    [
        ("posix.system", os.system, "touch {}"),
        ("eval", eval, "open({!r}, 'w')"),
        ("io.open", open, "{}"),
        ("numpy.memmap", np.memmap, "{}"),
        ("runpy.run_path", runpy.run_path, "{}"),
    ],
)
def test_malicious_file_is_refused_by_name_and_does_not_run(tmp_path, name, call, argument, zipped):
    marker, path = str(tmp_path / "marker"), tmp_path / "evil.bin"
    evil = Evil(call, argument.format(marker), *(["w"] if call is open else []))
    torch.save({"epoch": 1, "model_pos": evil}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError) as error:
        checkpoint.load(path)
    assert name in one_line(error) and "nothing was run" in one_line(error)
    assert os.listdir(tmp_path) == ["evil.bin"]


def test_plain_pickle_with_code(tmp_path):
    marker = tmp_path / "marker"
    (tmp_path / "evil.bin").write_bytes(pickle.dumps(Evil(os.system, f"touch {marker}")))
    with pytest.raises(InputError):
        checkpoint.load(tmp_path / "evil.bin")
    assert not marker.exists()


def test_forged_numpy_number(tmp_path):
    """A NumPy type of objects would let bytes pass for a pointer."""
    from numpy._core.multiarray import scalar

    path = tmp_path / "forged.bin"
    for kind in (np.dtype("O"), np.dtype([("a", "O")]), np.dtype("f8")):
        torch.save({"epoch": Evil(scalar, kind, b"AAAA" if kind == np.dtype("f8") else b"A" * 8)}, path)
        with pytest.raises(InputError):
            checkpoint.load(path)


def test_damaged_files(tmp_path):
    path = tmp_path / "ckpt.bin"
    checkpoint.save(path, {**small_state(), "more": torch.arange(1000.0)})
    whole = path.read_bytes()
    for size in (0, 1, 10, 100, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError) as error:
            checkpoint.load(path)
        assert "truncated or not a checkpoint" in one_line(error) and str(path) in one_line(error)
    for content in (b"hello, world\n" * 50, b"PK\x03\x04" + bytes(200), b"\x80\x02}q\x00.", b"\x80\x02K\x01."):
        path.write_bytes(content)
        with pytest.raises(InputError) as error:
            checkpoint.load(path)
        one_line(error)
    torch.save(torch.zeros(3), path)
    with pytest.raises(InputError, match="found a Tensor"):
        checkpoint.load(path)


def test_missing_file_names_its_neighbours(tmp_path):
    checkpoint.save(tmp_path / "epoch_1.bin", small_state())
    for path, expected in (
        (tmp_path / "epoch_2.bin", "is missing; .*epoch_1.bin"),
        (tmp_path, "is a folder.*epoch_1.bin"),
        (tmp_path / "no" / "a.bin", "there is no folder"),
    ):
        with pytest.raises(InputError, match=expected):
            checkpoint.load(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_published_files_with_numpy_in_them(tmp_path, zipped):
    state = {
        "epoch": 3,
        "lr": np.float64(0.25),
        "best": np.float32(1.5),
        "count": np.int64(7),
        "yes": np.bool_(True),
        "big": np.frombuffer(b"\x3f\x80\x00\x00", ">f4")[0],
        "random_state": np.random.RandomState(3),
        "model_pos": collections.OrderedDict(w=torch.ones(2)),
    }
    torch.save(state, tmp_path / "a.bin", _use_new_zipfile_serialization=zipped)
    loaded = checkpoint.load(tmp_path / "a.bin")
    assert (loaded["lr"], loaded["best"], loaded["count"], loaded["yes"], loaded["big"]) == (0.25, 1.5, 7, True, 1.0)
    assert type(loaded["lr"]) is float and type(loaded["random_state"]) is checkpoint.NotLoaded
    assert torch.equal(loaded["model_pos"]["w"], torch.ones(2))


# ---- weights


def test_weights_with_prefixes_and_old_batch_norm():
    source = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    target = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    for prefix in ("", "module.", "_orig_mod.", "module._orig_mod.", "module.module."):
        nn.init.normal_(source[0].weight)
        state = {prefix + name: value for name, value in source.state_dict().items() if "num_batches" not in name}
        checkpoint.load_weights(target, state, "a.bin")
        assert torch.equal(source[0].weight, target[0].weight)


def test_misfit_is_refused_before_any_change():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = {"0.weight": torch.zeros(4, 3), "0.bias": torch.zeros(9), **{f"x{i}": torch.zeros(1) for i in range(5)}}
    with pytest.raises(InputError) as error:
        checkpoint.load_weights(model, state, "student.bin")
    text = one_line(error)
    for part in (
        "student.bin",
        "Sequential",
        "2 missing (1.weight, 1.bias)",
        "5 unexpected (x0, x1, x2, ...)",
        "1 of another size (0.bias: (9,) in the file, (4,) expected)",
    ):
        assert part in text
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for wrong in ({}, None, {"0.weight": 3}, torch.zeros(2)):
        with pytest.raises(InputError):
            checkpoint.load_weights(model, wrong, "a.bin")


def test_optimizer_of_another_kind_or_size():
    def trained(size, kind):
        layer = nn.Linear(size, 1)
        optimizer = kind(layer.parameters(), lr=0.1, **({"momentum": 0.9} if kind is torch.optim.SGD else {}))
        layer(torch.ones(1, size)).sum().backward()
        optimizer.step()
        return optimizer

    optimizer = trained(3, torch.optim.SGD)
    checkpoint.load_optimizer(optimizer, trained(3, torch.optim.SGD).state_dict(), "a.bin")
    for state in (trained(4, torch.optim.SGD).state_dict(), {"state": {}, "param_groups": []}, {}, None, 3):
        with pytest.raises(InputError, match="a.bin"):
            checkpoint.load_optimizer(optimizer, state, "a.bin")


# ---- randomness, options, numbers


def draws(generator: torch.Generator) -> list[float]:
    return [
        random.random(),
        random.gauss(0, 1),
        np.random.rand(),
        np.random.randn(),
        torch.rand(()).item(),
        torch.rand((), generator=generator).item(),
    ]


def test_random_state_round_trip(tmp_path):
    generator = torch.Generator().manual_seed(3)
    draws(generator)  # odd numbers of Gaussian draws: both libraries hold one back
    checkpoint.save(tmp_path / "a.bin", {"rng": checkpoint.rng_state(run=generator)})
    first = draws(generator)
    random.seed(8), np.random.seed(8), torch.manual_seed(8), generator.manual_seed(8)
    assert draws(generator) != first
    checkpoint.set_rng_state(checkpoint.load(tmp_path / "a.bin")["rng"], run=generator)
    assert draws(generator) == first
    with pytest.raises(InputError):
        checkpoint.set_rng_state({"python": 3})


def test_generator_from_another_device_is_a_warning(caplog):
    generator = torch.Generator().manual_seed(3)
    state = checkpoint.rng_state(run=generator)
    state["generators"]["run"] = torch.zeros(16, dtype=torch.uint8)
    checkpoint.set_rng_state(state, run=generator)
    assert "'run'" in caplog.text


def test_options_differences_are_named():
    saved = checkpoint.options_json(Namespace(batch_size=128, lr=0.1, epochs=3, gone=1, path=Path("x")))
    checkpoint.check_options(saved, Namespace(batch_size=128, lr=0.1, epochs=9, new=2, path=Path("x")))
    with pytest.raises(InputError) as error:
        checkpoint.check_options(saved, Namespace(batch_size=64, lr=0.2))
    assert "--batch_size 64 here, 128 in the checkpoint; --lr 0.2 here, 0.1 in the checkpoint" in one_line(error)
    with pytest.raises(InputError):
        checkpoint.check_options("{", {})


def test_file_to_go_on_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Path("runs") / "a"
    run.mkdir(parents=True)
    for path in (run / "last.bin", run / "ckpt_3.bin", Path("other.bin")):
        path.touch()
    assert checkpoint.state_file(str(run), "last.bin") == run / "last.bin"
    assert checkpoint.state_file("other.bin", "last.bin") == Path("other.bin")
    assert checkpoint.state_file("ckpt_3.bin", "last.bin", run) == run / "ckpt_3.bin"
    assert checkpoint.state_file("other.bin", "last.bin", run) == Path("other.bin")
    assert checkpoint.state_file(tmp_path / run, "last.bin", run) == tmp_path / run / "last.bin"
    assert checkpoint.state_file("gone.bin", "last.bin", run) == run / "gone.bin"  # the error names it there


def test_nonfinite_names():
    bad = torch.tensor([1.0, float("nan")])
    state = {"a": torch.ones(2), "b": {"c": [bad]}, "n": torch.tensor(3), "best": float("inf")}
    assert list(checkpoint.nonfinite(state)) == ["b.c.0"]
