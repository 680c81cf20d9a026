"""Training steps against the machine's peak, and against a straightforward implementation, in one run.

    python benchmarks/train_step.py [--methods teacher student] [--device cuda] [--amp] [--compile] [--json FILE]

A step is what the scripts do: shuffled indices, gather from tensors on the device, random rotations, both losses,
backward, SGD. Two counts of its work: the multiply-adds that our step itself does, and those of the published network
done as it is written (textbook), of which ours saves some. The peak is a large matrix product in the step's
precision. Peak, step and baseline take turns, and the best of each is reported: other load on the machine hits all.
"""

import itertools
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import models  # noqa: E402
from benchmarks.textbook import TextbookStudent, TextbookTeacher  # noqa: E402
from common import metrics, running  # noqa: E402
from common.camera import unproject  # noqa: E402
from common.options import Parser, number  # noqa: E402
from common.rotation import ITES_PI, random_rotations  # noqa: E402
from models.student import student_losses  # noqa: E402
from models.teacher import teacher_losses  # noqa: E402

REPLICAS = 4
TRAIN_POSES = 110_968
TEST_POSES = 29_392
CHUNK = 2048  # poses scored at once


class TeacherMethod:
    """The teacher's step."""

    tensors = 1  # of the data: keypoints
    textbook = TextbookTeacher
    turn = {}

    @staticmethod
    def loss(model, data: tuple[Tensor, ...], rotations: Tensor) -> Tensor:
        losses = teacher_losses(model, data[0], rotations, align_root=True)
        return 5 * losses["reprojection"] + losses["cycle"]

    @staticmethod
    def predict(model, keypoints: Tensor) -> Tensor:
        return unproject(keypoints, model(keypoints).pose[..., 2:], nearest=None)


class StudentMethod:
    """The student's step."""

    tensors = 2  # of the data: keypoints, teacher's depth
    textbook = TextbookStudent
    turn = {"axis_mask": (0.0, 1.0, 0.0), "max_angle": 2 * ITES_PI}

    @staticmethod
    def loss(model, data: tuple[Tensor, ...], rotations: Tensor) -> Tensor:
        losses = student_losses(model, *data, rotations)
        return 5 * losses["depth"] + losses["reconstruction"]

    @staticmethod
    def predict(model, keypoints: Tensor) -> Tensor:
        return model(keypoints).pose


METHODS = {"teacher": TeacherMethod, "student": StudentMethod}


@dataclass
class Result:
    """Times in milliseconds, best of all rounds; rates and shares derived from them."""

    method: str
    step_ms: float
    median_step_ms: float
    poses_per_s: float
    step_gflop: float
    textbook_gflop: float
    peak_gflops: float
    share_of_peak: float
    textbook_share_of_peak: float
    supply_ms: float
    supply_share: float
    baseline_ms: float | None
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


def make_peak(run: running.Run) -> tuple[Callable[[], object], float]:
    """A large matrix product in the step's precision, and its GFLOP."""
    size = 8192 if run.device.type == "cuda" else 2048
    dtype = torch.bfloat16 if run.amp else torch.float32
    a, b, c = (torch.randn(size, size, device=run.device).to(dtype) for _ in range(3))
    return lambda: torch.mm(a, b, out=c), 2 * size**3 / 1e9


def forever(run: running.Run, batch_size: int) -> Iterator[Tensor]:
    """Shuffled index batches of full size, (batch_size,) on the device, epoch after epoch."""
    for epoch in itertools.count():
        batches = run.order(TRAIN_POSES, epoch).to(run.device).split(batch_size)
        yield from (index for index in batches if len(index) == batch_size)


def make_step(method, model, data: tuple[Tensor, ...], run: running.Run) -> Callable[[Tensor], Tensor]:
    """One training step from the indices of a batch, as the scripts take it."""
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9, weight_decay=5e-4, fused=True)

    def step(index: Tensor) -> Tensor:
        rotations = random_rotations(REPLICAS * len(index), generator=run.generator, device=run.device, **method.turn)
        with run.autocast():
            loss = method.loss(model, tuple(tensor[index] for tensor in data), rotations)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return run.accelerate(step, optimizer)


def make_baseline(method, model, data: tuple[Tensor, ...], run: running.Run, batch_size: int) -> Callable[[], object]:
    """The textbook step: single items through a DataLoader, `.item()` for the log, torch's default SGD."""
    textbook = method.textbook().to(run.device)
    textbook.load_state_dict(model.state_dict())
    optimizer = torch.optim.SGD(textbook.parameters(), 1e-3, momentum=0.9, weight_decay=5e-4)
    loader = DataLoader(TensorDataset(*(tensor.cpu() for tensor in data)), batch_size, shuffle=True)
    batches = (batch for _ in itertools.count() for batch in loader if len(batch[0]) == batch_size)

    def step() -> float:
        batch = [tensor.to(run.device) for tensor in next(batches)]
        rotations = random_rotations(REPLICAS * batch_size, device=run.device, **method.turn)
        with run.autocast():
            loss = textbook.losses(*batch, rotations)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def step_gflop(loss: Callable[[], Tensor]) -> float:
    """Floating-point operations of a loss and its gradients, two for each multiply-add."""
    with FlopCounterMode(display=False) as counter:
        loss().backward()
    return counter.get_total_flops() / 1e9


def count_work(name: str, batch_size: int) -> tuple[float, float]:
    """GFLOP of our step, and of the textbook network's, on the CPU."""
    method = METHODS[name]
    ours, textbook = models.create(name), method.textbook()
    textbook.load_state_dict(ours.state_dict())
    data = (0.1 * torch.randn(batch_size, 17, 2), 0.3 * torch.randn(batch_size, 17, 1))[: method.tensors]
    rotations = random_rotations(REPLICAS * batch_size, **method.turn)
    return step_gflop(lambda: method.loss(ours, data, rotations)), step_gflop(lambda: textbook.losses(*data, rotations))


