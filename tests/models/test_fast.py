"""models.fast: each hand-written form against its plain one, values and gradients, and the door that shuts them off."""

import importlib

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import models
from common.run.batch_norm import SyncBatchNorm
from common.skeleton import H36M_17, adjacency
from models import fast
from models.graph import GraphLayer, SemanticGraphConv
from models.layers import dropout, norm_relu_dropout
from models.student import NODE_ORDER

fused = importlib.import_module("models.fast.norm_relu_dropout")  # the package has the function by that name


@pytest.fixture
def small_blocks(monkeypatch):
    """Several blocks of rows, the last one short, for inputs of a test's size."""
    monkeypatch.setattr(fused, "BLOCK", 6 * 10)


def norm_of(channels: int, dtype=torch.float64) -> nn.BatchNorm1d:
    norm = nn.BatchNorm1d(channels, momentum=0.3, eps=1e-3).to(dtype)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(-1, 2, channels))  # also negative, and next to nothing
        norm.bias.copy_(torch.linspace(0.5, -0.5, channels))
    return norm


def rows(count: int, channels: int, dtype=torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return (2 * torch.randn(count, channels, generator=generator) + 3).to(dtype).requires_grad_()


def plain(x: torch.Tensor, norm: nn.Module, kept: torch.Tensor, p: float) -> torch.Tensor:
    return F.relu(norm(x)) * kept / (1 - p)


@pytest.mark.parametrize("p", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("count", [2, 6, 33])
def test_values_statistics_and_gradients_are_those_of_the_plain_operations(small_blocks, count, p):
    norm, other = norm_of(10), norm_of(10)
    x, copy = rows(count, 10), rows(count, 10)
    torch.manual_seed(1)
    found = norm_relu_dropout(x, norm, p, training=True)
    expected = plain(copy, other, (found != 0).double(), p)  # where the ReLU gives 0 the mask does not matter
    torch.testing.assert_close(found, expected)
    assert p == 0 or (found != 0).sum() < (F.relu(norm_of(10)(copy)) != 0).sum()
    weights = torch.arange(found.numel()).view_as(found).double().sin()
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(x.grad, copy.grad)
    torch.testing.assert_close(norm.weight.grad, other.weight.grad)
    torch.testing.assert_close(norm.bias.grad, other.bias.grad)
    for name, buffer in norm.named_buffers():
        torch.testing.assert_close(buffer, dict(other.named_buffers())[name], msg=name)


@pytest.mark.parametrize("p", [0.0, 0.25, 0.1])
def test_bfloat16_rounds_once(small_blocks, p):
    """As under autocast: norm, sums and statistics are those of float64 on the rounded input, up to bfloat16's eight
    bits in what is bfloat16 itself.
    """
    norm, other = norm_of(10, torch.float32), norm_of(10)
    x = rows(33, 10).detach().bfloat16().requires_grad_()
    copy = x.detach().double().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = norm_relu_dropout(x, norm, p, training=True)
    assert found.dtype == torch.bfloat16 and type(found.grad_fn).__name__ == "_NormReluDropoutBackward"
    expected = plain(copy, other, (found != 0).double(), p)
    torch.testing.assert_close(found.double(), expected, rtol=2**-8, atol=1e-6)
    weights = torch.arange(found.numel()).view_as(found).double().sin().bfloat16()
    found.backward(weights)
    expected.backward(weights.double())
    torch.testing.assert_close(x.grad.double(), copy.grad, rtol=2**-7, atol=2**-7 * copy.grad.abs().max().item())
    for value, exact in zip(norm.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(value.grad.double(), exact.grad, rtol=1e-4, atol=1e-4)
    for buffer, exact in zip(norm.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(buffer.to(exact.dtype), exact)


@pytest.mark.parametrize("name", ["mlp", "videopose", "gcn", "stgcn"])
def test_lifters_learn_under_autocast_what_they_learn_without(name):
    """The gradient of every large weight is float32, about as long, and points about the same way."""
    torch.manual_seed(0)
    model = models.create(name, dropout=0.0).train()
    keypoints, pose = 0.3 * torch.randn(64, 16, 2), 0.3 * torch.randn(64, 16, 3)

    def gradients(low: bool) -> dict[str, torch.Tensor]:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            F.mse_loss(model(keypoints), pose).backward()
        return {n: p.grad for n, p in model.named_parameters() if p.grad is not None and p.numel() > 4096}

    expected, found = gradients(False), gradients(True)
    assert found.keys() == expected.keys() and len(found) > 3
    for weight, gradient in expected.items():
        assert found[weight].dtype == torch.float32
        if gradient.abs().max() > 1e-9:
            assert F.cosine_similarity(found[weight].flatten(), gradient.flatten(), 0) > 0.95, weight
            assert found[weight].norm().item() == pytest.approx(gradient.norm().item(), rel=0.1), weight


def test_gradients_agree_with_finite_differences(small_blocks):
    norm = norm_of(10)

    def function(x, weight, bias):
        torch.manual_seed(3)  # the same mask each time
        return fused._NormReluDropout.apply(
            x, weight, bias, norm.running_mean.clone(), norm.running_var.clone(), 0.1, 1e-3, 0.25
        )

    assert torch.autograd.gradcheck(function, (rows(9, 10), norm.weight, norm.bias))


def test_gradients_keep_their_precision_far_from_the_origin():
    """float32 with a mean of a hundred standard deviations: sums of products would lose the gradient of the weight."""
    norm, other = norm_of(8, torch.float32), norm_of(8)
    x = (rows(512, 8).detach().float() + 200).requires_grad_()
    weights = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
    (norm_relu_dropout(x, norm, 0.0, training=True) * weights).sum().backward()
    (F.relu(other(x.detach().double())) * weights).sum().backward()
    torch.testing.assert_close(norm.weight.grad.double(), other.weight.grad, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("p", [0.05, 0.1, 0.25, 0.5, 3 / 256, 0.7])
def test_dropout_keeps_its_rate_and_the_mean(p):
    norm = nn.BatchNorm1d(64)
    nn.init.zeros_(norm.weight)
    nn.init.ones_(norm.bias)  # ones go into the dropout
    torch.manual_seed(0)
    y = norm_relu_dropout(torch.randn(5000, 64), norm, p, training=True)
    zeros = (y == 0).double()
    assert abs(zeros.mean() - p) < 4 * (p * (1 - p) / y.numel()) ** 0.5
    assert abs(y.double().mean() - 1) < 4 * (p / (1 - p) / y.numel()) ** 0.5
    torch.testing.assert_close(y.max().item(), 1 / (1 - p), rtol=1e-4, atol=0)
    for axis in (0, 1):  # no row or column of its own, neighbours independent
        spread = zeros.mean(axis).std() / (p * (1 - p) / y.shape[axis]) ** 0.5
        assert 0.7 < spread < 1.35
        a, b = zeros.narrow(axis, 0, y.shape[axis] - 1) - p, zeros.narrow(axis, 1, y.shape[axis] - 1) - p
        assert abs((a * b).mean()) < 5 * p * (1 - p) / y.numel() ** 0.5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.05, 0.1, 0.5])
def test_dropout_alone(monkeypatch, p, dtype):
    """Zeros at their rate, the rest and its gradient scaled; in evaluation, without a rate, and with all of one torch's
    own.
    """
    torch.manual_seed(0)
    x = torch.randn(300, 501, dtype=dtype).requires_grad_()
    y = dropout(x, p, training=True)
    kept, precision = y != 0, 2e-5 + 2 * torch.finfo(dtype).eps
    assert y.dtype == dtype and abs((~kept).double().mean() - p) < 5 * (p * (1 - p) / y.numel()) ** 0.5
    torch.testing.assert_close(y, x * kept / (1 - p), rtol=precision, atol=0)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, kept / torch.tensor(1 - p, dtype=dtype), rtol=precision, atol=0)
    state = torch.get_rng_state()
    assert torch.equal(dropout(x, p, False), x) and torch.equal(dropout(x, 0.0, True), x)
    assert torch.equal(torch.get_rng_state(), state) and not dropout(x, 1.0, True).any()
    monkeypatch.setattr(fast, "enabled", False)
    torch.manual_seed(1)
    plain = dropout(x, p, True)
    torch.manual_seed(1)
    assert torch.equal(plain, F.dropout(x, p))


def test_draws_come_from_the_default_generator():
    x, norm = rows(40, 10).detach(), norm_of(10)
    torch.manual_seed(5)
    first = norm_relu_dropout(x, norm, 0.1, training=True)
    after = torch.get_rng_state()
    second = norm_relu_dropout(x, norm, 0.1, training=True)
    torch.manual_seed(5)
    assert torch.equal(norm_relu_dropout(x, norm, 0.1, training=True), first)
    assert torch.equal(torch.get_rng_state(), after) and not torch.equal(first, second)


@pytest.mark.parametrize("grad", [True, False])
def test_evaluation_is_the_plain_norm_and_draws_nothing(grad):
    norm, x = norm_of(10, torch.float32).eval(), rows(7, 10, torch.float32)
    before, state = x.detach().clone(), torch.get_rng_state()
    with torch.set_grad_enabled(grad):
        found = norm_relu_dropout(x, norm, 0.25, training=False)
        torch.testing.assert_close(found, F.relu(norm(x)))
    assert found.requires_grad == grad
    assert torch.equal(x, before) and torch.equal(torch.get_rng_state(), state)


def test_other_cases_are_torchs_own():
    """Norms synchronised or frozen, channels apart, autocast in evaluation: right values, by the plain operations."""
    x = rows(12, 10, torch.float32).detach()
    frozen = norm_of(10, torch.float32).eval()
    torch.testing.assert_close(norm_relu_dropout(x, frozen, 0.0, training=True), F.relu(frozen(x)))
    assert frozen.num_batches_tracked == 0
    sync = SyncBatchNorm(10)
    torch.testing.assert_close(
        norm_relu_dropout(x, sync, 0.0, training=True), F.relu(F.batch_norm(x, None, None, training=True))
    )
    assert sync.num_batches_tracked == 1
    norm = norm_of(10, torch.float32)
    torch.testing.assert_close(
        norm_relu_dropout(x.t().contiguous().t(), norm, 0.0, training=True),
        norm_relu_dropout(x, norm_of(10, torch.float32), 0.0, training=True),
    )
    with torch.autocast("cpu", torch.bfloat16):
        assert norm_relu_dropout(x.bfloat16(), norm.eval(), 0.25, training=False).dtype == torch.bfloat16


def test_one_row_is_refused_as_by_batch_norm():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        norm_relu_dropout(torch.randn(1, 10), nn.BatchNorm1d(10), 0.25, training=True)


def test_numbers_gone_bad_stay_bad():
    """A NaN must reach the loss, where it is reported, and not end in a ReLU or a mask."""
    x = torch.randn(8, 10)
    x[3, 4] = torch.nan
    y = norm_relu_dropout(x, nn.BatchNorm1d(10), 0.0, training=True)
    assert y[:, 4].isnan().all() and not y[:, 3].isnan().any()


# ------------------------------------------------------------ the door, and whole networks


def with_gradients(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """The output for x and the gradients of x and of every parameter, of a sum in which every number counts."""
    model.zero_grad()
    x = x.clone().requires_grad_()
    y = model(x)
    y = y.pose if hasattr(y, "pose") else y
    (y * torch.arange(y.numel()).view_as(y).sin()).sum().backward()
    return [y.detach(), x.grad, *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


def both(monkeypatch, model: nn.Module, x: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """`with_gradients` by the fast forms and by the plain ones, from the same state."""
    state = {name: value.clone() for name, value in model.state_dict().items()}
    found = with_gradients(model, x)
    moved = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    monkeypatch.setattr(fast, "enabled", False)
    expected = with_gradients(model, x)
    for name, value in model.state_dict().items():  # running statistics
        torch.testing.assert_close(moved[name], value, msg=name)
    return found, expected


def lively(model: nn.Module) -> nn.Module:
    """Seeded weights in float64 at which no branch is silent, in training mode."""
    for index, value in enumerate(model.double().state_dict().values()):
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(index), dtype=value.dtype)
            value.add_(0.3 * noise.abs() if value.dim() < 2 else 0.3 * noise / value.shape[-1] ** 0.5)
    return model.train()


def assert_pairs(found, expected) -> None:
    assert len(found) == len(expected) > 2
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10 * max(1, theirs.abs().max().item()))


@pytest.mark.parametrize("outside", [1, 6])
def test_convolution(monkeypatch, outside):
    layer = lively(SemanticGraphConv(6, outside, adjacency(H36M_17), NODE_ORDER))
    x = torch.randn(17, 3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert_pairs(*both(monkeypatch, layer, x))


@pytest.mark.parametrize("tied", [False, True])
def test_convolution_with_non_local_block(monkeypatch, tied):
    """Also where the two nodes of a pair are equal: the gradient of their maximum goes to the first in both forms."""
    layer = lively(GraphLayer(SemanticGraphConv(8, 8, adjacency(H36M_17), NODE_ORDER), non_local=True))
    x = torch.randn(17, 3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if tied:
        x[1], x[3] = x[0], x[2]
    assert_pairs(*both(monkeypatch, layer, x))


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("mlp", {"width": 16, "stages": 1, "dropout": 0.0}),
        ("videopose", {"channels": 16, "stages": 1, "dropout": 0.0}),
        ("gcn", {"hidden": 8, "stages": 1, "dropout": 0.0}),
        ("stgcn", {"dropout": 0.0}),
        ("student", {"hidden": 8, "blocks": 1}),
    ],
)
def test_networks(monkeypatch, name, sizes):
    model = lively(models.create(name, **sizes))
    joints = 17 if name == "student" else 16
    x = 0.3 * torch.randn(7, joints, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert_pairs(*both(monkeypatch, model, x))


def test_the_door_shuts_all_of_them(monkeypatch):
    def refuse(*_):
        raise AssertionError("a fast form was used")

    for name in ("convolve", "convolve_and_attend", "dropout_factors", "norm_relu_dropout"):
        monkeypatch.setattr(fast, name, refuse)
    student, x = models.create("student", hidden=8, blocks=1), torch.randn(3, 17, 2)
    with pytest.raises(AssertionError, match="fast form"):
        student(x)
    monkeypatch.setattr(fast, "enabled", False)
    assert student(x).pose.shape == (3, 17, 3)
