"""GPUs of a run by their numbers, `--gpus 0,1`: which the process sees, and a process on each of several."""

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import NoReturn

import torch

from common.errors import InputError
from common.run.run import Run, start
from common.run.script import world


def start_on_gpus(args: Namespace, argv: Sequence[str]) -> Run:
    """`common.run.run.start` on the GPUs of `--gpus`, and without cuDNN where there is a `--disable_cudnn`.

    Sets CUDA_VISIBLE_DEVICES. Of several GPUs, outside of torchrun, this process does not return: it becomes torchrun
    of the same command line, with a process on each.

    Args:
        argv: this process's command line, the script first (`sys.argv`).

    Raises:
        InputError: no numbers, or of GPUs that this machine lacks.
    """
    names = gpu_numbers(args.gpus)
    processes = world()[2]
    if names and args.device != "cpu":
        visible = [word for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if word]
        count = torch.cuda.device_count()  # unlike is_available it leaves CUDA_VISIBLE_DEVICES to be set
        if max(names) >= count:
            found = f"GPUs 0 to {count - 1}" if count else "no GPU"
            raise InputError(f"--gpus {args.gpus}: this machine has {found}; --gpus -1 takes the CPU")
        if processes > 1 or len(names) == 1:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(visible[n] if visible else str(n) for n in names)
    if len(names) > 1 and processes == 1:
        _become_torchrun(len(names), argv)
    run = start(args)
    if getattr(args, "disable_cudnn", False):
        torch.backends.cudnn.enabled = False
    return run


def gpu_numbers(text: str) -> tuple[int, ...]:
    """`--gpus` as numbers; none for "-1" and for nothing.

    Raises:
        InputError: anything else.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if words == ["-1"]:
        return ()
    if not all(word.isdecimal() for word in words) or len(set(words)) != len(words):
        raise InputError(f"--gpus {text!r}: expected GPUs' numbers joined by commas, as in 0,1, or -1 for the CPU")
    return tuple(map(int, words))


def _become_torchrun(processes: int, argv: Sequence[str]) -> NoReturn:
    sys.stdout.flush()
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    os.execv(sys.executable, [sys.executable, *launcher, *argv])
