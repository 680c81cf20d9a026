"""2D pose sets: the published MPII split, sets joined by name, rows of sequences, and what is refused."""

import numpy as np
import pytest
import scipy.io as scipy_io
import torch

from common.datasets import poses_2d
from common.datasets.h36m_layout import load_pose_set
from common.datasets.poses_2d import load_poses_2d
from common.errors import InputError
from tests.tiny_dataset import write_tiny_dataset

PUBLISHED_ORDER = [2404, 18368, 2651, 6923, 4895, 10128]  # the first training rows of the published 19,919


def write_mpii(folder, count: int = 50) -> np.ndarray:
    """(N, 17, 2): row i begins with i."""
    poses = np.random.default_rng(0).uniform(0, 900, (count, 17, 2)).astype(np.float32)
    poses[:, 0, 0] = np.arange(count)
    np.save(folder / "mpii_poses.npy", poses.reshape(count, 34))
    return poses


def test_the_published_split(tmp_path):
    poses = write_mpii(tmp_path, 19919)
    np.random.seed(3)
    state = np.random.get_state()[1].copy()
    train, test = (load_poses_2d("mpii", tmp_path, split=split) for split in ("train", "test"))
    assert (np.random.get_state()[1] == state).all()  # numpy's own generator is left alone
    assert (len(train), len(test)) == (17927, 1992) and train.keypoints.dtype == torch.float32
    assert train.keypoints[:6, 0, 0].tolist() == PUBLISHED_ORDER
    rows = torch.cat((train.keypoints, test.keypoints))[:, 0, 0].long()
    assert rows.sort().values.equal(torch.arange(19919))
    assert torch.equal(train.keypoints, torch.from_numpy(poses)[rows[:17927]])
    assert train.first.equal(torch.arange(17927)) and train.last.equal(train.first) and train.poses is None


def test_three_axes_and_the_spine(tmp_path):
    poses = write_mpii(tmp_path)
    flat = load_poses_2d("mpii", tmp_path)
    np.save(tmp_path / "mpii_poses.npy", poses)
    assert load_poses_2d("mpii", tmp_path).keypoints.equal(flat.keypoints)
    middle = load_poses_2d("mpii", tmp_path, middle_spine=True).keypoints
    assert middle[:, 7].equal((flat.keypoints[:, 0] + flat.keypoints[:, 8]) / 2)
    others = [j for j in range(17) if j != 7]
    assert middle[:, others].equal(flat.keypoints[:, others])


def test_sets_are_joined(tmp_path):
    write_mpii(tmp_path)
    write_tiny_dataset(tmp_path, frames=9)
    options = dict(subjects="S1,S5", actions="Eating", downsample=2)
    tiny = load_pose_set(tmp_path, "tiny", "gt", **options)
    both = load_poses_2d(" mpii , tiny,mpii", tmp_path, "gt", **options)
    assert both.name == "mpii,tiny" and len(both) == 45 + len(tiny)
    assert both.keypoints[45:].equal(tiny.keypoints) and both.poses is None
    assert [seq.dataset for seq in both.sequences] == ["mpii"] * 45 + ["tiny"] * len(tiny.sequences)
    for i, sequence in enumerate(tiny.sequences):
        rows = slice(45 + sequence.start, 45 + sequence.start + sequence.length)
        assert sequence.length == 5
        assert set(both.first[rows].tolist()) == {rows.start} and set(both.last[rows].tolist()) == {rows.stop - 1}, i
    assert both.counts() == {"mpii": 45, "tiny": len(tiny)}


def test_poses_for_validation(tmp_path):
    write_mpii(tmp_path)
    write_tiny_dataset(tmp_path, frames=4)
    tiny = load_pose_set(tmp_path, "tiny", "gt", "S9,S11")
    found = load_poses_2d("tiny", tmp_path, subjects="S9,S11", with_poses=True)
    assert found.poses.equal(tiny.poses) and found.keypoints.equal(tiny.keypoints)
    assert poses_2d.names_with_3d("mpii,tiny,3dhp") == ("tiny",)
    with pytest.raises(InputError, match="mpii: no 3D poses"):
        load_poses_2d("tiny,mpii", tmp_path, with_poses=True)


