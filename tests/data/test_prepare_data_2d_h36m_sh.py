"""data/prepare_data_2d_h36m_sh.py on small archives of the published form; bad input ends in one line."""

import io
import tarfile
import zipfile

import h5py
import numpy as np
import pytest

from common.datasets.h36m_layout import load_pose_set
from common.files.npz import load_npz, save_npz
from common.skeleton import H36M_16, H36M_17, MPII_16, convert
from tests.conftest import assert_refused
from tests.data.test_prepare_data_h36m import canonical, released_takes
from tests.tiny_dataset import tiny_keypoints

SCRIPT = "data/prepare_data_2d_h36m_sh.py"
CAMERAS = ("54138969", "55011271", "58860488", "60457274")
# The hourglass's joints under the names that 3d-pose-baseline gives them.
HOURGLASS = (
    "right foot, right knee, right hip, left hip, left knee, left foot, hip, spine, thorax, head, right wrist, "
    "right elbow, right shoulder, left shoulder, left elbow, left wrist"
).split(", ")


def h5_bytes(values: np.ndarray, key: str = "poses") -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file[key] = values
    return buffer.getvalue()


@pytest.fixture(scope="module")
def poses():
    """subject -> name of the release -> (T, 32, 3)."""
    return released_takes(frames=2)


@pytest.fixture(scope="module")
def detections(poses):
    """subject -> name of the release -> views (T, 17, 2), Human3.6M order."""
    return tiny_keypoints(poses, noise=2)


@pytest.fixture(scope="module")
def files(detections):
    """Path below the subjects' folder -> bytes: 840 videos less S11's missing one."""
    order = [H36M_17.index(name) for name in HOURGLASS]
    return {
        (subject, f"{name.replace(' ', '_')}.{camera}.h5"): h5_bytes(view[:, order].astype(np.float64))
        for subject, takes in detections.items()
        for name, views in takes.items()
        for camera, view in zip(CAMERAS, views, strict=True)
        if (subject, name, camera) != ("S11", "Directions", "54138969")
    }


