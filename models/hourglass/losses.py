"""Losses of image-to-3D networks: heat maps, depth at the joints, and bone-length ratios where there is no 3D truth.

Zhou et al., "Towards 3D Human Pose Estimation in the Wild: a Weakly-supervised Approach", ICCV 2017, as the authors'
later code computes them, in plain autograd (its hand-written gradient left out the incoming one, and that of the mean
length where a bone has none). MPII's 16 joints. Depths and places are fractions of the crop's width, image axes.
Nothing here waits for the device, and all is float32 under autocast. A joint that is not annotated enters no loss.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from models.layers import full_precision, no_autocast

# Bones by group, as pairs of joints: legs, arms, hips, shoulders. Within a group the lengths, times the bones' weights,
# are the same for everybody: the mean ratios of thigh to shin and of upper arm to forearm are divided out.
SHIN, FOREARM = 1.0085885098415446, 1.1375361376887123
GROUPS = (
    ((0, 1, SHIN), (1, 2, 1.0), (3, 4, 1.0), (4, 5, SHIN)),
    ((10, 11, FOREARM), (11, 12, 1.0), (13, 14, 1.0), (14, 15, FOREARM)),
    ((2, 6, 1.0), (3, 6, 1.0)),
    ((12, 8, 1.0), (13, 8, 1.0)),
)


def heatmap_loss(output: Mapping[str, Any], target: Tensor, annotated: Tensor | None = None) -> Tensor:
    """Mean squared error of the heat maps, summed over the stacks of networks that have several -> scalar.

    output: of `PoseResNet` or `StackedHourglass`; target: (B, J, H, W); annotated: (B, J), whether a joint counts. The
    mean is over all maps, counted or not, as published, where an unannotated joint's target is an empty map.
    """
    stacks = output.get("hm_stacks", (output["hm"],))
    if annotated is None:
        return sum(F.mse_loss(full_precision(maps), target) for maps in stacks)
    counts = annotated.bool()[..., None, None]
    return sum(F.mse_loss(torch.where(counts, full_precision(maps), target), target) for maps in stacks)


def joint_depth(depth: Tensor, index: Tensor) -> Tensor:
    """Depths of the joints (B, J): read from maps (B, J, H, W), or, regressed as (B, J), as they are.

    index: (B, J) int64, y * W * J + x * J + j, into the map in the order H, W, J (`reg_ind` as published).
    """
    if depth.dim() == 2:
        return full_precision(depth)
    flat = depth.permute(0, 2, 3, 1).flatten(1)  # no copy in torch.channels_last
    rows = torch.arange(len(flat), device=flat.device).unsqueeze(1)
    return full_precision(flat[rows, index])  # `gather` waits for the device on its way back, in some versions of torch


def depth_loss(depth: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Smooth L1 of the joints' depths where `mask` is not 0, over their number + 1e-4; all (B, J) -> scalar."""
    counts = mask.bool()
    error = F.smooth_l1_loss(
        torch.where(counts, full_precision(depth), 0), torch.where(counts, target, 0), reduction="sum"
    )
    return error / (counts.sum() + 1e-4)


def bone_ratio_loss(depth: Tensor, xy: Tensor, visible: Tensor, weakly: Tensor) -> Tensor:
    """Variance of the bone lengths within each group (`GROUPS`), summed over groups and samples, over B -> scalar.

    The geometric loss: equation 4 of the paper, with 1/2 and weights as in the code. Gradients reach the depths only.

    Args:
        depth: (B, 16), of `joint_depth`, at the pixels of `xy`.
        xy: (B, 16, 2), the true places on the image (published: pixels of the heat map / 64).
        visible: (B, 16), above 0.5 where the joint is annotated and on the map; a bone needs both ends.
        weakly: (B,), whether the sample has no 3D truth; others do not enter.
    """
    variance = group_variance(depth, xy, visible)
    return torch.where(weakly.bool(), variance, 0).sum() / len(depth)


class Losses(NamedTuple):
    """Scalars; `total` is what training descends on, a part whose weight is 0 is not computed, and 0."""

    total: Tensor
    heatmap: Tensor
    depth: Tensor
    bones: Tensor


def losses(
    output: Mapping[str, Any],
    maps: Tensor,
    sample: Mapping[str, Tensor],
    weight_3d: float = 0.0,
    weight_var: float = 0.0,
) -> Losses:
    """heatmap + weight_3d * depth + weight_var * bones, of a batch; published weights 0.1 and 0.01.

    output: of `PoseResNet` or `StackedHourglass`; maps: (B, J, h, w), their target; sample: as
    `common.images.people.Crops` names things: `annotated`, and, where a weight is not 0, `reg_ind`, `reg_target`,
    `reg_mask` and, for the last term, `pts_crop`. Samples without any `reg_mask` are those without 3D truth; their
    `reg_target` is the visibility.
    """
    heatmap = heatmap_loss(output, maps, sample["annotated"])
    depth_part = bones = heatmap.new_zeros(())
    if weight_3d or weight_var:
        depth, mask = joint_depth(output["depth"], sample["reg_ind"]), sample["reg_mask"].bool()
        target = sample["reg_target"].squeeze(-1)
        if weight_3d:
            depth_part = depth_loss(depth, target, mask)
        if weight_var:
            xy = sample["pts_crop"] / maps.shape[-1]
            bones = bone_ratio_loss(depth, xy, visible=target, weakly=~mask.any(dim=1))
    return Losses(heatmap + weight_3d * depth_part + weight_var * bones, heatmap, depth_part, bones)


def group_variance(depth: Tensor, xy: Tensor, visible: Tensor) -> Tensor:
    """(B,): sum over groups of (l - E)^2 / (2 n), where n bones with mean length E count.

    As published a bone of length 0 counts in n and E but not in the sum; its length has no gradient.
    """
    with no_autocast(depth):
        depth = full_precision(depth)
        first, second, weight, real = _bones(depth.device, depth.dtype)
        dz = depth[:, first] - depth[:, second]
        across = (xy[:, first] - xy[:, second]).square().sum(-1)
        squared = across.to(dz.dtype) + dz.square()
        positive = squared > 0
        length = weight * torch.where(positive, squared, 1).sqrt() * positive
        seen = visible > 0.5
        counts = seen[:, first] & seen[:, second] & real
        number = counts.sum(-1, keepdim=True).clamp_min(1)  # (B, groups, 1)
        mean = torch.where(counts, length, 0).sum(-1, keepdim=True) / number
        terms = torch.where(counts & positive, (length - mean).square(), 0)
        return (terms / (2 * number)).sum((1, 2))


@cache
def _bones(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """First ends, second ends, weights, and whether it is a bone: (4 groups, 4 places) each."""
    rows = [[*((*bone, True) for bone in group), *(((0, 0, 1.0, False),) * (4 - len(group)))] for group in GROUPS]
    with torch.inference_mode(False):
        columns = [torch.tensor([[place[i] for place in row] for row in rows], device=device) for i in range(4)]
        return columns[0], columns[1], columns[2].to(dtype), columns[3]
