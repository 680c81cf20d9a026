"""Geometry and losses of the adversarial lifters, as functions of tensors; nothing here waits for the device.

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

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from common.camera import perspective
from models.layers import centre, rotate

THORAX, NECK, HEAD, LEFT_SHOULDER, RIGHT_SHOULDER = 8, 9, 10, 11, 14
CHEN_DISTANCE = 10.0  # camera to root, where the head is 1 from the root on average
CHEN_NEAREST = 1.0  # no joint is nearer to the camera
CHEN_AZIMUTH, CHEN_ELEVATION = math.pi, math.pi / 9  # largest angles
CHEN_WEIGHT_2D, CHEN_WEIGHT_3D = 10.0, 0.001


# ------------------------------------------------------------ normalisation


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


# ------------------------------------------------------------ the accuracy cap


def generator_may_step(accuracy: Tensor, cap: float = 0.9) -> Tensor:
    """Whether the discriminator is good enough to learn from: accuracy >= 1 - cap, scalar bool."""
    return accuracy >= 1 - cap


def discriminator_may_step(accuracy: Tensor, cap: float = 0.9) -> Tensor:
    """Whether the discriminator is not too good already: accuracy <= cap (the reproduction: < cap), scalar bool."""
    return accuracy <= cap


@torch.no_grad()
def masked_step(optimizer: torch.optim.Optimizer, allowed: Tensor) -> None:
    """`optimizer.step()` where `allowed`, a scalar bool on the device, and no step at all where not, without a look.

    A step left out leaves parameters and state as they were, to the bit, whatever the gradients (NaN too); an optimiser
    that has not stepped before gets the state that it would begin with. For Adam and kin, whose state begins with zeros
    (not SGD with momentum, whose first step differs). Cheapest for an optimiser with `fused=True`.
    """
    if all(group.get("fused") for group in optimizer.param_groups):
        # fused optimisers take the flag by which torch.amp.GradScaler leaves out a step, and read it in their kernel
        optimizer.found_inf = (~allowed).float()
        try:
            optimizer.step()
        finally:
            del optimizer.found_inf
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    weights = [p.clone() for p in parameters]
    slots = [{name: slot.clone() for name, slot in optimizer.state.get(p, {}).items()} for p in parameters]
    optimizer.step()
    for p, weight, before in zip(parameters, weights, slots, strict=True):
        p.copy_(torch.where(allowed, p, weight))
        for name, slot in optimizer.state[p].items():
            was = before[name] if before else torch.zeros_like(slot)
            slot.copy_(torch.where(allowed.to(slot.device), slot, was))


# ------------------------------------------------------------ Kudo


def turn_about_y(poses: Tensor, theta: Tensor) -> Tensor:
    """poses: (B, J, 3), theta: (B,) radians -> (B, J, 3): (x cos + z sin, y, z cos - x sin); what the two
    formulas below are held to.
    """
    x, y, z = poses.unbind(-1)
    cos, sin = theta.cos().unsqueeze(-1), theta.sin().unsqueeze(-1)
    return torch.stack((x * cos + z * sin, y, z * cos - x * sin), dim=-1)


def kudo_projection(keypoints: Tensor, depth: Tensor, theta: Tensor) -> Tensor:
    """What an orthographic camera sees after a turn about y: (x cos + z sin, y).

    keypoints: (B, J, 2), depth: (B, J) in their unit, theta: (B,) radians, U(0, 2 pi) as published -> (B, J, 2).
    """
    x, y = keypoints.unbind(-1)
    return torch.stack((x * theta.cos().unsqueeze(-1) + depth * theta.sin().unsqueeze(-1), y), dim=-1)


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


def kudo_error_facing(keypoints: Tensor, depth: Tensor, target: Normalised) -> Tensor:
    """`kudo_error` of the pose, mirrored in depth where `facing_sine` is negative -> (B,): an older published form,
    kept for comparison.
    """
    facing = torch.where(facing_sine(keypoints, depth) < 0, -1, 1).unsqueeze(-1)
    return kudo_error(keypoints, facing * depth, target)


def kudo_error_best(keypoints: Tensor, depth: Tensor, target: Normalised) -> Tensor:
    """`kudo_error` of the better of the pose and its mirror image in depth -> (B,); kept for comparison."""
    return torch.minimum(kudo_error(keypoints, depth, target), kudo_error(keypoints, -depth, target))


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


@torch.no_grad()
def start_flat(layer: torch.nn.Linear) -> None:
    """Shrinks the layer that gives depths, so that training begins with almost flat poses: from depths as wild as those
    of torch's initial weights, the discriminator is sure before the lifter learns.
    """
    layer.weight.mul_(0.1)
    layer.bias.zero_()


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


def for_frames(rotations: Tensor, frames: int = 2) -> Tensor:
    """(B, 3, 3) -> (B frames, 3, 3), each for all frames of its sequence: for (B, frames, J, 2), flattened."""
    return rotations.unsqueeze(1).expand(-1, frames, -1, -1).flatten(0, 1)


def frame_difference(keypoints: Tensor) -> Tensor:
    """Two consecutive frames (2 B, J, 2), in turn, both projected after the same turn -> second minus first (B, J, 2).

    What the temporal discriminator sees, of real poses and of `ChenCycle.projected`.
    """
    first, second = keypoints.unflatten(0, (-1, 2)).unbind(1)
    return second - first
