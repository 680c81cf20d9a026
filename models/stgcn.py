"""ST-GCN lifter on single frames: a graph convolution with one weight matrix for each kind of neighbour, local-to-global
pooling of the limbs, and a non-local block (Cai et al., "Exploiting Spatial-Temporal Relationships for 3D Pose
Estimation via Graph Convolutional Networks", ICCV 2019), as PoseAug trains it (Gong et al., CVPR 2021).

The graphs are data: `BODY` (17 joints) and `LIMBS` (5 pooled nodes). Their matrices are `partitions(graph)`,
`normalised_adjacency(graph)` and `distance_to_centre(graph)`; none is in the state dict.

Features inside are node-major, (V, B, C).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.skeleton import H36M_16, H36M_17
from models.functional import full_precision, no_autocast
from models.fused import norm_relu_dropout
from models.graph_conv import mix_nodes, node_major
from models.pointwise import Pointwise

KINDS = 4  # of neighbours: the node itself, farther from the centre, nearer to it, the partner on the other side


@dataclass(frozen=True)
class Graph:
    """Nodes 0 .. size - 1; physical links as pairs of nodes, symmetric pairs (left, right), and the centre node."""

    size: int
    links: tuple[tuple[int, int], ...]
    symmetric: tuple[tuple[int, int], ...]
    centre: int


BODY = Graph(17, H36M_17.bones, tuple(zip(H36M_17.left, H36M_17.right, strict=True)), H36M_17.index("spine"))
# Left arm, right arm, left leg, right leg, centre.
LIMBS = Graph(5, ((0, 4), (1, 4), (2, 4), (3, 4)), ((0, 1), (2, 3)), 4)
# Order inside the network: left limbs, right limbs, centre, so that limbs and pairs are slices. Limbs from the shoulder
# and the hip outwards, arm and leg in turn.
BODY_ORDER = (11, 4, 12, 5, 13, 6, 14, 1, 15, 2, 16, 3, 0, 7, 8, 9, 10)
LIMBS_ORDER = (0, 2, 1, 3, 4)
NECK = H36M_17.index("neck")  # not in the 16-joint skeleton: between thorax and head


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


def partitioned_products(graph: Graph, order: Sequence[int]) -> tuple[list[int], Tensor, Tensor]:
    """How the partitioned convolution does with few matrix products: counts, gather (R, V) and scatter (V, R).

    The graph convolution is `scatter @ products` where row r of `products` is `(gather @ x)[r]` times one matrix, and
    the rows come in groups of `counts`, of the matrices self + partner, self - partner, self, farther, nearer. A left
    and right node, each with weights for itself and its partner, take two products in place of four: of their sum and
    of their difference. Sources farther from the centre are summed before the product, so that only nodes that have
    some are counted; the node nearer to the centre is multiplied once for all that it is the nearer one of.

    order: the node of the graph that each node of x is.
    """
    place = [list(order).index(v) for v in range(graph.size)]
    mine, farther, nearer, partner = partitions(graph)[:, order][:, :, order]
    pairs = [(place[a], place[b]) for a, b in graph.symmetric]
    single = sorted(set(range(graph.size)) - {v for pair in pairs for v in pair})
    unit = torch.eye(graph.size)
    with_farther = farther.any(0).nonzero().flatten()
    with_nearer = nearer.any(1).nonzero().flatten()
    gather = [
        torch.stack([unit[a] + unit[b] for a, b in pairs]),
        torch.stack([unit[a] - unit[b] for a, b in pairs]),
        unit[single],
        farther[:, with_farther].t(),
        unit[with_nearer],
    ]
    scale = mine.diagonal()[:, None]
    scatter = [
        torch.stack([unit[a] + unit[b] for a, b in pairs], 1) * scale / 2,
        torch.stack([unit[a] - unit[b] for a, b in pairs], 1) * scale / 2,
        unit[:, single] * scale,
        unit[:, with_farther],
        nearer[with_nearer].t(),
    ]
    return [len(rows) for rows in gather], torch.cat(gather), torch.cat(scatter, 1)


class PartitionedConv(nn.Module):
    """(V, B, in) -> (V, B, out): sum over kinds k and sources s of A[k, s, target] (W_k x_s + b_k)."""

    def __init__(self, in_features: int, out_features: int, graph: Graph, order: Sequence[int]):
        super().__init__()
        self.conv = Conv(in_features, KINDS * out_features)
        self.counts, gather, scatter = partitioned_products(graph, order)
        self.register_buffer("gather", gather, persistent=False)
        self.register_buffer("scatter", scatter, persistent=False)
        share = partitions(graph).sum(1)[:, order].t().contiguous()
        self.register_buffer("share", share, persistent=False)  # (V, 4): the weight of each kind in a node

    def forward(self, x: Tensor) -> Tensor:
        """x: (V, B, in) -> (V, B, out)."""
        mine, farther, nearer, partner = self.conv.matrix.t().chunk(KINDS, 1)
        weights = (mine + partner, mine - partner, mine, farther, nearer)
        rows = mix_nodes(self.gather, x).split(self.counts)
        products = torch.cat([row @ weight for row, weight in zip(rows, weights, strict=True)])
        bias = self.share @ full_precision(self.conv.bias).view(KINDS, -1)
        return mix_nodes(self.scatter, products) + bias[:, None]


class Block(nn.Module):
    """(V, B, in) -> (V, B, out): graph convolution, then a pointwise layer, each with batch norm; residual; ReLU.

    `residual`: "none", or the input itself where the widths agree, else projected and normalised.
    """

    def __init__(self, in_features: int, out_features: int, graph: Graph, order: Sequence[int], dropout: float, residual: bool = True):
        super().__init__()
        self.gcn = PartitionedConv(in_features, out_features, graph, order)
        norms = nn.BatchNorm1d(out_features), nn.BatchNorm1d(out_features)
        # Places 1, 2 and 5 are the published activation and dropouts.
        self.tcn = nn.Sequential(
            norms[0], nn.Identity(), nn.Identity(), Conv(out_features, out_features), norms[1], nn.Identity()
        )
        self.projected = residual and in_features != out_features
        if self.projected:
            self.residual = nn.Sequential(Conv(in_features, out_features), nn.BatchNorm1d(out_features))
        self.has_residual, self.dropout = residual, dropout

    def forward(self, x: Tensor) -> Tensor:
        """x: (V, B, in) -> (V, B, out)."""
        rows = norm_relu_dropout(self.gcn(x).flatten(0, 1), self.tcn[0], self.dropout, self.training)
        y = self.tcn[4](self.tcn[3](rows))
        if self.dropout:
            y = F.dropout(y, self.dropout, self.training)
        if self.projected:
            y = y + self.residual(x.flatten(0, 1))
        elif self.has_residual:
            y = y + x.flatten(0, 1)
        return F.relu(y, inplace=True).unflatten(0, (len(x), -1))


class NonLocal(nn.Module):
    """x + W(softmax_j(theta(x_i) . phi(x_j)) g(x_j)), the embedded Gaussian form over the joints of a pose.

    x_i is the joint's own features beside those of its limb. Both halves of a product are linear in x, so theta is
    multiplied into phi and W into g beforehand, and what concerns limbs is done once a limb.
    """

    def __init__(self, channels: int):
        super().__init__()
        inner = channels // 2
        self.g = Conv(channels, inner)
        self.W = nn.Sequential(Conv(inner, channels), nn.BatchNorm1d(channels))
        self.theta = Conv(channels, inner)
        self.phi = Conv(channels, inner)
        # The last norm starts at zero: an untrained branch adds nothing.
        nn.init.zeros_(self.W[1].weight)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """fine: (17, B, C) of the joints, coarse: (5, B, C) of the limbs -> (17, B, 2 C)."""
        width = fine.shape[2]
        with no_autocast(fine):
            # theta(x_i) . phi(x_j) up to what is the same for all j, which the softmax does not see.
            query = self.theta.matrix.t() @ self.phi.matrix
            offset = (self.theta.bias @ self.phi.matrix).split(width)
            value = self.g.matrix.t() @ self.W[0].matrix.t()
            bias = self.W[0].matrix @ self.g.bias + self.W[0].bias
        (fine_fine, fine_coarse), (coarse_fine, coarse_coarse) = (half.split(width, 1) for half in query.split(width))
        fine_query, fine_value = (fine @ torch.cat([fine_fine, value[:width]], 1)).split([width, 2 * width], 2)
        blocks = torch.cat([coarse_fine, fine_coarse.t(), coarse_coarse, value[width:]], 1)
        to_fine, key, to_coarse, coarse_value = (coarse @ blocks).split([width, width, width, 2 * width], 2)
        fine_query = fine_query + to_joints(to_fine + offset[0])
        to_coarse = to_coarse + offset[1]

        logits = pose_products(fine_query, fine)
        limb_logits = pose_products(fine, key) + to_joints(pose_products(to_coarse, coarse).transpose(0, 1)).transpose(0, 1)
        attention = full_precision(logits + to_joints(limb_logits.permute(2, 0, 1)).permute(1, 2, 0)).softmax(2)
        values = fine_value + to_joints(coarse_value)
        y = torch.bmm(attention.to(values.dtype), values.transpose(0, 1)).transpose(0, 1) + bias
        y = self.W[1](y.flatten(0, 1)).unflatten(0, y.shape[:2])
        return y + torch.cat([fine, to_joints(coarse)], 2)


def pose_products(a: Tensor, b: Tensor) -> Tensor:
    """a: (I, B, C), b: (J, B, C) -> (B, I, J), the scalar products of the nodes of each pose."""
    return torch.bmm(a.transpose(0, 1), b.permute(1, 2, 0))


def to_limbs(joints: Tensor) -> Tensor:
    """joints: (17, B, C) -> (5, B, C), the maximum of each limb."""
    left, right, centre = joints.split([6, 6, 5])
    parts = (left.unflatten(0, (3, 2)).amax(0), right.unflatten(0, (3, 2)).amax(0), centre.amax(0, keepdim=True))
    return torch.cat(parts)


def to_joints(limbs: Tensor) -> Tensor:
    """limbs: (5, B, C) -> (17, B, C), that of each joint's limb."""
    left, right, centre = limbs.split([2, 2, 1])
    return torch.cat([left, left, left, right, right, right, centre.expand(5, -1, -1)])


