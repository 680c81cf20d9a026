"""The textbook lifters are a second opinion: same functions, same gradients, from the same state dicts."""

import pytest
import torch
from torch.nn import functional as F

import models
from benchmarks.textbook_lifters import TextbookGCN, TextbookMLP, TextbookSTGCN, TextbookVideoPose

LIFTERS = {
    "mlp": (TextbookMLP, {"width": 24, "stages": 2}),
    "videopose": (TextbookVideoPose, {"channels": 24, "stages": 2}),
    "gcn": (TextbookGCN, {"hidden": 12, "stages": 2}),
    "stgcn": (TextbookSTGCN, {}),
}


@torch.no_grad()
def both(name: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Ours and the textbook's with the same lively weights, float64, without dropout."""
    textbook, sizes = LIFTERS[name]
    ours, theirs = models.create(name, dropout=0.0, **sizes), textbook(dropout=0.0, **sizes)
    for i, (key, value) in enumerate(ours.state_dict().items()):
        uniform = 2 * torch.rand(value.shape, generator=torch.Generator().manual_seed(i)) - 1
        if key.endswith("running_var") or (value.dim() == 1 and key.endswith("weight")):
            value.copy_(1 + 0.5 * uniform)
        elif value.dim() > 1 and not key.endswith(".e"):
            value.copy_(uniform / value.shape[1] ** 0.5)
        elif value.is_floating_point():
            value.copy_(0.3 * uniform)
    theirs.load_state_dict(ours.state_dict())
    return ours.double(), theirs.double()


@pytest.mark.parametrize("name", sorted(LIFTERS))
def test_same_function_and_gradients_in_training_and_evaluation(name):
    ours, theirs = both(name)
    generator = torch.Generator().manual_seed(0)
    keypoints = 0.3 * torch.randn(6, 16, 2, generator=generator, dtype=torch.float64)
    target = torch.randn(6, 16, 3, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(ours.eval()(keypoints), theirs.eval()(keypoints))
    losses = [F.mse_loss(model.train()(keypoints), target) for model in (ours, theirs)]
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    gradients = dict(theirs.named_parameters())
    for key, parameter in ours.named_parameters():
        expected = gradients[key].grad
        found = torch.zeros_like(expected) if parameter.grad is None else parameter.grad
        # The graphs' fractions are float32 numbers in both.
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7 * max(1, expected.abs().max().item()), msg=key)
    buffers = dict(theirs.named_buffers())
    for key in theirs.state_dict():
        if key in buffers:
            torch.testing.assert_close(dict(ours.named_buffers())[key], buffers[key], msg=key)
