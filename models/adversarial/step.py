"""Training step of the adversarial lifters: adversarial losses, the gradients of every network from one pass over the
poses, and the accuracy cap. Nothing here waits for the device.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.adversarial import geometry, losses
from models.layers import rotate

GOLDEN = (1 + 5**0.5) / 2
CHUNK = 8192  # poses at once where nothing is learned


class Adversarial(NamedTuple):
    """Both losses of a discriminator's scores, and its accuracy (without gradient): scalars."""

    generator_loss: Tensor
    discriminator_loss: Tensor
    accuracy: Tensor


def adversarial(discriminator: nn.Module, fake: Tensor, real: Tensor, scale: float | Tensor = 1.0) -> Adversarial:
    """Losses on fake and real poses (B, J, 2), each scored once. discriminator: poses times `scale` (without batch norm
    it hardly sees small numbers) -> logits (B, 1).
    """
    fake_scores, real_scores = discriminator(fake * scale), discriminator(real * scale)
    return Adversarial(
        losses.generator_loss(fake_scores),
        losses.discriminator_loss(real_scores, fake_scores),
        losses.accuracy(real_scores, fake_scores),
    )


def temporal(
    lifter: Callable[[Tensor], Tensor],
    discriminator: nn.Module,
    keypoints: Tensor,
    rotations: Tensor,
    scale: float | Tensor,
) -> Adversarial:
    """Losses of Chen's temporal discriminator, which scores how projections of turned poses move.

    keypoints: (2 B, J, 2), pairs of consecutive frames in turn; rotations: (B, 3, 3), one for both frames.
    """
    pose = geometry.chen_lift(keypoints, lifter(keypoints))
    seen = geometry.chen_project(rotate(pose, geometry.for_frames(rotations)))
    return adversarial(discriminator, losses.frame_difference(seen), losses.frame_difference(keypoints), scale)


@torch.no_grad()
def kudo_consistency(lifter: Callable[[Tensor], Tensor], keypoints: Tensor) -> float:
    """What a lifter loses of keypoints (N, J, 2) that it lifts, turns about y, lifts again and turns back: the mean
    distance in their unit. The angles are spread evenly, the same at every call.
    """
    distance = keypoints.new_zeros((), dtype=torch.float64)
    turns = torch.arange(len(keypoints), dtype=torch.float64, device=keypoints.device) / GOLDEN
    theta = (2 * torch.pi * turns.frac()).to(keypoints.dtype)
    for points, angle in zip(keypoints.split(CHUNK), theta.split(CHUNK), strict=True):
        seen = geometry.kudo_projection(points, lifter(points), angle)
        back = geometry.kudo_projection(seen, lifter(seen), -angle)
        distance += torch.linalg.vector_norm(back - points, dim=-1).mean(1).sum()
    return distance.item() / len(keypoints)


def backward(
    total: Tensor, lifter: nn.Module, discriminator_losses: Sequence[Tensor], discriminators: Sequence[nn.Module]
) -> None:
    """Adds the gradients of `total` to the lifter, and of each discriminator's loss to its own, to nothing else."""
    total.backward(inputs=list(lifter.parameters()), retain_graph=bool(discriminator_losses))
    for discriminator, loss in zip(discriminators, discriminator_losses, strict=False):
        loss.backward(inputs=list(discriminator.parameters()), retain_graph=True)


def capped_steps(optimizers: Sequence[torch.optim.Optimizer], rates: Sequence[Tensor], cap: float) -> None:
    """Steps of the lifter and of the discriminators by the latters' accuracies `rates`, scalars: above `cap` a
    discriminator waits, below 1 - cap of the first the lifter. optimizers: the lifter's, then the discriminators'.

    Without reading the numbers: a step left out changes nothing (`masked_step`).
    """
    masked_step(optimizers[0], generator_may_step(rates[0], cap))
    for optimizer, rate in zip(optimizers[1:], rates, strict=False):
        masked_step(optimizer, discriminator_may_step(rate, cap))


def generator_may_step(accuracy: Tensor, cap: float = 0.9) -> Tensor:
    """Whether the discriminator is good enough to learn from: accuracy >= 1 - cap, scalar bool."""
    return accuracy >= 1 - cap


def discriminator_may_step(accuracy: Tensor, cap: float = 0.9) -> Tensor:
    """Whether the discriminator is not too good already: accuracy <= cap (the reproduction: < cap), scalar bool."""
    return accuracy <= cap


@torch.no_grad()
def masked_step(optimizer: torch.optim.Optimizer, allowed: Tensor) -> None:
    """`optimizer.step()` where `allowed`, a scalar bool on the device, and no step at all where not, without a look.

    A step left out leaves parameters and state as they were, to the bit, whatever the gradients (NaN too); an optimiser
    that has not stepped before gets the state that it would begin with. For Adam and kin, whose state begins with zeros
    (not SGD with momentum, whose first step differs). Cheapest for an optimiser with `fused=True`.
    """
    if all(group.get("fused") for group in optimizer.param_groups):
        # fused optimisers take the flag by which torch.amp.GradScaler leaves out a step, and read it in their kernel
        optimizer.found_inf = (~allowed).float()
        try:
            optimizer.step()
        finally:
            del optimizer.found_inf
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    weights = [p.clone() for p in parameters]
    slots = [{name: slot.clone() for name, slot in optimizer.state.get(p, {}).items()} for p in parameters]
    optimizer.step()
    for p, weight, before in zip(parameters, weights, slots, strict=True):
        p.copy_(torch.where(allowed, p, weight))
        for name, slot in optimizer.state[p].items():
            was = before[name] if before else torch.zeros_like(slot)
            slot.copy_(torch.where(allowed.to(slot.device), slot, was))
