"""data/prepare_3dpw.py on made-up files of 3DPW's form: people, cameras and takes; bad files end in one line."""

import pickle

import numpy as np
import pytest
import torch

from common.datasets.captures import in_camera, projected
from common.datasets.h36m_layout import load_pose_set
from common.files.npz import load_npz
from common.skeleton import H36M_17, OPENPOSE_18
from tests.conftest import assert_refused
from tests.mpi_inf_files import people

SCRIPT = "data/prepare_3dpw.py"
# SMPL's 24 joints; those that Human3.6M has under this project's names
SMPL = (
    "pelvis, left hip, right hip, spine1, left knee, right knee, spine2, left foot, right foot, spine3, left toe, "
    "right toe, thorax, left collar, right collar, neck, left shoulder, right shoulder, left elbow, right elbow, "
    "left wrist, right wrist, left hand, right hand"
).split(", ")
MATRIX = np.array([(1960.0, 0, 540), (0, 1960, 960), (0, 0, 1)])  # upright pictures


def sequence(frames: int = 6, persons: int = 2) -> tuple[dict, list[np.ndarray]]:
    """A file's content -> and the camera-frame poses (T, 17, 3) of each person, but hip, spine and head."""
    rng = np.random.default_rng(0)
    cameras = np.zeros((frames, 4, 4))
    cameras[:, 3, 3] = 1
    data = {"sequence": "street_00", "cam_intrinsics": MATRIX, "cam_poses": cameras, "img_frame_ids": np.arange(frames)}
    data |= {key: [] for key in ("jointPositions", "poses2d", "campose_valid", "betas", "trans", "genders")}
    for t in range(frames):  # turns and moves on; y of the world points up
        cos, sin = np.cos(0.1 * t), np.sin(0.1 * t)
        cameras[t, :3, :3] = np.array([(cos, 0, sin), (0, 1, 0), (-sin, 0, cos)]) @ np.diag((1, -1, -1))
        cameras[t, :3, 3] = (0, 1.2, 5 + 0.1 * t)
    found = []
    for number in range(persons):
        body = people(frames, number)[..., [1, 2, 0]]
        joints = rng.normal(size=(frames, 24, 3))
        for j, name in enumerate(SMPL):
            if name in H36M_17.joints:
                joints[:, j] = body[:, H36M_17.index(name)]
        seen = np.einsum("tij,tkj->tki", cameras[:, :3, :3], body) + cameras[:, None, :3, 3]
        pixels = seen[..., :2] / seen[..., 2:] * 1960 + (540, 960)
        points = np.zeros((frames, 18, 3))
        for j, name in enumerate(OPENPOSE_18.joints):
            place = H36M_17.index(name if name in H36M_17.joints else "neck")
            points[:, j, :2], points[:, j, 2] = pixels[:, place], 0.9
        data["jointPositions"].append(joints.reshape(frames, 72))
        data["poses2d"].append(points.transpose(0, 2, 1))
        data["campose_valid"].append(np.ones(frames, int))
        data["betas"].append(np.zeros(10)), data["trans"].append(np.zeros((frames, 3))), data["genders"].append("m")
        found.append(seen)
    return data, found


def write(folder, data, split: str = "test", name: str = "street_00") -> None:
    (folder / split).mkdir(parents=True, exist_ok=True)
    with open(folder / split / f"{name}.pkl", "wb") as file:
        pickle.dump(data, file, protocol=2)


@pytest.fixture
def prepare(script, tmp_path):
    return lambda *options: script(SCRIPT, "--source", tmp_path / "seq", "--data-dir", tmp_path, *options)


