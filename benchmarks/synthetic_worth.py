"""How much is the synthetic data set worth? Train a lifter on it alone, score it on real motion.

    python benchmarks/synthetic_worth.py --real ../shared/data --real-name cmu [--data-dir data] [--epochs 10]

The lifter is the SimpleBaseline (Martinez et al., "A simple yet effective baseline for 3d human pose estimation",
2017): two residual stages of 1,024 units, batch norm, dropout 0.25. It is trained on the exact 2D poses of the
synthetic training subjects (screen-normalised, 16 joints) and predicts root-relative 3D poses in the camera frame.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from common.camera import h36m_cameras, normalise_screen, world_to_camera  # noqa: E402
from common.errors import InputError  # noqa: E402
from common.files.npz import load_npz  # noqa: E402
from common.h36m import TEST_SUBJECTS, TRAIN_SUBJECTS  # noqa: E402
from common.metrics import joint_errors, mpjpe, n_mpjpe, p_mpjpe  # noqa: E402
from common.skeleton import H36M_17, H36M_32  # noqa: E402
from common.synthetic.dataset import ensure  # noqa: E402

KEEP = [H36M_32.index(name) for name in H36M_17.joints]


class Lifter(nn.Module):
    """Keypoints (B, J, 2) -> root-relative pose (B, J, 3)."""

    def __init__(self, joints: int, width: int = 1024, stages: int = 2, dropout: float = 0.25):
        super().__init__()
        self.first = self._layer(2 * joints, width, dropout)
        self.stages = nn.ModuleList(
            nn.Sequential(self._layer(width, width, dropout), self._layer(width, width, dropout)) for _ in range(stages)
        )
        self.last = nn.Linear(width, 3 * joints)

    @staticmethod
    def _layer(inputs: int, width: int, dropout: float) -> nn.Sequential:
        return nn.Sequential(nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, keypoints: Tensor) -> Tensor:
        features = self.first(keypoints.flatten(1))
        for stage in self.stages:
            features = features + stage(features)
        return self.last(features).unflatten(1, (-1, 3))


def read(folder: Path, name: str, subjects: tuple[str, ...], every: int, joints: list[int]) -> tuple[Tensor, Tensor]:
    """Screen-normalised keypoints (N, J, 2) and root-relative poses (N, J, 3), metres, camera frame."""
    poses = load_npz(folder / f"data_3d_{name}.npz", ("positions_3d",))["positions_3d"]
    keypoints = load_npz(folder / f"data_2d_{name}_gt.npz", ("positions_2d",))["positions_2d"]
    inputs, targets = [], []
    for subject in subjects:
        for action, world in poses[subject].items():
            world = torch.tensor(world[::every, KEEP])
            for view, camera in zip(keypoints[subject][action], h36m_cameras()[subject], strict=True):
                view = torch.tensor(view[::every][: len(world)])
                pose = world_to_camera(world, torch.tensor(camera.orientation), torch.tensor(camera.translation))
                inputs.append(normalise_screen(view, camera.width, camera.height)[:, joints])
                targets.append((pose - pose[:, :1])[:, joints])
    return torch.cat(inputs), torch.cat(targets)


def train(lifter: Lifter, keypoints: Tensor, poses: Tensor, epochs: int, batch: int, rate: float) -> None:
    """Minimise the squared error with Adam; the learning rate falls to zero along a cosine."""
    batch = min(batch, len(keypoints))
    steps = len(keypoints) // batch
    optimiser = torch.optim.Adam(lifter.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * steps)
    for epoch in range(epochs):
        lifter.train()
        start, total = time.perf_counter(), 0.0
        for index in torch.randperm(len(keypoints))[: steps * batch].view(steps, batch):
            loss = (lifter(keypoints[index]) - poses[index]).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.detach()
        seconds = time.perf_counter() - start
        print(f"epoch {epoch + 1:3d}  loss {total / steps * 1e6:8.0f} mm2  {seconds:.1f} s", flush=True)


def score(lifter: Lifter, keypoints: Tensor, poses: Tensor, names: list[str], title: str) -> None:
    """Print the errors in millimetres, overall and by joint."""
    lifter.eval()
    with torch.inference_mode():
        predicted = torch.cat([lifter(part) for part in keypoints.split(8192)])
    predicted = predicted - predicted[:, :1]
    for name, measure in (("MPJPE", mpjpe), ("N-MPJPE", n_mpjpe), ("P-MPJPE", p_mpjpe)):
        print(f"{title} {name}: {measure(predicted, poses).mean() * 1000:.1f}")
    by_joint = joint_errors(predicted, poses).mean(0) * 1000
    depth = (predicted - poses)[..., 2].abs().mean(0) * 1000
    print(
        "  by joint, mm (depth alone): "
        + ", ".join(f"{n} {e:.0f} ({d:.0f})" for n, e, d in zip(names, by_joint, depth, strict=True))
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="synthetic set (made when missing)")
    parser.add_argument("--real", type=Path, required=True, help="folder of the real set")
    parser.add_argument("--real-name", default="cmu", help="data_3d_NAME.npz")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--every", type=int, default=2, help="train on every so many-th frame")
    parser.add_argument("--joints", type=int, choices=(16, 17), default=16, help="16 leaves the neck out")
    parser.add_argument("--width", type=int, default=1024, help="units of a layer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    joints = [j for j in range(17) if options.joints == 17 or H36M_17.joints[j] != "neck"]
    names = [H36M_17.joints[j] for j in joints]
    try:
        ensure(options.data_dir)
        training = read(options.data_dir, "synthetic", TRAIN_SUBJECTS, options.every, joints)
        unseen = read(options.data_dir, "synthetic", TEST_SUBJECTS, options.every, joints)
        real = read(options.real, options.real_name, TEST_SUBJECTS, 1, joints)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    training, unseen, real = ([tensor.to(options.device) for tensor in pair] for pair in (training, unseen, real))
    print(f"{len(training[0])} synthetic training views, {len(real[0])} real test views")
    lifter = Lifter(len(joints), options.width).to(options.device)
    train(lifter, *training, options.epochs, options.batch, options.rate)
    score(lifter, *unseen, names, "synthetic S9, S11")
    score(lifter, *real, names, "real S9, S11")
    return 0


if __name__ == "__main__":
    sys.exit(main())
