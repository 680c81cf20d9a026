"""A script inside a fork of the server of `processes.py`: each loads this file anew, so it imports little.

As in the fixtures of `conftest.py` a run's curves.png is empty, and nothing waits for the disk.
"""

import os
import runpy
import sys
from pathlib import Path

from tests.small_networks import VARIABLE, make_small


def touch(log, path, *_, **__) -> None:
    """Takes the place of `RunLog.plot`: an empty file."""
    if log.active:
        Path(path).touch()


def run(words: list[str], folder: str, environment: dict[str, str], out: str, err: str) -> None:
    """Be `python WORDS` in `folder`: its environment, and the files to say things in, are given."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for stream, path in ((sys.stdout, out), (sys.stderr, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, stream.fileno())
        os.close(file)
        stream.reconfigure(line_buffering=True)
    os.fsync = lambda _: None  # as in `conftest.disk_is_not_waited_for`
    if sys.dont_write_bytecode:  # else each fork would compile the library anew
        sys.dont_write_bytecode, sys.pycache_prefix = False, os.path.join(environment["TMPDIR"], "bytecode")
    sys.argv = words
    sys.path.insert(0, os.path.dirname(words[0]))
    from common.run.log import RunLog  # of the tree that the script is of

    RunLog.plot = touch
    if VARIABLE in environment:
        make_small()
    runpy.run_path(words[0], run_name="__main__")
