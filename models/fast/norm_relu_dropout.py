"""Batch norm, ReLU and dropout in one go, with one way back: what stands between the matrix products of the lifters.

A training step on a CPU goes over memory as little as it can. Rows are taken in blocks that stay in the cache for a
chain of operations. Dropout's random numbers, from torch's default generator, are as few bits as the rate needs (two
for a rate of 1/4). Neither the norm's result nor the mask is kept for the way back: where y > 0, and there only, both
ReLU and dropout let the gradient through. Of bfloat16, as it comes under autocast, norm and sums are float32.
"""

import torch
from torch import Tensor

BLOCK = 1 << 18  # numbers handled at once: few enough for the caches, enough to be worth starting an operation


def norm_relu_dropout(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
    p: float,
) -> Tensor:
    """x: (N, C) -> (N, C) = dropout(relu(batch_norm(x)), p), in training; the rest as in `torch.nn.functional`.

    running_mean, running_var: (C,), moved in place. Do not change x in place afterwards.
    """
    return _NormReluDropout.apply(x, weight, bias, running_mean, running_var, momentum, eps, p)


class _NormReluDropout(torch.autograd.Function):
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


def dropout_factors(x: Tensor, p: float) -> Tensor:
    """What dropout multiplies x: (...) by: 0 with probability p, else 1 / (1 - p); p as a multiple of 1/65536."""
    dropped = round(p * 2**16)
    numbers = draw_numbers(x.numel(), 16).view(torch.int16).view_as(x)  # from -2^15 on
    return (numbers >= dropped - 2**15).to(x.dtype).div_(1 - dropped / 2**16)


def keep_above(values: Tensor, criterion: Tensor, threshold: float, out: Tensor) -> Tensor:
    """values where criterion > threshold, else 0, into `out`. A masked fill takes ten times as long."""
    return torch.ops.aten.threshold_backward.grad_input(values, criterion, threshold, grad_input=out)
