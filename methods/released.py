"""The weights that come with this repository, `checkpoint/released/`: their names, their cards, and what they score.

A weight is NAME.pth, NAME.yaml beside it its card: data and licence, command, commit, time, scores, sha256.
"""

import hashlib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor

from common import metrics
from common.camera import normalise_screen
from common.datasets.contract import find_3d, own_split
from common.datasets.h36m_layout import load_pose_set
from common.datasets.mpi_inf_3dhp import load_test_set
from common.errors import InputError
from common.pose_set import PoseSet
from common.run.options import RELEASED
from common.run.run import Run
from common.skeleton import H36M_16, H36M_17, convert
from common.synthetic.cross import ensure_cross
from common.synthetic.dataset import ensure_named
from methods import lifters

BEST = "videopose_pose"  # what demo.py lifts people with
AGREE = 0.1  # mm, of a score and its card
SUBSET = 0.25  # share of each test sequence that the table is made of, on end


class Score(NamedTuple):
    """Means over frames, 16 joints, relative to the hip, mm; mpjpe None where the lifter has no unit."""

    mpjpe: float | None
    n_mpjpe: float
    p_mpjpe: float


def names() -> list[str]:
    """All weights that are there."""
    return sorted(file.name.removesuffix(".pth") for file in RELEASED.glob("*.pth"))


def best() -> Path:
    """The weights that people are lifted with where none are named; an InputError where they are not there."""
    path = RELEASED / f"{BEST}.pth"
    if not path.is_file():
        raise InputError(f"{path} is missing: get it with the repository, or name a lifter with --ckpt FILE")
    return path


def card(name: str) -> dict[str, Any]:
    """What is written of a weight; an InputError where the file is not the one that it is of."""
    path = RELEASED / f"{name}.pth"
    text = yaml.safe_load(path.with_suffix(".yaml").read_text(encoding="utf-8"))
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != text["sha256"]:
        raise InputError(f"{path} is damaged: its sha256 is {found}, by its card {text['sha256']}; get it again")
    return text


def test_sets(data_dir: Path, keypoints: str, run: Run) -> dict[str, PoseSet]:
    """The sets that the table scores on, by their names: the synthetic one and its twin, which are made where they are
    missing, cmu and cmu2 where they are there; a share `SUBSET` of the test subjects' sequences.
    """
    ensure_named(data_dir, "synthetic")
    sets = {}
    for name in ("synthetic", "cmu", "cmu2"):
        if name == "synthetic" or find_3d(data_dir, name).is_file():
            subjects = own_split(data_dir, name)[1]
            sets[name] = load_pose_set(data_dir, name, keypoints, subjects, subset=SUBSET, device=run.device)
    sets["synthetic twin"] = load_test_set(ensure_cross(data_dir), H36M_17, run.device)
    return sets


def score(path: Path, test: PoseSet, run: Run) -> Score | None:
    """Score a checkpoint of any lifter on a set of 17 joints, through what demo.py does with a video; None for one over
    time on single poses.
    """
    saved = lifters.load(path)
    network = lifters.network_of(saved, path).to(run.device)
    if test.stills and getattr(network, "receptive_field", 1) > 1:
        return None
    pose, target = [], []
    with run.autocast():
        for points, truth, size, focal in clips(test):
            pose.append(lifters.lift(saved, network, points, size, focal=focal))
            target.append(truth)
    pose, target = (convert(torch.cat(part), H36M_17, H36M_16) for part in (pose, target))
    return score_of(pose, target - target[:, :1], metres=saved.method in lifters.POSEAUG)


def score_of(pose: Tensor, target: Tensor, metres: bool) -> Score:
    """Scores of poses (N, 16, 3) relative to the hip."""
    means = [1000 * f(pose, target).mean().item() for f in (metrics.mpjpe, metrics.n_mpjpe, metrics.p_mpjpe)]
    return Score(means[0] if metres else None, *means[1:])


def no_depth(test: PoseSet) -> Score:
    """The trivial lifter, whose depths are all zero."""
    flat = torch.nn.functional.pad(test.keypoints - test.keypoints[:, :1], (0, 1))
    pose, target = (convert(part, H36M_17, H36M_16) for part in (flat, test.relative))
    return score_of(pose, target, metres=False)


def clips(test: PoseSet) -> Iterable[tuple[Tensor, Tensor, tuple[int, int], float | None]]:
    """The videos of a set: keypoints (T, 17, 2) in pixels, poses (T, 17, 3), the picture's size, the focal length in
    pixels. Single poses, in screen units, are one clip, in a picture two units wide, of no known focal length.
    """
    if test.stills:
        width = 1000
        corner = -normalise_screen(torch.zeros(2), width, width)
        return [((test.keypoints + corner) * width / 2, test.targets(), (width, width), None)]
    found = []
    for sequence in test.sequences:
        rows = slice(sequence.start, sequence.start + sequence.length)
        focal = math.sqrt(math.prod(sequence.camera.focal))
        found.append((test.keypoints[rows], test.targets()[rows], sequence.camera.size, focal))
    return found


def differences(name: str, card: dict[str, Any], found: dict[str, Score | None]) -> list[str]:
    """A line for each set on which a weight scores otherwise, by more than `AGREE`, than its card says."""
    lines = []
    for title, said in card["scores"].items():
        if title in found and not _agree(said, found[title]):
            lines.append(f"{name} on {title}: {_cell(found[title])}, but {_cell(said and Score(*said))} by its card")
    return lines


def _agree(said: list[float | None] | None, found: Score | None) -> bool:
    if said is None or found is None:
        return said is None and found is None
    pairs = zip(said, found, strict=True)
    return all(a is b is None or (None not in (a, b) and abs(a - b) <= AGREE) for a, b in pairs)


# ------------------------------------------------------------ table


def table(scores: dict[str, dict[str, Score | None]]) -> str:
    """Markdown: a row for each weight, by their P-MPJPE on the first set; scores by weight, then by set."""
    sets = list(next(iter(scores.values())))
    lines = ["| weights | " + " | ".join(sets) + " |", "| --- |" + " ---: |" * len(sets)]
    for name, found in sorted(scores.items(), key=lambda pair: pair[1][sets[0]].p_mpjpe):
        lines.append(f"| {name} | " + " | ".join(map(_cell, found.values())) + " |")
    return "\n".join(lines)


def _cell(score: Score | None) -> str:
    if score is None:
        return "one frame"
    return f"{'no unit' if score.mpjpe is None else f'{score.mpjpe:.1f}'} / {score.n_mpjpe:.1f} / {score.p_mpjpe:.1f}"
