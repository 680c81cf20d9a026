"""People followed through a video, gaps, smoothing, and the files of the detectors that give them."""

import logging

import numpy as np
import pytest

from common.errors import InputError
from common.files.npz import save_npz
from common.skeleton import COCO_17, H36M_17
from common.video.follow import (
    FOUND,
    GUESSED,
    INTERPOLATED,
    _other_side,
    follow,
    gap_lengths,
    smooth,
    with_steady_sides,
)
from common.video.layouts import h36m_matrix, layout_by_names
from common.video.raw import RawKeypoints
from common.video.read import coco_keypoints, read_keypoints
from tests.common.video.test_read import BODY_25, body, expected, listed, openpose, write

NAMES = COCO_17.joints
CLOCK = np.arange(100) / 25


def clip(frames: int, seed: int = 0, scale: float = 1.0, shift=(0, 0), speed=(0, 0)) -> np.ndarray:
    """COCO joints (T, 17, 3) of somebody who wanders."""
    points = np.stack([listed(body(frames, seed), NAMES, t) for t in range(frames)])
    points[..., :2] = points[..., :2] * scale + shift + np.arange(frames)[:, None, None] * np.array(speed)
    return points


# ------------------------------------------------------------ following


def test_two_people_cross():
    tall, small = clip(40, speed=(20, 0)), clip(40, 1, 0.6, (1100, 300), speed=(-40, 0))
    frames = [[small[t], tall[t]] if t % 2 else [tall[t], small[t]] for t in range(40)]
    frames[20] = frames[20][:1]  # where they meet only one is found
    people = follow(frames, CLOCK)
    assert len(people) == 2 and people[0].size > people[1].size
    for person, there in zip(people, (tall, small), strict=True):
        assert len(person.rows) >= 39 and np.array_equal(person.points, there[person.rows])


def test_somebody_goes_and_comes_back():
    points = clip(60)
    other = clip(60, 2, 0.5, (2500, 0))
    frames = [[other[t]] + [points[t]] * (not 20 <= t < 30) for t in range(60)]
    assert [len(person.rows) for person in follow(frames, CLOCK, max_gap=10 / 25)] == [50, 60]
    assert sorted(len(person.rows) for person in follow(frames, CLOCK, max_gap=5 / 25)) == [20, 30, 60]


def test_alone_is_one_person_wherever(tmp_path):
    at = [clip(1, seed, shift=(700 * seed, 0))[0] for seed in range(4)]
    people = follow([[pose] for pose in at[:2]] + [[]] + [[pose] for pose in at[2:]], CLOCK)
    assert len(people) == 1 and people[0].rows.tolist() == [0, 1, 3, 4]
    assert follow([[], [np.zeros((17, 3))]], CLOCK) == []  # nothing seen is nobody


def test_alone_but_for_somebody_who_walks_by():
    """The person followed is lost for half a second, in which a detector of one person sees another one."""
    tall, other = clip(80), clip(80, 1, 0.6, (1500, 0))
    frames = [[(other if 30 <= t < 42 else tall)[t]] for t in range(80)]
    assert len(follow(frames, CLOCK)) == 1  # of a file that names one person
    first, second = follow(frames, CLOCK, mixed=True)
    assert len(first.rows) == 68 and second.rows.tolist() == list(range(30, 42))


@pytest.mark.parametrize("fps", [10, 60])
def test_gaps_are_seconds_at_every_rate(fps, tmp_path):
    points, clock = np.repeat(clip(1), 4 * fps, 0), np.arange(4 * fps) / fps
    gap = slice(fps, 2 * fps)  # a second
    frames = [[pose] * (not gap.start <= t < gap.stop) + [pose + (2000, 0, 0)] for t, pose in enumerate(points)]
    assert sorted(len(person.rows) for person in follow(frames, clock)) == [3 * fps, 4 * fps]
    assert len(follow(frames, clock, 0.8)) == 3
    wrist = NAMES.index("left wrist")
    points[gap, wrist, 2] = 0
    raw = RawKeypoints([[pose] for pose in points], [str(t) for t in range(len(points))], None, None, fps)
    for longest, status in ((1.0, INTERPOLATED), (0.8, GUESSED)):
        found = read_keypoints("a", max_gap=longest, raw=raw)
        assert (found.status[gap, H36M_17.index("left wrist")] == status).all()


