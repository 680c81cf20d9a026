"""Run a training script of this framework within a budget, stop it as Ctrl-C does, and say what it took.

    python benchmarks/within_budget.py --seconds 60 --report FILE.json -- run_baseline.py --dataset synthetic [...]
    python benchmarks/within_budget.py --steps 100 --report FILE.json -- train_teacher.py -d synthetic [...]

The clock starts with the first training step: data that is made on first use is not counted. The last step is finished
and the script saves its state, from which it could go on. The report: steps and poses (images) trained on, the rate of
steps that are warm, without scoring, and the peak memory of the process and of its GPU.
"""

import argparse
import json
import math
import resource
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from benchmarks.machine import device_name  # noqa: E402
from common.draw.tables import write_json  # noqa: E402
from common.errors import InputError  # noqa: E402
from common.run.run import Run  # noqa: E402

WARM_UP = 4  # steps left out of the rate: first calls, and on CUDA the capture of the graph
STOPPED = 128 + signal.SIGINT


class Meter:
    """Counts and times the steps of a script's training loops, and interrupts it when its budget is spent."""

    def __init__(self, steps: float = math.inf, seconds: float = math.inf) -> None:
        self.limit, self.allowed, self.deadline = steps, seconds, math.inf
        self.steps = self.poses = self.timed_poses = 0
        self.seconds, self.spent, self.began = 0.0, False, None

    def watch(self, items: Iterable) -> Iterator:
        """The batches of an epoch, or of what is left of the budget for it and one more."""
        since, poses = None, 0  # the start of the steps not yet timed, and their poses
        for item in items:
            now = time.perf_counter()
            if self.began is None:
                self.began, self.deadline = now, now + self.allowed
            self.spent = self.steps + 1 >= self.limit or now >= self.deadline
            if since is None or self.spent or self.steps == WARM_UP:
                now = _now()
                self._add(now, since, poses)
                since, poses = now, 0
            if self.steps == WARM_UP and not self.spent:
                self.seconds, self.timed_poses = 0.0, 0
            self.steps += 1
            poses += poses_in(item)
            self.poses += poses_in(item)
            if self.spent:
                signal.raise_signal(signal.SIGINT)  # the script sees it after this step, and saves
            yield item
        self._add(_now(), since, poses)

    def report(self) -> dict[str, Any]:
        """What the run took. Rate: poses that training steps took in per second; memory in MB of 2^20 bytes."""
        on_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {
            "steps": self.steps, "poses": self.poses, "stopped_by_budget": self.spent,
            "seconds": 0.0 if self.began is None else time.perf_counter() - self.began,
            "poses_per_s": self.timed_poses / self.seconds if self.seconds else None,
            "rss_mb": peak / (1 << 20 if sys.platform == "darwin" else 1 << 10),
            "gpu_mb": torch.cuda.max_memory_allocated() / (1 << 20) if on_gpu else None,
            "device": device_name(torch.device("cuda" if on_gpu else "cpu")),
        }  # fmt: skip

    def _add(self, now: float, since: float | None, poses: int) -> None:
        if since is not None:
            self.seconds += now - since
            self.timed_poses += poses


def _now() -> float:
    """The time when the device has done all it was told to."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def poses_in(item: Any) -> int:
    """Poses, or images, of what a training loop is given: (i, batch), or a batch: rows, or tensors by name."""
    batch = item[1] if isinstance(item, tuple) else item
    batch = getattr(batch, "rows", batch)
    return len(next(iter(batch.values())) if isinstance(batch, Mapping) else batch)


def install(meter: Meter) -> None:
    """Let every training loop of this process, all of which go through `Run.progress`, be watched by `meter`."""
    progress = Run.progress

    def watched(self: Run, items: Iterable, total: int | None = None, text: str = "") -> Iterable:
        shown = progress(self, items, total, text)
        return meter.watch(shown) if text.startswith("epoch") else shown

    Run.progress = watched


def train(words: Sequence[str], budget: Mapping[str, float], report: Path, log: Path) -> dict[str, Any]:
    """Run `words`, a training script and its options, in a process of its own; -> its report.

    Args:
        budget: {"steps": N} or {"seconds": S}.
        log: file that takes what the script prints.

    Raises:
        InputError: the script failed, or ended before its first step; its last line is told.
    """
    ((unit, value),) = budget.items()
    command = [sys.executable, str(Path(__file__).resolve()), f"--{unit}", str(value), "--report", str(report), "--"]
    run_logged([*command, *words], log)
    found = json.loads(report.read_text())
    if not found["steps"]:
        raise InputError(f"{words[0]} made no step: see {log}")
    return found


def run_logged(command: Sequence[str], log: Path) -> None:
    """Run a command line, all that it prints going to the end of the file `log`; InputError where it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8") as file:
        status = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    if status:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"]
        name = next(word for word in reversed(command) if word.endswith(".py"))
        raise InputError(f"{name} ended with status {status}: {lines[-1]} (all of it in {log})")


def run_measured(script: str, words: Sequence[str], meter: Meter, run: Callable = runpy.run_path) -> int:
    """Run a script of this repository in this process under `meter`; -> its exit status, 0 if the budget ended it."""
    install(meter)
    sys.argv = [script, *words]
    status = 0
    try:
        run(str(ROOT / script), run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0 if meter.spent and status == STOPPED else status


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--steps", type=int, default=math.inf, help="training steps")
    budget.add_argument("--seconds", type=float, default=math.inf, help="from the first training step on")
    parser.add_argument("--report", type=Path, required=True, metavar="FILE.json", help="what the run took")
    parser.add_argument("script", help="run_baseline.py, train_teacher.py, ...")
    parser.add_argument("words", nargs=argparse.REMAINDER, help="its options")
    args = parser.parse_args()
    meter = Meter(args.steps, args.seconds)
    status = run_measured(args.script, args.words, meter)
    if not status:
        write_json(args.report, meter.report())
    sys.exit(status)


if __name__ == "__main__":
    main()
