"""common.virtual_cameras: rotations, places and projections and projections; ranges are kept; people stay people."""

import math

import pytest
import torch

from common.camera import project
from common.virtual_cameras import CameraRanges, draw, look, looking_at


@pytest.fixture
def people() -> torch.Tensor:
    return torch.randn(64, 17, 3, generator=torch.Generator().manual_seed(1)) * 0.4 + torch.tensor((3.0, -2.0, 1.0))


def test_a_level_camera_sees_the_world_upright():
    """From the side of x: what is up is up in the picture, y is to the right, and nearer is nearer."""
    (rotation,) = looking_at(*torch.zeros(3, 1))
    assert torch.allclose(rotation @ torch.tensor((0.0, 0, 1)), torch.tensor((0.0, -1, 0)), atol=1e-6)
    assert torch.allclose(rotation @ torch.tensor((0.0, 1, 0)), torch.tensor((1.0, 0, 0)), atol=1e-6)
    assert torch.allclose(rotation @ torch.tensor((1.0, 0, 0)), torch.tensor((0.0, 0, -1)), atol=1e-6)


def test_a_camera_above_looks_down():
    pitch = torch.tensor([math.radians(30)])
    (rotation,) = looking_at(torch.zeros(1), pitch, torch.zeros(1))
    floor_ahead = rotation @ torch.tensor((0.0, 0, -1))  # towards the floor: downwards in the picture, and away
    assert floor_ahead[1] > 0.8 and floor_ahead[2] == pytest.approx(0.5, abs=1e-6)


def test_rotations_are_rotations():
    angles = torch.rand(3, 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 6 - 3
    rotation = looking_at(*angles)
    assert torch.allclose(rotation @ rotation.mT, torch.eye(3, dtype=torch.float64).expand(100, 3, 3))
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(100, dtype=torch.float64))


def test_ranges_are_kept_and_bodies_stay(people):
    ranges = CameraRanges()
    seen = look(people, draw(len(people), torch.Generator().manual_seed(3)), ranges)
    distance = seen.poses[:, 0].norm(dim=-1)
    assert distance.min() >= ranges.distance[0] - 1e-4 and distance.max() <= ranges.distance[1] + 1e-4
    focal = seen.intrinsics[:, 0] / 2
    assert focal.min() >= ranges.focal[0] and focal.max() <= ranges.focal[1]
    assert seen.keypoints[:, 0, 0].abs().max() <= ranges.place[1] + 1e-5
    assert seen.keypoints[:, 0, 1].abs().max() <= ranges.place[1] * ranges.aspect[1] + 1e-5
    assert torch.allclose(torch.cdist(seen.poses, seen.poses), torch.cdist(people, people), atol=1e-3)
    assert torch.allclose(seen.keypoints, project(seen.poses, seen.intrinsics[:, None], clamped=False))
    assert seen.rotation[:, 2, 2].asin().rad2deg().neg().min() >= ranges.pitch[0] - 1e-3  # forward's height: the pitch


def test_a_wide_lens_sees_people_where_they_are(people):
    """The field's projection keeps points within 45 degrees of the axis: at the foot of an upright picture it squeezes
    legs together.
    """
    wide = CameraRanges(focal=(0.6, 0.6), aspect=(2.0, 2.0), place=(0.7, 0.7))
    seen = look(people, draw(len(people), torch.Generator().manual_seed(3)), wide)
    assert seen.keypoints[:, 0, 1].allclose(torch.tensor(1.4), atol=1e-5)
    assert torch.allclose(seen.keypoints, 1.2 * seen.poses[..., :2] / seen.poses[..., 2:])


def test_no_range_is_a_fixed_camera(people):
    still = CameraRanges((90.0, 90.0), (0.0, 0.0), (0.0, 0.0), (4.0, 4.0), (1.0, 1.0), (1.0, 1.0), (0.0, 0.0))
    seen = look(people, draw(len(people)), still)
    relative = people - people[:, :1]
    expected = torch.stack((-relative[..., 0], -relative[..., 2], 4 - relative[..., 1]), -1)
    assert torch.allclose(seen.poses, expected, atol=1e-5)


def test_a_window_has_one_camera(people):
    windows = people.view(16, 4, 17, 3)
    numbers = draw(16, torch.Generator().manual_seed(0))
    seen = look(windows, numbers, CameraRanges())
    alone = look(windows[:, 2], numbers, CameraRanges())
    assert torch.allclose(seen.poses[:, 2], alone.poses, atol=1e-5) and seen.keypoints.shape == (16, 4, 17, 2)
    moved = seen.poses[:, 3, 0] - seen.poses[:, 2, 0]
    world = windows[:, 3, 0] - windows[:, 2, 0]
    assert torch.allclose(moved, torch.einsum("bij,bj->bi", seen.rotation, world), atol=1e-4)


def test_the_same_seed_the_same_cameras(people):
    first, second = (
        look(people, draw(64, torch.Generator().manual_seed(5)), CameraRanges()).keypoints for _ in range(2)
    )
    assert torch.equal(first, second)
