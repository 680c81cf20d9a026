"""data/inspect_data.py on sets of all kinds: what it prints, what it finds odd, and its pictures."""

import sys

import numpy as np
import pytest
from PIL import Image

from common.camera import h36m_cameras
from common.files.npz import save_npz
from common.skeleton import H36M_17, H36M_32
from common.synthetic import dataset
from tests.conftest import assert_refused
from tests.tiny_dataset import metadata, tiny_keypoints, tiny_poses, write_tiny_dataset

SCRIPT = "data/inspect_data.py"
WHO = ("S1", "S9")


@pytest.fixture
def look(script, tmp_path):
    """Runs the script on a set in tmp_path, without pictures unless asked for."""

    def run(dataset="tiny", keypoints="gt", options=("--no-pictures",)):
        return script(SCRIPT, "-d", dataset, "-k", keypoints, "--data-dir", tmp_path, "--output", tmp_path, *options)

    return run


def odd(outcome) -> list[str]:
    assert outcome.status == 0, outcome.err
    return [line[2:] for line in outcome.out.splitlines() if line.startswith("- ")]


def write(tmp_path, change_2d=None, change_3d=None, **more):
    """A set of two people, its keypoints those of the poses as they were; changes are of arrays (T, J, D)."""
    poses = tiny_poses(subjects=WHO, skeleton=H36M_32)
    views = tiny_keypoints(poses)
    if change_3d:
        poses = {s: {a: change_3d(pose.copy()) for a, pose in takes.items()} for s, takes in poses.items()}
    if change_2d:
        views = {s: {a: change_2d(v) for a, v in takes.items()} for s, takes in views.items()}
    save_npz(tmp_path / "data_3d_tiny.npz", positions_3d=poses, **more)
    save_npz(tmp_path / "data_2d_tiny_gt.npz", positions_2d=views, metadata=metadata())


def test_prints_what_there_is(look, tmp_path):
    write(tmp_path, metadata={"fps": 50})
    done = look()
    assert done.status == 0, done.err
    lines = [line.split() for line in done.out.splitlines()]
    assert ["S1", "train", "3", "30", "0.0", "4", "120"] in lines
    assert ["S9", "test", "3", "30", "0.0", "4", "120"] in lines
    assert "frames per second: 50" in done.out and "Human3.6M 32 joints, read as Human3.6M 17 joints" in done.out
    camera = h36m_cameras()["S9"][2]
    place = [f"{value:.2f}" for value in camera.translation]
    assert any(line[:6] == ["2", camera.id, "S9", *place] and "1000" in line for line in lines)
    assert any(line[0] == "3" and line[-2:] == ["0.00", "0.00"] for line in lines if line)  # error of the keypoints
    assert not list(tmp_path.glob("*.png"))


def test_pictures(look, tmp_path):
    write_tiny_dataset(tmp_path, subjects=WHO)
    done = look(options=())
    assert done.status == 0, done.err
    for kind in ("poses", "cameras"):
        picture = np.asarray(Image.open(tmp_path / f"tiny_gt_{kind}.png").convert("RGB"))
        for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):  # left and right
            assert (picture == colour).all(-1).any()


def test_no_matplotlib_without_pictures(look, tmp_path, monkeypatch):
    write_tiny_dataset(tmp_path, subjects=WHO)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert look().status == 0


def exchanged(views):
    return [view[:, list(H36M_17.mirror)] for view in views]


def mirrored(views):
    return [(view * (-1, 1) + (1000, 0)).astype(np.float32) for view in views]


def other_order(views):
    return [views[i] for i in (1, 0, 2, 3)]


def y_up(views):
    return [(view * (1, -1) + (0, 1000)).astype(np.float32) for view in views]


def low(pose):
    return pose - np.float32((0, 0, 0.4))


def shrinking(pose):
    return pose * np.linspace(1, 0.8, len(pose), dtype=np.float32)[:, None, None]


