"""`PoseSet`: 2D and 3D poses of any source as flat tensors on one device, read in batches of rows.

A row is one pose; the rows of a `Sequence` follow each other in time, and still images are sequences of one.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from common.camera import Camera
from common.errors import InputError
from common.h36m import action_label, canonical_action
from common.lifter_input import FOCAL, LifterInput, facing, make_input
from common.skeleton import Skeleton


class Sequence(NamedTuple):
    """Rows [start, start + length) of a `PoseSet`: one subject, action and view. Names are empty where unknown. Where
    frames are missing, one take comes as several sequences of one name, so that neighbours in time are neighbours.
    """

    subject: str
    action: str  # with the number of the take: "Walking 1"
    view: int
    start: int
    length: int
    camera: Camera | None = None
    dataset: str = ""


class Item(NamedTuple):
    """Where one pose comes from; `frame` counts in the source file."""

    subject: str
    action: str
    view: int
    frame: int


@dataclass(frozen=True, eq=False)
class PoseSet:
    """N poses, contiguous by sequence, in the order of `sequences` (S of them); None where the source has no such."""

    keypoints: Tensor  # (N, J, 2) float32, in `unit`
    skeleton: Skeleton
    sequences: tuple[Sequence, ...]
    sequence: Tensor  # (N,) int32, index into `sequences`: `sequence_index`
    frame: Tensor  # (N,) int32, frame number in the source file
    poses: Tensor | None = None  # (N, J, 3) float32, metres, camera frame, absolute; of `load_motion`: world frame
    unit: str = "pixels"  # or "screen": a file that gives screen coordinates and not the size of its pictures
    inputs: Tensor | None = None  # (N, J, 2 or more) float32, what a method's network sees, made by the method
    confidence: Tensor | None = None  # (N, J) float32, of the keypoints, as their detector gives it
    turns: Tensor | None = None  # (N, 3, 3) float32, from the axes of what a lifter gives to the camera's; of `inputs`

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return self.keypoints.device

    @cached_property
    def name(self) -> str:
        """The data set's name; of several "mpii,cmu"."""
        return ",".join(self.counts())

    def counts(self) -> dict[str, int]:
        """Data set -> number of its poses."""
        counts: dict[str, int] = {}
        for seq in self.sequences:
            counts[seq.dataset] = counts.get(seq.dataset, 0) + seq.length
        return counts

    def summary(self) -> str:
        """One line: "S9,S11: 15 actions, 4 views, 543,344 poses"; of nameless poses "2,929 poses"."""
        subjects = ",".join(dict.fromkeys(seq.subject for seq in self.sequences if seq.subject))
        views = len({seq.view for seq in self.sequences})
        actions = f"{len(self.actions)} actions, " if self.actions else ""
        where = f"{subjects}: {actions}{views} views, " if subjects else ""
        return f"{where}{len(self):,} poses"

    # ------------------------------------------------------------ sequences

    @cached_property
    def actions(self) -> tuple[str, ...]:
        """The actions, takes put together, in order of first appearance."""
        return tuple(dict.fromkeys(action_label(seq.action) for seq in self.sequences if seq.action))

    @property
    def action_of_item(self) -> Tensor:
        """(N,) int64, index into `actions`; the set must have such."""
        place = {action: i for i, action in enumerate(self.actions)}
        labels = [place[action_label(seq.action)] for seq in self.sequences]
        return torch.tensor(labels, device=self.device).index_select(0, self.sequence)

    @property
    def stills(self) -> bool:
        """Whether no pose has a neighbour in time."""
        return len(self.sequences) == len(self)

    @cached_property
    def first(self) -> Tensor:
        """(N,) int64, the first row of each row's sequence. Made when first asked for: ask before a captured step."""
        return self._of_item([seq.start for seq in self.sequences])

    @cached_property
    def last(self) -> Tensor:
        """(N,) int64, the last row of each row's sequence."""
        return self._of_item([seq.start + seq.length - 1 for seq in self.sequences])

    def _of_item(self, values: list[int]) -> Tensor:
        return torch.tensor(values, device=self.device).index_select(0, self.sequence)

    def find(self, subject: str, action: str, view: int) -> slice:
        """The rows of one sequence. "Eating" is the take of just that name, or else the first take."""
        action = canonical_action(action)
        takes = [seq for seq in self.sequences if (seq.subject, seq.view) == (subject, view)]
        found = [seq for seq in takes if seq.action == action] or [s for s in takes if action_label(s.action) == action]
        if not found:
            raise InputError(f"no sequence {subject} {action} view {view}; actions: {', '.join(self.actions)}")
        return slice(found[0].start, found[0].start + found[0].length)

    def item(self, index: int) -> Item:
        """Subject, action, view and frame of one row."""
        seq = self.sequences[int(self.sequence[index])]
        return Item(seq.subject, seq.action, seq.view, int(self.frame[index]))

    # ------------------------------------------------------------ cameras, poses

    @property
    def cameras(self) -> list[Camera]:
        """The camera of each sequence.

        Raises:
            InputError: one is not known.
        """
        for seq in self.sequences:
            if seq.camera is None:
                where = " ".join(part for part in (seq.dataset, seq.subject, seq.action) if part)
                raise InputError(f"{where or 'the set'}: no camera is known, which this method needs")
        return [seq.camera for seq in self.sequences]

    def intrinsics(self, unit: str = "pixels") -> Tensor:
        """Intrinsic vectors (S, 9) of the sequences, as `Camera.intrinsics` has them; an InputError without cameras."""
        return torch.stack([camera.intrinsics(unit) for camera in self.cameras]).to(self.device)

    def targets(self) -> Tensor:
        """The true poses (N, J, 3); an InputError where there are none."""
        if self.poses is None:
            raise InputError("these files hold no 3D poses to compare with")
        return self.poses

    @property
    def relative(self) -> Tensor:
        """The true poses (N, J, 3) relative to the root joint."""
        poses, root = self.targets(), self.skeleton.root
        return poses - poses[:, root : root + 1]

    # ------------------------------------------------------------ other sets

    def take(self, rows: Tensor) -> "PoseSet":
        """The set of some rows, (M,) ascending. All sequences stay, those left empty too; their frames get gaps."""
        rows = rows.to(self.device)
        counts = torch.bincount(self.sequence[rows].long(), minlength=len(self.sequences)).tolist()
        part = self._map(lambda tensor: tensor[rows])
        return replace(part, sequences=_placed(self.sequences, counts, 0))

    def to(self, device: str | torch.device) -> "PoseSet":
        """The same on a device."""
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, change: Callable[[Tensor], Tensor]) -> "PoseSet":
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: change(value) for name, value in values.items() if isinstance(value, Tensor)})