def test_mpi_inf_3dhp(tmp_path):
    rng, views = np.random.default_rng(0), {}
    for subject, name, frames in (("S1", "Seq1", 5), ("S1", "Seq2", 4), ("S8", "Seq1", 3)):
        folder = tmp_path / "mpi_inf_3dhp" / subject / name
        folder.mkdir(parents=True)
        cells = np.empty((14, 1), object)
        for camera in range(14):
            cells[camera, 0] = rng.uniform(0, 2048, (frames, 56))
        scipy_io.savemat(folder / "annot.mat", {"annot2": cells, "annot3": np.zeros(2)})
        views[subject, name] = [cells[camera, 0].reshape(-1, 28, 2) for camera in (0, 2, 4, 7, 8)]
    train, test = (load_poses_2d("3dhp", tmp_path, downsample=2, split=split) for split in ("train", "test"))
    assert len(train) == 5 * (3 + 2) and len(test) == 5 * 2
    assert train.last[:4].tolist() == [2, 2, 2, 5]
    # pelvis, right and left leg, spine, neck, head, head top, left and right arm: the data set's own names
    places = [4, 23, 24, 25, 18, 19, 20, 3, 5, 6, 7, 9, 10, 11, 14, 15, 16]
    assert np.array_equal(train.keypoints[3:6], views["S1", "Seq1"][1][::2, places].astype(np.float32))
    assert np.array_equal(test.keypoints[:2], views["S8", "Seq1"][0][::2, places].astype(np.float32))
    scipy_io.savemat(tmp_path / "mpi_inf_3dhp" / "S1" / "Seq1" / "annot.mat", {"annot2": cells[:5]})
    with pytest.raises(InputError, match="annot2 has 5 cameras; expected the 14"):
        load_poses_2d("3dhp", tmp_path)
    (tmp_path / "mpi_inf_3dhp" / "S8" / "Seq1" / "annot.mat").write_bytes(b"no")
    with pytest.raises(InputError, match="no MATLAB file of version 5"):
        load_poses_2d("3dhp", tmp_path, split="test")


def saved(value):
    return lambda path: np.save(path, value, allow_pickle=True)


@pytest.mark.parametrize(
    "write, words",
    [
        (lambda path: None, "not found .* data/prepare_mpii.py makes it"),
        (lambda path: path.write_bytes(b""), "truncated, damaged"),
        (lambda path: path.write_bytes(b"junk" * 10), "truncated, damaged"),
        (saved(np.array([{"a": 1}], object)), "truncated, damaged"),  # a pickle is not opened
        (saved(np.zeros((3, 32))), r"shape \(3, 32\); expected \(N, 34\)"),
        (saved(np.zeros((3, 17, 3))), r"shape \(3, 17, 3\)"),
        (saved(np.zeros((0, 34))), "holds no array of numbers"),
        (saved(np.array("text")), "holds no array of numbers"),
        (saved(np.ones((10, 34))), "pose 0 has NaN, infinity or all joints in one place"),
        (saved(np.where(np.arange(340).reshape(10, 34) == 77, np.nan, np.arange(34))), "NaN, infinity"),
    ],
)
def test_bad_mpii_files(tmp_path, write, words):
    write(tmp_path / "mpii_poses.npy")
    with pytest.raises(InputError, match=words):
        load_poses_2d("mpii", tmp_path)


def test_bad_requests(tmp_path):
    write_mpii(tmp_path)
    for names in ("", " , ", []):
        with pytest.raises(InputError, match="no data set"):
            load_poses_2d(names, tmp_path)
    with pytest.raises(InputError, match="unknown split 'val'"):
        load_poses_2d("mpii", tmp_path, split="val")
    with pytest.raises(InputError, match="data_3d_no.npz"):
        load_poses_2d("mpii,no", tmp_path)
    with pytest.raises(InputError, match="S1/Seq1/annot.mat"):
        load_poses_2d("3dhp", tmp_path)
