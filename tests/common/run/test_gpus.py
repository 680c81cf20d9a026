"""GPUs by number: what becomes of a command line with --gpus; no GPU is needed."""

import os
import sys
from argparse import Namespace

import pytest

from common.errors import InputError
from common.run import gpus


def test_gpu_numbers():
    assert gpus.gpu_numbers("") == gpus.gpu_numbers("-1") == ()
    assert gpus.gpu_numbers(" 0, 2,") == (0, 2)
    for text in ("x", "0,0", "-2", "1.5"):
        with pytest.raises(InputError, match="expected GPUs' numbers"):
            gpus.gpu_numbers(text)


def test_several_gpus_begin_the_same_command_line_again(monkeypatch):
    class Replaced(Exception):
        pass

    def execv(path, words):
        raise Replaced(path, words)

    monkeypatch.setattr(os, "execv", execv)
    argv = ["train.py", "--gpus", "0,1", "--resume"]
    with pytest.raises(Replaced) as replaced:
        gpus.start_on_gpus(Namespace(gpus="0,1", device="cpu"), argv)
    path, words = replaced.value.args
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    assert path == sys.executable and words == [sys.executable, *launcher, "train.py", "--gpus", "0,1", "--resume"]


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(gpus.torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match="--gpus 2: this machine has GPUs 0 to 1"):
        gpus.start_on_gpus(Namespace(gpus="2", device="auto"), [])
