"""The quick start, small: its steps run, its table has both lifters, and its film is there."""

import re

import pytest

import quickstart
from common.errors import InputError
from tests.conftest import ROOT
from tests.processes import run_apart
from tests.test_documented_commands import write_synthetic


def test_quickstart(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    write_synthetic()

    def step(script: str, *options) -> None:
        done = run_apart([ROOT / script, *map(str, options)], tmp_path)
        assert done.status == 0, done

    monkeypatch.setattr(quickstart, "step", step)
    monkeypatch.setattr("sys.argv", ["quickstart.py", "--epochs", "1", "--downsample", "1"])
    quickstart.main()
    said = capsys.readouterr().out
    trained, released = (re.search(rf"^{name} +(\d+\.\d) +(\d+\.\d)$", said, re.MULTILINE)
                         for name in ("trained now", "released/mlp_pose"))  # fmt: skip
    assert float(released[1]) < float(trained[1])
    assert (tmp_path / "checkpoint" / "quickstart" / "person" / "film.gif").stat().st_size > 10_000


def test_a_step_that_fails_ends_it():
    with pytest.raises(InputError, match=r"run_evaluate\.py ended with status 2"):
        quickstart.step("run_evaluate.py", "--nonsense")
