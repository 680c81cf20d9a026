"""Batch normalisation over the batch of all processes (torch's own SyncBatchNorm needs CUDA; this one runs on any
device).
"""

import torch
import torch.distributed as dist
from torch import nn


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm of (N, C) or (N, C, ...) inputs that takes its statistics over all processes; shards may differ in
    size.

    In training every process must call it, in the same order. Names in the state dict, momentum, eps and the update
    of the running statistics are those of `nn.BatchNorm*d`; in evaluation it is the plain module.
    """

    def _check_input_dim(self, input: torch.Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected an input of 2 or more dimensions, got {input.dim()}")

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """input (N, C, ...) -> the same shape and dtype."""
        if not self.training or not dist.is_initialized():
            return super().forward(input)
        self._check_input_dim(input)
        mean, variance, count = global_moments(input if input.dtype == torch.float64 else input.float())
        self._update(mean.detach(), variance.detach(), count)
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight
        shape = (1, -1) + (1,) * (input.dim() - 2)
        output = (input - mean.view(shape)) * scale.view(shape)
        if self.affine:
            output = output + self.bias.view(shape)
        return output.to(input.dtype)

    @torch.no_grad()
    def _update(self, mean: torch.Tensor, variance: torch.Tensor, count: torch.Tensor) -> None:
        if not self.track_running_stats:
            return
        self.num_batches_tracked += 1
        momentum = self.momentum if self.momentum is not None else 1 / self.num_batches_tracked.float()
        unbiased = variance * (count / (count - 1))
        self.running_mean += momentum * (mean - self.running_mean)
        self.running_var += momentum * (unbiased - self.running_var)


def global_moments(input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean (C,), biased variance (C,) and number of values per channel over the (N, C, ...) inputs of all processes.

    Each process sends its count, mean and variance, and the variances are combined around the common mean (Chan et
    al. 1979). A sum of squares would lose the variance of channels whose mean is large.
    """
    channels = input.shape[1]
    variance, mean = torch.var_mean(input, dim=[0, *range(2, input.dim())], correction=0)
    count = mean.new_full((1,), input.numel() // channels)
    table = input.new_zeros(dist.get_world_size(), 2 * channels + 1)
    table[dist.get_rank()] = torch.cat([count, mean, variance])
    counts, means, variances = AllReduce.apply(table).split([1, channels, channels], dim=1)
    total = counts.sum()
    share = counts / total
    mean = (share * means).sum(0)
    return mean, (share * (variances + (means - mean) ** 2)).sum(0), total.detach()


class AllReduce(torch.autograd.Function):
    """The sum over all processes, and the sum of its gradients on the way back."""

    @staticmethod
    def forward(ctx, values: torch.Tensor) -> torch.Tensor:
        """values: the same shape on every process."""
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        """The gradient with regard to this process's values, of the sum of all processes' results."""
        return AllReduce.apply(gradient.contiguous())


def synchronise(module: nn.Module) -> nn.Module:
    """Replace every batch norm within `module` by a `SyncBatchNorm` that shares its parameters and buffers."""
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return _synchronised(module)
    for name, child in module.named_children():
        setattr(module, name, synchronise(child))
    return module


def _synchronised(plain: nn.Module) -> SyncBatchNorm:
    sync = SyncBatchNorm(plain.num_features, plain.eps, plain.momentum, plain.affine, plain.track_running_stats)
    sync.weight, sync.bias = plain.weight, plain.bias
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        setattr(sync, name, getattr(plain, name))
    return sync.train(plain.training)
