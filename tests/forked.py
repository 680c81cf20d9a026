"""A script inside a fork of the server of `processes.py`: each loads this file anew, so it imports little."""

import os
import runpy
import sys

from tests.small_networks import VARIABLE, make_small


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
    sys.argv = words
    sys.path.insert(0, os.path.dirname(words[0]))
    if VARIABLE in environment:
        make_small()
    runpy.run_path(words[0], run_name="__main__")
