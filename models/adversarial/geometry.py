"""Geometry of the adversarial lifters (Kudo et al. 2018; Chen et al., CVPR 2019): poses at one size, lifting and
projecting, random turns, and what a trained lifter makes of keypoints in pixels.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from common.camera import perspective
from models.layers import centre

HEAD = 10
CHEN_AZIMUTH, CHEN_ELEVATION = math.pi, math.pi / 9  # largest angles
CHEN_DISTANCE = 10.0  # camera to root, where the head is 1 from the root on average
CHEN_NEAREST = 1.0  # no joint is nearer to the camera


class Normalised(NamedTuple):
    """pose: (..., 17, 3), hip at the origin, in units of `scale`: (...), the unit of the input."""

    pose: Tensor
    scale: Tensor


def normalise_2d(keypoints: Tensor) -> Tensor:
    """(..., 17, 2), pixels, say -> hip at the origin, the other joints 1 from it on average (Kudo)."""
    keypoints = centre(keypoints)
    return keypoints / _mean_radius(keypoints)[..., None, None]


def normalise_3d(poses: Tensor) -> Normalised:
    """(..., 17, 3), millimetres, say -> the same, by the distances in x and y alone: an orthographic camera's (Kudo).

    x and y are then those of `normalise_2d`.
    """
    poses = centre(poses)
    scale = _mean_radius(poses[..., :2])
    return Normalised(poses / scale[..., None, None], scale)


def _mean_radius(centred: Tensor) -> Tensor:
    return torch.linalg.vector_norm(centred[..., 1:, :], dim=-1).mean(dim=-1)


def head_factor(keypoints: Tensor, distance: float = CHEN_DISTANCE) -> Tensor:
    """What a set of 2D poses (N, 17, 2), hip at the origin, is multiplied by -> scalar.

    After it the head is 1 / distance from the hip on average over the set (Chen). Where people differ in size on the
    image, bring each to one size first (`normalise_2d`): a single pose's head may lie on its hip.
    """
    return 1 / (distance * torch.linalg.vector_norm(keypoints[:, HEAD], dim=-1).mean())


def kudo_projection(keypoints: Tensor, depth: Tensor, theta: Tensor) -> Tensor:
    """What an orthographic camera sees after a turn about y: (x cos + z sin, y).

    keypoints: (B, J, 2), depth: (B, J) in their unit, theta: (B,) radians, U(0, 2 pi) as published -> (B, J, 2).
    """
    x, y = keypoints.unbind(-1)
    return torch.stack((x * theta.cos().unsqueeze(-1) + depth * theta.sin().unsqueeze(-1), y), dim=-1)


def chen_lift(keypoints: Tensor, depth: Tensor, distance: float = CHEN_DISTANCE) -> Tensor:
    """Keypoints (..., J, 2), joint 0 at the origin, scaled by `head_factor` -> pose (..., J, 3), root-relative.

    depth: (..., J), away from the camera; its difference to joint 0's counts, and no joint comes nearer to the camera
    than 1: Z = max(1, distance + d), X = x Z, Y = y Z.
    """
    away = (depth - depth[..., :1] + distance).clamp_min(CHEN_NEAREST).unsqueeze(-1)
    return torch.cat((keypoints * away, away - distance), dim=-1)


def chen_project(poses: Tensor, distance: float = CHEN_DISTANCE) -> Tensor:
    """Root-relative (..., J, 3) -> (..., J, 2): (X, Y) / max(1, Z), the root at `distance`. Undoes `chen_lift`."""
    return perspective(poses, distance, CHEN_NEAREST)


def chen_rotations(
    count: int,
    azimuth: float = CHEN_AZIMUTH,
    elevation: float = CHEN_ELEVATION,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Random turns (count, 3, 3) for `points @ R`: by U(-azimuth, azimuth) about y, then, seen from the camera, by
    U(-elevation, elevation) about x; radians.
    """
    draws = 2 * torch.rand(2, count, generator=generator, device=device) - 1
    return turn_matrices(azimuth * draws[0], elevation * draws[1])


def turn_matrices(azimuth: Tensor, elevation: Tensor) -> Tensor:
    """(B,), (B,), radians -> (B, 3, 3) for `points @ R`: `turn_about_y`, then (x, y cos + z sin, z cos - y sin)."""
    cos, sin, up, down = azimuth.cos(), azimuth.sin(), elevation.cos(), elevation.sin()
    zero = torch.zeros_like(cos)
    rows = (cos, -sin * down, -sin * up, zero, up, -down, sin, cos * down, cos * up)
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def for_frames(rotations: Tensor, frames: int = 2) -> Tensor:
    """(B, 3, 3) -> (B frames, 3, 3), each for all frames of its sequence: for (B, frames, J, 2), flattened."""
    return rotations.unsqueeze(1).expand(-1, frames, -1, -1).flatten(0, 1)


class Predicted(NamedTuple):
    """pose, mirror: (B, 17, 3), camera axes, in the lifter's unit; the mirror has the opposite depths."""

    pose: Tensor
    mirror: Tensor


def lifter_input(pixels: Tensor, factor: float | Tensor = 1.0) -> Tensor:
    """What the lifter sees of (B, 17, 2) pixels: hip at the origin, every pose at one size, times `factor`.

    factor: 1 for Kudo; for Chen that of `head_factor` on the training set.
    """
    return normalise_2d(pixels) * factor


def predictor(lifter: Callable[[Tensor], Tensor], method: str, factor: float = 1.0) -> Callable[[Tensor], Predicted]:
    """-> a function, (B, 17, 2) pixels -> `Predicted`. method: "chen" (perspective) or "kudo" (orthographic)."""

    def predict(pixels: Tensor) -> Predicted:
        keypoints = lifter_input(pixels, factor)
        depth = lifter(keypoints).to(keypoints.dtype)
        if method == "chen":
            return Predicted(chen_lift(keypoints, depth), chen_lift(keypoints, -depth))
        return Predicted(*(torch.cat((keypoints, z.unsqueeze(-1)), -1) for z in (depth, -depth)))

    return predict
