"""A 1x1 convolution kept under its published name and shape, computed as what it is: a linear layer on rows."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Pointwise(nn.Module):
    """Linear layer on rows whose weight is stored as a 1x1 convolution's.

    The released ITES checkpoints hold `weight: (out, in, 1, 1)` (teacher) and `(out, in, 1)` (student). A matrix
    product on rows gives the same numbers as the convolution and skips its layout changes.

    Args:
        in_features, out_features: channels.
        spatial_dims: number of trailing ones in the weight's shape.
        bias: whether there is one.
    """

    def __init__(self, in_features: int, out_features: int, spatial_dims: int, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features, *(1,) * spatial_dims))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        nn.init.kaiming_normal_(self.weight)

    @property
    def matrix(self) -> Tensor:
        """The weight as a matrix, (out, in)."""
        return self.weight.flatten(1)

    def forward(self, rows: Tensor) -> Tensor:
        """rows: (..., in) -> (..., out)."""
        return F.linear(rows, self.matrix, self.bias)

    def extra_repr(self) -> str:
        out_features, in_features = self.weight.shape[:2]
        return f"{in_features}, {out_features}, bias={self.bias is not None}"
