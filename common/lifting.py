"""What lifters of 2D poses need around them: mirroring, flip averaging, and windows of frames for temporal ones."""

from collections.abc import Callable

import torch
from torch import Tensor

from common.skeleton import Skeleton


def mirror(points: Tensor, skeleton: Skeleton) -> Tensor:
    """points: (..., J, 2 or 3), x to the right and 0 in the middle -> the mirrored body: x negated, sides exchanged."""
    x, rest = points.split([1, points.shape[-1] - 1], dim=-1)
    flipped = torch.cat([-x, rest], dim=-1).unbind(-2)
    return torch.stack([flipped[j] for j in skeleton.mirror], dim=-2)  # no index tensor: nothing to copy to a device


def flip_average(model: Callable[[Tensor], Tensor], keypoints: Tensor, skeleton: Skeleton) -> Tensor:
    """Test-time flip augmentation: the mean of the pose and of the mirrored input's pose, mirrored back.

    keypoints: (B, J, 2) or (B, F, J, 2), as `model` takes them, screen-normalised -> (B, J, 3), as `model` gives them.
    """
    return (model(keypoints) + mirror(model(mirror(keypoints, skeleton)), skeleton)) / 2


def windows(index: Tensor, first: Tensor, last: Tensor, receptive_field: int, causal: bool = False) -> Tensor:
    """The rows of the frames around (causal: up to) each frame; past an end of its sequence, the frame at that end.

    index, first, last: (B,) int64, rows of a flat set: the frames asked for, and the first and last row of the sequence
    that each is in; receptive_field: F, odd -> (B, F) rows, so that `keypoints[windows(...)]` is (B, F, J, 2).
    """
    reach = receptive_field - 1 if causal else receptive_field // 2
    offsets = torch.arange(receptive_field, device=index.device) - reach
    return (index[:, None] + offsets).clamp(first[:, None], last[:, None])
