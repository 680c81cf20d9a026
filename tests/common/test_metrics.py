"""Pose errors against closed forms, invariances and a plain SVD reference; degenerate poses; PCK, AUC, averages."""

import math

import pytest
import torch

from common import metrics, procrustes
from common.errors import InputError
from common.skeleton import H36M_16, H36M_17
from methods.ites.metrics import calibrate_by_procrustes, calibrate_by_scale, ites_evaluation

DEPTH_MIRROR = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


def poses(generator, *batch, joints=17, size=0.3):
    return size * torch.randn(*batch, joints, 3, generator=generator, dtype=torch.float64)


def rotations(generator, count):
    q, _ = torch.linalg.qr(torch.randn(count, 3, 3, generator=generator, dtype=torch.float64))
    return q * torch.linalg.det(q).sign()[:, None, None]


def flattened(generator, count, extent):
    """Poses squeezed along two axes by the factors in `extent`, then turned; targets and noisy predictions."""
    squeeze = torch.tensor([1.0, *extent], dtype=torch.float64)
    target = poses(generator, count) * squeeze
    pred = target + poses(generator, count, size=0.05) * squeeze
    return pred @ rotations(generator, count), target @ rotations(generator, count)


def reference_p_mpjpe(pred, target):
    """As in the text books, with LAPACK's decomposition."""
    p, t = pred - pred.mean(1, keepdim=True), target - target.mean(1, keepdim=True)
    u, sigma, vt = torch.linalg.svd(p.mT @ t)
    sign = torch.linalg.det(u @ vt).sign()
    u[:, :, 2] *= sign[:, None]
    sigma[:, 2] *= sign
    scale = sigma.sum(-1) / p.square().sum((1, 2))
    return (scale[:, None, None] * p @ u @ vt - t).norm(dim=-1).mean(-1)


# --- MPJPE and its relatives ----------------------------------------------------------------------------------------


def test_mpjpe_of_a_constant_offset_is_its_length(generator):
    target = poses(generator, 4)
    offset = torch.tensor([0.03, -0.04, 0.12], dtype=torch.float64)
    assert torch.allclose(metrics.mpjpe(target + offset, target), torch.full((4,), 0.13, dtype=torch.float64))


def test_mpjpe_is_the_mean_of_the_joint_errors(generator):
    pred, target = poses(generator, 5), poses(generator, 5)
    by_hand = [[math.dist(p, t) for p, t in zip(*pose, strict=True)] for pose in zip(pred, target, strict=True)]
    by_hand = torch.tensor(by_hand, dtype=torch.float64)
    assert torch.allclose(metrics.joint_errors(pred, target), by_hand)
    assert torch.allclose(metrics.mpjpe(pred, target), by_hand.mean(-1))


def test_n_mpjpe_ignores_scale_and_nothing_else(generator):
    target = poses(generator, 6)
    scale = torch.rand(6, 1, 1, generator=generator, dtype=torch.float64) + 0.2
    assert metrics.n_mpjpe(scale * target, target).max() < 1e-12
    pred = poses(generator, 6)
    assert torch.allclose(metrics.n_mpjpe(pred, target), metrics.n_mpjpe(scale * pred, target))
    assert metrics.n_mpjpe(target @ rotations(generator, 6), target).min() > 1e-3


def test_n_mpjpe_is_the_error_at_the_scale_of_least_squares(generator):
    pred, target = poses(generator, 3), poses(generator, 3)
    scale = torch.linalg.lstsq(pred.reshape(3, -1, 1), target.reshape(3, -1, 1)).solution
    assert torch.allclose(metrics.n_mpjpe(pred, target), metrics.mpjpe(scale * pred, target))


def test_p_mpjpe_of_a_similar_pose_is_zero(generator):
    target = poses(generator, 20)
    moved = 2.5 * target @ rotations(generator, 20) + poses(generator, 20, joints=1, size=5)
    assert metrics.p_mpjpe(moved, target).max() < 1e-12


def test_p_mpjpe_of_a_mirrored_pose_is_not_zero(generator):
    target = poses(generator, 20)
    assert metrics.p_mpjpe(target @ DEPTH_MIRROR, target).min() > 0.01


