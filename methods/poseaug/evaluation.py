"""Evaluation of PoseAug's lifters: the splits to train and score on, their scores, and how these are written.

Gong, Zhang and Feng, "PoseAug: A Differentiable Pose Augmentation Framework for 3D Human Pose Estimation", CVPR 2021.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from common import metrics
from common.datasets import mpi_inf_3dhp
from common.datasets.h36m_layout import load_pose_set
from common.draw import page, tables
from common.lifting import flip_average, windows
from common.pose_set import PoseSet
from common.run.run import Run
from common.screen import screen_inputs
from common.skeleton import H36M_16
from common.synthetic.cross import ensure_cross
from common.synthetic.dataset import ensure_named

log = logging.getLogger(__name__)

CHUNK = 4096  # poses scored at once
PROTOCOL = "root-relative; #1 MPJPE, #2 P-MPJPE; mean over frames"


# ------------------------------------------------------------ data


class ScreenSplit(NamedTuple):
    """Poses to train or score on, N of them, 16 joints.

    keypoints: (N, 16, 2), screen-normalised. poses: (N, 16, 3), metres, camera frame, absolute. first, last: (N,),
    the rows where each item's sequence begins and ends (both included). pose_set: where they come from, None for
    arrays without sequences. intrinsics: (S, 9), screen units, of each sequence; sequence: (N,); None likewise.
    """

    name: str
    keypoints: Tensor
    poses: Tensor
    first: Tensor
    last: Tensor
    pose_set: PoseSet | None = None
    intrinsics: Tensor | None = None
    sequence: Tensor | None = None

    @property
    def relative(self) -> Tensor:
        """Root-relative poses (N, 16, 3)."""
        return self.poses - self.poses[:, :1]

    def summary(self) -> str:
        """One line."""
        return self.pose_set.summary() if self.pose_set is not None else f"{len(self.keypoints):,} poses"


def load_split(args: Any, subjects: str, device: torch.device, keypoints: str | None = None) -> ScreenSplit:
    """Read the split of `subjects` as the options say; `keypoints` other than the options' where it is given."""
    ensure_named(args.data_dir, args.dataset)
    pose_set = load_pose_set(
        args.data_dir, args.dataset, keypoints or args.keypoints, subjects, args.actions, downsample=args.downsample,
        skeleton=H36M_16, exact_actions=True, device=device,
    )  # fmt: skip
    screen = screen_inputs(pose_set)
    bounds = torch.tensor([(s.start, s.start + s.length - 1) for s in pose_set.sequences], device=device)
    sequence = pose_set.sequence.to(device)
    first, last = bounds.index_select(0, sequence).unbind(-1)
    points, poses = screen.keypoints.to(device), pose_set.poses.to(device)
    return ScreenSplit(
        args.dataset.upper(), points, poses, first, last, pose_set, screen.intrinsics.to(device), sequence
    )


def load_cross_data(args: Any, device: torch.device) -> ScreenSplit | None:
    """The other people and cameras of `--cross_data`; None, with a word about it, where the file is missing."""
    if args.cross_data == "none":
        return None
    name = {"auto": None, "synthetic": "synthetic_cross"}.get(args.cross_data, args.cross_data)
    if name in (None, "3dhp", "synthetic_cross"):
        path = mpi_inf_3dhp.find_test_set(args.data_dir, args.dataset, name)
        if path is not None and path.name == mpi_inf_3dhp.TWIN:
            ensure_cross(args.data_dir)
    else:
        path = Path(name)
    if path is None:
        log.warning(
            "no cross-data scores: data_extra/test_set/test_3dhp.npz is not there (see data/README.md; or "
            "--cross_data synthetic, which needs no files)"
        )
        return None
    data = mpi_inf_3dhp.load_test_set(path, H36M_16, device)
    rows = torch.arange(len(data.keypoints), device=device)
    return ScreenSplit(data.name, data.keypoints, data.poses, rows, rows)


# ------------------------------------------------------------ scores


@dataclass
class Scores:
    """Errors of every pose of a split, (N,) each: metres; PCK and AUC as shares."""

    split: ScreenSplit
    errors: dict[str, Tensor]

    @property
    def reported(self) -> dict[str, Tensor]:
        """The same in millimetres, PCK and AUC in percent."""
        return {name: values * (100 if name in ("PCK", "AUC") else 1000) for name, values in self.errors.items()}

    @property
    def p1(self) -> float:
        """Protocol #1, MPJPE, mean over poses, mm."""
        return 1000 * self.errors["MPJPE"].mean().item()  # in this order, as published: the last printed digit

    @property
    def p2(self) -> float:
        """Protocol #2, P-MPJPE, mean over poses, mm."""
        return 1000 * self.errors["P-MPJPE"].mean().item()

    def lines(self) -> list[str]:
        """The published result lines."""
        return [
            f"{self.split.name}: Protocol #1   (MPJPE) overall average: {self.p1:.2f} (mm)",
            f"{self.split.name}: Protocol #2 (P-MPJPE) overall average: {self.p2:.2f} (mm)",
        ]


@torch.no_grad()
def score(model: torch.nn.Module, split: ScreenSplit, run: Run, flip: bool = False, more: bool = False) -> Scores:
    """Errors of a lifter, in evaluation mode, on a split; the mode it was in comes back.

    flip: average with the un-flipped output of the mirrored input (published for 3DHP). more: besides MPJPE and
    P-MPJPE also N-MPJPE, PCK at 150 mm and AUC.
    """
    training = model.training
    model.eval()
    pose = _lift(model, split, run, flip)
    model.train(training)
    pose, target = pose - pose[:, :1], split.relative
    errors = {"MPJPE": metrics.mpjpe(pose, target), "P-MPJPE": metrics.p_mpjpe(pose, target)}
    if more:
        errors |= {
            "N-MPJPE": metrics.n_mpjpe(pose, target), "PCK": metrics.pck(pose, target),
            "AUC": metrics.auc(pose, target),
        }  # fmt: skip
    return Scores(split, {name: values.cpu() for name, values in errors.items()})


