"""Small tensor functions that the networks and their losses share."""

import torch
from torch import Tensor, nn


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


def full_precision(x: Tensor) -> Tensor:
    """bfloat16 and float16 to float32; wider types stay."""
    return x.float() if x.element_size() < 4 else x


def no_autocast(like: Tensor) -> torch.autocast:
    """Context without autocast on the tensor's device: heads, geometry and losses keep their precision under --amp."""
    return torch.autocast(like.device.type, enabled=False)


def kaiming_linears(model: nn.Module) -> None:
    """Kaiming-normal weights in every linear layer, as PoseAug starts its networks; biases stay torch's."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
