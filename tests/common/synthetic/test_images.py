"""Synthetic images: where the person is, what is hidden, what repeats, and the samples made of them."""

import errno
import os
import pickle
from functools import partial

import numpy as np
import pytest
import torch

from common.datasets.h36m_layout import load_pose_set
from common.errors import InputError
from common.images.decode import H36M_TO_MPII
from common.images.people import CropOptions, Crops
from common.skeleton import H36M_17
from common.synthetic.images import PICTURE, SyntheticImages, load_synthetic_images
from tests.tiny_dataset import write_tiny_dataset

WINDOW = 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_dataset(tmp_path_factory.mktemp("tiny"), frames=4)


@pytest.fixture(scope="module")
def images(folder) -> SyntheticImages:
    return load_synthetic_images(folder, "S1,S5", "tiny", window=WINDOW, downsample=2)


def test_the_person_fills_the_window(images):
    low, high = images.joints.min(1), images.joints.max(1)
    assert (high - low).max(1) == pytest.approx(np.full(len(images), WINDOW / 1.5), rel=1e-3)
    assert (low + high) / 2 == pytest.approx(np.full((len(images), 2), (images.side - 1) / 2), abs=0.01)
    assert images.side == round(WINDOW * PICTURE) and len(images) == 2 * 3 * 4 * 2


def test_people_who_face_the_camera_have_their_left_on_the_right(folder, images):
    shoulders = images.joints[:, [H36M_17.joints.index(f"{side} shoulder") for side in ("left", "right")], 0]
    load = partial(load_synthetic_images, folder, "S1,S5", "tiny", window=WINDOW, downsample=2)
    facing = load(facing=60.0)
    assert 0 < len(facing) < len(images)
    left, right = facing.joints[:, [H36M_17.joints.index(f"{side} shoulder") for side in ("left", "right")], 0].T
    assert (left > right).all() and not (shoulders[:, 0] > shoulders[:, 1]).all()
    assert len(facing) <= len(load(facing=90.0)) < len(images) == len(load())
    with pytest.raises(InputError, match="nobody of 48 people faces the camera within 0 degrees"):
        load(facing=0.0)


def test_an_item_shows_a_person_where_its_joints_are(images):
    for index in (0, 17):
        sample = images[index]
        assert sample["image"].shape == (images.side, images.side, 3) and sample["image"].dtype == torch.uint8
        room = torch.from_numpy(images._room(index).copy())
        changed = (sample["image"].int() - room.int()).abs().sum(-1) > 30
        x, y = sample["joints"][7].round().long()
        assert changed[y, x] and 0.02 < changed.float().mean() < 0.7
        assert 6 <= sample["visible"].sum() <= 17 and sample["depth"][0] == 0


def test_2d_and_depth_are_the_cameras(folder, images):
    poses = load_pose_set(folder, "tiny", "gt", "S1,S5", downsample=2)
    matrix = images.matrix.astype(np.float64)
    expected = np.einsum("nij,nkj->nki", matrix[..., :2], poses.keypoints.numpy()) + matrix[:, None, :, 2]
    assert images.joints == pytest.approx(expected, abs=0.05)
    focal = poses.intrinsics()[poses.sequence, :2].numpy()
    z, focal = poses.poses[..., 2].numpy(), matrix[:, 0, 0] * focal.prod(1) ** 0.5
    assert images.depth == pytest.approx((z - z[:, :1]) * (focal / z[:, 0])[:, None], abs=0.01)


def test_a_picture_depends_on_the_pose_and_the_seed_alone(folder, images):
    picture = np.asarray(images.open_image(5))
    again = load_synthetic_images(folder, "S1,S5", "tiny", window=WINDOW, downsample=2)
    assert (np.asarray(again.open_image(5)) == picture).all()
    other = load_synthetic_images(folder, "S1,S5", "tiny", window=WINDOW, downsample=2, seed=1)
    assert (np.asarray(other.open_image(5)) != picture).any()
    sent = pickle.loads(pickle.dumps(images))  # to a DataLoader's worker that is not forked
    assert (np.asarray(sent.open_image(5)) == picture).all()


def test_subjects_keep_one_look_and_are_told_apart(folder, images):
    by_subject = {}
    for name, look in zip(images.names, images.looks, strict=True):
        by_subject.setdefault(name.split("/")[0], set()).add(look.colours.tobytes())
    assert all(len(looks) == 1 for looks in by_subject.values()) and by_subject["S1"] != by_subject["S5"]
    varied = load_synthetic_images(folder, "S1,S5", "tiny", window=WINDOW, looks="sequence")
    assert len({look.colours.tobytes() for look in varied.looks}) == 6  # two subjects, three takes


def test_samples_to_train_on(images):
    people = images.people()
    assert people.has_3d and not people.rotate and people.layout == "mpii16"
    assert people.gt_3d[:, 0] == pytest.approx(0) and 1300 < np.ptp(people.gt_3d[0, :, 1]) < 2000  # mm, upright
    flat = images.people("synthetic 2D", with_3d=False)
    assert not flat.has_3d and flat.rotate
    options = CropOptions(input_size=(WINDOW, WINDOW), map_size=(12, 12))
    crops = Crops((people, flat), options, train=False)
    sample, sample_2d = crops[3], crops[len(images) + 3]
    assert sample["image"].shape == (WINDOW, WINDOW, 3) and sample["reg_mask"].all() and sample["annotated"].all()
    assert not sample_2d["reg_mask"].any() and not sample_2d["gt_3d"].any()
    expected = images.depth[3][list(H36M_TO_MPII)] / WINDOW
    assert sample["reg_target"][:, 0].numpy() == pytest.approx(expected, abs=1e-5)
    centre = images.joints[3][list(H36M_TO_MPII)] - (images.side - 1) / 2
    assert sample["pts_crop"].numpy() == pytest.approx(centre / 4 + 6, abs=1.01)
    for row in (0, len(images)):
        assert Crops((people, flat), options, train=True)[1, row]["image"].float().std() > 5


def test_the_cache_holds_the_same_pictures(tmp_path, folder):
    images = load_synthetic_images(folder, "S9", "tiny", window=WINDOW, limit=5)
    assert len(images) == 5
    drawn = [np.asarray(images.open_image(i)) for i in range(5)]
    visible = images[2]["visible"]
    path = images.cache(tmp_path)
    changed = path.stat().st_mtime_ns
    assert all((np.asarray(images.open_image(i)) == drawn[i]).all() for i in range(5))
    assert (images[2]["image"].numpy() == drawn[2]).all() and (images[2]["visible"] == visible).all()
    assert images.cache(tmp_path) == path and path.stat().st_mtime_ns == changed
    other = load_synthetic_images(folder, "S9", "tiny", window=WINDOW, limit=5, seed=4)
    assert other.cache(tmp_path) != path


def test_unknown_looks(folder):
    with pytest.raises(InputError, match="unknown looks 'none'"):
        load_synthetic_images(folder, "S9", "tiny", window=WINDOW, looks="none")


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, folder, monkeypatch):
    def full(descriptor, offset, size):
        assert size > 5 * WINDOW**2 * 3
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    images = load_synthetic_images(folder, "S9", "tiny", window=WINDOW, limit=5)
    with pytest.raises(InputError, match="cannot write .*No space left"):
        images.cache(tmp_path / "full")
    assert not list((tmp_path / "full").iterdir())
