"""Evaluation of the adversarial lifters: the set to score on, the errors of every pose, tables and reports.

Kudo et al., "Unsupervised Adversarial Learning of 3D Human Pose from 2D Joint Locations", 2018. Chen et al.,
"Unsupervised 3D Pose Estimation with Geometric Self-Supervision", CVPR 2019.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from common import metrics
from common.datasets.h36m_layout import load_pose_set
from common.datasets.poses_2d import names_with_3d
from common.datasets.projected import noise_of
from common.draw import tables
from common.pose_set import PoseSet
from common.run import checkpoint
from common.run.run import Run
from common.skeleton import H36M_17
from common.synthetic.dataset import ensure_named

CHUNK = 4096  # poses scored at once
NAMES = ("Kudo error", "MPJPE", "N-MPJPE", "P-MPJPE", "PCK", "AUC", "PCK14", "AUC14")
JOINTS_14 = metrics.mehta_joints(H36M_17.joints)
PROTOCOL = (
    "17 joints, root-relative; Kudo error: orthographic, scale of the truth, mean over joints (published); MPJPE: the "
    "pose at the truth's size across the image; N-MPJPE: at the best scale; P-MPJPE: Procrustes; PCK at 150 mm and AUC "
    "(mean over the 31 thresholds 0, 5, ..., 150 mm) of the MPJPE's pose, of all joints; PCK14 and AUC14: of 14, "
    "without pelvis, spine and nose (MPI-INF-3DHP, Mehta et al. 2017); MPJVE: velocity error of the MPJPE's pose, mm a "
    "frame; mirror: the better, by each metric, of the pose and its depth mirror, chosen by the truth"
)


Predict = Callable[[Tensor], tuple[Tensor, Tensor]]  # pixels (B, 17, 2) -> pose and depth mirror (B, 17, 3)


def test_name(args: Any) -> str | None:
    """The set to score on; None where there is none with 3D poses."""
    if args.test_dataset:
        return args.test_dataset
    return (names_with_3d(args.dataset) or (None,))[-1]


def load_test(args: Any, device: torch.device, subjects: str | None = None) -> PoseSet | None:
    """The test subjects of the set to score on, with poses, 17 joints."""
    name = test_name(args)
    if name is None:
        return None
    ensure_named(args.data_dir, name)
    return load_pose_set(
        args.data_dir, name, args.keypoints, subjects or args.subjects_test, args.actions,
        downsample=args.downsample, device=device, noise=noise_of(args),
    )  # fmt: skip


def errors(predicted: Tensor, keypoints: Tensor, target: Tensor) -> Tensor:
    """Errors of each pose, `NAMES`. predicted: (B, 17, 3), keypoints: (B, 17, 2) pixels, target: (B, 17, 3) metres,
    root-relative -> (B, 8), metres and shares.
    """
    root = predicted[:, :1]
    predicted = predicted - root
    size = _across(target)
    scaled = at_true_size(predicted, target)
    root = root * (size / _across(predicted)).view(-1, 1, 1)
    flat = keypoints - keypoints[:, :1]
    kudo = torch.cat((flat / _radius(flat).view(-1, 1, 1), (scaled + root)[..., 2:] / size.view(-1, 1, 1)), -1)
    kudo_error = metrics.mpjpe(kudo, target / size.view(-1, 1, 1)) * size
    return torch.stack(
        (
            kudo_error, metrics.mpjpe(scaled, target), metrics.n_mpjpe(predicted, target),
            metrics.p_mpjpe(predicted, target), metrics.pck(scaled, target), metrics.auc(scaled, target),
            metrics.pck(scaled, target, joints=JOINTS_14), metrics.auc(scaled, target, JOINTS_14),
        ), -1,
    )  # fmt: skip


def at_true_size(pose: Tensor, target: Tensor) -> Tensor:
    """Root-relative poses (B, 17, 3) at the size that the truth has across the image."""
    return pose * (_across(target) / _across(pose)).view(-1, 1, 1)


def _across(pose: Tensor) -> Tensor:
    """Mean distance of the joints from the root across the image, (B, 17, 3) -> (B,): an orthographic scale."""
    return _radius(pose[..., :2]).clamp_min(1e-6)


def _radius(points: Tensor) -> Tensor:
    return torch.linalg.vector_norm(points[:, 1:], dim=-1).mean(-1)


@torch.no_grad()
def score(predict: Predict, test: PoseSet, run: Run) -> dict[str, Tensor]:
    """Errors of every pose, (N,) each, on the CPU: millimetres, PCK and AUC in percent; then those with the better
    mirror, "... mirror"; then MPJVE, millimetres a frame, where frames follow each other.
    """
    targets = test.targets()
    table, scaled = torch.zeros(len(test), 2, len(NAMES), device=run.device), torch.zeros_like(targets)
    for rows in run.shard(torch.arange(len(test), device=run.device)).split(CHUNK):
        keypoints, target = test.keypoints[rows], targets[rows]
        target = target - target[:, :1]
        with run.autocast():
            found = predict(keypoints)
        scaled[rows] = at_true_size((found[0] - found[0][:, :1]).float(), target)
        first, second = (errors(pose.float(), keypoints, target) for pose in found)
        better = torch.cat((torch.minimum(first, second)[:, :4], torch.maximum(first, second)[:, 4:]), -1)
        table[rows] = torch.stack((first, better), 1)
    table, scaled = (run.world_size * run.average(part) for part in (table, scaled))  # others' rows are zero here
    units = torch.tensor([1000.0] * 4 + [100.0] * 4, device=table.device)
    columns = (table * units).flatten(1).cpu().unbind(-1)
    found = dict(zip((*NAMES, *(f"{name} mirror" for name in NAMES)), columns, strict=True))
    velocity = metrics.velocity_errors(scaled, test.relative, test.sequence)
    return found if velocity is None else found | {"MPJVE": 1000 * velocity.cpu()}


def no_depth(keypoints: Tensor) -> tuple[Tensor, Tensor]:
    """The trivial pose of which all depths are zero."""
    flat = torch.nn.functional.pad(keypoints - keypoints[:, :1], (0, 1))
    return flat, flat


def always(pose: Tensor) -> Predict:
    """Predicts one pose (17, 3) whatever it sees: the mean of the training poses, say."""

    def predict(keypoints: Tensor) -> tuple[Tensor, Tensor]:
        mirror = pose * pose.new_tensor((1, 1, -1))
        return pose.expand(len(keypoints), -1, -1), mirror.expand(len(keypoints), -1, -1)

    return predict


def comparison(results: Mapping[str, Mapping[str, Tensor]]) -> str:
    """A table with a row for each method and the mean over frames of every error."""
    columns = list(next(iter(results.values())))
    left, widths = max(map(len, results)), [max(len(name), 7) for name in columns]
    lines = [" " * left + "  " + "  ".join(f"{name:>{w}}" for name, w in zip(columns, widths, strict=True))]
    for method, values in results.items():
        cells = (f"{values[name].mean():>{w}.1f}" for name, w in zip(columns, widths, strict=True))
        lines.append(f"{method:<{left}}  " + "  ".join(cells))
    return "\n".join(lines)


def report(args: Any, test: PoseSet, results: Mapping[str, Mapping[str, Tensor]]) -> tuple[str, dict[str, Any]]:
    """The scores as text and as the content of `results.json`. The first of `results` is the network."""
    summaries = {name: tables.summaries(values, test) for name, values in results.items()}
    what = f"{test_name(args)} {test.summary()}, 2D input {args.keypoints}"
    content = {
        "checkpoint": str(args.ckpt), "data": what, "protocol": PROTOCOL, "unit": "mm; PCK, AUC percent",
        "options": checkpoint.options_json(args),
        "results": {name: tables.results_dictionary(summary) for name, summary in summaries.items()},
    }  # fmt: skip
    network = next(iter(summaries.values()))
    lines = [f"{what}; millimetres; {PROTOCOL}", tables.action_table(network), "", comparison(results)]
    return "\n".join(lines), content
