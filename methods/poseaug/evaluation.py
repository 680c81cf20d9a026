"""Evaluation of PoseAug's lifters: the splits to train and score on, their scores, and how these are written.

Gong, Zhang and Feng, "PoseAug: A Differentiable Pose Augmentation Framework for 3D Human Pose Estimation", CVPR 2021.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common import metrics
from common.datasets import mpi_inf_3dhp
from common.datasets.contract import own_split
from common.datasets.h36m_layout import load_motion, load_pose_set
from common.datasets.projected import MADE, noise_of
from common.draw import page, tables
from common.errors import InputError
from common.lifter_input import LifterInput, mirror_input
from common.pose_set import PoseSet, joined, screen_keypoints, seen, windows
from common.run.run import Run
from common.skeleton import H36M_16, Skeleton, mirror
from common.synthetic.cross import ensure_cross
from common.synthetic.dataset import ensure_named

log = logging.getLogger(__name__)

CHUNK = 4096  # poses scored at once
PUBLISHED = LifterInput("place")
PCK_AUC = (
    "PCK: share of joints less than 150 mm off; AUC: its mean over the 31 thresholds 0, 5, ..., 150 mm (some codebases "
    "have 41); both of all joints, PCK14 and AUC14 of 14, without pelvis and spine (MPI-INF-3DHP, Mehta et al. 2017)"
)
PROTOCOL = "root-relative; #1 MPJPE, #2 P-MPJPE; mean over frames"


# ------------------------------------------------------------ data


def load_split(
    args: Any, subjects: str, device: torch.device, keypoints: str | None = None, form: LifterInput = PUBLISHED
) -> PoseSet:
    """Read the split of `subjects` as the options say, 16 joints, `inputs` of that form; `keypoints` other than the
    options' where it is given. Of several data sets ("cmu,synthetic") the first.
    """
    name = args.dataset.split(",")[0]
    ensure_named(args.data_dir, name)
    pose_set = load_pose_set(
        args.data_dir, name, keypoints or args.keypoints, subjects, args.actions, downsample=args.downsample,
        skeleton=H36M_16, exact_actions=True, device=device, noise=noise_of(args),
    )  # fmt: skip
    return seen(pose_set, form)


def load_training(args: Any, device: torch.device) -> PoseSet:
    """The training subjects of all data sets, joined, in screen coordinates; for virtual cameras their motion in the
    world. No `inputs`: what a step sees is the script's.
    """
    parts = []
    for name in args.dataset.split(","):
        ensure_named(args.data_dir, name)
        subjects = args.subjects_train or own_split(args.data_dir, name)[0]
        chosen = {"downsample": args.downsample, "skeleton": H36M_16, "exact_actions": True, "device": device}
        if args.cameras == "virtual":
            parts.append(load_motion(args.data_dir, name, subjects, args.actions, **chosen))
        else:
            noise = noise_of(args)
            part = load_pose_set(args.data_dir, name, args.keypoints, subjects, args.actions, noise=noise, **chosen)
            parts.append(replace(part, keypoints=screen_keypoints(part, in_place=True), unit="screen"))
    return joined(parts)


def load_cross_data(args: Any, device: torch.device, form: LifterInput = PUBLISHED) -> tuple[PoseSet, ...]:
    """The sets of other people and cameras that `--cross_data` names, in its order; without MPI-INF-3DHP, with a word
    about it, where its file is missing.

    Raises:
        InputError: a set or file that is not there or damaged; two of one name, the test set's included.
    """
    wanted = args.cross_data
    if wanted == "auto":
        wanted = {"synthetic": "synthetic", "3dhp": "none"}.get(args.dataset.split(",")[0], "3dhp")
    names = [name.strip() for name in wanted.split(",")]
    found = [_cross_set(name, args, device) for name in names if name not in ("none", "")]
    sets = tuple(seen(part, form) for part in found if part is not None)
    labels = [args.dataset.split(",")[0].upper(), *(part.name.upper() for part in sets)]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice:
        raise InputError(f"--cross_data {args.cross_data}: {twice} is scored already: name other sets")
    return sets


def _cross_set(name: str, args: Any, device: torch.device) -> PoseSet | None:
    """A set by its name in the data folder, or by its file; None for a missing MPI-INF-3DHP."""
    data_dir = Path(args.data_dir)
    if name in ("synthetic", "synthetic_cross"):
        return mpi_inf_3dhp.load_test_set(ensure_cross(data_dir), H36M_16, device)
    file = mpi_inf_3dhp.find_test_set(data_dir) if name == "3dhp" else Path(name)
    if file is not None and (file.suffix == ".npz" or file.is_file()):
        return mpi_inf_3dhp.load_test_set(file, H36M_16, device)
    if name == "3dhp" and not (data_dir / "data_3d_3dhp.npz").is_file():
        log.warning(
            "no cross-data scores: data_extra/test_set/test_3dhp.npz is not there (see data/README.md; or "
            "--cross_data synthetic, which needs no files)"
        )
        return None
    return load_pose_set(
        data_dir, name, cross_keypoints(args, name), own_split(data_dir, name)[1], downsample=args.downsample,
        skeleton=H36M_16, device=device, noise=noise_of(args),
    )  # fmt: skip


def cross_keypoints(args: Any, name: str) -> str:
    """The 2D input of a cross-data set: the same as the test subjects' where it has such, else the exact one."""
    there = (Path(args.data_dir) / f"data_2d_{name}_{args.keypoints}.npz").is_file() or args.keypoints in MADE
    return args.keypoints if there else "gt"


