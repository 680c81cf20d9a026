"""PoseAug's discriminators: is a 3D pose, is a 2D pose, like those of people? (Gong et al., CVPR 2021)

The 3D one looks at five parts of the body apart, and at the angles between their bones only (KCS: kinematic chain
space, Wandt and Rosenhahn, "RepNet", CVPR 2019): neither position nor size nor turn matters. Scores are raw, for a
least-squares GAN: 1 for real, 0 for made up.
"""

from itertools import combinations_with_replacement

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.bones import bone_vectors, unit_bones
from models.layers import full_precision, kaiming_linears, no_autocast

# Bones of each part, in the order of the scores. "left" and "right" leg are the published names: bones 0 to 2 are the
# right leg's.
PARTS = {
    "left arm": (7, 9, 10, 11),
    "right arm": (7, 12, 13, 14),
    "left leg": (0, 1, 2, 3, 6),
    "right leg": (0, 3, 4, 5, 6),
    "torso": (0, 3, 6, 7, 8, 9, 12),
}
BONES = 15


def part_pairs(part: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Pairs (i, j) of a part's bones, i <= j: one half of its symmetric KCS matrix, with the diagonal."""
    return tuple(combinations_with_replacement(part, 2))


class KcsPath(nn.Module):
    """Inner products of a part's bones -> score (B, 1). Names and shapes of the parameters are the published ones.

    `kcs_layer_1` is stored for all 225 entries of the KCS matrix, of which those outside the part are zero and the
    others come twice: forward sees each product once, and adds up the columns that belong to it.
    """

    def __init__(self, part: tuple[int, ...], width: int = 256, middle: int = 100):
        super().__init__()
        self.kcs_layer_1 = nn.Linear(BONES * BONES, width)
        self.kcs_layer_2 = nn.Linear(width, width)
        self.kcs_layer_3 = nn.Linear(width, width)
        self.layer_last = nn.Linear(width, middle)
        self.layer_pred = nn.Linear(middle, 1)
        pairs = part_pairs(part)
        columns = torch.zeros(BONES * BONES, len(pairs))
        for place, (i, j) in enumerate(pairs):
            columns[i * BONES + j, place] = columns[j * BONES + i, place] = 1
        self.register_buffer("columns", columns, persistent=False)

    def forward(self, products: Tensor) -> Tensor:
        """products: (B, pairs), pairs (i, j) of the part's bones with i <= j."""
        with no_autocast(products):
            weight = self.kcs_layer_1.weight @ self.columns
        a = F.leaky_relu(F.linear(products, weight, self.kcs_layer_1.bias), inplace=True)
        b = F.leaky_relu(self.kcs_layer_2(a), inplace=True)
        c = self.kcs_layer_3(b) + a
        return _head(self.layer_pred, F.leaky_relu(self.layer_last(c), inplace=True))


class Discriminator3D(nn.Module):
    """(B, 16, 3) poses, metres, any frame -> (B, 5) scores of the parts, in the order of `PARTS`."""

    def __init__(self):
        super().__init__()
        for number, part in enumerate(PARTS.values(), 1):
            setattr(self, f"kcs_path_{number}", KcsPath(part))
        pairs = [part_pairs(part) for part in PARTS.values()]
        self.sizes = [len(some) for some in pairs]
        first, second = zip(*sum(pairs, ()), strict=True)
        self.register_buffer("first", _selection(first), persistent=False)
        self.register_buffer("second", _selection(second), persistent=False)
        kaiming_linears(self)

    def forward(self, poses: Tensor) -> Tensor:
        with no_autocast(poses):
            products = self.products(unit_bones(bone_vectors(poses)))
        paths = (getattr(self, f"kcs_path_{number}") for number in range(1, len(PARTS) + 1))
        return torch.cat([path(some) for path, some in zip(paths, products, strict=True)], dim=1)

    def products(self, bones: Tensor) -> tuple[Tensor, ...]:
        """Inner products within each part, bones: (B, 15, 3) -> (B, pairs) for each part, in the order of its
        `part_pairs`: the entries of its KCS matrix.
        """
        flat = bones.flatten(1)
        products = ((flat @ self.first) * (flat @ self.second)).unflatten(1, (3, -1)).sum(1)
        return products.split(self.sizes, dim=1)


class Discriminator2D(nn.Module):
    """(B, J, 2) poses, screen-normalised -> (B, 1) scores. Names and shapes of the parameters: as published."""

    def __init__(self, joints: int = 16, width: int = 100):
        super().__init__()
        self.pose_layer_1 = nn.Linear(2 * joints, width)
        self.pose_layer_2 = nn.Linear(width, width)
        self.pose_layer_3 = nn.Linear(width, width)
        self.pose_layer_4 = nn.Linear(width, width)
        self.layer_last = nn.Linear(width, width)
        self.layer_pred = nn.Linear(width, 1)
        kaiming_linears(self)

    def forward(self, keypoints: Tensor) -> Tensor:
        first = F.leaky_relu(self.pose_layer_1(keypoints.flatten(1)), inplace=True)
        second = F.leaky_relu(self.pose_layer_2(first), inplace=True)
        third = F.leaky_relu(self.pose_layer_3(second).add_(first), inplace=True)
        fourth = self.pose_layer_4(third)
        return _head(self.layer_pred, F.leaky_relu(self.layer_last(fourth), inplace=True))


def _head(linear: nn.Linear, features: Tensor) -> Tensor:
    with no_autocast(features):
        return linear(full_precision(features))


def _selection(bones: tuple[int, ...]) -> Tensor:
    """(45, 3 * pairs): flattened (bone, axis) rows -> (axis, pair), one bone of each pair; a product is one sweep over
    memory then, and its sum over the axes three.
    """
    matrix = torch.zeros(BONES, 3, 3, len(bones))
    for place, bone in enumerate(bones):
        for axis in range(3):
            matrix[bone, axis, axis, place] = 1
    return matrix.view(BONES * 3, 3 * len(bones))
