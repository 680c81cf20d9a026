"""data/prepare_data_2d_custom.py: the file in VideoPose3D's layout from detections of several kinds, and refusals."""

import json

import numpy as np
import pytest

from common.files.npz import load_npz
from common.skeleton import COCO_17, H36M_17
from common.video.read import read_keypoints
from tests.common.video.test_read import BODY_25, body, expected, listed, openpose, write
from tests.conftest import assert_refused

NAME = "data/prepare_data_2d_custom.py"


@pytest.fixture
def prepare(tmp_path, script, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*options):
        return script(NAME, "--data-dir", tmp_path / "data", *options)

    return run


@pytest.fixture
def detections(tmp_path):
    """Three videos: OpenPose's folder, AlphaPose's list without one frame, arrays in COCO's order."""
    folder, at = tmp_path / "detections", body(6)
    (folder / "walk").mkdir(parents=True)
    for t in range(6):
        write(folder / "walk" / f"walk_{t:012d}_keypoints.json", openpose(listed(at, BODY_25, t)))
    entries = [
        {"image_id": f"{t}.jpg", "keypoints": listed(at, COCO_17.joints, t).ravel().tolist()} for t in (0, 1, 3, 4, 5)
    ]
    write(folder / "jump.json", entries)
    np.savez(folder / "sit.npz", keypoints=np.stack([listed(at, COCO_17.joints, t) for t in range(6)]))
    return folder


def test_strangers_forms(prepare, tmp_path):
    """People before frames, old OpenPose with macOS's hidden files, MMPose's pictures, the first without anybody."""
    folder, at = tmp_path / "detections", body(6)
    for name in ("old", "pictures", ".git"):
        (folder / name).mkdir(parents=True)
    np.savez(folder / "first.npz", reconstruction=expected(at)[None])
    for t in range(6):
        points = listed(at, COCO_17.joints, t)
        people = [{"pose_keypoints": listed(at, BODY_25, t).ravel().tolist()}]
        write(folder / "old" / f"{t}.json", {"version": 1.1, "people": people})
        (folder / "old" / f"._{t}.json").write_bytes(b"Mac OS X")
        one = {"keypoints": points[:, :2].tolist(), "keypoint_scores": points[:, 2].tolist()}
        write(folder / "pictures" / f"{t}.json", [one] if t else [])
    done = prepare("-i", folder, "-o", "mine", "--image-size", "1280x720")
    assert done.status == 0 and "3 videos, 18 frames, layout h36m" in done.out, done.err
    views = load_npz(tmp_path / "data" / "data_2d_custom_mine.npz", required=("positions_2d",))["positions_2d"]
    assert list(views) == ["first", "old", "pictures"]
    for name, actions in views.items():
        assert np.allclose(actions["custom"][0][1:], expected(at)[1:], atol=1e-2), name
    alone = prepare("-i", folder / "pictures", "-o", "one", "--image-size", "1280x720")
    assert alone.status == 0 and "1 video, 6 frames, layout coco" in alone.out, alone.err


def test_a_folder_of_videos(prepare, detections, tmp_path):
    done = prepare("-i", detections, "-o", "mine", "--image-size", "1280x720")
    assert done.status == 0, done.err
    assert "3 videos, 18 frames, layout coco" in done.out and "left wrist" in done.out
    file = load_npz(tmp_path / "data" / "data_2d_custom_mine.npz", required=("positions_2d", "metadata"))
    assert list(file["positions_2d"]) == ["jump", "sit", "walk"]
    at = body(6)
    want = np.stack([listed(at, COCO_17.joints, t)[:, :2] for t in range(6)])
    for name, actions in file["positions_2d"].items():
        (points,) = actions["custom"]
        assert points.dtype == np.float32 and points.shape == (6, 17, 2)
        rows = [0, 1, 3, 4, 5] if name == "jump" else range(6)
        assert np.allclose(points[list(rows)], want[list(rows)], atol=1e-2), name
    metadata = file["metadata"]
    assert metadata["layout_name"] == "coco" and metadata["num_joints"] == 17
    assert metadata["keypoints_symmetry"] == [[1, 3, 5, 7, 9, 11, 13, 15], [2, 4, 6, 8, 10, 12, 14, 16]]
    assert metadata["video_metadata"]["walk"] == {"w": 1280, "h": 720}
    again = prepare("-i", detections, "-o", "mine", "--image-size", "1280x720")
    assert again.status == 0 and "is there already: nothing done" in again.out


def test_one_video_and_reading_it_back(prepare, detections, tmp_path):
    assert prepare("-i", detections / "walk", "-o", "one", "--image-size", "640x480", "--joints", "h36m").status == 0
    file = tmp_path / "data" / "data_2d_custom_one.npz"
    assert load_npz(file)["metadata"]["layout_name"] == "h36m"
    found = read_keypoints(file)
    assert found.size == (640, 480) and np.allclose(found.points, expected(body(6)), atol=1e-2)


def test_other_layouts_make_ours(prepare, detections, tmp_path):
    np.savez(detections / "sit.npz", keypoints=expected(body(6)), layout="h36m17", image_size=(800, 600))
    assert_refused(prepare("-i", detections, "-o", "b", "--joints", "coco", "--image-size", "9x9"), "sit.npz: no eyes")
    done = prepare("-i", detections / "sit.npz", "-o", "b")
    assert done.status == 0, done.err
    file = load_npz(tmp_path / "data" / "data_2d_custom_b.npz")
    assert file["metadata"]["keypoints_symmetry"] == [list(H36M_17.left), list(H36M_17.right)]
    assert file["metadata"]["video_metadata"] == {"sit": {"w": 800, "h": 600}}
    assert np.allclose(file["positions_2d"]["sit"]["custom"][0], expected(body(6)), atol=1e-2)


def test_refusals(prepare, detections, tmp_path):
    assert_refused(prepare(), "give -i PATH -o NAME")
    assert_refused(prepare("-i", detections, "-o", "c"), "does not say how large the pictures are", "--image-size")
    assert_refused(prepare("-i", detections, "-o", "c", "--image-size", "wide"), "WIDTHxHEIGHT")
    assert_refused(prepare("-i", tmp_path / "no.json", "-o", "c"), "no.json does not exist")
    (tmp_path / "empty").mkdir()
    assert_refused(prepare("-i", tmp_path / "empty", "-o", "c"), "holds no detections")
    (detections / "walk.json").write_text(json.dumps([]))
    assert_refused(prepare("-i", detections, "-o", "c"), "two videos would be called walk")
    assert not (tmp_path / "data" / "data_2d_custom_c.npz").exists()
