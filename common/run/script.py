"""Around a script's `main`: one-line errors, signals, logging, and the world of processes that torchrun makes."""

import contextlib
import errno
import logging
import os
import shlex
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from common.errors import InputError, printable

_FULL = "error: the memory is full: lower the batch size or the number of workers, or end other programs"
RESUME = ("-r", "--resume")  # its file is the next word, or there is none


class Interrupted(BaseException):
    """A signal ends the script now, or the script has stopped because of one; `message` is its last line, if any."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(signum)
        self.signum, self.message = signum, message


class Signals:
    """The handler of SIGINT and SIGTERM: once training has begun a first signal is only noted; else it leaves at once.

    A signal within `echo` seconds of the first is the same wish: a terminal and a launcher may both pass it on. Later
    ones end at once what is still busy with leaving.
    """

    echo = 0.5

    def __init__(self) -> None:
        self.patient = False  # set by the first `Run.batches`
        self.leaving = False
        self.received = 0
        self.since = 0.0
        self.owner = os.getpid()

    def __call__(self, signum: int, frame: Any) -> None:
        if os.getpid() != self.owner:  # a data-loading worker: it goes when its parent ends it, not at a Ctrl-C
            if signum == signal.SIGTERM:
                os._exit(128 + signum)
            return
        again = time.monotonic() - self.since > self.echo
        if self.leaving:  # an exception out of a handler that is left already would end in a traceback
            if again:
                os._exit(_last_line(f"interrupted by {signal.Signals(signum).name}", 128 + signum))
        elif self.patient and not self.received:
            self.note(signum)
        elif not self.received or again:
            self.leaving, self.since = True, time.monotonic()
            raise Interrupted(signum, f"interrupted by {signal.Signals(signum).name}")

    def note(self, signum: int) -> None:
        """Take `signum` as the first signal: it came, or another process of the run has got it."""
        if signum and not self.received:
            self.received, self.since = signum, time.monotonic()


def run_script(main: Callable[[], None]) -> NoReturn:
    """Run a script's `main` and leave with its exit status.

    InputError: one line `error: ...` on stderr, status 2. SIGINT, SIGTERM: one line, status 130, 143. Another process
    of the run has died: one line, status 1. A closed pipe (`| head`): no line, status 141. Memory or disk full: one
    line, status 2. Anything else is a bug and keeps its traceback.
    """
    torch.set_flush_denormal(True)  # numbers below 1e-38 are 0: some CPUs multiply others many times slower
    sys.stdout = sys.stdout or open(os.devnull, "w")  # None where the descriptor was closed before the start
    sys.stderr = sys.stderr or open(os.devnull, "w")
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Shown(sys.stdout), Shown(sys.stderr, steers=True)
    _log_to_stderr()
    signals = Signals()
    before = {number: signal.signal(number, signals) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        status = _run(main)
        # At the end of the process, threads of a gloo group that is still there may abort it. NCCL's may be in the
        # midst of something: to part, it would wait for processes that have not failed.
        if not status or (_joined() and dist.get_backend() == "gloo"):
            part_processes()
    finally:
        sys.stdout, sys.stderr = streams
        for number, handler in before.items():
            signal.signal(number, handler)
    sys.exit(status)


class Shown:
    """A stream that takes any text: names out of data and folders may hold what it has no code for, or what steers a
    terminal, and both become escapes (`\\x1b`). steers: the program's own control characters, of a progress bar, pass.
    """

    def __init__(self, stream: Any, steers: bool = False) -> None:
        self._stream, self._steers = stream, steers

    def write(self, text: str) -> int:
        """Write the text as it can be shown; -> how long it is."""
        shown = text if self._steers else printable(text)
        try:
            self._stream.write(shown)
        except UnicodeEncodeError:
            code = getattr(self._stream, "encoding", None) or "ascii"
            self._stream.write(shown.encode(code, "backslashreplace").decode(code))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """`write` each of the lines."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _run(main: Callable[[], None]) -> int:
    try:
        main()
        sys.stdout.flush()  # here, where a closed pipe is still caught
    except InputError as error:
        return _last_line(f"error: {error}", 2)
    except torch.OutOfMemoryError:
        return _last_line("error: the GPU's memory is full: lower the batch size, or end its other programs", 2)
    except MemoryError:
        return _last_line(_FULL, 2)
    except RuntimeError as error:
        if "DefaultCPUAllocator" in str(error):  # torch has no class for it
            return _last_line(_FULL, 2)
        if not _is_lost_process(error):
            raise
        line = "error: another process of this run has died or cannot be reached, and none can go on without it"
        return _last_line(f"{line}; --resume goes on from the state saved last", 1)
    except Interrupted as stop:
        return _last_line(stop.message, 128 + stop.signum)
    except KeyboardInterrupt:
        return _last_line("interrupted", 128 + signal.SIGINT)
    except BrokenPipeError:
        _to_nowhere(sys.stdout)
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EBADF, errno.EIO):
            raise
        status = _last_line(f"error: cannot write: {error.strerror}; --resume goes on from the state saved last", 2)
        _to_nowhere(sys.stdout)
        return status
    return 0


