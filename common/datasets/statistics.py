"""Statistics of a pose set: people and their bones, where they are in the room and in the pictures, how well keypoints
fit the poses, and what is odd about all that. `data/inspect_data.py` prints them.

Metres, world frame with z up; pixels. Shares are of 1. Everything is computed on flat tensors: seconds for Human3.6M.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from common.bones import bone_lengths, bone_vectors
from common.camera import Camera, camera_to_world, project
from common.datasets import sanity
from common.pose_set import PoseSet
from common.skeleton import Skeleton

ENOUGH = 100_000  # poses, evenly spread, that medians and percentiles are taken of
CHUNK = 1 << 16  # poses that are projected at a time
LOW_CONFIDENCE = 0.3
# What is odd.
HEIGHTS = (1.2, 2.2)  # metres along the bones, from foot to head
CHANGE, UNEVEN, SAME = 0.05, 0.05, 0.001  # shares of a bone's length
UNDER_FLOOR, OVER_FLOOR = 0.15, 0.5  # metres
JUMP = 0.5  # metres from frame to frame: 25 m/s at 50 frames a second
EXCHANGED = 0.2  # of `sanity.sides_exchanged`
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


def rows_in_room(pose_set: PoseSet) -> Tensor:
    """Those of `rows_once` whose frame is a room with a floor, not their camera's own (3DPW's, 3DHP's test set's)."""
    room = torch.tensor([bool(seq.camera) and any(seq.camera.translation) for seq in pose_set.sequences])
    rows = rows_once(pose_set)
    return rows[room[pose_set.sequence[rows].long()]]


def _rows_of(pose_set: PoseSet, chosen: list[bool]) -> Tensor:
    """The rows of some of the sequences."""
    return torch.tensor(chosen)[pose_set.sequence.long()].nonzero()[:, 0]


def rows_of_subject(pose_set: PoseSet, subject: str, rows: Tensor) -> Tensor:
    """Those of the rows that show a subject."""
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
    orientation, place = _extrinsics(pose_set, rows)
    return camera_to_world(pose_set.targets()[rows], orientation[:, None], place[:, None])


def roots_in_world(pose_set: PoseSet, rows: Tensor) -> Tensor:
    """The root joints (M, 3) of some rows in the world frame."""
    return camera_to_world(pose_set.targets()[rows, pose_set.skeleton.root], *_extrinsics(pose_set, rows))


def _extrinsics(pose_set: PoseSet, rows: Tensor) -> tuple[Tensor, Tensor]:
    """`Camera.orientation` (M, 4) and `Camera.translation` (M, 3) of some rows."""
    index = pose_set.sequence[rows].long()
    return tuple(torch.tensor([getattr(c, k) for c in pose_set.cameras])[index] for k in ("orientation", "translation"))


def has_cameras(pose_set: PoseSet) -> bool:
    """Whether every sequence has its camera."""
    return all(seq.camera is not None for seq in pose_set.sequences)


# ------------------------------------------------------------ people


def bones_of(pose_set: PoseSet) -> dict[str, Bones]:
    """Subject -> its bones; the set must have poses."""
    skeleton, rows, found = pose_set.skeleton, rows_once(pose_set), {}
    for subject in subjects_of(pose_set):
        own = spread_rows(rows_of_subject(pose_set, subject, rows))
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
    return [
        (i, mirrored[i]) for i, (_, c) in enumerate(skeleton.bones) if c in skeleton.left and mirrored[i] is not None
    ]


def unevenness(bones: Bones, skeleton: Skeleton) -> tuple[float, int]:
    """Largest difference of left and right, over their mean, and the left bone it is of; (0, -1): no pairs."""
    pairs, lengths = pairs_of_bones(skeleton), bones.lengths.tolist()
    different = [(2 * abs(lengths[a] - lengths[b]) / max(lengths[a] + lengths[b], 1e-9), a) for a, b in pairs]
    return max(different, default=(0.0, -1))


# ------------------------------------------------------------ pictures


def reprojection_errors(pose_set: PoseSet, rows: Tensor) -> Tensor:
    """Mean distance (M,) of the keypoints of some rows from their poses seen by their cameras, pixels."""
    intrinsics, parts = pose_set.intrinsics(), []
    for part in rows.split(CHUNK):
        seen = project(pose_set.targets()[part], intrinsics[pose_set.sequence[part].long()][:, None], clamped=False)
        parts.append((seen - pose_set.keypoints[part]).norm(dim=-1).mean(1))
    return torch.cat(parts)


def can_reproject(pose_set: PoseSet) -> bool:
    """Whether there are poses, cameras and pixels."""
    return pose_set.poses is not None and has_cameras(pose_set) and pose_set.unit == "pixels"


def views_of(pose_set: PoseSet) -> list[View]:
    """What each view sees; but for `nobody` of `ENOUGH` of its poses."""
    nobody = (pose_set.keypoints.amin(1) == pose_set.keypoints.amax(1)).all(-1)
    found = []
    for view in sorted({seq.view for seq in pose_set.sequences}):
        rows = _rows_of(pose_set, [seq.view == view for seq in pose_set.sequences])
        there = rows[~nobody[rows]]
        if len(rows):
            found.append(_view(pose_set, view, len(rows), len(there), spread_rows(there)))
    return found


def _view(pose_set: PoseSet, view: int, poses: int, people: int, rows: Tensor) -> View:
    """A view of so many poses and people, by some rows that show somebody."""
    points = pose_set.keypoints[rows]
    size = _picture_sizes(pose_set)[pose_set.sequence[rows].long()]  # (M, 2)
    low, high = points.amin(1), points.amax(1)
    place = ((low + high) / 2 / size).median(0).values.tolist() if people else (math.nan, math.nan)
    outside = ((points < 0) | (points > size[:, None])).any(-1).float().mean().item()
    scores = torch.full((1,), math.nan) if pose_set.confidence is None else pose_set.confidence[rows]
    unsure = math.nan if pose_set.confidence is None else (scores < LOW_CONFIDENCE).float().mean().item()
    errors = reprojection_errors(pose_set, rows) if can_reproject(pose_set) else torch.empty(0)
    return View(
        view, poses, _quantiles((high - low).amax(-1), (0.05, 0.5, 0.95)), tuple(place),
        math.nan if size.isnan().any() else outside, 1 - people / poses, scores.mean().item(), unsure,
        _quantiles(errors, (0.5, 0.95)),
    )  # fmt: skip


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


def corners(camera: Camera, depth: float) -> Tensor:
    """What a camera sees, in the world: its place and the corners of its picture at `depth` metres, (5, 3). The
    middle of a picture of unknown size is taken for its principal point.
    """
    (fx, fy), (cx, cy) = camera.focal, camera.centre
    width, height = (camera.width, camera.height) if camera.width and camera.height else (2 * cx, 2 * cy)
    pixels = torch.tensor(((0, 0), (width, 0), (width, height), (0, height)), dtype=torch.float32)
    slopes = (pixels - torch.tensor((cx, cy))) / torch.tensor((fx, fy))
    points = torch.cat((torch.zeros(1, 3), depth * torch.cat((slopes, torch.ones(4, 1)), 1)))
    return camera_to_world(points, torch.tensor(camera.orientation), torch.tensor(camera.translation))


# ------------------------------------------------------------ what is odd


def oddities(
    pose_set: PoseSet, bones: dict[str, Bones], views: list[View], train: Iterable[str] = (), test: Iterable[str] = ()
) -> list[str]:
    """What is odd in a set, a line each; `bones` (empty without poses) and `views` are its own, `train` and `test` name
    its split.
    """
    odd = _odd_bones(bones, pose_set.skeleton) + _same_people(bones, train, test)
    if pose_set.poses is not None and has_cameras(pose_set):
        odd += _odd_room(pose_set)
    odd += _odd_cameras(cameras_of(pose_set)) + _odd_pictures(pose_set, views)
    return odd + (sanity.misfit(pose_set) if can_reproject(pose_set) else [])


def _odd_bones(bones: dict[str, Bones], skeleton: Skeleton) -> list[str]:
    odd, names = [], [skeleton.joints[child] for _, child in skeleton.bones]
    heights = {subject: own.height for subject, own in bones.items() if not math.isnan(own.height)}
    wrong = [f"{subject} {height:.2f} m" for subject, height in heights.items() if not _within(height, HEIGHTS)]
    if wrong:
        odd.append(f"people of unusual height along their bones, from foot to head: {_few(wrong)}")
    wrong = []
    for subject, own in bones.items():
        share, bone = own.change.max(0)
        if share > CHANGE:
            wrong.append(f"{subject} {names[bone]} by {share:.0%}")
    if wrong:
        odd.append(f"bones change their length within a subject (5th to 95th percentile; the most): {_few(wrong)}")
    uneven = {subject: unevenness(own, skeleton) for subject, own in bones.items()}
    wrong = [f"{subject} {names[bone]} {share:.0%}" for subject, (share, bone) in uneven.items() if share > UNEVEN]
    if wrong:
        odd.append(f"bones of the left and the right differ in length: {_few(wrong)}")
    return odd


def _same_people(bones: dict[str, Bones], train: Iterable[str], test: Iterable[str]) -> list[str]:
    pairs = [(a, b) for a in test for b in train if a in bones and b in bones]
    same = [
        f"{a} those of {b}" for a, b in pairs
        if ((bones[a].lengths - bones[b].lengths).abs() <= SAME * bones[b].lengths).all()
    ]  # fmt: skip
    return [f"people to test on have the bones of people to train on: {_few(same)}"] if same else []


def _odd_room(pose_set: PoseSet) -> list[str]:
    odd, skeleton, rows = [], pose_set.skeleton, rows_once(pose_set)
    world = in_world(pose_set, spread_rows(rows))
    up = sanity.up_axis([world[:: max(1, len(world) // 1000)].numpy()], skeleton)
    if up != "z":
        odd.append(f"people stand along {up}, not z")
    odd += _odd_heights(in_world(pose_set, spread_rows(rows_in_room(pose_set)))[..., 2].amin(1))
    exchanged = sanity.sides_exchanged(world, skeleton)
    if exchanged > EXCHANGED:
        odd.append("left and right of the 3D poses look exchanged: knees bend backwards")
    roots, sequence = roots_in_world(pose_set, rows), pose_set.sequence[rows]
    steps = torch.where(sequence[1:] == sequence[:-1], (roots[1:] - roots[:-1]).norm(dim=-1), 0)
    jumps = int((steps > JUMP).sum())
    if jumps:
        item = pose_set.item(int(rows[int((steps > JUMP).int().argmax()) + 1]))
        where = f"first: {item.subject} {item.action} frame {item.frame}"
        odd.append(
            f"people jump {jumps:,} times by more than {JUMP} m in a frame, {steps.max():.2f} m at most ({where})"
        )
    return odd


def _odd_heights(lowest: Tensor) -> list[str]:
    """lowest: (M,), height of each pose's lowest joint."""
    if not len(lowest):
        return []
    odd, under = [], (lowest < -UNDER_FLOOR).float().mean().item()
    if under > MANY:
        odd.append(
            f"{under:.1%} of the poses reach more than {UNDER_FLOOR} m below the floor (z = 0), to {lowest.min():.2f} m"
        )
    standing = lowest.quantile(0.05).item()
    if standing > OVER_FLOOR:
        odd.append(
            f"people hover: the lowest joint is {standing:.2f} m over the floor (z = 0) or more in 95% of the poses"
        )
    return odd


