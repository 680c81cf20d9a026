"""common.screen: PoseAug's inputs of a `PoseSet`, camera by camera; the cameras project poses onto keypoints."""

import pytest
import torch

from common.camera import h36m_cameras, normalise_screen, project
from common.datasets.h36m_layout import load_pose_set
from common.screen import screen_inputs
from common.skeleton import H36M_16, H36M_17
from common.synthetic import dataset
from common.synthetic.dataset import ensure
from tests.tiny_dataset import write_tiny_dataset


@pytest.mark.parametrize("skeleton", [H36M_16, H36M_17])
def test_equals_the_cameras_own_numbers(tmp_path, skeleton):
    pose_set = load_pose_set(write_tiny_dataset(tmp_path), "tiny", "gt", "S1,S9", downsample=3, skeleton=skeleton)
    before = pose_set.keypoints.clone()
    found = screen_inputs(pose_set)
    assert torch.equal(pose_set.keypoints, before)
    assert found.keypoints.shape == before.shape and found.sequence is pose_set.sequence
    assert found.keypoints.dtype == found.intrinsics.dtype == torch.float32
    heights = set()
    for row, seq in enumerate(pose_set.sequences):
        camera = h36m_cameras()[seq.subject][seq.view]
        heights.add(camera.height)
        torch.testing.assert_close(found.intrinsics[row], camera.intrinsics("screen"), rtol=1e-6, atol=1e-7)
        rows = slice(seq.start, seq.start + seq.length)
        expected = normalise_screen(before[rows], camera.width, camera.height)
        torch.testing.assert_close(found.keypoints[rows], expected, rtol=0, atol=1e-7)
    assert heights == {1000, 1002}


def test_on_the_device_of_the_set(tmp_path):
    pose_set = load_pose_set(write_tiny_dataset(tmp_path), "tiny", "gt", "S1", device="meta")
    assert {tensor.device.type for tensor in screen_inputs(pose_set)} == {"meta"}


def test_synthetic_poses_project_onto_the_keypoints(tmp_path, monkeypatch):
    make = dataset.make_dataset
    monkeypatch.setattr(dataset, "make_dataset", lambda seed: make(seed, 0.5, ("S6", "S9")))
    for skeleton in (H36M_16, H36M_17):
        ensure(tmp_path, seed=None)
        pose_set = load_pose_set(tmp_path, "synthetic", "gt", "S6,S9", skeleton=skeleton)
        screen = screen_inputs(pose_set)
        cameras = screen.intrinsics.index_select(0, screen.sequence)
        error = project(pose_set.poses, cameras[:, None]) - screen.keypoints
        assert len(pose_set) == 2 * 30 * 4 * 25
        assert error.abs().max() < 1e-3
