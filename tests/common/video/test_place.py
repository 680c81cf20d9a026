"""The way of the hip before a camera: found again exactly where the focal length is right."""

import numpy as np

from common.video.place import hip_path

RNG = np.random.default_rng(0)
SIZE = (1080, 1920)


def test_a_way_is_found_again():
    poses = RNG.normal(0, 0.4, (30, 17, 3))
    poses[:, 0] = 0
    way = np.stack((np.linspace(-1, 1, 30), np.full(30, 0.4), np.linspace(6, 3, 30)), -1)
    there = poses + way[:, None]
    points = 1500 * there[..., :2] / there[..., 2:] + np.array(SIZE) / 2
    np.testing.assert_allclose(hip_path(points, poses, SIZE, 1500), way, atol=1e-6)
    guessed = hip_path(points, poses, SIZE)  # the diagonal, 2,203: about as much further away
    np.testing.assert_allclose(guessed[:, 2] / way[:, 2], 2203 / 1500, rtol=0.1)


def test_nothing_stands_behind_the_camera():
    assert (hip_path(np.zeros((2, 17, 2)), np.zeros((2, 17, 3)), SIZE)[:, 2] > 0).all()
