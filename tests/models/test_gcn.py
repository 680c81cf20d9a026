"""SemGCN lifter: released layout, the published function and its gradients, dropout, autocast, refusals."""

import pytest
import torch

import models
from benchmarks.published import Published
from common.errors import InputError
from common.run import batch_norm, checkpoint
from common.skeleton import H36M_17


def seeded(*shape: int, seed: int = 0, scale: float = 0.3, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).to(dtype)


@torch.no_grad()
def trained(model: torch.nn.Module) -> torch.nn.Module:
    """Seeded weights at which edges, norms and biases all matter."""
    for index, (name, tensor) in enumerate(model.state_dict().items()):
        if tensor.is_floating_point():
            values = seeded(*tensor.shape, seed=index)
            tensor.add_(values.abs() if name.endswith("running_var") else values / max(tensor.shape[:-1] or [1]) ** 0.5)
    return model


def test_sizes_and_layout_are_the_released_ones():
    model = models.create("gcn")
    assert sum(p.numel() for p in model.parameters()) == 267_343
    state = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert len(state) == 75
    assert list(state)[0] == "gconv_input.0.gconv.W" and list(state)[-1] == "gconv_output.bias"
    assert state["gconv_input.0.gconv.W"] == (2, 2, 128) and state["gconv_output.W"] == (2, 128, 3)
    assert state["gconv_layers.3.gconv2.gconv.e"] == (1, 46)
    assert state["gconv_layers.3.gconv2.bn.running_mean"] == (128,)


@pytest.mark.parametrize("training", [True, False])
def test_it_is_the_published_layouts_function_with_its_gradients(training):
    ours = trained(models.create("gcn", hidden=16, stages=2, dropout=0).double()).train(training)
    theirs = Published("gcn", hidden=16, stages=2, dropout=0).double().train(training)
    theirs.network.load_state_dict(ours.state_dict())
    keypoints, weights = seeded(7, 16, 2, dtype=torch.float64), seeded(7, 16, 3, seed=1, dtype=torch.float64)
    results = []
    for model in (ours, theirs):
        output = model(keypoints)
        (output * weights).sum().backward()
        results.append([output, *(p.grad for p in model.parameters()), *model.buffers()])
    names = ["output", *dict(ours.named_parameters())]
    ours_dict, theirs_dict = (dict(zip(names, values, strict=False)) for values in results)
    for name in names:
        torch.testing.assert_close(ours_dict[name], theirs_dict[name], rtol=1e-9, atol=1e-10, msg=name)
    for name, value in theirs.network.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-9, atol=1e-10, msg=name)


@pytest.mark.parametrize("count", [1, 5])
def test_flat_and_single_poses(count):
    model, keypoints = trained(models.create("gcn", hidden=16)).eval(), seeded(count, 16, 2)
    pose = model(keypoints)
    assert pose.shape == (count, 16, 3)
    assert torch.equal(model(keypoints.flatten(1)), pose)
    torch.testing.assert_close(model(seeded(5, 16, 2)[:count]), pose)


def test_the_root_is_free():
    assert models.create("gcn", hidden=16).eval()(seeded(3, 16, 2))[:, 0].abs().min() > 0


def test_other_skeletons():
    assert models.create("gcn", skeleton=H36M_17, hidden=8, stages=1)(seeded(2, 17, 2)).shape == (2, 17, 3)


@pytest.mark.parametrize("shape", [(3, 17, 2), (3, 34), (3, 16, 3), (32,)])
def test_other_inputs_are_refused(shape):
    with pytest.raises(InputError, match=r"found keypoints of shape .*expected \(poses, 16, 2\)"):
        models.create("gcn", hidden=8)(torch.zeros(shape))


@pytest.mark.parametrize("rate", [0.05, 0.25])
def test_dropout_zeroes_its_share_in_training_only(rate):
    torch.manual_seed(0)
    layer = models.create("gcn", hidden=64, dropout=rate).gconv_input[0].train()
    torch.nn.init.constant_(layer.bn.bias, 10.0)  # no zero comes from the ReLU
    y = layer(seeded(16, 64, 2))
    assert (y == 0).float().mean().item() == pytest.approx(rate, abs=0.01)
    assert y[y > 0].mean().item() == pytest.approx(10 / (1 - rate), rel=0.02)
    assert (layer.eval()(seeded(16, 64, 2)) > 0).all()


def test_without_dropout_training_is_not_random():
    model, keypoints = models.create("gcn", hidden=8, dropout=0).train(), seeded(4, 16, 2)
    assert torch.equal(model(keypoints), model(keypoints))


def test_autocast_stays_near_float32():
    model, keypoints = trained(models.create("gcn", hidden=32)).eval(), seeded(6, 16, 2)
    plain = model(keypoints)
    with torch.autocast("cpu", torch.bfloat16):
        low = model(keypoints)
    assert low.dtype == torch.float32
    assert not torch.equal(low, plain)
    assert (low - plain).abs().max() < 0.05 * plain.abs().max()


def test_synchronised_norms_give_the_same_on_one_process():
    model, keypoints = trained(models.create("gcn", hidden=16, dropout=0)).train(), seeded(6, 16, 2)
    expected = model(keypoints)
    batch_norm.synchronise(model)
    assert isinstance(model.gconv_input[0].bn, batch_norm.SyncBatchNorm)
    torch.testing.assert_close(model(keypoints), expected)


@pytest.mark.parametrize(("name", "sizes"), [("gcn", {"stages": 3}), ("gcn", {"hidden": 64}), ("stgcn", {})])
def test_other_checkpoints_are_refused_in_one_line(name, sizes):
    with pytest.raises(InputError, match=r"^a\.tar does not fit GCN: of its \d+ weights, [^\n]*$"):
        checkpoint.load_weights(models.create("gcn"), models.create(name, **sizes).state_dict(), "a.tar")
