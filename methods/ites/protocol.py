"""Evaluation protocol of ITES, its input, and the state of its runs: the common part of the four scripts.

Xu et al., "Invariant Teacher and Equivariant Student for Unsupervised 3D Human Pose Estimation", AAAI 2021.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from common import metrics
from common.datasets.contract import own_split
from common.datasets.h36m_layout import load_motion, load_pose_set
from common.datasets.projected import noise_of
from common.datasets.training_views import first_look, ranges_of, virtual_views
from common.draw import tables
from common.errors import InputError
from common.pose_set import PoseSet
from common.run.run import Run
from common.run.state import State
from common.synthetic.dataset import ensure_named
from methods.ites.metrics import ites_evaluation
from methods.ites.scaling import network_input, root_to_head_scale, view_input

PROTOCOL = "ITES protocol (scale from the truth, better of the two depth mirrors per pose)"
PLAIN = (
    "root-relative, no choice of mirror or scale by the truth; the network does not know the size of a body, so plain "
    "MPJPE reads its unit as metres and N-MPJPE is the one to compare; N-PCK14, N-AUC14: of its pose, 14 joints "
    "without pelvis, spine and nose (MPI-INF-3DHP, Mehta et al. 2017), at 150 mm and over the 31 thresholds 0, 5, ..., "
    "150 mm; N-MPJVE: its velocity error"
)
CHUNK = 2048  # poses scored at once: the activations of a chunk stay in cache
RECORDED_FPS = 50.0

Predict = Callable[[Tensor], Tensor]  # keypoints (B, 17, 2) -> poses (B, 17, 3)


class LearningRate(NamedTuple):
    """The published entry `lr` of a file: the rate of the next step. The optimiser's own state puts it back."""

    optimizer: torch.optim.Optimizer

    def state_dict(self) -> float:
        """The rate."""
        return self.optimizer.param_groups[0]["lr"]

    def load_state_dict(self, _: float) -> None:
        """Nothing to do."""


def run_state(
    args: Any, model: torch.nn.Module, optimizer: torch.optim.Optimizer, run: Run, teacher: str | None = None
) -> State:
    """What a run saves, under the published keys, and goes on from; a published file, without a random state, goes on
    at its epoch. teacher: the `digest` of the student's teacher.
    """
    parts = {"model_pos": model, "optimizer": optimizer, "lr": LearningRate(optimizer)}
    optional = ("lr", "optimizer", "rng", "options")
    return State(run, args, parts, args.checkpoint / "last.bin", {"teacher": teacher}, optional=optional)


def check_teacher(saved: dict[str, Any], path: Path, teacher: str, args: Any) -> None:
    """Refuse to go on with a student of another teacher than the one of the `digest`."""
    if saved.get("teacher") not in (None, teacher):
        raise InputError(f"{path} was distilled from another teacher than the one in {args.teacher_checkpoint} now")


def digest(model: torch.nn.Module) -> str:
    """A short fingerprint of a network's weights."""
    code = hashlib.blake2b(digest_size=8)
    for tensor in model.state_dict().values():
        code.update(tensor.cpu().numpy().tobytes())
    return code.hexdigest()


def epoch_line(epoch: int, seconds: float, lr: float, row: dict[str, float]) -> str:
    """An epoch, counted from 1, for the console."""
    scores = "  ".join(f"{name} {value:.1f}" for name, value in row.items())
    return f"[{epoch}] time {seconds / 60:.2f} min  lr {lr:.6f}  {scores}"


def final_line(row: dict[str, float], best: float | None, test: PoseSet | None, args: Any) -> str:
    """The last line of a training run: what was reached, by which protocol, and where everything lies."""
    if test is None:
        return f"results in {args.checkpoint}"
    scores = f"MPJPE {row['MPJPE']:.1f} (best {best:.1f}), P-MPJPE {row['P-MPJPE']:.1f} mm"
    what = f"{test.summary()}, 17 joints, 2D input {args.keypoints}, {PROTOCOL}"
    return f"{scores}; {what}; results in {args.checkpoint}"


