"""Statistics of pose sets against their definitions, one pose at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from common.datasets import sanity, statistics
from common.datasets.h36m_layout import load_pose_set
from common.datasets.whole_set import load_whole_set
from common.skeleton import H36M_17, H36M_32, convert
from tests.tiny_dataset import tiny_poses, write_tiny_dataset

WHO = ("S1", "S9", "S11")


@pytest.fixture(scope="module")
def pose_set(tmp_path_factory):
    folder = write_tiny_dataset(tmp_path_factory.mktemp("set"), keypoints=("gt", "noisy"), subjects=WHO)
    return load_pose_set(folder, "tiny", "noisy", WHO)


def test_rows_once_are_the_first_views(pose_set):
    rows = statistics.rows_once(pose_set)
    assert [pose_set.item(row).view for row in rows.tolist()] == [0] * (len(pose_set) // 4)


def test_people_of_a_cameras_own_frame_have_no_floor(pose_set):
    """3DPW's cameras stand at the origin of their world."""
    assert torch.equal(statistics.rows_in_room(pose_set), statistics.rows_once(pose_set))
    cameras = [replace(seq.camera, translation=(0.0, 0.0, 0.0)) for seq in pose_set.sequences]
    moved = [s._replace(camera=c) if s.subject == "S9" else s for s, c in zip(pose_set.sequences, cameras, strict=True)]
    seen = replace(pose_set, sequences=tuple(moved))
    assert {seen.item(row).subject for row in statistics.rows_in_room(seen).tolist()} == {"S1", "S11"}
    assert not any("floor" in line for line in statistics.oddities(seen, {}, statistics.views_of(seen)))


def test_poses_come_back_to_the_world(pose_set):
    rows = statistics.rows_once(pose_set)[:10]
    world = convert(tiny_poses(subjects=WHO)["S1"]["Walking"], H36M_32, H36M_17)
    np.testing.assert_allclose(statistics.in_world(pose_set, rows), world, atol=1e-5)
    np.testing.assert_allclose(statistics.roots_in_world(pose_set, rows), world[:, 0], atol=1e-5)


def test_bones(pose_set):
    poses = np.concatenate([*tiny_poses(subjects=WHO)["S9"].values()])
    poses = convert(poses, H36M_32, H36M_17)
    bones = statistics.bones_of(pose_set)["S9"]
    for i, (parent, child) in enumerate(H36M_17.bones):
        lengths = np.linalg.norm(poses[:, parent] - poses[:, child], axis=-1)
        assert bones.lengths[i] == pytest.approx(np.median(lengths), abs=1e-5)
        change = np.ptp(np.percentile(lengths, (5, 95))) / np.median(lengths)
        assert bones.change[i] == pytest.approx(change, abs=1e-4)
    legs = bones.lengths[[0, 1, 2]].sum()
    head = bones.lengths[[H36M_17.index(joint) - 1 for joint in ("spine", "thorax", "neck", "head")]].sum()
    assert bones.height == pytest.approx(float(legs + head), abs=0.01)


def test_views(pose_set):
    views = statistics.views_of(pose_set)
    assert [view.view for view in views] == [0, 1, 2, 3] and all(view.poses == 90 for view in views)
    rows = [row for row in range(len(pose_set)) if pose_set.item(row).view == 2]
    sides = np.ptp(pose_set.keypoints[rows].numpy(), axis=1).max(-1)
    assert views[2].size == pytest.approx(np.percentile(sides, (5, 50, 95)), rel=1e-4)
    assert views[2].outside == 0 and views[2].nobody == 0 and np.isnan(views[2].confidence)
    assert views[2].error[0] == pytest.approx(3 * np.sqrt(np.pi / 2), rel=0.1)  # 3 pixels of noise in x and in y


def test_cameras_look_at_the_people(pose_set):
    seen = statistics.cameras_of(pose_set)
    assert len(seen) == 12 and {view for view, *_ in seen} == {0, 1, 2, 3}
    for each in seen:
        assert 5 < each.pitch < 20 and abs(each.roll) < 6 and 40 < each.width < 50
        corners = statistics.corners(each.camera, 2.0)
        assert torch.allclose(corners[0], torch.tensor(each.camera.translation))
        assert corners[1, 2] > corners[4, 2]  # the upper left corner is over the lower left one
        assert corners[1:].mean(0)[:2].norm() < corners[0, :2].norm()


def test_sides_exchanged_is_sure_of_bent_knees():
    standing = torch.tensor(convert(tiny_poses(subjects=("S1",))["S1"]["Walking"], H36M_32, H36M_17))
    assert sanity.sides_exchanged(standing, H36M_17) < -0.2
    assert sanity.sides_exchanged(standing[:, list(H36M_17.mirror)], H36M_17) > 0.2


def test_whole_set_has_everybody(tmp_path):
    write_tiny_dataset(tmp_path, subjects=WHO)
    whole = load_whole_set(tmp_path, "tiny", "noisy")
    assert whole.made and whole.train == ("S1",) and whole.test == ("S9", "S11") and not whole.own_cameras
    assert statistics.subjects_of(whole.pose_set) == WHO
