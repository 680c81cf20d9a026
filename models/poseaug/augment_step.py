"""One forward pass of PoseAug's augmentor against both discriminators and the lifter (Gong et al., CVPR 2021): every
term of its loss, what it made, and what the log says of it. Nothing here waits for the device.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from common.camera import project
from models.poseaug.augmentor import AugmentedPoses, Augmentor
from models.poseaug.losses import (
    FeedbackErrors,
    PosePair,
    accuracy,
    adversarial_generator_loss,
    bone_turns,
    feedback_errors,
)

# Names in TensorBoard, as published, in the order of `AugmentorTerms.logged`.
LOGGED = (
    *(f"train_G_iter_PoseAug/{d}_{name}" for d in ("g3d", "g2d") for name in ("real_acc", "fake_acc", "adv_loss")),
    "train_G_iter_posenet_feedback/1) pos_pair_loss_origin",
    "train_G_iter_posenet_feedback/2) pos_pair_loss_ba",
    "train_G_iter_posenet_feedback/3) pos_pair_loss_rt",
    *(f"train_G_iter_diff_log/{name}" for name in ("angle_change", "log_angle_diff", "log_diff_blr")),
    *(f"train_G_iter_diff_log/log_angle@bone_{bone:02d}" for bone in range(15)),
)

FEEDBACK = ("hard_mean", "hard_std", "hard_sample", "hard_mean_loss", "hard_std_loss")  # as in `poseaug.Feedback`
AUGMENTOR_TERMS = (  # of a step of the augmentor: loss, range of angles and of lengths, both feedbacks, `LOGGED`
    "train_G_iter/gen_loss",
    "train_G_iter_diff_loss/loss_diff_angle",
    "train_G_iter_diff_loss/loss_diff_blr",
    *(f"train_G_iter_posenet_feedback/{part}_{name}" for part in ("ba", "rt") for name in FEEDBACK),
    *LOGGED,
)
DISCRIMINATOR_TERMS = tuple(
    f"train_G_iter_PoseAug/{d}_{name}" for d in ("d3d", "d2d") for name in ("real_acc", "fake_acc", "dis_loss")
)


class AugmentorTerms(NamedTuple):
    """made: the poses of `Augmentor`; keypoints_ba, keypoints_rt: (B, 16, 2), their projections.

    adversarial_3d, adversarial_2d: scalars; errors: the lifter's, (B, 3) each; logged: (len(LOGGED),), no gradient.
    """

    made: AugmentedPoses
    keypoints_ba: Tensor
    keypoints_rt: Tensor
    adversarial_3d: Tensor
    adversarial_2d: Tensor
    errors: FeedbackErrors
    logged: Tensor


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
    """keypoints: (B, 16, 2); poses: (B, 16, 3), absolute; camera: (B, 9), screen units; noise: four of (B, 48)."""
    made = augmentor(poses, noise)
    camera = camera.unsqueeze(1)
    ba, rt = (
        PosePair(project(made.pose_ba, camera), made.pose_ba),
        PosePair(project(made.pose_rt, camera), made.pose_rt),
    )
    with torch.no_grad():  # only for the log: they move nothing
        real_3d, real_2d = discriminator_3d(poses), discriminator_2d(keypoints)
    fake_3d, fake_2d = discriminator_3d(made.pose_ba), discriminator_2d(rt.keypoints)
    losses = adversarial_generator_loss(real_3d, fake_3d), adversarial_generator_loss(real_2d, fake_2d)
    errors = feedback_errors(lifter, PosePair(keypoints, poses), ba, rt)
    with torch.no_grad():
        turns = bone_turns(made.ba_diff)
        logged = (
            *(accuracy(real_3d, 0.0), accuracy(fake_3d, 1.0), losses[0]),
            *(accuracy(real_2d, 0.0), accuracy(fake_2d, 1.0), losses[1]),
            *(part.mean() for part in errors),
            *(made.ba_diff.mean(), turns.mean(), made.blr.abs().mean()),
        )
        logged = torch.cat((torch.stack(logged).detach(), turns))
    return AugmentorTerms(made, ba.keypoints, rt.keypoints, *losses, errors, logged)