def test_people_and_takes(prepare, tmp_path):
    data, found = sequence()
    data["campose_valid"][0][2] = 0  # a gap: two takes
    write(tmp_path / "seq", data)
    write(tmp_path / "seq", sequence(4, 1)[0], "train", "park_01")
    done = prepare()
    assert done.status == 0, done.err
    assert "test: 1 sequences, 3 takes, 11 poses" in done.out and "train: 1 sequences, 1 takes, 4 poses" in done.out
    space, plane = (load_npz(tmp_path / name) for name in ("data_3d_3dpw.npz", "data_2d_3dpw_detected.npz"))
    about = space["metadata"]
    assert about["subjects_train"] == ["train"] and about["subjects_test"] == ["test"] and about["fps"] == 30
    exact = [H36M_17.index(name) for name in SMPL if name in H36M_17.joints]
    parts = {"1": found[0][:2], "2": found[0][3:], "3": found[1]}
    assert list(space["positions_3d"]["test"]) == [f"street_00 {number}" for number in parts]
    for number, expected in parts.items():
        poses, action = space["positions_3d"]["test"][f"street_00 {number}"], f"street_00 {number}"
        (camera,), (points,) = space["cameras"]["test"][action], plane["positions_2d"]["test"][action]
        assert camera["size"] == (1080, 1920) and poses.dtype == points.dtype == np.float32
        np.testing.assert_allclose(in_camera(poses, camera)[:, exact], expected[:, exact], atol=1e-5)
        shoulder, head = H36M_17.index("left shoulder"), H36M_17.index("head")
        np.testing.assert_allclose(points[:, shoulder], projected(poses, camera)[:, shoulder], atol=0.05)
        assert (poses[:, head, 2] > poses[:, H36M_17.index("thorax"), 2]).all()
    exact_2d, found_2d = (load_pose_set(tmp_path, "3dpw", kind, "test") for kind in ("gt", "detected"))
    assert exact_2d.summary() == found_2d.summary() == "test: 1 actions, 1 views, 11 poses"
    elbows = [H36M_17.index(f"{side} elbow") for side in ("left", "right")]
    torch.testing.assert_close(exact_2d.keypoints[:, elbows], found_2d.keypoints[:, elbows], atol=0.05, rtol=0)
    done = prepare()
    assert done.status == 0 and "are there already: nothing done" in done.out


def test_missing_detections_are_filled_in_or_left_out(prepare, tmp_path):
    data, _ = sequence(90, 1)
    full = data["poses2d"][0].copy()
    data["poses2d"][0][4:6, :, 4] = 0  # a wrist
    data["poses2d"][0][20:60] = 0  # nobody, for more than a second
    write(tmp_path / "seq", data)
    done = prepare()
    assert done.status == 0, done.err
    (points,) = load_npz(tmp_path / "data_2d_3dpw_detected.npz")["positions_2d"]["test"]["street_00 1"]
    assert np.isnan(points[20:60]).all() and np.isfinite(points[:20]).all() and np.isfinite(points[60:]).all()
    wrist = H36M_17.index("right wrist")
    found = load_pose_set(tmp_path, "3dpw", "detected", "test")
    assert [seq.length for seq in found.sequences] == [20, 30]
    assert len(load_pose_set(tmp_path, "3dpw", "gt", "test")) == 90
    middle = (full[3, :2, 4] * 2 + full[6, :2, 4]) / 3
    np.testing.assert_allclose(points[4, wrist], middle, atol=0.01)


class Evil:
    def __reduce__(self):
        import os

        return os.system, ("touch never",)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda d: d.pop("cam_poses"), ("has no cam_poses", "3DPW")),
        (lambda d: d.update(genders=Evil()), ("system, which is not data: refused",)),
        (lambda d: d.update(campose_valid=d["campose_valid"][:1]), ("campose_valid of 1", "people")),
        (lambda d: d.update(jointPositions=[np.zeros((6, 69))] * 2), ("jointPositions has shape (6, 69)",)),
        (lambda d: d.update(cam_intrinsics=np.eye(4)), ("cam_intrinsics has shape (4, 4)",)),
        (lambda d: d.update(cam_intrinsics=MATRIX / 4), ("the centre of cam_intrinsics, [135.0, 240.0]",)),
        (lambda d: d["cam_poses"].__iadd__(np.eye(4)[:, [1, 0, 2, 3]]), ("pixels from its detection in poses2d",)),
        (lambda d: d["jointPositions"][0].__setitem__((2, 3), np.nan), ("NaN or infinity in 3dpw", "street_00 1")),
    ],
)
def test_bad_files(prepare, tmp_path, monkeypatch, change, words):
    monkeypatch.chdir(tmp_path)
    data, _ = sequence()
    change(data)
    write(tmp_path / "seq", data)
    assert_refused(prepare(), *words)
    assert not (tmp_path / "data_3d_3dpw.npz").exists() and not (tmp_path / "never").exists()


def test_no_files(prepare, tmp_path):
    assert_refused(prepare(), "train/*.pkl, validation/*.pkl, test/*.pkl")
    (tmp_path / "seq" / "test").mkdir(parents=True)
    (tmp_path / "seq" / "test" / "a.pkl").write_bytes(b"junk")
    assert_refused(prepare(), "a.pkl is truncated, damaged or no pickle")
