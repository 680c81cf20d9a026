"""Oracles of the adversarial lifters: a turn about the vertical, errors by facing and by the better mirror (Kudo)."""

import torch
from torch import Tensor

from models.adversarial.geometry import Normalised
from models.adversarial.losses import facing_sine, kudo_error


def turn_about_y(poses: Tensor, theta: Tensor) -> Tensor:
    """poses: (B, J, 3), theta: (B,) radians -> (B, J, 3): (x cos + z sin, y, z cos - x sin); what the two
    formulas below are held to.
    """
    x, y, z = poses.unbind(-1)
    cos, sin = theta.cos().unsqueeze(-1), theta.sin().unsqueeze(-1)
    return torch.stack((x * cos + z * sin, y, z * cos - x * sin), dim=-1)


def kudo_error_facing(keypoints: Tensor, depth: Tensor, target: Normalised) -> Tensor:
    """`kudo_error` of the pose, mirrored in depth where `facing_sine` is negative -> (B,): an older published form,
    kept for comparison.
    """
    facing = torch.where(facing_sine(keypoints, depth) < 0, -1, 1).unsqueeze(-1)
    return kudo_error(keypoints, facing * depth, target)


def kudo_error_best(keypoints: Tensor, depth: Tensor, target: Normalised) -> Tensor:
    """`kudo_error` of the better of the pose and its mirror image in depth -> (B,); kept for comparison."""
    return torch.minimum(kudo_error(keypoints, depth, target), kudo_error(keypoints, -depth, target))
