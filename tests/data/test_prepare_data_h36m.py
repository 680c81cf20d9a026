"""data/prepare_data_h36m.py on small files of the three forms, against a plain loop; bad input ends in one line.

cdflib is optional: but for one test with a true .cdf, a stand-in with the one call that is used takes its place.
"""

import io
import os
import signal
import struct
import sys
import types
import zipfile

import h5py
import numpy as np
import pytest
import scipy.io as scipy_io
from cdflib import cdfwrite

from common.camera import h36m_cameras
from common.datasets.h36m_layout import load_pose_set
from common.files.npz import load_npz
from common.skeleton import H36M_17, H36M_32
from tests import processes
from tests.conftest import ROOT, assert_refused
from tests.tiny_dataset import SUBJECTS, tiny_poses

SCRIPT = "data/prepare_data_h36m.py"
ACTIONS = (
    "Directions Discussion Eating Greeting Phoning Photo Posing Purchases Sitting SittingDown Smoking Waiting WalkDog "
    "WalkTogether Walking"
).split()


def released_takes(frames: int = 3) -> dict:
    """subject -> name of the release -> (T, 32, 3) metres, float32: 15 actions, two takes, names as they vary."""
    takes = [name for action in ACTIONS for name in (action, f"{action} 1")]
    tree = tiny_poses(frames, SUBJECTS, tuple(takes), H36M_32)
    other = {"Photo 1": "TakingPhoto 1", "WalkDog": "WalkingDog", "WalkDog 1": "WalkingDog 1", "Eating 1": "Eating 2"}
    for subject in ("S5", "S6", "S11"):
        tree[subject] = {other.get(name, name): poses for name, poses in tree[subject].items()}
    return tree


def canonical(subject: str, name: str) -> str:
    """Written out once more, as VideoPose3D does it."""
    return name.replace("TakingPhoto", "Photo").replace("WalkingDog", "WalkDog")


def millimetres(poses: np.ndarray) -> np.ndarray:
    return poses.astype(np.float64).reshape(len(poses), 96) * 1000


def element(code: int, data: bytes) -> bytes:
    return struct.pack("<II", code, len(data)) + data + bytes(-len(data) % 8)


def mat_matrix(kind: int, shape: tuple[int, int], name: bytes, body: bytes) -> bytes:
    head = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack("<ii", *shape)) + element(1, name)
    return element(14, head + body)


def cell_mat(*arrays: np.ndarray, name: bytes = b"data") -> bytes:
    """A MATLAB 5 file with one variable: a cell row of double matrices."""
    cells = b"".join(mat_matrix(6, a.shape, b"", element(9, a.astype("<f8").tobytes(order="F"))) for a in arrays)
    return b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H2s", 0x0100, b"IM") + mat_matrix(
        1, (1, len(arrays)), name, cells
    )  # fmt: skip


def write_mat(folder, tree) -> None:
    write_folder(folder, tree, ".cdf.mat", lambda file, values: file.write_bytes(cell_mat(values)))


def write_cdf(folder, tree) -> None:
    """Not CDF: what the stand-in of cdflib reads."""
    write_folder(folder, tree, ".cdf", lambda file, values: np.save(file.open("wb"), values[None]))


def write_folder(folder, tree, suffix, write) -> None:
    for subject, takes in tree.items():
        place = folder / subject / "MyPoseFeatures" / "D3_Positions"
        place.mkdir(parents=True)
        for name, poses in takes.items():
            write(place / f"{name}{suffix}", millimetres(poses))


def write_zip(file, tree) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("h36m/cameras.h5", b"not read")
        archive.writestr("__MACOSX/h36m/S1/MyPoses/3D_positions/Eating.h5", b"a Mac's shadow")
        for subject, takes in tree.items():
            for name, poses in takes.items():
                archive.writestr(f"h36m/{subject}/MyPoses/3D_positions/{name}.h5", h5_bytes(millimetres(poses).T))


