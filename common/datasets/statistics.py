"""Statistics of a pose set: people and their bones, where they are in the room and in the pictures, how well keypoints
fit the poses, and what is odd about all that. `data/inspect_data.py` prints them.

Metres, world frame with z up; pixels. Shares are of 1. Everything is computed on flat tensors: seconds for Human3.6M.
"""

import math
from collections.abc import Callable, Iterable
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from common.bones import bone_lengths, bone_vectors
from common.camera import Camera, camera_to_world, project
from common.pose_set import PoseSet
from common.skeleton import Skeleton

ENOUGH = 100_000  # poses, evenly spread, that medians and percentiles are taken of
CHUNK = 1 << 16  # poses that are projected at a time
LOW_CONFIDENCE = 0.3
# What is odd.
HEIGHTS = (1.2, 2.2)  # metres along the bones, from foot to head
CHANGE, UNEVEN, SAME = 0.05, 0.05, 0.001  # shares of a bone's length
UNDER_FLOOR, OVER_FLOOR, FOOT = 0.15, 0.5, 0.3  # metres; a foot's joint of somebody who stands is lower than the last
JUMP = 0.5  # metres from frame to frame: 25 m/s at 50 frames a second
UPRIGHT, TURNED = 0.3, 0.2  # mean of a cosine
MISFIT = 0.5  # median distance of keypoints from projected poses, over the size of people in the picture
FITS_BETTER = 0.5  # a guess of what is wrong explains it if the distance falls below this share
OUTSIDE, OFF_CENTRE, ROLLED = 0.1, 0.25, 45.0  # share of the joints; of the picture; degrees
MANY = 0.01  # share of the poses


class Bones(NamedTuple):
    """Bone lengths of one subject, in the order of `Skeleton.bones`."""

    lengths: Tensor  # (B,) medians, metres
    change: Tensor  # (B,) from the 5th to the 95th percentile, over the median
    height: float  # metres, along the bones from foot to head; NaN where the layout lacks them


class View(NamedTuple):
    """People in the pictures of one camera number, all subjects together."""

    view: int
    poses: int
    size: tuple[float, float, float]  # 5th, 50th, 95th percentile of the larger side of the box around a person
    place: tuple[float, float]  # middle of that box, median, shares of the picture; NaN where its size is not known
    outside: float  # share of the joints, of those who are found; NaN likewise
    nobody: float  # share of the poses: all joints in one place
    confidence: float  # mean; NaN where there is none
    unsure: float  # share of joints of less than `LOW_CONFIDENCE`
    error: tuple[float, float]  # 50th, 95th percentile of the mean distance from the projected pose; NaN without one


class Seen(NamedTuple):
    """One calibrated camera, and the subjects in whose room it stands just so."""

    view: int
    camera: Camera
    subjects: tuple[str, ...]
    pitch: float  # degrees by which it looks down
    roll: float  # degrees by which the picture is turned clockwise
    width: float  # degrees that the picture spans from left to right; NaN where its size is not known


# ------------------------------------------------------------ rows


def rows_once(pose_set: PoseSet) -> Tensor:
    """The rows (M,) that show every take once: those of its first view."""
    first: dict[tuple, int] = {}
    for seq in pose_set.sequences:
        first[seq[:2]] = min(first.get(seq[:2], seq.view), seq.view)
    return _rows_of(pose_set, [seq.view == first[seq[:2]] for seq in pose_set.sequences])


def _rows_of(pose_set: PoseSet, chosen: list[bool]) -> Tensor:
    """The rows of some of the sequences."""
    return torch.tensor(chosen)[pose_set.sequence.long()].nonzero()[:, 0]


def _rows_of_subject(pose_set: PoseSet, subject: str, rows: Tensor) -> Tensor:
    own = torch.tensor([seq.subject == subject for seq in pose_set.sequences])
    return rows[own[pose_set.sequence[rows].long()]]


