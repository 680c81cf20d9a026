"""A script of which one process dies, once, in mid-epoch, as on a machine that fails: for `test_many_machines.py`.

    torchrun --nproc_per_node 2 tests/dying.py MARK RANK EPOCH STEP SCRIPT OPTIONS

Rank RANK kills itself behind step STEP of epoch EPOCH (both from 0), unless it has left the file MARK already.
"""

import os
import runpy
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import torch


def spare_the_compiler() -> None:
    """Optimisers import torch._dynamo to stay out of torch.compile's way: as long as the rest of a script's start."""
    sys.modules["torch._dynamo"] = torch._dynamo = SimpleNamespace(
        disable=lambda function, *_, **__: function,
        graph_break=lambda: None,
        trace_rules=SimpleNamespace(clear_lru_cache=lambda: None),
    )


def main() -> None:
    spare_the_compiler()
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