def h5_bytes(values: np.ndarray, key: str = "3D_positions") -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file[key] = values
    return buffer.getvalue()


@pytest.fixture
def cdflib(monkeypatch):
    """A stand-in for cdflib: CDF(path).varget("Pose")."""

    class CDF:
        def __init__(self, path: str) -> None:
            self.path = path

        def varget(self, name: str) -> np.ndarray:
            assert name == "Pose"
            return np.load(self.path)

    monkeypatch.setitem(sys.modules, "cdflib", types.SimpleNamespace(CDF=CDF))


@pytest.fixture(scope="module")
def tree():
    return released_takes()


@pytest.fixture(scope="module")
def mat_source(tree, tmp_path_factory):
    """A complete folder of .cdf.mat; not to be changed."""
    folder = tmp_path_factory.mktemp("mat")
    write_mat(folder, tree)
    return folder


def contents(folder) -> tuple[dict, dict]:
    return load_npz(folder / "data_3d_h36m.npz"), load_npz(folder / "data_2d_h36m_gt.npz")


def plain_pixel(point: np.ndarray, camera) -> tuple[float, float]:
    """One world point in metres -> pixels, in doubles: rotation by the quaternion, division, the field's distortion."""
    w, x, y, z = camera.orientation
    to_world = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    a, b, depth = to_world.T @ (np.asarray(point, float) - camera.translation)
    a, b = a / depth, b / depth
    r2 = a * a + b * b
    (k1, k2, k3), (p1, p2) = camera.radial, camera.tangential
    factor = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + p1 * a + p2 * b
    (fx, fy), (cx, cy) = camera.focal, camera.centre
    return fx * (a * factor + p1 * r2) + cx, fy * (b * factor + p2 * r2) + cy


def test_mat_gives_the_fields_files(script, mat_source, tree, tmp_path, caplog):
    caplog.set_level("INFO")
    done = script(SCRIPT, "--from-source", mat_source, "--data-dir", tmp_path)
    assert done.status == 0, done.err
    file_3d, file_2d = contents(tmp_path)
    poses, pixels, metadata = file_3d["positions_3d"], file_2d["positions_2d"], file_2d["metadata"]
    assert list(poses) == list(pixels) == list(SUBJECTS)
    assert metadata == {
        "layout_name": "h36m",
        "num_joints": 17,
        "keypoints_symmetry": [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]],
    }
    kept = [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]  # of the 32 joints
    for subject, takes in tree.items():
        names = {canonical(subject, name): name for name in takes if (subject, name) != ("S11", "Directions")}
        assert poses[subject].keys() == pixels[subject].keys() == names.keys()
        for name, raw in names.items():
            world = poses[subject][name]
            assert world.dtype == np.float32 and world.shape == (3, 32, 3)
            np.testing.assert_array_equal(world, (millimetres(takes[raw]) / 1000).astype("f4").reshape(3, 32, 3))
            assert [(view.dtype, view.shape) for view in pixels[subject][name]] == [(np.float32, (3, 17, 2))] * 4
            for camera, view in zip(h36m_cameras()[subject], pixels[subject][name], strict=True):
                for joint in (0, 10, 16):
                    expected = plain_pixel(world[1, kept[joint]], camera)
                    assert view[1, joint].tolist() == pytest.approx(expected, abs=2e-3)
    assert "S1: 30 takes, 90 frames" in done.out and "S11: 29 takes, 87 frames" in done.out
    assert "209 takes, 627 frames (the published set: 525,774), 32 joints" in done.out
    assert "209 takes, 2,508 poses, 17 joints (h36m)" in done.out
    assert caplog.messages == ["left out: S11 Directions"]