def spread_rows(rows: Tensor, count: int = ENOUGH) -> Tensor:
    """About `count` of the rows, evenly spread."""
    return rows[:: max(1, len(rows) // count)]


def subjects_of(pose_set: PoseSet) -> tuple[str, ...]:
    """The subjects in their order."""
    return tuple(dict.fromkeys(seq.subject for seq in pose_set.sequences))


def in_world(pose_set: PoseSet, rows: Tensor) -> Tensor:
    """The poses (M, J, 3) of some rows in the world frame; cameras and poses must be there."""
    cameras, index = pose_set.cameras, pose_set.sequence[rows].long()
    orientation, place = (torch.tensor([getattr(c, key) for c in cameras]) for key in ("orientation", "translation"))
    return camera_to_world(pose_set.targets()[rows], orientation[index, None], place[index, None])


def has_cameras(pose_set: PoseSet) -> bool:
    """Whether every sequence has its camera."""
    return all(seq.camera is not None for seq in pose_set.sequences)


# ------------------------------------------------------------ people


def bones_of(pose_set: PoseSet) -> dict[str, Bones]:
    """Subject -> its bones; the set must have poses."""
    skeleton, rows, found = pose_set.skeleton, rows_once(pose_set), {}
    for subject in subjects_of(pose_set):
        own = spread_rows(_rows_of_subject(pose_set, subject, rows))
        lengths = bone_lengths(bone_vectors(pose_set.targets()[own], skeleton))
        low, median, high = lengths.quantile(torch.tensor((0.05, 0.5, 0.95)), dim=0)
        found[subject] = Bones(median, (high - low) / median.clamp_min(1e-9), _height(median, skeleton))
    return found


def _height(lengths: Tensor, skeleton: Skeleton) -> float:
    """Along the bones from the feet (their mean) to the root and on to the head."""
    bone_of = {child: bone for bone, (_, child) in enumerate(skeleton.bones)}

    def way(joint: str) -> float:
        at, total = skeleton.joints.index(joint), 0.0
        while at != skeleton.root:
            total, at = total + lengths[bone_of[at]].item(), skeleton.parents[at]
        return total

    if not {"left foot", "right foot", "head"} <= set(skeleton.joints):
        return math.nan
    return (way("left foot") + way("right foot")) / 2 + way("head")


def pairs_of_bones(skeleton: Skeleton) -> list[tuple[int, int]]:
    """(left, right) bones, as indices into `Skeleton.bones`."""
    place = {bone: i for i, bone in enumerate(skeleton.bones)}
    mirrored = [place.get((skeleton.mirror[p], skeleton.mirror[c])) for p, c in skeleton.bones]
    return [(i, mirrored[i]) for i, (_, c) in enumerate(skeleton.bones) if c in skeleton.left and mirrored[i] is not None]


def unevenness(bones: Bones, skeleton: Skeleton) -> tuple[float, int]:
    """Largest difference of left and right, over their mean, and the left bone it is of; (0, -1): no pairs."""
    pairs, lengths = pairs_of_bones(skeleton), bones.lengths.tolist()
    different = [(2 * abs(lengths[a] - lengths[b]) / max(lengths[a] + lengths[b], 1e-9), a) for a, b in pairs]
    return max(different, default=(0.0, -1))


# ------------------------------------------------------------ pictures


def reprojection_errors(pose_set: PoseSet, rows: Tensor | None = None) -> Tensor:
    """Mean distance (M,) of the keypoints of some rows (None: all) from their poses seen by their cameras, pixels."""
    rows = torch.arange(len(pose_set)) if rows is None else rows
    intrinsics, errors = pose_set.intrinsics(), torch.empty(len(rows))
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        seen = project(pose_set.targets()[part], intrinsics[pose_set.sequence[part].long()][:, None])
        errors[start : start + CHUNK] = (seen - pose_set.keypoints[part]).norm(dim=-1).mean(1)
    return errors


def can_reproject(pose_set: PoseSet) -> bool:
    """Whether there are poses, cameras and pixels."""
    return pose_set.poses is not None and has_cameras(pose_set) and pose_set.unit == "pixels"


def views_of(pose_set: PoseSet) -> list[View]:
    """What each view sees."""
    low, high = pose_set.keypoints.amin(1), pose_set.keypoints.amax(1)
    sides, nobody = (high - low).amax(-1), (high == low).all(-1)
    sizes = _picture_sizes(pose_set)
    errors = reprojection_errors(pose_set) if can_reproject(pose_set) else None
    found = []
    for view in sorted({seq.view for seq in pose_set.sequences}):
        rows = _rows_of(pose_set, [seq.view == view for seq in pose_set.sequences])
        if not len(rows):
            continue
        there = rows[~nobody[rows]]
        size = sizes[pose_set.sequence[there].long()]  # (M, 2)
        points = pose_set.keypoints[there]
        outside = ((points < 0) | (points > size[:, None])).any(-1).float().mean().item() if len(there) else math.nan
        if size.isnan().any():
            outside = math.nan
        some = spread_rows(there)
        middle = ((low[some] + high[some]) / 2 / sizes[pose_set.sequence[some].long()]).median(0).values
        confidence = getattr(pose_set, "confidence", None)
        confidence = None if confidence is None else confidence[rows]
        found.append(
            View(
                view, len(rows), _quantiles(sides[some], (0.05, 0.5, 0.95)),
                tuple(middle.tolist()) if len(some) else (math.nan, math.nan), outside,
                1 - len(there) / len(rows), math.nan if confidence is None else confidence.mean().item(),
                math.nan if confidence is None else (confidence < LOW_CONFIDENCE).float().mean().item(),
                (math.nan, math.nan) if errors is None else _quantiles(errors[some], (0.5, 0.95)),
            )
        )  # fmt: skip
    return found


def _picture_sizes(pose_set: PoseSet) -> Tensor:
    """Width and height (S, 2) of the pictures of each sequence, NaN where not known."""
    cameras = [seq.camera for seq in pose_set.sequences]
    sizes = [(c.width, c.height) if c and c.width and c.height else (math.nan,) * 2 for c in cameras]
    sizes = torch.tensor(sizes, dtype=torch.float32)
    return torch.full_like(sizes, math.nan) if pose_set.unit != "pixels" else sizes


def _quantiles(values: Tensor, shares: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(values.quantile(torch.tensor(shares)).tolist()) if len(values) else (math.nan,) * len(shares)


# ------------------------------------------------------------ cameras


def cameras_of(pose_set: PoseSet) -> list[Seen]:
    """The cameras, each once, by view and subject."""
    found: dict[tuple[int, Camera], dict[str, None]] = {}
    for seq in pose_set.sequences:
        if seq.camera is not None:
            found.setdefault((seq.view, seq.camera), {})[seq.subject] = None
    seen = []
    for (view, camera), subjects in sorted(found.items(), key=lambda item: item[0][0]):
        right, down, forward = camera_to_world(torch.eye(3), torch.tensor(camera.orientation)).tolist()
        pitch = math.degrees(math.asin(max(-1.0, min(1.0, -forward[2]))))
        roll = math.degrees(math.atan2(-right[2], -down[2]))
        width = 2 * math.degrees(math.atan(camera.width / 2 / camera.focal[0])) if camera.width else math.nan
        seen.append(Seen(view, camera, tuple(subjects), pitch, roll, width))
    return seen
