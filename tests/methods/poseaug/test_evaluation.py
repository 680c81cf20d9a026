"""methods.poseaug.evaluation: what is scored on, and flip averaging."""

from argparse import Namespace

import numpy as np
import torch

from common.synthetic import cross
from methods.poseaug.evaluation import flip_average, load_cross_data


def test_which_cross_data(tmp_path, monkeypatch):
    """The synthetic twin, which is made, of a synthetic run; MPI-INF-3DHP of others, where it is there; or a file."""
    monkeypatch.chdir(tmp_path)
    make = cross.make_cross
    monkeypatch.setattr(cross, "make_cross", lambda seed: make(seed, 0.5))
    points = np.random.default_rng(0).normal(size=(4, 16, 3)).astype(np.float32)

    def name(cross_data: str, dataset: str) -> str | None:
        found = load_cross_data(Namespace(cross_data=cross_data, dataset=dataset, data_dir="files"), "cpu")
        return found and found.name

    assert name("auto", "h36m") is None and name("none", "synthetic") is None and not (tmp_path / "files").exists()
    for made in (("auto", "synthetic"), ("synthetic", "h36m"), ("synthetic_cross", "h36m")):
        assert name(*made) == "synthetic_cross"
    for file in ("files/test_3dhp.npz", "mine.npz"):
        np.savez(file, pose3d=points, pose2d=points[..., :2])
    assert name("auto", "h36m") == name("3dhp", "synthetic") == "3dhp"
    assert name("auto", "synthetic") == "synthetic_cross"
    found = load_cross_data(Namespace(cross_data="mine.npz", dataset="h36m", data_dir="files"), "cpu")
    assert found.name == "mine" and np.array_equal(found.inputs, points[..., :2])  # as the file has them


def test_flip_average_of_a_mirror_symmetric_model_is_the_model():
    def symmetric(keypoints):
        return torch.cat([keypoints, keypoints[..., :1].square()], dim=-1)

    keypoints = torch.randn(3, 16, 2)
    torch.testing.assert_close(flip_average(symmetric, keypoints), symmetric(keypoints))


def test_flip_average_takes_both_sides():
    def shifted(keypoints):  # off to the right by 1, whatever it sees
        return torch.cat([keypoints + torch.tensor([1.0, 0.0]), keypoints[..., :1].square()], dim=-1)

    keypoints = torch.randn(3, 5, 16, 2)
    averaged = flip_average(shifted, keypoints)
    torch.testing.assert_close(averaged[..., :2], keypoints)
