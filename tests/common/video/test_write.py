"""BVH of 17 joints: what is written comes back, as Blender needs it, and what cannot be written is named."""

import numpy as np
import pytest

from common.errors import InputError
from common.mocap.bvh import read_bvh
from common.mocap.joints import choose_map, h36m_poses, h36m_weights
from common.mocap.motion import to_z_up
from common.skeleton import H36M_17
from common.synthetic import dataset
from common.video.bvh import write_bvh
from common.video.rig import RIG

# Human3.6M's joint -> its name in the files: a joint map for `common.mocap.joints`
WRITTEN_JOINTS = {joint: name for name, _, joint, rest in reversed(RIG) if any(rest) or name == "Hips"}


@pytest.fixture(scope="module")
def poses():
    """Real-looking motion with constant bone lengths, among it sitting, lying and turning round."""
    takes = dataset.make_poses(seed=1, seconds=1, subjects=("S6",))["S6"]
    return np.concatenate(list(takes.values())).astype(np.float64)


def read_back(path, wanted=WRITTEN_JOINTS):
    motion = read_bvh(path)
    poses = h36m_poses(motion.positions, h36m_weights(motion.joints, wanted, path))
    return to_z_up(poses, "y"), motion.fps


def test_what_is_written_comes_back(tmp_path, poses):
    write_bvh(tmp_path / "clip.bvh", poses, 50)
    found, fps = read_back(tmp_path / "clip.bvh")
    assert fps == pytest.approx(50) and found == pytest.approx(poses, abs=2e-5)


def test_any_directions_come_back(tmp_path):
    """Bones that turn to anywhere, straight against the rest pose too."""
    rng = np.random.default_rng(2)
    bones = rng.normal(size=(200, 17, 3))
    bones[:20] = np.where(rng.random((20, 17, 1)) < 0.5, (0, 0, 1), (0, 0, -1))
    bones[20:40] = np.where(rng.random((20, 17, 1)) < 0.5, (1, 0, 0), (-1, 0, 0))
    bones *= rng.uniform(0.1, 0.5, (17, 1)) / np.linalg.norm(bones, axis=-1, keepdims=True)
    poses = bones.copy()
    for parent, child in H36M_17.bones:
        poses[:, child] = poses[:, parent] + bones[:, child]
    write_bvh(tmp_path / "clip.bvh", poses, 25)
    assert read_back(tmp_path / "clip.bvh")[0] == pytest.approx(poses, abs=2e-5)


def test_the_preset_finds_the_joints_that_are_written(tmp_path, poses):
    write_bvh(tmp_path / "clip.bvh", poses, 50)
    name, wanted = choose_map(read_bvh(tmp_path / "clip.bvh").joints)
    assert name == "cmu"
    found = read_back(tmp_path / "clip.bvh", wanted)[0]
    assert found[:, 1:] == pytest.approx(poses[:, 1:], abs=2e-5)
    assert found[:, 0] == pytest.approx((poses[:, 1] + poses[:, 4]) / 2, abs=2e-5)


def test_lengths_that_vary_become_their_mean_and_the_root_stays(tmp_path, poses):
    wobbly = poses * np.linspace(0.98, 1.02, len(poses))[:, None, None]
    write_bvh(tmp_path / "clip.bvh", wobbly, 50)
    found = read_back(tmp_path / "clip.bvh")[0]
    assert found[:, 0] == pytest.approx(wobbly[:, 0], abs=2e-5)
    for parent, child in H36M_17.bones:
        bone, wanted = found[:, child] - found[:, parent], wobbly[:, child] - wobbly[:, parent]
        lengths = np.linalg.norm(bone, axis=-1)
        assert np.ptp(lengths) < 1e-4 and lengths.mean() == pytest.approx(
            np.linalg.norm(wanted, axis=-1).mean(), abs=1e-4
        )
        cosine = (bone * wanted).sum(-1) / lengths / np.linalg.norm(wanted, axis=-1)
        assert cosine.min() > 1 - 1e-6


def test_the_rest_pose_is_a_t_pose_that_looks_along_z(tmp_path, poses):
    """As Blender shows it before any motion: zero angles, y up, left arm along +x."""
    write_bvh(tmp_path / "clip.bvh", poses, 50)
    head, _ = (tmp_path / "clip.bvh").read_text().split("MOTION\n")
    assert head.count("{") == head.count("}") and head.count("End Site") == 5
    (tmp_path / "rest.bvh").write_text(
        head + "MOTION\nFrames: 1\nFrame Time: 0.02\n" + " ".join(["0"] * (6 + 21 * 3)) + "\n"
    )
    rest = read_bvh(tmp_path / "rest.bvh")
    at = dict(zip(rest.joints, rest.positions[0], strict=True))
    assert at["LeftHand"][0] > 0.5 > -0.5 > at["RightHand"][0] and at["LeftLeg"][1] < 0 < at["Head end"][1]


def test_angles_do_not_jump(tmp_path):
    """Blender joins keys by curves: an angle may not leap by 360 degrees between frames of smooth motion."""
    take = dataset.make_poses(seed=1, seconds=4, subjects=("S1",))["S1"]["Walking"]
    write_bvh(tmp_path / "clip.bvh", take, 50)
    rows = (tmp_path / "clip.bvh").read_text().split("Frame Time: 0.02\n")[1]
    values = np.array([line.split() for line in rows.strip().split("\n")], float)
    assert np.abs(np.diff(values[:, 3:], axis=0)).max() < 180


@pytest.mark.parametrize(
    "poses, fps, words",
    [
        (np.zeros((3, 16, 3)), 50, "(3, 16, 3); expected (T, 17, 3)"),
        (np.zeros((0, 17, 3)), 50, "T > 0"),
        (np.zeros((3, 17, 3)), 0, "0 frames per second"),
        (np.full((3, 17, 3), np.nan), 50, "NaN"),
    ],
)
def test_what_cannot_be_written(tmp_path, poses, fps, words):
    with pytest.raises(InputError) as error:
        write_bvh(tmp_path / "clip.bvh", poses, fps)
    assert words in str(error.value) and not (tmp_path / "clip.bvh").exists()


def test_joints_that_fall_together_give_finite_angles(tmp_path):
    write_bvh(tmp_path / "clip.bvh", np.zeros((2, 17, 3)), 50)
    assert np.isfinite(read_bvh(tmp_path / "clip.bvh").positions).all()
