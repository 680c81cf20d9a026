"""data/prepare_data_2d_h36m_generic.py on small files of every form that it reads; bad input ends in one line."""

import numpy as np
import pytest

from common.datasets.h36m_layout import load_pose_set
from common.files.npz import load_npz, save_npz
from common.skeleton import COCO_17, H36M_16, H36M_17, MPII_16, convert
from tests.conftest import assert_refused
from tests.data.test_prepare_data_h36m import canonical, released_takes
from tests.tiny_dataset import tiny_keypoints

SCRIPT = "data/prepare_data_2d_h36m_generic.py"
CAMERAS = ("54138969", "55011271", "58860488", "60457274")
FRAMES = 5


@pytest.fixture(scope="module")
def poses():
    return released_takes(FRAMES)


@pytest.fixture(scope="module")
def detections(poses):
    """subject -> name of the release -> views (T, 17, 2), Human3.6M order."""
    return tiny_keypoints(poses, noise=2)


def coco(view: np.ndarray) -> np.ndarray:
    """Human3.6M's joints (T, 17, 2) as COCO's: face joints around the neck/nose."""
    places = {name: view[:, H36M_17.index(name)] for name in H36M_17.joints}
    return np.stack([places.get(name, places["neck"]) for name in COCO_17.joints], 1)


def videos(tree):
    for subject, takes in tree.items():
        for name, views in takes.items():
            for camera, view in zip(CAMERAS, views, strict=True):
                yield subject, name, camera, view


def detectron(view: np.ndarray, empty=(), beside=()) -> dict:
    """What VideoPose3D's inference scripts write: by frame and class, boxes (N, 5) and keypoints (N, 4, 17).

    Frames in `empty` have nobody; in those of `beside` another person comes first, with a worse box.
    """
    boxes, people = np.empty((len(view), 2), object), np.empty((len(view), 2), object)
    for frame, points in enumerate(view.astype(np.float32)):
        person = np.concatenate((points.T, np.ones((2, 17), np.float32)))
        found = [] if frame in empty else [person]
        scores = [0.9] * len(found)
        if frame in beside:
            found, scores = [person + 100, *found], [0.5, *scores]
        boxes[frame, 0] = people[frame, 0] = []
        boxes[frame, 1] = np.array([(0, 0, 1, 1, score) for score in scores], np.float32) if found else []
        people[frame, 1] = found
    return {"boxes": boxes, "segments": np.array(None), "keypoints": people, "metadata": {"w": 1000, "h": 1002}}


def write_video(folder, subject, name, camera, arrays) -> None:
    place = folder / subject
    place.mkdir(parents=True, exist_ok=True)
    if isinstance(arrays, dict):
        np.savez(place / f"{name}.{camera}.mp4.npz", **arrays)
    else:
        np.save(place / f"{name}.{camera}.npy", arrays)


def generic(script, folder, *options):
    return script(SCRIPT, "-i", folder / "in", "--data-dir", folder, *options)


def test_detectron_folder(script, detections, poses, tmp_path, caplog):
    caplog.set_level("INFO")
    for subject, name, camera, view in videos(detections):
        special = (
            {"empty": (0, 2, 4), "beside": (1, 3)} if (subject, name, camera) == ("S9", "Eating", CAMERAS[1]) else {}
        )
        write_video(tmp_path / "in", subject, name, camera, detectron(coco(view), **special))
    write_video(tmp_path / "in", "S1", "_ALL", CAMERAS[0], np.zeros(1))
    done = generic(script, tmp_path, "-o", "detectron_pt_coco")
    assert done.status == 0, done.err
    assert "frames filled in: 3 in 1 videos, most in S9 Eating, camera 55011271: 3" in done.out
    assert f"209 takes, {209 * 4 * FRAMES:,} poses, 17 joints (coco)" in done.out
    assert caplog.messages == ["left out: S1 _ALL, S11 Directions"]
    arrays = load_npz(tmp_path / "data_2d_h36m_detectron_pt_coco.npz")
    assert arrays["metadata"]["layout_name"] == "coco"
    assert arrays["metadata"]["keypoints_symmetry"] == [[1, 3, 5, 7, 9, 11, 13, 15], [2, 4, 6, 8, 10, 12, 14, 16]]
    found = arrays["positions_2d"]
    for subject, name, camera, view in videos(detections):
        if (subject, name) != ("S11", "Directions") and (subject, name, camera) != ("S9", "Eating", CAMERAS[1]):
            stored = found[subject][canonical(subject, name)][CAMERAS.index(camera)]
            np.testing.assert_array_equal(stored, coco(view))
    assert "Directions" not in found["S11"]
    real, filled = coco(detections["S9"]["Eating"][1]), found["S9"]["Eating"][1]
    expected = [real[1], real[1], (real[1] + real[3]) / 2, real[3], real[3]]
    np.testing.assert_allclose(filled, expected, atol=1e-4)
    save_npz(tmp_path / "data_3d_h36m.npz", positions_3d=poses)
    split = load_pose_set(tmp_path, "h36m", "detectron_pt_coco", "S9,S11", skeleton=H36M_17)
    assert split.summary() == f"S9,S11: 15 actions, 4 views, {59 * 4 * FRAMES:,} poses"


