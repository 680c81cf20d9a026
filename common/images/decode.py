"""From heat maps and depth maps to joints: places on the map, 3D poses, the mean with a mirrored image.

Maps: (..., J, H, W) on any device; pixels are those of the map, (x, y) = (column, row), pixel centres at integers.
Joints are MPII's 16 unless said otherwise. Whole batches, nothing waits for the device. Published behaviour: the code
of Zhou et al., "Towards 3D Human Pose Estimation in the Wild: a Weakly-supervised Approach", ICCV 2017, as later
revised; that of 2017 is in `tests.golden.heatmap_2017`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from common.errors import InputError
from common.images.heatmap import SIGMA, mirror_maps
from common.skeleton import MPII_16, Skeleton

REFINEMENTS = ("published", "integer", "quarter", "taylor")
ROOT = MPII_16.index("hip")

# For each joint of one layout its source in the other. As published the upper neck of MPII stands for Human3.6M's
# thorax and, on the way back, its spine for MPII's thorax; `skeleton.convert` goes by the joints' names instead.
H36M_TO_MPII = (3, 2, 1, 4, 5, 6, 0, 7, 8, 10, 16, 15, 14, 11, 12, 13)
MPII_TO_H36M = (6, 2, 1, 0, 3, 4, 5, 7, 8, 9, 9, 13, 14, 15, 12, 11, 10)

_RADIUS = 5  # of the smoothing before the Taylor step; its sigma is the targets', as DARK has it


def decode(maps: Tensor, refine: str = "published") -> tuple[Tensor, Tensor]:
    """Place and height of each map's maximum; of equal ones, the first. -> (..., J, 2) pixels, (..., J), float32.

    refine:
        published: y = row + column / W, up to a pixel too low: an index divided without rounding. Every published
            number comes of it; where pixels are read (`decode_3d`) the row is rounded down again.
        integer: the pixel itself.
        quarter: a quarter of a pixel towards the larger neighbour along each axis (Newell et al., ECCV 2016).
        taylor: the maximum of the logarithm's second-order expansion, of the smoothed map (Zhang et al.,
            "Distribution-Aware Coordinate Representation for Human Pose Estimation", CVPR 2020).
    """
    if refine not in REFINEMENTS:
        raise InputError(f"refinement {refine!r}: expected one of {', '.join(REFINEMENTS)}")
    maps = maps.float()
    width = maps.shape[-1]
    flat = maps.flatten(-2)
    index = flat.argmax(-1)
    height = flat.gather(-1, index.unsqueeze(-1)).squeeze(-1)
    column, row = index % width, index // width
    pixels = torch.stack((column, row), -1).float()
    if refine == "published":
        pixels[..., 1] += column / width
    elif refine != "integer":
        offset = _quarter(maps, column, row) if refine == "quarter" else _taylor(maps, column, row)
        inside = (column > 0) & (column < width - 1) & (row > 0) & (row < maps.shape[-2] - 1)
        pixels += torch.where(inside.unsqueeze(-1), offset, 0)
    return pixels, height


def pixel_shift(refine: str) -> float:
    """What is added to points found between pixels: targets are pixels rounded down, so that they are half a pixel too
    low on average. Whole pixels are mapped as they are, as published.
    """
    return 0.0 if refine in ("published", "integer") else 0.5


def _quarter(maps: Tensor, column: Tensor, row: Tensor) -> Tensor:
    patch = _patch(maps, column, row, 1)
    return 0.25 * torch.stack((patch[..., 1, 2] - patch[..., 1, 0], patch[..., 2, 1] - patch[..., 0, 1]), -1).sign()


def _taylor(maps: Tensor, column: Tensor, row: Tensor) -> Tensor:
    """Newton's step on the logarithm of the smoothed map, at most a pixel; none where that is no maximum."""
    kernel = _smoothing(maps.device)
    near = kernel @ _patch(maps, column, row, _RADIUS + 1) @ kernel.T  # (..., J, 3, 3)
    near = near.clamp_min(1e-10).log()
    dx, dy = (near[..., 1, 2] - near[..., 1, 0]) / 2, (near[..., 2, 1] - near[..., 0, 1]) / 2
    dxx = near[..., 1, 2] - 2 * near[..., 1, 1] + near[..., 1, 0]
    dyy = near[..., 2, 1] - 2 * near[..., 1, 1] + near[..., 0, 1]
    dxy = (near[..., 2, 2] - near[..., 2, 0] - near[..., 0, 2] + near[..., 0, 0]) / 4
    determinant = dxx * dyy - dxy.square()
    step = torch.stack((dxy * dy - dyy * dx, dxy * dx - dxx * dy), -1)
    peak = (determinant > 1e-6) & (dxx < 0)
    step = step / torch.where(peak, determinant, 1).unsqueeze(-1)
    return torch.where(peak.unsqueeze(-1), step, 0).clamp(-1, 1)


