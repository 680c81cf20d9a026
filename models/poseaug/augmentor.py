"""PoseAug's augmentor: three generators that make a training pose harder (Gong et al., "PoseAug: A Differentiable Pose
Augmentation Framework for 3D Human Pose Estimation", CVPR 2021).

Bone angle (BA) turns the bones, bone length (BL) scales them, rigid motion (RT) turns and moves the body. Each sees the
ORIGINAL pose relative to its root, and noise of its own. Camera frame, metres; bones as in `common.bones`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.bones import bone_lengths, bone_vectors, pose_from_bones
from common.errors import InputError
from common.rotation import so3_exp_exact
from common.skeleton import H36M_16
from models.layers import centre, full_precision, kaiming_linears, no_autocast

NOISE = 48  # channels of the noise that each trunk gets
WIDTH = 256
STAGES = 2
RATIOS = 9  # three of a leg, three of the trunk, three of an arm: both sides take the same
FIXED_BONES = slice(6, 8)  # hip-spine and spine-thorax keep their direction
FIXED_RATIO = 4  # and spine-thorax its length
HALF_TURN = 3.1415  # the published code writes pi with five digits


class AugmentedPoses(NamedTuple):
    """What the augmentor returns for (B, 16, 3) poses.

    pose_ba: (B, 16, 3), bones turned, lengths and root kept; ba_diff: (B, 15), 1 - cos of every bone's turn.
    pose_bl: (B, 16, 3), pose_ba with scaled bones; blr: (B, 9), relative changes of length, spread by `spread_ratios`.
    pose_rt: (B, 16, 3), pose_bl turned about its root, which lands at the translation.
    rotation: (B, 3), axis times angle in radians; translation: (B, 3), metres.
    """

    pose_ba: Tensor
    ba_diff: Tensor
    pose_bl: Tensor
    blr: Tensor
    pose_rt: Tensor
    rotation: Tensor
    translation: Tensor


class Stage(nn.Module):
    """(B, width) -> (B, width): twice linear, batch norm, leaky ReLU; no skip."""

    def __init__(self, width: int):
        super().__init__()
        self.w1 = nn.Linear(width, width)
        self.batch_norm1 = nn.BatchNorm1d(width)
        self.w2 = nn.Linear(width, width)
        self.batch_norm2 = nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        return _layer(self.w2, self.batch_norm2, _layer(self.w1, self.batch_norm1, x))


def _layer(linear: nn.Linear, norm: nn.BatchNorm1d, x: Tensor) -> Tensor:
    return F.leaky_relu(norm(linear(x)), inplace=True)


def _stages() -> nn.Sequential:
    return nn.Sequential(*(Stage(WIDTH) for _ in range(STAGES)))


class BoneAngle(nn.Module):
    """(B, inputs) -> (B, bones, 3), what is added to each bone's direction. Published names."""

    def __init__(self, inputs: int, bones: int):
        super().__init__()
        self.w1 = nn.Linear(inputs, WIDTH)
        self.batch_norm1 = nn.BatchNorm1d(WIDTH)
        self.linear_stages = _stages()
        self.w2 = nn.Linear(WIDTH, 3 * bones)

    def forward(self, x: Tensor) -> Tensor:
        features = self.linear_stages(_layer(self.w1, self.batch_norm1, x))
        with no_autocast(features):
            return self.w2(full_precision(features)).unflatten(1, (-1, 3))


class BoneLength(nn.Module):
    """(B, inputs) -> (B, 9), relative changes of length within the limit. Published names."""

    def __init__(self, inputs: int, limit: float):
        super().__init__()
        self.limit = limit
        self.w1_BL = nn.Linear(inputs, WIDTH)
        self.batch_norm_BL = nn.BatchNorm1d(WIDTH)
        self.linear_stages_BL = _stages()
        self.w2_BL = nn.Linear(WIDTH, RATIOS)

    def forward(self, x: Tensor) -> Tensor:
        features = self.linear_stages_BL(_layer(self.w1_BL, self.batch_norm_BL, x))
        with no_autocast(features):
            ratios = self.limit * self.w2_BL(full_precision(features)).tanh()
        before, fixed, after = ratios.split((FIXED_RATIO, 1, RATIOS - FIXED_RATIO - 1), dim=1)
        return torch.cat((before, torch.zeros_like(fixed), after), dim=1)


