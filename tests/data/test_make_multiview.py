"""data/make_synthetic.py --multiview: the folder it writes, read back, and its geometry."""

import h5py
import numpy as np
import pytest
from PIL import Image

from common.camera import h36m_cameras
from common.multiview.labels import NORMALISED_POSE, MultiviewImages, image_file, read_labels
from common.multiview.write import LABELS, WINDOW, choose_takes, crop_camera, read_motion, write_multiview
from tests.tiny_dataset import write_tiny_dataset

SIZE = 32


@pytest.fixture(scope="module")
def motion(tmp_path_factory):
    return write_tiny_dataset(tmp_path_factory.mktemp("tiny"), frames=6)


@pytest.fixture(scope="module")
def folder(motion, tmp_path_factory):
    target = tmp_path_factory.mktemp("multiview")
    write_multiview(target, read_motion(motion, "tiny", "S1,S9"), size=SIZE, frames=4)
    return target


def options(motion, target, *more):
    return "--data-dir", motion, "--dataset", "tiny", "--multiview", target, "--size", SIZE, "--frames", 2, *more


def test_the_reader_takes_the_folder(folder):
    labels = read_labels(folder, NORMALISED_POSE)
    assert len(labels) == 2 * 4 * 4 and labels.subject.unique().tolist() == [1, 9]
    assert labels.camera.unique().tolist() == [0, 1, 2, 3]
    pairs = {*zip(labels.subject.tolist(), labels.sequence.tolist(), strict=True)}
    assert len(pairs) == len(labels.sequence.unique()) == 6
    images = MultiviewImages(folder, labels)
    crop, background = (part.numpy().astype(int) for part in images[np.arange(len(labels))])
    assert crop.shape == (len(labels), SIZE, SIZE, 3)
    changed = (np.abs(crop - background).sum(-1) > 30).mean((1, 2))
    assert (changed > 0.03).all() and (changed < 0.4).all()  # a person, before the same room
    assert (background[0] != background[1]).any()  # every camera has its own


def test_the_published_keys(folder):
    with h5py.File(folder / "labels.h5") as file:
        assert set(file) == set(LABELS)
        for key, shape in LABELS.items():
            assert file[key].shape == (32, *shape) and file[key].dtype == (
                "int32" if key in ("frame", "cam", "seq", "subj") else "float32"
            )
        assert file["extrinsic_rot"][:] == pytest.approx(file["extrinsic_rot_inv"][:].transpose(0, 2, 1))
        pose, mean, std = (file[key][:] for key in ("3D", "pose_mean", "pose_std"))
        training = file["subj"][:, 0] == 1
    assert (pose[:, :3] == 0).all() and (std > 0).all()
    normalised = ((pose - mean) / std)[training]
    assert normalised.mean(0) == pytest.approx(0, abs=1e-4) and normalised[:, 3:].std(0) == pytest.approx(1, abs=1e-3)


def test_poses_of_all_cameras_agree_and_lie_on_the_figure(folder):
    labels = read_labels(folder, NORMALISED_POSE)
    world = np.einsum("nji,nkj->nki", labels.world_to_camera, labels.pose.reshape(-1, 17, 3))
    for start in range(0, len(labels), 4):
        assert world[start : start + 4] == pytest.approx(np.broadcast_to(world[start], (4, 17, 3)), abs=1e-5)
    assert (world[:, 10, 2] > 0.4).all()  # heads are up in the world, and up in the picture
    assert (labels.pose.reshape(-1, 17, 3)[:, 10, 1] < -0.4).all()
    (crop,) = MultiviewImages(folder, labels, ("img_crop",))[np.arange(8)]
    (empty,) = MultiviewImages(folder, labels, ("bg_crop",))[np.arange(8)]
    with h5py.File(folder / "labels.h5") as file:
        intrinsics = file["intrinsic_crop"][:8]
    for i in range(8):
        pose = labels.pose[i].reshape(17, 3).numpy() + (0, 0, intrinsics[i, 0, 0] * 2.5 / SIZE)
        pixels = pose @ intrinsics[i].T
        x, y = np.rint(pixels[:, :2] / pixels[:, 2:]).astype(int).T
        on = np.abs(crop[i].numpy().astype(int) - empty[i].numpy()).sum(-1) > 0
        assert on[y, x].mean() > 0.9 and abs(x[0] - SIZE / 2) <= 1 and abs(y[0] - SIZE / 2) <= 1


def test_the_crop_camera_looks_at_the_root():
    for camera in h36m_cameras()["S7"]:
        root = np.array((0.7, -0.9, 0.9))
        rotation, intrinsics = crop_camera(root, camera, 128)
        assert rotation @ rotation.T == pytest.approx(np.eye(3), abs=1e-6) and np.linalg.det(rotation) > 0
        ahead = rotation @ (root - camera.translation)
        assert ahead[:2] == pytest.approx(0, abs=1e-6) and ahead[2] > 2
        assert intrinsics[0, 0] / ahead[2] == pytest.approx(128 / WINDOW)


def test_frames_are_spread_over_the_takes():
    poses = {"S1": {"a": np.zeros((10, 17, 3)), "b": np.zeros((30, 17, 3))}, "S5": {"a": np.zeros((3, 17, 3))}}
    takes = choose_takes(poses, 8)
    assert sum(len(take.frames) for take in takes if take.subject == "S1") == 8
    assert [len(take.frames) for take in takes] == [2, 6, 3] and len({take.number for take in takes}) == 3
    assert takes[1].frames[-1] == 29


def test_the_script_resumes_and_replaces(script, motion, tmp_path):
    target = tmp_path / "set"
    done = script("data/make_synthetic.py", *options(motion, target, "--subjects", "S5"))
    assert done.status == 0 and "labels.h5" in done.out
    labels = read_labels(target)
    kept, lost = (
        image_file(target, int(labels.sequence[i]), int(labels.camera[i]), int(labels.frame[i]), "img_crop")
        for i in (0, 5)
    )
    before, picture = kept.stat().st_mtime_ns, np.asarray(Image.open(lost))
    lost.unlink()
    (target / "labels.h5").unlink()
    assert script("data/make_synthetic.py", *options(motion, target, "--subjects", "S5")).status == 0
    assert kept.stat().st_mtime_ns == before and (np.asarray(Image.open(lost)) == picture).all()
    other = options(motion, target, "--subjects", "S5", "--seed", 3)
    refused = script("data/make_synthetic.py", *other)
    assert refused.status == 2 and "--force" in refused.err and "Traceback" not in refused.err
    assert script("data/make_synthetic.py", *other, "--force").status == 0
    assert (np.asarray(Image.open(lost)) != picture).any()


def test_a_subject_that_is_not_there(script, motion, tmp_path):
    done = script("data/make_synthetic.py", *options(motion, tmp_path / "set", "--subjects", "S2"))
    assert done.status == 2 and "has no subject S2" in done.err and not (tmp_path / "set").exists()
