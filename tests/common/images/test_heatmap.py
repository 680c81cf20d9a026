"""Crop windows, Gaussian targets and mirroring, against plain loops and against their own properties."""

import numpy as np
import pytest
import torch

from common.images import heatmap
from common.skeleton import MPII_16


def test_window_middle_and_edges():
    affine = heatmap.crop_affine(np.array((100.0, 40.0)), 80.0, 0.0, (64, 64))
    points = heatmap.transform_points(np.array([(100.0, 40.0), (60.0, 0.0), (140.0, 80.0)]), affine)
    np.testing.assert_allclose(points, [(32, 32), (0, 0), (64, 64)], atol=1e-6)


def test_the_picture_turns_against_the_window():
    affine = heatmap.crop_affine(np.array((50.0, 50.0)), 64.0, 90.0, (64, 64))
    right_of_middle = heatmap.transform_points(np.array([(60.0, 50.0)]), affine)
    np.testing.assert_allclose(right_of_middle, [(32, 22)], atol=1e-5)


def test_batches_of_windows_and_the_way_back():
    rng = np.random.default_rng(0)
    center, width, rotation = rng.uniform(0, 500, (5, 2)), rng.uniform(50, 600, 5), rng.uniform(-60, 60, 5)
    points = rng.uniform(0, 500, (5, 7, 2))
    there = heatmap.crop_affine(center, width, rotation, (64, 48))
    back = heatmap.crop_affine(center, width, rotation, (64, 48), inverse=True)
    np.testing.assert_allclose(
        heatmap.transform_points(heatmap.transform_points(points, there), back), points, atol=1e-6
    )
    for i in range(5):
        np.testing.assert_array_equal(heatmap.crop_affine(center[i], width[i], rotation[i], (64, 48)), there[i])
    upright = heatmap.crop_affine(center, width, 0.0, (64, 48))
    np.testing.assert_allclose(
        heatmap.to_image(heatmap.transform_points(points, upright), center, width, (64, 48)), points, atol=1e-6
    )


def test_points_of_the_affine_are_rounded_to_float32():
    affine = heatmap.crop_affine(np.array((0.1, 0.2)), 10.0, 0.0, (10, 10))
    moved = heatmap.transform_points(np.array([np.float32((0.1, 0.2))], float), affine)
    assert np.abs(moved - 5).max() < 1e-12  # of the rounded centre, to double precision


@pytest.mark.parametrize(
    ("window", "short", "expected"),
    [
        ((200, 100), False, (200, 200)),
        ((200, 100), True, (100, 100)),
        ((50, 100), False, (100, 100)),
        ((7, 7), True, (7, 7)),
    ],
)
def test_fit_aspect(window, short, expected):
    assert heatmap.fit_aspect(*window, 1.0, short) == expected


def plain_gaussian(x: float, y: float, height: int, width: int, sigma: float) -> np.ndarray:
    """One pixel after the other."""
    cx, cy, reach, image = int(x + 0.5), int(y + 0.5), int(3 * sigma), np.zeros((height, width), np.float32)
    for row in range(max(cy - reach, 0), min(cy + reach + 1, height)):
        for column in range(max(cx - reach, 0), min(cx + reach + 1, width)):
            image[row, column] = np.exp(-((column - cx) ** 2 + (row - cy) ** 2) / (2 * sigma**2))
    return image


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_heatmaps_against_a_plain_loop(sigma):
    rng = np.random.default_rng(1)
    points = rng.uniform(-12, 50, (4, 6, 2)).astype(np.float32)
    points[0, :3] = (-1, 5), (-3, -3), (-0.5, 40)  # truncation toward zero
    drawn = torch.from_numpy(rng.random((4, 6)) < 0.7)
    found = heatmap.draw_heatmaps(torch.from_numpy(points), drawn, (40, 32), sigma)
    expected = [
        [plain_gaussian(*p, 40, 32, sigma) * bool(d) for p, d in zip(*r, strict=True)]
        for r in zip(points, drawn, strict=True)
    ]
    assert np.abs(found.numpy() - np.array(expected)).max() < 1e-6
    assert found[drawn].amax() == 1 and not found[~drawn].any()


def test_integer_points_and_half_precision():
    points = torch.tensor([[[5, 6], [-2, 3]]], dtype=torch.int32)
    drawn = torch.ones(1, 2, dtype=torch.bool)
    full = heatmap.draw_heatmaps(points, drawn, (16, 16))
    half = heatmap.draw_heatmaps(points, drawn, (16, 16), dtype=torch.bfloat16)
    assert full[0, 0, 6, 5] == 1 and half.dtype == torch.bfloat16
    assert (full - half.float()).abs().max() < 0.01


def test_depth_index_finds_the_joint():
    depth = torch.rand(16, 12, 10)  # joint, row, column
    points = np.stack((np.arange(16) % 10, np.arange(16) % 12), -1).astype(np.int32)
    index = torch.from_numpy(heatmap.depth_index(points, (12, 10)))
    found = depth.permute(1, 2, 0).flatten()[index]
    assert torch.equal(found, torch.stack([depth[j, y, x] for j, (x, y) in enumerate(points.tolist())]))


def test_inside_ends_at_the_size():
    points = np.array([(0, 0), (9, 11), (10, 0), (0, 12), (-1, 0), (0, -1)])
    assert heatmap.inside(points, (12, 10)).tolist() == [True, True, False, False, False, False]


def test_mirroring_swaps_sides_and_undoes_itself():
    points = np.random.default_rng(2).uniform(0, 90, (16, 2))
    mirrored = heatmap.mirror_joints(points, 90, "mpii16")
    left, right = MPII_16.index("left wrist"), MPII_16.index("right wrist")
    np.testing.assert_allclose(mirrored[left], (89 - points[right, 0], points[right, 1]))
    np.testing.assert_allclose(heatmap.mirror_joints(mirrored, 90, MPII_16), points)
    maps = torch.rand(2, 16, 5, 6)
    flipped = heatmap.mirror_maps(maps, "mpii16")
    assert torch.equal(flipped[:, left], maps[:, right].flip(-1))
    assert torch.equal(heatmap.mirror_maps(flipped, "mpii16"), maps)
