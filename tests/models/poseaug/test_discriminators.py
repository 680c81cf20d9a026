"""PoseAug's discriminators: what they are blind to, their layout, and the same function as the dense published form."""

import pytest
import torch
from torch.nn import functional as F

from common.bones import bone_lengths, bone_vectors, pose_from_bones, unit_bones, with_lengths
from common.rotation import random_rotations
from models.poseaug.discriminators import PARTS, Discriminator2D, Discriminator3D, part_pairs


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def disc3d():
    torch.manual_seed(0)
    return Discriminator3D().double()


def test_sizes_and_layout_are_the_published_ones(disc3d):
    assert sum(p.numel() for p in disc3d.parameters()) == 1_076_205
    shapes = {name: tuple(value.shape) for name, value in disc3d.state_dict().items()}
    assert len(shapes) == 50 and shapes["kcs_path_1.kcs_layer_1.weight"] == (256, 225)
    assert shapes["kcs_path_5.layer_last.weight"] == (100, 256) and shapes["kcs_path_3.layer_pred.bias"] == (1,)
    flat = Discriminator2D()
    assert sum(p.numel() for p in flat.parameters()) == 43_801
    assert [n for n in flat.state_dict() if n.endswith("weight")] == [
        "pose_layer_1.weight", "pose_layer_2.weight", "pose_layer_3.weight", "pose_layer_4.weight", "layer_last.weight",
        "layer_pred.weight",
    ]  # fmt: skip


def dense_scores(model: Discriminator3D, poses: torch.Tensor) -> torch.Tensor:
    """The published form: full 15 x 15 matrices, zero outside the part."""
    bones, scores = unit_bones(bone_vectors(poses)), []
    for number, part in enumerate(PARTS.values(), 1):
        path, some = getattr(model, f"kcs_path_{number}"), torch.zeros_like(bones)
        some[:, part, :] = bones[:, part, :]
        a = F.leaky_relu(path.kcs_layer_1((some @ some.transpose(1, 2)).flatten(1)))
        c = path.kcs_layer_3(F.leaky_relu(path.kcs_layer_2(a))) + a
        scores.append(path.layer_pred(F.leaky_relu(path.layer_last(c))))
    return torch.cat(scores, 1)


def test_same_function_and_gradients_as_the_dense_form(disc3d):
    results = []
    for function in (disc3d, lambda poses: dense_scores(disc3d, poses)):
        poses = seeded(6, 16, 3).requires_grad_()
        scores = function(poses)
        disc3d.zero_grad()
        scores.square().sum().backward()
        results.append([scores.detach(), poses.grad, *(p.grad.clone() for p in disc3d.parameters())])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


def test_size_turn_and_place_do_not_matter_but_angles_do(disc3d):
    poses = seeded(6, 16, 3)
    expected = disc3d(poses)
    factors = seeded(6, 15, seed=1).abs() + 0.2
    for same in (
        with_lengths(poses, bone_lengths(bone_vectors(poses)) * factors),
        3 * poses + torch.tensor([1.0, 2.0, 3.0]),
    ):
        torch.testing.assert_close(disc3d(same), expected)
    turned = poses @ torch.linalg.qr(random_rotations(6).double()).Q
    torch.testing.assert_close(disc3d(turned), expected)
    assert (disc3d(poses * torch.tensor([1.0, 1.0, 0.5])) - expected).abs().min() > 1e-4


@pytest.mark.parametrize("bone", range(15))
def test_a_bone_moves_the_scores_of_its_parts_only(disc3d, bone):
    bones = seeded(3, 15, 3)
    changed = bones.clone()
    changed[:, bone] = seeded(3, 3, seed=2)
    moved = (disc3d(pose_from_bones(changed)) - disc3d(pose_from_bones(bones))).abs().amax(0) > 1e-9
    assert moved.tolist() == [bone in part for part in PARTS.values()]


def test_parts_share_the_published_number_of_products(disc3d):
    products = disc3d.products(seeded(4, 15, 3))
    assert [some.shape[1] for some in products] == [10, 10, 15, 15, 28]
    bones = seeded(4, 15, 3)
    for part, some in zip(PARTS.values(), disc3d.products(bones), strict=True):
        for (i, j), product in zip(part_pairs(part), some.unbind(1), strict=True):
            torch.testing.assert_close(product, (bones[:, i] * bones[:, j]).sum(-1))


def test_2d_scores_depend_on_place_and_have_the_published_skip():
    model, keypoints = Discriminator2D().double(), seeded(5, 16, 2)
    first = F.leaky_relu(model.pose_layer_1(keypoints.flatten(1)))
    second = F.leaky_relu(model.pose_layer_2(first))
    fourth = model.pose_layer_4(F.leaky_relu(model.pose_layer_3(second) + first))
    expected = model.layer_pred(F.leaky_relu(model.layer_last(fourth)))
    torch.testing.assert_close(model(keypoints), expected)
    assert expected.shape == (5, 1)
    assert (model(keypoints + 0.1) - expected).abs().min() > 1e-6


@pytest.mark.parametrize(("model", "dims"), [(Discriminator3D, 3), (Discriminator2D, 2)])
def test_frozen_weights_let_the_gradient_through_to_the_poses(model, dims):
    network, poses = model().requires_grad_(False), seeded(4, 16, dims).float().requires_grad_()
    network(poses).sum().backward()
    assert poses.grad.abs().sum() > 0 and all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize(("model", "dims"), [(Discriminator3D, 3), (Discriminator2D, 2)])
def test_scores_are_float32_under_autocast(model, dims):
    network, poses = model(), seeded(8, 16, dims).float()
    expected = network(poses)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(poses)
    assert found.dtype == torch.float32
    assert (found - expected).abs().mean() < 0.05 * expected.abs().mean() + 0.01
