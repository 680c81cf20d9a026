"""Cameras: round trips, the published projection in closed form, the calibration table."""

import pytest
import torch

from common import camera
from tests.golden import geometry


@pytest.fixture
def points():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(6, 17, 3, dtype=torch.float64, generator=generator) * 2


def test_calibration_has_four_cameras_for_every_subject_with_extrinsics():
    cameras = camera.h36m_cameras()
    assert set(cameras) == {"S1", "S5", "S6", "S7", "S8", "S9", "S11"}
    for views in cameras.values():
        assert [view.id for view in views] == ["54138969", "55011271", "58860488", "60457274"]
        for view in views:
            assert sum(q * q for q in view.orientation) == pytest.approx(1, abs=1e-5)
            assert 3 < sum(t * t for t in view.translation) ** 0.5 < 7  # metres from the middle of the floor


def test_every_camera_sees_a_person_at_the_origin_upright():
    person = torch.tensor([[0.0, 0, 0], [0, 0, 1.7]])
    for views in camera.h36m_cameras().values():
        for view in views:
            in_camera = camera.world_to_camera(person, torch.tensor(view.orientation), torch.tensor(view.translation))
            pixels = camera.project(in_camera, view.intrinsics())
            assert (in_camera[:, 2] > 2).all()
            assert (pixels > 0).all() and (pixels[:, 0] < view.width).all() and (pixels[:, 1] < view.height).all()
            assert pixels[1, 1] < pixels[0, 1] - 200  # the head above the feet, y down


def test_world_to_camera_and_back(points):
    view = camera.h36m_cameras()["S9"][2]
    q, t = torch.tensor(view.orientation, dtype=torch.float64), torch.tensor(view.translation, dtype=torch.float64)
    q = q / q.norm()
    there = camera.world_to_camera(points, q, t)
    torch.testing.assert_close(camera.camera_to_world(there, q, t), points)
    # distances do not change
    torch.testing.assert_close(torch.cdist(there, there), torch.cdist(points, points), atol=1e-7, rtol=1e-6)


def test_screen_coordinates_round_trip_and_put_the_middle_at_zero():
    pixels = torch.rand(5, 17, 2, dtype=torch.float64) * 1000
    screen = camera.normalise_screen(pixels, 1000, 1002)
    torch.testing.assert_close(geometry.denormalise_screen(screen, 1000, 1002), pixels)
    middle = camera.normalise_screen(torch.tensor([500.0, 501.0]), 1000, 1002)
    torch.testing.assert_close(middle, torch.zeros(2))


def test_projection_without_distortion_is_linear(points):
    points = points + torch.tensor([-1, -1, 4], dtype=torch.float64)
    intrinsics = torch.tensor([1100, 1120, 500, 510, 0, 0, 0, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(camera.project(points, intrinsics), geometry.project_linear(points, intrinsics))


def test_distorted_projection_in_closed_form():
    k1, k2, k3, p1, p2 = -0.2, 0.24, 0.006, -0.0016, -0.0027
    intrinsics = torch.tensor([2.0, 3.0, 0.1, 0.2, k1, k2, k3, p1, p2], dtype=torch.float64)
    x, y = 0.25, -0.5
    r2 = x * x + y * y
    factor = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + p1 * x + p2 * y
    expected = torch.tensor([2 * (x * factor + p1 * r2) + 0.1, 3 * (y * factor + p2 * r2) + 0.2], dtype=torch.float64)
    point = torch.tensor([x * 4, y * 4, 4.0], dtype=torch.float64)
    torch.testing.assert_close(camera.project(point, intrinsics), expected)


def test_projection_clamps_points_beyond_45_degrees():
    intrinsics = torch.tensor([1.0, 1, 0, 0, 0, 0, 0, 0, 0])
    torch.testing.assert_close(camera.project(torch.tensor([5.0, -9, 2]), intrinsics), torch.tensor([1.0, -1]))


@pytest.mark.parametrize("depth", [0.0, -0.0, 1e-30, -1e-25, 1e-11])
def test_projection_of_a_point_in_the_camera_has_a_finite_gradient(depth):
    point = torch.tensor([[0.3, -0.2, depth], [0.0, 0.0, depth]], requires_grad=True)
    image = camera.project(point, torch.tensor([2.0, 2, 0.1, 0.2, 0, 0, 0, 0, 0]))
    (gradient,) = torch.autograd.grad(image.sum(), point)
    assert image.isfinite().all() and gradient.isfinite().all()
    torch.testing.assert_close(image[1], torch.tensor([0.1, 0.2]))


def test_intrinsics_agree_between_units():
    view = camera.h36m_cameras()["S1"][0]
    points = torch.rand(9, 3) + torch.tensor([-0.5, -0.5, 4])
    pixels = camera.project(points, view.intrinsics())
    screen = camera.project(points, view.intrinsics("screen"))
    torch.testing.assert_close(camera.normalise_screen(pixels, view.width, view.height), screen, atol=1e-5, rtol=0)


def test_perspective_and_unproject_are_inverse():
    points = torch.rand(8, 17, 3, dtype=torch.float64) - 0.5
    keypoints = camera.perspective(points)
    torch.testing.assert_close(camera.unproject(keypoints, points[..., 2:]), points)
    behind = torch.tensor([1.0, 2.0, -7.0])
    torch.testing.assert_close(camera.perspective(behind), behind[:2])  # no nearer than one unit
