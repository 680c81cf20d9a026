"""Geometry and scores of the published code that only comparisons ask for."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from common.metrics import auc_thresholds, joint_errors, mpjpe, procrustes_align
from methods.ites.metrics import calibrate_by_procrustes

# The 14 joints (of the 17 of Human3.6M) over which MPI-INF-3DHP style PCK is customarily taken.
PCK_JOINTS = (2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)


# ------------------------------------------------------------ cameras


def project_linear(points: Tensor, intrinsics: Tensor) -> Tensor:
    """`common.camera.project` without lens distortion, VideoPose3D's other projection. (..., 3), (..., 9) -> (..., 2).

    X/Z and Y/Z are clamped to [-1, 1].
    """
    return intrinsics[..., :2] * (points[..., :2] / points[..., 2:]).clamp(-1, 1) + intrinsics[..., 2:4]


def denormalise_screen(screen: Tensor, width: float, height: float) -> Tensor:
    """Inverse of `common.camera.normalise_screen`: (..., 2)."""
    return (screen + screen.new_tensor((1, height / width))) * width / 2


# ------------------------------------------------------------ rotations


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Unit quaternion (..., 4), wxyz with w >= 0, of rotation matrices (..., 3, 3) (Shepperd's method)."""
    m = matrix
    trace = m.diagonal(dim1=-2, dim2=-1)
    xx, yy, zz = trace.unbind(-1)
    squares = torch.stack((1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz), -1)
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    ww2, xx2, yy2, zz2 = squares.unbind(-1)
    candidates = torch.stack(
        (
            torch.stack((ww2, wx, wy, wz), -1),
            torch.stack((wx, xx2, xy, xz), -1),
            torch.stack((wy, xy, yy2, yz), -1),
            torch.stack((wz, xz, yz, zz2), -1),
        ),
        -2,
    )
    # the row of the largest component is the best conditioned one
    best = squares.argmax(-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    q = torch.nn.functional.normalize(candidates.gather(-2, best).squeeze(-2), dim=-1)
    return torch.where(q[..., :1] < 0, -q, q)


def matrix_to_euler(matrix: Tensor) -> Tensor:
    """Angles about x, y, z in degrees, for R = Rz Ry Rx (column convention): (..., 3, 3) -> (..., 3)."""
    m = matrix
    x = torch.atan2(m[..., 2, 1], m[..., 2, 2])
    y = torch.atan2(-m[..., 2, 0], torch.hypot(m[..., 0, 0], m[..., 1, 0]))
    z = torch.atan2(m[..., 1, 0], m[..., 0, 0])
    return torch.stack((x, y, z), -1) * (180 / math.pi)


# ------------------------------------------------------------ scores of ITES


def calibrate_camera_by_procrustes(points: Tensor, target: Tensor, camera: Tensor) -> tuple[Tensor, Tensor]:
    """`calibrate_by_procrustes` of points (..., J, 3) seen by a linear camera (..., 3, 2), which is turned along.

    The camera gives its gain (largest singular value) to the points first. -> (calibrated points, camera (..., 3, 2)).
    """
    gain = torch.linalg.matrix_norm(camera, ord=2)[..., None, None]
    alignment = calibrate_by_procrustes(points * gain, target)
    return alignment.aligned, alignment.rotation.mT @ (camera / gain)


class PckAuc(NamedTuple):
    """PCK at 150 mm and AUC, each (...) in 0..1, float64."""

    pck: Tensor
    auc: Tensor


def mirror_pck_auc(pred: Tensor, flip: Tensor, target: Tensor, joints=PCK_JOINTS, align: bool = False) -> PckAuc:
    """PCK and AUC where every joint counts in the better of two solutions. pred, flip, target: (..., J, 3).

    align: carry both solutions onto the target by Procrustes first (ITES's `p_pck_auc`).
    """
    pred, flip, target = pred.double(), flip.double(), target.double()
    if align:
        pred, flip = (procrustes_align(solution, target).aligned for solution in (pred, flip))
    errors = torch.minimum(joint_errors(pred, target), joint_errors(flip, target))
    errors = errors if joints is None else errors[..., list(joints)]
    below = errors[..., None] < auc_thresholds(errors.device)
    return PckAuc((errors < 0.150).double().mean(-1), below.double().mean((-2, -1)))


def consistency_loss(pred: Tensor, flip: Tensor, target: Tensor) -> Tensor:
    """Mean joint distance of both mirror solutions to the target. (..., J, 3) -> (...)."""
    return (mpjpe(pred, target) + mpjpe(flip, target)) / 2
