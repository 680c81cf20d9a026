"""The rotation between two sets of points, for whole batches: orthogonal Procrustes in three dimensions.

Layout: the batch comes LAST here, points (3, J, n) and matrices (3, 3, n), so that every step is one vector operation
over all items; with the batch first, loops of length 3 take most of the time. Row vectors: `points @ rotation`.
`common.metrics` is the entrance for poses (..., J, 3).
Sources: Kabsch, Acta Cryst. A32 (1976) for the rotation; Hestenes, J. SIAM 6 (1958) for one-sided Jacobi.
"""

from __future__ import annotations

import torch
from torch import Tensor

from common.errors import InputError

# Jacobi sweeps of `proper_svd`. At worst among millions of matrices, singular ones included, the columns' cosines are
# 5e-2 after three, 5e-11 after four and 4e-16 after five.
_SWEEPS = 5


def centre(pose: Tensor) -> tuple[Tensor, Tensor]:
    """(n, J, 3) -> pose minus centroid (3, J, n), centroid (3, 1, n), float64.

    Going through joint 0 makes a pose of equal joints exactly zero.
    """
    pose = batch_last(pose)
    first = pose[:, :1]
    pose = pose - first
    mean = pose.mean(1, keepdim=True)
    return pose.sub_(mean), first + mean


def batch_last(pose: Tensor) -> Tensor:
    """(n, J, 3) -> (3, J, n) float64, the layout of this module."""
    return pose.permute(2, 1, 0).to(torch.float64, memory_format=torch.contiguous_format)


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator, and 0 where the denominator is 0, with a zero gradient there."""
    zero = denominator == 0
    return torch.where(zero, 0.0, numerator / torch.where(zero, 1.0, denominator))


def correlate(pred: Tensor, target: Tensor) -> Tensor:
    """pred^T target. (3, J, n), (3, J, n) -> (3, 3, n)."""
    return torch.stack([(axis * target).sum(1) for axis in pred])


def rotate(points: Tensor, matrix: Tensor) -> Tensor:
    """points @ matrix. (3, J, n), (3, 3, n) -> (3, J, n)."""
    x, y, z = matrix[:, :, None]
    return (points[0] * x).addcmul_(points[1], y).addcmul_(points[2], z)


def lengths(vectors: Tensor) -> Tensor:
    """Euclidean norms. (3, ..., n) -> (..., n), with a zero gradient at zero."""
    return vectors.square().sum(0).clamp_min(1e-300).sqrt()


def best_rotation(correlation: Tensor, reflection: str = "corrected") -> tuple[Tensor, Tensor]:
    """The orthogonal matrix R that maximises trace(R^T correlation). (3, 3, n) -> R (3, 3, n), sigma (3, n).

    For the correlation of two poses `pred @ R` is then as close to target as it gets. sigma are the singular values
    with the sign with which they count: their sum is that maximum, and divided by |pred|^2 it is the best scale.
    reflection: "corrected" admits rotations only, "allowed" also mirror images where they fit better, "forced" mirror
    images only. Gradients are exact and finite; where R is not unique, the arbitrary part of it counts as constant.
    """
    if reflection not in ("corrected", "allowed", "forced"):
        raise InputError(f'reflection {reflection!r} is unknown: expected "corrected", "allowed" or "forced"')
    return _BestRotation.apply(correlation, reflection)


class _BestRotation(torch.autograd.Function):
    """`best_rotation` with a closed-form gradient (autograd through an SVD divides by gaps that can be zero)."""

    @staticmethod
    def forward(ctx, correlation: Tensor, reflection: str) -> tuple[Tensor, Tensor]:
        left, sigma, right = proper_svd(correlation)
        if reflection == "forced":
            left, sigma = mirror_last(left, sigma)
        elif reflection == "allowed":
            sign = torch.where(sigma[2] < 0, -1.0, 1.0).to(sigma)
            left, sigma = mirror_last(left, sigma, sign)
        ctx.save_for_backward(left, sigma, right)
        return product_with_transpose(left, right), sigma

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, rotation_grad: Tensor, sigma_grad: Tensor) -> tuple[Tensor, None]:
        # With C = U S V^T, R = U V^T and X = U^T dC V: dS = diag X, and U^T dR V is skew with entries
        # (X_ij - X_ji) / (s_i + s_j). Both maps are their own transposes.
        left, sigma, right = (x.movedim(-1, 0) for x in ctx.saved_tensors)
        inner = left.mT @ rotation_grad.movedim(-1, 0) @ right
        sums = sigma[:, :, None] + sigma[:, None, :]
        well_defined = sums > 1e-9 * sigma[:, :1, None]
        skew = torch.where(well_defined, (inner - inner.mT) / torch.where(well_defined, sums, 1.0), 0.0)
        gradient = left @ (skew + torch.diag_embed(sigma_grad.movedim(-1, 0))) @ right.mT
        return gradient.movedim(0, -1), None


def product_with_transpose(left: Tensor, right: Tensor) -> Tensor:
    """left right^T. (3, 3, n), (3, 3, n) -> (3, 3, n)."""
    return (left[:, None] * right).sum(2)


def mirror_last(left: Tensor, sigma: Tensor, sign: Tensor | float = -1.0) -> tuple[Tensor, Tensor]:
    """The last column of U (3, 3, n) and the last singular value (3, n) times sign (n,)."""
    return torch.stack([left[:, 0], left[:, 1], sign * left[:, 2]], dim=1), torch.stack([*sigma[:2], sign * sigma[2]])


@torch.no_grad()
def proper_svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Batched 3x3 singular value decomposition with two rotations. (3, 3, n) -> U, sigma (3, n), V.

    matrix = U diag(sigma) V^T, det U = det V = +1, sigma_1 >= sigma_2 >= |sigma_3|, and sigma_3 has the sign of the
    determinant. So U V^T is at once the Procrustes rotation with the reflection corrected.

    One-sided Jacobi: rotate pairs of columns, M -> M V, until all are orthogonal; then they are U diag(sigma), and
    M^T U gives V in turn. Unlike an eigenvalue formula for M^T M it is accurate for any matrix, singular ones
    included, so no pose needs a special path. No gradients here: see `best_rotation`.
    """
    size = matrix.abs().amax((0, 1))
    size = torch.where(size == 0, 1.0, size)
    matrix = matrix / size
    columns = list(matrix.unbind(1))
    for _ in range(_SWEEPS):
        for i, j in ((0, 1), (0, 2), (1, 2)):
            columns[i], columns[j] = _make_orthogonal(columns[i], columns[j])
    left = _frame(columns[0], columns[1])
    back = [(matrix * u[:, None]).sum(0) for u in left]  # M^T u_i = sigma_i v_i
    right = _frame(back[0], back[1])
    sigma = torch.stack([_dot(b, v) for b, v in zip(back, right, strict=True)]) * size
    return torch.stack(left, dim=1), sigma, torch.stack(right, dim=1)


