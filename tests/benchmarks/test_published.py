"""The networks in the published layout: the functions of `models` and their gradients, from the same weights."""

import pytest
import torch
from torch.nn import functional as F

import models
from benchmarks.published import Published

SIZES = {
    "mlp": {"width": 24, "stages": 2},
    "videopose": {"channels": 24, "stages": 2},
    "gcn": {"hidden": 12, "stages": 2},
    "stgcn": {},
    "gan_lifter": {"joints": 16, "width": 24, "stages": 2},
}


@torch.no_grad()
def both(name: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Both with the same lively weights, float64, without dropout."""
    ours, theirs = (create(name, dropout=0.0, **SIZES[name]) for create in (models.create, Published))
    for i, (key, value) in enumerate(ours.state_dict().items()):
        uniform = 2 * torch.rand(value.shape, generator=torch.Generator().manual_seed(i)) - 1
        if key.endswith("running_var") or (value.dim() == 1 and key.endswith("weight")):
            value.copy_(1 + 0.5 * uniform)
        elif value.dim() > 1 and not key.endswith(".e"):
            value.copy_(uniform / value.shape[1] ** 0.5)
        elif value.is_floating_point():
            value.copy_(0.3 * uniform)
    theirs.network.load_state_dict(ours.state_dict())
    return ours.double(), theirs.double()


@pytest.mark.parametrize("name", sorted(SIZES))
def test_same_function_and_gradients_in_training_and_evaluation(name):
    ours, theirs = both(name)
    generator = torch.Generator().manual_seed(0)
    keypoints = 0.3 * torch.randn(6, 16, 2, generator=generator, dtype=torch.float64)
    target = torch.randn(6, *(16,) if name == "gan_lifter" else (16, 3), generator=generator, dtype=torch.float64)
    torch.testing.assert_close(ours.eval()(keypoints), theirs.eval()(keypoints))
    losses = [F.mse_loss(model.train()(keypoints), target) for model in (ours, theirs)]
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    gradients = dict(theirs.network.named_parameters())
    for key, parameter in ours.named_parameters():
        expected = gradients[key].grad
        # The graphs' fractions are float32 numbers in both.
        tolerance = {"rtol": 1e-6, "atol": 1e-7 * max(1, expected.abs().max().item())}
        torch.testing.assert_close(parameter.grad, expected, **tolerance, msg=key)
    for key, value in theirs.network.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value, msg=key)
