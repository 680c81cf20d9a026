"""Semantic graph convolution (Zhao et al., "Semantic Graph Convolutional Networks for 3D Human Pose Regression", CVPR
2019): a graph convolution that learns the weight of every edge, with a weight matrix for the node itself and another
for its neighbours.

Node-major layout: features are (J, B, C), so that mixing nodes is one matrix product over all poses and channels, and
mixing channels one over all nodes and poses.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from common.errors import InputError
from models.functional import full_precision, no_autocast


class SemanticGraphConv(nn.Module):
    """diag(A) x W[0] + (A - diag(A)) x W[1] + bias, with A the row-wise softmax of learned edge logits.

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

    def split_attention(self) -> tuple[Tensor, Tensor]:
        """-> what each node gives to itself (J,), and to its neighbours (J, J), of zero diagonal."""
        weights = self.attention()
        own = weights.diagonal()
        return own, weights - torch.diag(own)

    def forward(self, x: Tensor) -> Tensor:
        """x: (J, B, in) -> (J, B, out)."""
        own, neighbours = self.split_attention()
        # Mixing nodes and mixing channels commute: nodes are mixed where there are fewer channels.
        inside, outside = self.W.shape[1:]
        if inside < outside:
            # Each node's own weight goes into its copy of W[0], which is far smaller than x.
            mixed = mix_nodes(neighbours, x) @ self.W[1]
            y = torch.baddbmm(mixed, x, own[:, None, None] * self.W[0])
            return y + self.bias.to(y.dtype)
        if inside > outside or torch.compiler.is_compiling():
            of_own, of_neighbours = (x @ torch.cat((self.W[0], self.W[1]), 1)).chunk(2, 2)
            return mix_nodes(neighbours, of_neighbours) + own[:, None, None] * of_own + self.bias
        operands = x, self.W, own, neighbours, self.bias
        if torch.is_autocast_enabled(x.device.type):
            operands = (tensor.to(torch.get_autocast_dtype(x.device.type)) for tensor in operands)
        with no_autocast(x):
            return _GraphProducts.apply(*operands)


class _GraphProducts(torch.autograd.Function):
    """own x W[0] + neighbours x W[1] + bias for x: (J, B, C), own: (J,), neighbours: (J, J), with sums made inside the
    matrix products, on the way back too.
    """

    @staticmethod
    def forward(ctx, x, W, own, neighbours, bias):
        y = bias.expand_as(x).contiguous()
        of_neighbours = add_products(y, x, W, own, neighbours)
        ctx.save_for_backward(x, W, own, neighbours, of_neighbours)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        """The gradients of all five."""
        return backward_products(gradient, *ctx.saved_tensors)


def add_products(y: Tensor, x: Tensor, W: Tensor, own: Tensor, neighbours: Tensor) -> Tensor:
    """Adds own x W[0] + neighbours x W[1] to y: (J, B, C), in place -> x W[1], which the way back needs.

    x: (J, B, C), W: (2, C, C), own: (J,), neighbours: (J, J).
    """
    of_neighbours = x @ W[1]
    torch.addmm(y.flatten(1), neighbours, of_neighbours.flatten(1), out=y.flatten(1))
    torch.baddbmm(y, x, own[:, None, None] * W[0], out=y)
    return of_neighbours


def backward_products(
    gradient: Tensor,
    x: Tensor,
    W: Tensor,
    own: Tensor,
    neighbours: Tensor,
    of_neighbours: Tensor,
    shortcut: bool = False,
) -> tuple[Tensor, ...]:
    """The gradients of x, W, own, neighbours and bias, from the sum's: (J, B, C).

    shortcut: whether x itself is in the sum, too.
    """
    gradient = gradient.contiguous()
    d_of_neighbours = mix_nodes(neighbours.t(), gradient)
    turned = (own[:, None, None] * W[0]).transpose(1, 2)
    d_x = torch.baddbmm(gradient, gradient, turned) if shortcut else torch.bmm(gradient, turned)
    rows = d_x.flatten(0, 1)
    torch.addmm(rows, d_of_neighbours.flatten(0, 1), W[1].t(), out=rows)
    d_W = torch.empty_like(W)
    each = torch.bmm(x.transpose(1, 2), gradient)
    torch.mv(each.permute(1, 2, 0).flatten(0, 1), own, out=d_W[0].view(-1))
    torch.mm(x.flatten(0, 1).t(), d_of_neighbours.flatten(0, 1), out=d_W[1])
    d_own = each.flatten(1) @ W[0].flatten()
    d_neighbours = gradient.flatten(1) @ of_neighbours.flatten(1).t()
    return d_x, d_W, d_own, d_neighbours, gradient.sum((0, 1))


def mix_nodes(weights: Tensor, x: Tensor) -> Tensor:
    """weights: (I, J), x: (J, B, C) -> (I, B, C): every node of the result is a weighted sum of the nodes of x."""
    return (weights @ x.flatten(1)).unflatten(1, x.shape[1:])


def poses_of(keypoints: Tensor, num_joints: int) -> Tensor:
    """keypoints: (B, J, 2) or (B, 2 J), joint after joint -> (B, J, 2).

    Raises:
        InputError: another shape.
    """
    if keypoints.shape[1:] not in ((num_joints, 2), (2 * num_joints,)):
        raise InputError(
            f"found keypoints of shape {tuple(keypoints.shape)}, expected (poses, {num_joints}, 2) or (poses, "
            f"{2 * num_joints}): convert them to the network's {num_joints} joints (common.skeleton.convert)"
        )
    return keypoints.reshape(-1, num_joints, 2)
