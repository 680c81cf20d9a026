"""A script that is stopped before it has begun: one line, and the status of a signal."""

import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", ["train_teacher.py", "demo.py", "data/inspect_data.py"])
def test_a_signal_while_torch_is_imported_is_one_line(name, number, tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    with subprocess.Popen(
        [sys.executable, ROOT / name], env={"PYTHONPATH": str(tmp_path)}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as script:  # fmt: skip
        assert script.stdout.readline() == "importing\n"
        script.send_signal(number)
        out, err = script.communicate(timeout=30)
    assert (script.returncode, out, err) == (128 + number, "", f"interrupted by {number.name}\n")
