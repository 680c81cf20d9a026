"""Semantic graph convolution and the non-local block against loops over nodes and pairs."""

import pytest
import torch

from common.skeleton import H36M_16, H36M_17, adjacency
from models.graph import NonLocal, SemanticGraphConv, max_pool_nodes, mix_nodes
from models.student import NODE_ORDER


def naive_graph_conv(layer: SemanticGraphConv, x: torch.Tensor, pattern: torch.Tensor) -> torch.Tensor:
    """x: (J, B, in) -> (J, B, out), one edge after the other."""
    edges = [(i, j) for i in range(len(pattern)) for j in range(len(pattern)) if pattern[i, j]]
    logits = dict(zip(edges, layer.e[0].tolist(), strict=True))
    out = []
    for i in range(len(pattern)):
        neighbours = [j for a, j in edges if a == i]
        weights = torch.tensor([logits[i, j] for j in neighbours]).softmax(0)
        terms = [w * x[j] @ layer.W[0 if i == j else 1] for w, j in zip(weights, neighbours, strict=True)]
        out.append(sum(terms) + layer.bias)
    return torch.stack(out)


@pytest.mark.parametrize("skeleton", [H36M_17, H36M_16], ids=lambda s: s.name)
@pytest.mark.parametrize(("inside", "outside"), [(2, 6), (6, 6), (6, 1)])
def test_graph_conv_is_the_sum_over_edges(skeleton, inside, outside):
    torch.manual_seed(0)
    pattern = adjacency(skeleton)
    layer = SemanticGraphConv(inside, outside, pattern)
    torch.nn.init.normal_(layer.e)
    assert layer.e.shape == (1, 3 * skeleton.num_joints - 2)
    x = torch.randn(skeleton.num_joints, 3, inside)
    torch.testing.assert_close(layer(x), naive_graph_conv(layer, x, pattern), rtol=1e-4, atol=1e-5)


def test_node_order_changes_the_place_of_nodes_and_nothing_else():
    torch.manual_seed(0)
    plain, ordered = (SemanticGraphConv(4, 5, adjacency(H36M_17), order) for order in (None, NODE_ORDER))
    torch.nn.init.normal_(plain.e)
    ordered.load_state_dict(plain.state_dict())
    x = torch.randn(17, 3, 4)
    order = list(NODE_ORDER)
    torch.testing.assert_close(ordered(x[order]), plain(x)[order])


def test_attention_rows_sum_to_one_and_vanish_off_the_edges():
    layer = SemanticGraphConv(4, 5, adjacency(H36M_17))
    torch.nn.init.normal_(layer.e)
    weights = layer.attention()
    torch.testing.assert_close(weights.sum(1), torch.ones(17))
    assert torch.equal(weights > 0, adjacency(H36M_17) > 0)


def test_constants_stay_out_of_the_state_dict():
    assert list(SemanticGraphConv(4, 5, adjacency(H36M_17)).state_dict()) == ["W", "e", "bias"]


def test_mix_nodes():
    weights, x = torch.randn(3, 5), torch.randn(5, 2, 4)
    torch.testing.assert_close(mix_nodes(weights, x), torch.einsum("ij,jbc->ibc", weights, x))


def filled_non_local(channels: int) -> NonLocal:
    block = NonLocal(channels).eval()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    return block


def test_non_local_is_the_sum_over_pairs():
    torch.manual_seed(0)
    block, x = filled_non_local(6), torch.randn(17, 2, 6)

    def maximum(module, pair: int, pose: int) -> torch.Tensor:
        first, second = (module.weight[:, :, 0] @ x[node, pose] + module.bias for node in (2 * pair, 2 * pair + 1))
        return torch.where(first > second, first, second)

    for pose in range(2):
        for i in range(17):
            theta = block.theta.weight[:, :, 0] @ x[i, pose] + block.theta.bias
            y = torch.zeros(3)
            for pair in range(8):
                features = torch.cat([theta, maximum(block.phi[0], pair, pose)])
                f = (block.concat_project[0].weight[0, :, 0, 0] @ features).clamp(min=0) / 8
                y = y + f * maximum(block.g[0], pair, pose)
            z = block.W[0].weight[:, :, 0] @ y + block.W[0].bias
            expected = z / (1 + 1e-5) ** 0.5 * block.W[1].weight + block.W[1].bias
            torch.testing.assert_close(block(x)[i, pose], expected, rtol=1e-4, atol=1e-4)


def test_the_last_of_17_nodes_is_not_looked_at_but_answered():
    torch.manual_seed(0)
    assert NODE_ORDER[-1] == 9  # the neck
    block, x = filled_non_local(6), torch.randn(17, 2, 6)
    moved = x.clone()
    moved[-1] += 1
    assert torch.equal(block(moved)[:-1], block(x)[:-1])
    assert not torch.allclose(block(moved)[-1], block(x)[-1])


def test_an_untrained_block_adds_nothing():
    block = NonLocal(6).train()
    assert torch.equal(block(torch.randn(17, 4, 6)), torch.zeros(17, 4, 6))


def test_pooling_takes_values_and_tied_gradients_as_max_pooling_does():
    x = torch.tensor([1.0, 2.0, 5.0, 5.0, 4.0, -1.0]).view(6, 1, 1).requires_grad_()
    rows = x.detach().view(1, 1, 6).clone().requires_grad_()
    pooled, expected = max_pool_nodes(x), torch.nn.functional.max_pool1d(rows, 2)
    assert torch.equal(pooled.flatten(), expected.flatten())
    weights = torch.tensor([1.0, 2.0, 3.0])
    (pooled.flatten() * weights).sum().backward()
    (expected.flatten() * weights).sum().backward()
    assert torch.equal(x.grad.flatten(), rows.grad.flatten())
