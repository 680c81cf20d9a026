"""BVH: positions as a plain loop over frames finds them, what is written comes back, broken files are named."""

import numpy as np
import pytest

from common.errors import InputError
from common.mocap import bvh
from common.mocap.bvh import WRITTEN_JOINTS, read_bvh, write_bvh
from common.mocap.joints import choose_map, h36m_poses, h36m_weights
from common.mocap.motion import to_z_up
from common.skeleton import H36M_17
from common.synthetic import dataset

TEXT = """HIERARCHY
ROOT Hips
{
  OFFSET 1.0 2.0 3.0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Bip01 L Thigh {
    OFFSET 0.5 -0.25 0.125
    CHANNELS 3 Yrotation Zrotation Xrotation
    JOINT Knee
    {
      OFFSET 0 -4 0.5
      CHANNELS 1 Xrotation
      End Site
      {
        OFFSET 0 -3.5 0
      }
    }
  }
  JOINT Spine
  {
    OFFSET 0 2 0
    CHANNELS 6 Xposition Yposition Zposition Xrotation Yrotation Zrotation
    End Site
    {
      OFFSET 0.5 1 0
    }
  }
}
MOTION
Frames: %d
Frame Time: 0.008333
"""
JOINTS = ("Hips", "Bip01 L Thigh", "Knee", "Knee end", "Spine", "Spine end")


def text_of(values):
    return TEXT % len(values) + "\n".join(" ".join(f"{v:.6f}" for v in row) for row in values) + "\n"


def write(tmp_path, text):
    path = tmp_path / "clip.bvh"
    path.write_text(text)
    return path


def rotation(axis, degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrices = {
        "X": ((1, 0, 0), (0, c, -s), (0, s, c)),
        "Y": ((c, 0, s), (0, 1, 0), (-s, 0, c)),
        "Z": ((c, -s, 0), (s, c, 0), (0, 0, 1)),
    }
    return np.array(matrices[axis])


def plain_loop(row, spine_is_absolute):
    """The joints of one frame, written out."""
    hips = row[:3]
    at_hips = rotation("Z", row[3]) @ rotation("X", row[4]) @ rotation("Y", row[5])
    thigh = hips + at_hips @ (0.5, -0.25, 0.125)
    at_thigh = at_hips @ rotation("Y", row[6]) @ rotation("Z", row[7]) @ rotation("X", row[8])
    knee = thigh + at_thigh @ (0, -4, 0.5)
    at_knee = at_thigh @ rotation("X", row[9])
    spine = hips + at_hips @ (row[10:13] if spine_is_absolute else row[10:13] + (0, 2, 0))
    at_spine = at_hips @ rotation("X", row[13]) @ rotation("Y", row[14]) @ rotation("Z", row[15])
    return np.stack((hips, thigh, knee, knee + at_knee @ (0, -3.5, 0), spine, spine + at_spine @ (0.5, 1, 0)))


@pytest.mark.parametrize("absolute", [True, False])
def test_equals_a_plain_loop(tmp_path, absolute):
    rng = np.random.default_rng(0)
    values = rng.uniform(-180, 180, (7, 16)).round(6)
    values[:, 10:13] = ((0, 2, 0) if absolute else (0, 0, 0)) + rng.normal(0, 0.01, (7, 3)).round(6)
    motion = read_bvh(write(tmp_path, text_of(values)))
    assert motion.joints == JOINTS and motion.positions.shape == (7, 6, 3) and motion.unit is None
    assert motion.fps == pytest.approx(120, abs=0.01)
    for row, positions in zip(values, motion.positions, strict=True):
        assert positions == pytest.approx(plain_loop(row, absolute), abs=1e-9)


def test_windows_line_ends_tabs_and_a_byte_order_mark(tmp_path):
    values = np.random.default_rng(1).uniform(-90, 90, (3, 16)).round(6)
    expected = read_bvh(write(tmp_path, text_of(values))).positions
    path = tmp_path / "windows.bvh"
    text = text_of(values).replace("  ", "\t").replace("CHANNELS ", "CHANNELS\t").replace("\n", " \r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert np.array_equal(read_bvh(path).positions, expected)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda t: "", "is empty"),
        (lambda t: "solid cube\n" + t, "not a BVH file"),
        (lambda t: t.replace("  OFFSET 1.0 2.0 3.0\n", ""), "joint 'Hips' has no OFFSET"),
        (lambda t: t.replace("OFFSET 1.0 2.0 3.0", "OFFSET 1.0 2.0"), "line 4: found '1.0 2.0', expected 3 numbers"),
        (lambda t: t.replace("CHANNELS 1 Xrotation", "CHANNELS 2 Xrotation"), "line 12: CHANNELS '2 Xrotation'"),
        (lambda t: t.replace("CHANNELS 1 Xrotation", "CHANNELS 1 Wrotation"), "such as Xrotation"),
        (lambda t: t.replace("}\nMOTION", "MOTION"), "before the hierarchy is complete (1 '}' missing)"),
        (lambda t: t.replace("}\nMOTION", "}\n}\nMOTION"), "'}' too many"),
        (lambda t: t.replace("  JOINT Spine", "  ROOT Spine"), "line 19: 'ROOT Spine' in the wrong place"),
        (lambda t: t.replace("JOINT Knee", "BONE Knee"), "line 9: 'BONE Knee'"),
        (lambda t: t[: t.index("MOTION")], "has no MOTION"),
        (lambda t: t.replace("Frames: 4", "Pictures: 4"), "expected 'Frames:' and 'Frame Time:'"),
        (lambda t: t.replace("0.008333", "0"), "Frame Time is 0.0"),
        (lambda t: t.replace("Frames: 4", "Frames: 5"), "has 4 frames; 'Frames:' promises 5"),
        (lambda t: t.rstrip()[:-10], "line 35 has 15 numbers; the hierarchy has 16 channels"),
        (lambda t: t.rstrip()[:-8] + "nan", "NaN or infinity"),
        (lambda t: t.rstrip()[:-8] + "0.1.2", "is no number"),
    ],
)
def test_broken_files(tmp_path, change, words):
    values = np.full((4, 16), -1.5)
    text = change(text_of(values))
    with pytest.raises(InputError) as error:
        read_bvh(write(tmp_path, text))
    assert words in str(error.value) and "clip.bvh" in str(error.value) and "\n" not in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="cannot read .*no.bvh"):
        read_bvh(tmp_path / "no.bvh")


# ------------------------------------------------------------ writing


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
    assert np.isfinite(bvh.read_bvh(tmp_path / "clip.bvh").positions).all()
