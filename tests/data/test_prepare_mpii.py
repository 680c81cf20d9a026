"""data/prepare_mpii.py on small made-up files of both forms of MPII's annotations."""

import json

import numpy as np
import pytest
import scipy.io as scipy_io

from common.datasets import poses_2d
from common.skeleton import H36M_17, MPII_16
from tests.conftest import assert_refused

SCRIPT = "data/prepare_mpii.py"


def people(count: int = 30) -> np.ndarray:
    """Joints (N, 16, 2), whole pixels, everything different."""
    return np.random.default_rng(0).permutation(count * 32).reshape(count, 16, 2) + 1.0


def json_entries(joints: np.ndarray) -> list[dict]:
    """As in annot/train.json; hidden joints (`joints_vis` 0) are annotated."""
    return [
        {"joints": person.tolist(), "joints_vis": [0] * 16, "center": [1.0, 2.0], "scale": 1.5, "image": f"{i}.jpg"}
        for i, person in enumerate(joints)
    ]


def expected_row(person: np.ndarray, spine: str = "middle") -> list[float]:
    """The 17 joints, one by one."""
    at = {name: person[j] for j, name in enumerate(MPII_16.joints)}
    thorax = at["upper neck"]
    special = {"thorax": thorax, "neck": (thorax + at["head"]) / 2, "spine": (at["hip"] + thorax) / 2}
    if spine == "thorax":
        special["spine"] = at["thorax"]
    return [float(value) for name in H36M_17.joints for value in special.get(name, at.get(name))]


@pytest.fixture
def prepare(script, tmp_path):
    """Runs the script on files in tmp_path."""

    def run(*files, options=()):
        return script(SCRIPT, "--source", *(tmp_path / file for file in files), "--data-dir", tmp_path, *options)

    return run


def written(tmp_path) -> np.ndarray:
    return np.load(tmp_path / "mpii_poses.npy", allow_pickle=False)


@pytest.mark.parametrize("spine", ["middle", "thorax"])
def test_json(prepare, tmp_path, spine):
    joints = people()
    joints[4, 3], joints[7, 0], joints[9, 15] = (
        (-1, -1),
        (0, 0),
        (-3, 8),
    )  # two are not annotated, one is beyond the edge
    entries = json_entries(joints)
    (tmp_path / "train.json").write_text(json.dumps(entries[:20]))
    (tmp_path / "valid.json").write_text(json.dumps(entries[20:]))
    done = prepare("train.json", "valid.json", options=("--spine", spine))
    assert done.status == 0, done.err
    poses = written(tmp_path)
    assert poses.dtype == np.float32 and poses.shape == (28, 34)
    kept = [i for i in range(30) if i not in (4, 7)]
    assert poses.tolist() == [pytest.approx(expected_row(joints[i], spine)) for i in kept]
    assert "train.json: 20 people, 18 with all 16 joints" in done.out and "valid.json: 10 people, 10" in done.out
    assert "left out: 2 people" in done.out and "right foot 1" in done.out and "left hip 1" in done.out
    assert len(poses_2d.load_mpii(tmp_path)) == 25


def test_a_file_that_is_there_stays_unless_forced(prepare, tmp_path):
    (tmp_path / "train.json").write_text(json.dumps(json_entries(people())))
    (tmp_path / "mpii_poses.npy").write_text("mine")
    done = prepare("train.json")
    assert done.status == 0 and "nothing done" in done.out and (tmp_path / "mpii_poses.npy").read_text() == "mine"
    assert prepare("train.json", options=("--force",)).status == 0 and len(written(tmp_path)) == 30


