"""Keypoints of strangers' tools as JSON: every form gives the same pose; what is no person is left out with a count."""

import codecs
import json

import numpy as np
import pytest

from common.errors import InputError
from common.skeleton import COCO_17, H36M_17, OPENPOSE_18
from common.video.read import read_keypoints
from tests.common.video.test_follow import clip, mmpose
from tests.common.video.test_read import body, expected, listed, openpose, write

FRAMES = 4
WANT = expected(body(FRAMES))


def flat(points: np.ndarray) -> list[float]:
    return points.ravel().tolist()


def assert_read(path, layout_found: str, want=WANT, **options):
    found = read_keypoints(path, **options)
    assert found.layout_found == layout_found and found.points.shape == want.shape
    assert np.allclose(found.points, want, atol=1e-2)
    return found


def ultralytics(points: np.ndarray) -> dict:
    places = {axis: points[:, i].tolist() for i, axis in enumerate("xy")}
    return {"name": "person", "class": 0, "confidence": 0.9, "box": {"x1": 0, "y1": 0, "x2": 9, "y2": 9},
            "keypoints": {**places, "visible": points[:, 2].tolist()}}  # fmt: skip


def test_alphapose_and_poseflow(tmp_path):
    """--format open, --format cmu, and PoseFlow's image -> people; a frame without anybody among PoseFlow's."""
    eighteen = [listed(body(FRAMES), OPENPOSE_18.joints, t) for t in range(FRAMES)]
    forms = {
        "open": lambda t: {"version": 0.1, "people": [{"pose_keypoints_2d": flat(eighteen[t])}]},
        "cmu": lambda t: {"version": "AlphaPose v0.3", "bodies": [{"joints": flat(eighteen[t])}]},
    }
    for name, form in forms.items():
        assert_read(write(tmp_path / f"{name}.json", {f"{t}.jpg": form(t) for t in range(FRAMES)}), "openpose18")
        (tmp_path / name).mkdir()  # sep-json, and caffe_rtpose
        for t in range(FRAMES):
            write(tmp_path / name / f"{t}.json", form(t))
        assert_read(tmp_path / name, "openpose18")
    poseflow = {f"{t}.jpg": [{"keypoints": flat(p), "scores": 2.9, "idx": [1.0]}] for t, p in enumerate(clip(FRAMES))}
    found = assert_read(write(tmp_path / "flow.json", poseflow), "coco17")
    assert found.frames == ("0.jpg", "1.jpg", "2.jpg", "3.jpg")
    found = read_keypoints(write(tmp_path / "gap.json", poseflow | {"1.jpg": []}))
    assert found.people[0][0] == 3 and np.allclose(found.points[[0, 2, 3]], WANT[[0, 2, 3]], atol=1e-2)


def test_openpose_before_1_2(tmp_path):
    for t in range(FRAMES):
        points = listed(body(FRAMES), OPENPOSE_18.joints, t)
        people = [{"pose_keypoints": flat(points), "face_keypoints": [], "hand_left_keypoints": []}]
        write(tmp_path / f"clip_{t:012d}_keypoints.json", {"version": 1.1, "people": people})
    assert_read(tmp_path, "openpose18")


def test_mmpose_0_and_ultralytics(tmp_path):
    points = clip(FRAMES)
    old = [[{"bbox": [1, 2, 3, 4, 0.9], "keypoints": pose.tolist()}] for pose in points]
    assert_read(write(tmp_path / "mm0.json", old), "coco17")
    assert_read(write(tmp_path / "yolo.json", [[ultralytics(pose)] for pose in points]), "coco17")
    found = read_keypoints(
        write(tmp_path / "gap.json", [*([ultralytics(p)] for p in points[:2]), [], [ultralytics(points[3])]])
    )
    assert (found.confidence[2] == 0).all() and np.allclose(found.points[3], WANT[3], atol=1e-2)
    (tmp_path / "yolo").mkdir()
    for t, pose in enumerate(points):
        write(tmp_path / "yolo" / f"{t}.json", [ultralytics(pose)])
    assert_read(tmp_path / "yolo", "coco17")


def test_a_picture_without_people(tmp_path):
    """MMPose writes an empty list; the frame is filled in."""
    for t, pose in enumerate(clip(FRAMES)):
        write(tmp_path / f"{t:06d}.json", [mmpose(pose)] if t != 2 else [])
    found = read_keypoints(tmp_path)
    assert len(found.points) == FRAMES and np.allclose(found.points[2], (WANT[1] + WANT[3]) / 2, atol=1e-2)
    assert (found.confidence[2] == 0).all() and np.allclose(found.points[[0, 1, 3]], WANT[[0, 1, 3]], atol=1e-2)


