"""methods.poseaug.evaluation: what is scored on, and flip averaging."""

from argparse import Namespace
from contextlib import nullcontext

import numpy as np
import pytest
import torch

import models
from common import metrics
from common.datasets.projected import Noise
from common.errors import InputError
from common.files.npz import save_npz
from common.synthetic import cross
from methods.poseaug.evaluation import columns, flip_average, load_cross_data, load_split, score, what_was_scored
from tests.mpi_inf_files import STANDING
from tests.tiny_dataset import write_tiny_dataset

FRONT = ((0, 1, 0), (0, 0, -1), (-1, 0, 0))  # looks along -x, z up


def options(cross_data: str, dataset: str, folder="files", keypoints: str = "gt") -> Namespace:
    noise = {f"noise_{name}": value for name, value in Noise()._asdict().items()}
    return Namespace(
        cross_data=cross_data, dataset=dataset, data_dir=folder, keypoints=keypoints, downsample=1, flip_test=False,
        **noise,
    )  # fmt: skip


def names(cross_data: str, dataset: str, **others) -> list[str]:
    return [part.name for part in load_cross_data(options(cross_data, dataset, **others), "cpu")]


def test_which_cross_data(tmp_path, monkeypatch):
    """The synthetic twin, which is made, of a synthetic run; MPI-INF-3DHP of others, where it is there; or a file."""
    monkeypatch.chdir(tmp_path)
    make = cross.make_cross
    monkeypatch.setattr(cross, "make_cross", lambda seed: make(seed, 0.5))
    points = np.random.default_rng(0).normal(size=(4, 16, 3)).astype(np.float32)
    assert names("auto", "h36m") == names("none", "synthetic") == [] and not (tmp_path / "files").exists()
    for made in (("auto", "synthetic"), ("synthetic", "h36m"), ("synthetic_cross", "h36m")):
        assert names(*made) == ["synthetic_cross"]
    for file in ("files/test_3dhp.npz", "mine.npz"):
        np.savez(file, pose3d=points, pose2d=points[..., :2])
    assert names("auto", "h36m") == names("3dhp", "synthetic") == ["3dhp"]
    assert names("auto", "synthetic") == ["synthetic_cross"] and names("auto", "3dhp") == []
    assert names("mine.npz, 3dhp", "h36m") == ["mine", "3dhp"]
    (found,) = load_cross_data(options("mine.npz", "h36m"), "cpu")
    assert np.array_equal(found.inputs, points[..., :2])  # as the file has them


def test_any_set_is_cross_data(tmp_path):
    """Its own test subjects, by its own cameras; the same 2D input where there is such."""
    write_tiny_dataset(tmp_path, "other", ("gt", "hr"), frames=3)
    poses, cameras = {"A": {"Walk": STANDING[None].repeat(2, 0)}, "B": {"Walk": STANDING[None].repeat(5, 0)}}, {}
    for name in poses:
        cameras[name] = [{"focal_length": (900, 900), "center": (500, 400), "size": (1000, 800), "rotation": FRONT,
                          "translation": (0, 1, 4)}]  # fmt: skip
    about = {"subjects_train": ["A"], "subjects_test": ["B"]}
    save_npz(tmp_path / "data_3d_own.npz", positions_3d=poses, cameras=cameras, metadata=about)
    args = options("other,own", "h36m", tmp_path, "hr")
    other, own = load_cross_data(args, "cpu")
    assert {seq.subject for seq in other.sequences} == {
        "S9",
        "S11",
    } and own.summary() == "B: 1 actions, 1 views, 5 poses"
    assert own.inputs.shape == (5, 16, 2) and own.inputs.abs().max() < 1
    text = what_was_scored(args, other, (own,))
    assert "2D input hr, no flip average; OWN B: 1 actions, 1 views, 5 poses, 2D input gt, flip average" in text
    assert list(columns((other, own, other))) == ["error_h36m", "error_3dhp", "cross_other"]
    for wanted, words in {"own,other,own": "OWN is scored already", "no": "data_3d_no.npz"}.items():
        with pytest.raises(InputError, match=words):
            names(wanted, "h36m", folder=tmp_path)
    with pytest.raises(InputError, match="OTHER is scored already"):
        names("other", "other", folder=tmp_path)


def test_velocity_and_published_shares_are_scored(tmp_path):
    write_tiny_dataset(tmp_path, frames=4)
    args = options("none", "tiny", tmp_path)
    args.actions = "*"
    test = load_split(args, "S9", "cpu")
    run = Namespace(rank=0, world_size=1, autocast=nullcontext, average=lambda tensor: tensor)
    torch.manual_seed(0)
    model = models.create("mlp", stages=1).eval()
    found = score(model, test, run, more=True)
    with torch.no_grad():
        pose = model(test.inputs).view(-1, 16, 3)
    pose, target = pose - pose[:, :1], test.relative
    steps = [
        metrics.mean_velocity_error(pose[rows], target[rows]).mean()
        for rows in (slice(seq.start, seq.start + seq.length) for seq in test.sequences)
    ]
    torch.testing.assert_close(found.errors["MPJVE"].mean(), torch.stack(steps).mean())  # of equal lengths
    joints = [j for j in range(16) if j not in (0, 7)]
    near = (pose - target).norm(dim=-1)[:, joints] < 0.15
    torch.testing.assert_close(found.errors["PCK14"], near.float().mean(1))
    assert {"N-MPJPE", "PCK", "AUC", "AUC14"} < found.errors.keys() and "MPJVE" in found.more_line()
    assert "MPJVE" not in score(model, test.take(torch.arange(0, len(test), 4)), run, more=True).errors  # one of each


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
