"""A run one of whose processes has died ends with one line; an error of its own keeps its traceback."""

import pytest
import torch

from common.run.script import run_script

GLOO = "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:26452"


@pytest.fixture
def joined():
    """As in a run of several processes, of which this is the only one."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def failing(message: str):
    """A script's main."""

    def main():
        raise RuntimeError(message)

    return main


def test_a_message_that_fails_is_another_process_that_died(joined, capsys):
    with pytest.raises(SystemExit) as stop:
        run_script(failing(GLOO))
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 1 and line.startswith("error: another process") and "--resume" in line


def test_a_bug_in_one_of_several_processes_keeps_its_traceback(joined, capsys):
    with pytest.raises(RuntimeError, match="a bug"):
        run_script(failing("a bug"))
    assert capsys.readouterr().err == ""


def test_without_other_processes_it_is_a_bug(capsys):
    with pytest.raises(RuntimeError, match="gloo"):
        run_script(failing(GLOO))
    assert capsys.readouterr().err == ""