def test_the_result_loads(script, mat_source, tree, tmp_path):
    assert script(SCRIPT, "--from-source", mat_source, "--data-dir", tmp_path).status == 0
    split = load_pose_set(tmp_path, "h36m", "gt", "S9,S11")
    assert split.summary() == "S9,S11: 15 actions, 4 views, 708 poses"
    train = load_pose_set(tmp_path, "h36m", "gt", "S1,S5,S6,S7,S8", "Photo,WalkDog", skeleton=H36M_17)
    assert len(train) == 5 * 4 * 4 * 3
    here = train.find("S6", "Photo 1", 2)  # "TakingPhoto 1" in the release
    camera = h36m_cameras()["S6"][2]
    distance = np.linalg.norm(tree["S6"]["TakingPhoto 1"][0, 0] - np.array(camera.translation))
    assert train.poses[here][0, 0].norm().item() == pytest.approx(distance, abs=1e-5)


def test_all_sources_give_the_same_bytes(script, mat_source, tree, tmp_path, cdflib):
    write_cdf(tmp_path / "cdf", tree)
    write_zip(tmp_path / "h36m.zip", tree)
    runs = {"mat": ("--from-source", mat_source), "cdf": ("--from-source-cdf", tmp_path / "cdf")}
    runs["zip"] = ("--from-archive", tmp_path / "h36m.zip")
    for name, options in runs.items():
        done = script(SCRIPT, *options, "--data-dir", tmp_path / f"out_{name}")
        assert done.status == 0, done.err
    for file in ("data_3d_h36m.npz", "data_2d_h36m_gt.npz"):
        assert len({(tmp_path / f"out_{name}" / file).read_bytes() for name in runs}) == 1


def test_packed_mat_of_scipy(script, tree, tmp_path):
    cell = np.empty((1, 1), object)
    cell[0, 0] = millimetres(tree["S9"]["Eating"])
    place = tmp_path / "S9" / "Poses_D3_Positions"  # h36m-fetch's folders
    place.mkdir(parents=True)
    scipy_io.savemat(place / "Eating.cdf.mat", {"data": cell}, do_compression=True)
    assert script(SCRIPT, "--from-source", tmp_path, "--data-dir", tmp_path, "--partial").status == 0
    np.testing.assert_array_equal(contents(tmp_path)[0]["positions_3d"]["S9"]["Eating"], tree["S9"]["Eating"])


def test_finished_work_is_not_done_again(script, mat_source, tmp_path):
    options = ("--from-source", mat_source, "--data-dir", tmp_path)
    assert script(SCRIPT, *options).status == 0
    file_3d, file_2d = tmp_path / "data_3d_h36m.npz", tmp_path / "data_2d_h36m_gt.npz"
    stamp, expected = file_3d.stat().st_mtime_ns, file_2d.read_bytes()
    done = script(SCRIPT, *options)
    assert done.status == 0 and "are there already: nothing done" in done.out
    file_2d.unlink()
    done = script(SCRIPT, "--from-source", tmp_path / "gone", "--data-dir", tmp_path)  # the source is not needed
    assert done.status == 0 and "data_2d_h36m_gt.npz is made from it" in done.out
    assert file_2d.read_bytes() == expected and file_3d.stat().st_mtime_ns == stamp
    file_2d.write_text("old")
    assert script(SCRIPT, *options, "--force").status == 0
    assert file_2d.read_bytes() == expected and file_3d.stat().st_mtime_ns > stamp
    file_3d.unlink()  # a 2D file without its 3D file is made anew, too
    file_2d.write_text("old")
    assert script(SCRIPT, *options).status == 0 and file_2d.read_bytes() == expected


def test_missing_takes_are_told(script, tree, tmp_path, caplog):
    cut = {s: dict(takes) for s, takes in tree.items() if s != "S8"}
    del cut["S5"]["Walking"], cut["S7"]["Eating"], cut["S7"]["Eating 1"]
    write_mat(tmp_path / "mat", cut)
    options = ("--from-source", tmp_path / "mat", "--data-dir", tmp_path)
    lines = ("176 of 209 takes", "S5 Walking (1 of 2)", "S7 Eating (0 of 2)", "nothing of S8")
    assert_refused(script(SCRIPT, *options), *lines, "--partial")
    assert not list(tmp_path.glob("*.npz"))
    done = script(SCRIPT, *options, "--partial")
    assert done.status == 0 and all(line in caplog.messages[-1] for line in lines)
    assert contents(tmp_path)[0]["positions_3d"].keys() == cut.keys()


