"""train_gan.py takes the steps of Chen et al. (CVPR 2019) and of Kudo et al. (2018), written out here."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.parity import (
    TEST,
    TRAIN,
    Martinez,
    Step,
    Watched,
    assert_same_losses,
    first_draws,
    motion,
    views,
    virtual,
    watch,
    write_data,
)

WIDTH, CAP = 24, 0.5
SMALL = {"gan_lifter": {"width": WIDTH, "stages": 1}, "gan_discriminator": {"width": WIDTH, "stages": 1}}
SMALL |= {name: {"width": WIDTH} for name in ("kudo_generator", "kudo_discriminator")}
RUN = ("--data-dir", ".", "--dataset", "tiny", "--subjects-train", ",".join(TRAIN), "--subjects-test", ",".join(TEST))
RUN += ("--device", "cpu", "--batch_size", 32, "-e", 4, "--gan_accuracy_cap", CAP)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny data set."""
    folder = tmp_path_factory.mktemp("gan")
    write_data(folder)
    return folder


# ------------------------------------------------------------ the textbook


class Kudo(nn.Module):
    """Three layers and a shortcut, without batch norm."""

    def __init__(self, outputs: int):
        super().__init__()
        self.l1, self.l2, self.l3 = nn.Linear(34, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.l4 = nn.Linear(WIDTH, outputs)

    def forward(self, poses: Tensor) -> Tensor:
        first = F.leaky_relu(self.l1(poses.flatten(1)), 0.2)
        return self.l4(F.leaky_relu(self.l3(F.leaky_relu(self.l2(first), 0.2)) + first, 0.2))


class Score:
    """A discriminator's look at made and at real poses: the losses of both sides, and how often it is right."""

    def __init__(self, judge: nn.Module, fake: Tensor, real: Tensor):
        fake, real = judge(fake), judge(real)
        self.generator = F.softplus(-fake).mean()
        self.discriminator = F.softplus(-real).mean() + F.softplus(fake).mean()
        self.accuracy = ((real >= 0).double().mean() + (fake < 0).double().mean()).item() / 2


class Networks:
    """A lifter, discriminators, an Adam for each, and the rule of who steps."""

    def __init__(self, seen: Watched, lifter: nn.Module, *judges: nn.Module, rates: tuple[float, float], **adam):
        networks = (lifter, *judges)
        for network, start in zip(networks, seen.networks, strict=True):
            network.double().load_state_dict(start.state_dict())
        self.lifter, self.judges = lifter, judges
        rates = (rates[0], *[rates[1]] * len(judges))
        self.adam = [
            torch.optim.Adam(net.parameters(), rate, **adam) for net, rate in zip(networks, rates, strict=True)
        ]
        self.waited = set()

    def step(self, total: Tensor, scores: list[Score]) -> None:
        """The lifter waits while the (first) discriminator is too bad, a discriminator while it is too good."""
        may = [scores[0].accuracy >= 1 - CAP, *(score.accuracy <= CAP for score in scores)]
        for adam, loss in zip(self.adam, (total, *(score.discriminator for score in scores)), strict=True):
            weights = adam.param_groups[0]["params"]
            for weight, gradient in zip(weights, torch.autograd.grad(loss, weights, retain_graph=True), strict=True):
                weight.grad = gradient
        for number, adam in enumerate(self.adam):
            if may[number]:
                adam.step()
            else:
                self.waited.add(number)


def network_input() -> Tensor:
    """From the hip on, the other joints 1 from it on average."""
    return at_one_size(views(TRAIN).pixels)


def at_one_size(points: Tensor) -> Tensor:
    points = points - points[..., :1, :]
    return points / points[..., 1:, :].norm(dim=-1).mean(-1)[..., None, None]


# ------------------------------------------------------------ Kudo


def kudo_steps(networks: Networks, steps: list[Step]) -> Iterator[dict[str, Tensor]]:
    """A turn about y, seen from afar; faces look forward."""
    keypoints = network_input()
    for step in steps:
        points = step.input(0, keypoints[step.index])
        depth = networks.lifter(points)
        theta = 2 * math.pi * torch.rand(len(points), generator=step.draws()).double()[:, None]
        x, y = points.unbind(-1)
        turned = torch.stack((x * theta.cos() + depth * theta.sin(), y), -1)
        score = Score(networks.judges[0], turned, points)
        z0, x0 = depth[:, 9] - depth[:, 8], x[:, 9] - x[:, 8]
        z1, x1 = depth[:, 14] - depth[:, 11], x[:, 14] - x[:, 11]
        sine = (z0 * x1 - z1 * x0) / ((z0**2 + x0**2) * (z1**2 + x1**2)).sqrt()
        heuristic = (-sine).relu().mean()
        total = score.generator + heuristic
        networks.step(total, [score])
        yield {
            "gen_loss": total, "adversarial": score.generator, "heuristic": heuristic, "dis_loss": score.discriminator,
            "accuracy": score.accuracy,
        }  # fmt: skip


def test_kudo(here, script, monkeypatch):
    rates = ("--gen_lr", 2e-4, "--dis_lr", 2e-4, "--beta1", 0.5, "--weight_decay", 1e-5)  # as published
    options = ("--method", "kudo", "--use_heuristic_loss", *rates, "-c", "kudo")
    seen = watch(script, monkeypatch, "train_gan.py", *RUN, *options, small=SMALL)
    networks = Networks(seen, Kudo(17), Kudo(1), rates=(2e-4, 2e-4), betas=(0.5, 0.999), weight_decay=1e-5)
    assert_same_losses(seen.steps, list(kudo_steps(networks, seen.steps)))
    assert 0 in networks.waited


# ------------------------------------------------------------ Chen


def rotations(draws: torch.Generator, count: int) -> Tensor:
    """About y by U(-pi, pi), then about x by U(-pi / 9, pi / 9), for points @ R."""
    a, b = (
        (2 * torch.rand(2, count, generator=draws) - 1).double() * torch.tensor([[math.pi], [math.pi / 9]])
    ).unbind()
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    about_y = torch.stack((a.cos(), zero, -a.sin(), zero, one, zero, a.sin(), zero, a.cos()), 1)
    about_x = torch.stack((one, zero, zero, zero, b.cos(), -b.sin(), zero, b.sin(), b.cos()), 1)
    return about_y.view(-1, 3, 3) @ about_x.view(-1, 3, 3)


def lifted(lifter: nn.Module, keypoints: Tensor) -> Tensor:
    """The root is 10 away, no joint is nearer than 1."""
    depth = lifter(keypoints)
    away = (10 + depth - depth[:, :1]).clamp(min=1).unsqueeze(-1)
    return torch.cat((keypoints * away, away - 10), -1)


def projected(poses: Tensor) -> Tensor:
    return poses[..., :2] / (poses[..., 2:] + 10).clamp(min=1)


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared, summed over joints."""
    return (a - b).square().sum((1, 2)).mean()


class Cameras:
    """What Chen's networks see of rows (B,) or (B, 2): of the rig, or, where `world` is given, of random cameras."""

    def __init__(self, world: Tensor | None = None):
        self.world = world
        raw = network_input() if world is None else at_one_size(virtual(world, first_draws()).keypoints)
        self.factor = 1 / (10 * raw[:, 10].norm(dim=-1).mean())
        self.keypoints = self.factor * raw

    def see(self, rows: Tensor, draws: torch.Generator) -> Tensor:
        if self.world is None:
            return self.keypoints[rows]
        return self.factor * at_one_size(virtual(self.world[rows], draws).keypoints)


def chen_steps(networks: Networks, steps: list[Step], cameras: Cameras) -> Iterator[dict[str, Tensor]]:
    """adversarial + 10 L_2D + 0.001 L_3D + the same on differences of frames."""
    keypoints, lifter = cameras.keypoints, networks.lifter
    moving = torch.arange(0, len(keypoints), 2)  # two frames a sequence
    pairs = cameras.see(torch.stack((moving, moving + 1), 1), first_draws())
    scale, motion_scale = 1 / keypoints.std(), 1 / (pairs[:, 1] - pairs[:, 0]).std()
    for step in steps:
        draws = step.draws()
        points = step.input(0, cameras.see(step.index, draws))
        turns = rotations(draws, len(points))
        turned = lifted(lifter, points) @ turns
        seen = projected(turned)
        again = lifted(lifter, seen)
        loss_2d, loss_3d = distance(points, projected(again @ turns.mT)), distance(turned, again)
        still = Score(networks.judges[0], seen * scale, points * scale)

        first = moving[torch.randint(len(moving), (len(points) // 4,), generator=draws)]
        frames = cameras.see(torch.stack((first, first + 1), 1), draws).flatten(0, 1)
        frames = step.input(0, frames, 2 * len(points))
        turns = rotations(draws, len(first)).repeat_interleave(2, 0)
        change = [x[1::2] - x[::2] for x in (projected(lifted(lifter, frames) @ turns), frames)]
        motion = Score(networks.judges[1], *(x * motion_scale for x in change))

        total = still.generator + 10 * loss_2d + 0.001 * loss_3d + motion.generator
        networks.step(total, [still, motion])
        yield {
            "gen_loss": total, "adversarial": still.generator, "loss_2d": loss_2d, "loss_3d": loss_3d,
            "temporal": motion.generator, "dis_loss": still.discriminator, "accuracy": still.accuracy,
        }  # fmt: skip


@pytest.mark.parametrize("cameras", ["rig", "virtual"])
def test_chen(here, script, monkeypatch, cameras):
    options = ("--dropout", 0, "--gen_lr", 5e-4, "--dis_lr", 5e-3, "--cameras", cameras, "-c", f"chen_{cameras}")
    seen = watch(script, monkeypatch, "train_gan.py", *RUN, *options, small=SMALL)
    networks = Networks(
        seen, Martinez(34, 17, WIDTH), Martinez(34, 1, WIDTH), Martinez(34, 1, WIDTH), rates=(5e-4, 5e-3)
    )
    seen_by = Cameras(motion(TRAIN) if cameras == "virtual" else None)
    assert_same_losses(seen.steps, list(chen_steps(networks, seen.steps, seen_by)))
    assert cameras == "virtual" or {0, 1} <= networks.waited
