"""A lifter's poses in the mean with a detector's own 3D."""

import numpy as np
import pytest

from common.skeleton import H36M_17
from common.video import blazepose
from common.video.raw import RawKeypoints
from common.video.read import read_keypoints
from methods.video_lifting import averaged


def poses(seed: int) -> np.ndarray:
    pose = np.random.default_rng(seed).normal(size=(4, 17, 3))
    return pose - pose[:, :1]


def test_the_mean_is_between_both_and_in_the_lifters_size():
    pose, own = poses(0), poses(1)
    assert np.array_equal(averaged(pose, own, 0), pose)
    assert np.allclose(averaged(pose, 7 * pose, 0.5), pose)  # another unit, or a smaller person
    wrist, thorax, head = (H36M_17.index(joint) for joint in ("left wrist", "thorax", "head"))
    half, whole = averaged(pose, own, 0.5), averaged(pose, own, 1.0)
    assert np.allclose(half[:, wrist], (pose[:, wrist] + whole[:, wrist]) / 2)
    limbs = [*H36M_17.left, *H36M_17.right]
    assert np.allclose(*(np.linalg.norm(x[:, limbs], axis=-1).mean(-1) for x in (whole, pose)))
    assert np.allclose(whole[:, head] - whole[:, thorax], pose[:, head] - pose[:, thorax])


def test_frames_without_own_3d_stay():
    pose, own = poses(0), poses(1)
    own[2] = np.nan
    made = averaged(pose, own, 0.5)
    assert np.array_equal(made[2], pose[2]) and not np.allclose(made[1], pose[1]) and np.isfinite(made).all()


@pytest.mark.parametrize("columns", [3, 6])
def test_own_3d_is_read_where_the_detector_has_it(columns):
    points = np.random.default_rng(0).uniform(1, 9, size=(5, 33, columns))
    points[..., 2] = 1
    raw = RawKeypoints([[pose] for pose in points], list("01234"), blazepose.LAYOUT, (10, 10))
    found = read_keypoints("video", raw=raw)
    if columns == 3:
        assert found.own is None
    else:
        left_wrist = 15  # of BlazePose's landmarks
        assert np.allclose(found.own[:, H36M_17.index("left wrist")], points[:, left_wrist, 3:])