def _make_orthogonal(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate two vectors (3, n) in their plane so that they become orthogonal, the longer one first."""
    off = _dot(x, y).mul_(2)
    gap = _dot(x, x).sub_(_dot(y, y))
    # tan(2 angle) = off / gap. The half angle's sine and cosine without cancellation; 1e-150 turns 0/0 into angle 0.
    far = (gap * gap).addcmul_(off, off).sqrt_().add_(gap.abs()).add_(1e-150)
    norm = (far * far).addcmul_(off, off).rsqrt_()
    large, small = far.mul_(norm), off.mul_(norm)
    first_is_longer = gap >= 0
    cos = torch.where(first_is_longer, large, small)
    sin = torch.where(first_is_longer, small, large)
    return (x * cos).addcmul_(y, sin), (y * cos).addcmul_(x, sin, value=-1)


def _frame(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The right-handed orthonormal frame that begins along x and has y in its first plane. (3, n) each.

    Vectors that vanish or are parallel leave directions open; these are filled in at right angles.
    """
    length = _dot(x, x).sqrt_()
    first = torch.where(length > 0, x / length, torch.eye(3, dtype=x.dtype, device=x.device)[:, :1])
    second = y - first * _dot(first, y)
    x_is_off = first[0].abs() < 0.8
    spare = torch.stack([x_is_off, ~x_is_off, torch.zeros_like(x_is_off)]).to(x)  # an axis away from `first`
    second = torch.where(_dot(second, second) > 1e-30 * length * length, second, spare)
    second = second - first * _dot(first, second)  # again, since what is left of a short vector is mostly rounding
    second = second / _dot(second, second).sqrt_()
    return first, second, torch.linalg.cross(first, second, dim=0)


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """(3, n), (3, n) -> (n,)."""
    return (x[0] * y[0]).addcmul_(x[1], y[1]).addcmul_(x[2], y[2])