def flip_average(model: Callable[[Tensor], Tensor], keypoints: Tensor, skeleton: Skeleton = H36M_16) -> Tensor:
    """Test-time flip augmentation: the mean of the pose and of the mirrored input's pose, mirrored back.

    keypoints: (B, J, features) or (B, F, J, features), as `model` takes them -> (B, J, 3), as `model` gives them.
    """
    return (model(keypoints) + mirror(model(mirror_input(keypoints, skeleton)), skeleton)) / 2


# ------------------------------------------------------------ scores


@dataclass
class Scores:
    """Errors of every pose of a split, (N,) each: metres, MPJVE metres a frame; PCK and AUC as shares."""

    split: PoseSet
    errors: dict[str, Tensor]

    @property
    def reported(self) -> dict[str, Tensor]:
        """The same in millimetres, PCK and AUC in percent."""
        return {n: values * (100 if n.startswith(("PCK", "AUC")) else 1000) for n, values in self.errors.items()}

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
        name = self.split.name.upper()
        return [
            f"{name}: Protocol #1   (MPJPE) overall average: {self.p1:.2f} (mm)",
            f"{name}: Protocol #2 (P-MPJPE) overall average: {self.p2:.2f} (mm)",
        ]

    def more_line(self) -> str:
        """What `score` adds with `more`, mean over poses."""
        means = {name: values.mean().item() for name, values in self.reported.items() if "MPJPE" not in name}
        units = ("%" if name.startswith(("PCK", "AUC")) else "mm a frame" for name in means)
        numbers = (f"{name} {value:.1f} {unit}" for (name, value), unit in zip(means.items(), units, strict=True))
        return f"{self.split.name.upper()}: {', '.join(numbers)}"


@torch.no_grad()
def score(model: torch.nn.Module, split: PoseSet, run: Run, flip: bool = False, more: bool = False) -> Scores:
    """Errors of a lifter, in evaluation mode, on a split; the mode it was in comes back.

    flip: average with the un-flipped output of the mirrored input (published for 3DHP). more: besides MPJPE and
    P-MPJPE also N-MPJPE, MPJVE where there are sequences, PCK at 150 mm and AUC (`PCK_AUC`).
    """
    training = model.training
    model.eval()
    pose = _lift(model, split, run, flip)
    model.train(training)
    pose, target = pose - pose[:, :1], split.relative
    errors = {"MPJPE": metrics.mpjpe(pose, target), "P-MPJPE": metrics.p_mpjpe(pose, target)}
    if more:
        joints = metrics.mehta_joints(split.skeleton.joints)
        velocity = metrics.velocity_errors(pose, target, split.sequence)
        errors |= {"N-MPJPE": metrics.n_mpjpe(pose, target)} | ({} if velocity is None else {"MPJVE": velocity})
        errors |= {"PCK": metrics.pck(pose, target), "AUC": metrics.auc(pose, target)}
        errors |= {"PCK14": metrics.pck(pose, target, joints=joints), "AUC14": metrics.auc(pose, target, joints)}
    return Scores(split, {name: values.cpu() for name, values in errors.items()})


def _lift(model: torch.nn.Module, split: PoseSet, run: Run, flip: bool) -> Tensor:
    """Poses (N, 16, 3) float32 of a whole split, each process its share: whole sequences where the model sees several
    frames, and the split has sequences.
    """
    pose = torch.zeros_like(split.targets())
    whole = _frames(model) > 1 and not split.stills
    if whole:
        parts = [torch.arange(s.start, s.start + s.length, device=pose.device) for s in split.sequences]
    else:
        parts = _chunks(model, torch.arange(len(pose), device=pose.device))
    with run.autocast():
        for rows in parts[run.rank :: run.world_size]:
            pose[rows] = _lift_rows(model, split, rows, flip, whole).to(pose)
    return run.world_size * run.average(pose)  # other processes' rows are zero here


def _lift_rows(model: torch.nn.Module, split: PoseSet, rows: Tensor, flip: bool, whole: bool = False) -> Tensor:
    """Poses (B, 16, 3) of some rows (B,); whole: which are all frames of one sequence."""
    forward = model.sequences if whole else model
    forward = partial(flip_average, forward) if flip else forward
    index, frames = rows, _frames(model)
    if frames > 1:
        index = windows(rows, split.first[rows], split.last[rows], frames, getattr(model, "causal", False))
    if whole:  # each frame once: the first frames of all windows, and the rest of the last
        index = torch.cat((index[:, 0], index[-1, 1:])).unsqueeze(0)
    pose = forward(split.inputs[index]).view(-1, H36M_16.num_joints, 3)
    return pose if split.turns is None else pose.float() @ split.turns[rows].mT


