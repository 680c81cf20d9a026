"""Training step of the image-to-3D network against the machine's peak, and the images' supply against its demand.

    python benchmarks/hourglass_step.py [--arch msra_50] [--batch_size 32] [--input 256] [--rounds 2] [--amp]

The step is train_hourglass.py's: bytes to the device, normalising, targets, network, all three losses, Adam; in
channels-last memory on CUDA. The straightforward one is the same network in contiguous NCHW memory, its heads one by
one, Adam not fused, heat maps drawn and images normalised by the CPU, `.item()` for the log. The peak is a large matrix
product in the step's precision. All take turns, and the best of each counts: other load on the machine hits all. The
supply is of one core (benchmarks/image_pipeline.py): JPEG to sample, as of Human3.6M.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import models  # noqa: E402
from benchmarks.image_pipeline import make_people, milliseconds  # noqa: E402
from benchmarks.train_step import Stopwatch, make_peak, step_gflop  # noqa: E402
from common.images.people import MEAN, STD, CropOptions, Crops  # noqa: E402
from common.run.options import Parser, number  # noqa: E402
from common.run.run import Run, start  # noqa: E402
from common.run.script import run_script  # noqa: E402
from methods.hourglass import evaluation  # noqa: E402
from methods.hourglass.checkpoint import parse_arch  # noqa: E402
from models.hourglass.losses import losses  # noqa: E402

WEIGHTS = (0.1, 0.01)  # of depth and bones: stage 3


def make_batch(count: int, size: int) -> dict[str, Tensor]:
    """A batch as the loader gives it, half of it with depths."""
    maps, joints = size // 4, 16
    points = torch.randint(2, maps - 2, (count, joints, 2), dtype=torch.int32)
    mask = (torch.arange(count) % 2).to(torch.uint8)[:, None].expand(count, joints).contiguous()
    index = (points[..., 1].long() * maps + points[..., 0]) * joints + torch.arange(joints)
    return {
        "image": torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8),
        "pts_crop": points, "annotated": torch.ones(count, joints, dtype=torch.bool),
        "drawn": torch.ones(count, joints, dtype=torch.bool),
        "reg_target": torch.rand(count, joints, 1), "reg_ind": index, "reg_mask": mask,
    }  # fmt: skip


def make_step(model: nn.Module, batch: dict[str, Tensor], run: Run) -> tuple[Callable, Callable]:
    """Our step, and its loss alone, whose work is counted."""
    count, size = batch["image"].shape[:2]
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    place = evaluation.DeviceBatch(run.device, count + 2)

    def loss() -> Tensor:
        sample = place.sample()
        maps = evaluation.target_maps(sample, (size // 4, size // 4))
        with run.autocast():
            output = model(evaluation.network_input(sample["image"], "msra"))
        return losses(output, maps, sample, *WEIGHTS).total

    def inner(index: Tensor) -> Tensor:
        total = loss()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        return total.detach()

    fast, rows = run.accelerate(inner, optimizer), torch.arange(count, device=run.device)

    def step() -> Tensor:
        place.put(batch)
        return fast(rows)

    place.put(batch)
    return step, loss


def make_baseline(model: nn.Module, batch: dict[str, Tensor], run: Run) -> Callable[[], float]:
    """The straightforward step."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, foreach=False)
    count, size = batch["image"].shape[:2]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))

    def step() -> float:
        images = ((batch["image"].permute(0, 3, 1, 2).flip(1).float() / 256 - mean) / std).contiguous().to(run.device)
        maps = evaluation.target_maps(batch, (size // 4, size // 4)).to(run.device)
        sample = {name: values.to(run.device) for name, values in batch.items()}
        with run.autocast():
            features = model.deconv_layers(model.features(images))
            output = {name: F.conv2d(features, *getattr(model, name).parameters()).float() for name in model.heads}
        total = losses(output, maps, sample, *WEIGHTS).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        return total.item()

    return step


def supply(side: int, size: int) -> tuple[float, float]:
    """Milliseconds for a sample on one core, from JPEGs of `side` pixels: as published, and with quick decoding."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        people = make_people(Path(folder), side, 40)
        options = [CropOptions((size, size), (size // 4, size // 4), fast_decode=quick) for quick in (False, True)]
        crops = [Crops([people], option, train=True) for option in options]
        times = [milliseconds(lambda row, part=part: part[0, row], 40) for part in crops]
    torch.set_num_threads(threads)
    return times[0], times[1]


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--arch", default="msra_50", metavar="NAME", help="msra_18 to msra_152")
    parser.add_argument("--batch_size", type=number(int, 2), default=32, help="images in a step")
    parser.add_argument("--input", type=number(int, 32), default=256, help="pixels, width and height")
    parser.add_argument("--steps", type=number(int, 1), default=1, help="steps a round; more on a GPU, say 20")
    parser.add_argument("--rounds", type=number(int, 1), default=2, help="of peak, step and baseline")
    parser.add_argument("--no-baseline", action="store_true", help="leave out the straightforward step")
    parser.add_argument("--side", type=number(int, 64), default=1000, help="pixels of the JPEGs (Human3.6M: 1000)")
    parser.add_run_options()
    args = parser.parse_args()
    run = start(args)
    name, sizes = parse_arch(args.arch, depth=True, size=args.input)
    batch, clock = make_batch(args.batch_size, args.input), Stopwatch(run.device)
    model = run.prepare(models.create(name, **sizes).to(memory_format=evaluation.memory_format(run.device))).train()
    step, loss = make_step(model, batch, run)
    peak, peak_gflop = make_peak(run)
    timed = {"peak": (peak, 3), "step": (step, args.steps)}
    if not args.no_baseline:
        timed["baseline"] = (make_baseline(run.prepare(models.create(name, **sizes)).train(), batch, run), args.steps)
    for function, _ in timed.values():
        for _ in range(5 if run.device.type == "cuda" or run.compile else 1):
            function()
    times: dict[str, list[float]] = {key: [] for key in timed}
    for _ in range(args.rounds):
        for key, entry in timed.items():
            times[key].append(clock(*entry))
    best = {key: min(values) for key, values in times.items()}
    report(args, run, best, step_gflop(loss), peak_gflop)


def report(args, run: Run, best: dict[str, float], gflop: float, peak_gflop: float) -> None:
    """Print shares of the peak, supply and demand."""
    peak = peak_gflop / best["peak"]
    mode = "bfloat16 autocast" if run.amp else "float32"
    machine = torch.cuda.get_device_name(run.device) if run.device.type == "cuda" else "CPU"
    print(f"{args.arch}, batch {args.batch_size}, {args.input} x {args.input}, {mode}; {machine}, "
          f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}; peak {peak:,.0f} GFLOP/s")  # fmt: skip
    for key, what in (("step", "this project's step"), ("baseline", "straightforward step")):
        if key in best:
            rate, share = args.batch_size / best[key], gflop / best[key] / peak
            print(f"{what}: {1e3 * best[key]:.1f} ms, {rate:.1f} images/s, {gflop:.0f} GFLOP, {share:.0%} of the peak")
    if "baseline" in best:
        print(f"this project's is {best['baseline'] / best['step']:.2f} times as fast")
    demand = args.batch_size / best["step"]
    for milli, how in zip(supply(args.side, args.input), ("published pixels", "decoded smaller"), strict=True):
        rate = 1e3 / milli
        print(f"one core supplies {rate:.0f} images/s (JPEG, {args.side} pixels, {how}), the step takes {demand:.1f}: "
              f"{demand / rate:.2f} cores keep it busy")  # fmt: skip


if __name__ == "__main__":
    run_script(main)