def test_exchanged_sides_are_turned_back(tmp_path, caplog):
    points = clip(60)
    wrong = points.copy()
    order = [NAMES.index(_other_side(name)) for name in NAMES]
    for t in (*range(20, 33), 40):
        wrong[t] = wrong[t, order]
    limbs = [j for j, name in enumerate(NAMES) if name.split()[-1] not in ("nose", "eye", "ear")]
    mended, turned = with_steady_sides(wrong, NAMES)
    assert turned.sum() == 14 and np.array_equal(mended[:, limbs], points[:, limbs])
    assert not with_steady_sides(points, NAMES)[1].any()
    np.save(tmp_path / "a.npy", wrong)
    found = read_keypoints(tmp_path / "a.npy")
    assert np.allclose(found.points[:, 1:7], expected(body(60))[:, 1:7], atol=1e-2)
    assert "left and right, exchanged in 14 of 60 frames, are turned back" in caplog.text


def test_which_person_is_read(tmp_path):
    tall, small = clip(6), clip(6, 1, 0.5, (1500, 0))
    np.save(tmp_path / "a.npy", np.stack((small, tall), 1))
    first, second = (read_keypoints(tmp_path / "a.npy", person=n) for n in (1, 2))
    assert np.allclose(first.points, expected(body(6)), atol=1e-2) and first.person == 1
    assert np.allclose(second.points, 0.5 * expected(body(6, 1)) + (1500, 0), atol=1e-2)
    assert [frames for frames, _ in first.people] == [6, 6] and first.people[0][1] > first.people[1][1]
    with pytest.raises(InputError, match="--person 3: .* has 2 people, 1 the largest"):
        read_keypoints(tmp_path / "a.npy", person=3)


def test_frames_without_the_person_at_the_ends(tmp_path):
    points = clip(8)
    points[:2], points[6:] = 0, 0
    np.save(tmp_path / "a.npy", points)
    found = read_keypoints(tmp_path / "a.npy")
    assert found.rows == range(2, 6) and found.total == 8 and found.frames == ("2", "3", "4", "5")
    assert (found.status == FOUND).all()
    whole = read_keypoints(tmp_path / "a.npy", trim=False)
    assert len(whole.points) == 8 and np.array_equal(whole.points[2:6], found.points)
    assert np.allclose(whole.points[:2], whole.points[2]) and (whole.status[[0, 1, 6, 7]] == INTERPOLATED).all()


# ------------------------------------------------------------ gaps


def test_gap_lengths():
    present = np.array([0, 0, 1, 1, 0, 1, 0, 0, 0], bool)
    assert gap_lengths(present, np.arange(9.0)).tolist() == [2, 2, 0, 0, 1, 0, 3, 3, 3]
    uneven = np.array((0, 1, 2, 3, 4, 9, 10, 11, 12.0))
    assert gap_lengths(present, uneven).tolist() == [2, 2, 0, 0, 5, 0, 3, 3, 3]


def test_short_gaps_by_time_and_long_ones_by_the_body(tmp_path, caplog):
    points = clip(30)
    wrist, knee, hip = (NAMES.index(name) for name in ("left wrist", "right knee", "left hip"))
    points[5:8, wrist, 2], points[10:22, knee], points[10:22, hip, 2] = 0, 0, 0.01
    np.save(tmp_path / "a.npy", points)
    with caplog.at_level(logging.WARNING):
        found = read_keypoints(tmp_path / "a.npy", max_gap=4 / 25)
    j = {name: H36M_17.index(name) for name in ("left wrist", "right knee", "left hip", "left knee", "right hip")}
    line = np.linspace(points[4, wrist, :2], points[8, wrist, :2], 5)[1:-1]
    assert np.allclose(found.points[5:8, j["left wrist"]], line, atol=1e-3)
    assert set(np.flatnonzero(found.status[:, j["left wrist"]] == INTERPOLATED)) == {5, 6, 7}
    assert (found.status[10:22, j["right knee"]] == GUESSED).all() and (found.status[22:] == FOUND).all()
    hang = found.points[10:22, j["left knee"]] - found.points[10:22, j["left hip"]]
    assert np.allclose(found.points[10:22, j["right knee"]] - found.points[10:22, j["right hip"]], hang, atol=1e-3)
    assert (found.status[10:22, j["left hip"]] == INTERPOLATED).all()  # hips are never guessed
    assert "left wrist in 3" in caplog.text and "the joints around: right knee" in caplog.text
    assert "missing for up to 0.48 s on end (--max-gap 0.16)" in caplog.text