def write_zip(path, files, folder="StackedHourglass"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("h36m/S1/MyPoses/3D_positions/Eating.h5", b"not read")
        for (subject, name), data in files.items():
            archive.writestr(f"h36m/{subject}/{folder}/{name}", data)


def write_tar(path, files, folder="StackedHourglassFineTuned240"):
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for (subject, name), data in files.items():
            info = tarfile.TarInfo(f"./{subject}/{folder}/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def test_both_archives(script, files, detections, poses, tmp_path):
    assert len(files) == 839
    write_zip(tmp_path / "h36m.zip", files)
    write_tar(tmp_path / "ft.tgz", files)
    done = script(SCRIPT, "-pt", tmp_path / "h36m.zip", "-ft", tmp_path / "ft.tgz", "--data-dir", tmp_path)
    assert done.status == 0, done.err
    assert done.out.count("209 takes, 1,672 poses, 16 joints (h36m)") == 2
    for name in ("sh_pt_mpii", "sh_ft_h36m"):
        arrays = load_npz(tmp_path / f"data_2d_h36m_{name}.npz")
        assert arrays["metadata"] == {
            "layout_name": "h36m",
            "num_joints": 16,
            "keypoints_symmetry": [[4, 5, 6, 10, 11, 12], [1, 2, 3, 13, 14, 15]],
        }
        for subject, takes in detections.items():
            found = arrays["positions_2d"][subject]
            names = {canonical(subject, raw): raw for raw in takes if (subject, raw) != ("S11", "Directions")}
            assert found.keys() == names.keys()
            for take, raw in names.items():
                for view, expected in zip(found[take], takes[raw], strict=True):
                    assert view.dtype == np.float32
                    np.testing.assert_array_equal(view, convert(expected, H36M_17, H36M_16))
    save_npz(tmp_path / "data_3d_h36m.npz", positions_3d=poses)
    split = load_pose_set(tmp_path, "h36m", "sh_ft_h36m", "S9,S11", "Photo", skeleton=H36M_16)
    here = split.find("S11", "Photo 1", 3)
    expected = convert(detections["S11"]["TakingPhoto 1"][3], H36M_17, H36M_16)
    np.testing.assert_array_equal(split.keypoints[here].numpy(), expected)


def test_as_detected(script, files, detections, tmp_path):
    chosen = {key: data for key, data in files.items() if key[0] == "S9"}
    write_zip(tmp_path / "h36m.zip", chosen)
    options = ("-pt", tmp_path / "h36m.zip", "--order", "mpii", "--data-dir", tmp_path, "--partial")
    assert script(SCRIPT, *options).status == 0
    arrays = load_npz(tmp_path / "data_2d_h36m_sh_pt_mpii.npz")
    assert arrays["metadata"]["layout_name"] == "mpii"
    assert arrays["metadata"]["keypoints_symmetry"][0] == list(MPII_16.left) == [3, 4, 5, 13, 14, 15]
    right_foot = arrays["positions_2d"]["S9"]["Eating"][1][:, 0]
    np.testing.assert_array_equal(right_foot, detections["S9"]["Eating"][1][:, 3])


def test_a_folder_will_do_and_finished_work_stays(script, files, tmp_path):
    for (subject, name), data in files.items():
        if subject == "S1":
            file = tmp_path / "sh" / subject / "StackedHourglass" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
    options = ("-pt", tmp_path / "sh", "--data-dir", tmp_path, "--partial")
    assert script(SCRIPT, *options).status == 0
    target = tmp_path / "data_2d_h36m_sh_pt_mpii.npz"
    assert list(load_npz(target)["positions_2d"]) == ["S1"]
    target.write_text("mine")
    done = script(SCRIPT, *options)
    assert done.status == 0 and "nothing done" in done.out and target.read_text() == "mine"
    assert script(SCRIPT, *options, "--force").status == 0 and len(load_npz(target)["positions_2d"]["S1"]) == 30


def test_missing_videos_are_told(script, files, poses, tmp_path, caplog):
    absent = {("S5", "Walking.58860488.h5"), ("S5", "Eating_2.54138969.h5"), ("S5", "Eating_2.60457274.h5")}
    write_zip(tmp_path / "h36m.zip", {key: data for key, data in files.items() if key not in absent})
    options = ("-pt", tmp_path / "h36m.zip", "--data-dir", tmp_path)
    words = ("207 of 209", "S5 Walking without camera 58860488", "S5 Eating 2 without camera 54138969, 60457274")
    assert_refused(script(SCRIPT, *options), *words, "Walking (1 of 2)", "--partial")
    assert not (tmp_path / "data_2d_h36m_sh_pt_mpii.npz").exists()
    longer = {"S9": {name: np.repeat(world, 2, 0) for name, world in poses["S9"].items()}}
    save_npz(tmp_path / "data_3d_h36m.npz", positions_3d=longer)
    done = script(SCRIPT, *options, "--partial")
    assert done.status == 0 and "207 takes" in done.out
    assert all(word in caplog.messages[0] for word in words)
    assert "shorter than the poses in data_3d_h36m.npz: S9 Directions (2 of 4 frames)" in caplog.messages[1]


@pytest.mark.parametrize(
    "data, words",
    [
        (h5_bytes(np.full((2, 17, 2), 500.0)), ("(2, 17, 2)", "(frames, 16, 2)")),
        (h5_bytes(np.full((2, 16, 2), np.nan)), ("NaN or infinity", "S1 Eating, camera 54138969", "frame 0")),
        (h5_bytes(np.random.default_rng(0).uniform(-1, 1, (2, 16, 2))), ("expected pixels", "not normalised")),
        (h5_bytes(np.full((2, 16, 2), 500.0)), ("people of 0 pixels",)),
        (h5_bytes(np.zeros((2, 16, 2)), "other"), ("has no array poses", "other")),
        (b"text", ("Eating.54138969.h5", "damaged or no HDF5")),
    ],
)
def test_bad_videos(script, files, tmp_path, data, words):
    chosen = {
        (subject, name): value for (subject, name), value in files.items() if (subject, name[:7]) == ("S1", "Eating.")
    }
    assert len(chosen) == 4
    write_zip(tmp_path / "h36m.zip", chosen | {("S1", "Eating.54138969.h5"): data})
    assert_refused(script(SCRIPT, "-pt", tmp_path / "h36m.zip", "--data-dir", tmp_path, "--partial"), *words)
    assert not list(tmp_path.glob("*.npz"))


def test_bad_archives(script, files, tmp_path):
    target = ("--data-dir", tmp_path)
    assert_refused(script(SCRIPT), "-pt h36m.zip")
    assert_refused(script(SCRIPT, "-pt", tmp_path / "no.zip", *target), "no.zip does not exist")
    write_tar(tmp_path / "ft.tgz", dict(list(files.items())[:40]))
    assert_refused(script(SCRIPT, "-pt", tmp_path / "ft.tgz", *target), "has no file of the form")  # the other kind
    whole = (tmp_path / "ft.tgz").read_bytes()
    (tmp_path / "cut.tgz").write_bytes(whole[: len(whole) // 2])
    assert_refused(script(SCRIPT, "-ft", tmp_path / "cut.tgz", *target), "cut.tgz is truncated or damaged")
    assert not list(tmp_path.glob("*.npz"))