def _smoothing(device: torch.device) -> Tensor:
    """(3, 2 r + 3): Gaussians of radius r around the places -1, 0 and 1 of a patch."""
    place = torch.arange(-_RADIUS - 1, _RADIUS + 2, device=device)
    distance = place - place[_RADIUS : _RADIUS + 3, None]
    kernel = torch.exp(distance.square() / (-2 * SIGMA**2)) * (distance.abs() <= _RADIUS)
    return kernel / kernel.sum(-1, keepdim=True)


def _patch(maps: Tensor, column: Tensor, row: Tensor, radius: int) -> Tensor:
    """(..., J, 2 r + 1, 2 r + 1) around a pixel; beyond the border its last values go on."""
    offset = torch.arange(-radius, radius + 1, device=maps.device)
    height, width = maps.shape[-2:]
    rows = (row.unsqueeze(-1) + offset).clamp(0, height - 1)
    columns = (column.unsqueeze(-1) + offset).clamp(0, width - 1)
    index = rows.unsqueeze(-1) * width + columns.unsqueeze(-2)
    return maps.flatten(-2).gather(-1, index.flatten(-2)).unflatten(-1, index.shape[-2:])


def decode_3d(maps: Tensor, depth: Tensor, refine: str = "published", root: int = ROOT) -> Tensor:
    """Pose (..., J, 3) in fractions of the crop's longer side: x right, y down, z away from the camera; `root` at 0.

    maps: (..., J, H, W); depth: maps (..., C, H, W), read at each joint's pixel, the last for the joints that have none
    of their own, or the joints' depths (..., J). "published" has whole pixels here.
    """
    whole, _ = decode(maps, "integer")
    pixels = whole if refine in ("published", "integer") else decode(maps, refine)[0]
    height, width = maps.shape[-2:]
    joints = maps.shape[-3]
    if depth.dim() == maps.dim():
        channel = torch.arange(joints, device=maps.device).clamp_max(depth.shape[-3] - 1)
        index = (width * whole[..., 1] + whole[..., 0]).long()
        depth = depth.flatten(-2)[..., channel, :].gather(-1, index.unsqueeze(-1)).squeeze(-1)
    elif depth.shape[-1] != joints:
        raise InputError(f"depths of shape {tuple(depth.shape)} for {joints} joints: expected one for each, or maps")
    pose = torch.cat((pixels / max(height, width), depth.float().unsqueeze(-1)), -1)
    return pose - pose[..., root : root + 1, :]


# ------------------------------------------------------------ the mirrored image


def flip_merge(
    output: Mapping[str, Any], mirrored: Mapping[str, Any], skeleton: Skeleton = MPII_16
) -> dict[str, Tensor]:
    """Mean of what a network says of a batch and of its mirror images: heat maps "hm", and "depth" where it is there.

    output, mirrored: of the same network, for images and for them mirrored; depths are maps (B, J, H, W) or (B, J). Of
    whole batches (published: of a batch's first).
    """

    def mean(name: str) -> Tensor:
        there, back = output[name].float(), mirrored[name].float()
        back = mirror_maps(back, skeleton) if back.dim() == 4 else back[:, list(skeleton.mirror)]
        return (there + back) / 2

    return {name: mean(name) for name in ("hm", "depth") if name in output}


# ------------------------------------------------------------ joint orders


def mpii_to_h36m(poses: Tensor) -> Tensor:
    """(..., 16, D), MPII -> (..., 17, D), Human3.6M; spine and nose are means of their neighbours, as published."""
    joints = list(poses[..., list(MPII_TO_H36M), :].unbind(-2))
    joints[7] = (joints[0] + joints[8]) / 2
    joints[9] = (joints[8] + joints[10]) / 2
    return torch.stack(joints, -2)
