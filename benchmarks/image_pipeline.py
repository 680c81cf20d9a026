"""Training samples per second and core, JPEG -> 256 x 256 crop with targets: this project and the straightforward way.

    python benchmarks/image_pipeline.py [--samples 60] [--side 1000] [--workers 1]

The images are JPEGs (quality 90) of smooth noise with fine texture, 1.5 bits a pixel as photographs have; they are made
in a temporary folder. The straightforward way decodes the whole image, mirrors it, turns it about the window's middle
with Pillow, cuts and resizes, normalises in float NumPy, and draws the heat maps joint by joint. Everything is on one
core; "all but the decoding" is what lies between the decoded image and the sample.
"""

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from common.images import heatmap  # noqa: E402
from common.images.crop import open_rgb  # noqa: E402
from common.images.loader import epoch_batches, training_loader  # noqa: E402
from common.images.people import MEAN, STD, CropOptions, Crops, People, bgr_input, draw_augmentation  # noqa: E402
from common.images.readers import ImageFolder  # noqa: E402
from common.run.memory import keep_freed_memory  # noqa: E402
from common.run.run import Run  # noqa: E402

IMAGES = 4


def photograph(side: int, seed: int) -> bytes:
    """A JPEG of smooth noise at several scales."""
    rng, picture = np.random.default_rng(seed), np.full((side, side, 3), 128, np.float32)
    for cells, strength in ((8, 60), (32, 30), (125, 15), (500, 8)):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        picture += (np.asarray(noise.resize((side, side), Image.Resampling.BICUBIC), np.float32) / 127.5 - 1) * strength
    file = io.BytesIO()
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def make_people(folder: Path, side: int, count: int) -> People:
    """People of 0.6 times the image's side (much as in Human3.6M and MPII)."""
    for i in range(IMAGES):
        (folder / f"{i}.jpg").write_bytes(photograph(side, i))
    rng = np.random.default_rng(0)
    return People(
        name="noise",
        layout="mpii16",
        joints=rng.uniform(0.25 * side, 0.75 * side, (count, 16, 2)),
        annotated=np.ones((count, 16), bool),
        center=rng.uniform(0.45 * side, 0.55 * side, (count, 2)).astype(np.float32),
        size=np.full(count, 0.6 * side),
        open_image=ImageFolder(folder, np.array([f"{i % IMAGES}.jpg" for i in range(count)])),
    )


def straightforward(people: People, row: int, options: CropOptions) -> tuple[np.ndarray, np.ndarray]:
    """Network input (3, 256, 256) and heat maps (16, 64, 64), one step after the other."""
    augmentation = draw_augmentation(np.random.default_rng((0, 0, row)), options, people.rotate)
    image, joints, center = people.open_image(row).convert("RGB"), people.joints[row], people.center[row]
    if augmentation.mirror:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        joints = heatmap.mirror_joints(joints, image.width, people.layout)
        center = np.array((image.width - 1 - center[0], center[1]))
    side = people.size[row] * augmentation.factor
    turned = image.rotate(augmentation.rotation, Image.Resampling.BILINEAR, center=tuple(center.tolist()))
    low = center - side / 2
    cut = turned.crop((*low.astype(int).tolist(), *(low + side).astype(int).tolist()))
    resized = np.asarray(cut.resize(options.input_size[::-1], Image.Resampling.BILINEAR), np.float32)
    pixels = (resized[..., ::-1] / 256 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    window = heatmap.crop_affine(center, side, augmentation.rotation, options.map_size)
    maps = np.zeros((len(joints), *options.map_size), np.float32)
    columns, rows = np.meshgrid(np.arange(options.map_size[1]), np.arange(options.map_size[0]))
    for j, (x, y) in enumerate(heatmap.transform_points(joints, window).astype(int)):
        distance = (columns - x) ** 2 + (rows - y) ** 2
        maps[j] = np.where((abs(columns - x) <= 6) & (abs(rows - y) <= 6), np.exp(-distance / 8), 0)
    return pixels.transpose(2, 0, 1).copy(), maps


def milliseconds(work: Callable[[int], object], samples: int) -> float:
    """Median time of one call over `samples` rows."""
    work(0)
    times = []
    for row in range(samples):
        start = time.perf_counter()
        work(row)
        times.append(time.perf_counter() - start)
    return 1000 * median(times)


def loader_rate(crops: Crops, workers: int) -> float:
    """Samples a second out of the DataLoader, over the second epoch (the first starts the workers)."""
    run = Run(torch.device("cpu"), torch.Generator())
    loader = training_loader(crops, run, batch_size=min(16, len(crops)), workers=workers)
    for _ in epoch_batches(loader, 0):
        pass
    start, count = time.perf_counter(), 0
    for _, batch in epoch_batches(loader, 1):
        count += len(batch["image"])
    return count / (time.perf_counter() - start)


def main() -> None:
    """Print one line for each way."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--samples", type=int, default=60, help="samples for each figure (default 60)")
    parser.add_argument("--side", type=int, default=1000, help="pixels of the square images (default 1000)")
    parser.add_argument("--workers", type=int, default=1, help="of the DataLoader (default 1)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as every training script does
    with tempfile.TemporaryDirectory() as folder:
        people = make_people(Path(folder), args.side, args.samples)
        measure(people, args.samples, args.workers)


def measure(people: People, samples: int, workers: int) -> None:
    """The figures, all of one run."""
    options = CropOptions()
    decoded = [open_rgb(people.open_image.folder / f"{i}.jpg") for i in range(IMAGES)]
    in_memory = replace(people, open_image=lambda index: decoded[index % IMAGES])
    crops = {
        "this project": Crops([people], options, train=True),
        "this project, fast_decode": Crops([people], replace(options, fast_decode=True), train=True),
        "this project, all but the decoding": Crops([in_memory], options, train=True),
    }
    batch = torch.stack([crops["this project"][i]["image"] for i in range(4)] * 8)
    points = torch.randint(0, 64, (32, 16, 2))
    drawn = torch.ones(32, 16, dtype=torch.bool)
    on_device = milliseconds(lambda row: (bgr_input(batch), heatmap.draw_heatmaps(points, drawn, (64, 64))), 10) / 32

    size = (people.open_image.folder / "0.jpg").stat().st_size
    print(f"JPEG of {decoded[0].width} x {decoded[0].height}, {size / 1e3:.0f} kB; window {people.size[0]:.0f} pixels")
    baseline = milliseconds(lambda row: straightforward(people, row, options), samples)
    rows = [("straightforward", baseline)]
    rows.append(("decoding alone", milliseconds(lambda row: people.open_image(row).load(), samples)))
    rows += [(name, milliseconds(lambda row, part=part: part[0, row], samples)) for name, part in crops.items()]
    for name, time_each in rows:
        print(f"{name:<36} {time_each:6.2f} ms  {1000 / time_each:6.0f} samples/s per core")
    print(f"{'normalise and draw, per sample, CPU':<36} {on_device:6.2f} ms  (in the training step, on its device)")
    ours = milliseconds(lambda row: crops["this project"][0, row], samples) + on_device
    print(
        f"this project, with normalising and drawing, is {baseline / ours:.1f} times as fast as the straightforward way"
    )
    rate = loader_rate(crops["this project"], workers)
    print(f"DataLoader with {workers} worker(s): {rate:.0f} samples/s")


if __name__ == "__main__":
    main()
