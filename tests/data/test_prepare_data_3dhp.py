"""data/prepare_data_3dhp.py on made-up files of SPIN's form and of the release's; bad files end in one line."""

import numpy as np
import pytest
import torch

from common.camera import camera_to_world, project
from common.datasets import mpi_inf_3dhp
from common.datasets.contract import own_split
from common.datasets.h36m_layout import load_pose_set
from common.files.npz import load_npz
from common.skeleton import H36M_16
from tests.conftest import assert_refused
from tests.mpi_inf_files import UNIVERSAL, write_testing, write_training

SCRIPT = "data/prepare_data_3dhp.py"
# SPIN's 24 joints, those that are used under this project's names
SPIN = (
    "right foot, right knee, right hip, left hip, left knee, left foot, right wrist, right elbow, right shoulder, "
    "left shoulder, left elbow, left wrist, thorax, LSP head top, hip, MPII thorax, spine, jaw, head, nose, left eye, "
    "right eye, left ear, right ear"
).split(", ")
WIDE = 800  # the last items are of TS5 and TS6


def spin_arrays(count: int = 2931) -> dict:
    """Arrays as in mpi_inf_3dhp_valid.npz: everything different, a few joints not visible."""
    rng = np.random.default_rng(0)
    folders = [f"TS{i % 4 + 1}" if i < count - WIDE else f"TS{i % 2 + 5}" for i in range(count)]
    names = [f"mpi_inf_3dhp_test_set/{name}/imageSequence/img_{i:06d}.jpg" for i, name in enumerate(folders)]
    visible = (rng.random((count, 24, 1)) > 0.01).astype(float)
    space = rng.normal(0, 0.3, (count, 24, 3))
    space[:, SPIN.index("hip")] = 0
    space[:, SPIN.index("head")] = (0, -0.6, 0.1)
    return {
        "imgname": np.array(names),
        "center": np.zeros((count, 2)),
        "scale": np.ones(count),
        "part": np.concatenate((rng.uniform(0, 1080, (count, 24, 2)), visible), -1),
        "S": np.concatenate((space, np.ones((count, 24, 1))), -1),
    }


@pytest.fixture
def prepare(script, tmp_path):
    """Writes a source file of `arrays` and runs the script on it."""

    def run(arrays, *options):
        np.savez(tmp_path / "source.npz", **arrays)
        return script(SCRIPT, "--source", tmp_path / "source.npz", "--data-dir", tmp_path, *options)

    return run


def test_equals_a_plain_loop(prepare, tmp_path):
    arrays = spin_arrays()
    done = prepare(arrays)
    assert done.status == 0, done.err
    target = tmp_path / "data_extra" / "test_set" / "test_3dhp.npz"
    data = mpi_inf_3dhp.load_test_set(target)
    assert data.name == "3dhp" and data.keypoints.shape == (2929, 16, 2) and data.poses.shape == (2929, 16, 3)
    hidden = 0
    for i in (*range(0, 2929, 7), 2130, 2131, 2928):
        wide = "TS5" in str(arrays["imgname"][i]) or "TS6" in str(arrays["imgname"][i])
        width, height = (1920, 1080) if wide else (2048, 2048)
        for j, joint in enumerate(H36M_16.joints):
            x, y, visible = arrays["part"][i, SPIN.index(joint)]
            expected = (visible * (x / width * 2 - 1), visible * (y / width * 2 - height / width))
            assert data.keypoints[i, j].tolist() == pytest.approx(expected, abs=1e-6)
            assert data.poses[i, j].tolist() == pytest.approx(arrays["S"][i, SPIN.index(joint), :3], abs=1e-6)
            hidden += visible == 0
    assert hidden > 10
    kept = arrays["part"][:2929, [SPIN.index(joint) for joint in H36M_16.joints], 2]
    assert f"not visible, set to zero in 2D: {(kept == 0).sum():,}" in done.out
    assert "TS1 533, TS2 533, TS3 533, TS4 532, TS5 399, TS6 399 poses" in done.out
    assert f"{target}  2,929 poses, 16 joints" in done.out


def test_a_file_that_is_there_stays_unless_forced(prepare, tmp_path):
    target = tmp_path / mpi_inf_3dhp.TEST_SET
    target.parent.mkdir(parents=True)
    target.write_text("mine")
    done = prepare(spin_arrays())
    assert done.status == 0 and "is there already: nothing done" in done.out and target.read_text() == "mine"
    done = prepare(spin_arrays(), "--force")
    assert done.status == 0 and len(mpi_inf_3dhp.load_test_set(target).poses) == 2929


def test_names_as_bytes_or_objects_and_three_columns(prepare, tmp_path):
    arrays = spin_arrays(2929)
    assert prepare(arrays).status == 0
    target = tmp_path / mpi_inf_3dhp.TEST_SET
    expected = target.read_bytes()
    for names in (arrays["imgname"].astype(bytes), arrays["imgname"].astype(object)):
        assert prepare({**arrays, "imgname": names, "S": arrays["S"][..., :3]}, "--force").status == 0
        assert target.read_bytes() == expected


def changed(key, change):
    def make():
        arrays = spin_arrays()
        arrays[key] = change(arrays[key])
        return arrays

    return make


