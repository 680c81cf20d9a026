"""Heat maps: crop windows as affine maps, Gaussian targets, indices into depth maps, mirroring.

Pixels: x to the right, y down, the centre of the top-left pixel is (0, 0). Points are row vectors (..., 2) of (x, y);
sizes are (height, width). An affine map is a matrix (..., 2, 3) that is applied to (x, y, 1).

Source: Zhou et al., "Towards 3D Human Pose Estimation in the Wild: a Weakly-supervised Approach", ICCV 2017, and the
code published with it, whose precision and rounding are kept.
"""

import numpy as np
import torch
from torch import Tensor

from common.skeleton import Skeleton, layout

Size = tuple[int, int]  # height, width
SIGMA = 2.0  # heat-map pixels
_REACH = 3  # of a Gaussian, in sigmas


# ------------------------------------------------------------ crop windows


def fit_aspect(width: float, height: float, aspect: float, fit_short_side: bool = False) -> tuple[float, float]:
    """A window (width, height) changed to `aspect` = width / height: grown on one side, or cut if `fit_short_side`."""
    if width == aspect * height:
        return width, height
    wide = width > aspect * height
    if wide != fit_short_side:
        return width, width / aspect
    return aspect * height, height


def crop_affine(
    center: np.ndarray,
    window_width: np.ndarray | float,
    rotation: np.ndarray | float,
    size: Size,
    shift: tuple[float, float] = (0.0, 0.0),
    inverse: bool = False,
) -> np.ndarray:
    """Map from image pixels to those of a crop of `size`, (..., 2, 3) float64.

    Args:
        center: (..., 2), middle of the window, image pixels.
        window_width: (...), image pixels. The window's height follows from `size`, as published.
        rotation: (...), degrees, of the window: the picture in it turns the other way.
        shift: of the window, in window widths.
        inverse: give the map from the crop to the image instead.

    The map is the one through three pairs of points, which are rounded to float32 first (OpenCV's interface); the
    rounding is part of what trained networks have seen.
    """
    center, width, angle = np.asarray(center), np.asarray(window_width, float), np.radians(rotation)
    height, width_out = size
    up = np.stack(np.broadcast_arrays(np.sin(angle) * width / 2, -np.cos(angle) * width / 2), -1)
    middle = center + width[..., None] * np.asarray(shift, float)
    source = _triangle(middle, middle + up)
    half = np.array([width_out / 2, height / 2])
    target = np.broadcast_to(_triangle(half, half - (0, width_out / 2)), source.shape)
    if inverse:
        source, target = target, source
    corners = np.concatenate((source, np.ones_like(source[..., :1])), -1)
    return np.swapaxes(np.linalg.solve(corners, target), -1, -2)


def _triangle(middle: np.ndarray, top: np.ndarray) -> np.ndarray:
    """The two points and a third at a right angle, (..., 3, 2), rounded to float32 and given as float64."""
    middle, top = middle.astype(np.float32), top.astype(np.float32)
    aside = middle - top
    third = top + np.stack((-aside[..., 1], aside[..., 0]), -1)
    return np.stack((middle, top, third), -2).astype(float)


def transform_points(points: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Points (..., N, 2) through the maps (..., 2, 3), float64."""
    return points @ np.swapaxes(affine[..., :2], -1, -2) + affine[..., None, :, 2]


def to_image(points: np.ndarray, center: np.ndarray, window_width: np.ndarray | float, size: Size) -> np.ndarray:
    """Points (..., N, 2) of heat maps of `size` -> image pixels (..., N, 2), float64, for windows without rotation.

    Published for `preds.mat`. Pixels are mapped as they are: (0, 0) of the map is the window's corner.
    """
    return transform_points(points, crop_affine(center, window_width, 0.0, size, inverse=True))


def mirror_x(affine: np.ndarray, width: int) -> np.ndarray:
    """A map from a crop to a mirrored image of `width` -> the map from that crop to the image as it is."""
    mirrored = affine.copy()
    mirrored[..., 0, :] = -affine[..., 0, :]
    mirrored[..., 0, 2] += width - 1
    return mirrored


def mirror_joints(points: np.ndarray, width: int, skeleton: Skeleton | str) -> np.ndarray:
    """Joints (..., J, 2) of the mirrored image of `width`, left and right swapped."""
    swapped = points[..., list(layout(skeleton).mirror), :]
    swapped[..., 0] = width - 1 - swapped[..., 0]
    return swapped


def mirror_maps(maps: Tensor, skeleton: Skeleton | str) -> Tensor:
    """Maps (..., J, H, W) of a mirrored image -> those of the image: flipped, left and right swapped."""
    return maps.flip(-1)[..., list(layout(skeleton).mirror), :, :]


# ------------------------------------------------------------ targets


def draw_heatmaps(
    points: Tensor, drawn: Tensor, size: Size, sigma: float = SIGMA, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Gaussians of peak 1 at points (..., J, 2) -> (..., J, H, W); all zero where `drawn` (..., J) is False.

    The published target: the peak is at trunc(point + 0.5), and the Gaussian exp(-d^2 / (2 sigma^2)) ends 3 sigma away
    from it in x and in y. A peak outside of the map still adds what reaches in. One product of two small tables, so
    that a batch is drawn on its device for less than it would cost to copy there.
    """
    peak = torch.trunc(points.to(torch.float32) + 0.5)

    def along(axis: int, length: int) -> Tensor:
        distance = torch.arange(length, device=points.device) - peak[..., axis, None]
        return torch.exp(distance.square() / (-2 * sigma * sigma)) * (distance.abs() <= int(_REACH * sigma))

    height, width = size
    rows, columns = along(1, height) * drawn.unsqueeze(-1), along(0, width)
    return rows.to(dtype).unsqueeze(-1) * columns.to(dtype).unsqueeze(-2)


def inside(points: np.ndarray, size: Size) -> np.ndarray:
    """Whether points (..., 2) lie in a map of `size`: (...) bool."""
    height, width = size
    x, y = points[..., 0], points[..., 1]
    return (x >= 0) & (x < width) & (y >= 0) & (y < height)


def depth_index(points: np.ndarray, size: Size) -> np.ndarray:
    """Places of joints (..., J, 2), integer map pixels, in depth maps (H, W, J) laid out flat: (..., J) int64."""
    joints = points.shape[-2]
    pixel = points[..., 1].astype(np.int64) * size[1] + points[..., 0]
    return pixel * joints + np.arange(joints)
