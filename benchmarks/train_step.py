"""Training steps against the machine's peak, the plain networks, and the published layout, in one run.

    python benchmarks/train_step.py [--methods teacher student] [--device cuda] [--amp] [--compile] [--json FILE]
    python benchmarks/train_step.py --methods mlp videopose gcn stgcn
    python benchmarks/train_step.py --methods gan_lifter --rounds 3
    python benchmarks/train_step.py --methods hourglass encoder_decoder --batch-size 4 --rounds 2

A step is what the scripts do: shuffled indices, gather from tensors on the device, random rotations, losses,
backward, optimiser (see `benchmarks.steps`). Two counts of its work: the multiply-adds that our step itself does, and
those of the published network done as it is written (`benchmarks.published`), of which ours saves some. The peak is a
large matrix product in the step's precision; the plain step is ours without `models.fast` (FAST=0), the baseline the
published layout with a plain DataLoader. All take turns, and the best of each is reported: other load on the machine
hits all.
"""

import itertools
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.steps import METHODS, REPLICAS, Method  # noqa: E402
from common.errors import InputError  # noqa: E402
from common.run.options import Parser, number  # noqa: E402
from common.run.run import Run, start  # noqa: E402
from common.run.script import run_script  # noqa: E402
from models import fast  # noqa: E402

TRAIN_POSES = 110_968
TEST_POSES = 29_392
CHUNK = 2048  # poses scored at once


OF_IMAGES = ("hourglass", "encoder_decoder")  # measured by NAME_step.py, and not in --json


@dataclass
class Result:
    """Times in milliseconds, best of all rounds; rates and shares derived from them."""

    method: str
    batch_size: int
    step_ms: float
    median_step_ms: float
    poses_per_s: float
    step_gflop: float
    published_gflop: float
    peak_gflops: float
    share_of_peak: float
    published_share_of_peak: float
    supply_ms: float
    supply_share: float
    plain_ms: float | None
    baseline_ms: float | None
    median_baseline_ms: float | None
    baseline_share_of_peak: float | None
    forward_s: float
    scoring_s: float


class Stopwatch:
    """Times calls, waiting for the device."""

    def __init__(self, device: torch.device):
        self.device = device

    def __call__(self, function: Callable[[], object], repeats: int = 1) -> float:
        """Seconds per call."""
        self._wait()
        began = time.perf_counter()
        for _ in range(repeats):
            function()
        self._wait()
        return (time.perf_counter() - began) / repeats

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def make_peak(run: Run) -> tuple[Callable[[], object], float]:
    """A large matrix product in the step's precision, and its GFLOP."""
    size = 8192 if run.device.type == "cuda" else 2048
    dtype = torch.bfloat16 if run.amp else torch.float32
    a, b, c = (torch.randn(size, size, device=run.device).to(dtype) for _ in range(3))
    return lambda: torch.mm(a, b, out=c), 2 * size**3 / 1e9


def forever(run: Run, batch_size: int) -> Iterator[Tensor]:
    """Shuffled index batches of full size, (batch_size,) on the device, epoch after epoch."""
    for epoch in itertools.count():
        batches = run.order(TRAIN_POSES, epoch).to(run.device).split(batch_size)
        yield from (index for index in batches if len(index) == batch_size)


def make_step(method: Method, model, data: tuple[Tensor, ...], run: Run) -> Callable[[Tensor], Tensor]:
    """One training step from the indices of a batch, as the scripts take it."""
    if method.steps:
        return method.steps.make_step(model, data[0], run)
    optimizer = method.optimizer(model.parameters(), fused=True)

    def step(index: Tensor) -> Tensor:
        rotations = method.rotations(len(index), generator=run.generator, device=run.device)
        with run.autocast():
            loss = method.loss(model, tuple(tensor[index] for tensor in data), rotations)
        optimizer.zero_grad()
        loss.backward()
        method.clip(model)
        optimizer.step()
        return loss.detach()

    return run.accelerate(step, optimizer)