def weights(saved: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """The network's state dict in a checkpoint."""
    if "model_pos" not in saved:
        found = ", ".join(map(str, saved))
        raise InputError(f"{path} is no ITES checkpoint: found the keys {found}, expected model_pos")
    return saved["model_pos"]


def load(args: Any, subjects: str, device: torch.device) -> PoseSet:
    """Read the split of `subjects` as the options say, `inputs` scaled over the split (`scaling.network_input`)."""
    pose_set = _load(args, subjects, device)
    return replace(pose_set, inputs=network_input(pose_set))


def load_training(args: Any, device: torch.device) -> PoseSet:
    """As `load`, of the training subjects, without the true poses, which training never reads; with `--cameras virtual`
    their motion in the world.
    """
    if args.cameras == "virtual":
        ensure_named(args.data_dir, args.dataset)
        chosen = {"subset": args.subset, "downsample": args.downsample, "device": device}
        return load_motion(args.data_dir, args.dataset, args.subjects_train, args.actions, **chosen)
    # without poses before the input is made: 300 MB of Human3.6M are free for it
    pose_set = replace(_load(args, args.subjects_train, device), poses=None)
    return replace(pose_set, inputs=network_input(pose_set))


def _load(args: Any, subjects: str, device: torch.device) -> PoseSet:
    ensure_named(args.data_dir, args.dataset)
    return load_pose_set(
        args.data_dir, args.dataset, args.keypoints, subjects, args.actions,
        subset=args.subset, downsample=args.downsample, device=device, noise=noise_of(args),
    )  # fmt: skip


def training_input(args: Any, train: PoseSet, run: Run) -> Callable[[Tensor], Tensor]:
    """How a step sees the poses of `load_training`.

    Returns:
        A function: rows of the global batch (B,) -> this process's 2D input (b, 17, 2).

    The views of virtual cameras are at one scale for the whole split, too: that of a first look at every pose.
    """
    if args.cameras == "rig":
        return lambda index: train.inputs[run.shard(index)]
    see = virtual_views(ranges_of(args), train, run, args.vary_bones)
    scale = root_to_head_scale(view_input(first_look(see, torch.arange(len(train), device=run.device), run))).float()
    return lambda index: scale * run.shard(view_input(see(index)))


def mean_errors(predict: Predict, split: PoseSet, run: Run) -> dict[str, float]:
    """The published errors of a split, mm."""
    errors = score(predict, split, run)
    return {name: errors[name].mean().item() for name in ("MPJPE", "P-MPJPE")}


@torch.no_grad()
def score(predict: Predict, split: PoseSet, run: Run) -> dict[str, Tensor]:
    """Errors of every pose, (N,) millimetres each, on the CPU.

    MPJPE and P-MPJPE by the published protocol; "plain" ones root-relative without any choice of mirror or scale from
    the truth. The networks do not know the size of a body, so plain MPJPE reads their unit as metres: compare N-MPJPE.
    The other N- columns are of N-MPJPE's poses: PCK14 and AUC14 of MPI-INF-3DHP's protocol in percent, and, where
    frames follow each other, MPJVE, millimetres a frame.
    """
    targets = split.targets()
    names = ("MPJPE", "P-MPJPE", "plain MPJPE", "plain N-MPJPE", "plain P-MPJPE", "plain N-PCK14", "plain N-AUC14")
    errors, scaled = torch.zeros(len(targets), len(names), device=targets.device), torch.zeros_like(targets)
    joints = metrics.mehta_joints(split.skeleton.joints)
    for rows in run.shard(torch.arange(len(targets), device=targets.device)).split(CHUNK):
        with run.autocast():
            pose = predict(split.inputs[rows]).float()
        target = targets[rows]
        published = ites_evaluation(pose, target)
        pose, target = pose - pose[:, :1], target - target[:, :1]
        at_scale = metrics.at_best_scale(pose, target)
        scaled[rows] = at_scale.float()
        plain = metrics.mpjpe(pose, target), metrics.mpjpe(at_scale, target.double()).float(), published.p_mpjpe_pose
        shares = metrics.pck(scaled[rows], target, joints=joints), metrics.auc(scaled[rows], target, joints)
        errors[rows] = torch.stack((published.mpjpe, published.p_mpjpe, *plain, *(share / 10 for share in shares)), -1)
    errors, scaled = (run.world_size * run.average(part) for part in (errors, scaled))  # others' rows are zero here
    found = dict(zip(names, (1000 * errors).cpu().unbind(-1), strict=True))
    velocity = metrics.velocity_errors(scaled, split.relative, split.sequence)
    return found if velocity is None else found | {"plain N-MPJVE": 1000 * velocity.cpu()}


def output_folder(args: Any) -> Path:
    """Where a test script writes: --output, or a folder beside the checkpoint that is named by what is scored."""
    parts = [args.checkpoint.stem, args.dataset, args.keypoints]
    usual = own_split(args.data_dir, args.dataset)[1]
    parts += [args.subjects_test] * (args.subjects_test != usual) + [args.actions] * (args.actions != "*")
    parts += [f"{name}{value:g}" for name in ("downsample", "subset") if (value := getattr(args, name)) != 1]
    return args.output or args.checkpoint.parent / re.sub(r"[^\w.,-]+", "-", "_".join(parts))


def report(name: str, errors: dict[str, Tensor], split: PoseSet, args: Any) -> tuple[str, dict[str, Any]]:
    """The scores as text for the console and as the content of `results.json`."""
    results = tables.summaries(errors, split)
    what = f"{args.dataset} {split.summary()}, 17 joints, 2D input {args.keypoints}"
    content = {
        "method": f"ITES {name}", "checkpoint": str(args.checkpoint), "dataset": args.dataset,
        "keypoints": args.keypoints, "subjects": args.subjects_test, "actions_asked_for": args.actions,
        "downsample": args.downsample, "subset": args.subset, "joints": 17,
        "unit": "mm, MPJVE mm a frame; PCK and AUC in percent",
        "protocol": {"MPJPE, P-MPJPE": PROTOCOL, "plain": PLAIN}, **tables.results_dictionary(results),
    }  # fmt: skip
    lines = [f"{what}; millimetres, mean over frames; {PROTOCOL}:"]
    lines += [f"{metric}: {results[metric].frame_wise:.2f}" for metric in ("MPJPE", "P-MPJPE")]
    return "\n".join((*lines, "", f"plain: {PLAIN}", tables.action_table(results))), content
