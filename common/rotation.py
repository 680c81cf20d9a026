"""Rotations: matrices, log-rotations (axis times angle) and quaternions, on tensors with any leading dimensions.

Convention: a point is a row vector and a matrix acts from the right, `points @ R`, wherever this project rotates poses.
The maps below return the usual matrix of the rotation (column convention, `R @ x`); for a random rotation the
difference is immaterial, and where it matters the caller transposes. Quaternions are (w, x, y, z), unit length.
"""

import torch
from torch import Tensor

ITES_EPSILON = 1e-4
ITES_PI = 3.1415926  # the published code writes pi with eight digits


def hat(v: Tensor) -> Tensor:
    """Skew-symmetric matrix [v]x of `v`: (..., 3) -> (..., 3, 3), so that [v]x w = v x w."""
    x, y, z = v.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).unflatten(-1, (3, 3))


def _rodrigues(log_rot: Tensor, sine: Tensor, cosine: Tensor) -> Tensor:
    """I + sine [r]x + cosine [r]x^2, the factors (..., 1, 1) given."""
    skew = hat(log_rot)
    identity = torch.eye(3, dtype=log_rot.dtype, device=log_rot.device)
    return identity + sine * skew + cosine * (skew @ skew)


def so3_exp(log_rot: Tensor, eps: float = ITES_EPSILON) -> Tensor:
    """Exponential map with the epsilon of ITES: (..., 3) -> (..., 3, 3).

    R = I + sin|r| / (|r| + eps) [r]x + (1 - cos|r|) / (|r| + eps)^2 [r]x^2. Quirk kept, since the published weights
    were trained with it: eps is added to the norm, so R is orthonormal only up to about eps / |r|.
    The gradient at r = 0 is finite.
    """
    squared = (log_rot * log_rot).sum(-1, keepdim=True)
    # sqrt has an infinite slope at zero: step around it, the value is unchanged
    angle = torch.where(squared > 0, squared.clamp_min(torch.finfo(squared.dtype).tiny).sqrt(), squared)[..., None]
    scale = 1 / (angle + eps)
    return _rodrigues(log_rot, angle.sin() * scale, (1 - angle.cos()) * scale * scale)


def so3_exp_exact(log_rot: Tensor) -> Tensor:
    """Exponential map, orthonormal to rounding, with exact values and gradients at zero: (..., 3) -> (..., 3, 3)."""
    squared = (log_rot * log_rot).sum(-1, keepdim=True)[..., None]
    small = squared < 1e-6
    safe = torch.where(small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    sine = torch.where(small, 1 - squared / 6, angle.sin() / angle)
    # 2 sin^2(a/2) = 1 - cos a without the cancellation
    cosine = torch.where(small, 0.5 - squared / 24, 2 * (0.5 * angle).sin().square() / safe)
    return _rodrigues(log_rot, sine, cosine)


def random_log_rotations(
    count: int,
    axis_mask: tuple[float, float, float] = (1.0, 1.0, 1.0),
    max_angle: float = ITES_PI,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Axis ~ N(0, I) times `axis_mask`, normalised; angle ~ U(0, max_angle). Returns axis * angle: (count, 3).

    ITES: all axes and pi for the teacher's cycle, mask (0, 1, 0) and 2 pi for the student's turn about the vertical.
    """
    axis = torch.randn(count, 3, generator=generator, device=device)
    # weighed column by column: a tensor made of Python numbers would be copied to the device, which waits for it
    axis = torch.stack([weight * column for weight, column in zip(axis_mask, axis.unbind(-1), strict=True)], -1)
    angle = torch.rand(count, 1, generator=generator, device=device) * max_angle
    return torch.nn.functional.normalize(axis, dim=-1, eps=1e-20) * angle


def random_rotations(
    count: int,
    axis_mask: tuple[float, float, float] = (1.0, 1.0, 1.0),
    max_angle: float = ITES_PI,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Random rotation matrices (count, 3, 3) by `random_log_rotations` and ITES's `so3_exp`."""
    return so3_exp(random_log_rotations(count, axis_mask, max_angle, generator, device))


def quaternion_rotate(q: Tensor, v: Tensor) -> Tensor:
    """Rotate `v` (..., 3) by unit quaternions `q` (..., 4), wxyz; leading dimensions broadcast."""
    w, (u, v) = q[..., :1], torch.broadcast_tensors(q[..., 1:], v)
    uv = torch.linalg.cross(u, v)
    return v + 2 * (w * uv + torch.linalg.cross(u, uv))


def quaternion_inverse(q: Tensor) -> Tensor:
    """Inverse of unit quaternions (..., 4): the conjugate."""
    return q * q.new_tensor((1, -1, -1, -1))


def quaternion_to_matrix(q: Tensor) -> Tensor:
    """Rotation matrix R (column convention, R @ x) of unit quaternions: (..., 4) -> (..., 3, 3)."""
    w, x, y, z = q.unbind(-1)
    return torch.stack(
        (
            1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
        ),
        -1,
    ).unflatten(-1, (3, 3))  # fmt: skip


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Unit quaternions (..., 4), wxyz, w >= 0, of rotation matrices (..., 3, 3): the inverse of `quaternion_to_matrix`.

    Of a matrix that is a rotation only nearly, the rotation that is the nearest: the quaternion is the eigenvector of
    the largest eigenvalue (Bar-Itzhack, Journal of Guidance, Control, and Dynamics 2000). Computed in float64.
    """
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in matrix.double().unbind(-2))
    symmetric = torch.stack(
        (a + e + i, h - f, c - g, d - b, h - f, a - e - i, b + d, c + g, c - g, b + d, e - a - i, f + h, d - b, c + g,
         f + h, i - a - e), -1,
    ).unflatten(-1, (4, 4))  # fmt: skip
    q = torch.linalg.eigh(symmetric).eigenvectors[..., -1]
    return torch.where(q[..., :1] < 0, -q, q).to(matrix.dtype)
