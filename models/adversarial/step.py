"""A training step of the adversarial lifters: the discriminators' looks, the gradients of every network from one pass
over the poses, and the accuracy cap. Nothing here waits for the device.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.adversarial import losses
from models.functional import rotate

GOLDEN = (1 + 5**0.5) / 2
CHUNK = 8192  # poses at once where nothing is learned


class Rival(NamedTuple):
    """What came of a discriminator's look at made-up and at real poses, scalars: loss for the lifter, loss for the
    discriminator, and its accuracy (without gradient).
    """

    generator_loss: Tensor
    loss: Tensor
    accuracy: Tensor


def judged(judge: nn.Module, fake: Tensor, real: Tensor, scale: float | Tensor = 1.0) -> Rival:
    """One look at each pose, times `scale` (a discriminator without batch norm hardly sees small numbers); judge:
    (B, J, 2) -> logits (B, 1).
    """
    fake_scores, real_scores = judge(fake * scale), judge(real * scale)
    accuracy = losses.accuracy(real_scores, fake_scores)
    return Rival(losses.generator_loss(fake_scores), losses.discriminator_loss(real_scores, fake_scores), accuracy)


def frames_judged(
    lifter: Callable[[Tensor], Tensor], judge: nn.Module, keypoints: Tensor, rotations: Tensor, scale: float | Tensor
) -> Rival:
    """Chen's temporal discriminator, on how projections of turned poses move.

    keypoints: (2 B, J, 2), pairs of consecutive frames in turn; rotations: (B, 3, 3), one for both frames.
    """
    pose = losses.chen_lift(keypoints, lifter(keypoints))
    seen = losses.chen_project(rotate(pose, losses.for_frames(rotations)))
    return judged(judge, losses.frame_difference(seen), losses.frame_difference(keypoints), scale)


@torch.no_grad()
def kudo_consistency(lifter: Callable[[Tensor], Tensor], keypoints: Tensor) -> float:
    """What a lifter loses of keypoints (N, J, 2) that it lifts, turns about y, lifts again and turns back: the mean
    distance in their unit. The angles are spread evenly, the same at every call.
    """
    distance = keypoints.new_zeros((), dtype=torch.float64)
    turns = torch.arange(len(keypoints), dtype=torch.float64, device=keypoints.device) / GOLDEN
    theta = (2 * torch.pi * turns.frac()).to(keypoints.dtype)
    for points, angle in zip(keypoints.split(CHUNK), theta.split(CHUNK), strict=True):
        seen = losses.kudo_projection(points, lifter(points), angle)
        back = losses.kudo_projection(seen, lifter(seen), -angle)
        distance += torch.linalg.vector_norm(back - points, dim=-1).mean(1).sum()
    return distance.item() / len(keypoints)


def backward(total: Tensor, lifter: nn.Module, rivals: Iterable[Rival], judges: Sequence[nn.Module]) -> None:
    """Adds the gradients of `total` to the lifter, and of each rival's loss to its discriminator, to nothing else."""
    rivals = tuple(rivals)
    total.backward(inputs=list(lifter.parameters()), retain_graph=bool(rivals))
    for judge, rival in zip(judges, rivals, strict=False):
        rival.loss.backward(inputs=list(judge.parameters()), retain_graph=True)


def capped_steps(optimizers: Sequence[torch.optim.Optimizer], rates: Sequence[Tensor], cap: float) -> None:
    """Steps of the lifter and of the discriminators by their accuracies `rates`, scalars: above `cap` a discriminator
    waits, below 1 - cap of the first the lifter. optimizers: the lifter's, then the discriminators'.

    Without a look at the numbers: a step left out changes nothing (`gan_losses.masked_step`).
    """
    losses.masked_step(optimizers[0], losses.generator_may_step(rates[0], cap))
    for optimizer, rate in zip(optimizers[1:], rates, strict=False):
        losses.masked_step(optimizer, losses.discriminator_may_step(rate, cap))
