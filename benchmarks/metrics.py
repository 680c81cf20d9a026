"""MPJPE and P-MPJPE of a whole test set, against NumPy's batched SVD in the same run.

    python benchmarks/metrics.py [--poses 543000] [--device cpu] [--repeats 3]

The poses have human bones in random directions; the predictions are turned, scaled and noisy copies, a third of them
mirrored in depth, in float32. Printed: the best time of each, and the largest difference between the two.
543,000 poses are Human3.6M's test set (S9 and S11, four cameras, 50 fps).
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from common import metrics  # noqa: E402
from common.rotation import random_rotations  # noqa: E402
from common.skeleton import H36M_17  # noqa: E402
from methods.ites.metrics import depth_flip, ites_evaluation  # noqa: E402


def random_poses(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Predictions and targets, (count, 17, 3) float32 metres, root-relative."""
    bones = torch.randn(count, H36M_17.num_joints, 3, generator=generator)
    bones *= (0.1 + 0.35 * torch.rand(H36M_17.num_joints, 1, generator=generator)) / bones.norm(dim=-1, keepdim=True)
    target = torch.zeros_like(bones)
    for parent, child in H36M_17.bones:
        target[:, child] = target[:, parent] + bones[:, child]
    pred = target + 0.05 * torch.randn(target.shape, generator=generator)
    pred = pred @ random_rotations(count, generator=generator)
    pred *= 0.5 + torch.rand(count, 1, 1, generator=generator)
    pred[::3] = depth_flip(pred[::3])
    return pred - pred[:, :1], target


def numpy_errors(pred: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """MPJPE and P-MPJPE (N,) as usually written: float64, `np.linalg.svd` on all correlations at once."""
    pred, target = pred.astype(np.float64), target.astype(np.float64)
    mpjpe = np.linalg.norm(pred - target, axis=-1).mean(-1)
    p, t = pred - pred.mean(1, keepdims=True), target - target.mean(1, keepdims=True)
    u, sigma, vt = np.linalg.svd(p.transpose(0, 2, 1) @ t)
    sign = np.sign(np.linalg.det(u @ vt))
    u[:, :, 2] *= sign[:, None]
    sigma[:, 2] *= sign
    scale = sigma.sum(-1) / np.square(p).sum((1, 2))
    return mpjpe, np.linalg.norm(scale[:, None, None] * p @ (u @ vt) - t, axis=-1).mean(-1)


def best_time(function: Callable[[], object], repeats: int, device: str) -> float:
    """Shortest of so many runs, in seconds, after one to warm up if there are several."""
    times = []
    for _ in range(repeats + (repeats > 1)):
        start = time.perf_counter()
        function()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[-repeats:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--poses", type=int, default=543_000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    pred, target = random_poses(options.poses, torch.Generator().manual_seed(0))
    there = pred.to(options.device), target.to(options.device)

    def ours() -> tuple[Tensor, Tensor]:
        return metrics.mpjpe(*there), metrics.p_mpjpe(*there)

    print(f"{options.poses} poses of 17 joints on {options.device}, {torch.get_num_threads()} threads")
    seconds = best_time(ours, options.repeats, options.device)
    print(f"MPJPE + P-MPJPE            {seconds:8.3f} s")
    ites = best_time(lambda: ites_evaluation(*there), options.repeats, options.device)
    print(f"ITES protocol, all six     {ites:8.3f} s")
    reference = best_time(lambda: numpy_errors(pred.numpy(), target.numpy()), 1, "cpu")
    print(f"MPJPE + P-MPJPE in NumPy   {reference:8.3f} s   ({reference / seconds:.1f} times as long)")
    pairs = zip(("MPJPE", "P-MPJPE"), ours(), numpy_errors(pred.numpy(), target.numpy()), strict=True)
    for name, mine, theirs in pairs:
        difference = 1000 * np.abs(mine.double().cpu().numpy() - theirs).max()
        print(f"{name}: mean {1000 * theirs.mean():.3f} mm, largest difference {difference:.1e} mm")


if __name__ == "__main__":
    main()
