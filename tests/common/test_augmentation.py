"""Augmentations: what they keep, and how large what they change is."""

import pytest
import torch

from common.augmentation import DEVIATION, HIPS_UP, WIDTHS, detector_noise, detectors_joints, vary_bones, vary_pose
from common.bones import bone_lengths, bone_vectors, unit_bones
from common.lifter_input import size_of
from common.skeleton import H36M_16 as S


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def people(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, 16, 3, generator=generator())


@pytest.mark.parametrize("shape", [(40,), (40, 5)], ids=str)
def test_other_builds_keep_directions_and_sides(shape):
    poses = people(*shape)
    made = vary_bones(poses, 0.2, generator())
    assert made.shape == poses.shape and torch.allclose(made[..., 0, :], poses[..., 0, :])
    assert torch.allclose(unit_bones(bone_vectors(made)), unit_bones(bone_vectors(poses)), atol=1e-4)
    factors = bone_lengths(bone_vectors(made)) / bone_lengths(bone_vectors(poses))
    left, right = ([child - 1 for child in side] for side in (S.left, S.right))
    assert torch.allclose(factors[..., left], factors[..., right], atol=1e-4)
    assert 0.8 * 0.9 < factors.min() < 0.9 and 1.1 < factors.max() < 1.2 * 1.1
    if len(shape) > 1:  # one body in all frames of a window
        assert torch.allclose(factors, factors[:, :1].expand_as(factors), atol=1e-4)


@pytest.mark.parametrize("shape", [(300,), (300, 4)], ids=str)
def test_other_poses_keep_bones_and_turn_limbs_whole(shape):
    poses = people(*shape)
    made = vary_pose(poses, 40, generator())
    assert made.shape == poses.shape and torch.allclose(made[..., 0, :], poses[..., 0, :])
    assert torch.allclose(bone_lengths(bone_vectors(made)), bone_lengths(bone_vectors(poses)), atol=1e-4)
    cosine = (unit_bones(bone_vectors(made)) * unit_bones(bone_vectors(poses))).sum(-1).clamp(-1, 1)
    turned = cosine.acos().rad2deg()  # of each bone
    at = {S.joints[child]: bone for bone, (_, child) in enumerate(S.bones)}
    assert 20 < turned[..., at["left hip"]].max() < 40.1
    assert 40 < turned[..., at["left wrist"]].max() < 40 * 3.25
    kept = (turned[..., at["right hip"]] < 0.1).float().mean()
    assert 0.4 < kept < 0.6

    def angle(pose: torch.Tensor, first: str, second: str) -> torch.Tensor:
        bones = unit_bones(bone_vectors(pose))
        return (bones[..., at[first], :] * bones[..., at[second], :]).sum(-1)

    for first, second in (("left hip", "right hip"), ("thorax", "head"), ("left shoulder", "right shoulder")):
        assert torch.allclose(angle(made, first, second), angle(poses, first, second), atol=1e-4)  # one piece
    assert torch.allclose(vary_pose(poses, 0, generator()), poses, atol=1e-5)
    if len(shape) > 1:  # the same turns in all frames: a still body stays one
        still = vary_pose(poses[:, :1].expand(-1, 4, -1, -1), 40, generator())
        assert torch.allclose(still, still[:, :1].expand_as(still), atol=1e-5)


@pytest.mark.parametrize("shape", [(400,), (400, 3)], ids=str)
def test_most_people_have_the_joints_of_detectors(shape):
    poses = people(*shape)
    made = detectors_joints(poses, generator())
    changed = (made != poses).flatten(1).any(1)
    assert 0.65 < changed.float().mean() < 0.85
    kept = [S.index(name) for name in ("left knee", "right foot", "left elbow", "right wrist")]
    assert torch.equal(made[..., kept, :], poses[..., kept, :])

    def pair(joint: str) -> tuple[torch.Tensor, torch.Tensor]:
        return tuple(made[changed][..., S.index(f"{side} {joint}"), :] for side in ("left", "right"))

    hips, shoulders = (sum(pair(joint)) / 2 for joint in ("hip", "shoulder"))
    for joint, (low, high) in WIDTHS.items():
        left, right = pair(joint)
        ratio = (left - right).norm(dim=-1) / (shoulders - hips).norm(dim=-1)
        assert low - 1e-4 < ratio.min() < low + 0.02 and high - 0.02 < ratio.max() < high + 1e-4
    assert torch.allclose(made[changed][..., 0, :], hips, atol=1e-6)
    before = (poses[..., S.index("left hip"), :] + poses[..., S.index("right hip"), :])[changed] / 2
    moved = (hips - before).norm(dim=-1)
    assert HIPS_UP[1] < moved.max() < -HIPS_UP[0] + 1e-4


def test_heads_guessed_from_a_face_are_in_front_of_it():
    """Somebody who stands upright, x forward, y to the left, z up."""
    heights = {"foot": 0.1, "knee": 0.5, "hip": 0.9, "spine": 1.15, "thorax": 1.4, "head": 1.7, "shoulder": 1.4}
    pose = torch.tensor([(0.0, 0.0, heights.get(joint.split()[-1], 1.1)) for joint in S.joints])
    for side, y in ((S.left, 0.2), (S.right, -0.2)):
        pose[list(side), 1] = y
    made = detectors_joints(pose.expand(500, -1, -1), generator())
    head = made[(made != pose).flatten(1).any(1)][:, S.index("head")]
    assert 0.07 < head[:, 0].min() < 0.1 and 0.3 < head[:, 0].max() < 0.33  # twice as far as the nose
    assert 1.68 < head[:, 2].min() < 1.72 and 1.88 < head[:, 2].max() < 1.92
    assert head[:, 1].abs().max() < 0.13


@pytest.mark.parametrize("frames", [1, 27])
def test_detector_noise(frames):
    points = torch.randn(2000, frames, 16, 2, generator=generator())
    points = points[:, 0] if frames == 1 else points
    found, confidence = detector_noise(points, 1.0, generator())
    assert found.shape == points.shape and confidence.shape == points.shape[:-1]
    error = ((found - points) / size_of(points - points[..., :1, :])).norm(dim=-1)
    assert 0.3 * DEVIATION < error.median() < 0.6 * DEVIATION
    lost = confidence == 0
    assert 0.02 < lost.float().mean() < 0.04
    # who is sure errs less
    assert error[confidence > 0.9].median() < 0.6 * error[(confidence < 0.6) & ~lost].median()
    same, sure = detector_noise(points, 0.0, generator())
    assert torch.allclose(same, points) and (sure == 1).all()


def test_errors_drift_within_a_window():
    points = torch.randn(4000, 1, 16, 2, generator=generator()).expand(-1, 27, -1, -1)
    error = detector_noise(points, 1.0, generator())[0] - points
    step, far = (error[:, 1:] - error[:, :-1]).abs().median(), (error[:, 18:] - error[:, :9]).abs().median()
    assert step < 0.75 * far