class SpatialGraphNetwork(nn.Module):
    """The network behind the `stgcn.` of the released names."""

    def __init__(self, dropout: float):
        super().__init__()
        block, self.rate4, self.rate2, self.rate_out = (0.05, 0.25, 0.1, 0.1) if dropout < 0 else (dropout,) * 4
        # Published: the 0.1 meant as momentum lands in eps. Released weights depend on it.
        self.data_bn = nn.BatchNorm1d(2 * BODY.size, eps=0.1)
        self.st_gcn_networks = nn.ModuleList(
            (
                Block(2, 128, BODY, BODY_ORDER, block, residual=False),
                Block(128, 128, BODY, BODY_ORDER, block),
                Block(128, 256, BODY, BODY_ORDER, block),
            )
        )
        self.st_gcn_pool = nn.ModuleList(
            (Block(256, 512, LIMBS, LIMBS_ORDER, block), Block(512, 512, LIMBS, LIMBS_ORDER, block))
        )
        self.conv4 = nn.Sequential(Conv(512, 512), nn.BatchNorm1d(512))
        self.conv2 = nn.Sequential(Conv(1024, 256), nn.BatchNorm1d(256))
        self.non_local = NonLocal(512)
        self.fcn = nn.Sequential(nn.Identity(), Conv(512, 3))

    def forward(self, joints: Tensor) -> Tensor:
        """joints: (17, B, 2) -> (17, B, 3)."""
        rows = self.data_bn(joints.transpose(0, 1).flatten(1)).unflatten(1, (BODY.size, 2)).unbind(1)
        fine = torch.stack([rows[j] for j in BODY_ORDER])
        for block in self.st_gcn_networks:
            fine = block(fine)
        limbs = to_limbs(fine)
        for block in self.st_gcn_pool:
            limbs = block(limbs)
        features = self.non_local(fine, self.coarse(limbs))
        if self.rate_out:
            features = F.dropout(features, self.rate_out, self.training)
        with no_autocast(features):
            pose = self.fcn[1](full_precision(features)).unbind(0)
        return torch.stack([pose[BODY_ORDER.index(j)] for j in range(BODY.size)])

    def coarse(self, limbs: Tensor) -> Tensor:
        """limbs: (5, B, 512) -> (5, B, 256), each limb in the light of the whole body."""
        whole = norm_relu_dropout(self.conv4[0](limbs.amax(0)), self.conv4[1], self.rate4, self.training)
        # conv2 of [whole, limb], with the product of the whole done once.
        of_whole, of_limb = self.conv2[0].matrix.chunk(2, 1)
        rows = limbs @ of_limb.t() + F.linear(whole, of_whole, self.conv2[0].bias)
        rows = norm_relu_dropout(rows.flatten(0, 1), self.conv2[1], self.rate2, self.training)
        return rows.unflatten(0, limbs.shape[:2])


class STGCN(nn.Module):
    """The spatial graph network on the 16-joint skeleton; names and shapes of its parameters are those of the released
    PoseAug checkpoints.

    Args:
        dropout: rate everywhere; below zero the built-in rates: 0.05 in the blocks, 0.25 and 0.1 after the global and
            the coarse features, 0.1 before the output.
    """

    def __init__(self, dropout: float = -1):
        super().__init__()
        self.stgcn = SpatialGraphNetwork(dropout)

    def forward(self, keypoints: Tensor) -> Tensor:
        """keypoints: (B, 16, 2) or (B, 32), screen-normalised -> (B, 16, 3) metres, camera axes; the root is not fixed
        at the origin.
        """
        joints = node_major(keypoints, H36M_16.num_joints)
        neck = joints[NECK - 1 : NECK + 1].mean(0, keepdim=True)
        pose = self.stgcn(torch.cat([joints[:NECK], neck, joints[NECK:]]))
        return torch.cat([pose[:NECK], pose[NECK + 1 :]]).transpose(0, 1)
