"""benchmarks/run_all.sh names the machine, then runs every benchmark there is, whatever becomes of the others."""

import os
import subprocess

import pytest

from tests.conftest import ROOT

TOOLS = {"within_budget.py", "machine.py", "release.py"}  # scripts that measure nothing by themselves


@pytest.fixture
def run_all(tmp_path):
    """Run it with an interpreter that only says what it is given; `broken` names what fails there."""
    interpreter = tmp_path / "python"
    interpreter.write_text(
        '#!/bin/sh\necho "ran $*"\ncase "$1 $2" in -c*) exit "$NO_GPU";; "$BROKEN"*) exit 3;; esac\nexit 0\n'
    )
    interpreter.chmod(0o755)

    def run(no_gpu: int = 1, broken: str = "none") -> tuple[int, list[str]]:
        more = {"PYTHON": str(interpreter), "NO_GPU": str(no_gpu), "BROKEN": broken, "REAL_DATA": "real"}
        script = ROOT / "benchmarks/run_all.sh"
        done = subprocess.run(["bash", script, "all.log"], cwd=tmp_path, env=os.environ | more, capture_output=True)
        assert done.stdout == (tmp_path / "all.log").read_bytes()
        return done.returncode, done.stdout.decode().splitlines()

    return run


def test_every_benchmark_runs_after_the_machine_is_named(run_all):
    status, lines = run_all()
    assert status == 0 and lines[0] == "ran benchmarks/machine.py"
    ran = {line.split()[1].removeprefix("benchmarks/") for line in lines if line.startswith("ran benchmarks/")}
    scripts = {path.name for path in ROOT.glob("benchmarks/*.py") if "__main__" in path.read_text()}
    assert ran == scripts - TOOLS | {"machine.py"}
    assert "ran benchmarks/metrics.py --device cpu" in lines


def test_a_gpu_is_used_where_there_is_one(run_all):
    _, lines = run_all(no_gpu=0)
    assert "ran benchmarks/metrics.py --device cuda" in lines


def test_a_failure_is_told_at_the_end(run_all):
    status, lines = run_all(broken="benchmarks/draw.py")
    assert status == 1 and lines[-1] == "failed: benchmarks/draw.py"
    assert any("compare_methods.py" in line for line in lines)