@pytest.mark.parametrize("key", ["image_id", "frame_id", "frame", "image_name"])
def test_other_words_for_the_frame(tmp_path, key):
    entries = [{key: t, "keypoints": flat(pose)} for t, pose in enumerate(clip(FRAMES))]
    assert assert_read(write(tmp_path / "a.json", entries[::-1]), "coco17").frames == ("0", "1", "2", "3")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_byte_order_marks(tmp_path, encoding):
    text = json.dumps([{"image_id": f"{t}.jpg", "keypoints": flat(pose)} for t, pose in enumerate(clip(FRAMES))])
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    (tmp_path / "a.json").write_bytes(mark + text.encode(encoding))
    assert_read(tmp_path / "a.json", "coco17")


def test_hidden_files_are_left_out(tmp_path):
    for t in range(FRAMES):
        write(tmp_path / f"clip_{t}_keypoints.json", openpose(listed(body(FRAMES), OPENPOSE_18.joints, t)))
        (tmp_path / f"._clip_{t}_keypoints.json").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")
    assert_read(tmp_path, "openpose18")


# ------------------------------------------------------------ entries that are no people


def test_entries_that_are_no_people_are_left_out_with_a_count(tmp_path, caplog):
    """As CVAT writes an annotation without keypoints, and what else may stand in a list."""
    points = clip(FRAMES)
    entries = [{"image_id": t, "keypoints": flat(pose)} for t, pose in enumerate(points)]
    odd = [[], None, "left", [1, 2], [[1, 2], [3]], {"x": [1]}]
    bad = [{"image_id": 1, "keypoints": value, "num_keypoints": 0} for value in odd] + [{"image_id": 2}, 7]
    found = assert_read(write(tmp_path / "a.json", {"images": [], "annotations": entries + bad}), "coco17")
    assert found.people[0][0] == FRAMES
    assert "7 of 11 entries left out; the first, frame 1: keypoints of shape (0,)" in caplog.text
    assert "1 of 12 entries left out, which name no frame" in caplog.text
    with pytest.raises(InputError, match="frame 1: keypoints of shape"):
        read_keypoints(write(tmp_path / "b.json", {"annotations": bad}))


def test_people_of_another_layout_are_left_out(tmp_path, caplog):
    """Hands among bodies, as a second category or as bare results."""
    points, hand = clip(FRAMES), np.ones(63).tolist()
    entries = [{"image_id": t, "category_id": 1, "keypoints": flat(pose)} for t, pose in enumerate(points)]
    hands = [{"image_id": t, "category_id": 2, "keypoints": hand} for t in range(FRAMES - 1)]
    assert_read(write(tmp_path / "a.json", entries + hands), "coco17")
    assert "3 of 7 people left out, which have not the 17 joints of the others" in caplog.text
    names = [name.replace("foot", "ankle").replace(" ", "_") for name in COCO_17.joints]
    categories = [{"id": 2, "keypoints": [f"finger {i}" for i in range(21)]}, {"id": 1, "keypoints": names}]
    content = {"annotations": entries + 3 * hands, "categories": categories}
    assert_read(write(tmp_path / "b.json", content), "coco17")


def test_nulls(tmp_path):
    points = clip(FRAMES)
    wrist, ear = COCO_17.index("left wrist"), COCO_17.index("left ear")
    lists = points.tolist()
    lists[1][wrist], lists[2][ear] = [None, None, None], [None, None, 0]
    entries = [{"image_id": t, "keypoints": sum(pose, [])} for t, pose in enumerate(lists)]
    found = read_keypoints(write(tmp_path / "a.json", entries))
    at = WANT.copy()
    at[1, H36M_17.index("left wrist")] = (WANT[0] + WANT[2])[H36M_17.index("left wrist")] / 2
    assert np.allclose(found.points, at, atol=1e-2) and np.argwhere(found.confidence == 0).tolist() == [[1, 13]]


@pytest.mark.parametrize("nothing", [0, None])
def test_confidences_that_are_all_zero_or_null_are_none(tmp_path, caplog, nothing):
    entries = [{"image_id": t, "keypoints": sum(([x, y, nothing] for x, y, _ in pose), [])}
               for t, pose in enumerate(clip(FRAMES).tolist())]  # fmt: skip
    found = assert_read(write(tmp_path / "a.json", entries), "coco17")
    assert (found.confidence == 1).all() and "the confidence of every joint is 0 or missing: taken for 1" in caplog.text


# ------------------------------------------------------------ joints by name and number