def whole_set(detections, change=lambda view: view, **metadata) -> dict:
    tree = {
        s: {name: [change(view) for view in views] for name, views in takes.items()} for s, takes in detections.items()
    }
    return {"positions_2d": tree} | ({"metadata": metadata} if metadata else {})


@pytest.mark.parametrize("joints", [None, 17, 16])
def test_file_of_the_whole_set(script, detections, tmp_path, joints):
    save_npz(tmp_path / "in", **whole_set(detections, layout_name="h36m", num_joints=17))
    options = ("--joints", joints) if joints else ()
    done = generic(script, tmp_path, "-o", "hr", *options)
    assert done.status == 0, done.err
    assert "frames filled in: none" in done.out
    skeleton = H36M_16 if joints == 16 else H36M_17
    arrays = load_npz(tmp_path / "data_2d_h36m_hr.npz")
    assert arrays["metadata"] == {
        "layout_name": "h36m",
        "num_joints": skeleton.num_joints,
        "keypoints_symmetry": [list(skeleton.left), list(skeleton.right)],
    }
    view = arrays["positions_2d"]["S6"]["WalkDog 1"][2]
    np.testing.assert_array_equal(view, convert(detections["S6"]["WalkingDog 1"][2], H36M_17, skeleton))
    again = generic(script, tmp_path, "-o", "data_2d_h36m_hr.npz")
    assert again.status == 0 and "nothing done" in again.out


def test_arrays_with_confidence(script, detections, tmp_path):
    some = {"S1": {name: detections["S1"][name] for name in ("Eating", "Photo")}}
    for subject, name, camera, view in videos(some):
        scored = np.concatenate((view, np.full((FRAMES, 17, 1), 0.5)), -1)
        lost = np.asfortranarray(scored)
        lost[2, 4, 0] = np.nan
        place = tmp_path / "in" / subject
        place.mkdir(parents=True, exist_ok=True)
        stem = f"{name}_1.{camera}"
        if name == "Eating":
            np.save(place / f"{stem}.npy", lost)
        else:
            np.savez(place / f"{stem}.npz", keypoints=scored, scores=np.zeros(3))
    done = generic(script, tmp_path, "-o", "mine", "-l", "h36m", "--partial")
    assert done.status == 0, done.err
    assert "frames filled in: 4 in 4 videos" in done.out
    found = load_npz(tmp_path / "data_2d_h36m_mine.npz")["positions_2d"]["S1"]
    np.testing.assert_array_equal(found["Photo 1"][3], some["S1"]["Photo"][3])
    expected = some["S1"]["Eating"][3].copy()
    expected[2, 4, 0] = (expected[1, 4, 0] + expected[3, 4, 0]) / 2
    np.testing.assert_allclose(found["Eating 1"][3], expected, atol=1e-4)


def test_mpii_from_a_name(script, detections, tmp_path):
    save_npz(tmp_path / "in", **whole_set({"S1": detections["S1"]}, lambda view: convert(view, H36M_17, MPII_16)))
    done = generic(script, tmp_path, "-o", "mine_mpii", "--partial")
    assert done.status == 0 and "16 joints (mpii)" in done.out


def test_missing_videos_are_told(script, detections, tmp_path, caplog):
    tree = whole_set(detections)
    del tree["positions_2d"]["S7"]["Posing"]
    save_npz(tmp_path / "in", **tree)
    assert_refused(generic(script, tmp_path, "-o", "mine_h36m"), "208 of 209", "S7 Posing (1 of 2)", "--partial")
    assert generic(script, tmp_path, "-o", "mine_h36m", "--partial").status == 0
    assert "S7 Posing (1 of 2)" in caplog.messages[-1]


