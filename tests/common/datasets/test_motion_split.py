"""Motion in the world, for virtual cameras: the poses of a split, once for all views."""

import numpy as np
import pytest
import torch

from common.camera import camera_to_world
from common.datasets.h36m_layout import load_motion, load_pose_set
from common.errors import InputError
from common.skeleton import H36M_16, H36M_32, convert
from tests.tiny_dataset import tiny_poses, write_tiny_dataset


def test_it_is_what_the_cameras_see(tmp_path):
    write_tiny_dataset(tmp_path, frames=6)
    motion = load_motion(tmp_path, "tiny", "S9,S11", skeleton=H36M_16)
    seen = load_pose_set(tmp_path, "tiny", "gt", "S9,S11", views=[2], skeleton=H36M_16)
    assert [s[:2] + s[3:5] for s in motion.sequences] == [s[:2] + s[3:5] for s in seen.sequences]
    for seq in seen.sequences:
        rows = slice(seq.start, seq.start + seq.length)
        world = camera_to_world(
            seen.poses[rows], torch.tensor(seq.camera.orientation), torch.tensor(seq.camera.translation)
        )
        assert torch.allclose(motion.poses[rows], world, atol=1e-5)
    assert motion.keypoints.shape == (len(seen), 16, 0) and not any(s.camera for s in motion.sequences)


def test_people_whom_no_camera_knows(tmp_path, caplog):
    poses = tiny_poses(9, ("S9",), ("Walking",))["S9"]["Walking"].astype(np.float32)
    poses[4] = 0  # nobody
    metadata = {"layout_name": "h36m", "subjects_train": ["Ann"], "subjects_test": ["Bob"]}
    people = {"Ann": {"Dance": poses}, "Bob": {"Dance": poses}}
    np.savez(tmp_path / "data_3d_own.npz", positions_3d=people, metadata=metadata)
    motion = load_motion(tmp_path, "own", "Ann", downsample=2, skeleton=H36M_16)
    assert [seq.length for seq in motion.sequences] == [2, 2] and motion.frame.tolist() == [0, 2, 6, 8]
    assert "1 of 5 frames left out" in caplog.text
    expected = convert(torch.from_numpy(poses), H36M_32, H36M_16)[[0, 2, 6, 8]]
    assert torch.allclose(motion.poses, expected)
    with pytest.raises(InputError, match="data_3d_other.npz"):
        load_motion(tmp_path, "other", "Ann")