def _odd_cameras(cameras: list[Seen]) -> list[str]:
    odd = []

    def found(what: str, wrong: list[Seen], value) -> None:
        if wrong:
            named = [f"view {seen.view} of {','.join(seen.subjects)} {value(seen)}" for seen in wrong]
            odd.append(f"{what}: {_few(named, 3)}")

    found(
        "cameras below the floor (z = 0)",
        [s for s in cameras if s.camera.translation[2] < 0],
        lambda s: f"{s.camera.translation[2]:.2f} m",
    )
    found("cameras that are rolled", [s for s in cameras if abs(s.roll) > ROLLED], lambda s: f"{s.roll:.0f} degrees")
    sized = [s for s in cameras if s.camera.width and s.camera.height]
    unsized = [s for s in cameras if s not in sized]
    if unsized:
        found("pictures of unknown size, which screen coordinates need", unsized, lambda s: s.camera.id)
    found(
        "principal points far from the picture's middle",
        [s for s in sized if _off_centre(s.camera) > OFF_CENTRE],
        lambda s: f"({s.camera.centre[0]:.0f}, {s.camera.centre[1]:.0f}) of {s.camera.width} x {s.camera.height}",
    )
    return odd  # fmt: skip


def _off_centre(camera: Camera) -> float:
    """How far the principal point is from the middle, as a share of the picture."""
    return max(abs(camera.centre[0] / camera.width - 0.5), abs(camera.centre[1] / camera.height - 0.5))


def _odd_pictures(pose_set: PoseSet, views: list[View]) -> list[str]:
    odd = []
    wrong = [f"view {view.view} {view.outside:.0%}" for view in views if view.outside > OUTSIDE]
    if wrong:
        odd.append(f"joints lie outside of their pictures: {_few(wrong)}")
    wrong = [f"view {view.view} {view.nobody:.1%}" for view in views if view.nobody]
    if wrong:
        odd.append(f"poses whose joints all lie in one place: {_few(wrong)}")
    wrong = [f"view {view.view} {view.unsure:.0%}" for view in views if view.unsure > OUTSIDE]
    if wrong:
        odd.append(f"joints of less confidence than {LOW_CONFIDENCE}: {_few(wrong)}")
    return odd


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def _few(texts: list[str], count: int = 6) -> str:
    """The first of several, and how many there are besides."""
    return ", ".join(texts[:count]) + (f", and {len(texts) - count} more" if len(texts) > count else "")
