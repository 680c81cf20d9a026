"""The adversarial lifters' geometry and losses: turns, facing, caps that leave no trace, Chen's cycle."""

import copy
import math

import pytest
import torch

import models
from common.camera import perspective
from common.run.run import Run
from models.adversarial import geometry, step
from models.adversarial import losses as gan
from models.adversarial import step as gan_step
from tests.golden import adversarial_oracles


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def people(count: int = 6, seed: int = 0) -> torch.Tensor:
    """Root-relative poses (count, 17, 3) of about the size that Chen's units give."""
    poses = 0.5 * seeded(count, 17, 3, seed=seed).double()
    return poses - poses[:, :1]


# ------------------------------------------------------------ normalisation


def test_normalisation_undoes_place_and_size():
    keypoints, poses = seeded(5, 17, 2), 300 * seeded(5, 17, 3, seed=1)
    found = geometry.normalise_2d(keypoints)
    torch.testing.assert_close(found, geometry.normalise_2d(70 * keypoints + 400), rtol=1e-3, atol=1e-4)
    assert not found[:, 0].any()
    torch.testing.assert_close(found[:, 1:].norm(dim=-1).mean(-1), torch.ones(5))
    target = geometry.normalise_3d(poses)
    torch.testing.assert_close(target.pose[..., :2], geometry.normalise_2d(poses[..., :2]))
    torch.testing.assert_close(target.pose * target.scale[:, None, None], poses - poses[:, :1])


def test_heads_are_a_tenth_from_their_roots_on_average():
    keypoints = geometry.normalise_2d(seeded(50, 17, 2))
    scaled = keypoints * geometry.head_factor(keypoints)
    assert scaled[:, 10].norm(dim=-1).mean().item() == pytest.approx(0.1)


# ------------------------------------------------------------ adversarial


def test_softplus_losses_and_accuracies():
    real, fake = torch.tensor([2.0, 0.0, -1.0]).requires_grad_(), torch.tensor([-3.0, 0.0, 1.0]).requires_grad_()
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits
    torch.testing.assert_close(gan.generator_loss(fake), cross_entropy(fake, torch.ones(3)))
    expected = cross_entropy(real, torch.ones(3)) + cross_entropy(fake, torch.zeros(3))
    torch.testing.assert_close(gan.discriminator_loss(real, fake), expected)
    assert gan.accuracy_real(real).item() == pytest.approx(2 / 3)
    assert gan.accuracy_fake(fake).item() == pytest.approx(1 / 3)
    assert gan.accuracy(real, fake).item() == pytest.approx(1 / 2) and not gan.accuracy(real, fake).requires_grad
    assert torch.isfinite(gan.generator_loss(torch.tensor([-1e4, 1e4])))


@pytest.mark.parametrize(
    ("accuracy", "generator", "discriminator"), [(0.05, False, True), (0.5, True, True), (0.95, True, False)]
)
def test_who_may_step(accuracy, generator, discriminator):
    accuracy = torch.tensor(accuracy)
    assert step.generator_may_step(accuracy).item() is generator
    assert step.discriminator_may_step(accuracy).item() is discriminator


OPTIMIZERS = {
    "fused adam": lambda p: torch.optim.Adam(p, 1e-2, betas=(0.5, 0.9), weight_decay=1e-2, fused=True),
    "foreach adam": lambda p: torch.optim.Adam(p, 1e-2, weight_decay=1e-2, foreach=True),
    "single adam": lambda p: torch.optim.Adam(p, 1e-2, amsgrad=True, foreach=False),
    "fused adamw": lambda p: torch.optim.AdamW(p, 1e-2, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-2),
}


def snapshot(model, optimizer) -> dict[str, torch.Tensor]:
    state = {f"{i}.{name}": slot for i, p in enumerate(model.parameters()) for name, slot in optimizer.state[p].items()}
    return copy.deepcopy({**state, **dict(model.named_parameters())})