def one_take(folder, values, name="Eating", subject="S1"):
    place = folder / "mat" / subject / "MyPoseFeatures" / "D3_Positions"
    place.mkdir(parents=True, exist_ok=True)
    data = values if isinstance(values, bytes) else cell_mat(values)
    (place / f"{name}.cdf.mat").write_bytes(data)


def spoiled(values):
    values = values.copy()
    values[1, 5] = np.inf
    return values


def mono(values):
    """Camera coordinates, as in D3_Positions_mono: y down, far along z."""
    x, y, z = values.reshape(-1, 32, 3).transpose(2, 0, 1)
    return np.stack((x, 1000 - z, y + 5000), -1).reshape(-1, 96)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda v: v[:, :78], ("Eating.cdf.mat", "(3, 78)", "(frames, 96)")),
        (lambda v: v[:0], ("(0, 96)",)),
        (lambda v: v / 1000, ("S1", "hip to head is 0.7", "millimetres")),
        (spoiled, ("NaN or infinity", "Eating.cdf.mat", "frame 1")),
        (mono, ("do not stand along z", "D3_Positions_mono")),
        (lambda v: cell_mat(v, v), ("data has 2 cells",)),
        (lambda v: cell_mat(v, name=b"other"), ("has no data", "other")),
        (lambda v: cell_mat(v)[:400], ("truncated",)),
        (lambda v: b"", ("no MATLAB file",)),
    ],
)
def test_bad_mat(script, tree, tmp_path, change, words):
    one_take(tmp_path, change(millimetres(tree["S1"]["Eating"])))
    done = script(SCRIPT, "--from-source", tmp_path / "mat", "--data-dir", tmp_path, "--partial")
    assert_refused(done, *words)
    assert not list(tmp_path.glob("*.npz"))


def test_one_take_under_two_names(script, tree, tmp_path):
    for name in ("Photo 1", "TakingPhoto 1"):
        one_take(tmp_path, millimetres(tree["S1"]["Photo"]), name)
    done = script(SCRIPT, "--from-source", tmp_path / "mat", "--data-dir", tmp_path)
    assert_refused(done, "S1 Photo 1 twice")