@pytest.mark.parametrize("mirror", [False, True])
def test_p_mpjpe_equals_the_svd_reference(generator, mirror):
    target = poses(generator, 50)
    pred = target @ rotations(generator, 50) + poses(generator, 50, size=0.1)
    pred = pred @ DEPTH_MIRROR if mirror else pred
    assert torch.allclose(metrics.p_mpjpe(pred, target), reference_p_mpjpe(pred, target), atol=1e-12)


@pytest.mark.parametrize("depth", [1, 1e-3, 1e-9, 0])
@pytest.mark.parametrize("width", [1, 1e-2, 1e-4, 1e-6, 1e-8, 0])
def test_p_mpjpe_of_nearly_flat_and_nearly_straight_poses(generator, width, depth):
    pred, target = flattened(generator, 8, (width, width * depth))
    for p in (pred, pred @ DEPTH_MIRROR):
        difference = metrics.p_mpjpe(p, target) - reference_p_mpjpe(p, target)
        assert difference.abs().max() < 1e-7  # 1e-4 mm


def test_p_mpjpe_with_a_mask_aligns_all_joints_and_averages_some(generator):
    pred, target = poses(generator, 3), poses(generator, 3)
    mask = torch.zeros(3, 17)
    mask[0, 4] = mask[1, :2] = 1
    errors = metrics.joint_errors(metrics.procrustes_align(pred, target).aligned, target)
    result = metrics.p_mpjpe(pred, target, mask)
    assert torch.allclose(result[:2], torch.stack([errors[0, 4], errors[1, :2].mean()]))
    assert result[2].isnan()
    assert torch.allclose(metrics.p_mpjpe(pred, target, torch.ones(3, 17)), metrics.p_mpjpe(pred, target))


def test_velocity_error_ignores_constant_offsets_and_sees_jitter(generator):
    target = poses(generator, 9)
    assert metrics.mean_velocity_error(target + 0.5, target).max() < 1e-12
    jitter = target.clone()
    jitter[4] += torch.tensor([0.0, 0.3, 0.4])
    expected = torch.tensor([0, 0, 0, 0.5, 0.5, 0, 0, 0], dtype=torch.float64)
    assert torch.allclose(metrics.mean_velocity_error(jitter, target), expected)


def test_velocity_error_does_not_mix_sequences(generator):
    pred, target = poses(generator, 2, 7), poses(generator, 2, 7)
    sequence = torch.tensor([4, 4, 4, 1, 2, 2, 2])
    apart = [metrics.mean_velocity_error(pred[:, s], target[:, s]) for s in (slice(0, 3), slice(3, 4), slice(4, 7))]
    together = metrics.mean_velocity_error(pred, target, sequence)
    assert together.shape == (2, 4)
    assert torch.equal(together, torch.cat(apart, dim=-1))


