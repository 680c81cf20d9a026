"""A graph convolution with a shortcut, and what a non-local block reads of the same features: all that is linear in
them, with one way back, on which their gradients are summed inside the matrix products.

Node-major layout: features are (J, B, C).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from models.graph_conv import SemanticGraphConv, add_products, backward_products
from models.non_local import NonLocal, pairs_of, share_gradient


class Shortcut(NamedTuple):
    """total: (J, B, C), features and their graph convolution. query: (J, B) and keys_values: (J // 2, B, C), what
    `NonLocal.read` gives.
    """

    total: Tensor
    query: Tensor
    keys_values: Tensor


def convolve_and_read(gconv: SemanticGraphConv, block: NonLocal, x: Tensor) -> Shortcut:
    """x: (J, B, C), as many channels as `gconv` gives -> `x + gconv(x)` and `block.read(x)`.

    In one piece where torch runs operation by operation in full precision, else as it stands here.
    """
    if torch.is_autocast_enabled(x.device.type) or torch.compiler.is_compiling():
        return Shortcut(gconv(x) + x, *block.read(x))
    return Shortcut(*_Products.apply(x, gconv.W, *gconv.split_attention(), gconv.bias, *block.matrices()))


class _Products(torch.autograd.Function):
    """x + own x W[0] + neighbours x W[1] + bias, x . query, and of x keys_values^T the maxima over pairs of nodes.

    x: (J, B, C), own: (J,), neighbours: (J, J), query: (C,), keys_values: (C, C), (out, in).
    """

    @staticmethod
    def forward(ctx, x, W, own, neighbours, bias, query, keys_values):
        y = x + bias
        of_neighbours = add_products(y, x, W, own, neighbours)
        first, second = pairs_of(x @ keys_values.t())
        pooled = torch.maximum(first, second)
        second_is_more = torch.sub(second, first, out=second)  # by so much
        ctx.save_for_backward(x, W, own, neighbours, of_neighbours, query, keys_values, second_is_more)
        return y, x @ query, pooled

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_y, d_query, d_pooled):
        """The gradients of all seven."""
        x, W, own, neighbours, of_neighbours, query, keys_values, second_is_more = ctx.saved_tensors
        d_x, *of_convolution = backward_products(d_y, x, W, own, neighbours, of_neighbours, shortcut=True)
        torch.addr(d_x.flatten(0, 1), d_query.flatten(), query, out=d_x.flatten(0, 1))

        paired = d_x[: 2 * len(d_pooled)].flatten(0, 1)
        of_pairs = torch.empty_like(paired)
        share_gradient(d_pooled, second_is_more, *pairs_of(of_pairs.view(-1, *d_pooled.shape[1:])))
        torch.addmm(paired, of_pairs, keys_values, out=paired)

        rows = x.flatten(0, 1)
        return d_x, *of_convolution, d_query.flatten() @ rows, of_pairs.t() @ rows[: len(of_pairs)]