def test_smoothing():
    line = np.linspace(0, 9, 40)[:, None, None] * np.ones((2, 2))
    assert np.allclose(smooth(line, 2)[6:-6], line[6:-6]) and np.array_equal(smooth(line, 0), line)
    assert np.allclose(smooth(np.full((3, 4), 7.0), 5), 7)
    noise = np.random.default_rng(0).standard_normal((400, 5, 2)).astype(np.float32)
    assert smooth(noise, 2).std() == pytest.approx((2 * np.sqrt(np.pi) * 2) ** -0.5, rel=0.1)
    assert smooth(noise, 2).dtype == np.float32 and smooth(noise[:1], 2) is not None


# ------------------------------------------------------------ detectors' files


def mmpose(points: np.ndarray) -> dict:
    return {"keypoints": points[:, :2].tolist(), "keypoint_scores": points[:, 2].tolist(), "bbox": [[0, 0, 9, 9]]}


def test_mmpose(tmp_path):
    points, want = clip(3), expected(body(3))
    order = np.random.default_rng(0).permutation(17)
    names = [NAMES[j].replace("foot", "ankle").replace(" ", "_") for j in order]
    frames = [{"frame_id": t + 1, "instances": [mmpose(points[t, order])]} for t in range(3)]
    meta = {"dataset_name": "mine", "keypoint_id2name": {str(i): name for i, name in enumerate(names)}}
    found = read_keypoints(write(tmp_path / "a.json", {"meta_info": meta, "instance_info": frames}))
    assert found.layout_found == "coco17" and np.allclose(found.points, want, atol=1e-2) and found.frames[0] == "1"
    frames = [{"frame_id": t, "instances": [mmpose(points[t])] if t != 1 else []} for t in range(3)]
    found = read_keypoints(write(tmp_path / "b.json", frames))  # as the inferencer's pred_out_dir
    assert (found.status[1] == INTERPOLATED).all() and np.allclose(found.points[[0, 2]], want[[0, 2]], atol=1e-2)
    (tmp_path / "images").mkdir()
    for t in range(3):
        write(tmp_path / "images" / f"{t}.json", [mmpose(points[t])])
    assert np.allclose(read_keypoints(tmp_path / "images").points, want, atol=1e-2)
    more = np.concatenate((points, np.ones((3, 116, 3))), 1)
    write(tmp_path / "c.json", [{"frame_id": t, "instances": [mmpose(more[t])]} for t in range(3)])
    found = read_keypoints(tmp_path / "c.json")
    assert found.layout_found == "wholebody133" and np.allclose(found.points, want, atol=1e-2)
    broken = mmpose(points[0]) | {"keypoint_scores": [1.0]}
    with pytest.raises(InputError, match="1 keypoint_scores for 17 keypoints"):
        read_keypoints(write(tmp_path / "d.json", [broken]))


def test_detectron_through_videopose(tmp_path):
    """Frames of [[], people (N, 4, 17)]: x, y, logit, probability; nobody in one of them."""
    points = clip(4)
    keypoints, boxes = np.empty((4, 2), object), np.empty((4, 2), object)
    for t in range(4):
        person = np.stack((points[t, :, 0], points[t, :, 1], np.zeros(17), points[t, :, 2]))
        keypoints[t] = [[], person[None].astype(np.float32) if t != 2 else []]
        boxes[t] = [[], np.zeros((1, 5), np.float32)]
    save_npz(tmp_path / "a.npz", boxes=boxes, segments=np.empty(4, object), keypoints=keypoints,
             metadata={"w": 1280, "h": 720})  # fmt: skip
    found = read_keypoints(tmp_path / "a.npz")
    assert found.size == (1280, 720) and found.layout_found == "coco17"
    assert np.allclose(found.points[[0, 1, 3]], expected(body(4))[[0, 1, 3]], atol=1e-2)
    assert np.allclose(found.confidence[0], 0.8) and (found.confidence[2] == 0).all()