def release(joints: np.ndarray, absent: dict[int, tuple[int, ...]]) -> dict:
    """The release's nested structures: pictures with no person, one and several; boxes without points."""

    def rect(i: int) -> dict:
        points = [
            {"x": x, "y": y, "id": j, "is_visible": 0}
            for j, (x, y) in enumerate(joints[i].tolist())
            if j not in absent.get(i, ())
        ]
        return {"scale": 2.0, "annopoints": {"point": points[::-1]}, "objpos": {"x": 1, "y": 2}}

    half = len(joints) // 2
    pictures = [{"image": {"name": f"{i}.jpg"}, "annorect": rect(i)} for i in range(half)]
    pictures += [
        {"image": {"name": "none.jpg"}, "annorect": np.zeros((0, 0))},
        {"image": {"name": "boxes.jpg"}, "annorect": [{"x1": 1, "annopoints": np.zeros((0, 0))}, {"x1": 2}]},
        {"image": {"name": "many.jpg"}, "annorect": [rect(i) for i in range(half, len(joints))]},
    ]
    return {"RELEASE": {"annolist": to_struct(pictures), "img_train": np.ones((1, len(pictures)))}}


def to_struct(value):
    """Lists of dictionaries with any keys -> MATLAB's arrays of structures."""
    if isinstance(value, dict):
        return {key: to_struct(item) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    names = list(dict.fromkeys(name for item in value for name in item))
    array = np.empty((1, len(value)), [(name, object) for name in names])
    for i, item in enumerate(value):
        for name in names:
            array[0, i][name] = to_struct(item[name]) if name in item else np.zeros((0, 0))
    return array


def test_mat_equals_json(prepare, tmp_path):
    joints = people(12)
    scipy_io.savemat(tmp_path / "release.mat", release(joints, {3: (9,), 8: (0, 6)}))
    done = prepare("release.mat")
    assert done.status == 0, done.err
    assert "release.mat: 12 people, 10 with all 16 joints" in done.out
    kept = [i for i in range(12) if i not in (3, 8)]
    assert written(tmp_path).tolist() == [pytest.approx(expected_row(joints[i])) for i in kept]


def test_bad_mat(prepare, tmp_path):
    (tmp_path / "broken.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(300))
    assert_refused(prepare("broken.mat"), "broken.mat", "cannot be read as a MATLAB file")
    scipy_io.savemat(tmp_path / "other.mat", {"x": np.zeros(3)})
    assert_refused(prepare("other.mat"), "RELEASE.annolist", "mpii_human_pose_v1_u12_1.mat")
    joints = release(people(4), {})
    joints["RELEASE"]["annolist"][0, 0]["annorect"]["annopoints"]["point"][0, 0]["id"] = 16
    scipy_io.savemat(tmp_path / "ids.mat", joints)
    assert_refused(prepare("ids.mat"), "joint id 16")
    assert not (tmp_path / "mpii_poses.npy").exists()


def test_mat_without_scipy(prepare, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)
    (tmp_path / "release.mat").write_bytes(b"MATLAB 5.0")
    assert_refused(prepare("release.mat"), "needs SciPy", ".json")


@pytest.mark.parametrize(
    "text, words",
    [
        ("", ("no JSON",)),
        ("[" * 100_000, ("no JSON",)),
        ("{}", ("holds a dict", "list of people")),
        ("[]", ("no annotated people",)),
        ("[3]", ("entry 0 has no `joints`",)),
        (json.dumps([{"joints": [[1, 2]] * 15}]), ("entry 0", "16 pairs")),
        (json.dumps([{"joints": [[1, "a"]] * 16}]), ("entry 0", "16 pairs")),
        (json.dumps([{"joints": [[1, float("nan")]] * 16}]), ("entry 0", "16 pairs")),
        (json.dumps([{"joints": [[1, 2]] * 15 + [[-1, -1]]}]), ("nobody has all 16 joints",)),
    ],
)
def test_bad_json(prepare, tmp_path, text, words):
    (tmp_path / "train.json").write_text(text)
    assert_refused(prepare("train.json"), "train.json", *words)
    assert not (tmp_path / "mpii_poses.npy").exists()


def test_no_source(prepare, script, tmp_path):
    assert_refused(prepare("no.json"), "no.json does not exist")
    assert_refused(prepare("mpii.h5"), "found .h5", ".json or .mat")
    assert_refused(script(SCRIPT), "--source")
