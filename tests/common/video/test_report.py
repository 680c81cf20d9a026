"""The report on 2D keypoints: what is said of good ones, and what of wrong layouts, sides, sizes and units."""

import numpy as np
import pytest

from common.skeleton import COCO_17, H36M_17
from common.video import report
from common.video.read import read_keypoints
from common.video.report import describe, exchanged, reference, statistics, warnings
from tests.common.video.test_read import body, listed
from tests.tiny_dataset import tiny_keypoints, tiny_poses

SIZE = (1000, 1000)


@pytest.fixture(scope="module")
def people() -> np.ndarray:
    """(T, 17, 2): people who stand and swing their limbs, in Human3.6M's cameras."""
    views = tiny_keypoints(tiny_poses(frames=20, subjects=("S9", "S11")))
    return np.concatenate([view for actions in views.values() for clips in actions.values() for view in clips])


def said(folder, points: np.ndarray, size=SIZE, sees="place") -> str:
    np.save(folder / "a.npy", points)
    return "\n".join(warnings(read_keypoints(folder / "a.npy", layout="h36m17"), size, sees))


def test_good_poses_pass(people, tmp_path):
    for clip in people.reshape(-1, 20, 17, 2)[::3]:
        lines = said(tmp_path, clip).splitlines()  # the sides of so short a clip may be doubted, nothing else
        assert all(line.startswith("with left and right exchanged") for line in lines), lines


def test_wrong_sides(people, tmp_path):
    one = people[:20]
    for parts, name in ((("shoulder", "elbow", "wrist"), "arms"), (("hip", "knee", "foot"), "legs")):
        text = said(tmp_path, one[:, exchanged(parts)])
        assert "left and right of the" in text and "do not fit" in text, name
    np.save(tmp_path / "b.npy", one)
    found = read_keypoints(tmp_path / "b.npy", layout="h36m17")
    found.points[10:] = found.points[10:, H36M_17.mirror]
    lines = "\n".join(warnings(found, SIZE, "place"))
    assert "change places from one frame to the next 1 times (frames 10)" in lines
    assert "change places" not in said(tmp_path, one)


def test_all_sides_exchanged_is_noticed_more_often_than_not(people, tmp_path):
    gains = []
    for clip in people.reshape(-1, 20, 17, 2):
        right, wrong = (len([*report._sides(points)]) for points in (clip, clip[:, H36M_17.mirror]))
        gains.append(wrong - right)
    assert np.mean(gains) > 0.2


def test_upside_down_lying_and_other_layouts(people, tmp_path):
    assert "upside down" in said(tmp_path, people * (1, -1) + (0, 1000))
    assert "bodies lie, 9" in said(tmp_path, people[..., ::-1] * (-1, 1) + (1000, 0))
    at = dict(zip(H36M_17.joints, people.transpose(1, 0, 2), strict=True))
    face = {name: at["neck"] for name in COCO_17.joints[:5]}
    text = said(tmp_path, np.stack([(face | at)[name] for name in COCO_17.joints], 1))  # COCO's order called ours
    assert "far from where they are in training" in text and "head (" in text and "left elbow (" in text
    wild = people[:40].copy()
    wild[:, 16] += 400 * np.random.default_rng(0).standard_normal((40, 2))
    assert "scattered more widely" in said(tmp_path, wild) and "right wrist (" in said(tmp_path, wild)


def test_units_and_sizes(people, tmp_path):
    assert said(tmp_path, people / 1000).splitlines() == [
        f"the largest coordinate is {np.abs(people).max() / 1000:.2f}: these look normalised; expected pixels"
    ]
    assert "outside a picture of 300 x 300" in said(tmp_path, people, (300, 300))
    assert "upper left corner" in said(tmp_path, people * 0.3)
    assert "the body's height is" in said(tmp_path, people * 2, (9000, 4000))
    assert "on the screen" not in said(tmp_path, people * 2, (9000, 4000), sees="pose")
    nearer = people[:20] * np.linspace(1, 8, 20)[:, None, None]
    assert "of the video's mean" in said(tmp_path, nearer, None, "size")
    assert "of the video's mean" not in said(tmp_path, people[:20], None, "size") + said(tmp_path, nearer, None, "pose")
    assert "times as wide as high" in said(tmp_path, people * (8, 1), None)


def test_report_joint_by_joint(tmp_path):
    points = np.stack([listed(body(10), COCO_17.joints, t) for t in range(10)])
    points[3:6, COCO_17.index("left wrist"), 2] = 0
    points[:, COCO_17.index("right foot"), 2] = 0
    np.savez(tmp_path / "a.npz", keypoints=points[..., :2], confidence=points[..., 2])
    found = read_keypoints(tmp_path / "a.npz")
    text = describe(found, "a.npz", (640, 480), 30)
    rows = {line[:15].strip(): line[15:].split() for line in text.splitlines()[4:]}
    assert list(rows) == list(H36M_17.joints)
    assert rows["left wrist"][:4] == ["7", "3", "0", "0.80"] and rows["right foot"][:4] == ["0", "0", "10", "-"]
    assert "midpoint of left hip, right hip" in text and "beyond nose" in text and "640 x 480" in text
    assert "a.npz: 10 frames in the layout coco17\n" in text and "30 frames per second" in text
    assert any("not seen in many frames: right foot 100 %" in line for line in warnings(found, None, "pose"))


def test_the_table(people):
    """The committed table is of the form that `statistics` gives, and symmetric in the sides."""
    made, table = statistics(people, np.full(len(people), 1000.0), np.full(len(people), 1000.0)), reference()
    assert set(made) <= set(table) and table["joints"] == list(H36M_17.joints)
    assert table["mean"].shape == table["std"].shape == (17, 2) and (np.linalg.eigvalsh(table["precision"]) > 0).all()
    assert np.allclose(table["mean"], table["mean"][list(H36M_17.mirror)] * (-1, 1), atol=2e-4)
    assert np.allclose(made["mean"], np.array(made["mean"])[list(H36M_17.mirror)] * (-1, 1), atol=2e-4)
    body = report.at_one_size(people)
    assert np.allclose(np.linalg.norm(body[:, 1:], axis=-1).mean(-1), 1) and np.allclose(body[:, 0], 0)
