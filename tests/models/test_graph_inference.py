"""The folded student, which scores, against the student that trains."""

import pytest
import torch

import models
from models import graph_inference, student
from models.graph_inference import can_fold, fold, run_layer
from tests.models.test_networks import fill, seeded


@pytest.fixture(scope="module")
def network():
    return fill(models.create("student", hidden=12, blocks=2)).eval()


@pytest.fixture(autouse=True)
def fold_few_poses(monkeypatch):
    monkeypatch.setattr(graph_inference, "FEWEST", 0)


@pytest.mark.parametrize("poses", [0, 1, 3, 11])
def test_same_poses_as_the_plain_network_chunk_after_chunk(monkeypatch, poses):
    monkeypatch.setattr(student, "CHUNK", 4)
    network = fill(models.create("student", hidden=12, blocks=2)).eval().double()
    keypoints = seeded(poses, 17, 2).double()
    assert not can_fold(network, keypoints)
    plain = network(keypoints)
    with torch.no_grad():
        assert can_fold(network, keypoints)
        folded = network(keypoints)
    for ours, theirs in zip(folded, plain, strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_every_layer_is_the_plain_layer(network):
    for layer in (module for module in network.modules() if isinstance(module, student.GraphLayer)):
        x = seeded(17, 5, layer.gconv.W.shape[1])
        kept = x.clone()
        torch.testing.assert_close(run_layer(layer.fold(), x), layer(x), rtol=1e-4, atol=1e-5)
        assert torch.equal(x, kept)


@torch.no_grad()
def test_constants_follow_the_weights(network):
    model, keypoints = models.create("student", hidden=12, blocks=2).eval(), seeded(4, 17, 2)
    before = model(keypoints).pose
    model.load_state_dict(network.state_dict())
    assert not torch.allclose(model(keypoints).pose, before)
    torch.testing.assert_close(model(keypoints).pose, network(keypoints).pose)


@torch.no_grad()
def test_training_autocast_compilation_and_few_poses_take_the_plain_network(network, monkeypatch):
    x = seeded(4, 17, 2)
    assert can_fold(network, x) and not can_fold(models.create("student", hidden=12).train(), x)
    assert not can_fold(network, x.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not can_fold(network, x)
    monkeypatch.setattr(graph_inference, "FEWEST", 5)
    assert not can_fold(network, x) and can_fold(network, seeded(5, 17, 2))
    monkeypatch.setattr(graph_inference, "FEWEST", 0)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not can_fold(network, x)


@torch.no_grad()
def test_ties_and_an_odd_node(network):
    """Equal nodes of a pair, and the last of 17 nodes, which is in no pair."""
    layer = network.gconv_layers[0].gconv1
    x = seeded(17, 3, 12)
    x[1], x[3] = x[0], x[2]
    folded = fold(layer.gconv, layer.bn, layer.non_local.non_local)
    torch.testing.assert_close(run_layer(folded, x), layer(x), rtol=1e-4, atol=1e-5)
    moved = x.clone()
    moved[-1] += 1
    touched = (run_layer(folded, moved) != run_layer(folded, x)).any(-1).any(-1)
    assert torch.equal(touched, layer.gconv.attention()[:, -1] > 0)