def test_names_of_joints_are_believed(tmp_path, caplog):
    """PoseTrack's 17 are not COCO's, MMPose's Human3.6M's neither, CrowdPose has 14."""
    points, ours = clip(FRAMES), expected(body(FRAMES))
    coco = [name.replace("foot", "ankle").replace(" ", "_") for name in COCO_17.joints]
    posetrack = [coco[0], "head_bottom", "head_top", *coco[3:]]
    for t in range(FRAMES):
        points[t, 1:3, :2] = ours[t, [8, 10]]
    entries = [{"image_id": t, "keypoints": flat(pose)} for t, pose in enumerate(points)]
    content = {"annotations": entries, "categories": [{"id": 1, "keypoints": posetrack}]}
    found = assert_read(write(tmp_path / "posetrack.json", content), "coco17")
    assert (found.seen[:, 1:3] == 0).all()  # no eyes

    h36m = ["root (pelvis)", *(n.replace(" ", "_") for n in H36M_17.joints[1:9]), "neck_base", *H36M_17.joints[10:]]
    order = np.random.default_rng(0).permutation(17)
    entries = [{"image_id": t, "keypoints": flat(np.column_stack((pose, np.ones(17)))[order])}
               for t, pose in enumerate(ours)]  # fmt: skip
    content = {"annotations": entries, "categories": [{"keypoints": [h36m[j] for j in order]}]}
    assert_read(write(tmp_path / "h36m.json", content), "h36m17")

    crowd = [*coco[5:], "top_head", "neck"]
    entries = [
        {"image_id": t, "keypoints": [*flat(points[t, 5:]), *ours[t, 10], 1, *ours[t, 8], 1]} for t in range(FRAMES)
    ]
    found = read_keypoints(write(tmp_path / "c.json", {"annotations": entries, "categories": [{"keypoints": crowd}]}))
    known = [j for j, name in enumerate(H36M_17.joints) if name not in ("neck", "spine")]
    assert np.allclose(found.points[:, known], ours[:, known], atol=1e-2)

    entries = [{"image_id": t, "keypoints": flat(pose)} for t, pose in enumerate(clip(FRAMES))]
    content = {"annotations": entries, "categories": [{"keypoints": [f"point {j}" for j in range(17)]}]}
    caplog.clear()
    assert_read(write(tmp_path / "no.json", content), "coco17")
    assert "its joints (point 0, point 1" in caplog.text and "--layout" in caplog.text


def test_seventeen_joints_that_are_human36ms(tmp_path):
    entries = [{"image_id": f"{t}.jpg", "keypoints": flat(np.column_stack((pose, np.full(17, 0.9))))}
               for t, pose in enumerate(WANT)]  # fmt: skip
    assert_read(write(tmp_path / "a.json", entries), "h36m17")


def test_body_25b(tmp_path):
    """COCO's 17, neck, top of the head, feet: as many joints as BODY_25."""
    names = (*COCO_17.joints, "thorax", "head", *(f"toe {i}" for i in range(6)))
    feet = [("left foot", (9 * i, 9)) for i in range(3)] + [("right foot", (9 * i, 9)) for i in range(3)]
    at = body(FRAMES)
    at |= {"thorax": WANT[:, 8], "head": WANT[:, 10]} | {f"toe {i}": at[n] + move for i, (n, move) in enumerate(feet)}
    for t in range(FRAMES):
        write(tmp_path / f"{t}_keypoints.json", openpose(listed(at, names, t)))
    assert_read(tmp_path, "body25b")
    assert_read(tmp_path, "body25b", layout="body_25b")


# ------------------------------------------------------------ false people


@pytest.mark.parametrize("confidence, score, thr", [(0.05, 0.06, 0.1), (0.8, 0.06, 0.1)])
def test_a_large_false_person(tmp_path, confidence, score, thr):
    """Its joints are not sure enough to be used, or the detector is hardly sure of it."""
    entries = []
    for t, (pose, false) in enumerate(zip(clip(FRAMES), clip(FRAMES, 1, 1.8, (900, 0)), strict=True)):
        false[:, 2] = confidence
        entries += [{"image_id": t, "keypoints": flat(false), "score": score},
                    {"image_id": t, "keypoints": flat(pose), "score": 0.99}]  # fmt: skip
    assert_read(write(tmp_path / "a.json", entries), "coco17", threshold=thr)


def test_nobody_is_sure_enough(tmp_path):
    points = clip(FRAMES)
    points[..., 2] = 0.05
    entries = [{"image_id": t, "keypoints": flat(pose)} for t, pose in enumerate(points)]
    with pytest.raises(InputError, match=r"confidence of --thr 0.1 \(the largest is 0.05\); give a lower --thr"):
        read_keypoints(write(tmp_path / "a.json", entries))
    assert_read(tmp_path / "a.json", "coco17", threshold=0.02)
