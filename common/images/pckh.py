"""PCKh on MPII, as its tool computes it: files of predictions (`preds.mat`) and truth, and the table of body parts.

Andriluka et al., "2D human pose estimation: new benchmark and state of the art analysis", CVPR 2014.
"""

import os
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from common import metrics
from common.errors import InputError
from common.files.mat import load_mat
from common.skeleton import MPII_16

HEAD_SHARE = 0.6  # of the head box's diagonal
# The parts of the table, and their joints; the mean is over MPII's 16 joints but hip and thorax.
PARTS = {
    "head": ("head",), "shoulder": ("left shoulder", "right shoulder"), "elbow": ("left elbow", "right elbow"),
    "wrist": ("left wrist", "right wrist"), "hip": ("left hip", "right hip"), "knee": ("left knee", "right knee"),
    "ankle": ("left foot", "right foot"),
}  # fmt: skip
SCORED = tuple(joint for joint in range(16) if joint not in (MPII_16.index("hip"), MPII_16.index("thorax")))


class MpiiTruth(NamedTuple):
    """joints: (N, 16, 2) pixels; visible: (N, 16) bool, whether annotated; head_size: (N,) pixels."""

    joints: Tensor
    visible: Tensor
    head_size: Tensor


def read_truth(path: str | os.PathLike) -> MpiiTruth:
    """MPII's `detections_our_format.mat`: `pos_gt_src` (16, 2, N), `jnt_missing` (16, N), `headboxes_src` (2, 2, N)."""
    shapes = {"pos_gt_src": (16, 2, -1), "jnt_missing": (16, -1), "headboxes_src": (2, 2, -1)}
    found = load_mat(path, tuple(shapes))
    people = {np.shape(found[name])[-1:] for name in shapes}
    for name, shape in shapes.items():
        if np.shape(found[name])[:-1] != shape[:-1] or len(people) > 1:
            expected = f"({', '.join(map(str, shape[:-1]))}, people)"
            raise InputError(f"{path}: {name} is {np.shape(found[name])}; expected {expected}, as many in each array")
    joints = torch.from_numpy(found["pos_gt_src"].astype(float)).permute(2, 0, 1)
    visible = torch.from_numpy(found["jnt_missing"].T == 0)
    boxes = torch.from_numpy(found["headboxes_src"].astype(float))
    return MpiiTruth(joints, visible, HEAD_SHARE * torch.linalg.vector_norm(boxes[1] - boxes[0], dim=0))


def read_predictions(path: str | os.PathLike) -> Tensor:
    """(N, 16, 2) pixels of a `preds.mat`, float64."""
    preds = load_mat(path, ("preds",))["preds"]
    if np.ndim(preds) != 3 or preds.shape[1:] != (16, 2):
        raise InputError(f"{path}: preds is {np.shape(preds)}; expected (people, 16, 2)")
    return torch.from_numpy(preds.astype(float))


def scores(joints: Tensor, truth: MpiiTruth, threshold: float = 0.5) -> dict[str, float]:
    """Percent of annotated joints nearer than `threshold` head sizes, by part, and "mean".

    joints: (N, 16, 2) pixels. As published a part is the mean of its two joints' scores, "mean" that of 14 joints.
    Something never annotated has no score, NaN.
    """
    if joints.shape != truth.joints.shape:
        raise InputError(f"{len(joints)} predictions for {len(truth.joints)} people: expected one for each, (N, 16, 2)")
    correct = metrics.pckh(joints, truth.joints, truth.head_size, truth.visible, threshold)
    by_joint = 100 * correct.nanmean(0)
    table = {part: by_joint[[MPII_16.index(name) for name in names]].mean() for part, names in PARTS.items()}
    table["mean"] = by_joint[list(SCORED)].nanmean()
    return {part: float(score) for part, score in table.items()}


def table(scores: dict[str, float]) -> str:
    """Two lines: names, and scores in percent."""
    return "\n".join((" ".join(f"{part:>9}" for part in scores), " ".join(f"{s:9.2f}" for s in scores.values())))
