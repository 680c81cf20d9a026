"""Scores of image-to-3D networks: accuracy on heat maps, MPJPE at the published size, asymmetry of the bones.

As the code of Zhou et al., "Towards 3D Human Pose Estimation in the Wild: a Weakly-supervised Approach", ICCV 2017,
later revised. One number a pose or joint, on the device; NaN where there is none to give: means are `nanmean`.
P-MPJPE is `common.metrics.p_mpjpe` of the poses in Human3.6M's order, PCKh on images `common.images.pckh`.
"""

import torch
from torch import Tensor

from common.bones import bone_lengths, bone_vectors
from common.images.decode import decode, mpii_to_h36m
from common.metrics import mpjpe
from common.skeleton import MPII_16, Skeleton

ACCURACY_JOINTS = (0, 1, 2, 3, 4, 5, 10, 11, 14, 15)  # MPII: legs, wrists, right elbow and left
BONE_LENGTH_SUM = 4000.0  # millimetres
H36M_EDGES = (
    (3, 2), (2, 1), (1, 0), (0, 4), (4, 5), (5, 6), (0, 7), (7, 8), (8, 10), (16, 15), (15, 14), (14, 8), (8, 11),
    (11, 12), (12, 13),
)  # fmt: skip


def heatmap_distances(maps: Tensor, target: Tensor, refine: str = "published") -> Tensor:
    """Distance of the maxima in tenths of the maps' height, NaN where the target has none. (B, J, H, W) -> (B, J).

    A target counts where its maximum lies right of and below the first pixel: an empty map's is that pixel. "published"
    rows are compared with "published" rows (`heatmap_decode.decode`).
    """
    found, _ = decode(maps, refine)
    truth, _ = decode(target, refine)
    distance = torch.linalg.vector_norm(found - truth, dim=-1) / (maps.shape[-2] / 10)
    return torch.where((truth > 0).all(-1), distance, torch.nan)


def accuracy(distances: Tensor, joints: tuple[int, ...] = ACCURACY_JOINTS, threshold: float = 0.5) -> Tensor:
    """PCK, 0..1: the mean over joints of each joint's share of distances below the threshold (of 64 pixels: 3.2).

    distances: (B, J), of `heatmap_distances`; joints without any do not count, and 0 if there are none -> scalar.
    """
    chosen = torch.stack([distances[:, joint] for joint in joints], 1)  # a list as index is copied to the device
    counted = chosen.isfinite()
    number = counted.sum(0)
    share = ((chosen < threshold) & counted).sum(0) / number.clamp_min(1)
    return share.sum() / (number > 0).sum().clamp_min(1)


def at_published_size(pose: Tensor, total: float = BONE_LENGTH_SUM) -> Tensor:
    """Poses (..., 17, 3) in Human3.6M's order, scaled until the 15 bones' lengths sum to `total`, which is the unit."""
    first, second = zip(*H36M_EDGES, strict=True)
    lengths = torch.linalg.vector_norm(pose[..., list(first), :] - pose[..., list(second), :], dim=-1).sum(-1)
    return pose * (total / lengths.clamp_min(1e-12))[..., None, None]


def hg3d_mpjpe(pose: Tensor, target: Tensor) -> Tensor:
    """The published MPJPE, millimetres: 17 joints, no alignment, the size that of an average person.

    pose: (..., 16, 3), of `decode_3d`; target: (..., 17, 3), Human3.6M, root-relative millimetres -> (...); NaN where
    the target's numbers sum to 0, by which samples without 3D truth are known.
    """
    error = mpjpe(at_published_size(mpii_to_h36m(pose)), target)
    return torch.where(target.sum((-2, -1)) != 0, error, torch.nan)


def bone_asymmetry(pose: Tensor, skeleton: Skeleton = MPII_16) -> Tensor:
    """How much the sides' bones differ: mean over pairs of |left - right| / their mean. (..., J, 3) -> (...).

    0 is even, 2 the most; any unit. What the geometric loss is to bring down.
    """
    bones = bone_lengths(bone_vectors(pose, skeleton))
    of_child = {child: i for i, (_, child) in enumerate(skeleton.bones)}
    left = bones[..., [of_child[joint] for joint in skeleton.left]]
    right = bones[..., [of_child[joint] for joint in skeleton.right]]
    return (2 * (left - right).abs() / (left + right).clamp_min(1e-12)).mean(-1)