def _to_nowhere(stream: Any) -> None:
    """Have what is still to be written to a stream vanish: Python's own flush at exit stays silent."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _is_lost_process(error: RuntimeError) -> bool:
    """Whether a message to another process failed. Gloo, which each step talks through, has no error class for it."""
    return _joined() and any(words in str(error) for words in ("gloo/transport", "remote process exited"))


def _last_line(line: str, status: int) -> int:
    for write in (sys.stdout.flush, lambda: sys.stderr.write(f"{printable(' '.join(line.split()))}\n" if line else "")):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, on a full disk, or never there
            write()
    return status


def _log_to_stderr() -> None:
    class Lines(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            prefix = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
            return prefix + printable(super().format(record))

    handler = logging.StreamHandler()
    handler.setFormatter(Lines())
    logging.basicConfig(handlers=[handler], level=logging.ERROR if int(os.environ.get("RANK", 0)) else logging.INFO)


def resume_command(path: str | Path) -> str:
    """The command line that resumes this run from the checkpoint at `path`.

    Of a torchrun of several machines it is the first one's: the others differ in --node_rank. Under other launchers
    (srun, mpirun) it is the command to launch.
    """
    kept = [
        word for before, word in pairwise(("", *sys.argv))
        if word not in RESUME and not word.startswith("--resume=") and (before not in RESUME or word.startswith("-"))
    ]  # fmt: skip
    return shlex.join([*_launcher(), *kept, "--resume", str(path)])


def _launcher() -> list[str]:
    """The words before the script's name, as far as the environment tells them."""
    found = os.environ
    if "TORCHELASTIC_RUN_ID" not in found or world()[2] == 1:
        return ["python"]
    words = ["torchrun", f"--nproc_per_node={found.get('LOCAL_WORLD_SIZE', '1')}"]
    if int(found.get("GROUP_WORLD_SIZE", 1)) > 1:
        # A rendezvous given as --rdzv_endpoint is not in the environment; the machines meet again at the first one.
        options = {"nnodes": "GROUP_WORLD_SIZE", "node_rank": "GROUP_RANK", "master_addr": "MASTER_ADDR"}
        options["master_port"] = "MASTER_PORT"
        words += [f"--{option}={found[name]}" for option, name in options.items() if name in found]
    return words


def world() -> tuple[int, int, int]:
    """Rank, rank on this machine and number of processes, as torchrun sets them."""
    if "TORCHELASTIC_RUN_ID" not in os.environ and not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys():
        return 0, 0, 1
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return rank, int(os.environ.get("LOCAL_RANK", rank)), world_size


def may_restart() -> bool:
    """Whether torchrun starts this command line again when a process dies (`--max-restarts`)."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0


def store_of_this_start() -> dist.Store | None:
    """Where the processes that were started together find one another; None: as torch does it.

    torchrun keeps its store from one start to the next. With what dead processes have left there, the next ones wait
    for each other forever; and its count of restarts differs between machines. So rank 0 names each start, and
    another process takes a name only if rank 0 has answered to it.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    rank, _, world_size = world()
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    own = uuid.uuid4().hex
    if rank == 0:
        store.set("start", own)
        others = [store.get(f"{own}/{other}").decode() for other in range(1, world_size)]
        store.set(f"{own}/all", " ".join(others))
        return dist.PrefixStore(own, store)
    while True:  # a start that stays incomplete is torchrun's to end
        start = store.get("start").decode()
        store.set(f"{start}/{rank}", own)
        if store.check([f"{start}/all"]) and own in store.get(f"{start}/all").decode():
            return dist.PrefixStore(start, store)
        time.sleep(0.05)


def part_processes() -> None:
    """Take leave of the other processes, if there are any."""
    if _joined():
        dist.destroy_process_group()


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def start_worker(_: int) -> None:
    """What a DataLoader's worker does first: signals, which reach the whole process group, are the main process's
    business (it finishes the step and tells the workers to end), and a worker takes one core.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)
