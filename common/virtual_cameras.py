"""Virtual cameras: people of a world frame seen by cameras drawn at random, on the device, one for each pose or window.

A camera looks at the person from a random azimuth, pitch and distance, rolled a little, through a lens of random focal
length, and the person stands anywhere in its picture. Frames and units as in `common.camera`; keypoints come out
screen-normalised.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from common.camera import project


class CameraRanges(NamedTuple):
    """The ranges that cameras are drawn from, uniformly: (lowest, highest).

    azimuth: degrees around the person. pitch: degrees by which the camera looks down (negative: up). roll: degrees.
    distance: metres to the hip. focal: focal length over the picture's width (Human3.6M 1.15, a phone 0.7 to 1.5).
    aspect: height of the picture over its width. place: how far the hip may be from the middle of the picture, as a
    share of the half picture.
    """

    azimuth: tuple[float, float] = (-180.0, 180.0)
    pitch: tuple[float, float] = (-8.0, 37.0)
    roll: tuple[float, float] = (-6.0, 6.0)
    distance: tuple[float, float] = (2.2, 8.2)
    focal: tuple[float, float] = (0.6, 2.0)
    aspect: tuple[float, float] = (0.5, 2.0)
    place: tuple[float, float] = (-0.7, 0.7)


class Views(NamedTuple):
    """People in the pictures of `look`.

    keypoints: (B, ..., J, 2), screen-normalised: x in [-1, 1] over the width, y with the same scale. poses:
    (B, ..., J, 3), metres, camera frame, absolute. intrinsics: (B, 9), screen units. rotation: (B, 3, 3), camera =
    rotation @ world, of directions.
    """

    keypoints: Tensor
    poses: Tensor
    intrinsics: Tensor
    rotation: Tensor


def draw(count: int, generator: torch.Generator | None = None, device: torch.device | str = "cpu") -> Tensor:
    """The random numbers of `count` cameras: (count, 8), in [0, 1). What `look` makes of them depends on its ranges."""
    return torch.rand(count, 8, generator=generator, device=device)


def look(poses: Tensor, numbers: Tensor, ranges: CameraRanges, root: int = 0) -> Views:
    """See each of B poses, or windows of poses, with a camera of its own.

    Args:
        poses: (B, J, 3) or (B, F, J, 3), metres, world frame, z up. A window is seen by one camera, which is placed by
            the root of its middle frame.
        numbers: (B, 8) of `draw`.
    """
    azimuth, pitch, roll, distance, focal, aspect, across, down = (
        low + (high - low) * number
        for (low, high), number in zip((*ranges, ranges.place), numbers.unbind(-1), strict=True)
    )
    rotation = looking_at(*(math.pi / 180 * angle for angle in (azimuth, pitch, roll)))
    slope = torch.stack((across / (2 * focal), down * aspect / (2 * focal), torch.ones_like(focal)), -1)
    place = slope * (distance / torch.linalg.vector_norm(slope, dim=-1))[:, None]
    windowed = poses if poses.dim() == 4 else poses.unsqueeze(1)
    middle = windowed[:, windowed.shape[1] // 2, root]
    turned = torch.einsum("bij,bfkj->bfki", rotation, windowed - middle[:, None, None]) + place[:, None, None]
    zero = torch.zeros_like(focal)
    intrinsics = torch.stack((2 * focal, 2 * focal, *(zero,) * 7), -1)
    turned = turned.view_as(poses)
    lens = intrinsics.view(-1, *(1,) * (poses.dim() - 2), 9)
    return Views(project(turned, lens, clamped=False), turned, intrinsics, rotation)


def looking_at(azimuth: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """Rotations (B, 3, 3), camera = rotation @ world, of cameras that look at the origin of a world with z up.

    azimuth, pitch, roll: (B,), radians; the camera stands at (cos azimuth cos pitch, sin azimuth cos pitch, sin pitch).
    """
    sin_a, cos_a, sin_p, cos_p = azimuth.sin(), azimuth.cos(), pitch.sin(), pitch.cos()
    zero = torch.zeros_like(azimuth)
    forward = -torch.stack((cos_a * cos_p, sin_a * cos_p, sin_p), -1)
    right = torch.stack((-sin_a, cos_a, zero), -1)
    below = torch.linalg.cross(forward, right)
    sin_r, cos_r = roll.sin()[:, None], roll.cos()[:, None]
    return torch.stack((cos_r * right + sin_r * below, cos_r * below - sin_r * right, forward), 1)
