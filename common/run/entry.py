"""The entry of every script, which imports it first: a Ctrl-C while the rest is imported is one line, too."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn


def leave(signum: int, _: Any = None) -> NoReturn:
    """End the process at once with one line: it has made nothing yet, or shall make nothing more."""
    with contextlib.suppress(OSError):  # stderr is closed, or its disk full
        os.write(2, f"interrupted by {signal.Signals(signum).name}\n".encode())
    os._exit(128 + signum)


def run_script(main: Callable[[], None]) -> NoReturn:
    """`common.run.script.run_script`, whose module takes long to import."""
    from common.run import script

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is leave:
            signal.signal(number, signal.SIG_DFL)  # as it is again behind the last line: nothing is said twice
    script.run_script(main)


if "torch" not in sys.modules:  # a process that has it has been at work before
    for _number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(_number) in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(_number, leave)
