"""Losses of the adversarial lifters, as functions of tensors; nothing here waits for the device.

Camera axes (x right, y down, z forward), 17 joints of Human3.6M, joint 0 (the hip) at the origin. Kudo et al.,
"Unsupervised Adversarial Learning of 3D Human Pose from 2D Joint Locations" (2018): an orthographic camera, one turn
about y, a discriminator. Chen et al., "Unsupervised 3D Pose Estimation with Geometric Self-Supervision" (CVPR 2019): a
perspective camera, and a cycle lift, turn, project, lift, turn back, project that must come back to where it began.

Of Chen et al., the camera distance c = 10 with its depths max(1, c + d), the ranges of azimuth and elevation, what
L_2D and L_3D compare, and what both discriminators see are taken from the paper. The weights 10 of L_2D and 0.001 of
L_3D are, too, as far as is known here. Ours, for want of a word in it: the norms are summed over joints and averaged
over poses, and the adversarial losses are Kudo's softplus on logits (the same optimum as the paper's logarithms, and a
gradient for the generator where the discriminator is sure).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from models.adversarial.geometry import CHEN_DISTANCE, Normalised, chen_lift, chen_project
from models.layers import rotate

THORAX, NECK, LEFT_SHOULDER, RIGHT_SHOULDER = 8, 9, 11, 14
CHEN_WEIGHT_2D, CHEN_WEIGHT_3D = 10.0, 0.001


# ------------------------------------------------------------ adversarial


def generator_loss(fake: Tensor) -> Tensor:
    """mean softplus(-D(fake)); logits of any shape -> scalar."""
    return F.softplus(-fake).mean()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """mean softplus(-D(real)) + mean softplus(D(fake)); logits of any shape -> scalar."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def accuracy(real: Tensor, fake: Tensor) -> Tensor:
    """Mean of the shares of real and of made-up poses that the logits tell right -> scalar without gradient."""
    return (accuracy_real(real) + accuracy_fake(fake)) / 2


def accuracy_real(logits: Tensor) -> Tensor:
    """Share of logits at or above 0, scalar."""
    return (logits.detach() >= 0).float().mean()


def accuracy_fake(logits: Tensor) -> Tensor:
    """Share of logits below 0, scalar."""
    return (logits.detach() < 0).float().mean()


# ------------------------------------------------------------ Kudo


def facing_sine(keypoints: Tensor, depth: Tensor) -> Tensor:
    """Sine, seen from above, between the nose (from the thorax) and the shoulders (left to right); it is positive where
    the face is before the body. keypoints: (..., 17, 2), depth: (..., 17) -> (...); 0 where either has no length.

    The thorax (8) and the neck/nose (9): the published code calls the former the neck.
    """
    x = keypoints[..., 0]
    z0, x0 = depth[..., NECK] - depth[..., THORAX], x[..., NECK] - x[..., THORAX]
    z1, x1 = depth[..., RIGHT_SHOULDER] - depth[..., LEFT_SHOULDER], x[..., RIGHT_SHOULDER] - x[..., LEFT_SHOULDER]
    squares = (z0 * z0 + x0 * x0) * (z1 * z1 + x1 * x1)
    length = torch.where(squares > 0, squares, torch.ones_like(squares)).sqrt()
    return (z0 * x1 - z1 * x0) / length


def heuristic_loss(keypoints: Tensor, depth: Tensor) -> Tensor:
    """How far faces look out of the back: mean relu(-`facing_sine`), scalar. Kudo weighs it with 1."""
    return F.relu(-facing_sine(keypoints, depth)).mean()


def depth_loss(depth: Tensor, poses: Tensor) -> Tensor:
    """Supervised: mean squared error of depths (B, J) to those of poses (B, J, 3), both normalised -> scalar."""
    return F.mse_loss(depth, poses[..., 2])


def kudo_error(keypoints: Tensor, depth: Tensor, target: Normalised) -> Tensor:
    """Published error: mean distance of (x, y, depth) to the pose, times its scale.

    keypoints: (B, J, 2), of `normalise_2d`; depth: (B, J) -> (B,), in the unit of the scale. Where the keypoints are a
    perspective camera's, their difference to the orthographic x and y counts, as published.
    """
    predicted = torch.cat((keypoints, depth.unsqueeze(-1)), dim=-1)
    return torch.linalg.vector_norm(predicted - target.pose, dim=-1).mean(dim=-1) * target.scale


# ------------------------------------------------------------ Chen


class ChenCycle(NamedTuple):
    """3D: (B, J, 3), root-relative, in units in which a head is 1 from its root on average; 2D: (B, J, 2), on the image
    plane at 1 before a camera that is `distance` from the root.

    pose: lifted; rotated: turned, `projected` what the camera sees of it; relifted: from `projected` alone;
    back: that, turned back; reprojected: what the camera sees of that.
    """

    pose: Tensor
    rotated: Tensor
    projected: Tensor
    relifted: Tensor
    back: Tensor
    reprojected: Tensor


def chen_cycle(
    lifter: Callable[[Tensor], Tensor], keypoints: Tensor, rotations: Tensor, distance: float = CHEN_DISTANCE
) -> ChenCycle:
    """keypoints: (B, J, 2), joint 0 at the origin, scaled by `head_factor`; rotations: (B, 3, 3), `chen_rotations`.

    lifter: (B, J, 2) -> depths (B, J); called twice. A lifter that is right about both poses closes the cycle.
    """
    pose = chen_lift(keypoints, lifter(keypoints), distance)
    rotated = rotate(pose, rotations)
    projected = chen_project(rotated, distance)
    relifted = chen_lift(projected, lifter(projected), distance)
    back = rotate(relifted, rotations.mT)
    return ChenCycle(pose, rotated, projected, relifted, back, chen_project(back, distance))


def consistency_2d(keypoints: Tensor, cycle: ChenCycle) -> Tensor:
    """L_2D: squared distance from the keypoints to where the cycle ends, summed over joints -> mean, scalar."""
    return _squared_distance(keypoints, cycle.reprojected)


def consistency_3d(cycle: ChenCycle) -> Tensor:
    """L_3D: squared distance of the turned pose to what is lifted from its projection, summed over joints -> mean,
    scalar. Gradients reach the lifter through both.
    """
    return _squared_distance(cycle.rotated, cycle.relifted)


def _squared_distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().flatten(1).sum(dim=1).mean()


def frame_difference(keypoints: Tensor) -> Tensor:
    """Two consecutive frames (2 B, J, 2), in turn, both projected after the same turn -> second minus first (B, J, 2).

    What the temporal discriminator sees, of real poses and of `ChenCycle.projected`.
    """
    first, second = keypoints.unflatten(0, (-1, 2)).unbind(1)
    return second - first