def test_bad_archives(script, tree, tmp_path):
    target = ("--data-dir", tmp_path / "out")
    assert_refused(script(SCRIPT, "--from-archive", tmp_path / "no.zip", *target), "no.zip does not exist")
    (tmp_path / "text.zip").write_text("no zip")
    assert_refused(script(SCRIPT, "--from-archive", tmp_path / "text.zip", *target), "no zip, no tar")
    write_zip(tmp_path / "whole.zip", {"S1": tree["S1"]})
    whole = (tmp_path / "whole.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    assert_refused(script(SCRIPT, "--from-archive", tmp_path / "cut.zip", *target), "truncated")
    spot = whole.index(b"Discussion.h5") + 600  # inside a member: its checksum is wrong
    (tmp_path / "flip.zip").write_bytes(whole[:spot] + bytes([whole[spot] ^ 255]) + whole[spot + 1 :])
    assert_refused(script(SCRIPT, "--from-archive", tmp_path / "flip.zip", *target), "flip.zip", "damaged")
    for name, data, words in (
        ("key", h5_bytes(np.zeros((96, 3)), "poses"), ("has no array 3D_positions", "poses")),
        ("shape", h5_bytes(np.zeros((3, 96))), ("Eating.h5", "(frames, 96)")),
        ("text", b"no HDF5", ("Eating.h5", "no HDF5")),
    ):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr("h36m/S1/MyPoses/3D_positions/Eating.h5", data)
        assert_refused(script(SCRIPT, "--from-archive", tmp_path / f"{name}.zip", *target), *words)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert_refused(script(SCRIPT, "--from-archive", tmp_path / "other.zip", *target), "has no file of the form")
    assert not (tmp_path / "out").exists()


def test_a_true_cdf_file_is_read(script, tree, tmp_path):
    def write(path, values) -> None:
        size = list(values.shape)
        spec = {"Variable": "Pose", "Data_Type": 45, "Num_Elements": 1, "Rec_Vary": True}
        file = cdfwrite.CDF(str(path))
        file.write_var(spec | {"Dim_Sizes": size, "Dim_Vary": [True] * len(size)}, var_data=values[None])
        file.close()

    write_folder(tmp_path / "cdf", {"S1": {"Eating": tree["S1"]["Eating"]}}, ".cdf", write)
    done = script(SCRIPT, "--from-source-cdf", tmp_path / "cdf", "--data-dir", tmp_path, "--partial")
    assert done.status == 0, done.err
    poses = contents(tmp_path)[0]["positions_3d"]["S1"]["Eating"]
    np.testing.assert_array_equal(poses, (millimetres(tree["S1"]["Eating"]) / 1000).astype("f4").reshape(3, 32, 3))


def test_cdf_without_cdflib_and_damaged(script, tree, tmp_path, monkeypatch, request):
    write_cdf(tmp_path / "cdf", {"S1": {"Eating": tree["S1"]["Eating"]}})
    options = ("--from-source-cdf", tmp_path / "cdf", "--data-dir", tmp_path)
    monkeypatch.setitem(sys.modules, "cdflib", None)
    assert_refused(script(SCRIPT, *options), "pip install cdflib", "--from-source")
    assert_refused(script(SCRIPT, "--from-source", tmp_path / "cdf", "--data-dir", tmp_path), "--from-source-cdf reads")
    request.getfixturevalue("cdflib")
    (tmp_path / "cdf" / "S1" / "MyPoseFeatures" / "D3_Positions" / "Eating.cdf").write_bytes(b"damaged")
    assert_refused(script(SCRIPT, *options), "Eating.cdf cannot be read as CDF")


def test_no_source(script, tmp_path):
    assert_refused(script(SCRIPT), "--from-source")
    assert_refused(script(SCRIPT, "--from-source", tmp_path / "no"), "does not exist")
    assert_refused(script(SCRIPT, "--from-source", tmp_path, "--from-archive", tmp_path), "not allowed with")
    assert_refused(script(SCRIPT, "--from-source", tmp_path), "has no S1/MyPoseFeatures/D3_Positions/*.cdf.mat")


def test_ctrl_c_leaves_nothing_behind(tree, tmp_path):
    """The script waits for the second take, a pipe that nobody fills (which it would refuse), when the signal comes."""
    one_take(tmp_path, millimetres(tree["S1"]["Eating"]))
    waiting = tmp_path / "mat" / "S1" / "MyPoseFeatures" / "D3_Positions" / "Walking.cdf.mat"
    os.mkfifo(waiting)
    patched = tmp_path / "waits.py"
    patched.write_text(
        f"import runpy, sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom common.files import reading\n"
        "reading.open_file = lambda path: open(path, 'rb')\n"
        f"runpy.run_path({str(ROOT / SCRIPT)!r}, run_name='__main__')\n"
    )
    words = (patched, "--from-source", tmp_path / "mat", "--data-dir", tmp_path / "out")
    running = processes.start(words, tmp_path)
    with open(waiting, "wb"):  # opens once the script reads
        os.kill(running.process.pid, signal.SIGINT)
        done = running.wait(60)
    assert done.status == 130 and done.err == "interrupted by SIGINT\n"
    assert not (tmp_path / "out").exists()