def test_a_data_set_of_one_video(tmp_path):
    points = clip(3)
    views = {"walk": {"custom": [points[..., :2].astype(np.float32)]}}
    metadata = {"layout_name": "coco", "num_joints": 17, "video_metadata": {"walk": {"w": 640, "h": 480}}}
    save_npz(tmp_path / "a.npz", positions_2d=views, metadata=metadata)
    found = read_keypoints(tmp_path / "a.npz")
    assert found.size == (640, 480) and np.allclose(found.points, expected(body(3)), atol=1e-2)
    save_npz(tmp_path / "a.npz", positions_2d=views | {"run": views["walk"]}, metadata=metadata)
    with pytest.raises(InputError, match="holds 2 videos; expected one"):
        read_keypoints(tmp_path / "a.npz")


def test_frames_that_the_file_leaves_out(tmp_path):
    """AlphaPose lists only frames in which it found somebody."""
    points = clip(10)
    entries = [
        {"image_id": f"{t}.jpg", "keypoints": points[t].ravel().tolist(), "score": 2.0}
        for t in range(10)
        if t not in (3, 4)
    ]
    found = read_keypoints(write(tmp_path / "a.json", entries))
    assert found.total == 10 and found.frames[3] == "3 (not in the file)" and found.frames[5] == "5.jpg"
    assert np.allclose(found.points[3], found.points[2] + (found.points[5] - found.points[2]) / 3, atol=1e-2)
    for entry, number in zip(entries, (139, 285, 632, 724, 776, 785, 802, 10**12), strict=True):
        entry["image_id"] = number  # COCO's photos are no video
    assert read_keypoints(write(tmp_path / "b.json", entries)).total == 8


def test_annotations_tell_size_and_names(tmp_path):
    points = clip(2)
    names = [name.replace("foot", "ankle").replace(" ", "_") for name in reversed(NAMES)]
    content = {
        "images": [{"id": t, "width": 1920, "height": 1080} for t in range(2)],
        "annotations": [{"image_id": t, "keypoints": points[t, ::-1].ravel().tolist()} for t in range(2)],
        "categories": [{"keypoints": names}],
    }
    found = read_keypoints(write(tmp_path / "a.json", content))
    assert found.size == (1920, 1080) and np.allclose(found.points, expected(body(2)), atol=1e-2)
    bodies = {f"{t}.jpg": {"bodies": [{"joints": listed(body(2), BODY_25[:8] + BODY_25[9:19], t).ravel().tolist()}]}
              for t in range(2)}  # fmt: skip
    found = read_keypoints(write(tmp_path / "b.json", bodies))
    assert found.layout_found == "openpose18" and np.allclose(found.points, expected(body(2)), atol=1e-2)


def test_layouts_by_names():
    h36m = ["root", *(n.replace(" ", "_") for n in H36M_17.joints[1:9]), "neck_base", "head", *H36M_17.joints[11:]]
    assert layout_by_names(h36m) == ("h36m17", list(range(17)))
    assert layout_by_names(["L_Ankle", "R-Ankle"]) is None
    assert np.allclose(h36m_matrix("halpe136")[:, :17], h36m_matrix("coco17"))


def test_coco_keypoints(tmp_path):
    at = {name: place for name, place in body(3).items() if name != "left ear"}
    for t in range(3):
        write(tmp_path / f"{t}.json", openpose(listed(at, BODY_25, t)))
    found = read_keypoints(tmp_path, trim=False)
    coco = coco_keypoints(found)
    for j, name in enumerate(NAMES):
        assert np.allclose(coco[:, j], at[name if name in at else "nose"], atol=1e-2), name
    np.save(tmp_path / "ours.npy", expected(body(3)))
    assert coco_keypoints(read_keypoints(tmp_path / "ours.npy")) is None


def test_status_counts_follow_the_parts(tmp_path):
    """A midpoint is as good as its worse part."""
    points = clip(5)
    points[2, NAMES.index("left shoulder"), 2] = 0
    np.save(tmp_path / "a.npy", points)
    status = read_keypoints(tmp_path / "a.npy").status[2]
    touched = {H36M_17.joints[j] for j in np.flatnonzero(status == INTERPOLATED)}
    assert touched == {"left shoulder", "thorax", "spine", "head"}
