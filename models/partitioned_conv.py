"""Graph convolution with a weight matrix for each kind of neighbour, by its distance from the graph's centre: ST-GCN's
spatial partitioning (Yan et al., AAAI 2018) with a kind for symmetric joints (Cai et al., ICCV 2019).

Features are node-major, (V, B, C).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.functional import full_precision, no_autocast
from models.graph_conv import mix_nodes
from models.pointwise import Pointwise

KINDS = 4  # of neighbours: the node itself, farther from the centre, nearer to it, the partner on the other side


@dataclass(frozen=True)
class Graph:
    """Nodes 0 .. size - 1; physical links as pairs of nodes, symmetric pairs (left, right), and the centre node."""

    size: int
    links: tuple[tuple[int, int], ...]
    symmetric: tuple[tuple[int, int], ...]
    centre: int


def distance_to_centre(graph: Graph) -> Tensor:
    """-> (V,) int64: number of physical links between each node and the centre."""
    distance = [graph.size] * graph.size
    distance[graph.centre] = 0
    for _ in range(graph.size):
        for a, b in graph.links:
            distance[a], distance[b] = min(distance[a], distance[b] + 1), min(distance[b], distance[a] + 1)
    return torch.tensor(distance)


def normalised_adjacency(graph: Graph) -> Tensor:
    """-> (V, V) float32: self loops, physical and symmetric links, each column divided by its sum."""
    matrix = torch.eye(graph.size)
    for a, b in graph.links + graph.symmetric:
        matrix[a, b] = matrix[b, a] = 1
    return matrix / matrix.sum(0)


def partitions(graph: Graph) -> Tensor:
    """-> A: (4, V, V) float32, indexed [kind, source, target]: the normalised adjacency split by the kind of source:
    the target itself, farther from the centre than it, nearer, its partner on the other side. Their sum is the whole.
    """
    matrix, distance = normalised_adjacency(graph), distance_to_centre(graph)
    partner = torch.zeros(graph.size, graph.size, dtype=torch.bool)
    for a, b in graph.symmetric:
        partner[a, b] = partner[b, a] = True
    step = distance[:, None] - distance[None, :]
    kinds = (torch.eye(graph.size, dtype=torch.bool), (step > 0) & ~partner, (step < 0) & ~partner, partner)
    return torch.stack([matrix * kind for kind in kinds])


class Conv(Pointwise):
    """A 1x1 convolution on rows, with PyTorch's initial weights for convolutions."""

    def __init__(self, in_features: int, out_features: int):
        super().__init__(in_features, out_features, spatial_dims=2)
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        nn.init.uniform_(self.bias, -1 / math.sqrt(in_features), 1 / math.sqrt(in_features))


