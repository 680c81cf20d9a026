"""The encoder-decoder's training step against the machine's peak and against a straightforward step, in one run.

    python benchmarks/encoder_decoder_step.py [--encoder_type unet --input_dimension 64 --feature_scale 4 --latent_fg 64
        --batch_size 16] [--device cuda] [--amp] [--compile] [--rounds 10]

Ours is the step of train_encoder_decoder.py: images in memory as bytes, normalised on the device, partners drawn there,
latents (not images) brought to their partners, fused Adam. The straightforward one does the same sums as they are
written down: single items through a DataLoader, normalised one by one, Python's shuffles, every output image moved back
after the decoder, torch's default Adam, `.item()` for the log. The peak is a large matrix product in the step's
precision. All take turns, and the best of each is reported: other load on the machine hits all.
"""

import random
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import models  # noqa: E402
from benchmarks.train_step import Stopwatch, make_peak, step_gflop  # noqa: E402
from common.multiview.labels import DEVIATION, MEAN, normalise  # noqa: E402
from common.rotation import random_rotations  # noqa: E402
from common.run.options import Parser, number  # noqa: E402
from common.run.run import Run, start  # noqa: E402
from common.run.script import run_script  # noqa: E402
from methods.encoder_decoder import options
from models.encoder_decoder import views  # noqa: E402
from models.encoder_decoder.losses import pixel_loss  # noqa: E402
from models.encoder_decoder.network import EncoderDecoder, Latent  # noqa: E402

IMAGES = 512
VIEWS = 2


class Item(TensorDataset):
    """Single images and backgrounds as floats, normalised on the CPU, and rotations."""

    def __getitem__(self, i: int) -> list[Tensor]:
        """(3, S, S), (3, S, S), (3, 3)."""
        mean, deviation = torch.tensor(MEAN), torch.tensor(DEVIATION)
        *pictures, rotation = super().__getitem__(i)
        return [*(((p.float() / 255 - mean) / deviation).permute(2, 0, 1).contiguous() for p in pictures), rotation]


def make_step(model: EncoderDecoder, data: tuple[Tensor, ...], args, run: Run) -> Callable[[Tensor], Tensor]:
    """One training step of ours on the images of a batch's indices, loss of the pixels."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)

    def step(rows: Tensor) -> Tensor:
        images, backgrounds, rotation = (part[rows] for part in data)
        with run.autocast():
            loss = our_loss(model, normalise(images), normalise(backgrounds), rotation, run.generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return run.accelerate(step, optimizer)


def our_loss(
    model: EncoderDecoder, images: Tensor, backgrounds: Tensor, rotation: Tensor, generator: torch.Generator
) -> Tensor:
    """Pixel loss of a batch, images (B, 3, S, S)."""
    partners = views.shuffled_partners(len(images), VIEWS, generator)
    pred = model(images, backgrounds, views.view_rotation(rotation, partners.geometry), partners)
    return pixel_loss(pred, images)


def plain_loss(model: EncoderDecoder, images: Tensor, backgrounds: Tensor, rotation: Tensor) -> Tensor:
    """The same loss as it is written down: one row after the other, images moved after the decoder."""
    geometry, look = [], []
    for first in range(0, len(images), VIEWS):
        own = list(range(first, first + VIEWS))
        geometry += random.sample(own, VIEWS)
        look += random.sample(own, VIEWS)
    look = [row + VIEWS if row // VIEWS % 2 == 0 else row - VIEWS for row in look]
    latent = model.encode(images)
    between = torch.bmm(rotation[geometry], rotation.transpose(1, 2))
    points = torch.bmm(latent.geometry, between.transpose(1, 2))
    seen = model.decode(Latent(latent.appearance[look], points), backgrounds[geometry])
    back = sorted(range(len(geometry)), key=geometry.__getitem__)
    return F.l1_loss(seen[back].float(), images)


def make_baseline(model: EncoderDecoder, data: tuple[Tensor, ...], args, run: Run) -> Callable[[], object]:
    """The straightforward step."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    loader = DataLoader(Item(*(part.cpu() for part in data)), args.batch_size, shuffle=True, drop_last=True)
    batches = (batch for _ in iter(int, 1) for batch in loader)

    def step() -> float:
        images, backgrounds, rotation = (part.to(run.device) for part in next(batches))
        with run.autocast():
            loss = plain_loss(model, images, backgrounds, rotation)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main() -> None:
    parser = Parser(__doc__)
    parser.add_table("Network", options.NETWORK)
    parser.add_argument("--input_dimension", type=number(int, 8), default=128, help="side of the images, pixels")
    parser.add_argument("--batch_size", type=number(int, 4), default=32, help="a multiple of 4")
    parser.add_argument("--steps", type=number(int, 1), default=1, help="steps per round; more on a GPU, say 20")
    parser.add_argument("--rounds", type=number(int, 1), default=10, help="rounds of peak, step and baseline")
    parser.add_run_options()
    args = parser.parse_args()
    args.latent_dropout = 0.3
    run = start(args)
    side = args.input_dimension
    data = tuple(torch.randint(0, 256, (IMAGES, side, side, 3), dtype=torch.uint8).to(run.device) for _ in range(2))
    data = (*data, random_rotations(IMAGES, device=run.device))
    model, plain = (run.prepare(models.create("encoder_decoder", **options.network_sizes(args))) for _ in range(2))
    plain.load_state_dict(model.state_dict())
    model = model.to(memory_format=torch.channels_last)
    batch = tuple(part[: args.batch_size] for part in data)
    normal = normalise(batch[0]), normalise(batch[1]), batch[2]
    gflop = step_gflop(lambda: our_loss(model, *normal, run.generator))
    model.zero_grad(set_to_none=True)

    step, clock = make_step(model, data, args, run), Stopwatch(run.device)
    peak, peak_gflop = make_peak(run)
    baseline = make_baseline(plain, data, args, run)

    def ours() -> Tensor:
        return step(torch.randperm(IMAGES, device=run.device)[: args.batch_size])

    timed = {"peak": (peak, 1), "step": (ours, args.steps), "baseline": (baseline, 1)}
    for function, _ in timed.values():
        for _ in range(5 if run.device.type == "cuda" or run.compile else 1):
            function()
    times: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(args.rounds):
        for name, (function, repeats) in timed.items():
            times[name].append(clock(function, repeats))
    best = {name: min(values) for name, values in times.items()}
    rate = peak_gflop / best["peak"]
    print(
        f"{args.encoder_type}, {side} x {side}, batch {args.batch_size}, {torch.get_num_threads()} CPU threads, "
        f"{run.device}{', bfloat16' if run.amp else ''}: step {1e3 * best['step']:.1f} ms (median "
        f"{1e3 * sorted(times['step'])[args.rounds // 2]:.1f}), {args.batch_size / best['step']:,.0f} images/s"
    )
    print(f"  {gflop:.1f} GFLOP = {gflop / best['step'] / rate:.0%} of the peak, {rate:,.0f} GFLOP/s")
    print(
        f"  straightforward step {1e3 * best['baseline']:.1f} ms = {gflop / best['baseline'] / rate:.0%} of the peak; "
        f"ours is {best['baseline'] / best['step']:.2f} times as fast"
    )


if __name__ == "__main__":
    run_script(main)
