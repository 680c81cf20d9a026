"""A training step of Chen's adversarial lifter for `benchmarks.train_step`: ours, and one as it is usually written."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

import models
from benchmarks.published import Published
from common.run.run import Run
from models.adversarial import geometry, losses
from models.adversarial import step as gan_step

CAP = 0.9
COUNTED = 64  # poses of which the work is counted


def make_step(lifter: nn.Module, keypoints: Tensor, run: Run) -> Callable[[Tensor], Tensor]:
    """One step of `train_gan.py --method chen` with both discriminators, from the indices of a batch."""
    discriminators = [run.prepare(models.create("gan_discriminator")).train() for _ in range(2)]
    adam = [torch.optim.Adam(network.parameters(), 1e-4, fused=True) for network in (lifter, *discriminators)]
    pose_scale, motion_scale = 1 / keypoints.std(), 1 / (keypoints[1:] - keypoints[:-1]).std()

    def step(index: Tensor) -> Tensor:
        points, moving = keypoints[index], index[: len(index) // 4]
        turns = geometry.chen_rotations(len(index), generator=run.generator, device=run.device)
        frames = keypoints[torch.stack((moving, (moving + 1) % len(keypoints)), 1).flatten()]
        frame_turns = geometry.chen_rotations(len(moving), generator=run.generator, device=run.device)
        with run.autocast():
            cycle = losses.chen_cycle(lambda x: lifter(x).float(), points, turns)
            both = (
                gan_step.adversarial(discriminators[0], cycle.projected, points, pose_scale),
                gan_step.temporal(lambda x: lifter(x).float(), discriminators[1], frames, frame_turns, motion_scale),
            )
            total = both[0].generator_loss + both[1].generator_loss
            total = total + losses.CHEN_WEIGHT_2D * losses.consistency_2d(points, cycle)
            total = total + losses.CHEN_WEIGHT_3D * losses.consistency_3d(cycle)
        for optimizer in adam:
            optimizer.zero_grad()
        gan_step.backward(total, lifter, [part.discriminator_loss for part in both], discriminators)
        gan_step.capped_steps(adam, [part.accuracy for part in both], CAP)
        return total.detach()

    return run.accelerate(step, *adam)


def make_baseline(keypoints: Tensor, run: Run, batch_size: int) -> Callable[[], object]:
    """The usual step: DataLoader items, a pass of the discriminators for each network's turn, `.item()` for the cap."""
    names = "gan_lifter", "gan_discriminator", "gan_discriminator"
    lifter, *discriminators = (Published(name).to(run.device) for name in names)
    adam = [torch.optim.Adam(network.parameters(), 1e-4) for network in (lifter, *discriminators)]
    pairs = TensorDataset(keypoints[:-1].cpu(), keypoints[1:].cpu())
    loader = DataLoader(pairs, batch_size, shuffle=True)
    batches = (batch for _ in itertools.count() for batch in loader if len(batch[0]) == batch_size)

    def step() -> float:
        points, following = (tensor.to(run.device) for tensor in next(batches))
        quarter = batch_size // 4
        frames = torch.stack((points[:quarter], following[:quarter]), 1).flatten(0, 1)
        turns = geometry.chen_rotations(batch_size, device=run.device)
        frame_turns = geometry.for_frames(geometry.chen_rotations(quarter, device=run.device))
        with run.autocast():
            cycle = losses.chen_cycle(lifter, points, turns)
            seen = geometry.chen_project(geometry.chen_lift(frames, lifter(frames)) @ frame_turns)
            scored = (
                (discriminators[0], cycle.projected, points),
                (discriminators[1], losses.frame_difference(seen), losses.frame_difference(frames)),
            )
            total = losses.CHEN_WEIGHT_2D * losses.consistency_2d(points, cycle)
            total = total + losses.CHEN_WEIGHT_3D * losses.consistency_3d(cycle)
            total = total + sum(losses.generator_loss(disc(fake)) for disc, fake, _ in scored)
        adam[0].zero_grad()
        total.backward()
        adam[0].step()
        for optimizer, (disc, fake, real) in zip(adam[1:], scored, strict=True):
            with run.autocast():
                real_scores, fake_scores = disc(real), disc(fake.detach())
                loss = losses.discriminator_loss(real_scores, fake_scores)
            optimizer.zero_grad()
            loss.backward()
            if losses.accuracy(real_scores, fake_scores).item() <= CAP:
                optimizer.step()
        return total.item()

    return step


def count_work(batch_size: int, run: Run) -> tuple[float, float]:
    """GFLOP of our step, and of the usual one."""
    keypoints = 0.1 * torch.randn(2 * COUNTED, 17, 2, device=run.device)
    ours = make_step(run.prepare(models.create("gan_lifter")).train(), keypoints, run)
    usual = make_baseline(keypoints, run, COUNTED)
    found = []
    for step in (lambda: ours(torch.arange(COUNTED, device=run.device)), usual):
        with FlopCounterMode(display=False) as counter:
            step()
        found.append(counter.get_total_flops() / 1e9 * batch_size / COUNTED)
    return found[0], found[1]
