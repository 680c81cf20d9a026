"""methods.ites.metrics against the protocol step by step; the published scores beside it that are no part of it."""

import pytest
import torch

from common import metrics
from methods.ites.metrics import calibrate_by_procrustes, calibrate_by_scale, depth_flip, ites_evaluation
from tests.common.test_metrics import DEPTH_MIRROR, at_distances, poses, reference_p_mpjpe, rotations
from tests.golden import geometry


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


def test_calibration_is_the_same_for_a_pose_and_its_depth_flip(generator):
    pred, target = poses(generator, 10), poses(generator, 10)
    flipped = calibrate_by_scale(depth_flip(pred), target)
    assert torch.allclose(flipped, depth_flip(calibrate_by_scale(pred, target)))


def test_calibration_finds_the_scale_of_a_turned_or_mirrored_pose(generator):
    target = poses(generator, 10)
    for pred in (target @ rotations(generator, 10), target @ DEPTH_MIRROR):
        shifted = pred / 3 + poses(generator, 10, joints=1)
        assert torch.allclose(calibrate_by_scale(shifted, target), 3 * shifted)


def test_ites_evaluation_is_the_protocol_step_by_step(generator):
    pred, target = poses(generator, 12) + 0.3, poses(generator, 12) - 0.2
    result = ites_evaluation(pred, target)
    goal = target - target[:, :1]
    errors, p_errors = [], []
    for solution in (pred, depth_flip(pred)):
        calibrated = calibrate_by_scale(solution, target)
        calibrated = calibrated - calibrated[:, :1]
        errors.append((calibrated - goal).norm(dim=-1).mean(-1))
        p_errors.append(reference_p_mpjpe(calibrated, goal))
    for got, expected in zip(result[2:], errors + p_errors, strict=True):
        assert torch.allclose(got, expected, atol=1e-12)
    assert torch.equal(result.mpjpe, torch.minimum(result.mpjpe_pose, result.mpjpe_flip))
    assert torch.equal(result.p_mpjpe, torch.minimum(result.p_mpjpe_pose, result.p_mpjpe_flip))
    assert (result.mpjpe_flip < result.mpjpe_pose).any() and (result.mpjpe_flip > result.mpjpe_pose).any()


def test_ites_evaluation_of_either_mirror_solution_is_the_same(generator):
    pred, target = poses(generator, 6), poses(generator, 6)
    one, other = (ites_evaluation(p, target) for p in (pred, depth_flip(pred)))
    assert torch.allclose(one.mpjpe, other.mpjpe) and torch.allclose(one.p_mpjpe, other.p_mpjpe)
    assert ites_evaluation(depth_flip(target) / 7, target).p_mpjpe.max() < 1e-12


def test_calibration_by_procrustes_recovers_mirrored_and_scaled_poses(generator):
    target = poses(generator, 8)
    pred = target @ DEPTH_MIRROR @ rotations(generator, 8) / 4
    result = calibrate_by_procrustes(pred, target)
    assert torch.allclose(result.aligned, target)
    assert torch.allclose(result.scale, torch.full((8,), 4.0, dtype=torch.float64))
    camera = poses(generator, 8, joints=2).mT
    points, turned = geometry.calibrate_camera_by_procrustes(pred, target, camera)
    assert torch.allclose(points, target)
    gain = torch.linalg.svdvals(camera)[:, :1, None]
    assert torch.allclose(points @ turned, result.scale[:, None, None] * pred @ camera / gain)  # the picture stays


def test_mirror_pck_takes_the_better_solution_joint_by_joint():
    pred, target = at_distances([0.0, 0.3, 0.0, 0.3])
    flip, _ = at_distances([0.3, 0.0, 0.0, 0.3])
    result = geometry.mirror_pck_auc(pred, flip, target, joints=None)
    assert result.pck == pytest.approx(3 / 4)
    assert result.auc == pytest.approx(3 / 4 * 30 / 31)
    assert geometry.mirror_pck_auc(pred, flip, target, joints=[3]).pck == 0


def test_mirror_pck_after_alignment_forgives_similarity(generator):
    target = poses(generator, 4)
    pred = 3 * target @ rotations(generator, 4) + 1
    assert geometry.mirror_pck_auc(pred, pred, target).pck.max() < 1
    assert geometry.mirror_pck_auc(pred, pred, target, align=True).pck.min() == 1


def test_consistency_is_the_mean_over_both_solutions(generator):
    pred, target = poses(generator, 4), poses(generator, 4)
    flip = depth_flip(pred)
    both = metrics.mpjpe(torch.stack([pred, flip]), torch.stack([target, target])).mean(0)
    assert torch.allclose(geometry.consistency_loss(pred, flip, target), both)