def spoiled(where, value):
    def change(view):
        view = view.copy()
        view[where] = value
        return view

    return change


@pytest.mark.parametrize(
    "change, options, words",
    [
        (lambda v: v / 500 - 1, ("-l", "h36m"), ("expected pixels", "not normalised")),
        (lambda v: v + 3000, ("-l", "h36m"), ("S1 Directions, camera 54138969", "1000 by 1002")),
        (spoiled((2, 3), np.inf), ("-l", "h36m"), ("NaN or infinity", "S1 Directions", "frame 2")),
        (spoiled((slice(None), 3), np.nan), ("-l", "h36m"), ("a joint of nobody", "S1 Directions")),
        (lambda v: v, (), ("tell the joints' layout", "give -l")),
        (lambda v: v, ("-l", "mpii"), ("17 joints", "the layout mpii has 16")),
        (lambda v: v, ("-l", "coco", "--joints", 16), ("17 joints (coco)", "--joints 16")),
        (lambda v: v[:, :16], ("-l", "h36m", "--joints", 17), ("16 joints", "--joints 17")),
        (lambda v: v[:, :14], ("-l", "h36m"), ("14 joints", "17 or 16")),
        (lambda v: v[0], ("-l", "h36m"), ("(17, 2)", "expected keypoints")),
        (lambda v: "text", ("-l", "h36m"), ("expected keypoints",)),
    ],
)
def test_bad_set(script, detections, tmp_path, change, options, words):
    save_npz(tmp_path / "in", **whole_set({"S1": detections["S1"]}, change))
    assert_refused(generic(script, tmp_path, "-o", "mine", "--partial", *options), *words)
    assert not list(tmp_path.glob("*.npz"))


def test_bad_trees(script, detections, tmp_path):
    for tree, words in (
        ({"positions_2d": np.zeros(3)}, ("no dict",)),
        ({"positions_2d": {"S1": {"Eating": detections["S1"]["Eating"][:3]}}}, ("has 3 views", "expected 4")),
        ({"positions_2d": {"S1": {"Eating": 4}}}, ("int views",)),
        ({"positions_2d": {"S2": {"Eating": 4}}}, ("0 of 209",)),
        ({"poses": np.zeros(3)}, ("has no array positions_2d",)),
    ):
        save_npz(tmp_path / "in", **tree)
        assert_refused(generic(script, tmp_path, "-o", "mine_h36m", "--partial"), *words)


def test_bad_videos(script, detections, tmp_path):
    view = detections["S1"]["Eating"][0]
    good = detectron(view)
    cases = (
        (detectron(view, empty=range(FRAMES)), ("nobody",)),
        (good | {"boxes": good["boxes"][:-1]}, ("Detectron's lists",)),
        (good | {"keypoints": view}, ("Detectron's lists",)),
        ({"a": view, "b": view}, ("arrays a, b", "expected keypoints")),
    )
    for arrays, words in cases:
        for camera in CAMERAS:
            write_video(tmp_path / "in", "S1", "Eating", camera, arrays)
        assert_refused(generic(script, tmp_path, "-o", "mine_coco", "--partial"), *words)
    write_video(tmp_path / "in", "S1", "Eating", CAMERAS[0], good)
    write_video(tmp_path / "in", "S1", "Eating", CAMERAS[0], view)
    assert_refused(generic(script, tmp_path, "-o", "mine_coco", "--partial"), "S1 Eating twice")
    (tmp_path / "in" / "S1" / f"Eating.{CAMERAS[0]}.mp4.npz").unlink()
    (tmp_path / "in" / "S1" / f"Eating.{CAMERAS[0]}.npy").write_bytes(b"\x93NUMPY")
    assert_refused(generic(script, tmp_path, "-o", "mine_coco", "--partial"), "truncated, damaged")


def test_no_input(script, tmp_path):
    assert_refused(script(SCRIPT, "-o", "x"), "--input")
    assert_refused(generic(script, tmp_path, "-o", "x"), "in does not exist")
    assert_refused(generic(script, tmp_path, "-o", "../x"), "--output '../x'")
    (tmp_path / "in").mkdir()
    assert_refused(generic(script, tmp_path, "-o", "x"), "S1/Directions 1.54138969.mp4.npz")
