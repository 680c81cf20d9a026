"""What lifters of 2D poses need around them: mirroring, flip averaging, and windows of frames for temporal ones."""

from collections.abc import Callable

import torch
from torch import Tensor

from common.pose_set import PoseSet
from common.skeleton import Skeleton


def mirror(points: Tensor, skeleton: Skeleton) -> Tensor:
    """points: (..., J, 2 or 3), x to the right and 0 in the middle -> the mirrored body: x negated, sides exchanged."""
    x, rest = points.split([1, points.shape[-1] - 1], dim=-1)
    flipped = torch.cat([-x, rest], dim=-1).unbind(-2)
    return torch.stack([flipped[j] for j in skeleton.mirror], dim=-2)  # no index tensor: nothing to copy to a device


def flip_average(model: Callable[[Tensor], Tensor], keypoints: Tensor, skeleton: Skeleton) -> Tensor:
    """Test-time flip augmentation: the mean of the pose and of the mirrored input's pose, mirrored back.

    keypoints: (B, J, 2) or what else `model` takes with joints second to last, screen-normalised -> `model`'s (..., J, 3).
    """
    return (model(keypoints) + mirror(model(mirror(keypoints, skeleton)), skeleton)) / 2


def windows(index: Tensor, first: Tensor, last: Tensor, receptive_field: int, causal: bool = False) -> Tensor:
    """The rows of the frames around (causal: up to) each frame, edge frames replicated.

    index, first, last: (B,) int64, rows of a flat set: the frames asked for, and the first and last row of the sequence
    that each is in -> (B, receptive_field) rows.
    """
    reach = receptive_field - 1 if causal else receptive_field // 2
    offsets = torch.arange(receptive_field, device=index.device) - reach
    return (index[:, None] + offsets).clamp(first[:, None], last[:, None])


def sequence_bounds(pose_set: PoseSet) -> tuple[Tensor, Tensor]:
    """-> (first (N,), last (N,)): the first and the last item of every item's sequence, int64, on the set's device."""
    starts = torch.tensor([seq.start for seq in pose_set.sequences], device=pose_set.device)
    ends = torch.tensor([seq.start + seq.length - 1 for seq in pose_set.sequences], device=pose_set.device)
    return starts.index_select(0, pose_set.sequence), ends.index_select(0, pose_set.sequence)


def windows(index: Tensor, first: Tensor, last: Tensor, receptive_field: int, causal: bool = False) -> Tensor:
    """The frames around each item, from one sequence: where it ends, its first or last frame is repeated.

    index, first, last: (B,) item, and first and last item of its sequence (see `sequence_bounds`); receptive_field: F,
    odd -> (B, F) items, so that `keypoints[windows(...)]` is (B, F, J, 2). The item is in the middle of its window,
    causal at the end.
    """
    before = receptive_field - 1 if causal else receptive_field // 2
    offsets = torch.arange(-before, receptive_field - before, device=index.device)
    return torch.minimum(torch.maximum(index[:, None] + offsets, first[:, None]), last[:, None])