def set_gradients(model, seed: int) -> None:
    for i, p in enumerate(model.parameters()):
        p.grad = seeded(*p.shape, seed=100 * seed + i)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_left_out_leaves_no_trace(name):
    """Steps 0 and 2 are masked (2 with NaN gradients): the rest is the run that never had them, to the bit."""
    runs = []
    for masked in (True, False):
        torch.manual_seed(0)
        model = torch.nn.Linear(7, 5)
        optimizer = OPTIMIZERS[name](model.parameters())
        for number, allowed in enumerate((False, True, False, True)):
            set_gradients(model, number)
            if number == 2:
                model.weight.grad[0, 0] = math.nan
            if masked:
                before = snapshot(model, optimizer) if number else None
                step.masked_step(optimizer, torch.tensor(allowed))
                after = snapshot(model, optimizer)
                if before:
                    assert allowed is not all(torch.equal(after[key], before[key]) for key in before)
            elif allowed:
                optimizer.step()
        runs.append(snapshot(model, optimizer))
    assert runs[0].keys() == runs[1].keys() and len(runs[0]) > 2
    assert all(torch.equal(runs[0][key], runs[1][key]) for key in runs[0])


def test_an_unmasked_step_is_as_before_afterwards():
    """The flag of a step left out does not stay with the optimiser."""
    model = torch.nn.Linear(3, 2)
    optimizer = OPTIMIZERS["fused adam"](model.parameters())
    set_gradients(model, 0)
    step.masked_step(optimizer, torch.tensor(False))
    before = model.weight.clone()
    optimizer.step()
    assert not torch.equal(model.weight, before)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_an_accelerated_step_is_masked_by_the_flag_on_the_device(device):
    """In a captured CUDA graph, too, whose replays read the flag anew."""
    torch.manual_seed(0)
    run = Run(torch.device(device), torch.Generator(device))
    model, points = torch.nn.Linear(3, 2).to(device), torch.randn(4, 3, device=device)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    allowed = torch.tensor(True, device=device)

    def train_step(rows: torch.Tensor) -> torch.Tensor:
        loss = model(points[rows]).square().sum()
        optimizer.zero_grad()
        loss.backward()
        step.masked_step(optimizer, allowed)
        return loss.detach()

    fast, rows = run.accelerate(train_step, optimizer), torch.arange(4, device=device)
    for i in range(10):
        before = snapshot(model, optimizer) if i else None
        allowed.fill_(i % 3 != 1)
        fast(rows)
        after = snapshot(model, optimizer)
        if before:
            assert (i % 3 == 1) is all(torch.equal(after[key], before[key]) for key in before), i


# ------------------------------------------------------------ Kudo


def test_turning_about_y():
    poses, theta = people().float(), seeded(6, seed=3)
    turned = adversarial_oracles.turn_about_y(poses, theta)
    torch.testing.assert_close(turned.norm(dim=-1), poses.norm(dim=-1))
    torch.testing.assert_close(adversarial_oracles.turn_about_y(turned, -theta), poses)
    torch.testing.assert_close(geometry.kudo_projection(poses[..., :2], poses[..., 2], theta), turned[..., :2])
    quarter = adversarial_oracles.turn_about_y(torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([math.pi / 2]))
    torch.testing.assert_close(quarter, torch.tensor([[[3.0, 2.0, -1.0]]]))


