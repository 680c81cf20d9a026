"""Losses of the encoder-decoder: every weight works, features come from a fixed network, poses are scale-aligned."""

import pytest
import torch
from torch.nn import functional as F

from common.metrics import n_mpjpe
from models.encoder_decoder import losses
from models.encoder_decoder.losses import FeatureNet, ImageWeights, image_loss
from tests.golden import encoder_decoder_oracles


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


PRED, TARGET = draw(2, 3, 16, 16), draw(2, 3, 16, 16, seed=1)


# ------------------------------------------------------------ images


def test_every_weight_works():
    torch.manual_seed(0)
    network = FeatureNet()
    terms = {
        "rgb": losses.pixel_loss(PRED, TARGET),
        "gradient": losses.gradient_loss(PRED, TARGET),
        "imagenet": losses.perceptual_loss(network, PRED, TARGET),
    }
    assert torch.stack(list(terms.values())).unique().numel() == 3
    for name, term in terms.items():
        weights = ImageWeights(0, 0, 0)._replace(**{name: 3.0})
        found = image_loss(PRED, TARGET, network, weights)
        torch.testing.assert_close(found.total, 3 * term)
        assert [field for field in terms if getattr(found, field) is not None] == [name]
    whole = image_loss(PRED, TARGET, network, ImageWeights(1, 0.5, 2))
    torch.testing.assert_close(whole.total, terms["rgb"] + 0.5 * terms["gradient"] + 2 * terms["imagenet"])
    without = image_loss(PRED, TARGET)
    assert without.imagenet is None
    torch.testing.assert_close(without.total, terms["rgb"])


def test_squared_differences():
    torch.testing.assert_close(losses.pixel_loss(PRED, TARGET, mae=False), F.mse_loss(PRED, TARGET))
    ramp = torch.arange(5.0).expand(1, 1, 4, 5)
    assert losses.gradient_loss(ramp, torch.zeros_like(ramp), mae=False) == 2  # 2 along x, 0 along y: (4 + 0) / 2
    assert losses.gradient_loss(ramp + 7, ramp) == 0


def test_sobel_against_convolution():
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 4
    planes = PRED.flatten(0, 1).unsqueeze(1)
    for found, weights in zip(losses.sobel(PRED), (kernel, kernel.T), strict=True):
        torch.testing.assert_close(found, F.conv2d(planes, weights[None, None]).view(2, 3, 14, 14))


def test_the_feature_network_is_fixed():
    network = FeatureNet(batch_statistics=False).train()
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    before = network.bn1.running_mean.clone()
    pred = PRED.clone().requires_grad_()
    losses.perceptual_loss(network, pred, TARGET).backward()
    assert torch.equal(network.bn1.running_mean, before) and pred.grad.abs().sum() > 0
    published = FeatureNet()
    published.load_state_dict(network.state_dict())
    published.eval()
    assert published.training  # what the published numbers were made with
    assert not torch.equal(
        losses.perceptual_loss(published, PRED, TARGET), losses.perceptual_loss(network, PRED, TARGET)
    )
    assert not torch.equal(published.bn1.running_mean, before)


def test_feature_maps():
    shapes = {True: [(64, 8), (64, 4), (128, 2)], False: [(64, 8), (64, 8), (128, 4)]}
    for pool, expected in shapes.items():
        assert [features.shape[1:3] for features in FeatureNet(pool)(PRED)] == expected


def test_losses_are_float32_under_autocast():
    network = FeatureNet()
    with torch.autocast("cpu", torch.bfloat16):
        found = image_loss(PRED.bfloat16(), TARGET, network, ImageWeights(1, 1, 1))
        pose = losses.pose_loss(draw(2, 51).bfloat16(), draw(2, 51), draw(2, 51), draw(2, 51).abs())
    assert {term.dtype for term in (*found, pose)} == {torch.float32}


# ------------------------------------------------------------ poses


def test_pose_losses_agree_with_the_metric():
    pred, target, mean, std = draw(4, 51), draw(4, 51, seed=1), draw(4, 51, seed=2), draw(4, 51, seed=3).abs()
    found = encoder_decoder_oracles.scaled_mpjpe(pred, target, mean, std)
    pose = (pred * std + mean).view(4, 17, 3)
    torch.testing.assert_close(found, n_mpjpe(pose, target.view(4, 17, 3)) * 17 / 16, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(losses.restore_pose((target - mean) / std, mean, std), target.view(4, 17, 3))
    exact = (2 * target - mean) / std  # right but for the scale
    assert encoder_decoder_oracles.scaled_mpjpe(exact, target, mean, std).max() < 1e-5
    assert losses.pose_loss((target - mean) / std, target, mean, std) == 0


def test_the_root_that_never_moves():
    """Root-relative poses have a root of deviation 0: its target is 0, and nothing becomes NaN."""
    pred, target, mean, std = draw(4, 51), draw(4, 51, seed=1), draw(4, 51, seed=2), torch.ones(4, 51)
    for value in (target, mean, std):
        value[:, :3] = 0
    pred.requires_grad_()
    loss = losses.pose_loss(pred, target, mean, std)
    loss.backward()
    torch.testing.assert_close(loss, F.mse_loss(pred, target - mean).detach() * 1.0, atol=1e-6, rtol=1e-6)
    assert torch.isfinite(pred.grad).all()
    assert torch.equal(losses.restore_pose(pred.detach(), mean, std)[:, 0], torch.zeros(4, 3))


def test_a_pose_that_is_one_point_has_a_finite_error():
    zero = torch.zeros(2, 51, requires_grad=True)
    error = encoder_decoder_oracles.scaled_mpjpe(zero, draw(2, 51), torch.zeros(2, 51), torch.ones(2, 51))
    error.sum().backward()
    assert torch.isfinite(error).all() and torch.isfinite(zero.grad).all()


@pytest.mark.parametrize(("labelled", "rows"), [([1, 5], [0, 1, 3]), ([5], [1, 3]), ([7], [])])
def test_labels_of_some_subjects(labelled, rows):
    pred, target, subject = draw(4, 51), draw(4, 51, seed=1), torch.tensor([1, 5, 6, 5])
    still, unit = torch.zeros(4, 51), torch.ones(4, 51)
    found = encoder_decoder_oracles.subject_pose_loss(pred, target, still, unit, subject, torch.tensor(labelled))
    torch.testing.assert_close(found, F.mse_loss(pred[rows], target[rows]) if rows else torch.tensor(0.0))
