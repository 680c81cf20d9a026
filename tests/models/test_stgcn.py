"""ST-GCN lifter: its graphs, released layout, the published function and its gradients, dropout, autocast, refusals."""

import pytest
import torch

import models
from benchmarks.published import Published, partitioned_conv
from common.errors import InputError
from common.run import batch_norm, checkpoint
from models.graph import PartitionedConv, distance_to_centre, normalised_adjacency, partitions, reordered
from models.stgcn import BODY, LIMBS, ORDER, to_joints, to_limbs

GRAPHS = pytest.mark.parametrize("graph", [BODY, LIMBS], ids=["body", "limbs"])


def exact(model: torch.nn.Module) -> torch.nn.Module:
    """In float64, with the sums of graph weights taken in float64, too."""
    for layer in model.double().modules():
        if isinstance(layer, PartitionedConv):
            parts = zip(layer.shares.split(layer.counts, 1), layer.sums.split(layer.counts), strict=True)
            layer.ones = torch.stack([(share @ part).sum(1) for share, part in parts], 1) @ layer.mixtures
    return model


def seeded(*shape: int, seed: int = 0, scale: float = 0.3, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).to(dtype)


@torch.no_grad()
def trained(model: torch.nn.Module) -> torch.nn.Module:
    """Seeded weights at which no branch is silent."""
    for index, (name, tensor) in enumerate(model.state_dict().items()):
        if tensor.is_floating_point():
            values = seeded(*tensor.shape, seed=index)
            tensor.add_(values.abs() if name.endswith("running_var") else values / max(tensor.shape[1:] or [1]) ** 0.5)
    return model


@pytest.fixture(scope="module")
def network():
    return trained(models.create("stgcn")).eval()


# ------------------------------------------------------------ graphs


@GRAPHS
def test_the_partitions_are_the_normalised_adjacency(graph):
    whole, parts = normalised_adjacency(graph), partitions(graph)
    assert parts.shape == (4, graph.size, graph.size)
    assert torch.equal(parts.sum(0), whole)
    assert ((parts > 0).sum(0) <= 1).all()  # no edge is of two kinds
    torch.testing.assert_close(whole.sum(0), torch.ones(graph.size))
    assert torch.equal(whole > 0, (whole > 0).t())


@GRAPHS
def test_the_kinds_of_neighbours(graph):
    distance, (mine, farther, nearer, partner) = distance_to_centre(graph), partitions(graph) > 0
    assert torch.equal(mine, torch.eye(graph.size, dtype=torch.bool))
    sources, targets = farther.nonzero(as_tuple=True)
    assert (distance[sources] == distance[targets] + 1).all()
    assert torch.equal(nearer, farther.t())
    assert farther.sum() == len(graph.links)
    assert partner.nonzero().tolist() == sorted([*map(list, graph.symmetric), *([b, a] for a, b in graph.symmetric)])


def test_the_published_distances():
    assert distance_to_centre(BODY).tolist() == [1, 2, 3, 4, 2, 3, 4, 0, 1, 2, 3, 2, 3, 4, 2, 3, 4]
    assert distance_to_centre(LIMBS).tolist() == [1, 1, 1, 1, 0]


def test_the_columns_of_the_pooled_graph():
    whole = normalised_adjacency(LIMBS)
    torch.testing.assert_close(whole[:, 0], torch.tensor([1 / 3, 1 / 3, 0, 0, 1 / 3]))
    torch.testing.assert_close(whole[:, 4], torch.full((5,), 0.2))


def test_limbs_are_maxima_of_their_joints_and_go_back_to_them():
    groups = ((11, 12, 13), (14, 15, 16), (4, 5, 6), (1, 2, 3), (0, 7, 8, 9, 10))  # in the order of LIMBS
    joints = seeded(17, 2, 3)
    found = to_limbs(joints[list(ORDER)])
    assert torch.equal(found, torch.stack([joints[list(group)].amax(0) for group in groups]))
    back = to_joints(torch.arange(5.0).view(5, 1, 1)).flatten().tolist()
    assert back == [next(i for i, group in enumerate(groups) if joint in group) for joint in ORDER]


def test_a_graph_in_another_order_is_the_same_graph():
    order = list(ORDER)
    assert sorted(order) == list(range(17)) and order != sorted(order)
    assert torch.equal(partitions(reordered(BODY, order)), partitions(BODY)[:, order][:, :, order])


# ------------------------------------------------------------ layers and network


@GRAPHS
def test_partitioned_conv_is_the_sum_over_kinds_and_sources(graph):
    layer = exact(PartitionedConv(6, 5, graph))
    x = seeded(graph.size, 3, 6, dtype=torch.float64).requires_grad_()
    weights = seeded(graph.size, 3, 5, seed=1, dtype=torch.float64)
    outputs = (layer(x), partitioned_conv(layer, x.permute(1, 2, 0).unsqueeze(2)).squeeze(2).permute(2, 0, 1))
    torch.testing.assert_close(*outputs)
    grads = [torch.autograd.grad((y * weights).sum(), [x, *layer.parameters()]) for y in outputs]
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs)


@GRAPHS
def test_partitioned_conv_passes_the_gradient_check(graph):
    layer = PartitionedConv(2, 3, graph).double()
    x = seeded(graph.size, 2, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (x, *layer.parameters()), atol=1e-6)


