"""`PoseSet`: one split of a data set as flat tensors on one device, read in batches of indices."""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from common.errors import InputError
from common.skeleton import Skeleton

log = logging.getLogger(__name__)

# Human3.6M itself calls these two actions differently from subject to subject; the field's files use the short names.
ACTION_VARIANTS = {"takingphoto": "Photo", "walkingdog": "WalkDog"}
FREE_SHARE = 0.5  # of the free GPU memory that a PoseSet may take


def canonical_action(action: str) -> str:
    """An action's name with Human3.6M's naming variants levelled: "Taking Photo 1" -> "Photo 1"."""
    name, take = re.fullmatch(r"(.*?)( \d+)?", action.strip(), re.DOTALL).groups()
    return ACTION_VARIANTS.get(name.replace(" ", "").lower(), name) + (take or "")


def action_label(action: str) -> str:
    """The action without the number of its take: "Walking 1" -> "Walking"."""
    return re.sub(r" \d+$", "", canonical_action(action))


class Sequence(NamedTuple):
    """One subject, action and view: the items [start, start + length) of a `PoseSet`."""

    subject: str
    action: str  # with the number of the take: "Walking 1"
    view: int
    start: int
    length: int


class Item(NamedTuple):
    """Where one pose comes from; `frame` counts in the source file."""

    subject: str
    action: str
    view: int
    frame: int


@dataclass(frozen=True, eq=False)
class PoseSet:
    """One split as flat tensors: N items, contiguous by sequence, in the order of `sequences` (S of them)."""

    keypoints: Tensor  # (N, J, 2) float32, pixels
    poses: Tensor | None  # (N, J, 3) float32, metres, camera frame, absolute; None where there is no ground truth
    sequence: Tensor  # (N,) int32, index into `sequences`
    frame: Tensor  # (N,) int32, frame number in the source file
    sequences: tuple[Sequence, ...]
    intrinsics: Tensor  # (S, 9) float32: fx fy in pixels, cx cy screen-normalised, k1 k2 k3, p1 p2
    resolution: Tensor  # (S, 2) float32, width and height in pixels
    orientation: Tensor  # (S, 4) float32, quaternion wxyz, camera to world (see common.camera)
    translation: Tensor  # (S, 3) float32, camera position in the world, metres
    skeleton: Skeleton

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return self.keypoints.device

    @property
    def nbytes(self) -> int:
        """Memory of all tensors."""
        return sum(tensor.nbytes for tensor in self._tensors().values())

    @property
    def focal(self) -> Tensor:
        """Focal lengths in pixels of every item's camera: (N, 2)."""
        return self.intrinsics[:, :2].index_select(0, self.sequence)

    @cached_property
    def actions(self) -> tuple[str, ...]:
        """The actions, takes put together, in order of first appearance."""
        return tuple(dict.fromkeys(action_label(seq.action) for seq in self.sequences))

    @property
    def action_of_item(self) -> Tensor:
        """(N,) int64, index into `actions`."""
        labels = [self.actions.index(action_label(seq.action)) for seq in self.sequences]
        return torch.tensor(labels, device=self.device).index_select(0, self.sequence)

    def find(self, subject: str, action: str, view: int) -> slice:
        """The items of one sequence. "Eating" is the take of just that name, or else the first take."""
        action = canonical_action(action)
        takes = [seq for seq in self.sequences if (seq.subject, seq.view) == (subject, view)]
        found = [seq for seq in takes if seq.action == action] or [s for s in takes if action_label(s.action) == action]
        if not found:
            raise InputError(f"no sequence {subject} {action} view {view}; actions: {', '.join(self.actions)}")
        return slice(found[0].start, found[0].start + found[0].length)

    def item(self, index: int) -> Item:
        """Subject, action, view and frame of one item."""
        seq = self.sequences[int(self.sequence[index])]
        return Item(seq.subject, seq.action, seq.view, int(self.frame[index]))

    def summary(self) -> str:
        """One line: "S9,S11: 15 actions, 4 views, 543,344 poses"."""
        subjects = ",".join(dict.fromkeys(seq.subject for seq in self.sequences))
        views = len({seq.view for seq in self.sequences})
        return f"{subjects}: {len(self.actions)} actions, {views} views, {len(self):,} poses"

    def to(self, device: str | torch.device) -> "PoseSet":
        """The set on a device. Where a GPU has too little free memory, it stays on the CPU in pinned memory."""
        device = torch.device(device)
        if device.type == "cuda" and self.device.type == "cpu":
            free, _ = torch.cuda.mem_get_info(device)
            if self.nbytes > FREE_SHARE * free:
                log.warning("%d MB of poses stay on the CPU: %d MB free on %s", self.nbytes / 1e6, free / 1e6, device)
                return self._map(Tensor.pin_memory)
        return self._map(lambda tensor: tensor.to(device))

    def _tensors(self) -> dict[str, Tensor]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def _map(self, change: Callable[[Tensor], Tensor]) -> "PoseSet":
        return replace(self, **{name: change(tensor) for name, tensor in self._tensors().items()})
