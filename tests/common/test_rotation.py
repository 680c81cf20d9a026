"""Rotations: group properties, round trips, closed forms, finite gradients."""

import math

import pytest
import torch

from common import rotation
from tests.golden import geometry

EYE = torch.eye(3, dtype=torch.float64)


@pytest.fixture
def log_rot():
    return torch.randn(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_hat_is_the_cross_product(log_rot):
    other = log_rot.flip(0)
    crossed = (rotation.hat(log_rot) @ other[..., None])[..., 0]
    torch.testing.assert_close(crossed, torch.linalg.cross(log_rot, other))


def test_exact_exponential_equals_matrix_exponential(log_rot):
    torch.testing.assert_close(rotation.so3_exp_exact(log_rot), torch.matrix_exp(rotation.hat(log_rot)))


@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-4, 1e-3, 2e-3, 3.1])
def test_exact_exponential_is_a_rotation_at_every_size(log_rot, size):
    matrix = rotation.so3_exp_exact(torch.nn.functional.normalize(log_rot, dim=-1) * size)
    torch.testing.assert_close(matrix @ matrix.mT, EYE.expand_as(matrix), atol=1e-12, rtol=0)
    torch.testing.assert_close(torch.linalg.det(matrix), torch.ones(200, dtype=torch.float64))


def test_ites_exponential_shrinks_the_sine_by_the_published_epsilon():
    matrix = rotation.so3_exp(torch.tensor([0.0, 0.0, 0.5], dtype=torch.float64))
    assert matrix[1, 0].item() == pytest.approx(math.sin(0.5) * 0.5 / 0.5001, abs=1e-12)
    assert matrix[0, 0].item() == pytest.approx(1 - (1 - math.cos(0.5)) * (0.5 / 0.5001) ** 2, abs=1e-12)


@pytest.mark.parametrize("exponential", [rotation.so3_exp, rotation.so3_exp_exact])
def test_gradient_is_finite_at_the_identity(exponential):
    zero = torch.zeros(2, 3, requires_grad=True)
    exponential(zero).sum().backward()
    assert zero.grad.isfinite().all()


def test_quaternion_round_trips_and_agrees_with_its_matrix(log_rot):
    matrix = rotation.so3_exp_exact(3 * log_rot)
    q = geometry.matrix_to_quaternion(matrix)
    torch.testing.assert_close(rotation.quaternion_to_matrix(q), matrix)
    points = log_rot.roll(1, 0)
    rotated = rotation.quaternion_rotate(q, points)
    torch.testing.assert_close(rotated, (matrix @ points[..., None])[..., 0])
    torch.testing.assert_close(rotation.quaternion_rotate(rotation.quaternion_inverse(q), rotated), points)


def test_quaternion_rotate_broadcasts_over_leading_dimensions():
    q = torch.nn.functional.normalize(torch.randn(4, 1, 1, 4), dim=-1)
    points = torch.randn(5, 17, 3)
    rotated = rotation.quaternion_rotate(q, points)
    assert rotated.shape == (4, 5, 17, 3)
    torch.testing.assert_close(rotated[2, 3, 4], rotation.quaternion_rotate(q[2, 0, 0], points[3, 4]))


def test_euler_angles_rebuild_the_matrix(log_rot):
    matrix = rotation.so3_exp_exact(log_rot)
    x, y, z = (geometry.matrix_to_euler(matrix) * math.pi / 180).unbind(-1)
    zero = torch.zeros_like(x)
    turn_x, turn_y, turn_z = (
        rotation.so3_exp_exact(torch.stack(v, -1)) for v in ((x, zero, zero), (zero, y, zero), (zero, zero, z))
    )
    torch.testing.assert_close(turn_z @ turn_y @ turn_x, matrix)


def test_random_rotations_follow_the_mask_the_range_and_the_generator():
    draw = lambda **kw: rotation.random_log_rotations(4000, generator=torch.Generator().manual_seed(1), **kw)  # noqa: E731
    assert torch.equal(draw(), draw())
    angles = draw(max_angle=2.0).norm(dim=-1)
    assert 0 <= angles.min() and angles.max() <= 2 + 1e-6
    assert angles.mean().item() == pytest.approx(1.0, abs=0.05)
    about_y = draw(axis_mask=(0, 1, 0))
    assert about_y[:, [0, 2]].abs().max() == 0
    assert (about_y[:, 1] > 0).float().mean().item() == pytest.approx(0.5, abs=0.05)
    matrices = rotation.random_rotations(100, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(matrices @ matrices.mT, torch.eye(3).expand(100, 3, 3), atol=2e-2, rtol=0)
