"""The synthetic set's cross-data twin: other people, cameras and actions; exact projections; the same bytes."""

import numpy as np
import pytest
import torch

from common.camera import camera_to_world, h36m_cameras, project
from common.datasets.mpi_inf_3dhp import load_test_set
from common.errors import InputError
from common.files.npz import load_npz
from common.skeleton import H36M_16, H36M_17, convert
from common.synthetic import cross, dataset
from common.synthetic.motion import ELBOW_LIMIT, KNEE_LIMIT
from common.synthetic.postures import ACTIONS
from common.synthetic.postures import SCENES as TRAINING_SCENES

SECONDS = 2.0


@pytest.fixture(scope="module")
def motion():
    return cross.make_motion(seed=1, seconds=SECONDS)


@pytest.fixture(scope="module")
def arrays():
    return cross.make_cross(seed=1, seconds=SECONDS)[cross.FILE]


@pytest.fixture(scope="module")
def everything(motion):
    return np.concatenate([takes.reshape(-1, 17, 3) for takes in motion.values()]).astype(float)


def lengths_of(points):
    """Bone lengths (N, 15) of poses (N, 16, 3)."""
    return np.stack([np.linalg.norm(points[:, c] - points[:, p], axis=-1) for p, c in H36M_16.bones], 1)


def angle(a, b):
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return np.arccos(np.clip(cosine, -1, 1))


def test_every_bone_is_outside_the_range_trained_on(motion):
    trained = np.array([dataset.bone_lengths()[subject] for subject in ("S1", "S5", "S6", "S7", "S8")])
    shortest, longest = trained.min(0), trained.max(0)
    totals = {}
    for name, takes in motion.items():
        found = lengths_of(convert(takes.reshape(-1, 17, 3), H36M_17, H36M_16).astype(float))
        assert found.std(0).max() < 1e-6
        bones = found.mean(0)
        outside = np.maximum(bones / longest - 1, 1 - bones / shortest)
        assert outside.min() > 0.02 and outside.max() < 0.25, name
        totals[name] = bones[[1, 2, 6, 7, 8]].sum()  # leg, trunk and head
    assert totals["tall"] > 1.7 and totals["child"] < 1.3
    for name in totals:  # head to leg, trunk to leg: people, not scaled copies of one
        body = cross.cross_bodies()[name]
        assert 0.4 < (body.lower_spine + body.upper_spine) / body.leg < 0.75


def test_bodies_keep_to_the_limits_of_their_joints(everything):
    for side in ("left", "right"):
        hip, knee, foot, shoulder, elbow, wrist = (
            everything[:, H36M_17.index(f"{side} {joint}")]
            for joint in ("hip", "knee", "foot", "shoulder", "elbow", "wrist")
        )
        assert angle(knee - hip, foot - knee).max() < KNEE_LIMIT + 1e-3
        assert angle(elbow - shoulder, wrist - elbow).max() < ELBOW_LIMIT + 1e-3
        hinge = np.cross(knee - hip, foot - knee)  # towards the body's left where the knee bends backward
        sideways = everything[:, H36M_17.index("left hip")] - everything[:, H36M_17.index("right hip")]
        bent = angle(knee - hip, foot - knee) > np.radians(25)
        assert (angle(hinge, sideways)[bent] < np.radians(115)).mean() > 0.99
    assert everything[..., 2].min() > -0.12 and (everything[..., 2].min(1) < 0).mean() < 0.01


def test_cameras_stand_and_look_where_they_should():
    for camera, viewpoint in zip(cross.cross_cameras(), cross.VIEWPOINTS, strict=True):
        focal, width, height, up, away, _ = viewpoint
        rotation, place = torch.tensor(camera.orientation), torch.tensor(camera.translation)
        assert rotation.norm().item() == pytest.approx(1, abs=1e-6)
        right, down, ahead = camera_to_world(torch.eye(3), rotation)
        aim = torch.tensor((0.0, 0.0, cross.AIM)) - place
        torch.testing.assert_close(ahead, aim / aim.norm(), atol=1e-6, rtol=0)
        assert abs(right[2]) < 1e-6 and down[2] < 0  # level
        assert place[2].item() == pytest.approx(up) and place[:2].norm().item() == pytest.approx(away, abs=1e-5)
        assert camera.intrinsics("screen")[:4].tolist() == pytest.approx((focal, focal, 0, 0), abs=1e-6)
        assert (camera.width, camera.height) == (width, height)