def sequence_index(sequences: tuple[Sequence, ...]) -> Tensor:
    """`PoseSet.sequence` of sequences that follow each other: (N,) int32."""
    lengths = torch.tensor([seq.length for seq in sequences])
    return torch.arange(len(sequences), dtype=torch.int32).repeat_interleave(lengths)


def still_images(keypoints: Tensor, skeleton: Skeleton, dataset: str, **others) -> PoseSet:
    """The set of N single poses of no known subject: keypoints (N, J, 2); `others` are fields of `PoseSet`."""
    count = torch.arange(len(keypoints), dtype=torch.int32)
    sequences = tuple(Sequence("", "", 0, start, 1, None, dataset) for start in range(len(keypoints)))
    return PoseSet(keypoints, skeleton, sequences, count, torch.zeros_like(count), **others)


def joined(parts: list[PoseSet]) -> PoseSet:
    """Sets one after the other, of one skeleton, unit and device; poses where all have some. A single set is not
    copied.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    for part in parts:
        if (part.skeleton, part.unit) != (first.skeleton, first.unit):
            found = " and ".join(f"{p.name} in {p.unit}, {p.skeleton.name}" for p in (first, part))
            raise InputError(f"sets of one kind can be joined; found {found}")
    sequences, numbers, start = (), [], 0
    for part in parts:
        numbers.append(part.sequence + len(sequences))
        sequences += _placed(part.sequences, [seq.length for seq in part.sequences], start)
        start += len(part)
    return PoseSet(
        torch.cat([part.keypoints for part in parts]), first.skeleton, sequences, torch.cat(numbers),
        torch.cat([part.frame for part in parts]), _joined_tensors([part.poses for part in parts]), first.unit,
        _joined_tensors([part.inputs for part in parts]), _joined_tensors([part.confidence for part in parts]),
    )  # fmt: skip


def _joined_tensors(tensors: list[Tensor | None]) -> Tensor | None:
    return None if any(tensor is None for tensor in tensors) else torch.cat(tensors)


def _placed(sequences: tuple[Sequence, ...], lengths: list[int], start: int) -> tuple[Sequence, ...]:
    """The sequences with other lengths, from row `start` on."""
    placed = []
    for seq, length in zip(sequences, lengths, strict=True):
        placed.append(seq._replace(start=start, length=length))
        start += length
    return tuple(placed)


# ------------------------------------------------------------ what lifters see


def screen_keypoints(pose_set: PoseSet, in_place: bool = False) -> Tensor:
    """Keypoints (N, J, 2) in screen coordinates, x in [-1, 1] over the width of the item's camera, y to that scale
    (`common.camera.normalise_screen`). in_place: in the memory of the set's own, which is spoilt.

    `common.camera.project(poses, pose_set.intrinsics("screen")[sequence])` gives exact keypoints again.
    """
    if pose_set.unit == "screen":
        return pose_set.keypoints
    sizes = torch.tensor([camera.size for camera in pose_set.cameras], dtype=torch.float32)
    width, height = sizes.to(pose_set.device).unbind(-1)  # (S,)
    corner = torch.stack((torch.ones_like(width), height / width), -1)
    out = pose_set.keypoints if in_place else None  # a training set's are 200 MB
    keypoints = torch.div(pose_set.keypoints, width.index_select(0, pose_set.sequence)[:, None, None], out=out)
    keypoints *= 2
    keypoints -= corner.index_select(0, pose_set.sequence)[:, None]
    return keypoints


def ray_slopes(pose_set: PoseSet) -> Tensor:
    """X/Z and Y/Z (N, 2) of the ray from each item's camera to the hip, lens distortion left aside."""
    focal, centre = pose_set.intrinsics("screen")[:, :4].index_select(0, pose_set.sequence).split(2, -1)
    return (screen_keypoints(pose_set)[:, pose_set.skeleton.root] - centre) / focal


