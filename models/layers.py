"""Layers and small tensor functions that the networks and their losses share."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import fast

# ------------------------------------------------------------ points


def centre(points: Tensor) -> Tensor:
    """points: (..., J, D) -> the same with joint 0 at the origin."""
    return points - points[..., :1, :]


def rotate(points: Tensor, rotation: Tensor) -> Tensor:
    """points: (..., J, 3), rotation: (..., 3, 3) -> (..., J, 3) = points @ rotation."""
    # Nine products a joint: a batched matrix product of this size is all overhead, and autocast would round it.
    return (points.unsqueeze(-1) * rotation.unsqueeze(-3)).sum(-2)


def mean_distance(a: Tensor, b: Tensor) -> Tensor:
    """a, b: (..., D) -> mean Euclidean distance, scalar."""
    return torch.linalg.vector_norm(a - b, dim=-1).mean()


def root_first(joints: Tensor) -> Tensor:
    """joints: (..., 3 (J - 1)) root-relative -> (..., J, 3) with the root, at the origin, before them."""
    return F.pad(joints, (3, 0)).unflatten(-1, (-1, 3))


# ------------------------------------------------------------ precision


def full_precision(x: Tensor) -> Tensor:
    """bfloat16 and float16 to float32; wider types stay."""
    return x.float() if x.element_size() < 4 else x


def no_autocast(like: Tensor) -> torch.autocast:
    """Context without autocast on the tensor's device: heads, geometry and losses keep their precision under --amp."""
    return torch.autocast(like.device.type, enabled=False)


# ------------------------------------------------------------ layers


class Pointwise(nn.Module):
    """Linear layer on rows whose weight is stored as a 1x1 convolution's.

    The released checkpoints hold `weight: (out, in, 1, 1)` or `(out, in, 1)`. A matrix product on rows gives the same
    numbers as the convolution and skips its layout changes.

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
        """What `print` shows of the layer: sizes, and whether it has a bias."""
        out_features, in_features = self.weight.shape[:2]
        return f"{in_features}, {out_features}, bias={self.bias is not None}"


def norm_relu_dropout(x: Tensor, norm: nn.Module, p: float, training: bool) -> Tensor:
    """dropout(relu(norm(x)), p). x: (N, C) -> (N, C).

    norm: batch norm over C channels; its running statistics move in training as they always do. p: share of zeros that
    dropout makes in training, the rest being scaled by 1 / (1 - p). Do not change x in place afterwards.
    """
    if training and norm.training and type(norm) is nn.BatchNorm1d and fast.takes_norm(x, norm.weight, p):
        norm.num_batches_tracked.add_(1)
        statistics = norm.running_mean, norm.running_var, norm.momentum
        return fast.norm_relu_dropout(x, norm.weight, norm.bias, *statistics, norm.eps, p)
    return F.dropout(F.relu(norm(x), inplace=True), p, training)


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """`F.dropout`. x: (...) -> (...)."""
    if training and 0 < p < 0.99 and fast.takes() and x.device.type == "cpu":
        return x * fast.dropout_factors(x, p)  # torch draws in one thread, which takes longer than some layers
    return F.dropout(x, p, training)


def kaiming_linears(model: nn.Module) -> None:
    """Kaiming-normal weights in every linear layer, as PoseAug starts its networks; biases stay torch's."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
