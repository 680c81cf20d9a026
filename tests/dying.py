"""A script of which one process dies, once, in mid-epoch, as on a machine that fails: for `test_many_machines.py`.

    torchrun --nproc_per_node 2 tests/dying.py MARK RANK EPOCH STEP SCRIPT OPTIONS

Rank RANK kills itself behind step STEP of epoch EPOCH (both from 0), unless it has left the file MARK already.
"""

import os
import runpy
import signal
import sys
from pathlib import Path


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from common.run.losses import LossBuffer
    from tests.small_networks import VARIABLE, make_small

    mark, rank, epoch, step, *words = sys.argv[1:]
    record = LossBuffer.record

    def record_and_die(self: LossBuffer, i: int, *values) -> None:
        record(self, i, *values)
        if os.environ["RANK"] == rank and (self.epoch, i) == (int(epoch), int(step)) and not Path(mark).exists():
            Path(mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)

    LossBuffer.record = record_and_die
    if VARIABLE in os.environ:
        make_small()
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    main()
