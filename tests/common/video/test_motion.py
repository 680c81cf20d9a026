import numpy as np
import pytest

from common.skeleton import H36M_17
from common.video import motion, upright
from tests.motion_files import person

FPS, SIZE, FOCAL = 50, (1000, 1000), 1100.0


def noise(shape, size, seed=0):
    return size * np.random.default_rng(seed).standard_normal(shape)


@pytest.fixture(scope="module")
def scene():
    """A person who walks before a camera that looks 10 degrees down: camera-frame poses, and pixels."""
    world = person()
    world = np.concatenate([world, world[::-1]] * 200)[:200]  # there and back, without jumps
    world = world + np.linspace(0, 1, 200)[:, None, None] * (1.0, 1.5, 0) + (0, 4.0, -1.5)
    angle = np.radians(10)
    x, y, z = np.moveaxis(world, -1, 0)
    camera = np.stack((x, -z * np.cos(angle) - y * np.sin(angle), y * np.cos(angle) - z * np.sin(angle)), -1)
    np.testing.assert_allclose(upright.to_world(camera, 10), world, atol=1e-9)
    return camera, FOCAL * camera[..., :2] / camera[..., 2:] + 500


def test_the_path_by_perspective_is_exact_without_noise(scene):
    camera, pixels = scene
    path = motion.root_path(camera - camera[:, :1], pixels, FOCAL, SIZE)
    np.testing.assert_allclose(path, camera[:, 0], atol=1e-3)


def test_a_joint_far_off_does_not_move_the_path(scene):
    camera, pixels = scene
    wrong = pixels.copy()
    wrong[:, H36M_17.index("left wrist")] += 300
    path = motion.root_path(camera - camera[:, :1], wrong, FOCAL, SIZE)
    np.testing.assert_allclose(path, camera[:, 0], atol=0.05)


def test_smoothing_solves_its_equation():
    values, weights = noise((60, 2), 1.0), np.random.default_rng(1).random((60, 1))
    second = np.diff(np.eye(60), 2, axis=0)
    stiffness = (2 * np.sin(np.pi * 6 / FPS)) ** -4
    expected = np.linalg.solve(np.diag(weights[:, 0]) + stiffness * second.T @ second, weights * values)
    np.testing.assert_allclose(motion.smooth(values, FPS, 6.0, weights), expected, atol=1e-6)


@pytest.mark.parametrize("hertz, left", [(0.5, 1.0), (6.0, 0.5), (20.0, 0.02)])
def test_the_cut_off_is_where_half_is_left(hertz, left):
    wave = np.sin(2 * np.pi * hertz * np.arange(1000) / FPS)[:, None]
    kept = motion.smooth(wave, FPS, 6.0)[200:800].std() / wave[200:800].std()
    assert abs(kept - left) < 0.03


def test_strength_0_gives_back_what_came(scene):
    poses = scene[0] - scene[0][:, :1]
    assert motion.without_jitter(poses, FPS, 0) is poses


def test_the_filter_halves_acceleration_and_drops_jumps(scene):
    true = scene[0] - scene[0][:, :1]
    raw = true + noise(true.shape, 0.01)
    raw[130, 5] += 0.4
    found = motion.without_jitter(raw, FPS, 1.0)
    error = [np.abs(np.diff(p - true, n=2, axis=0)).mean() for p in (raw, found)]
    assert error[1] < 0.3 * error[0]
    assert np.linalg.norm(found[130, 5] - true[130, 5]) < 0.1


def test_bones_become_constant_and_directions_stay():
    poses = person() + noise(person().shape, 0.02)
    found = motion.constant_bones(poses)
    for parent, child in H36M_17.bones:
        length = np.linalg.norm(found[:, child] - found[:, parent], axis=-1)
        assert np.ptp(length) < 1e-9
        was, now = (p[:, child] - p[:, parent] for p in (poses, found))
        np.testing.assert_allclose(np.cross(was, now), 0, atol=1e-9)


def test_a_leg_bends_with_bones_of_the_same_length():
    hip, knee, foot = (np.array([place]) for place in ((0, 0, 1.0), (0, 0.1, 0.55), (0, 0, 0.1)))
    for move, reached in (((0.1, 0.0, 0.05), True), ((0, 0, -1.0), False), ((0, 0, 0), True)):
        new_knee, new_foot = motion.bend(hip, knee, foot, np.array([move]))
        for a, b, c, d in ((new_knee, hip, knee, hip), (new_foot, new_knee, foot, knee)):
            assert abs(np.linalg.norm(a - b) - np.linalg.norm(c - d)) < 1e-5
        assert (np.abs(new_foot - foot - move).max() < 1e-6) == reached
        assert new_knee[0, 1] >= -1e-6  # still forwards


def test_feet_that_slide_are_held(scene):
    """A standing person whose whole body drifts and trembles: the feet stay in one place, on the floor."""
    still = np.repeat(person()[:1], 100, 0)
    still[:, motion.FEET[0], 2] = still[:, motion.FEET[1], 2]
    drift = np.linspace(0, 0.2, 100)[:, None, None] * (1, 0, 0) + noise((100, 1, 3), 0.002)
    found = motion.grounded(still + drift, FPS)
    assert found.contact.mean() > 0.9
    feet = found.poses[5:-5, list(motion.FEET)]
    assert np.median(np.linalg.norm(np.diff(feet, axis=0), axis=-1)) * FPS < 0.02
    assert abs(np.median(feet[..., 2])) < 0.01


def test_a_moving_person_in_the_world(scene):
    camera, pixels = scene
    found, pitch = motion.moving(camera - camera[:, :1], pixels, FPS, FOCAL, SIZE, pitch=10.0, plant_feet=False)
    assert pitch == 10
    true = upright.to_world(camera, 10)
    walked = found.poses[:, 0] - true[:, 0]
    length = np.linalg.norm(true[-1, 0] - true[0, 0])
    assert np.linalg.norm(walked - walked.mean(0), axis=-1).mean() < 0.05 * length


def test_focal_lengths_are_shares_or_pixels():
    assert motion.focal_pixels(1.5, (1080, 1920)) == 2880
    assert motion.focal_pixels(1200.0, (1080, 1920)) == 1200


def test_nothing_stands_behind_the_camera():
    assert (motion.root_path(np.zeros((2, 17, 3)), np.zeros((2, 17, 2)), FOCAL, SIZE)[:, 2] > 0).all()
