"""Scripts in processes of their own that need not import torch first: forks of a server that has.

Starting Python, importing torch and what its optimisers import takes some four seconds of a core; a fork, nothing. That
start is all that differs from `python SCRIPT`, but for what `forked.py` says: tests that are about it use
`conftest.run_command`.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
import torch.distributed as dist

from tests import forked
from tests.conftest import ROOT, Outcome, one_thread

# Nothing of this project: a script may be that of another tree.
LIBRARIES = ["torch", "torch._dynamo", "torch.distributed.run", "torch.utils.data", "matplotlib.figure",
             "matplotlib.backends.backend_agg", "tensorboard.summary.writer.record_writer",
             "PIL.Image", "yaml", "tqdm"]  # fmt: skip


class Running(NamedTuple):
    """A script that has been started; what it says is in the files `out` and `err`."""

    process: multiprocessing.Process
    out: Path
    err: Path

    def wait(self, timeout: float = 120) -> Outcome:
        """What it did, in at most `timeout` seconds; the status as a shell tells it."""
        self.process.join(timeout)
        status = self.process.exitcode
        if status is None:
            self.end()
            raise TimeoutError(self.err.read_text())
        return Outcome(status if status >= 0 else 128 - status, self.out.read_text(), self.err.read_text())

    def wait_for(self, begins: str) -> None:
        """Wait until it prints a line that begins so, for at most two minutes."""
        end = time.monotonic() + 120
        while f"\n{begins}" not in "\n" + self.out.read_text():
            assert self.process.is_alive() and time.monotonic() < end, self.wait(0)
            time.sleep(0.02)

    def end(self) -> None:
        """End it, if it still runs, and give it time to end what it has started."""
        self.process.terminate()
        self.process.join(30)
        self.process.kill()


def start(words: Sequence, folder: Path, more: Mapping[str, str] | None = None) -> Running:
    """Start `python WORDS` in `folder`, with `more` in its environment; words[0] is a script of this repository."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(LIBRARIES)
    out, err = (Path(os.environ["TMPDIR"], f"{uuid.uuid4().hex}.{kind}") for kind in ("out", "err"))
    out.touch()
    words = [str(ROOT / words[0]), *map(str, words[1:])]
    environment = one_thread() | (more or {})
    process = server.Process(target=forked.run, args=(words, str(folder), environment, str(out), str(err)))
    with patch.dict(sys.modules, {"__main__": ModuleType("__main__")}):  # else a fork would first read ours
        process.start()
    return Running(process, out, err)


def run_apart(words: Sequence, folder: Path) -> Outcome:
    """Run `python WORDS` in `folder`, in a process of its own."""
    return start(words, folder).wait()


class Forked:
    """As much of `subprocess.Popen` as this project's code asks of a `python SCRIPT`, of a fork."""

    def __init__(self, words: Sequence, cwd: Path | None = None, env=None, stdout: Any = None, **_):
        self.running, self.args, self.stdout = start(words[1:], cwd or Path.cwd(), env), words, stdout
        self.returncode: int | None = None

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *_) -> None:
        self.wait()

    def communicate(self, *_, **__) -> tuple[str, str]:
        self.wait()
        return self.running.out.read_text(), self.running.err.read_text()

    def poll(self) -> int | None:
        return None if self.running.process.is_alive() else self.wait()

    def wait(self, *_) -> int:
        if self.returncode is None:
            done = self.running.wait()
            self.returncode = self.running.process.exitcode
            if hasattr(self.stdout, "fileno"):
                os.write(self.stdout.fileno(), (done.out + done.err).encode())
        return self.returncode

    def terminate(self) -> None:
        self.running.process.terminate()

    def kill(self) -> None:
        self.running.process.kill()


def fork_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on the scripts of this repository that this process starts through `subprocess` are forks."""
    real = subprocess.Popen

    def start_process(words: Sequence, **more):
        ours = str(words[0]) == sys.executable and str(words[1]).endswith(".py")
        return Forked(words, **more) if ours else real(words, **more)

    monkeypatch.setattr(subprocess, "Popen", start_process)


def interrupt(words: Sequence, folder: Path, after: str) -> str:
    """Run a script until a line that begins with `after`, press Ctrl-C, and return what it says on stderr."""
    script = start(words, folder)
    script.wait_for(after)
    time.sleep(0.1)
    os.kill(script.process.pid, signal.SIGINT)
    done = script.wait(60)
    assert done.status == 130 and "--resume" in done.err, done
    return done.err


class Both(NamedTuple):
    """What two processes did: the worse status, all that they said, and what each printed."""

    status: int
    out: str
    err: str
    outs: tuple[str, str]


def run_as_two(words: Sequence, folder: Path, other: Path | None = None) -> Both:
    """Run a script as the two processes that torchrun makes of it, in one folder or rank 1 in another."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=60))
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
             "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_USE_AGENT_STORE": "True"}  # fmt: skip
    both = [start(words, where, world | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank, where in enumerate((folder, other or folder))]  # fmt: skip
    try:
        statuses, outs, errs = zip(*(script.wait() for script in both), strict=True)
    finally:
        for script in both:
            script.end()
    return Both(max(statuses), "".join(outs), "".join(errs), outs)
