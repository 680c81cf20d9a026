"""common.datasets.mpi_inf_3dhp: where the cross-data file is looked for, and what is refused."""

import numpy as np
import pytest
import torch

from common.datasets.mpi_inf_3dhp import TEST_SET, find_test_set, load_test_set
from common.errors import InputError
from common.skeleton import H36M_16, H36M_17


@pytest.fixture
def write(tmp_path):
    """Writes a small test_3dhp.npz; arrays may be changed, or left out with None."""
    rng = np.random.default_rng(0)
    whole = {"pose3d": rng.normal(size=(7, 16, 3)).astype(np.float32), "pose2d": rng.normal(size=(7, 16, 2))}

    def make(name="test_3dhp.npz", **changes):
        arrays = {key: value for key, value in (whole | changes).items() if value is not None}
        np.savez(tmp_path / name, **arrays)
        return tmp_path / name, arrays

    return make


def test_arrays_come_out_as_they_are(write):
    file, arrays = write()
    data = load_test_set(file)
    assert data.name == "3dhp" and data.summary() == "7 poses" and data.stills and data.unit == "screen"
    assert data.keypoints.dtype == data.poses.dtype == torch.float32
    assert np.array_equal(data.poses.numpy(), arrays["pose3d"])
    assert np.array_equal(data.keypoints.numpy(), arrays["pose2d"].astype(np.float32))
    data = load_test_set(str(file), H36M_17, device="meta")
    assert data.keypoints.shape == (7, 17, 2) and data.poses.device.type == "meta"
    back = load_test_set(file, H36M_17).poses[:, [H36M_17.index(joint) for joint in H36M_16.joints]]
    torch.testing.assert_close(back, torch.from_numpy(arrays["pose3d"]))
    assert load_test_set(write("mine.npz")[0]).name == "mine"


def with_value(array, index, value):
    array = array.copy()
    array[index] = value
    return array


ZEROS = np.zeros((7, 16, 3), np.float32)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"pose2d": None}, ("has no array pose2d", "pose3d")),
        ({"pose2d": np.zeros((6, 16, 2))}, ("pose3d has 7 items and pose2d 6",)),
        ({"pose3d": np.zeros((7, 17, 3))}, ("pose3d has shape (7, 17, 3)", "(N, 16, 3)", "Human3.6M 16 joints")),
        ({"pose2d": np.zeros((7, 16, 3))}, ("pose2d has shape (7, 16, 3)", "(N, 16, 2)")),
        ({"pose2d": np.zeros((7, 32))}, ("pose2d has shape (7, 32)",)),
        ({"pose3d": np.zeros((0, 16, 3)), "pose2d": np.zeros((0, 16, 2))}, ("shape (0, 16, 3)", "N > 0")),
        ({"pose3d": ZEROS.astype(str)}, ("pose3d has no number array",)),
        ({"pose3d": np.array({"a": 1})}, ("pose3d has no number array (dict)",)),
        ({"pose3d": with_value(ZEROS, (4, 1, 2), np.nan)}, ("NaN or infinity", "pose3d, item 4 (1 bad")),
        ({"pose2d": with_value(ZEROS[..., :2], (2, 0, 0), np.inf)}, ("NaN or infinity", "pose2d, item 2")),
    ],
)
def test_bad_arrays(write, changes, words):
    file, _ = write(**changes)
    with pytest.raises(InputError) as caught:
        load_test_set(file)
    for word in ("test_3dhp.npz", *words):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_damaged_files(write, tmp_path):
    with pytest.raises(InputError, match="no.npz not found .*prepare_data_3dhp.py"):
        load_test_set(tmp_path / "no.npz")
    file, _ = write()
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(InputError, match="truncated or damaged"):
        load_test_set(file)


def test_where_the_file_is_looked_for(tmp_path, monkeypatch):
    """As published first, then in the data folder, nearest to the published path first."""
    data_dir, run_dir = tmp_path / "files", tmp_path / "run"
    run_dir.mkdir()
    monkeypatch.chdir(run_dir)
    assert find_test_set(data_dir) is None
    for place in (data_dir / "test_3dhp.npz", data_dir / TEST_SET, TEST_SET):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"")
        assert find_test_set(data_dir) == find_test_set(str(data_dir)) == place
    assert str(TEST_SET) == "data_extra/test_set/test_3dhp.npz"