def seen(pose_set: PoseSet, form: LifterInput) -> PoseSet:
    """A set as a lifter of that form sees it, with its `inputs` and, where it gives poses along the ray, `turns`."""
    points, root = screen_keypoints(pose_set), pose_set.skeleton.root
    slopes = ray_slopes(pose_set) if form.sees == "direction" else None
    inputs = make_input(form, points, slopes, pose_set.confidence, root)
    return replace(pose_set, inputs=inputs, turns=turns_of(pose_set) if form.sees == "pose" else None)


def turns_of(pose_set: PoseSet) -> Tensor:
    """`common.lifter_input.facing` of the rays to the hips (N, 3, 3); by the usual focal length where no camera is
    known.
    """
    known = all(seq.camera for seq in pose_set.sequences)
    hips = screen_keypoints(pose_set)[:, pose_set.skeleton.root]
    return facing(ray_slopes(pose_set) if known else hips / (2 * FOCAL)).float()


def windows(
    index: Tensor,
    first: Tensor,
    last: Tensor,
    receptive_field: int,
    causal: bool = False,
    strides: Tensor | None = None,
) -> Tensor:
    """The rows of the frames around (causal: up to) each frame; past an end of its sequence, the frame at that end.

    index, first, last: (B,) int64, rows of a flat set: the frames asked for, and the first and last row of the sequence
    that each is in; receptive_field: F, odd; strides: (B,), rows from one frame to the next, 1 where left out -> (B, F)
    rows, so that `keypoints[windows(...)]` is (B, F, J, 2).
    """
    reach = receptive_field - 1 if causal else receptive_field // 2
    offsets = torch.arange(receptive_field, device=index.device) - reach
    offsets = offsets if strides is None else offsets * strides[:, None]
    return (index[:, None] + offsets).clamp(first[:, None], last[:, None])
