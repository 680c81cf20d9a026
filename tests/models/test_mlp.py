"""The fully connected lifter: released layout, shapes, initial weights, behaviour in training, refusals."""

import pytest
import torch
from torch.nn import functional as F

import models
from common.errors import InputError
from common.run import checkpoint
from models.layers import norm_relu_dropout, root_first


def seeded(*shape: int, seed: int = 0, scale: float = 0.2) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_sizes_and_layout_are_the_released_ones():
    model = models.create("mlp", stages=2)
    assert sum(p.numel() for p in model.parameters()) == 4_288_557
    state = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert len(state) == 37
    assert list(state)[:2] == ["w1.weight", "w1.bias"] and list(state)[-1] == "w2.bias"
    assert state["w1.weight"] == (1024, 32) and state["w2.weight"] == (45, 1024)
    assert state["linear_stages.1.w2.weight"] == (1024, 1024)
    assert state["linear_stages.1.batch_norm2.running_var"] == (1024,)


def test_initial_weights_are_kaiming_normal():
    model = models.create("mlp", stages=1)
    assert model.w1.weight.std().item() == pytest.approx((2 / 32) ** 0.5, rel=0.02)
    assert model.linear_stages[0].w2.weight.std().item() == pytest.approx((2 / 1024) ** 0.5, rel=0.02)
    assert torch.equal(model.batch_norm1.weight, torch.ones(1024))


@pytest.mark.parametrize("count", [1, 5])
def test_flat_and_single_poses(count):
    model, keypoints = models.create("mlp", width=32, stages=2).eval(), seeded(count, 16, 2)
    pose = model(keypoints)
    assert pose.shape == (count, 16, 3) and torch.equal(pose[:, 0], torch.zeros(count, 3))
    assert torch.equal(model(keypoints.flatten(1)), pose)


def test_other_skeletons():
    assert models.create("mlp", joints=17, width=32, stages=1).eval()(seeded(3, 17, 2)).shape == (3, 17, 3)


def test_root_first():
    joints = torch.arange(2 * 6.0).view(2, 6)
    assert root_first(joints)[1].tolist() == [[0, 0, 0], [6, 7, 8], [9, 10, 11]]


def test_no_activation_after_the_sum():
    """A stage adds to its input: with silent layers, it is its input."""
    stage = models.create("mlp", width=16, stages=1).linear_stages[0].train()
    torch.nn.init.constant_(stage.batch_norm2.weight, 0)
    torch.nn.init.constant_(stage.batch_norm2.bias, -1)
    x = seeded(6, 16)
    assert (x < 0).any() and torch.equal(stage(x), x)


def test_training_step_is_the_textbook_one():
    """Loss and gradients in float64 without dropout, against the plain operations."""
    model = models.create("mlp", width=24, stages=2, dropout=0.0).double().train()
    keypoints, target = seeded(12, 16, 2).double(), seeded(12, 16, 3, seed=1).double()
    loss = F.mse_loss(model(keypoints), target)
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    x = F.relu(model.batch_norm1(model.w1(keypoints.flatten(1))))
    for stage in model.linear_stages:
        y = F.relu(stage.batch_norm1(stage.w1(x)))
        x = x + F.relu(stage.batch_norm2(stage.w2(y)))
    expected = F.mse_loss(F.pad(model.w2(x), (3, 0)).view(12, 16, 3), target)
    expected.backward()
    torch.testing.assert_close(loss, expected)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, msg=name)


def test_dropout_is_in_training_only_and_takes_its_rate():
    model, keypoints = models.create("mlp", width=64, stages=1, dropout=0.5), seeded(8, 16, 2)
    assert not torch.equal(model(keypoints), model(keypoints))
    assert torch.equal(model.eval()(keypoints), model(keypoints))
    x = model.w1(keypoints.flatten(1))
    zeros = (norm_relu_dropout(x, model.train().batch_norm1, model.dropout, True) == 0).float().mean()
    assert 0.6 < zeros < 0.9  # half of the half that the ReLU leaves


def test_bfloat16_stays_near_float32():
    model, keypoints = models.create("mlp", width=128, stages=2).eval(), seeded(32, 16, 2)
    expected = model(keypoints)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(keypoints)
        loss = model.train()(keypoints).square().mean()
    loss.backward()
    assert found.dtype == loss.dtype == torch.float32
    assert (found - expected).abs().mean() < 0.03 * expected.abs().mean()


def test_a_checkpoint_with_other_stages_is_refused_in_one_line():
    with pytest.raises(InputError) as caught:
        checkpoint.load_weights(
            models.create("mlp", width=16, stages=4), models.create("mlp", width=16, stages=2).state_dict(), "file.pth"
        )
    assert "\n" not in str(caught.value)
    assert "file.pth does not fit MLP" in str(caught.value) and "linear_stages.2.w1.weight" in str(caught.value)
