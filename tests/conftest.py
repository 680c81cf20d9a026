"""Shared by the tests: running a script inside this process or in one of its own, and skipping GPU tests."""

import csv
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from common.run import checkpoint
from common.run.log import RunLog
from tests import forked, small_networks

ROOT = Path(__file__).parents[1]


def pytest_configure(config):
    if "PYTEST_XDIST_WORKER" in os.environ:  # tests side by side must not fight for cores
        torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.parent != ROOT / "tests")  # scripts, which take longest, come first
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


class Outcome(NamedTuple):
    """What a script did."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="session", autouse=True)
def temporary_files(tmp_path_factory):
    """What processes leave in the folder of temporary files (torchrun: a folder each) goes with pytest's own files."""
    tempfile.gettempdir()  # this process keeps the one it has
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("temporary")
        patch.setenv("TMPDIR", str(folder))
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder / "torchinductor"))
        yield


@pytest.fixture(scope="session", autouse=True)
def disk_is_not_waited_for():
    """No test pulls the plug, and waiting until each of thousands of files is on the disk takes a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="module")
def small():
    """Scripts make small networks, in this process and in those that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        small_networks.make_small(patch.setattr)
        patch.setenv(small_networks.VARIABLE, "1")
        yield


@pytest.fixture
def script(capfd, monkeypatch):
    """`script("train_teacher.py", "-e", 1)` runs it here, in the current folder, and returns its `Outcome`.

    Fast: without starting Python, and with an empty curves.png.
    """
    monkeypatch.setattr(RunLog, "plot", forked.touch)

    def run(name: str, *options) -> Outcome:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", [name, *map(str, options)])
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            runpy.run_path(str(ROOT / name), run_name="__main__")
            status = 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return Outcome(status, *capfd.readouterr())

    return run


def command(name: str, *options) -> list[str]:
    """A script of this repository as a command line."""
    return [sys.executable, str(ROOT / name), *map(str, options)]


def one_thread() -> dict[str, str]:
    """An environment in which processes side by side do not fight for cores."""
    return os.environ | {"OMP_NUM_THREADS": "1"}


def run_command(words: list[str], folder: Path, timeout: float = 300) -> Outcome:
    """Run a command line in `folder`."""
    done = subprocess.run(words, cwd=folder, env=one_thread(), capture_output=True, text=True, timeout=timeout)
    return Outcome(done.returncode, done.stdout, done.stderr)


def metric_rows(run: str | Path) -> list[dict[str, float]]:
    """The rows of a run's metrics.csv; empty cells are left out."""
    with open(Path(run) / "metrics.csv", newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def same(a, b) -> bool:
    """Whether two nested states are equal, bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def as_before_format_2(path: Path, *absent: str) -> None:
    """Make a run's state one of the code before `common.run.state`: without `format`, and the keys that were absent."""
    saved = checkpoint.load(path)
    assert saved.pop("format") == 2
    checkpoint.save(path, {name: value for name, value in saved.items() if name not in absent})


def assert_refused(outcome: Outcome, *parts: str) -> None:
    """One clear line on stderr that holds `parts`, status 2, no traceback."""
    assert outcome.status == 2, outcome
    lines = [line for line in outcome.err.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1 and lines[0].startswith("error: "), outcome.err
    for part in parts:
        assert part in lines[0], f"{part!r} not in {lines[0]!r}"


@pytest.fixture
def here(folder, monkeypatch):
    """The folder that a module of script tests has prepared (its fixture `folder`), as the current one."""
    monkeypatch.chdir(folder)
    return folder