class RigidMotion(nn.Module):
    """(B, inputs) twice -> rotation (B, 3), axis times angle, and translation (B, 3). Published names.

    The depth is the square of the network's output: in front of the camera, but as near as it likes.
    """

    def __init__(self, inputs: int):
        super().__init__()
        self.w1_R = nn.Linear(inputs, WIDTH)
        self.batch_norm_R = nn.BatchNorm1d(WIDTH)
        self.linear_stages_R = _stages()
        self.w1_T = nn.Linear(inputs, WIDTH)
        self.batch_norm_T = nn.BatchNorm1d(WIDTH)
        self.linear_stages_T = _stages()
        self.w2_R = nn.Linear(WIDTH, 3)
        self.w2_T = nn.Linear(WIDTH, 3)

    def forward(self, for_rotation: Tensor, for_translation: Tensor) -> tuple[Tensor, Tensor]:
        turning = self.linear_stages_R(_layer(self.w1_R, self.batch_norm_R, for_rotation))
        moving = self.linear_stages_T(_layer(self.w1_T, self.batch_norm_T, for_translation))
        with no_autocast(turning):
            rotation = HALF_TURN * self.w2_R(full_precision(turning)).tanh()
            across, depth = self.w2_T(full_precision(moving)).split((2, 1), dim=1)
            return rotation, torch.cat((across, depth.square()), dim=1)


class Augmentor(nn.Module):
    """The three generators; names and shapes of the parameters are the published ones.

    Args:
        joints: 16, the joints of `common.skeleton.H36M_16`: which bones keep what is written for it.
        tanh_limit: largest relative change of a bone's length.
    """

    def __init__(self, joints: int = 16, tanh_limit: float = 0.2):
        super().__init__()
        if joints != H36M_16.num_joints:
            raise InputError(f"the augmentor was asked for {joints} joints: it knows the bones of {H36M_16.name} only")
        bones = joints - 1
        self.BAprocess = BoneAngle(3 * joints + NOISE, bones)
        self.BLprocess = BoneLength(3 * joints + bones + NOISE, tanh_limit)
        self.RTprocess = RigidMotion(3 * joints + NOISE)
        kaiming_linears(self)

    def forward(self, poses: Tensor, noise: Sequence[Tensor]) -> AugmentedPoses:
        """poses: (B, 16, 3), camera frame, metres; noise: four of (B, 48), for BA, BL, R and T (`draw_noise`)."""
        noise_ba, noise_bl, noise_r, noise_t = noise
        with no_autocast(poses):
            root, body = poses[:, 0], centre(poses).flatten(1)
            vectors = bone_vectors(poses)
            lengths = bone_lengths(vectors)
        delta = self.BAprocess(torch.cat((body, noise_ba), dim=1))
        blr = self.BLprocess(torch.cat((body, lengths, noise_bl), dim=1))
        rotation, translation = self.RTprocess(torch.cat((body, noise_r), 1), torch.cat((body, noise_t), 1))
        with no_autocast(poses):
            lengths = lengths.unsqueeze(-1)
            before = vectors / lengths
            after = turn_bones(before, delta)
            turned = after * lengths
            scaled = pose_from_bones(turned * (1 + spread_ratios(blr)).unsqueeze(-1))
            return AugmentedPoses(
                pose_ba=pose_from_bones(turned, root),
                ba_diff=1 - (before * after).sum(-1),
                pose_bl=scaled + root.unsqueeze(1),
                blr=blr,
                pose_rt=move(scaled, rotation, translation),
                rotation=rotation,
                translation=translation,
            )


def draw_noise(
    count: int, generator: torch.Generator | None = None, device: torch.device | str | None = None
) -> tuple[Tensor, ...]:
    """Standard normal noise for `count` poses: four of (count, 48), for BA, BL, R and T."""
    return torch.randn(4, count, NOISE, generator=generator, device=device).unbind(0)


def turn_bones(directions: Tensor, delta: Tensor) -> Tensor:
    """directions: (..., 15, 3) of unit length, delta: (..., 15, 3) -> (..., 15, 3), the sums at unit length.

    The bones of the spine keep their direction exactly.
    """
    sums = directions + delta
    turned = sums / torch.linalg.vector_norm(sums, dim=-1, keepdim=True)
    first, last = FIXED_BONES.start, FIXED_BONES.stop
    return torch.cat((turned[..., :first, :], directions[..., FIXED_BONES, :], turned[..., last:, :]), dim=-2)


def spread_ratios(ratios: Tensor) -> Tensor:
    """(..., 9), three each of leg, trunk and arm, -> (..., 15), one for every bone: both legs, trunk, both arms."""
    leg, trunk, arm = ratios.split(3, dim=-1)
    return torch.cat((leg, leg, trunk, arm, arm), dim=-1)


def move(poses: Tensor, rotation: Tensor, translation: Tensor) -> Tensor:
    """Root-relative poses (B, J, 3), turned about the root by axis times angle (B, 3), root put at (B, 3).

    The published conversion divides the axis by angle + 1e-6; this one is exact, the matrices differ by 1e-6 at most.
    """
    with no_autocast(poses):
        matrix = so3_exp_exact(rotation)  # for column vectors
        return torch.baddbmm(translation.unsqueeze(1), poses, matrix.transpose(1, 2))
