"""Motion of lifted videos measured: jitter, path and feet, raw and as demo.py writes them.

    python benchmarks/motion.py --data-dir data

Takes of test subjects (S9, S11) of cmu and cmu2 seen by virtual cameras, with a detector's noise on the 2D joints
(jitter correlated in time, outliers). The lifted poses are those of --ckpt, else the true ones with an error that is
correlated in time. Prints a table; docs/motion.md says what its columns are.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.files.npz import load_npz
from common.skeleton import H36M_17, H36M_32, convert
from common.video import motion, upright
from common.virtual_cameras import CameraRanges, draw, look
from methods import lifters

FPS, SECONDS, SIZE = 50, 6, (1000, 1000)
RANGES = CameraRanges(pitch=(0, 25), roll=(0, 0), distance=(4, 7), aspect=(1, 1), place=(-0.3, 0.3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="folder of data_3d_cmu.npz, ...")
    parser.add_argument("--datasets", default="cmu,cmu2", help="names, with commas")
    parser.add_argument("--ckpt", type=Path, help="any lifter; default: true poses with an error")
    parser.add_argument("--clips", type=int, default=40, help=f"how many, of {SECONDS} seconds")
    parser.add_argument("--focal-error", type=float, default=0.0, help="of the focal length assumed, in shares of it")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    clips = choose(args, rng)
    rows = {"raw": [], "filter": [], "filter, feet": []}
    for world in clips:
        for name, scores in measure(world, args, rng).items():
            rows[name].append(scores)
    source = args.ckpt or "true poses with an error correlated in time"
    print(f"{len(clips)} clips of {SECONDS} s at {FPS} a second; lifted poses: {source}")
    print("| | acceleration error, m/s2 | foot speed in contact, cm/s | path error, % of length | MPJPE, mm |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, found in rows.items():
        acceleration, feet, path, mpjpe = zip(*found, strict=True)
        speed = 100 * np.median(np.concatenate(feet))
        error, length = np.array(path).sum(0)
        numbers = (np.mean(acceleration), speed, 100 * error / length, 1000 * np.mean(mpjpe))
        print(f"| {name} | " + " | ".join(f"{number:.2f}" for number in numbers) + " |")


def choose(args: argparse.Namespace, rng: np.random.Generator) -> list[np.ndarray]:
    """Clips (T, 17, 3), world, metres, of test subjects whose hip walks at least a metre; evenly from the takes."""
    found = []
    for name in args.datasets.split(","):
        data = load_npz(args.data_dir / f"data_3d_{name}.npz")["positions_3d"]
        for subject in ("S9", "S11"):
            for poses in data.get(subject, {}).values():
                poses = np.asarray(poses, dtype=np.float64)
                poses = convert(poses, H36M_32, H36M_17) if poses.shape[1] == 32 else poses
                for start in range(0, len(poses) - FPS * SECONDS + 1, FPS * SECONDS):
                    clip = poses[start : start + FPS * SECONDS]
                    if np.linalg.norm(np.diff(clip[:, 0], axis=0), axis=-1).sum() > 1:
                        found.append(clip)
    order = rng.permutation(len(found))[: args.clips]
    return [found[i] for i in order]


def correlated(shape: tuple[int, ...], seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of variance 1, (T, ...), whose correlation falls to 1/e in `seconds`."""
    keep = np.exp(-1 / (FPS * seconds))
    noise = rng.standard_normal(shape)
    for t in range(1, len(noise)):
        noise[t] = keep * noise[t - 1] + np.sqrt(1 - keep**2) * noise[t]
    return noise


def outliers(shape: tuple[int, ...], share: float, rng: np.random.Generator) -> np.ndarray:
    """Joints (T, J, D) that stand elsewhere for three frames; unit size."""
    starts = rng.random(shape[:2]) < share / 3
    away = starts[..., None] * rng.standard_normal(shape)
    return away + np.roll(away, 1, 0) + np.roll(away, 2, 0)


