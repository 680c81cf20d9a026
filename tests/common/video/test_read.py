"""Keypoint files of other programs: every form gives the same pose; missing joints; bad files."""

import json
import logging
import pickle

import numpy as np
import pytest

from common.errors import InputError
from common.skeleton import COCO_17, H36M_17, MPII_16, OPENPOSE_18
from common.video.read import h36m_matrix, read_keypoints

BODY_25 = (
    "nose", "thorax", "right shoulder", "right elbow", "right wrist", "left shoulder", "left elbow", "left wrist",
    "hip", "right hip", "right knee", "right foot", "left hip", "left knee", "left foot", "right eye", "left eye",
    "right ear", "left ear", *(f"toe {i}" for i in range(6)),
)  # fmt: skip


def body(frames: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
    """Named joints (T, 2) of a person 600 pixels tall who wanders."""
    upright = {
        "nose": (0, -270), "left eye": (8, -285), "right eye": (-8, -285), "left ear": (20, -280),
        "right ear": (-20, -280), "left shoulder": (60, -210), "left elbow": (80, -110), "left wrist": (85, -10),
        "left hip": (40, 10), "left knee": (42, 160), "left foot": (44, 300),
    }  # fmt: skip
    upright |= {n.replace("left", "right"): (-x - 3, y + 2) for n, (x, y) in upright.items() if n.startswith("left")}
    rng = np.random.default_rng(seed)
    walk = np.array((500, 400)) + 12 * np.arange(frames)[:, None]
    return {name: (walk + place + rng.uniform(-4, 4, (frames, 2))).round(2) for name, place in upright.items()}


def expected(at: dict[str, np.ndarray]) -> np.ndarray:
    """(T, 17, 2) by the published rules, joint by joint."""
    hip, thorax = ((at[f"left {name}"] + at[f"right {name}"]) / 2 for name in ("hip", "shoulder"))
    special = {"hip": hip, "thorax": thorax, "neck": at["nose"], "head": thorax + 2 * (at["nose"] - thorax)}
    special["spine"] = sum(at[f"{side} {name}"] for side in ("left", "right") for name in ("hip", "shoulder")) / 4
    return np.stack([special[name] if name in special else at[name] for name in H36M_17.joints], 1)


def listed(at: dict[str, np.ndarray], names, t: int = 0, confidence: float = 0.8) -> np.ndarray:
    """(J, 3); what the body lacks stands at (0, 0) with confidence 0."""
    rows = [(*at[name][t], confidence) if name in at else (0, 0, 0) for name in names]
    return np.array(rows)


def openpose(*people: np.ndarray) -> dict:
    return {"version": 1.3, "people": [{"person_id": [-1], "pose_keypoints_2d": p.ravel().tolist()} for p in people]}


def write(path, content):
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("names, layout", [(BODY_25, "body25"), (OPENPOSE_18.joints, "openpose18")])
def test_openpose(tmp_path, names, layout):
    at = body()
    found = read_keypoints(write(tmp_path / "a.json", openpose(listed(at, names))))
    assert found.layout_found == layout and found.frames == ("a",)
    assert found.points.dtype == np.float32 and found.points.shape == (1, 17, 2)
    assert np.allclose(found.points, expected(at), atol=1e-3) and np.allclose(found.confidence, 0.8)


def test_openpose_folder_is_a_sequence(tmp_path):
    at = body(11)
    for t in range(11):  # frame 10 comes after frame 9
        other = listed({name: 0.8 * place + 300 for name, place in body(11, 1).items()}, BODY_25, t, 0.95)
        write(tmp_path / f"video_{t}_keypoints.json", openpose(other, listed(at, BODY_25, t)))
    found = read_keypoints(tmp_path)
    assert found.frames[-1] == "video_10_keypoints" and np.allclose(found.points, expected(at), atol=1e-3)


def test_coco_results_and_alphapose(tmp_path):
    at = body(3)
    entries = [
        {"image_id": image, "category_id": 1, "keypoints": listed(at, COCO_17.joints, t).ravel().tolist(), "score": 2.5}
        for t, image in enumerate((7, 20, 100))
    ]
    coco = read_keypoints(write(tmp_path / "coco.json", entries[::-1]))
    assert coco.frames == ("7", "20", "100") and coco.layout_found == "coco17"
    assert np.allclose(coco.points, expected(at), atol=1e-3)
    for entry in entries:
        entry |= {"image_id": f"{entry['image_id']}.jpg", "idx": 0.0, "box": [1, 2, 3, 4]}
    alphapose = read_keypoints(write(tmp_path / "alphapose-results.json", entries))
    assert alphapose.frames == ("7.jpg", "20.jpg", "100.jpg") and np.array_equal(alphapose.points, coco.points)
    annotations = read_keypoints(write(tmp_path / "gt.json", {"images": [], "annotations": entries}))
    assert np.array_equal(annotations.points, coco.points)
    halpe = [listed(at, (*COCO_17.joints, *(f"more {i}" for i in range(9))), t) for t in range(3)]
    entries = [{"image_id": t, "keypoints": halpe[t].ravel().tolist()} for t in range(3)]
    found = read_keypoints(write(tmp_path / "halpe.json", entries))
    assert found.layout_found == "halpe26" and np.array_equal(found.points, coco.points)


def test_plain_arrays(tmp_path):
    at = body(4)
    coco = np.stack([listed(at, COCO_17.joints, t) for t in range(4)])
    ours = expected(at)
    np.save(tmp_path / "coco.npy", coco)
    np.save(tmp_path / "ours.npy", ours)
    np.savez(tmp_path / "coco.npz", frame=np.arange(4), keypoints=coco[..., :2], confidence=coco[..., 2])
    np.savez(tmp_path / "ours.npz", points=ours, layout="h36m17")
    write(tmp_path / "list.json", coco.tolist())
    write(tmp_path / "one.json", coco[0, :, :2].tolist())
    write(tmp_path / "named.json", {"keypoints": ours.tolist(), "layout": "h36m"})
    layouts = {"coco.npy": "coco17", "ours.npy": "h36m17", "coco.npz": "coco17", "ours.npz": "h36m17"}
    layouts |= {"list.json": "coco17", "one.json": "coco17", "named.json": "h36m17"}
    for name, layout in layouts.items():
        found = read_keypoints(tmp_path / name)
        assert found.layout_found == layout, name
        assert np.allclose(found.points, ours[: len(found.points)], atol=1e-3), name
        assert len(found.points) == len(found.frames) == (1 if name == "one.json" else 4)
    assert np.allclose(read_keypoints(tmp_path / "coco.npz").confidence, 0.8)
    assert (read_keypoints(tmp_path / "ours.npy").confidence == 1).all()
    named = read_keypoints(tmp_path / "ours.npy", layout="coco")  # what the caller says is believed
    assert named.layout_found == "coco17" and not np.allclose(named.points, ours)


def test_mpii_is_read_as_prepared():
    places = np.random.default_rng(0).uniform(0, 9, (16, 2))
    at = dict(zip(MPII_16.joints, places, strict=True))
    made = dict(zip(H36M_17.joints, h36m_matrix("mpii16") @ places, strict=True))
    assert np.allclose(made["thorax"], at["upper neck"]) and np.allclose(made["head"], at["head"])
    assert np.allclose(made["neck"], (at["upper neck"] + at["head"]) / 2)
    assert np.allclose(made["spine"], (at["hip"] + at["upper neck"]) / 2)


# ------------------------------------------------------------ missing joints


def test_filled_from_the_frames_around(tmp_path, caplog):
    at = body(5)
    points = np.stack([listed(at, COCO_17.joints, t) for t in range(5)])
    wrist, hip, ear = (COCO_17.index(name) for name in ("left wrist", "right hip", "left ear"))
    points[2, wrist, 2], points[0, hip], points[4, wrist, :2], points[3, ear] = 0.05, 0, 0, 0
    np.save(tmp_path / "a.npy", points)
    at["left wrist"][2] = (at["left wrist"][1] + at["left wrist"][3]) / 2
    at["left wrist"][4], at["right hip"][0] = at["left wrist"][3], at["right hip"][1]
    with caplog.at_level(logging.WARNING):
        found = read_keypoints(tmp_path / "a.npy")
    assert np.allclose(found.points, expected(at), atol=1e-3)
    assert "left wrist in 2, right hip in 1" in caplog.text and "ear" not in caplog.text
    zero = {(t, H36M_17.joints[j]) for t, j in np.argwhere(found.confidence == 0)}
    assert zero == {(0, "hip"), (0, "right hip"), (0, "spine"), (2, "left wrist"), (4, "left wrist")}
    assert np.isclose(found.confidence[1, H36M_17.index("left wrist")], 0.8)


def test_a_frame_without_the_person(tmp_path):
    at = body(3)
    for t in range(3):
        write(tmp_path / f"{t}.json", openpose(*([listed(at, BODY_25, t)] if t != 1 else [])))
    found = read_keypoints(tmp_path)
    assert np.allclose(found.points[1], (expected(at)[0] + expected(at)[2]) / 2, atol=1e-3)
    assert (found.confidence[1] == 0).all()


def test_filled_from_the_joints_around(tmp_path, caplog):
    at = body()
    gone = ("left wrist", "right knee", "right foot", "nose")
    seen = {name: place for name, place in at.items() if name not in gone}
    with caplog.at_level(logging.WARNING):
        found = read_keypoints(write(tmp_path / "a.json", openpose(listed(seen, BODY_25))))
    made = dict(zip(H36M_17.joints, found.points[0].astype(float), strict=True))
    full = dict(zip(H36M_17.joints, expected(at)[0], strict=True))
    for name in ("left wrist", "right knee", "right foot", "neck", "head"):
        assert name in caplog.text and found.confidence[0, H36M_17.index(name)] == 0
    assert np.allclose(made["left wrist"], full["left elbow"] + full["right wrist"] - full["right elbow"], atol=1e-3)
    assert np.allclose(made["right foot"], made["right knee"] + full["left foot"] - full["left knee"], atol=1e-3)
    for name, place in full.items():  # nothing is far off, and what was there is untouched
        assert np.linalg.norm(made[name] - place) < (60 if found.confidence[0, H36M_17.index(name)] == 0 else 1e-3), (
            name
        )


def test_both_legs_missing(tmp_path):
    at = body()
    seen = {name: place for name, place in at.items() if not name.endswith(("knee", "foot", "elbow", "wrist"))}
    found = read_keypoints(write(tmp_path / "a.json", openpose(listed(seen, BODY_25))))
    made = dict(zip(H36M_17.joints, found.points[0], strict=True))
    for side in ("left", "right"):
        heights = [made[f"{side} {name}"][1] for name in ("hip", "knee", "foot")]
        assert heights == sorted(heights) and 300 < heights[2] - heights[0] < 450
        assert made[f"{side} shoulder"][1] < made[f"{side} elbow"][1] < made[f"{side} wrist"][1]


@pytest.mark.parametrize("gone", ["left hip", "right hip", "left shoulder", "right shoulder"])
def test_hips_and_shoulders_are_needed(tmp_path, gone):
    at = {name: place for name, place in body(2).items() if name != gone}
    np.save(tmp_path / "a.npy", np.stack([listed(at, COCO_17.joints, t) for t in range(2)]))
    with pytest.raises(InputError, match=f"{gone} missing in every frame; hips and shoulders are needed"):
        read_keypoints(tmp_path / "a.npy")


def test_threshold(tmp_path):
    points = listed(body(), COCO_17.joints)
    points[COCO_17.index("left hip"), 2] = 0.2
    np.save(tmp_path / "a.npy", points)
    assert np.isclose(read_keypoints(tmp_path / "a.npy", threshold=0.1).confidence[0, 0], 0.2)
    with pytest.raises(InputError, match="left hip missing"):
        read_keypoints(tmp_path / "a.npy", threshold=0.3)


# ------------------------------------------------------------ bad files


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("a.json", "", "no JSON"),
        ("a.json", "{" * 100_000, "no JSON"),
        ("a.json", "{}", "without 'keypoints'"),
        ("a.json", "[]", "holds no person"),
        ("a.json", '{"people": []}', "holds no person"),
        ("a.json", '{"people": [3]}', "without .* 'pose_keypoints_2d'"),
        ("a.json", '{"people": [{"pose_keypoints_2d": [1, 2]}]}', "x, y and confidence"),
        ("a.json", '{"people": [{"pose_keypoints_2d": ["a"]}]}', "list of numbers"),
        ("a.json", '[{"image_id": 1}]', "without 'keypoints'"),
        ("a.json", "[[[1, 2], [3]]]", "list of numbers"),
        ("a.json", "[[1, 2, 3, 4]]", r"shape \(1, 1, 4\)"),
        ("a.json", json.dumps([[1, 2]] * 16), "16 joints: name their layout, one of .*mpii16"),
        ("a.json", json.dumps([[1, 2]] * 5), "5 joints: name their layout"),
        ("a.json", json.dumps({"keypoints": [[1, 2]] * 17, "layout": ["x"]}), "unknown joint layout"),
        (
            "a.json",
            json.dumps({"keypoints": [[1, 2]] * 17, "layout": "body25"}),
            "17 joints, but the layout body25 has 25",
        ),
        ("a.txt", "1 2 3", "unknown kind of file '.txt'; expected one of .json, .npz, .npy"),
        ("a.npy", b"", "truncated, damaged"),
        ("a.npy", b"\x93NUMPY", "truncated, damaged"),
        ("a.npz", b"PK", "truncated"),
    ],
)
def test_bad_files(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=words):
        read_keypoints(tmp_path / name)