@torch.no_grad()
def score(method, model, data: tuple[Tensor, ...], run: running.Run, with_metrics: bool) -> Tensor:
    """Forward pass over the test views and, if asked, the published metrics; -> mean error."""
    errors = []
    for rows in torch.arange(TEST_POSES, device=run.device).split(CHUNK):
        with run.autocast():
            pose = method.predict(model, data[0][rows]).float()
        errors.append(metrics.ites_evaluation(pose, pose.flip(0)).mpjpe if with_metrics else pose[:, 0, 0])
    return torch.cat(errors).mean()


def measure(name: str, args, run: running.Run) -> Result:
    """All numbers of one method."""
    method, clock = METHODS[name], Stopwatch(run.device)
    model = run.prepare(models.create(name)).train()
    data = (0.1 * torch.randn(TRAIN_POSES, 17, 2), 0.3 * torch.randn(TRAIN_POSES, 17, 1))
    data = tuple(tensor.to(run.device) for tensor in data[: method.tensors])
    step, indices = make_step(method, model, data, run), forever(run, args.batch_size)
    peak, peak_gflop = make_peak(run)
    timed: dict[str, tuple[Callable[[], object], int]] = {
        "peak": (peak, 1),
        "step": (lambda: step(next(indices)), args.steps),
        "supply": (lambda: (lambda index: [tensor[index] for tensor in data])(next(indices)), args.steps),
    }
    if not args.no_baseline:
        timed["baseline"] = (make_baseline(method, model, data, run, args.batch_size), 1)
    for function, _ in timed.values():
        for _ in range(5 if run.device.type == "cuda" or run.compile else 1):
            function()
    times: dict[str, list[float]] = {key: [] for key in timed}
    for _ in range(args.rounds):
        for key, (function, repeats) in timed.items():
            times[key].append(clock(function, repeats))
    model.eval()
    passes = {flag: [clock(lambda f=flag: score(method, model, data, run, f)) for _ in range(3)] for flag in (0, 1)}
    return summary(name, args.batch_size, times, count_work(name, args.batch_size), peak_gflop, passes)


def summary(
    name: str, batch_size: int, times: dict, gflop: tuple[float, float], peak_gflop: float, passes: dict
) -> Result:
    """Best of each, and the shares."""
    best = {key: min(values) for key, values in times.items()}
    peak = peak_gflop / best["peak"]
    baseline = best.get("baseline")
    return Result(
        method=name,
        step_ms=1e3 * best["step"],
        median_step_ms=1e3 * sorted(times["step"])[len(times["step"]) // 2],
        poses_per_s=batch_size / best["step"],
        step_gflop=gflop[0],
        textbook_gflop=gflop[1],
        peak_gflops=peak,
        share_of_peak=gflop[0] / best["step"] / peak,
        textbook_share_of_peak=gflop[1] / best["step"] / peak,
        supply_ms=1e3 * best["supply"],
        supply_share=best["supply"] / best["step"],
        baseline_ms=1e3 * baseline if baseline else None,
        baseline_share_of_peak=gflop[1] / baseline / peak if baseline else None,
        forward_s=min(passes[0]),
        scoring_s=min(passes[1]),
    )


def report(result: Result) -> str:
    """A few lines for people."""
    lines = [
        f"{result.method}: step {result.step_ms:.1f} ms (median {result.median_step_ms:.1f}), "
        f"{result.poses_per_s:,.0f} poses/s, peak {result.peak_gflops:,.0f} GFLOP/s",
        f"  its own {result.step_gflop:.1f} GFLOP = {result.share_of_peak:.0%} of the peak; the published network's "
        f"{result.textbook_gflop:.1f} GFLOP in that time = {result.textbook_share_of_peak:.0%}",
        f"  data supply {result.supply_ms:.3f} ms = {result.supply_share:.2%} of the step",
        f"  {TEST_POSES:,} views: forward {result.forward_s:.2f} s, with metrics {result.scoring_s:.2f} s",
    ]
    if result.baseline_ms is not None:
        lines.append(
            f"  straightforward step {result.baseline_ms:.1f} ms = {result.baseline_share_of_peak:.0%} of the peak; "
            f"ours is {result.baseline_ms / result.step_ms:.2f} times as fast"
        )
    return "\n".join(lines)


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--methods", nargs="+", choices=sorted(METHODS), default=["teacher", "student"])
    parser.add_argument("--batch-size", type=number(int, 2), default=128)
    parser.add_argument("--steps", type=number(int, 1), default=1, help="steps per round; more on a GPU, say 50")
    parser.add_argument("--rounds", type=number(int, 1), default=10, help="rounds of peak, step and baseline")
    parser.add_argument("--no-baseline", action="store_true", help="leave out the straightforward implementation")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here, too")
    parser.add_run_options()
    args = parser.parse_args()
    run = running.start(args)
    machine = torch.cuda.get_device_name(run.device) if run.device.type == "cuda" else platform.processor() or "CPU"
    mode = f"{'bfloat16 autocast' if run.amp else 'float32'}{', compiled' if run.compile else ''}"
    print(f"{machine}, {torch.get_num_threads()} CPU threads, PyTorch {torch.__version__}, {mode}, "
          f"batch {args.batch_size} + {REPLICAS} x {args.batch_size}")  # fmt: skip
    results = []
    for name in args.methods:
        results.append(measure(name, args, run))
        print(report(results[-1]), flush=True)
    if args.json:
        args.json.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")


if __name__ == "__main__":
    running.run_script(main)