def measure(world: np.ndarray, args: argparse.Namespace, rng: np.random.Generator) -> dict[str, tuple]:
    """Name -> acceleration error, foot speeds in true contact, (path error, path length), MPJPE; one clip, seen by one
    camera that has all of it before it.
    """
    poses = torch.from_numpy(world)[None]
    while True:
        numbers = draw(1, torch.Generator().manual_seed(int(rng.integers(1 << 30)))).double()
        views = look(poses, numbers, RANGES)
        if views.poses[..., 2].min() > 1.5:
            break
    camera, focal = views.poses[0].numpy(), float(views.intrinsics[0, 0]) * SIZE[0] / 2
    pixels = (views.keypoints[0].numpy() + 1) * SIZE[0] / 2
    body = np.ptp(pixels[..., 1], axis=1).mean()
    seen = pixels + 0.012 * body * correlated(pixels.shape, 0.1, rng) + 0.1 * body * outliers(pixels.shape, 0.01, rng)
    true = camera - camera[:, :1]
    lifted = lift(args.ckpt, seen) if args.ckpt else with_error(true, rng)
    focal *= 1 + args.focal_error
    feet = list(motion.FEET)
    speed = np.linalg.norm(np.gradient(world[:, feet], 1 / FPS, axis=0), axis=-1)
    standing = (speed < 0.1) & (world[:, feet, 2] < np.quantile(world[:, feet, 2], 0.1) + 0.08)
    found = {}
    for name, strength, plant in (("raw", 0, False), ("filter", 1, False), ("filter, feet", 1, True)):
        if strength:
            moved, pitch = motion.moving(lifted, seen, FPS, focal, SIZE, None, strength, plant_feet=plant)
            result = moved.poses
        else:
            path = motion.root_path(lifted, seen, focal, SIZE)
            pitch = upright.estimate_pitch(lifted)
            result = upright.to_world(lifted + path[:, None], pitch)
        found[name] = scores(result, camera, world, standing)
    return found


def scores(result: np.ndarray, camera: np.ndarray, world: np.ndarray, standing: np.ndarray) -> tuple:
    """Of a result in world axes. Path: after the rotation about the vertical and the shift that fit it best, as the
    direction of the camera and the origin are nobody's to find; the rest compared likewise.
    """
    turned = result - result[:, :1].mean(0)
    target = world - world[:, :1].mean(0)
    # The rotation about z that fits the poses about their hips best.
    a, b = (turned - turned[:, :1])[..., :2], (target - target[:, :1])[..., :2]
    angle = np.arctan2((a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]).sum(), (a * b).sum())
    spin = np.array(((np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))))
    turned = np.concatenate((turned[..., :2] @ spin.T, turned[..., 2:]), -1)
    acceleration = [np.diff(p - p[:, :1], n=2, axis=0) * FPS**2 for p in (turned, target)]
    feet = np.linalg.norm(np.diff(turned[:, list(motion.FEET)], axis=0), axis=-1) * FPS
    error = np.linalg.norm(turned[:, 0] - target[:, 0], axis=-1).mean()
    length = np.linalg.norm(np.diff(motion.smooth(target[:, 0], FPS, 3.0), axis=0), axis=-1).sum()
    mpjpe = np.linalg.norm((turned - turned[:, :1]) - (target - target[:, :1]), axis=-1).mean()
    both = standing[1:] & standing[:-1]
    return np.linalg.norm(acceleration[0] - acceleration[1], axis=-1).mean(), feet[both], (error, length), mpjpe


def with_error(true: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lifted poses made up: an error of 8 mm that changes within 0.1 s, one of 20 mm within 1 s, both twice as large
    in depth, and joints that jump by 15 cm for three frames (1 in 100).
    """
    size = np.array((1, 1, 2.0))
    noise = 0.008 * correlated(true.shape, 0.1, rng) + 0.02 * correlated(true.shape, 1.0, rng)
    lifted = true + size * noise + 0.15 * outliers(true.shape, 0.01, rng)
    return lifted - lifted[:, :1]


def lift(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Poses by the lifter of a checkpoint, of human size."""
    saved = lifters.load(path)
    keypoints = lifters.input_of(saved.method, torch.from_numpy(pixels).float(), SIZE)
    poses = lifters.camera_poses(saved, lifters.network_of(saved, path), keypoints).numpy()
    return poses if saved.method in lifters.POSEAUG else upright.human_scale(poses) * poses


if __name__ == "__main__":
    main()
