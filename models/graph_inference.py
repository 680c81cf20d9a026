"""Graph layers in evaluation: a layer's constants, its batch norms and its shortcut among them, are folded into the
matrices that it multiplies with, so that each product is the last one that the layer could do without.

Node-major layout: features are (J, B, C).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.graph_conv import SemanticGraphConv
from models.non_local import NonLocal

FEWEST = 64  # poses for which folding pays


class FoldedNonLocal(NamedTuple):
    """Constants of a non-local block, h = C / 2; see `NonLocal` for the formula.

    query (C,) and query_shift (): a_i = query . x_i + query_shift, with the constant of b_j. keys_values (C, 2h): phi
    and g side by side, without biases (which the maximum over a pair does not change). key (h,): b_j = key . phi_j.
    output (h, C), output_shift (C,): what a value adds to the layer's sum, both norms and the mean over pairs included.
    """

    query: Tensor
    query_shift: Tensor
    keys_values: Tensor
    key: Tensor
    output: Tensor
    output_shift: Tensor


class FoldedLayer(NamedTuple):
    """Constants of ReLU(norm(graph convolution + shortcut + non-local block)), the last two only where `non_local` is.

    own (J, in, out): what a node adds to itself, the shortcut included. neighbours (in, out), mixing (J, J): what it
    gets from the others. shift (out,).
    """

    own: Tensor
    neighbours: Tensor
    mixing: Tensor
    shift: Tensor
    non_local: FoldedNonLocal | None


def can_fold(model: nn.Module, x: Tensor) -> bool:
    """Whether folding pays: `model` is being evaluated, in full precision, on a CPU, and x (B, ...) is many poses."""
    scoring = not model.training and not torch.is_grad_enabled() and not torch.compiler.is_compiling()
    return scoring and len(x) >= FEWEST and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def fold(gconv: SemanticGraphConv, bn: nn.BatchNorm1d, non_local: NonLocal | None = None) -> FoldedLayer:
    """The constants of one layer as its parameters are now; no gradients flow into them."""
    scale, shift = scale_and_shift(bn)
    weights, bias = gconv.attention(), gconv.bias
    own = weights.diagonal()[:, None, None] * gconv.W[0]
    folded = None
    if non_local is not None:
        folded, extra = fold_non_local(non_local, scale, pairs=len(weights) // 2)
        own, bias = own + torch.eye(len(scale), dtype=own.dtype), bias + extra
    mixing = weights - torch.diag(weights.diagonal())
    return FoldedLayer(own * scale, gconv.W[1] * scale, mixing, bias * scale + shift, folded)


def fold_non_local(block: NonLocal, scale: Tensor, pairs: int) -> tuple[FoldedNonLocal, Tensor]:
    """The block's constants, its output times `scale` (C,), and the constant (C,) of its output before that."""
    phi, g, last = block.phi[0], block.g[0], block.W[0]
    theta_weight, key = block.concat_project[0].matrix[0].chunk(2)
    inner_scale, inner_shift = scale_and_shift(block.W[1])
    output = last.matrix.t() * (inner_scale * scale / pairs)
    constants = FoldedNonLocal(
        query=theta_weight @ block.theta.matrix,
        query_shift=theta_weight @ block.theta.bias + key @ phi.bias,
        keys_values=torch.cat([phi.matrix, g.matrix]).t().contiguous(),
        key=key,
        output=output,
        output_shift=g.bias @ output,
    )
    return constants, last.bias * inner_scale + inner_shift


def scale_and_shift(bn: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """(C,) each: a norm in evaluation is x * scale + shift."""
    scale = bn.weight * torch.rsqrt(bn.running_var + bn.eps)
    return scale, bn.bias - bn.running_mean * scale


def run_layer(layer: FoldedLayer, x: Tensor) -> Tensor:
    """x: (J, B, in) -> (J, B, out)."""
    messages = (x.flatten(0, 1) @ layer.neighbours).unflatten(0, x.shape[:2])
    y = torch.addmm(layer.shift.repeat(x.shape[1]), layer.mixing, messages.flatten(1)).view_as(messages)
    y.baddbmm_(x, layer.own)
    if layer.non_local is not None:
        y += attend(layer.non_local, x)
    return y.relu_()


def attend(block: FoldedNonLocal, x: Tensor) -> Tensor:
    """x: (J, B, C) -> what the non-local block adds to the layer's sum, (J, B, C)."""
    pairs, poses = len(x) // 2, x.shape[1]
    keys_values = (x[: 2 * pairs].flatten(0, 1) @ block.keys_values).unflatten(0, (pairs, 2, poses))
    keys, values = torch.maximum(*keys_values.unbind(1)).flatten(0, 1).chunk(2, dim=1)
    # The rows of f must be contiguous for the batched product: of transposed ones it would make copies, one by one.
    a = (x @ block.query + block.query_shift).t().contiguous()
    b = (keys @ block.key).view(pairs, poses).t().contiguous()
    f = (a[:, :, None] + b[:, None, :]).relu_()
    # There are half as many pairs as nodes: the last product comes before the sum over pairs.
    values = torch.addmm(block.output_shift, values, block.output).unflatten(0, (pairs, poses))
    return torch.bmm(f, values.transpose(0, 1)).transpose(0, 1)
