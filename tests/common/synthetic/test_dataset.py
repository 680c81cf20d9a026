"""The synthetic people are human: built alike on both sides, moving smoothly inside the limits of their joints."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from common.camera import h36m_cameras, project, world_to_camera
from common.errors import InputError
from common.files.npz import load_npz
from common.skeleton import H36M_16, H36M_17, H36M_32
from common.synthetic import dataset
from common.synthetic.behaviour import FPS
from common.synthetic.motion import (
    ANKLE_HEIGHT,
    ARM_LIMIT,
    CHANNELS,
    ELBOW_LIMIT,
    KNEE_LIMIT,
    above_floor,
    arm_angles,
    arm_bones,
    pose,
)
from common.synthetic.postures import ACTIONS

SUBJECTS = ("S1", "S11")
# Scenes with both feet in the air, or on something: every other take keeps a foot near the floor.
AIRBORNE = {"climb", "hang", "jump", "uneven", "lie", "prone", "kick", "fight"}


@pytest.fixture(scope="module")
def poses():
    return dataset.make_poses(seed=3, seconds=6, subjects=SUBJECTS)


@pytest.fixture(scope="module")
def everything(poses):
    return np.concatenate([take for takes in poses.values() for take in takes.values()]).astype(float)


def takes_of(poses):
    return [(name, take.astype(float)) for takes in poses.values() for name, take in takes.items()]


def angle(a, b):
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return np.arccos(np.clip(cosine, -1, 1))


def joint(points, name):
    return points[:, H36M_17.index(name)]


def limb(points, side, names):
    return [joint(points, f"{side} {name}") for name in names]


def test_bones_keep_the_measured_lengths(poses):
    order = [H36M_17.index(name) for name in H36M_16.joints]
    for subject, takes in poses.items():
        points = np.concatenate(list(takes.values()))[:, order].astype(float)
        found = np.stack([np.linalg.norm(points[:, c] - points[:, p], axis=-1) for p, c in H36M_16.bones], 1)
        expected = dataset.bone_lengths()[subject]
        assert np.abs(found - expected).max() < 1e-4  # the measured sides differ by up to 0.03 mm
        assert found.std(0).max() < 1e-6
        for a, b in zip(H36M_16.left, H36M_16.right, strict=True):
            assert abs(found[0, a - 1] - found[0, b - 1]) < 1e-6


def test_made_up_subjects_are_nobody_else():
    lengths = dataset.bone_lengths()
    assert tuple(lengths) == dataset.SUBJECTS
    for name in ("S9", "S11"):
        assert all(np.abs(lengths[name] - lengths[other]).max() > 0.005 for other in lengths if other != name)
        assert 0.8 < lengths[name][1:3].sum() < 1.0


def test_knees_bend_backward_only(everything):
    for side in ("left", "right"):
        hip, knee, foot = limb(everything, side, ("hip", "knee", "foot"))
        flexion = angle(knee - hip, foot - knee)
        assert flexion.max() < KNEE_LIMIT + 1e-3
        # The shin folds behind the thigh: seen along the knee's hinge, which runs towards the body's left.
        hinge = np.cross(knee - hip, foot - knee)
        sideways = joint(everything, "left hip") - joint(everything, "right hip")
        bent = flexion > np.radians(25)
        assert bent.mean() > 0.1
        assert (angle(hinge, sideways)[bent] < np.radians(115)).mean() > 0.995


def test_elbows_and_shoulders_stay_inside_their_limits(everything):
    for side in ("left", "right"):
        shoulder, elbow, wrist = limb(everything, side, ("shoulder", "elbow", "wrist"))
        assert angle(elbow - shoulder, wrist - elbow).max() < ELBOW_LIMIT + 1e-3
        up = joint(everything, "thorax") - joint(everything, "spine")
        assert angle(elbow - shoulder, -up).max() < ARM_LIMIT + np.radians(50)  # against the bent upper spine


def test_hands_are_in_front_more_than_behind(everything):
    forward = np.cross(
        joint(everything, "left hip") - joint(everything, "right hip"),
        joint(everything, "thorax") - joint(everything, "hip"),
    )
    for side in ("left", "right"):
        ahead = ((joint(everything, f"{side} wrist") - joint(everything, "thorax")) * forward).sum(-1)
        assert (ahead > 0).mean() > 0.7


def test_nose_is_in_front_of_the_head(everything):
    forward = np.cross(
        joint(everything, "left shoulder") - joint(everything, "right shoulder"),
        joint(everything, "thorax") - joint(everything, "spine"),
    )
    middle = (joint(everything, "thorax") + joint(everything, "head")) / 2
    assert (((joint(everything, "neck") - middle) * forward).sum(-1) > 0).mean() > 0.98


def test_standing_person_faces_forward_with_the_left_side_at_the_left():
    body = dataset.bodies()["S1"]
    motion = {name: np.zeros((1, width)) for name, width in CHANNELS.items()}
    motion["pelvis"][:, 2] = body.stand
    for name, side in (("left_foot", 1), ("right_foot", -1)):
        motion[name][0, :3] = 0, side * 0.1, ANKLE_HEIGHT
    points = pose(body, motion)[0]
    assert points[H36M_17.index("left hip"), 1] > 0.1 and points[H36M_17.index("right wrist"), 1] < -0.1
    assert points[H36M_17.index("neck"), 0] > 0.03  # facing +x
    assert points[H36M_17.index("head"), 2] == points[:, 2].max()


def test_feet_stand_on_the_floor_without_sliding(poses):
    feet = [H36M_17.index("left foot"), H36M_17.index("right foot")]
    slides = []
    for name, take in takes_of(poses):
        action, _, number = name.partition(" ")
        lowest = take[:, feet, 2].min(1)
        assert lowest.min() > 0.02, name
        if not AIRBORNE & set(ACTIONS[action][int(number or 0)]):
            assert np.median(lowest) < ANKLE_HEIGHT + 0.03 and lowest.max() < ANKLE_HEIGHT + 0.2, name
        moved = np.linalg.norm(np.diff(take[:, feet, :2], axis=0), axis=-1) * FPS
        planted = (take[1:, feet, 2] < ANKLE_HEIGHT + 1e-3) & (take[:-1, feet, 2] < ANKLE_HEIGHT + 1e-3)
        slides.append(moved[planted])
    assert np.quantile(np.concatenate(slides), 0.95) < 0.1  # m/s


def test_nobody_is_below_the_floor(everything):
    assert everything[..., 2].min() > -1e-6


def test_sunk_poses_are_lifted_smoothly_and_others_left_alone():
    joints = np.full((2, 120, 17, 3), 0.5)
    joints[0, 60:63, 5, 2] = -0.15
    lifted = above_floor(joints)
    lift = lifted[0, :, 0, 2] - 0.5
    assert lifted[..., 2].min() > -1e-12 and lift.max() == pytest.approx(0.15)
    assert np.array_equal(lifted[1], joints[1]) and not lift[:30].any() and not lift[93:].any()
    assert np.abs(np.diff(lift)).max() * FPS < 1 and np.abs(np.diff(lift, 2)).max() * FPS**2 < 10  # m/s, m/s^2
    np.testing.assert_allclose(lifted[0] - lifted[0, :, :1], joints[0] - joints[0, :, :1], atol=1e-12)


def test_motion_is_smooth(poses):
    for name, take in takes_of(poses):
        speed = np.linalg.norm(np.diff(take, axis=0), axis=-1) * FPS
        change = np.linalg.norm(np.diff(take, 2, axis=0), axis=-1) * FPS**2
        assert speed.max() < 12, name
        assert np.quantile(speed, 0.99) < 7, name
        assert np.quantile(change, 0.99) < 120 and change.max() < 600, name


def test_every_direction_is_faced_and_every_take_moves(poses, everything):
    sideways = joint(everything, "left hip") - joint(everything, "right hip")
    heading = np.arctan2(sideways[:, 1], sideways[:, 0])
    share = np.histogram(heading, 12, (-np.pi, np.pi))[0] / len(heading)
    assert share.min() > 0.02
    for name, take in takes_of(poses):
        assert np.ptp(take - take[:, :1], axis=0).max() > 0.05, name


def test_both_sides_are_used_alike(everything):
    thorax = joint(everything, "thorax")
    raised = [(joint(everything, f"{side} wrist") - thorax)[:, 2] > 0 for side in ("left", "right")]
    assert 0.5 < raised[0].mean() / raised[1].mean() < 2


def test_seeds():
    def make(seed):
        return dataset.make_poses(seed, 1, ("S5",))["S5"]

    first, again, other = make(1), make(1), make(2)
    for name, take in first.items():
        assert np.array_equal(take, again[name])
        assert np.abs(take - other[name]).max() > 0.1


def test_reaching_puts_the_wrist_where_it_should_be():
    body = dataset.bodies()["S8"]
    rng = np.random.default_rng(0)
    hand = np.array((0.3, 0.25, -0.1)) + 0.04 * rng.normal(size=(50, 3))
    angles = arm_angles(body, hand, np.tile((-0.2, 0.7, -0.7), (50, 1)), np.zeros((50, 2)))
    assert np.allclose(sum(arm_bones(body, angles)), hand, atol=1e-9)


@pytest.fixture(scope="module")
def small_folder(tmp_path_factory):
    """The whole path through the files, for one subject and half a second."""
    folder = tmp_path_factory.mktemp("synthetic")
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        dataset.ensure(folder)
    return folder


def shrink(patch):
    make = dataset.make_dataset
    patch.setattr(dataset, "make_dataset", lambda seed: make(seed, 0.5, ("S1",)))


def test_files_follow_the_layout_and_the_projection_is_exact(small_folder):
    world = load_npz(small_folder / "data_3d_synthetic.npz")["positions_3d"]["S1"]
    exact = load_npz(small_folder / "data_2d_synthetic_gt.npz")
    noisy = load_npz(small_folder / "data_2d_synthetic_noisy.npz")
    assert exact["metadata"] == noisy["metadata"] == dataset.metadata()
    assert exact["metadata"]["keypoints_symmetry"] == [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]]
    assert len(world) == 30 and {"Walking", "Walking 1", "SittingDown 1"} <= set(world)
    keep = [H36M_32.index(name) for name in H36M_17.joints]
    errors = []
    for action, points in world.items():
        assert points.shape == (25, 32, 3) and points.dtype == np.float32
        views = [file["positions_2d"]["S1"][action] for file in (exact, noisy)]
        for camera, pixels, detected in zip(h36m_cameras()["S1"], *views, strict=True):
            assert pixels.shape == detected.shape == (25, 17, 2) and pixels.dtype == detected.dtype == np.float32
            extrinsics = torch.tensor(camera.orientation), torch.tensor(camera.translation)
            view = world_to_camera(torch.tensor(points[:, keep]), *extrinsics)
            assert view[..., 2].min() > 1
            assert np.abs(project(view, camera.intrinsics()).numpy() - pixels).max() < 0.01
            assert pixels.min() > -250 and pixels.max() < 1250
            errors.append(np.linalg.norm(detected - pixels, axis=-1))
    errors = np.concatenate(errors)
    assert 2 < np.median(errors) < 6
    assert 0.002 < (errors > 30).mean() < 0.08
    assert np.median(errors[:, [13, 16]]) > 1.2 * np.median(errors[:, [0, 8]])


def test_copies_of_joints_are_filled_as_in_human36m(small_folder):
    points = next(iter(load_npz(small_folder / "data_3d_synthetic.npz")["positions_3d"]["S1"].values()))
    for copy, original in (("hip copy", "hip"), ("left thorax copy", "thorax"), ("right wrist copy", "right wrist")):
        assert np.array_equal(points[:, H36M_32.index(copy)], points[:, H36M_32.index(original)])


def test_files_are_made_once_per_seed(small_folder, monkeypatch):
    before = [path.stat().st_mtime_ns for path in dataset.ensure(small_folder)]
    shrink(monkeypatch)
    assert [path.stat().st_mtime_ns for path in dataset.ensure(small_folder)] == before
    (small_folder / dataset.FILES[1]).write_bytes(b"PK half a file")
    old = (small_folder / dataset.FILES[2]).read_bytes()
    paths = dataset.ensure(small_folder)
    assert paths[2].read_bytes() == old  # the same seed gives the same bytes
    load_npz(paths[1])


def test_two_at_once_make_the_files_once(tmp_path, monkeypatch):
    shrink(monkeypatch)
    make, made = dataset.make_dataset, []
    monkeypatch.setattr(dataset, "make_dataset", lambda seed: made.append(seed) or make(seed))
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(dataset.ensure, (tmp_path, tmp_path))
    assert first == second and made == [0]


def test_unwritable_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another --data-dir"):
        dataset.ensure(tmp_path / "file")