def test_sizes_and_layout_are_the_released_ones(network):
    assert sum(p.numel() for p in network.parameters()) == 3_627_847
    state = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert len(state) == 118 and all(name.startswith("stgcn.") for name in state)
    assert list(state)[0] == "stgcn.data_bn.weight" and list(state)[-1] == "stgcn.fcn.1.bias"
    assert state["stgcn.st_gcn_networks.0.gcn.conv.weight"] == (512, 2, 1, 1)
    assert state["stgcn.st_gcn_networks.2.residual.1.running_var"] == (256,)
    assert state["stgcn.st_gcn_pool.1.tcn.4.running_mean"] == (512,)
    assert state["stgcn.non_local.W.0.weight"] == (512, 256, 1, 1)
    assert "stgcn.st_gcn_networks.1.residual.0.weight" not in state


def test_the_published_eps_of_the_input_norm(network):
    assert network.stgcn.data_bn.eps == 0.1 and network.stgcn.conv4[1].eps == 1e-5


@pytest.mark.parametrize("training", [True, False])
def test_it_is_the_published_layouts_function_with_its_gradients(network, training):
    ours = exact(models.create("stgcn", dropout=0)).train(training)
    published = Published("stgcn", dropout=0).double().train(training)
    for model in (ours, published.network):
        model.load_state_dict(network.state_dict())
    keypoints, weights = seeded(4, 16, 2, dtype=torch.float64), seeded(4, 16, 3, seed=1, dtype=torch.float64)
    outputs = [model(keypoints) for model in (ours, published)]
    torch.testing.assert_close(*outputs)
    for output in outputs:
        (output * weights).sum().backward()
    largest = max(p.grad.abs().max().item() for p in published.network.parameters())
    theirs = dict(published.network.named_parameters())
    for name, a in ours.named_parameters():
        b = theirs[name]
        if name == "stgcn.non_local.phi.bias":  # the softmax does not see it
            assert a.grad.abs().max() < 1e-9 and b.grad.abs().max() < 1e-9
        else:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-7, atol=1e-10 * largest, msg=name)
    for name, value in published.network.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-9, atol=1e-10, msg=name)


@pytest.mark.parametrize("count", [1, 3])
def test_flat_and_single_poses(network, count):
    keypoints = seeded(3, 16, 2)
    with torch.no_grad():
        pose = network(keypoints[:count])
        assert pose.shape == (count, 16, 3)
        assert torch.equal(network(keypoints[:count].flatten(1)), pose)
        torch.testing.assert_close(pose, network(keypoints)[:count], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 17, 2), (3, 34), (3, 16, 3)])
def test_other_inputs_are_refused(network, shape):
    with pytest.raises(InputError, match=r"found keypoints of shape .*expected \(poses, 16, 2\)"):
        network(torch.zeros(shape))


def test_dropout_rates():
    built_in = models.create("stgcn").stgcn
    assert [block.dropout for block in (*built_in.st_gcn_networks, *built_in.st_gcn_pool)] == [0.05] * 5
    assert (built_in.rate4, built_in.rate2, built_in.rate_out) == (0.25, 0.1, 0.1)
    given = models.create("stgcn", dropout=0.3).stgcn
    assert [block.dropout for block in (*given.st_gcn_networks, *given.st_gcn_pool)] == [0.3] * 5
    assert (given.rate4, given.rate2, given.rate_out) == (0.3, 0.3, 0.3)


def test_dropout_is_random_in_training_only(network):
    keypoints = seeded(3, 16, 2)
    for rate, random in ((-1, True), (0.1, True), (0, False)):
        model = models.create("stgcn", dropout=rate).train()
        model.load_state_dict(network.state_dict())
        assert torch.equal(model(keypoints), model(keypoints)) is not random
        with torch.no_grad():
            torch.testing.assert_close(model.eval()(keypoints).shape, network(keypoints).shape)


def test_an_untrained_non_local_block_adds_nothing():
    block = models.create("stgcn").stgcn.non_local.train()
    fine, coarse = seeded(17, 2, 256), seeded(5, 2, 256)
    assert torch.equal(block(fine, coarse), torch.cat([fine, to_joints(coarse)], 2))


def test_autocast_stays_near_float32(network):
    keypoints = seeded(3, 16, 2)
    with torch.no_grad():
        plain = network(keypoints)
        with torch.autocast("cpu", torch.bfloat16):
            low = network(keypoints)
    assert low.dtype == torch.float32
    assert not torch.equal(low, plain)
    assert (low - plain).abs().max() < 0.05 * plain.abs().max()


def test_autocast_trains():
    model = models.create("stgcn", dropout=0).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(seeded(4, 16, 2)).square().mean()
    loss.backward()
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert all(grad.dtype == torch.float32 and grad.isfinite().all() for grad in grads.values())
    assert set(grads) == set(dict(model.named_parameters()))


def test_synchronised_norms_give_the_same_on_one_process(network):
    model, keypoints = models.create("stgcn", dropout=0).train(), seeded(4, 16, 2)
    model.load_state_dict(network.state_dict())
    expected = model(keypoints)
    batch_norm.synchronise(model)
    assert isinstance(model.stgcn.data_bn, batch_norm.SyncBatchNorm)
    torch.testing.assert_close(model(keypoints), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["gcn", "mlp"])
def test_other_checkpoints_are_refused_in_one_line(network, name):
    with pytest.raises(InputError, match=r"^a\.tar does not fit STGCN: of its \d+ weights, [^\n]*$"):
        checkpoint.load_weights(network, models.create(name).state_dict(), "a.tar")