def standing(nose_depth: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Facing the camera (its right shoulder on the left of the image), the nose so deep."""
    keypoints, depth = torch.zeros(1, 17, 2), torch.zeros(1, 17)
    keypoints[0, 14, 0], keypoints[0, 11, 0], depth[0, 9] = -1, 1, nose_depth
    return keypoints, depth.requires_grad_()


def test_faces_look_forward():
    forward, backward = standing(-0.2), standing(0.2)
    assert gan.facing_sine(*forward).item() == pytest.approx(1) and gan.heuristic_loss(*forward) == 0
    assert gan.facing_sine(*backward).item() == pytest.approx(-1)
    loss = gan.heuristic_loss(*backward)
    assert loss.item() == pytest.approx(1)
    keypoints, depth = seeded(4, 17, 2), seeded(4, 17, seed=1)
    theta = seeded(4, seed=2)
    turned = adversarial_oracles.turn_about_y(torch.cat((keypoints, depth[..., None]), -1), theta)
    torch.testing.assert_close(
        gan.facing_sine(turned[..., :2], turned[..., 2]), gan.facing_sine(keypoints, depth), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(gan.facing_sine(keypoints, torch.zeros(4, 17)), torch.zeros(4))


def test_facing_without_length_has_finite_gradients():
    keypoints, depth = standing(0.0)
    sine = gan.facing_sine(keypoints, depth)
    sine.sum().backward()
    assert sine.item() == 0 and torch.isfinite(depth.grad).all()


def test_kudos_consistency_without_a_look_at_3d():
    """No depth at all: what is x comes back as x cos^2. Of a pole on the axis any flat lifter is right."""
    keypoints = torch.randn(5000, 17, 2, generator=torch.Generator().manual_seed(0))
    flat = gan_step.kudo_consistency(lambda x: torch.zeros(x.shape[:2]), keypoints)
    assert flat == pytest.approx(keypoints[..., 0].abs().mean().item() / 2, rel=0.02)
    keypoints[..., 0] = 0
    assert gan_step.kudo_consistency(lambda x: torch.zeros(x.shape[:2]), keypoints) == 0
    assert gan_step.kudo_consistency(lambda x: torch.ones(x.shape[:2]), keypoints) > 0.5


def test_kudo_errors():
    poses = 200 * people().float()
    target = geometry.normalise_3d(poses)
    keypoints, depth = target.pose[..., :2], target.pose[..., 2]
    torch.testing.assert_close(gan.kudo_error(keypoints, depth, target), torch.zeros(6))
    off = gan.kudo_error(keypoints, depth + 0.5, target)
    torch.testing.assert_close(off, 0.5 * target.scale)  # in the unit of the input
    mirrored = gan.kudo_error(keypoints, -depth, target)
    assert (mirrored > 1).all() and (adversarial_oracles.kudo_error_best(keypoints, -depth, target) < 1e-3).all()
    facing = adversarial_oracles.kudo_error_facing(keypoints, depth, target)
    away = gan.facing_sine(keypoints, depth) < 0
    assert away.any() and not away.all()
    torch.testing.assert_close(facing, torch.where(away, mirrored, torch.zeros(6)))
    assert gan.depth_loss(depth + 2, target.pose).item() == pytest.approx(4, rel=1e-5)


# ------------------------------------------------------------ Chen


class Oracle:
    """Knows the poses: the true ones first, the turned ones second."""

    def __init__(self, poses: torch.Tensor, rotations: torch.Tensor):
        self.answers = [poses[..., 2], (poses @ rotations)[..., 2]]
        self.calls = 0

    def __call__(self, keypoints: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.answers[self.calls - 1]


def turns(count: int = 6, seed: int = 7) -> torch.Tensor:
    return geometry.chen_rotations(count, generator=torch.Generator().manual_seed(seed)).double()


def test_rotations_are_rotations_within_their_ranges():
    rotations = turns(4000)
    eye = torch.eye(3).expand(4000, 3, 3).double()
    torch.testing.assert_close(rotations @ rotations.mT, eye, atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotations), torch.ones(4000).double())
    elevation = torch.atan2(-rotations[:, 1, 2], rotations[:, 1, 1])  # what becomes of y
    azimuth = torch.atan2(rotations[:, 2, 0], rotations[:, 0, 0])  # of z and x
    assert not rotations[:, 1, 0].any()  # no roll: y stays upright on the image
    assert math.radians(19.9) < elevation.abs().max() <= math.radians(20.001)
    assert 3.13 < azimuth.abs().max() and abs(azimuth.mean().item()) < 0.1 and abs(elevation.mean().item()) < 0.01


def test_azimuth_is_kudos_turn():
    poses, theta = people(), seeded(6).double()
    found = poses @ geometry.turn_matrices(theta, torch.zeros_like(theta))
    torch.testing.assert_close(found, adversarial_oracles.turn_about_y(poses, theta))


def test_lifting_undoes_projection():
    poses = people()
    torch.testing.assert_close(geometry.chen_lift(geometry.chen_project(poses), poses[..., 2]), poses)
    torch.testing.assert_close(
        geometry.chen_lift(geometry.chen_project(poses), poses[..., 2] + 3), poses
    )  # only differences
    torch.testing.assert_close(geometry.chen_project(poses), poses[..., :2] / (10 + poses[..., 2:]))


def test_an_oracle_closes_the_cycle():
    poses, rotations = people(), turns()
    oracle, keypoints = Oracle(poses, rotations), perspective(poses, 10)
    cycle = gan.chen_cycle(oracle, keypoints, rotations)
    assert oracle.calls == 2
    for found, expected in ((cycle.pose, poses), (cycle.rotated, poses @ rotations), (cycle.back, poses)):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(cycle.projected, perspective(poses @ rotations, 10))
    assert gan.consistency_2d(keypoints, cycle) < 1e-12 and gan.consistency_3d(cycle) < 1e-12
    assert (cycle.rotated - cycle.pose).abs().max() > 0.1


def test_a_wrong_lifter_does_not():
    poses, rotations = people(), turns()
    keypoints = perspective(poses, 10)
    cycle = gan.chen_cycle(lambda k: torch.zeros_like(k[..., 0]), keypoints, rotations)
    assert gan.consistency_2d(keypoints, cycle) > 1e-3 and gan.consistency_3d(cycle) > 1e-1
    by_hand = ((cycle.rotated - cycle.relifted) ** 2).sum((1, 2)).mean()
    torch.testing.assert_close(gan.consistency_3d(cycle), by_hand)


def test_without_a_turn_any_lifter_is_consistent():
    lifter = models.create("gan_lifter", width=16, stages=1).eval()
    lifter.w2.weight.data *= 40
    keypoints = perspective(people().float(), 10)
    cycle = gan.chen_cycle(lifter, keypoints, torch.eye(3).expand(6, 3, 3))
    assert cycle.pose[..., 2].abs().max() > 1
    torch.testing.assert_close(gan.consistency_2d(keypoints, cycle), torch.tensor(0.0))
    torch.testing.assert_close(gan.consistency_3d(cycle), torch.tensor(0.0))


@pytest.mark.parametrize("size", [1e4, 1e-20, 0.0])
def test_extreme_depths_have_finite_gradients(size):
    depths = size * seeded(2, 6, 17)
    depths.requires_grad_()
    answers = iter(depths)
    keypoints = perspective(people().float(), 10).requires_grad_()
    cycle = gan.chen_cycle(lambda _: next(answers), keypoints, turns().float())
    loss = gan.consistency_2d(keypoints, cycle) + gan.consistency_3d(cycle) + cycle.projected.square().sum()
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(depths.grad).all() and torch.isfinite(keypoints.grad).all()
    assert (geometry.chen_lift(keypoints, depths[0])[..., 2] >= 1 - 10).all()


def test_frames_of_a_sequence_turn_together():
    frames, rotations = people(8).view(4, 2, 17, 3), turns(4)
    lots = geometry.for_frames(rotations)
    torch.testing.assert_close(lots[5], rotations[2])
    projected = geometry.chen_project(frames.flatten(0, 1) @ lots)
    found = gan.frame_difference(projected)
    first, second = (geometry.chen_project(frames[:, i] @ rotations) for i in (0, 1))
    torch.testing.assert_close(found, second - first)
    still = frames[:, :1].expand(-1, 2, -1, -1).flatten(0, 1)
    assert not gan.frame_difference(geometry.chen_project(still @ lots)).any()


def test_both_players_learn_in_two_steps_and_the_cap_holds_one():
    torch.manual_seed(0)
    lifter = models.create("gan_lifter", width=32, stages=1)
    judge = models.create("gan_discriminator", width=32, stages=1)
    players = [torch.optim.Adam(model.parameters(), 1e-3, fused=True) for model in (lifter, judge)]
    keypoints = perspective(people(64).float(), 10)
    for cap in (0.9, 0.0):
        before = [copy.deepcopy(list(model.parameters())) for model in (lifter, judge)]
        cycle = gan.chen_cycle(lifter, keypoints, turns(64).float())
        real, fake = judge(keypoints), judge(cycle.projected.detach())
        accuracy = gan.accuracy(real, fake)
        players[1].zero_grad()
        gan.discriminator_loss(real, fake).backward()
        step.masked_step(players[1], step.discriminator_may_step(accuracy, cap))
        players[0].zero_grad()
        loss = gan.generator_loss(judge(cycle.projected)) + 10 * gan.consistency_2d(keypoints, cycle)
        (loss + 0.001 * gan.consistency_3d(cycle)).backward()
        step.masked_step(players[0], step.generator_may_step(accuracy, 1.0))
        moved = [
            any(not torch.equal(a, b) for a, b in zip(old, model.parameters(), strict=True))
            for old, model in zip(before, (lifter, judge), strict=True)
        ]
        assert moved == [True, cap == 0.9]