def test_velocity_errors_of_frames_weigh_sequences_by_their_frames(generator):
    pred, target = (torch.randn(9, 5, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    sequence = torch.tensor([0, 0, 0, 3, 4, 4, 4, 4, 4], dtype=torch.int32)  # the third of no frames, one alone
    errors = metrics.velocity_errors(pred, target, sequence)
    parts = [metrics.mean_velocity_error(pred[rows], target[rows]) for rows in (slice(0, 3), slice(4, 9))]
    assert torch.allclose(errors[1:3], parts[0]) and torch.allclose(errors[5:], parts[1])
    assert torch.allclose(errors[[0, 4]], torch.stack([part.mean() for part in parts]))
    assert torch.isclose(errors[3], torch.cat(parts).mean())
    assert metrics.velocity_errors(pred, target, torch.arange(9)) is None


def test_published_joints_and_thresholds_of_mpi_inf_3dhp(generator):
    for skeleton in (H36M_16, H36M_17):
        joints = metrics.mehta_joints(skeleton.joints)
        assert len(joints) == 14 and {"head", "thorax", "left foot"} <= {skeleton.joints[j] for j in joints}
    target = torch.zeros(1, 2, 3)
    pred = torch.tensor([[[0.0, 0, 0.152], [0, 0, 0]]])
    assert metrics.auc(pred, target, joints=[0]) == 0 and metrics.auc(pred, target, joints=[1]) == 30 / 31
    found = metrics.auc(pred.double(), target.double(), joints=[0], thresholds=41)  # 155, 160, ..., 200 mm
    assert torch.isclose(found, torch.tensor(10 / 41, dtype=torch.float64))


# --- Alignment ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reflection, determinants", [("corrected", {1}), ("forced", {-1}), ("allowed", {1, -1})])
def test_alignment_parts_fit_together(generator, reflection, determinants):
    pred, target = poses(generator, 30), poses(generator, 30)
    aligned, rotation, scale, translation = metrics.procrustes_align(pred, target, reflection)
    assert torch.allclose(scale[:, None, None] * pred @ rotation + translation[:, None], aligned)
    assert torch.allclose(rotation @ rotation.mT, torch.eye(3, dtype=torch.float64).expand(30, 3, 3))
    assert set(torch.linalg.det(rotation).round().int().tolist()) == determinants
    assert torch.allclose(aligned.mean(1), target.mean(1))


def test_no_small_change_improves_an_alignment(generator):
    pred, target = poses(generator, 10), poses(generator, 10)
    aligned = metrics.procrustes_align(pred, target).aligned
    best = (aligned - target).square().sum((1, 2))
    centre = aligned.mean(1, keepdim=True)
    for _ in range(20):
        small = torch.randn(10, 3, 3, generator=generator, dtype=torch.float64)
        turned = (aligned - centre) @ torch.linalg.matrix_exp(1e-3 * (small - small.mT))
        scaled = 1 + 1e-3 * torch.randn(10, 1, 1, generator=generator, dtype=torch.float64)
        assert ((turned * scaled + centre - target).square().sum((1, 2)) > best).all()


def test_allowing_reflections_takes_the_better_of_both(generator):
    pred, target = poses(generator, 30), poses(generator, 30)
    squares = {
        name: (metrics.procrustes_align(pred, target, name).aligned - target).square().sum((1, 2))
        for name in ("corrected", "forced", "allowed")
    }
    assert torch.allclose(squares["allowed"], torch.minimum(squares["corrected"], squares["forced"]))
    mirrored = metrics.procrustes_align(target @ DEPTH_MIRROR, target, "forced").aligned
    assert metrics.mpjpe(mirrored, target).max() < 1e-12
    with pytest.raises(InputError, match="best"):
        metrics.procrustes_align(pred, target, "best")


def test_proper_svd_is_a_singular_value_decomposition(generator):
    matrices = torch.randn(200, 3, 3, generator=generator, dtype=torch.float64)
    matrices[:50] *= torch.tensor([1, 1e-5, 1e-11])
    matrices[50:100, :, 1] = 3 * matrices[50:100, :, 2]
    matrices[100:150] = 1e8 * rotations(generator, 50)
    matrices[150:160, :, :2] = 0
    matrices[160] = 0
    left, sigma, right = (x.movedim(-1, 0) for x in procrustes.proper_svd(matrices.permute(1, 2, 0)))
    identity = torch.eye(3, dtype=torch.float64).expand(200, 3, 3)
    for frame in (left, right):
        assert torch.allclose(frame @ frame.mT, identity, atol=1e-14)
        assert torch.allclose(torch.linalg.det(frame), identity[:, 0, 0])
    size = torch.linalg.matrix_norm(matrices)[:, None]
    assert ((left @ torch.diag_embed(sigma) @ right.mT - matrices).abs() <= 1e-14 * size[..., None]).all()
    assert ((sigma.abs() - torch.linalg.svdvals(matrices)).abs() <= 1e-14 * size).all()
    assert (sigma[:, :2] >= -1e-15 * size).all()


# --- Degenerate poses, gradients, types -----------------------------------------------------------------------------


def degenerate_pairs():
    generator = torch.Generator().manual_seed(1)
    normal = poses(generator, 1)[0]
    line = torch.linspace(0, 1, 17, dtype=torch.float64)[:, None] * torch.tensor([0.2, -0.5, 0.1])
    flat = normal * torch.tensor([1.0, 0, 1])
    point = torch.full_like(normal, 0.1)
    special = {"zero": 0 * normal, "point": point, "line": line, "flat": flat, "normal": normal}
    return {f"{a}-{b}": (special[a], special[b]) for a in special for b in special}


@pytest.mark.parametrize("name", degenerate_pairs())
def test_degenerate_poses_give_finite_errors_and_gradients(name):
    pred, target = (x.clone().requires_grad_() for x in degenerate_pairs()[name])
    errors = [function(pred, target) for function in (metrics.mpjpe, metrics.n_mpjpe, metrics.p_mpjpe)]
    errors += [metrics.procrustes_align(pred, target, r).aligned.sum() for r in ("corrected", "allowed", "forced")]
    errors += [calibrate_by_scale(pred, target).sum(), *ites_evaluation(pred, target)]
    for error in errors:
        assert error.isfinite()
        if error.requires_grad:
            gradients = torch.autograd.grad(error, (pred, target), retain_graph=True, allow_unused=True)
            assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)


def test_a_single_point_is_put_on_the_centroid(generator):
    target = poses(generator, 3)
    for dtype in (torch.float32, torch.float64):
        pred = torch.full_like(target, 0.1, dtype=dtype)
        spread = metrics.mpjpe(target.mean(1, keepdim=True).expand_as(target), target)
        assert torch.allclose(metrics.p_mpjpe(pred, target).double(), spread)


def test_gradients_are_those_of_finite_differences(generator):
    pred, target = (poses(generator, 3, joints=5).requires_grad_() for _ in range(2))
    for function in (metrics.n_mpjpe, metrics.p_mpjpe, calibrate_by_scale):
        assert torch.autograd.gradcheck(function, (pred, target), fast_mode=True)
    for reflection in ("allowed", "forced"):

        def align(p, t, reflection=reflection):
            return metrics.procrustes_align(p, t, reflection)

        assert torch.autograd.gradcheck(align, (pred, target), fast_mode=True)


METRICS = [
    metrics.mpjpe,
    metrics.n_mpjpe,
    metrics.p_mpjpe,
    metrics.pck,
    metrics.auc,
    calibrate_by_scale,
    lambda p, t: metrics.procrustes_align(p, t).rotation,
    lambda p, t: calibrate_by_procrustes(p, t).aligned,
    lambda p, t: ites_evaluation(p, t).p_mpjpe,
]


@pytest.mark.parametrize("function", METRICS)
def test_leading_dimensions_types_and_chunks(generator, function, monkeypatch):
    pred, target = poses(generator, 2, 3, 4), poses(generator, 2, 3, 4)
    batch = function(pred, target)
    assert batch.shape[:3] == (2, 3, 4) and batch.dtype == torch.float64
    assert torch.allclose(function(pred[1, 2, 0], target[1, 2, 0]), batch[1, 2, 0], atol=1e-14)
    assert function(pred[:, :0], target[:, :0]).shape[:3] == (2, 0, 4)
    single = function(pred.float(), target.float())
    assert single.dtype == torch.float32 and torch.allclose(single.double(), batch, atol=1e-5)
    assert function(pred.half(), target.half()).dtype == torch.float32
    monkeypatch.setattr(metrics, "_CPU_CHUNK", 5)
    threads = torch.get_num_threads()
    assert torch.allclose(function(pred, target), batch, atol=1e-14)
    assert torch.get_num_threads() == threads


def test_chunks_keep_gradients(generator, monkeypatch):
    pred, target = poses(generator, 7).requires_grad_(), poses(generator, 7)
    (whole,) = torch.autograd.grad(metrics.p_mpjpe(pred, target).sum(), pred)
    monkeypatch.setattr(metrics, "_CPU_CHUNK", 3)
    (parts,) = torch.autograd.grad(metrics.p_mpjpe(pred, target).sum(), pred)
    assert torch.allclose(whole, parts)


@pytest.mark.parametrize("function", [metrics.mpjpe, metrics.n_mpjpe, metrics.p_mpjpe, metrics.pck])
def test_shapes_that_would_broadcast_are_refused(generator, function):
    with pytest.raises(InputError, match=r"\(4, 17, 3\).*\(1, 17, 3\)"):
        function(poses(generator, 4), poses(generator, 1))


def test_nan_stays_with_its_pose(generator):
    pred, target = poses(generator, 3), poses(generator, 3)
    pred[1, 5, 2] = torch.nan
    for function in (metrics.mpjpe, metrics.n_mpjpe, metrics.p_mpjpe):
        assert function(pred, target).isnan().tolist() == [False, True, False]


@pytest.mark.gpu
@pytest.mark.parametrize("function", METRICS)
def test_cuda_gives_the_numbers_of_the_cpu(generator, function):
    pred, target = poses(generator, 40), poses(generator, 40)
    there = function(pred.cuda(), target.cuda())
    assert there.is_cuda
    assert torch.allclose(there.cpu(), function(pred, target), atol=1e-12)


# --- PCK, AUC, PCKh, averages ---------------------------------------------------------------------------------------


def at_distances(distances):
    target = torch.zeros(len(distances), 3, dtype=torch.float64)
    return torch.stack([torch.tensor([0, d, 0], dtype=torch.float64) for d in distances]), target


def test_pck_is_strict_and_a_mean_over_joints():
    pred, target = at_distances([0, 0.1, math.nextafter(0.15, 0), 0.15, 0.2])
    assert metrics.pck(pred, target) == pytest.approx(3 / 5)
    assert metrics.pck(pred, target, threshold=0.1) == pytest.approx(1 / 5)
    assert metrics.pck(pred, target, joints=[0, 3]) == pytest.approx(1 / 2)


def test_auc_is_the_mean_of_pck_over_31_thresholds(generator):
    thresholds = metrics.auc_thresholds()
    assert torch.allclose(thresholds, 0.005 * torch.arange(31, dtype=torch.float64))
    pred, target = poses(generator, 6, size=0.08), torch.zeros(6, 17, 3, dtype=torch.float64)
    pred[0, :4] = torch.tensor([0, 0, 1.0]) * thresholds[[0, 7, 16, 30], None]  # exactly on a threshold
    curve = torch.stack([metrics.pck(pred, target, threshold=t.item()) for t in thresholds])
    assert torch.allclose(metrics.auc(pred, target), curve.mean(0))
    assert metrics.auc(target, target).tolist() == pytest.approx([30 / 31] * 6)
    assert metrics.auc(target + 1, target).tolist() == [0] * 6


def test_pckh_counts_visible_joints_in_head_sizes():
    target = torch.zeros(2, 3, 2)
    pred = torch.tensor([[[0.0, 4], [0, 5], [0, 20]], [[0.0, 4], [0, 5], [9, 0]]])
    scores = metrics.pckh(pred, target, torch.tensor([10.0, 20.0]), visible=torch.tensor([[1, 1, 0], [1, 1, 1]]))
    assert torch.equal(scores.isnan(), torch.tensor([[False, False, True], [False] * 3]))
    assert scores.nanmean(0).tolist() == [1.0, 0.5, 1.0]
    assert scores.nanmean().item() == pytest.approx(4 / 5)


def test_summary_names_both_means():
    errors = torch.tensor([1.0, 3.0, 10.0, 2.0])
    summary = metrics.summarise(errors, torch.tensor([2, 2, 0, 2]), ["Walking", "Sitting", "Eating"])
    assert summary.by_action == {"Walking": 10.0, "Eating": 2.0}
    assert summary.frames == {"Walking": 1, "Eating": 3}
    assert (summary.frame_wise, summary.action_wise) == (4.0, 6.0)


def test_summary_refuses_what_it_cannot_average():
    with pytest.raises(InputError, match="no poses"):
        metrics.summarise(torch.zeros(0), torch.zeros(0, dtype=torch.long), ["Walking"])
    with pytest.raises(InputError, match=r"\(2,\).*\(3,\)"):
        metrics.summarise(torch.zeros(2), torch.zeros(3, dtype=torch.long), ["Walking"])
