"""The worked example of data/README.md: it writes a data set, and a lifter is trained on it."""

import re

from common.datasets.contract import load_contract
from common.datasets.h36m_layout import load_pose_set
from tests.conftest import ROOT, metric_rows

PAGE = (ROOT / "data" / "README.md").read_text(encoding="utf-8")


def test_a_data_set_of_your_own(tmp_path, monkeypatch, script):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(code.splitlines()) <= 12
    exec(compile(code, "data/README.md", "exec"), {})
    assert load_contract("data", "mine").fps == 60
    assert load_pose_set("data", "mine", "gt", "anna,ben").summary() == "anna,ben: 1 actions, 2 views, 300 poses"

    (command,) = re.findall(r"^python (run_baseline.py -d mine .*)$", PAGE, re.MULTILINE)
    done = script(*command.split(), "--cross_data", "none", "--checkpoint", "run")
    assert done.status == 0 and "train anna: 1 actions, 2 views, 200 poses" in done.out
    assert "MINE ben: 1 actions, 1 views, 100 poses" in done.out
    (run,) = (tmp_path / "run" / "mlp" / "gt").iterdir()
    assert metric_rows(run)[0]["error_h36m_p1"] > 0
    options = (run / "config.yaml").read_text()
    assert "subjects_train: anna\n" in options and "subjects_test: ben\n" in options