def test_cameras_are_not_those_trained_on():
    known = [camera for cameras in h36m_cameras().values() for camera in cameras]
    for camera in cross.cross_cameras():
        focal, up = camera.intrinsics("screen")[0].item(), camera.translation[2]
        for other in known:
            assert abs(focal - other.intrinsics("screen")[0].item()) > 0.5
            assert abs(up - other.translation[2]) > 0.2


def test_scenes_are_no_scene_trained_on():
    trained = {TRAINING_SCENES[name] for takes in ACTIONS.values() for take in takes for name in take}
    assert not trained & set(cross.SCENES.values())
    assert not set(cross.SCENES) & set(ACTIONS)
    pairs = {(legs, trunk, arm) for s in trained for legs in s.legs for trunk in s.trunk for arm in s.arms}
    for name, scene in cross.SCENES.items():
        own = {(legs, trunk, arm) for legs in scene.legs for trunk in scene.trunk for arm in scene.arms}
        assert len(own - pairs) / len(own) > 0.15, name  # postures of legs, trunk and arms that never go together there


def test_poses_are_exact_projections_in_one_of_the_cameras(arrays):
    poses, keypoints = torch.from_numpy(arrays["pose3d"]), torch.from_numpy(arrays["pose2d"])
    assert poses.dtype == keypoints.dtype == torch.float32
    assert poses.shape == (len(poses), 16, 3) and keypoints.shape == (len(poses), 16, 2)
    whole = 4 * 12 * SECONDS * 50 / cross.STRIDE
    assert 0.93 * whole < len(poses) <= whole
    cameras = torch.stack([camera.intrinsics("screen") for camera in cross.cross_cameras()])
    error = (project(poses[:, None], cameras[None, :, None]) - keypoints[:, None]).abs().flatten(2).amax(2)
    closest = error.min(1)
    assert closest.values.max() < 1e-6 and len(closest.indices.unique()) == 4  # of six: some share their lens
    assert keypoints.abs().max() <= 1 and poses[..., 2].min() > 0.5
    size = (keypoints.amax(1) - keypoints.amin(1)).amax(-1)
    assert 0.35 < size.mean() < 0.8  # of 2, the width of the picture: as large as in Human3.6M
    standing = poses[:, H36M_16.index("left foot"), 1] > poses[:, H36M_16.index("head"), 1]
    assert standing.float().mean() > 0.8  # y points down


def test_full_size_and_seeds(tmp_path, arrays):
    file = cross.ensure_cross(tmp_path / "new")
    assert file.name == "test_synthetic_cross.npz" and 3000 <= len(load_test_set(file).poses) <= 6000
    again = cross.make_cross(seed=1, seconds=SECONDS)[cross.FILE]
    other = cross.make_cross(seed=2, seconds=SECONDS)[cross.FILE]
    for key, values in arrays.items():
        assert np.array_equal(again[key], values) and not np.array_equal(other[key][:100], values[:100])


def test_file_is_made_once_and_again_the_same(tmp_path, monkeypatch):
    make, made = cross.make_cross, []
    monkeypatch.setattr(cross, "make_cross", lambda seed: made.append(seed) or make(seed, 0.5))
    file = cross.ensure_cross(tmp_path)
    content = file.read_bytes()
    assert cross.ensure_cross(tmp_path) == file and made == [0]
    assert str(load_npz(file)["stamp"]) == f"synthetic_cross version {cross.VERSION} seed 0"
    file.write_bytes(content[:1000])
    assert cross.ensure_cross(tmp_path).read_bytes() == content and made == [0, 0]
    cross.ensure_cross(tmp_path, seed=3)
    assert file.read_bytes() != content and made == [0, 0, 3]
    cross.ensure_cross(tmp_path)  # any seed will do
    assert made == [0, 0, 3]
    monkeypatch.setattr(cross, "VERSION", cross.VERSION + 1)
    cross.ensure_cross(tmp_path)
    assert made == [0, 0, 3, 0]
    with pytest.raises(InputError, match="choose another --data-dir"):
        cross.ensure_cross(file)
