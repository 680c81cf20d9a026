"""Decoding and MPJPE as in the first code of Zhou et al., ICCV 2017 (branches `hg3d` and `2D`).

Its maps are 64 x 64, its joints MPII's 16. For comparison with its numbers; `common.images.decode` and
`common.images.scores` are what training and testing use.
"""

import torch
from torch import Tensor

from common.images.decode import ROOT, decode
from common.metrics import mpjpe
from models.hourglass.losses import group_variance
from models.layers import full_precision

BONE_LENGTH_SUM = 4296.99233013  # millimetres
EDGES = (
    (0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5), (10, 11), (11, 12), (12, 8), (8, 13), (13, 14), (14, 15), (6, 8),
    (8, 9),
)  # fmt: skip


def decode_refined(maps: Tensor) -> Tensor:
    """(..., J, H, W) -> (..., J, 2) pixels + 0.5, with a quarter of a pixel towards the larger neighbour.

    As published the neighbours are those of the transposed map (and of equal ones the latter wins), a slip that the
    published numbers hold.
    """
    pixels, _ = decode(maps, "integer")
    column, row = pixels.long().unbind(-1)
    height, width = maps.shape[-2:]
    inside = (column > 0) & (column < width - 1) & (row > 0) & (row < height - 1)

    def at(across: int, down: int) -> Tensor:  # row and column the other way round
        index = (column + across).clamp(0, height - 1) * width + (row + down).clamp(0, width - 1)
        return maps.flatten(-2).gather(-1, index.unsqueeze(-1)).squeeze(-1)

    right, below = at(1, 0) >= at(-1, 0), at(0, 1) >= at(0, -1)
    step = torch.stack((right, below), -1).to(pixels.dtype) / 2 - 0.25
    return pixels + torch.where(inside.unsqueeze(-1), step, 0) + 0.5


def mpjpe_2017(maps: Tensor, depth: Tensor, target: Tensor) -> Tensor:
    """Millimetres, 16 joints, at an average person's size, roots together. (B,), NaN where the target sums to 0.

    maps: (B, 16, 64, 64); depth: (B, 16), fractions of the crop's width (half of the published output); target:
    (B, 16, 3), millimetres.
    """
    pose = torch.cat((decode_refined(maps), maps.shape[-1] * depth.unsqueeze(-1)), -1)
    pose = pose - pose[:, ROOT : ROOT + 1]
    first, second = zip(*EDGES, strict=True)
    lengths = torch.linalg.vector_norm(pose[:, list(first)] - pose[:, list(second)], dim=-1).sum(-1)
    pose = pose * (BONE_LENGTH_SUM / lengths)[:, None, None] + target[:, ROOT : ROOT + 1]
    pose[:, 7] = (pose[:, 6] + pose[:, 8]) / 2
    return torch.where(target.sum((1, 2)) != 0, mpjpe(pose, target), torch.nan)


def image_pixels(pixels: Tensor, centre: Tensor, scale: Tensor, size: int = 64) -> Tensor:
    """Pixels of the map (B, J, 2) to those of the image, truncated to whole ones as published, float64.

    centre: (B, 2), scale: (B,), pixels: the crop's middle and width. The inverse is a numerical one, as published: what
    should be whole can come out one less.
    """
    centre, scale = centre.double(), scale.double()
    matrix = torch.eye(3, dtype=torch.float64, device=pixels.device).repeat(len(pixels), 1, 1)
    matrix[:, 0, 0] = matrix[:, 1, 1] = size / scale
    matrix[:, :2, 2] = size * (0.5 - centre / scale.unsqueeze(-1))
    points = torch.nn.functional.pad(pixels.double(), (0, 1), value=1.0)
    return (points @ torch.linalg.inv(matrix).mT)[..., :2].trunc()


def fusion_loss_2017(depth: Tensor, target: Tensor, weight_3d: float = 0.1, weight_var: float = 0.01) -> Tensor:
    """The criterion of the paper's own code (branch `hg3d`): samples whose xy are all 0 have 3D truth. Kept for
    comparison.

    depth: (B, 16), the published output, -1 to 1 over the crop: twice `StackedHourglass`'s; target: (B, 16, 3): zeros
    and the depth where there is 3D truth, else x, y in pixels of the heat map (64) and visibility. Of the first the
    mean squared error over the joints, of the others the bones' variance (without the 1/2); summed, over B -> scalar.
    The published gradient normalises x and y twice; this is that of the value.
    """
    xy, last = target[..., :2], target[..., 2]
    supervised = xy.sum((1, 2)).abs() < 1e-6
    squared = (full_precision(depth) - last).square().mean(1)
    variance = 2 * group_variance(depth, 2 * xy / 64 - 1, last)
    return torch.where(supervised, weight_3d * squared, weight_var * variance).sum() / len(depth)
