"""Bones: vectors and back, lengths swapped with directions kept, gradients, template files."""

import numpy as np
import pytest
import torch

from common import bones
from common.errors import InputError
from common.rotation import random_rotations
from common.skeleton import H36M_16, H36M_17, MPI_INF_3DHP_17, MPII_16
from common.synthetic import dataset


def random_poses(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("skeleton", [H36M_16, H36M_17, MPII_16, MPI_INF_3DHP_17], ids=lambda s: s.name)
@pytest.mark.parametrize("leading", [(), (4,), (2, 3)])
def test_vectors_are_parent_minus_child_and_come_back(skeleton, leading):
    poses = random_poses(*leading, skeleton.num_joints, 3)
    vectors = bones.bone_vectors(poses, skeleton)
    for bone, (parent, child) in enumerate(skeleton.bones):
        torch.testing.assert_close(vectors[..., bone, :], poses[..., parent, :] - poses[..., child, :])
    root = poses[..., skeleton.root, :]
    torch.testing.assert_close(bones.pose_from_bones(vectors, root, skeleton), poses)
    at_origin = bones.pose_from_bones(vectors, skeleton=skeleton)
    torch.testing.assert_close(at_origin, poses - root.unsqueeze(-2))


def test_published_order_of_the_sixteen_joints():
    assert H36M_16.bones == (
        (0, 1), (1, 2), (2, 3), (0, 4), (4, 5), (5, 6), (0, 7), (7, 8), (8, 9), (8, 10), (10, 11), (11, 12), (8, 13),
        (13, 14), (14, 15),
    )  # fmt: skip


def test_keypoints_in_the_plane_have_bones_too():
    keypoints = random_poses(5, 16, 2, dtype=torch.float32)
    vectors = bones.bone_vectors(keypoints)
    assert vectors.shape == (5, 15, 2)
    torch.testing.assert_close(bones.pose_from_bones(vectors, keypoints[:, 0]), keypoints)


def test_swapping_lengths_keeps_directions_and_root():
    poses, lengths = random_poses(6, 16, 3), random_poses(6, 15, seed=1).abs() + 0.1
    swapped = bones.with_lengths(poses, lengths)
    vectors, before = bones.bone_vectors(swapped), bones.bone_vectors(poses)
    torch.testing.assert_close(bones.bone_lengths(vectors), lengths)
    torch.testing.assert_close(bones.unit_bones(vectors), bones.unit_bones(before))
    torch.testing.assert_close(swapped[:, 0], poses[:, 0])
    torch.testing.assert_close(bones.with_lengths(poses, bones.bone_lengths(before)), poses)


def test_lengths_do_not_change_with_a_turn_or_a_move():
    poses = random_poses(4, 16, 3)
    moved = poses @ random_rotations(4).double() + random_poses(4, 1, 3, seed=2)
    found = bones.bone_lengths(bones.bone_vectors(moved))
    torch.testing.assert_close(found, bones.bone_lengths(bones.bone_vectors(poses)), rtol=1e-3, atol=0)


def test_gradients():
    poses, lengths = random_poses(2, 16, 3).requires_grad_(), (random_poses(2, 15).abs() + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(bones.with_lengths, (poses, lengths))


def test_matrices_first_asked_for_in_inference_mode_serve_training():
    poses = torch.randn(2, 16, 5)  # five axes: nobody else has asked for these matrices
    with torch.inference_mode():
        bones.pose_from_bones(bones.bone_vectors(poses))
    leaf = poses.clone().requires_grad_()
    bones.pose_from_bones(bones.bone_vectors(leaf)).square().sum().backward()
    assert leaf.grad.abs().sum() > 0


def test_autocast_does_not_round_bones():
    poses = random_poses(3, 16, 3, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = bones.bone_vectors(poses)
    assert found.dtype == torch.float32 and torch.equal(found, bones.bone_vectors(poses))


@pytest.mark.parametrize("skeleton", [H36M_16, MPI_INF_3DHP_17], ids=lambda s: s.name)
def test_compiled_is_the_same(skeleton):
    """The compiler's form, for a skeleton whose children may come before their parents too."""
    poses = random_poses(3, skeleton.num_joints, 3)
    compiled = torch.compile(bones.with_lengths, backend="eager", fullgraph=True)
    lengths = torch.full((skeleton.num_joints - 1,), 0.3, dtype=torch.float64)
    torch.testing.assert_close(compiled(poses, lengths, skeleton), bones.with_lengths(poses, lengths, skeleton))


def test_a_bone_without_length_has_no_direction():
    poses = random_poses(1, 16, 3)
    poses[0, 3] = poses[0, 2]
    directions = bones.unit_bones(bones.bone_vectors(poses))
    assert directions[0, 2].isnan().all() and directions[0, [0, 1, 3]].isfinite().all()


@pytest.mark.parametrize("call", [lambda: bones.bone_vectors(torch.zeros(2, 17, 3)),
                                  lambda: bones.pose_from_bones(torch.zeros(2, 16, 3)),
                                  lambda: bones.bone_vectors(torch.zeros(16))])  # fmt: skip
def test_wrong_counts_are_refused(call):
    with pytest.raises(InputError, match=r"shape .*Human3.6M 16 joints has \(\.\.\., 1[56], axes\)"):
        call()


def test_templates_are_those_of_the_five_training_subjects():
    templates = bones.length_templates()
    assert templates.shape == (5, 15) and templates.dtype == torch.float32
    measured = dataset.bone_lengths()
    for row, subject in zip(templates, ("S1", "S5", "S6", "S7", "S8"), strict=True):
        assert np.array_equal(row.numpy(), measured[subject].astype(np.float32))


def test_a_template_file_is_read(tmp_path):
    expected = np.random.default_rng(0).uniform(0.1, 0.5, (7, 15))
    np.save(tmp_path / "templates.npy", expected)
    found = bones.length_templates(tmp_path / "templates.npy")
    assert found.dtype == torch.float32 and np.array_equal(found.numpy(), expected.astype(np.float32))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.ones((5, 16)), r"shape \(5, 16\): expected bone lengths \(people, 15\)"),
        (np.ones(15), r"shape \(15,\)"),
        (np.ones((0, 15)), r"shape \(0, 15\)"),
        (np.ones((5, 15, 1)), r"shape \(5, 15, 1\)"),
        (np.where(np.arange(15) == 4, 0.0, 0.3)[None], "row 0 bone 4 has length 0.0"),
        (np.where(np.arange(15) == 2, -0.3, 0.3)[None], "bone 2 has length -0.3"),
        (np.where(np.arange(15) == 2, np.nan, 0.3)[None], "bone 2 has length nan"),
        (np.array([["a"] * 15]), "numbers"),
        (np.array([{"a": 1}], dtype=object), "numbers"),
    ],
)
def test_bad_template_files_are_refused(tmp_path, content, message):
    np.save(tmp_path / "templates.npy", content, allow_pickle=True)
    with pytest.raises(InputError, match=message):
        bones.length_templates(tmp_path / "templates.npy")


def test_files_that_are_no_templates_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        bones.length_templates(tmp_path / "none.npy")
    with pytest.raises(InputError, match="cannot be read"):
        bones.length_templates(tmp_path)
    for name, content in (("text.npy", b"lengths"), ("empty.npy", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="is not an .npy file"):
            bones.length_templates(tmp_path / name)
    np.savez(tmp_path / "many.npz", a=np.ones((5, 15)))
    with pytest.raises(InputError, match="one array of numbers"):
        bones.length_templates(tmp_path / "many.npz")
