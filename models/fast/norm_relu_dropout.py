"""Batch norm, ReLU and dropout in one go: what stands between the matrix products of the lifters.

`y = norm_relu_dropout(x, norm, p, training)` replaces `F.dropout(F.relu(norm(x)), p, training)` for x of shape (N, C),
channels last, with `norm` an `nn.BatchNorm1d`. Bring other layouts to rows first: a feature map (B, T, C) is
`x.flatten(0, 1)`, or `x.view(-1, C)`. On the CPU a training step goes over memory as little as it can; on CUDA, in
evaluation, and with any other norm (`common.run.batch_norm.SyncBatchNorm`) it is torch's own operations. Both draw from
torch's default generator, but not the same numbers. Of bfloat16, as it comes under autocast, norm and sums are float32.

How the fast form works. Rows are taken in blocks that stay in the cache for a chain of operations. Dropout's random
numbers are as few bits as the rate needs (two for a rate of 1/4). Neither the norm's result nor the mask is kept for
the way back: where y > 0, and there only, both ReLU and dropout let the gradient through.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCK = 1 << 18  # numbers handled at once: few enough for the caches, enough to be worth starting an operation


def norm_relu_dropout(x: Tensor, norm: nn.Module, p: float, training: bool) -> Tensor:
    """x: (N, C) -> (N, C) = dropout(relu(norm(x)), p).

    norm: batch norm over C channels; its running statistics move in training as they always do; p: share of zeros that
    dropout makes in training, the rest being scaled by 1 / (1 - p); training: whether dropout and norm are training.
    Do not change x in place afterwards.
    """
    if _is_fast(x, norm) and training and norm.training and len(x) > 1 and p < 1:
        norm.num_batches_tracked.add_(1)
        return _NormReluDropout.apply(
            x, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.momentum, norm.eps, p
        )
    scoring = not (training or norm.training or torch.is_grad_enabled())
    if _is_fast(x, norm) and scoring and x.dtype == norm.weight.dtype:
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt_()
        return torch.addcmul(torch.addcmul(norm.bias, norm.running_mean, scale, value=-1), x, scale).clamp_min_(0)
    return F.dropout(F.relu(norm(x), inplace=True), p, training)


def _is_fast(x: Tensor, norm: nn.Module) -> bool:
    """Whether the fast form knows this norm and this input, and gains by it."""
    return (
        type(norm) is nn.BatchNorm1d
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
        and x.device.type == "cpu"
        and x.dtype in (norm.weight.dtype, torch.bfloat16)
        and x.dim() == 2
        and x.is_contiguous()
        and not torch.compiler.is_compiling()
    )


class _NormReluDropout(torch.autograd.Function):
    """The fast form."""

    @staticmethod
    def forward(ctx, x, weight, bias, running_mean, running_var, momentum, eps, p):
        """All as in `norm_relu_dropout`; running_mean and running_var move."""
        mean, variance = torch.batch_norm_update_stats(x, running_mean, running_var, momentum)
        inverse = (variance + eps).rsqrt_()
        bits, dropped = dropout_code(p)
        factor = 1 / (1 - dropped / 2**bits)  # of what dropout keeps; it may as well come before the ReLU
        scale = weight * inverse * factor
        shift = torch.addcmul(bias * factor, mean, scale, value=-1)
        rows = block_rows(x)
        y = torch.empty_like(x)
        numbers = draw_numbers(x.numel(), bits).view_as(x) if dropped else x  # x: not looked at
        wide, drawn = weight.new_empty(2, *x[:rows].shape)
        for x_block, y_block, number in zip(x.split(rows), y.split(rows), numbers.split(rows), strict=True):
            result = y_block if y.dtype == wide.dtype else wide[: len(y_block)]
            torch.addcmul(shift, widened(x_block, wide), scale, out=result).clamp_min_(0)
            if dropped:
                keep_above(result, widened(number, drawn), dropped - 0.5, out=result)
            y_block.copy_(result)  # nothing, if it is y_block
        ctx.save_for_backward(x, y, mean, inverse, scale)
        ctx.factor = factor
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        """The gradients of x, weight and bias."""
        x, y, mean, inverse, scale = ctx.saved_tensors
        gradient = gradient.contiguous()
        rows = block_rows(x)
        passed = torch.empty_like(x)  # the gradient that ReLU and dropout let through, without dropout's factor
        parts = [tensor.split(rows) for tensor in (gradient, x, y, passed)]
        product, wide = mean.new_empty(2, *x[:rows].shape)
        sums = mean.new_empty(2, len(parts[0]), x.shape[1])
        for i, (g, x_block, y_block, out) in enumerate(zip(*parts, strict=True)):
            through = widened(keep_above(g, y_block, 0, out=out), wide)
            centred = torch.sub(widened(x_block, product), mean, out=product[: len(g)])
            torch.sum(through, 0, out=sums[0, i])
            torch.sum(centred.mul_(through), 0, out=sums[1, i])
        total, moment = sums.sum(1)
        # x's gradient is scale * (passed - mean(passed) - xhat * mean(passed * xhat)), here a row times each and a row.
        slope = (moment * inverse.square()).mul_(scale).div_(-len(x))
        offset = (total * scale).div_(-len(x)).addcmul_(mean, slope, value=-1)
        for x_block, out in zip(parts[1], parts[3], strict=True):
            rest = torch.addcmul(offset, widened(x_block, product), slope, out=product[: len(out)])
            through = widened(out, wide)
            out.copy_(torch.addcmul(rest, through, scale, out=through))
        return passed, moment * inverse * ctx.factor, total * ctx.factor, None, None, None, None, None


def widened(block: Tensor, room: Tensor) -> Tensor:
    """`block`, or a copy of it in the first rows of `room` where that is of another type."""
    return block if block.dtype == room.dtype else room[: len(block)].copy_(block)


def block_rows(x: Tensor) -> int:
    """Rows of x: (N, C) in a block."""
    return max(1, BLOCK // x.shape[1])


def dropout_code(p: float) -> tuple[int, int]:
    """A rate as (bits, dropped): a number of so many random bits is below `dropped` with probability p.

    Rates that are no multiple of 1/65536 are rounded to one.
    """
    for bits in (1, 2, 4, 8):
        if (p * 2**bits).is_integer():
            return bits, int(p * 2**bits)
    return 16, round(p * 2**16)


def draw_numbers(count: int, bits: int) -> Tensor:
    """-> (count,) integers of so many random bits, 1, 2, 4, 8 or 16, from torch's default generator."""
    words = torch.empty((count * bits + 63) // 64, dtype=torch.int64).random_(-(2**63), None)
    if bits < 8:
        low = (2**bits - 1) * 0x0101010101010101  # the lowest number of every byte
        words = (words >> torch.arange(0, 8, bits)[:, None]).bitwise_and_(low)
    return words.view(torch.uint16 if bits == 16 else torch.uint8).flatten()[:count]


def keep_above(values: Tensor, criterion: Tensor, threshold: float, out: Tensor) -> Tensor:
    """values where criterion > threshold, else 0, into `out`. A masked fill takes ten times as long."""
    return torch.ops.aten.threshold_backward.grad_input(values, criterion, threshold, grad_input=out)
