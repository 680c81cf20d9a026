"""Oracles of the encoder-decoder: forms of its losses and errors that only comparisons need."""

import torch
from torch import Tensor

from models.encoder_decoder.losses import least_squares_scale, restore_pose, squared_pose_errors, without_root
from models.encoder_decoder.network import Partners
from models.encoder_decoder.views import check_whole


def subject_pose_loss(
    pred: Tensor, target: Tensor, mean: Tensor, std: Tensor, subject: Tensor, labelled: Tensor
) -> Tensor:
    """`pose_loss` over the poses of the `labelled` subjects, scalar, 0 if the batch has none. The published form, kept
    for comparison.

    subject: (B,), labelled: (n,), both on the device.
    """
    errors = squared_pose_errors(pred, target, mean, std)
    counts = torch.isin(subject, labelled)
    return torch.where(counts, errors, 0.0).sum() / counts.sum().clamp(min=1)


def scaled_mpjpe(pred: Tensor, target: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Test error of the pose head: MPJPE after the best scale, times J / (J - 1). (B, 3 J) each -> (B,), labels' unit.

    The factor takes the root, which is right by definition, out of the mean. The poses of a published score are
    averaged plainly. The published form, kept for comparison: scripts score with N-MPJPE.
    """
    pose, wanted = restore_pose(pred, mean, std), target.unflatten(-1, (-1, 3))
    pose = pose * least_squares_scale(pose, wanted)[:, None, None]
    return without_root(torch.linalg.vector_norm(pose - wanted, dim=-1).mean(-1), pose.shape[-2])


def rolled_partners(count: int, size: int, device: torch.device | str = "cpu") -> Partners:
    """The published test: in each sub-batch of `size` views row i is turned into the view before it, look unchanged.

    count: rows of the batch, a multiple of `size`; sub-batches of two exchange views, [1, 0, 3, 2, ...].
    Kept for comparison.
    """
    check_whole(count, size)
    index = torch.arange(count, device=device)
    return Partners(index.view(-1, size).roll(1, dims=1).flatten(), index)
