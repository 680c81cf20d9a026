"""Files written in one piece: whatever happens, a path holds its old content or the new one in full."""

import contextlib
import functools
import glob
import os
import re
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from common.errors import InputError

STALE_SECONDS = 3600


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary path beside `path`, same suffix; what is written there takes its place when the block ends.

    Disk full, `kill -9`, power cut: the old file stays until the new one is complete. Folders are made where missing.
    The path is used by nobody else, on whatever machine or container that shares the folder; what a process of this
    machine has left there when it was killed goes now, other leftovers after an hour.

    Raises:
        InputError: the file cannot be written.
    """
    target = Path(os.path.realpath(path))  # a link stays a link: what it points to is replaced
    owner = f"{_machine()}_{os.getpid()}-{uuid.uuid4().hex[:12]}"
    temporary = target.parent / f".{target.stem[:80]}.{owner}.tmp{target.suffix}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(target)
        yield temporary
        _sync(temporary)
        os.replace(temporary, target)
        with contextlib.suppress(OSError):  # some systems cannot; the rename itself has happened
            _sync(target.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            kept = "; the old file is intact" if target.is_file() else ""
            raise InputError(f"cannot write {path}: {error.strerror or error}{kept}") from error
        raise


def write_atomic(path: str | os.PathLike, write: Callable[[BinaryIO], Any]) -> None:
    """Let `write(file)` fill a temporary file that then takes the place of `path`; see `atomic_path`."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        write(file)


@contextlib.contextmanager
def one_at_a_time(lock: Path) -> Iterator[None]:
    """Only one process at a time is inside, where the system has file locks; the lock ends with its process.

    Without locks several may make the same files: each should be renamed into place whole.

    Raises:
        InputError: the file `lock` cannot be written.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    try:
        file = open(lock, "w")
    except OSError as error:
        raise InputError(f"cannot write in {lock.parent}: {error.strerror}; choose another folder") from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def natural(name: str) -> list:
    """Sorting key of names in which 10 comes after 9."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def _remove_stale(target: Path) -> None:
    """Remove what a killed process left behind, and nothing that somebody may be writing right now.

    Of this machine a process that lives no more is known; of others, the age tells.
    """
    for old in target.parent.glob(f".{glob.escape(target.stem[:80])}.*.tmp{glob.escape(target.suffix)}"):
        with contextlib.suppress(OSError):
            machine, _, process = old.name.split(".tmp")[0].rpartition(".")[2].partition("-")[0].partition("_")
            dead = machine == _machine() != "other" and process.isdecimal() and not _lives(int(process))
            if dead or time.time() - old.stat().st_mtime > STALE_SECONDS:
                old.unlink()


@functools.cache
def _machine() -> str:
    """This start of this machine, and its container, in which a process's number is one process's; else "other"."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        return f"{zlib.crc32((boot + os.readlink('/proc/self/ns/pid')).encode()):08x}"
    except OSError:  # not Linux
        return "other"


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        pass
    return True


def _sync(path: Path) -> None:
    """Have the system put a file, or a folder's list of names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