def jumping(pose):
    pose[5:] += np.float32((1, 0, 0))
    return pose


def short_arm(pose):
    hand = [H36M_32.index(f"left {joint}") for joint in ("wrist", "wrist copy", "thumb", "hand", "hand end")]
    elbow = H36M_32.index("left elbow")
    pose[:, hand] = (pose[:, hand] + pose[:, [elbow]]) / 2
    return pose


@pytest.mark.parametrize(
    "change_2d, change_3d, words",
    [
        (exchanged, None, "if left and right joints were exchanged"),
        (mirrored, None, "if pictures were mirrored"),
        (y_up, None, "if pictures were turned upside down"),
        (other_order, None, "view 0 shows what camera 1 sees, view 1 shows what camera 0 sees"),
        (None, low, "below the floor"),
        (None, shrinking, "bones change their length within a subject"),
        (None, jumping, "jump 6 times by more than 0.5 m"),
        (None, short_arm, "differ in length: S1 left wrist"),
    ],
)
def test_what_is_odd_is_said(look, tmp_path, change_2d, change_3d, words):
    write(tmp_path, change_2d, change_3d)
    assert any(words in line for line in odd(look())), odd(look())


def test_nothing_odd(look, tmp_path, monkeypatch):
    whole = dataset.make_dataset
    monkeypatch.setattr(dataset, "make_dataset", lambda seed: whole(seed, seconds=0.4, subjects=WHO))
    done = look("synthetic")
    assert odd(done) == [] and "What is odd: nothing" in done.out


def test_lost_frames_are_said_once(look, tmp_path):
    def lose(views):
        return [np.concatenate((view[:3], 0 * view[3:4], view[4:])) for view in views]

    write(tmp_path, lose)
    done = look()
    assert "24 of 240 frames left out" in odd(done)[0] and "left out" not in done.err


def test_wrong_units_are_refused_as_everywhere(look, tmp_path):
    write(tmp_path, change_3d=lambda pose: 1000 * pose)
    assert_refused(look(), "millimetres")
    assert_refused(look("nothing"), "data_3d_nothing.npz")


def test_keypoints_made_of_poses_and_own_cameras(look, tmp_path):
    view = {"focal_length": (1100, 1100), "center": (960, 540), "rotation": [(1, 0, 0), (0, 0, -1), (0, 1, 0)],
            "translation": (0, 1, 4)}  # fmt: skip
    poses = {"anna": {"walk": tiny_poses(subjects=("S1",))["S1"]["Walking"]}}
    save_npz(tmp_path / "data_3d_mine.npz", positions_3d=poses, cameras={"anna": [view]})
    done = look("mine", options=())
    assert "keypoints: made of the poses" in done.out
    assert any("pictures of unknown size" in line for line in odd(done))
    assert (tmp_path / "mine_gt_cameras.png").exists()


def test_sets_without_poses_and_cameras(look, tmp_path):
    np.save(tmp_path / "mpii_poses.npy", np.random.default_rng(0).uniform(0, 900, (40, 34)).astype(np.float32))
    done = look("mpii", options=())
    assert done.status == 0 and "no 3D poses" in done.out
    rows = [line.split() for line in done.out.splitlines()]
    assert ["subject", "split", "frames", "views", "poses"] in rows and ["train", "train", "36", "1", "36"] in rows
    assert (tmp_path / "mpii_gt_poses.png").exists() and not (tmp_path / "mpii_gt_cameras.png").exists()
    walk = tiny_keypoints(tiny_poses(subjects=("S1",)))["S1"]["Walking"][0]
    walk = np.concatenate((walk, np.full_like(walk[..., :1], 0.2)), -1)
    save_npz(tmp_path / "data_2d_video_det.npz", positions_2d={"clip": {"custom": [walk]}}, metadata=metadata())
    assert "joints of less confidence than 0.3: view 0 100%" in odd(look("video", "det", options=()))