def _frames(model: torch.nn.Module) -> int:
    """How many frames a lifter sees at once."""
    return getattr(model, "receptive_field", 1)


def _chunks(model: torch.nn.Module, rows: Tensor) -> tuple[Tensor, ...]:
    """Rows (N,) in parts of some `CHUNK` frames."""
    return rows.split(CHUNK // _frames(model) + 1)


@torch.no_grad()
def write_page(path: Path, model: torch.nn.Module, split: PoseSet, run: Run, flip: bool, fps: float, name: str) -> None:
    """Write the page (`vis_html`) of a split's first sequence; every process calls it, the main one writes."""
    recording = split.sequences[0]
    shown = page.rows(recording)
    model.eval()
    with run.autocast():
        parts = _chunks(model, torch.arange(shown.start, shown.stop, device=run.device))
        pose = torch.cat([_lift_rows(model, split, rows, flip) for rows in parts]).float()
    pose, target = pose - pose[:, :1], split.relative[shown]
    if run.is_main:
        page.write_recording(
            path, split, recording, {name: pose}, target, fps, {name: 1000 * metrics.mpjpe(pose, target)},
            about=f"{split.name.upper()}, 16 joints, root-relative",
        )  # fmt: skip


def evaluate_all(
    model: torch.nn.Module, test: PoseSet, cross: tuple[PoseSet, ...], run: Run, flip_test: bool, more: bool = False
) -> list[Scores]:
    """`score` of the test subjects and of the cross-data sets."""
    scores = [score(model, test, run, flip_test, more)]
    # as published: the flip average for 3DHP, none for Human3.6M
    return scores + [score(model, split, run, flip=True, more=more) for split in cross]


def row_of(scores: Sequence[Scores]) -> dict[str, float]:
    """The published numbers of `evaluate_all`, mm, by their columns: two, four with a cross-data set, two for each
    further one.
    """
    pairs = zip(columns(part.split for part in scores), scores, strict=True)
    return {f"{name}_{p}": value for name, part in pairs for p, value in (("p1", part.p1), ("p2", part.p2))}


def columns(splits: Iterable[PoseSet]) -> dict[str, PoseSet]:
    """The sets that are scored by the columns of their errors: the published ones of the first two."""
    test, *cross = splits
    names = ("error_h36m", "error_3dhp", *(f"cross_{split.name}" for split in cross[1:]))
    return dict(zip(names, (test, *cross), strict=False))


def learning_rate(step: int, rate: float, decay: int, gamma: float) -> float:
    """The baseline's exponential schedule, at training step `step`: rate * gamma^(step / decay)."""
    return rate * gamma ** (step / decay)


def row_text(row: Mapping[str, float], test: PoseSet, cross: tuple[PoseSet, ...]) -> str:
    """An epoch's errors for the console."""
    return "  ".join(
        f"{split.name.upper()} MPJPE {row[f'{column}_p1']:.1f} P-MPJPE {row[f'{column}_p2']:.1f}"
        for column, split in columns((test, *cross)).items()
    )


def epoch_line(epoch: int, seconds: float, training: float, losses: Mapping[str, float], scores: str) -> str:
    """An epoch for the console."""
    shown = "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
    return f"[{epoch}] {seconds:.1f} s ({training:.1f} s training)  {shown}  {scores}"


def what_was_scored(args: Any, test: PoseSet, cross: tuple[PoseSet, ...]) -> str:
    """Data, joints, 2D input and protocol that stand beside every number."""
    text = f"{test.name.upper()} {test.summary()}, 16 joints, 2D input {args.keypoints}"
    text += ", flip average" if args.flip_test else ", no flip average"
    for split in cross:
        own = "its own 2D input" if split.stills else f"2D input {cross_keypoints(args, split.name)}"
        text += f"; {split.name.upper()} {split.summary()}, {own}, flip average"
    return f"{text}; {PROTOCOL}"


def best_line(args: Any, best: float, test: PoseSet, cross: tuple[PoseSet, ...]) -> str:
    """A training run's best MPJPE, and how it was scored."""
    return f"best {test.name.upper()} MPJPE {best:.1f} mm; {what_was_scored(args, test, cross)}"


def results_dictionary(scores: Scores) -> dict[str, Any]:
    """A split's scores for `results.json`."""
    if not scores.split.actions:
        return {"overall": {"mean over frames": {name: float(v.mean()) for name, v in scores.reported.items()}}}
    return tables.results_dictionary(tables.summaries(scores.reported, scores.split))


def action_table(scores: Scores) -> str:
    """Errors by action of a split with sequences, as text."""
    return tables.action_table(tables.summaries(scores.reported, scores.split))
