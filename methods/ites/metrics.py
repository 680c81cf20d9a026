"""The errors of ITES's protocol, which takes the scale from the truth and the better of both depth mirrors.

Xu et al., "Invariant Teacher and Equivariant Student for Unsupervised 3D Human Pose Estimation", AAAI 2021. Shapes,
units and row vectors as in `common.metrics`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from common.metrics import Alignment, batch_first, by_chunks, check_pair, procrustes_align, result_dtype
from common.procrustes import (
    batch_last,
    best_rotation,
    centre,
    correlate,
    lengths,
    mirror_last,
    product_with_transpose,
    proper_svd,
    ratio,
    rotate,
)


class ItesErrors(NamedTuple):
    """Errors (...) of a pose, of its depth mirror image, and the smaller of the two (chosen for each metric apart)."""

    mpjpe: Tensor
    p_mpjpe: Tensor
    mpjpe_pose: Tensor
    mpjpe_flip: Tensor
    p_mpjpe_pose: Tensor  # equals `p_mpjpe(pred, target)`: alignment undoes the calibrated scale
    p_mpjpe_flip: Tensor


@torch.no_grad()
def ites_evaluation(pred: Tensor, target: Tensor) -> ItesErrors:
    """Score poses as published: calibrate the scale, subtract joint 0, take the better mirror solution.

    pred: (..., J, 3) camera-frame shapes before any scaling; target: (..., J, 3) metres. Both mirror solutions share
    one decomposition: to align the flip by a rotation is to align the pose itself by a forced reflection.
    """
    check_pair(pred, target, size=3)
    mpjpe_pose, mpjpe_flip, p_mpjpe_pose, p_mpjpe_flip = by_chunks(_ites_errors, pred, target)
    best, p_best = torch.minimum(mpjpe_pose, mpjpe_flip), torch.minimum(p_mpjpe_pose, p_mpjpe_flip)
    return ItesErrors(best, p_best, mpjpe_pose, mpjpe_flip, p_mpjpe_pose, p_mpjpe_flip)


def _ites_errors(pred: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    p, _ = centre(pred)
    t, _ = centre(target)
    left, sigma, right = proper_svd(correlate(p, t))
    energy = p.square().sum((0, 1))
    calibrated, goal = ratio(sigma.abs().sum(0), energy) * (p - p[:, :1]), t - t[:, :1]
    planar = (calibrated[:2] - goal[:2]).square().sum(0)
    distances = [(planar + (z - goal[2]).square()).sqrt() for z in (calibrated[2], -calibrated[2])]
    for u, s in ((left, sigma), mirror_last(left, sigma)):
        matrix = ratio(s.sum(0), energy) * product_with_transpose(u, right)
        distances.append(lengths(rotate(p, matrix).sub_(t)))
    return tuple(distance.mean(0).to(result_dtype(pred)) for distance in distances)


def depth_flip(pose: Tensor) -> Tensor:
    """The pose mirrored in depth, the other solution of an orthographic view. (..., 3) -> (..., 3)."""
    return torch.cat([pose[..., :2], -pose[..., 2:]], dim=-1)


def calibrate_by_scale(pred: Tensor, target: Tensor) -> Tensor:
    """Scale each prediction, about the origin and unrotated, by the target's size. (..., J, 3) -> (..., J, 3).

    The scale is the one of the best orthogonal alignment, reflections allowed: generally more than the best scale of
    the unrotated pose, and the same for a pose and its depth flip.
    """
    scale = procrustes_align(pred, target, reflection="allowed").scale
    return scale[..., None, None] * pred


def calibrate_by_procrustes(pred: Tensor, target: Tensor) -> Alignment:
    """Turn (or mirror) each prediction about the origin and give it the target's norm. (..., J, 3) -> Alignment.

    For pictures only: poses are not centred, and the translation is zero.
    """
    check_pair(pred, target, size=3)

    def turn(pred: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        p, t = batch_last(pred), batch_last(target)
        rotation, _ = best_rotation(correlate(p, t), "allowed")
        scale = ratio(t.square().sum((0, 1)).sqrt(), p.square().sum((0, 1)).sqrt())
        aligned = rotate(p, scale * rotation)
        return batch_first(aligned, rotation, scale, torch.zeros_like(p[:, :1]), result_dtype(pred))

    return Alignment(*by_chunks(turn, pred, target))