def spoiled(points):
    points[17, 3, 1] = np.nan
    return points


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: {k: v for k, v in spin_arrays().items() if k != "S"}, ("has no array S", "imgname, center")),
        (lambda: {"pose3d": np.zeros(3)}, ("has no array imgname, part, S",)),
        (lambda: spin_arrays(2928), ("2,928 items", "2,929", "mpi_inf_3dhp_valid.npz")),
        (changed("part", lambda a: a[:-1]), ("unequal length", "imgname 2931, part 2930, S 2931")),
        (changed("part", lambda a: a[..., :2]), ("part has shape (2931, 24, 2)", "(N, 24, 3)")),
        (changed("S", lambda a: a[:, :17]), ("S has shape (2931, 17, 4)", "24 joints")),
        (changed("S", lambda a: a.astype(str)), ("S has shape", "expected numbers")),
        (changed("S", lambda a: {"S": 1}), ("S has shape () of object",)),
        (changed("S", lambda a: a * 1000), ("hip to head", "metres")),
        (changed("S", spoiled), ("NaN or infinity", "S, item 17")),
        (changed("part", spoiled), ("NaN or infinity", "part, item 17")),
        (changed("imgname", lambda a: np.arange(len(a))), ("imgname has shape",)),
        (changed("imgname", lambda a: np.char.replace(a, "TS6", "S6")), ("S6/imageSequence", "TS1, TS2")),
        (changed("imgname", lambda a: np.char.replace(a, "TS6", "TS66")), ("TS66/imageSequence",)),
    ],
)
def test_bad_files(prepare, tmp_path, make, words):
    assert_refused(prepare(make()), "source.npz", *words)
    assert not (tmp_path / mpi_inf_3dhp.TEST_SET).exists()


def test_no_source(script, tmp_path):
    assert_refused(script(SCRIPT, "--source", tmp_path / "no.npz", "--data-dir", tmp_path), "no.npz does not exist")
    assert_refused(script(SCRIPT), "--source")
    (tmp_path / "empty.npz").write_bytes(b"")
    assert_refused(script(SCRIPT, "--source", tmp_path / "empty.npz", "--data-dir", tmp_path), "is empty")


# ------------------------------------------------------------ the release


@pytest.fixture
def release(tmp_path, script):
    """The release on a small scale, and the script on it."""
    names = ("S1/Seq1", "S2/Seq2")
    world = {name: write_training(tmp_path / "train" / name, seed=i)[0] for i, name in enumerate(names)}
    write_testing(tmp_path / "test" / "TS1", "01110111", "11112222")
    write_testing(tmp_path / "test" / "TS6", "1100", "6666", seed=1)
    folders = ("--training", tmp_path / "train", "--test", tmp_path / "test")
    return world, lambda *options: script(SCRIPT, *(options or folders), "--data-dir", tmp_path)


def test_the_release_as_a_data_set(release, tmp_path):
    world, make = release
    done = make()
    assert done.status == 0, done.err
    assert "S1 Seq1: 6 frames, 5 cameras" in done.out
    assert "TS1: 6 valid frames in 2 takes; its camera fits to 0.0 pixels" in done.out
    assert own_split(tmp_path, "3dhp") == ("S1,S2", "TS1,TS6")
    train = load_pose_set(tmp_path, "3dhp", "gt", "S1,S2")
    assert train.summary() == "S1,S2: 2 actions, 5 views, 60 poses"
    rows = train.find("S2", "Seq2", 3)
    camera = train.sequences[int(train.sequence[rows.start])].camera
    assert camera.id == "7" and camera.width == 2048
    back = camera_to_world(train.poses[rows], torch.tensor(camera.orientation), torch.tensor(camera.translation))
    assert np.allclose(back, UNIVERSAL * world["S2/Seq2"], atol=1e-5)
    test = load_pose_set(tmp_path, "3dhp", "gt", "TS1,TS6")
    assert test.summary() == "TS1,TS6: 3 actions, 1 views, 8 poses"
    assert test.actions == ("Standing or walking", "Exercise", "Sports")
    for part in (train, test):  # the annotated pixels are where the cameras see the poses
        intrinsics = part.intrinsics()[part.sequence.long()].unsqueeze(1)
        torch.testing.assert_close(project(part.poses, intrinsics), part.keypoints, atol=0.01, rtol=0)
    assert "are there already: nothing done" in make().out
    assert make("--test", tmp_path / "test", "--force").status == 0
    assert (
        own_split(tmp_path, "3dhp")[1] == "TS1,TS6" and "S1" not in load_npz(tmp_path / "data_3d_3dhp.npz")["cameras"]
    )


def test_bad_releases(release, tmp_path):
    _, make = release
    assert_refused(make("--training", tmp_path / "no"), "has no S1/Seq1/annot.mat")
    assert_refused(make("--training", tmp_path / "train", "--cameras", "0,x"), "--cameras", "0,2,4")
    assert_refused(make("--training", tmp_path / "train", "--cameras", "0,99"), "no camera 99; there are 0 to 13")
    assert not (tmp_path / "data_3d_3dhp.npz").exists()
