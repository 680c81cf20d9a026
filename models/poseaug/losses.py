"""PoseAug's losses (Gong et al., "PoseAug: A Differentiable Pose Augmentation Framework for 3D Human Pose Estimation",
CVPR 2021), as functions of tensors; nothing here waits for the device.

The generator's total is adv2d + 6 adv3d + 3 (angle + length of `diff_loss`) + `feedback_loss` of BA and of RT, the
feedback only after the warm-up. Three of the terms are gated: an entry within its limit counts as zero in a mean over
all entries, and one beyond it counts in full (the limit is not subtracted).
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from common.camera import project
from models.layers import centre, no_autocast
from models.poseaug.augmentor import AugmentedPoses, Augmentor

# What the lifter's error at each joint weighs, and the groups it is averaged in: shoulders and hips; knees, elbows and
# head; feet and hands. Hip, spine and thorax are in none. The weights do not sum to one, as published.
JOINT_WEIGHTS = (1, 5, 2, 1, 5, 2, 1, 1, 1, 1, 5, 2, 1, 5, 2, 1)
JOINT_GROUPS = ((1, 4, 10, 13), (2, 5, 9, 11, 14), (3, 6, 12, 15))
DEGREES = 57.29  # per radian, as published


class PosePair(NamedTuple):
    """keypoints: (B, 16, 2), screen-normalised; poses: (B, 16, 3), metres, camera frame, any root."""

    keypoints: Tensor
    poses: Tensor


class FeedbackErrors(NamedTuple):
    """The lifter's errors, each (B, 3), in the groups of `JOINT_GROUPS`; `original` carries no gradient."""

    original: Tensor
    ba: Tensor
    rt: Tensor


class Feedback(NamedTuple):
    """loss: scalar, with gradient. The rest are for the log, scalars without: mean and standard deviation of the ratio,
    that of the batch's first pose (mean of its groups), and the two terms of the loss before their factors.
    """

    loss: Tensor
    mean: Tensor
    std: Tensor
    sample: Tensor
    mean_loss: Tensor
    std_loss: Tensor


# ------------------------------------------------------------ adversarial


def adversarial_generator_loss(real_scores: Tensor | None, fake_scores: Tensor) -> Tensor:
    """Least squares: 0.5 (mean real^2 + mean (fake - 1)^2), scores of any shape -> scalar.

    The real half moves no weight of the generator; it makes the logged number the published one. There `real` is the
    batch that was augmented, not the discriminator's. None leaves that half out.
    """
    fake = (fake_scores - 1).square().mean()
    return 0.5 * (fake if real_scores is None else real_scores.detach().square().mean() + fake)