class PartitionedConv(nn.Module):
    """(V, B, in) -> (V, B, out): sum over kinds k and sources s of A[k, s, target] (W_k x_s + b_k).

    graph, order: the graph, and the node of it that each node of x is. Nodes come as slices: left limbs, right limbs
    (both from the body outwards, side by side in steps of 2), then the centre, of which the nodes that have links
    outwards come first.
    """

    def __init__(self, in_features: int, out_features: int, graph: Graph, order: Sequence[int]):
        super().__init__()
        self.conv = Conv(in_features, KINDS * out_features)
        self.limbs = len(graph.symmetric)
        matrices = partitions(graph)[:, order][:, :, order]
        links, centre = (matrices > 0).float(), 2 * self.limbs
        outwards = int(links[1, :, centre:].any(0).sum())
        self.register_buffer("scale", matrices[0].diagonal()[:, None, None].clone(), persistent=False)
        self.register_buffer("share", matrices.sum(1).t().contiguous(), persistent=False)  # (V, 4), of each kind
        self.register_buffer("farther", links[1, :, centre : centre + outwards].t().contiguous(), persistent=False)
        self.register_buffer("nearer", links[2, centre : centre + outwards].t().contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (V, B, in) -> (V, B, out)."""
        weights = self.conv.matrix.unflatten(0, (KINDS, -1))
        bias = self.share @ full_precision(self.conv.bias).view(KINDS, -1)
        if torch.is_autocast_enabled(x.device.type):
            low = torch.get_autocast_dtype(x.device.type)
            x, weights, bias = x.to(low), weights.to(low), bias.to(low)
        with no_autocast(x):
            constants = (matrix.to(x.dtype) for matrix in (self.scale, self.farther, self.nearer))
            return PartitionedProducts.apply(x, weights, bias, self.limbs, *constants)


class PartitionedProducts(torch.autograd.Function):
    """The partitioned convolution with as few matrix products as there are.

    The published form multiplies all 4 kinds for all nodes. Here a left and a right node, each with weights for itself
    and its partner, take two products in place of four: of their sum and of their difference. No node is multiplied by
    the matrix of a kind that has no use for it: sources farther from the centre are summed beforehand, and a source
    nearer to it is multiplied once for all. Of a limb both are its neighbours in x, a slice.

    x: (V, B, in); weights: (4, out, in); bias: (V, out); limbs: left nodes; scale: (V, 1, 1), of each target;
    farther: (T, V), the sources of the first T centre nodes; nearer: (V, T), the targets of these.
    """

    @staticmethod
    def forward(ctx, x, weights, bias, limbs, scale, farther, nearer):
        ctx.save_for_backward(x, weights, scale, farther, nearer)
        ctx.limbs = limbs
        own, outer, inner, _ = weights.transpose(1, 2)
        y = x.new_empty(*x.shape[:2], weights.shape[1])
        products = torch.bmm(sides(x, limbs).flatten(1, 2), pair_weights(weights).transpose(1, 2))
        sides(products.view(2, limbs, *y.shape[1:]).flatten(0, 1), limbs, out=y[: 2 * limbs])
        centre, some = slice(2 * limbs, None), slice(2 * limbs, 2 * limbs + len(farther))
        torch.mm(rows(x[centre]), own, out=rows(y[centre]))
        for near, far in neighbours(limbs):
            add_product(y[near], x[far], outer)
            add_product(y[far], x[near], inner)
        add_product(y[some], mix_nodes(farther, x), outer)
        of_inner = rows(x[some]) @ inner
        torch.addmm(y.flatten(1), nearer, of_inner.view(len(farther), -1), out=y.flatten(1))
        return torch.addcmul(bias[:, None], y, scale, out=y)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        """The gradients of x, weights and bias."""
        x, weights, scale, farther, nearer = ctx.saved_tensors
        limbs = ctx.limbs
        own, outer, inner, _ = weights
        g = gradient * scale
        d_x, d_weights = torch.empty_like(x), torch.zeros_like(weights)
        g_pairs = sides(g, limbs).flatten(1, 2)
        d_pairs = torch.bmm(g_pairs, pair_weights(weights))
        sides(d_pairs.view(2, limbs, *x.shape[1:]).flatten(0, 1), limbs, out=d_x[: 2 * limbs])
        d_pair_weights = torch.bmm(g_pairs.transpose(1, 2), sides(x, limbs).flatten(1, 2))
        d_weights[0] = d_pair_weights.sum(0).div_(2)
        d_weights[3] = (d_pair_weights[0] - d_pair_weights[1]).div_(2)

        centre, some = slice(2 * limbs, None), slice(2 * limbs, 2 * limbs + len(farther))
        torch.mm(rows(g[centre]), own, out=rows(d_x[centre]))
        add_product(d_weights[0], g[centre], x[centre])
        for near, far in neighbours(limbs):
            add_product(d_x[far], g[near], outer)
            add_product(d_x[near], g[far], inner)
            add_product(d_weights[1], g[near], x[far])
            add_product(d_weights[2], g[far], x[near])
        d_farther = rows(g[some]) @ outer
        torch.addmm(d_x.flatten(1), farther.t(), d_farther.view(len(farther), -1), out=d_x.flatten(1))
        add_product(d_weights[1], g[some], mix_nodes(farther, x))
        g_nearer = mix_nodes(nearer.t(), g)
        add_product(d_x[some], g_nearer, inner)
        add_product(d_weights[2], g_nearer, x[some])
        return d_x, d_weights, gradient.sum(1), None, None, None, None


def rows(x: Tensor) -> Tensor:
    """x: (V, B, C) -> (V B, C); a matrix stays."""
    return x.flatten(0, -2)


def add_product(out: Tensor, a: Tensor, b: Tensor) -> None:
    """out += a b for b a matrix and features a, or out += a^T b for features a and b, over all nodes and poses."""
    left = rows(a).t() if b.dim() == 3 else rows(a)
    torch.addmm(rows(out), left, rows(b), out=rows(out))


def neighbours(limbs: int) -> list[tuple[slice, slice]]:
    """Nodes of limbs and, of the same shape, those one step farther out: of the left and of the right side."""
    return [(slice(s, s + limbs - 2), slice(s + 2, s + limbs)) for s in (0, limbs)] if limbs > 2 else []


def sides(x: Tensor, limbs: int, out: Tensor | None = None) -> Tensor:
    """x: (>= 2 limbs, B, C) -> (2, limbs, B, C): left plus right, left minus right."""
    left, right = x[:limbs], x[limbs : 2 * limbs]
    out = x.new_empty(2, *left.shape) if out is None else out.view(2, *left.shape)
    torch.add(left, right, out=out[0])
    torch.sub(left, right, out=out[1])
    return out


def pair_weights(weights: Tensor) -> Tensor:
    """weights: (4, out, in) -> (2, out, in): of a pair's sum and of its difference."""
    own, partner = weights[0] / 2, weights[3] / 2
    return torch.stack([own + partner, own - partner])