def without_fast(step: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The step with every layer in its plain form."""

    def plain(index: Tensor) -> Tensor:
        fast.enabled = False
        try:
            return step(index)
        finally:
            fast.enabled = True

    return plain


def make_baseline(method: Method, data: tuple[Tensor, ...], run: Run, batch_size: int) -> Callable[[], object]:
    """The published layout's step: single items of a DataLoader, `.item()` for the log, torch's usual optimiser."""
    if method.steps:
        return method.steps.make_baseline(data[0], run, batch_size)
    baseline = method.create_published().to(run.device).train()
    optimizer = method.optimizer(baseline.parameters())
    loader = DataLoader(TensorDataset(*(tensor.cpu() for tensor in data)), batch_size, shuffle=True)
    batches = (batch for _ in itertools.count() for batch in loader if len(batch[0]) == batch_size)

    def step() -> float:
        batch = tuple(tensor.to(run.device) for tensor in next(batches))
        rotations = method.rotations(batch_size, device=run.device)
        with run.autocast():
            loss = method.published_loss(baseline, batch, rotations)
        optimizer.zero_grad()
        loss.backward()
        method.clip(baseline)
        optimizer.step()
        return loss.item()

    return step


def step_gflop(loss: Callable[[], Tensor]) -> float:
    """Floating-point operations of a loss and its gradients, two for each multiply-add."""
    with FlopCounterMode(display=False) as counter:
        loss().backward()
    return counter.get_total_flops() / 1e9


def count_work(name: str, batch_size: int, run: Run) -> tuple[float, float]:
    """GFLOP of our step, and of the published network's."""
    method = METHODS[name]
    if method.steps:
        return method.steps.count_work(batch_size, run)
    ours, baseline = method.create(), method.create_published()
    data, rotations = method.tensors(batch_size), method.rotations(batch_size)
    return (
        step_gflop(lambda: method.loss(ours, data, rotations)),
        step_gflop(lambda: method.published_loss(baseline, data, rotations)),
    )


@torch.no_grad()
def score(method: Method, model, data: tuple[Tensor, ...], run: Run, with_metrics: bool) -> Tensor:
    """Forward pass over the test views and, if asked, the published metrics; -> mean error."""
    errors = []
    for rows in torch.arange(TEST_POSES, device=run.device).split(CHUNK):
        with run.autocast():
            pose = method.predict(model, data[0][rows]).float()
        errors.append(method.errors(pose, pose.flip(0)) if with_metrics else pose[:, 0, 0])
    return torch.cat(errors).mean()


def measure(name: str, args, run: Run) -> Result:
    """All numbers of one method."""
    method, clock = METHODS[name], Stopwatch(run.device)
    batch_size = args.batch_size or method.batch_size
    model, data = run.prepare(method.create()).train(), method.tensors(TRAIN_POSES, run.device)
    step, indices = make_step(method, model, data, run), forever(run, batch_size)
    peak, peak_gflop = make_peak(run)
    timed: dict[str, tuple[Callable[[], object], int]] = {
        "peak": (peak, 1),
        "step": (lambda: step(next(indices)), args.steps),
        "supply": (lambda: (lambda index: [tensor[index] for tensor in data])(next(indices)), args.steps),
    }
    if not args.no_baseline:
        plain = without_fast(make_step(method, run.prepare(method.create()).train(), data, run))
        timed["plain"] = (lambda: plain(next(indices)), args.steps)
        timed["baseline"] = (make_baseline(method, data, run, batch_size), 1)
    for function, _ in timed.values():
        for _ in range(5 if run.device.type == "cuda" or run.compile else 1):
            function()
    times: dict[str, list[float]] = {key: [] for key in timed}
    for _ in range(args.rounds):
        for key, (function, repeats) in timed.items():
            times[key].append(clock(function, repeats))
    model.eval()
    passes = {flag: [clock(lambda f=flag: score(method, model, data, run, f)) for _ in range(2)] for flag in (0, 1)}
    return summary(name, batch_size, times, count_work(name, batch_size, run), peak_gflop, passes)


def summary(
    name: str, batch_size: int, times: dict, gflop: tuple[float, float], peak_gflop: float, passes: dict
) -> Result:
    """Best of each, and the shares."""
    best = {key: min(values) for key, values in times.items()}
    peak = peak_gflop / best["peak"]
    baseline = best.get("baseline")
    return Result(
        method=name,
        batch_size=batch_size,
        step_ms=1e3 * best["step"],
        median_step_ms=1e3 * median(times["step"]),
        poses_per_s=batch_size / best["step"],
        step_gflop=gflop[0],
        published_gflop=gflop[1],
        peak_gflops=peak,
        share_of_peak=gflop[0] / best["step"] / peak,
        published_share_of_peak=gflop[1] / best["step"] / peak,
        supply_ms=1e3 * best["supply"],
        supply_share=best["supply"] / best["step"],
        plain_ms=1e3 * best["plain"] if "plain" in best else None,
        baseline_ms=1e3 * baseline if baseline else None,
        median_baseline_ms=1e3 * median(times["baseline"]) if baseline else None,
        baseline_share_of_peak=gflop[1] / baseline / peak if baseline else None,
        forward_s=min(passes[0]),
        scoring_s=min(passes[1]),
    )


def report(result: Result) -> str:
    """A few lines for people."""
    lines = [
        f"{result.method}, batch {result.batch_size}: step {result.step_ms:.1f} ms "
        f"(median {result.median_step_ms:.1f}), {result.poses_per_s:,.0f} poses/s, "
        f"peak {result.peak_gflops:,.0f} GFLOP/s",
        f"  its own {result.step_gflop:.1f} GFLOP = {result.share_of_peak:.0%} of the peak; the published network's "
        f"{result.published_gflop:.1f} GFLOP in that time = {result.published_share_of_peak:.0%}",
        f"  data supply {result.supply_ms:.3f} ms = {result.supply_share:.2%} of the step",
        f"  {TEST_POSES:,} views: forward {result.forward_s:.2f} s, with metrics {result.scoring_s:.2f} s",
    ]
    if result.baseline_ms is not None:
        lines.append(
            f"  without models.fast {result.plain_ms:.1f} ms; published layout {result.baseline_ms:.1f} ms (median "
            f"{result.median_baseline_ms:.1f}) = {result.baseline_share_of_peak:.0%} of the peak: ours is "
            f"{result.baseline_ms / result.step_ms:.2f} times as fast (medians "
            f"{result.median_baseline_ms / result.median_step_ms:.2f})"
        )
    return "\n".join(lines)


def measure_images(name: str, args) -> None:
    """Run the benchmark of a method of images, with the options that it shares with this one."""
    options = ["--rounds", args.rounds, "--steps", args.steps, "--device", args.device, "--threads", args.threads]
    options += ["--batch_size", args.batch_size] if args.batch_size else []
    options += [flag for flag in ("--amp", "--compile") if getattr(args, flag[2:])]
    done = subprocess.run([sys.executable, Path(__file__).with_name(f"{name}_step.py"), *map(str, options)])
    if done.returncode:
        raise InputError(f"{name}_step.py ended with status {done.returncode}: see above")


def main() -> None:
    parser = Parser(__doc__)
    names = sorted([*METHODS, *OF_IMAGES])
    parser.add_argument("--methods", nargs="+", choices=names, default=["teacher", "student"])
    parser.add_argument("--batch-size", type=number(int, 2), help="default: each method's own")
    parser.add_argument("--steps", type=number(int, 1), default=1, help="steps per round; more on a GPU, say 50")
    parser.add_argument("--rounds", type=number(int, 1), default=10, help="rounds of peak, step and baseline")
    parser.add_argument("--no-baseline", action="store_true", help="leave out the plain step and the published one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here, too")
    parser.add_run_options()
    args = parser.parse_args()
    run = start(args)
    machine = torch.cuda.get_device_name(run.device) if run.device.type == "cuda" else platform.processor() or "CPU"
    mode = f"{'bfloat16 autocast' if run.amp else 'float32'}{', compiled' if run.compile else ''}"
    print(f"{machine}, {torch.get_num_threads()} CPU threads, PyTorch {torch.__version__}, {mode}; "
          f"teacher and student: {REPLICAS} rotated copies of the batch beside it")  # fmt: skip
    results = []
    for name in args.methods:
        if name in OF_IMAGES:
            measure_images(name, args)
        else:
            results.append(measure(name, args, run))
            print(report(results[-1]), flush=True)
    if args.json:
        args.json.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")


if __name__ == "__main__":
    run_script(main)