def discriminator_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Least squares: 0.5 (mean (real - 1)^2 + mean fake^2), scores of any shape -> scalar."""
    return 0.5 * ((real_scores - 1).square().mean() + fake_scores.square().mean())


def accuracy(scores: Tensor, label: float) -> Tensor:
    """Share of scores within 0.5 of the label, any shape -> scalar without gradient."""
    return ((scores.detach() - label).abs() < 0.5).to(scores.dtype).mean()


# ------------------------------------------------------------ range


def range_loss(values: Tensor, target: Tensor | float, limit: float) -> Tensor:
    """Mean over all entries of (values - target)^2 where that is above limit^2, else 0. (...) -> scalar."""
    return _gated((values - target).square(), limit).mean()


def diff_loss(
    ba_diff: Tensor, blr: Tensor, ba_mean: float = 0.205, ba_width: float = 0.165, blr_limit: float = 0.1
) -> tuple[Tensor, Tensor]:
    """How far the augmentor goes. ba_diff: (B, 15), blr: (B, 9) -> (angle, length), scalars to be added.

    The mean of a pose's 1 - cos may differ from `ba_mean` by `ba_width`; each relative change of length from 0 by
    `blr_limit`.
    """
    return range_loss(ba_diff.mean(dim=1), ba_mean, ba_width), range_loss(blr, 0.0, blr_limit)


def _gated(squares: Tensor, limit: float) -> Tensor:
    # a product, not a choice: NaN times zero stays NaN, and a diverged step is seen
    return squares * (squares > limit**2)


# ------------------------------------------------------------ feedback


def feedback_errors(
    lifter: Callable[[Tensor], Tensor], original: PosePair, ba: PosePair, rt: PosePair
) -> FeedbackErrors:
    """What the lifter, (B, 16, 2) -> (B, 16, 3), makes of the original and the augmented poses.

    Three passes in this order, as published: in training mode each is a step of its running statistics. Gradients reach
    the augmentor through the keypoints and through the poses; the original's pass carries none.
    """
    with torch.no_grad():
        reference = _lifter_errors(lifter, original)
    return FeedbackErrors(reference, _lifter_errors(lifter, ba), _lifter_errors(lifter, rt))


def _lifter_errors(lifter: Callable[[Tensor], Tensor], pair: PosePair) -> Tensor:
    predicted = lifter(pair.keypoints)
    with no_autocast(predicted):
        return group_errors(predicted, centre(pair.poses))


def group_errors(predicted: Tensor, target: Tensor) -> Tensor:
    """Weighted joint errors, averaged in `JOINT_GROUPS`. (B, 16, 3) root-relative targets, and predictions as they come
    (the published code leaves their root where it is) -> (B, 3).
    """
    errors = torch.linalg.vector_norm(predicted - target, dim=-1)
    if torch.compiler.is_compiling():  # a compiler melts the sums into one kernel
        joint = errors.unbind(-1)
        return torch.stack([sum(JOINT_WEIGHTS[j] / len(g) * joint[j] for j in g) for g in JOINT_GROUPS], dim=-1)
    return errors @ _group_weights(errors.dtype, errors.device)


@cache
def _group_weights(dtype: torch.dtype, device: torch.device) -> Tensor:
    """(16, 3), joints to groups; also usable for training where it is first asked for in inference mode."""
    with torch.inference_mode(False):
        weights = torch.zeros(len(JOINT_WEIGHTS), len(JOINT_GROUPS))
        for group, joints in enumerate(JOINT_GROUPS):
            for joint in joints:
                weights[joint, group] = JOINT_WEIGHTS[joint] / len(joints)
        return weights.to(device, dtype)


def hard_ratio(epoch: int, epochs: int, start: float, end: float) -> float:
    """How much harder augmented poses should be at an epoch: from `start` in a straight line to `end` after all."""
    return start + (end - start) * epoch / epochs


def feedback_loss(
    errors: Tensor, original: Tensor, target: float | Tensor, std: float, factor: float, spread_factor: float = 0.0
) -> Feedback:
    """The lifter's error on augmented poses should be `target` times that on the originals, give or take `std`.

    errors: (B, 3), of the augmented poses; original: (B, 3), without gradient. Published: BA target 3 to 5
    (`hard_ratio`), std 2, factor 0.1; RT target 17, std 15, factor 0.01. The target may be a scalar tensor, for it
    changes every epoch. The spread term, (std of the ratios - std)^2, has factor 0 as published.
    """
    ratio = errors / original
    mean_loss, spread = range_loss(ratio, target, std), ratio if spread_factor else ratio.detach()
    std_loss = (spread.std() - std).square()
    loss = factor * mean_loss
    if spread_factor:  # else 0 * NaN, of a batch of equal ratios, would spoil the gradient
        loss = loss + spread_factor * std_loss
    ratio = ratio.detach()
    return Feedback(loss, ratio.mean(), ratio.std(), ratio[0].mean(), mean_loss.detach(), std_loss.detach())


# ------------------------------------------------------------ all terms


class AugmentorTerms(NamedTuple):
    """made: the poses of `Augmentor`; keypoints_rt: (B, 16, 2), their projections; errors: the lifter's.

    terms: scalars, of which `adversarial_3d` and `adversarial_2d` carry gradients. The rest are for the log: the
    discriminators' accuracies (labels exchanged, as published), mean errors, and by how much poses are changed.
    """

    made: AugmentedPoses
    keypoints_rt: Tensor
    errors: FeedbackErrors
    terms: dict[str, Tensor]


def augment(
    augmentor: Augmentor,
    lifter: Callable[[Tensor], Tensor],
    discriminator_3d: Callable[[Tensor], Tensor],
    discriminator_2d: Callable[[Tensor], Tensor],
    keypoints: Tensor,
    poses: Tensor,
    camera: Tensor,
    noise: tuple[Tensor, ...],
) -> AugmentorTerms:
    """The augmentor's forward pass against both discriminators and the lifter.

    keypoints: (B, 16, 2); poses: (B, 16, 3), absolute; camera: (B, 9), screen units; noise: four of (B, 48).
    """
    made = augmentor(poses, noise)
    camera = camera.unsqueeze(1)
    ba, rt = (PosePair(project(pose, camera), pose) for pose in (made.pose_ba, made.pose_rt))
    with torch.no_grad():  # only for the log: they move nothing
        real_3d, real_2d = discriminator_3d(poses), discriminator_2d(keypoints)
    fake_3d, fake_2d = discriminator_3d(made.pose_ba), discriminator_2d(rt.keypoints)
    adversarial_3d = adversarial_generator_loss(real_3d, fake_3d)
    adversarial_2d = adversarial_generator_loss(real_2d, fake_2d)
    errors = feedback_errors(lifter, PosePair(keypoints, poses), ba, rt)
    with torch.no_grad():
        turns = bone_turns(made.ba_diff)
        terms = {
            "real_acc_3d": accuracy(real_3d, 0.0), "fake_acc_3d": accuracy(fake_3d, 1.0),
            "real_acc_2d": accuracy(real_2d, 0.0), "fake_acc_2d": accuracy(fake_2d, 1.0),
            "error_original": errors.original.mean(), "error_ba": errors.ba.mean(), "error_rt": errors.rt.mean(),
            "angle_change": made.ba_diff.mean(), "turn": turns.mean(), "length_change": made.blr.abs().mean(),
        } | {f"turn_{bone:02d}": turn for bone, turn in enumerate(turns.unbind())}  # fmt: skip
    terms |= {"adversarial_3d": adversarial_3d, "adversarial_2d": adversarial_2d}
    return AugmentorTerms(made, rt.keypoints, errors, terms)


# ------------------------------------------------------------ around the losses


def in_view(keypoints: Tensor) -> Tensor:
    """Which augmented poses are kept for the lifter, (..., J, 2) -> (...) bool: those with no coordinate above 1.

    Coordinates below -1 pass, as published.
    """
    return (keypoints <= 1).flatten(-2).all(dim=-1)


@torch.no_grad()
def bone_turns(ba_diff: Tensor) -> Tensor:
    """Mean turn of each bone in degrees, for the log. ba_diff: (B, 15) = 1 - cos -> (15,)."""
    return (1 - ba_diff).clamp(-1, 1).acos().mean(dim=0) * DEGREES


def decay_factor(epoch: int, epochs: int, start: int = 0) -> float:
    """What the learning rates of all four networks are multiplied by at an epoch, counted from 0: 1 up to the epoch
    `start` (0 as published), then on a straight line to 0.
    """
    return 1 - max(0, epoch - start) / (epochs + 1 - start)