def test_nothing_is_executed(tmp_path):
    bomb = np.empty(1, object)
    bomb[0] = Bomb()
    np.save(tmp_path / "a.npy", bomb, allow_pickle=True)
    np.savez(tmp_path / "a.npz", keypoints=bomb)
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Bomb()))
    for name in ("a.npy", "b.npy", "a.npz"):
        with pytest.raises(InputError):
            read_keypoints(tmp_path / name)


def test_bad_folders_and_arrays(tmp_path):
    with pytest.raises(InputError, match="no.json does not exist"):
        read_keypoints(tmp_path / "no.json")
    with pytest.raises(InputError, match="holds no .json files"):
        read_keypoints(tmp_path)
    np.savez(tmp_path / "a.npz", positions=np.array({"S1": 1}, object))
    with pytest.raises(InputError, match="no array of keypoints .*; it has: positions"):
        read_keypoints(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", keypoints=np.ones((2, 17, 2)), scores=np.ones(17))
    with pytest.raises(InputError, match=r"confidence has shape \(17,\); expected \(2, 17\)"):
        read_keypoints(tmp_path / "a.npz")
    at = body()
    mixed = openpose(listed(at, BODY_25), listed(at, COCO_17.joints))
    with pytest.raises(InputError, match="people of 17 and 25 joints"):
        read_keypoints(write(tmp_path / "a.json", mixed))
    np.save(tmp_path / "nan.npy", np.full((3, 17, 2), np.nan))
    with pytest.raises(InputError, match="missing in every frame"):
        read_keypoints(tmp_path / "nan.npy")
