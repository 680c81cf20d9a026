"""Products of graph layers with their ways back, on which gradients are summed inside the matrix products.

Node-major features, (J, B, C): mixing nodes is one matrix product over all poses and channels, and mixing channels one
over all nodes and poses.
"""

import torch
from torch import Tensor


def convolve(x: Tensor, W: Tensor, own: Tensor, neighbours: Tensor, bias: Tensor) -> Tensor:
    """Semantic graph convolution: own x W[0] + neighbours x W[1] + bias, in autocast's type where that is on.

    x: (J, B, in), W: (2, in, out), own: (J,), neighbours: (J, J), bias: (out,) -> (J, B, out).
    """
    operands = x, W, own, neighbours, bias
    if torch.is_autocast_enabled(x.device.type):
        operands = (tensor.to(torch.get_autocast_dtype(x.device.type)) for tensor in operands)
    with torch.autocast(x.device.type, enabled=False):
        return _Convolution.apply(*operands)


def convolve_and_attend(
    x: Tensor, convolution: tuple[Tensor, ...], theta: tuple[Tensor, Tensor], values: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """`x + convolve(x, *convolution)` and what a non-local block reads of the same x -> (J, B, C), (J, B, h).

    x: (J, B, C); convolution: W (2, C, C), own, neighbours, bias; theta: weight (h, C) and bias; values: weights (h, C)
    and biases of phi and of g, then the projection w (2 h,). Read is sum_j ReLU(w . [theta_i, phi_j]) g_j / pairs, with
    phi and g the maxima over nodes 0 and 1, 2 and 3, and so on.
    """
    (theta_weight, theta_bias), (phi, phi_bias, g, g_bias, projection) = theta, values
    of_theta, of_phi = projection.chunk(2)
    # w . [theta_i, phi_j] = a_i + b_j, and a_i is linear in x_i: theta itself is never needed.
    total, a, pooled = _Shortcut.apply(x, *convolution, of_theta @ theta_weight, torch.cat((phi, g)))
    keys, pooled_g = (pooled + torch.cat((phi_bias, g_bias))).chunk(2, dim=-1)
    a, b = a + theta_bias @ of_theta, keys @ of_phi
    # Rows that are contiguous: of transposed ones the batched product would make copies, one by one.
    f = torch.relu(a.t().contiguous()[:, :, None] + b.t().contiguous()[:, None, :]) / len(b)
    return total, torch.bmm(f, pooled_g.transpose(0, 1)).transpose(0, 1)


class _Convolution(torch.autograd.Function):
    """As `convolve`, without autocast."""

    @staticmethod
    def forward(ctx, x, W, own, neighbours, bias):
        y = bias.expand(*x.shape[:2], -1).contiguous()
        of_neighbours = add_products(y, x, W, own, neighbours)
        ctx.save_for_backward(x, W, own, neighbours, of_neighbours)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        """The gradients of all five."""
        with torch.autocast(gradient.device.type, enabled=False):  # a way back may be taken inside of it
            return backward_products(gradient, *ctx.saved_tensors)


class _Shortcut(torch.autograd.Function):
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
        with torch.autocast(d_y.device.type, enabled=False):
            return _Shortcut.gradients(d_y, d_query, d_pooled, *ctx.saved_tensors)

    @staticmethod
    def gradients(d_y, d_query, d_pooled, x, W, own, neighbours, of_neighbours, query, keys_values, second_is_more):
        """As `backward`, from what `forward` kept."""
        d_x, *of_convolution = backward_products(d_y, x, W, own, neighbours, of_neighbours, shortcut=True)
        torch.addr(d_x.flatten(0, 1), d_query.flatten(), query, out=d_x.flatten(0, 1))

        paired = d_x[: 2 * len(d_pooled)].flatten(0, 1)
        of_pairs = torch.empty_like(paired)
        first, second = pairs_of(of_pairs.view(-1, *d_pooled.shape[1:]))
        # A maximum's gradient goes to the second of a pair where that is more, else to the first; a masked fill takes
        # ten times as long.
        torch.ops.aten.threshold_backward.grad_input(d_pooled, second_is_more, 0, grad_input=second)
        torch.sub(d_pooled, second, out=first)
        torch.addmm(paired, of_pairs, keys_values, out=paired)

        rows = x.flatten(0, 1)
        return d_x, *of_convolution, d_query.flatten() @ rows, of_pairs.t() @ rows[: len(of_pairs)]


def add_products(y: Tensor, x: Tensor, W: Tensor, own: Tensor, neighbours: Tensor) -> Tensor:
    """Adds own x W[0] + neighbours x W[1] to y: (J, B, out), in place -> x W[1], which the way back needs."""
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
    """The gradients of x, W, own, neighbours and bias, from the sum's: (J, B, out).

    shortcut: whether x itself is in the sum, too.
    """
    gradient = gradient.contiguous()
    d_of_neighbours = (neighbours.t() @ gradient.flatten(1)).view_as(gradient)
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


def pairs_of(x: Tensor) -> tuple[Tensor, Tensor]:
    """x: (J, B, C) -> the first and the second of each pair of nodes, (J // 2, B, C) each."""
    return x[: len(x) // 2 * 2].unflatten(0, (-1, 2)).unbind(1)
