"""Layers over the joints of a pose: semantic graph convolution, non-local block, convolution by kinds of neighbours.

Features are node-major, (J, B, C), so that mixing nodes is one matrix product over all poses and channels, and mixing
channels one over all nodes and poses.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import InputError
from models import fast
from models.layers import Pointwise, full_precision, no_autocast, norm_relu_dropout

# ------------------------------------------------------------ semantic graph convolution


class SemanticGraphConv(nn.Module):
    """diag(A) x W[0] + (A - diag(A)) x W[1] + bias, with A the row-wise softmax of learned edge logits.

    A graph convolution that learns the weight of every edge, with a weight matrix for the node itself and another for
    its neighbours (Zhao et al., "Semantic Graph Convolutional Networks for 3D Human Pose Regression", CVPR 2019).

    Args:
        in_features, out_features: channels.
        adjacency: (J, J); only the pattern of its non-zero entries is used (self-loops included).
        order: the joint that each node of x is, where x does not come in the order of `adjacency`.

    Parameters, as in the released checkpoints: `W` (2, in, out), `e` (1, edges) in row-major order of the pattern,
    `bias` (out).
    """

    def __init__(self, in_features: int, out_features: int, adjacency: Tensor, order: Sequence[int] | None = None):
        super().__init__()
        pattern = torch.as_tensor(adjacency) != 0
        rows, columns = pattern.nonzero(as_tuple=True)
        self.W = nn.Parameter(torch.empty(2, in_features, out_features))
        self.e = nn.Parameter(torch.ones(1, len(rows)))
        self.bias = nn.Parameter(torch.empty(out_features))
        nn.init.xavier_uniform_(self.W, gain=1.414)
        nn.init.uniform_(self.bias, -1 / math.sqrt(out_features), 1 / math.sqrt(out_features))

        order = torch.arange(len(pattern)) if order is None else torch.tensor(order)
        places = torch.zeros(len(rows), *pattern.shape)  # for each edge, a one in its place
        places[torch.arange(len(rows)), rows, columns] = 1
        self.register_buffer("places", places[:, order][:, :, order], persistent=False)
        self.register_buffer("no_edge", -9e15 * (~pattern[order][:, order]).float(), persistent=False)

    def attention(self) -> Tensor:
        """-> A: (J, J), the weight that each node (row) gives to itself and its neighbours; rows sum to 1."""
        # A sum over one-hot places rather than an indexed write: exact, and deterministic on every device.
        logits = (full_precision(self.e).view(-1, 1, 1) * self.places).sum(0) + self.no_edge
        return logits.softmax(dim=1)

    def operands(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """-> W, what each node gives to itself (J,), and to its neighbours (J, J), of zero diagonal; bias."""
        weights = self.attention()
        own = weights.diagonal()
        return self.W, own, weights - torch.diag(own), self.bias

    def forward(self, x: Tensor) -> Tensor:
        """x: (J, B, in) -> (J, B, out)."""
        W, own, neighbours, bias = self.operands()
        if fast.takes():
            return fast.convolve(x, W, own, neighbours, bias)
        return own[:, None, None] * (x @ W[0]) + mix_nodes(neighbours, x @ W[1]) + bias


def mix_nodes(weights: Tensor, x: Tensor) -> Tensor:
    """weights: (I, J), x: (J, B, C) -> (I, B, C): every node of the result is a weighted sum of the nodes of x."""
    return (weights @ x.flatten(1)).unflatten(1, x.shape[1:])


def poses_of(keypoints: Tensor, num_joints: int, features: int = 2) -> Tensor:
    """keypoints: (B, J, features) or (B, features J), joint after joint -> (B, J, features).

    Raises:
        InputError: another shape.
    """
    if keypoints.shape[1:] not in ((num_joints, features), (features * num_joints,)):
        raise InputError(
            f"found keypoints of shape {tuple(keypoints.shape)}, expected (poses, {num_joints}, {features}) or (poses, "
            f"{features * num_joints}): convert them to the network's {num_joints} joints (common.skeleton.convert)"
        )
    return keypoints.reshape(-1, num_joints, features)


# ------------------------------------------------------------ non-local block


class NonLocal(nn.Module):
    """y_i = W(sum_j f_ij g_j) with f_ij = ReLU(w . [theta_i, phi_j]) / pairs, j running over pairs of nodes.

    Wang et al., "Non-local Neural Networks", CVPR 2018, in the concatenation form with max-pooled keys and values, as
    SemGCN and the ITES student use it. phi and g are the maximum over a pair: nodes 0 and 1, 2 and 3, and so on. The
    last of an odd number of nodes is in no pair: it is not looked at, but gets its own output.

    Args:
        channels: of input and output; inside there are half as many.
    """

    def __init__(self, channels: int):
        super().__init__()
        inner = channels // 2
        # Sequences of one where the published code has a pooling or an activation in second place.
        self.g = nn.Sequential(Pointwise(channels, inner, spatial_dims=1))
        self.theta = Pointwise(channels, inner, spatial_dims=1)
        self.phi = nn.Sequential(Pointwise(channels, inner, spatial_dims=1))
        self.concat_project = nn.Sequential(Pointwise(2 * inner, 1, spatial_dims=2, bias=False))
        self.W = nn.Sequential(Pointwise(inner, channels, spatial_dims=1), nn.BatchNorm1d(channels))
        # The last norm starts at zero: an untrained branch adds nothing.
        nn.init.zeros_(self.W[1].weight)

    def forward(self, x: Tensor) -> Tensor:
        """x: (J, B, C) -> (J, B, C), to be added to x."""
        theta, phi, g = self.theta(x), max_pool_nodes(self.phi(x)), max_pool_nodes(self.g(x))
        of_theta, of_phi = self.concat_project[0].matrix[0].chunk(2)
        f = F.relu((theta @ of_theta)[:, None] + (phi @ of_phi)[None]) / len(phi)  # (J, pairs, B)
        y = torch.bmm(f.permute(2, 0, 1), g.transpose(0, 1))
        return self.project(y.transpose(0, 1))

    def project(self, y: Tensor) -> Tensor:
        """y: (J, B, C / 2) -> W y: (J, B, C)."""
        return self.W(y.flatten(0, 1)).unflatten(0, y.shape[:2])

    def operands(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, ...]]:
        """-> weight and bias of theta; those of phi and of g, and w."""
        theta, phi, g = ((layer.matrix, layer.bias) for layer in (self.theta, self.phi[0], self.g[0]))
        return theta, (*phi, *g, self.concat_project[0].matrix[0])


class GraphNonLocal(nn.Module):
    """The non-local block under the name that the released checkpoints give it (`non_local.non_local.*`)."""

    def __init__(self, channels: int):
        super().__init__()
        self.non_local = NonLocal(channels)


def max_pool_nodes(x: Tensor) -> Tensor:
    """x: (J, B, C) -> (J // 2, B, C), the maximum of nodes 0 and 1, 2 and 3, and so on; a tie's gradient goes to the
    first, as in max pooling.
    """
    first, second = x[: len(x) // 2 * 2].unflatten(0, (-1, 2)).unbind(1)
    return torch.where(first >= second, first, second)


# ------------------------------------------------------------ layers of SemGCN


class GraphLayer(nn.Module):
    """(J, B, in) -> (J, B, out): graph convolution, batch norm over poses and joints, ReLU, dropout.

    non_local: whether the input and its non-local block are added to the convolution before the norm (in = out).
    """

    def __init__(self, gconv: SemanticGraphConv, dropout: float = 0.0, non_local: bool = False):
        super().__init__()
        channels = gconv.W.shape[2]
        self.gconv = gconv
        self.non_local = GraphNonLocal(channels) if non_local else None
        self.bn = nn.BatchNorm1d(channels)
        self.dropout = float(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.gconv(x) if self.non_local is None else self.with_non_local(x, self.non_local.non_local)
        return norm_relu_dropout(y.flatten(0, 1), self.bn, self.dropout, self.training).view_as(y)

    def with_non_local(self, x: Tensor, non_local: NonLocal) -> Tensor:
        """x: (J, B, C) -> x + gconv(x) + non_local(x)."""
        if fast.takes() and not torch.is_autocast_enabled(x.device.type):
            total, read = fast.convolve_and_attend(x, self.gconv.operands(), *non_local.operands())
            return total.add_(non_local.project(read))
        return x + self.gconv(x) + non_local(x)


class ResidualGraphBlock(nn.Module):
    """(J, B, C) -> (J, B, C): two layers and the input; the rest as in `GraphLayer`."""

    def __init__(
        self, gconv1: SemanticGraphConv, gconv2: SemanticGraphConv, dropout: float = 0.0, non_local: bool = False
    ):
        super().__init__()
        self.gconv1 = GraphLayer(gconv1, dropout, non_local)
        self.gconv2 = GraphLayer(gconv2, dropout, non_local)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gconv2(self.gconv1(x))


# ------------------------------------------------------------ convolution by kinds of neighbours

KINDS = 4  # of neighbours: the node itself, farther from the centre, nearer to it, the partner on the other side


@dataclass(frozen=True)
class Graph:
    """Nodes 0 .. size - 1; physical links as pairs of nodes, symmetric pairs (left, right), and the centre node."""

    size: int
    links: tuple[tuple[int, int], ...]
    symmetric: tuple[tuple[int, int], ...]
    centre: int


def reordered(graph: Graph, order: Sequence[int]) -> Graph:
    """The same graph with node order[i] as node i."""

    def places(pairs: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        return tuple((order.index(a), order.index(b)) for a, b in pairs)

    return Graph(graph.size, places(graph.links), places(graph.symmetric), order.index(graph.centre))


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

    ST-GCN's spatial partitioning (Yan et al., AAAI 2018), a weight matrix for each kind of neighbour by its distance
    from the graph's centre, with a kind for symmetric joints (Cai et al., ICCV 2019). In the form of `factors`.
    """

    def __init__(self, in_features: int, out_features: int, graph: Graph):
        super().__init__()
        self.conv = Conv(in_features, KINDS * out_features)
        mixtures, shares, sums = factors(graph)
        self.counts = [len(part) for part in sums]
        self.register_buffer("mixtures", mixtures, persistent=False)
        self.register_buffer("shares", torch.cat(shares, 1), persistent=False)
        self.register_buffer("sums", torch.cat(sums), persistent=False)
        ones = [share * part.sum(1) for share, part in zip(shares, sums, strict=True)]  # what becomes of x = 1
        self.register_buffer("ones", torch.stack([part.sum(1) for part in ones], 1) @ mixtures, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (V, B, in) -> (V, B, out)."""
        with no_autocast(x):
            weights = (self.mixtures @ self.conv.matrix.view(KINDS, -1)).view(len(self.counts), -1, x.shape[2])
            bias = self.ones @ full_precision(self.conv.bias).view(KINDS, -1)
        parts = mix_nodes(self.sums.to(x.dtype), x).split(self.counts)
        products = torch.cat([F.linear(part, weight) for part, weight in zip(parts, weights, strict=True)])
        y = mix_nodes(self.shares.to(products.dtype), products)
        return y.add_(bias.to(y.dtype).unsqueeze(1))


def factors(graph: Graph) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """`partitions` as few products: sum_k A_k^T x W_k = sum_p shares_p (sums_p x) (sum_k mixtures_pk W_k).

    What several targets share is multiplied once: the sources that a target sums, and for a symmetric pair, which takes
    W_own of itself and W_partner of the other, the pair's sum by (W_own + W_partner) / 2 and its difference by (W_own -
    W_partner) / 2.

    Returns: mixtures (5, 4), shares of (V, S_p) and sums of (S_p, V), for the nodes without partner, the sums and the
    differences of pairs, the neighbours farther from the centre and the nearer ones.
    """
    own, farther, nearer, _ = (matrix.t() for matrix in partitions(graph))
    left, right = torch.eye(graph.size)[torch.tensor(graph.symmetric).t()]
    alone = torch.eye(graph.size)[(left + right).sum(0) == 0]
    sums = [alone, left + right, left - right, *((m[m.any(1)] > 0).float().unique(dim=0) for m in (farther, nearer))]
    shares = [own @ part.t() for part in sums[:3]]
    # a target's share is of the one sum with just its sources
    shares += [
        m.amax(1, keepdim=True) * ((m > 0).float()[:, None] == part).all(2)
        for m, part in zip((farther, nearer), sums[3:], strict=True)
    ]
    mixtures = torch.tensor([[1, 0, 0, 0], [0.5, 0, 0, 0.5], [0.5, 0, 0, -0.5], [0, 1, 0, 0], [0, 0, 1, 0]])
    return mixtures, shares, sums