def _lift(model: torch.nn.Module, split: ScreenSplit, run: Run, flip: bool) -> Tensor:
    """Poses (N, 16, 3) float32 of a whole split, each process its share: whole sequences where the model sees several
    frames, and the split has sequences.
    """
    pose = torch.zeros_like(split.poses)
    frames, causal = getattr(model, "receptive_field", 1), getattr(model, "causal", False)
    whole = frames > 1 and split.pose_set is not None
    forward = model.sequences if whole else model
    forward = partial(flip_average, forward, skeleton=H36M_16) if flip else forward
    if whole:
        parts = [torch.arange(s.start, s.start + s.length, device=pose.device) for s in split.pose_set.sequences]
    else:
        parts = torch.arange(len(pose), device=pose.device).split(CHUNK // frames + 1)
    with run.autocast():
        for rows in parts[run.rank :: run.world_size]:
            index = rows
            if frames > 1:
                index = windows(rows, split.first[rows], split.last[rows], frames, causal)
            if whole:  # each frame once: the first frames of all windows, and the rest of the last
                index = torch.cat((index[:, 0], index[-1, 1:])).unsqueeze(0)
            pose[rows] = forward(split.keypoints[index]).view(-1, *pose.shape[1:]).to(pose)
    return run.world_size * run.average(pose)  # other processes' rows are zero here


@torch.no_grad()
def write_page(
    path: Path, model: torch.nn.Module, split: ScreenSplit, run: Run, flip: bool, fps: float, name: str
) -> None:
    """Write the page (`vis_html`) of a split's first sequence; every process calls it, the main one writes."""
    pose_set, recording = split.pose_set, split.pose_set.sequences[0]
    rows = page.rows(recording)
    # the keypoints stay whole: frames at the end of the page see those after them
    shown = ScreenSplit(split.name, split.keypoints, split.poses[rows], split.first[rows], split.last[rows])
    model.eval()
    pose, target = _lift(model, shown, run, flip), shown.relative
    pose = pose - pose[:, :1]
    if run.is_main:
        page.write_recording(
            path, pose_set, recording, {name: pose}, target, fps, {name: 1000 * metrics.mpjpe(pose, target)},
            about=f"{split.name}, 16 joints, root-relative",
        )  # fmt: skip


def evaluate_all(
    model: torch.nn.Module, test: ScreenSplit, cross: ScreenSplit | None, run: Run, flip_test: bool, more: bool = False
) -> list[Scores]:
    """`score` of the test subjects and, where there is one, of the cross-data set."""
    scores = [score(model, test, run, flip_test, more)]
    if cross is not None:  # as published: the flip average for 3DHP, none for Human3.6M
        scores.append(score(model, cross, run, flip=True, more=more))
    return scores


def row_of(scores: Sequence[Scores]) -> dict[str, float]:
    """The published numbers of `evaluate_all`, mm, by their columns: two, four with a cross-data set."""
    pairs = zip(("error_h36m", "error_3dhp"), scores, strict=False)
    return {f"{name}_{p}": value for name, part in pairs for p, value in (("p1", part.p1), ("p2", part.p2))}


def learning_rate(step: int, rate: float, decay: int, gamma: float) -> float:
    """The baseline's exponential schedule, at training step `step`: rate * gamma^(step / decay)."""
    return rate * gamma ** (step / decay)


def row_text(row: Mapping[str, float], test: ScreenSplit, cross: ScreenSplit | None) -> str:
    """An epoch's errors for the console."""
    text = f"{test.name} MPJPE {row['error_h36m_p1']:.1f} P-MPJPE {row['error_h36m_p2']:.1f}"
    if cross is not None:
        text += f"  {cross.name} MPJPE {row['error_3dhp_p1']:.1f} P-MPJPE {row['error_3dhp_p2']:.1f}"
    return text


def epoch_line(epoch: int, seconds: float, training: float, losses: Mapping[str, float], scores: str) -> str:
    """An epoch for the console."""
    shown = "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
    return f"[{epoch}] {seconds:.1f} s ({training:.1f} s training)  {shown}  {scores}"


def what_was_scored(args: Any, test: ScreenSplit, cross: ScreenSplit | None) -> str:
    """Data, joints, 2D input and protocol that stand beside every number."""
    text = f"{test.name} {test.summary()}, 16 joints, 2D input {args.keypoints}"
    text += ", flip average" if args.flip_test else ", no flip average"
    if cross is not None:
        text += f"; {cross.name} {cross.summary()}, its own 2D input, flip average"
    return f"{text}; {PROTOCOL}"


def results_dictionary(scores: Scores) -> dict[str, Any]:
    """A split's scores for `results.json`."""
    if scores.split.pose_set is None:
        return {"overall": {"mean over frames": {name: float(v.mean()) for name, v in scores.reported.items()}}}
    return tables.results_dictionary(tables.summaries(scores.reported, scores.split.pose_set))


def action_table(scores: Scores) -> str:
    """Errors by action of a split with sequences, as text."""
    return tables.action_table(tables.summaries(scores.reported, scores.split.pose_set))
