"""PoseAug's losses: least squares, gates, feedback, what is kept, and one whole step of training."""

import pytest
import torch

import models
from common.camera import h36m_cameras, project
from models.poseaug import losses
from models.poseaug.augmentor import Augmentor, draw_noise
from models.poseaug.discriminators import Discriminator2D, Discriminator3D
from models.poseaug.losses import PosePair


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Recorder(torch.nn.Module):
    """A lifter that notes what it is shown: (training, gradients on, keypoints)."""

    def __init__(self):
        super().__init__()
        self.seen = []
        self.norm = torch.nn.BatchNorm1d(32)
        self.head = torch.nn.Linear(32, 48)

    def forward(self, keypoints):
        self.seen.append((self.training, torch.is_grad_enabled(), keypoints))
        return self.head(self.norm(keypoints.flatten(1))).view(-1, 16, 3)


# ------------------------------------------------------------ adversarial


def test_least_squares_and_their_optimum():
    real, fake = torch.tensor([[0.5, 1.0]]), torch.tensor([[0.0, 0.5]])
    assert losses.discriminator_loss(real, fake).item() == pytest.approx(0.5 * (0.125 + 0.125))
    assert losses.adversarial_generator_loss(real, fake).item() == pytest.approx(0.5 * (0.625 + 0.625))
    assert losses.adversarial_generator_loss(None, fake).item() == pytest.approx(0.5 * 0.625)
    assert losses.discriminator_loss(torch.ones(3, 5), torch.zeros(3, 5)) == 0


def test_the_real_half_gives_the_generator_no_gradient():
    real, fake = seeded(4, 5).requires_grad_(), seeded(4, 5, seed=1).requires_grad_()
    losses.adversarial_generator_loss(real, fake).backward()
    assert real.grad is None and fake.grad.abs().sum() > 0
    (alone,) = torch.autograd.grad(losses.adversarial_generator_loss(None, fake), fake)
    assert torch.equal(alone, fake.grad)


def test_accuracy_counts_scores_within_a_half():
    scores = torch.tensor([0.4, 0.6, 1.4, 1.6, -0.4, -0.6]).requires_grad_()
    assert losses.accuracy(scores, 1).item() == pytest.approx(2 / 6)
    assert losses.accuracy(scores, 0).item() == pytest.approx(2 / 6)
    assert not losses.accuracy(scores, 1).requires_grad


# ------------------------------------------------------------ gates


def test_what_is_within_the_limit_counts_as_zero_and_the_rest_in_full():
    values = torch.tensor([0.0, 0.09, -0.11, 0.3]).requires_grad_()
    loss = losses.range_loss(values, 0.0, 0.1)
    assert loss.item() == pytest.approx((0.0121 + 0.09) / 4)
    loss.backward()
    torch.testing.assert_close(values.grad, torch.tensor([0.0, 0.0, -0.055, 0.15]))


def test_the_angle_is_gated_by_pose_and_the_length_by_entry():
    ba_diff = torch.full((2, 15), 0.205)
    ba_diff[1] = 0.605
    ba_diff[0, 0] += 15 * 0.1  # a mean of 0.305 is within the range, whatever one bone does
    blr = torch.zeros(2, 9)
    blr[0, 0], blr[0, 1] = 0.15, 0.05
    angle, length = losses.diff_loss(ba_diff, blr)
    assert angle.item() == pytest.approx(0.16 / 2)
    assert length.item() == pytest.approx(0.0225 / 18)


def test_non_finite_values_are_not_hidden_by_a_gate():
    assert losses.range_loss(torch.tensor([0.0, float("nan")]), 0.0, 0.1).isnan()
    errors = torch.ones(2, 3)
    assert not losses.feedback_loss(errors, torch.zeros(2, 3), 3.0, 2.0, 0.1).loss.isfinite()


# ------------------------------------------------------------ feedback


def test_joints_are_weighed_in_groups_and_three_are_in_none():
    target = torch.zeros(16, 16, 3)
    predicted = torch.eye(16)[:, :, None] * torch.tensor([0.0, 3.0, 4.0])  # pose j is wrong by 5 at joint j
    found = losses.group_errors(predicted, target)
    for group, joints in enumerate(((1, 4, 10, 13), (2, 5, 9, 11, 14), (3, 6, 12, 15))):
        weights = [5.0 if j in (1, 4, 10, 13) else 1.0 if j == 9 else 2.0 if group == 1 else 1.0 for j in range(16)]
        expected = [5 * weights[j] / len(joints) if j in joints else 0.0 for j in range(16)]
        torch.testing.assert_close(found[:, group], torch.tensor(expected))
    compiled = torch.compile(losses.group_errors, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(predicted, target), found)


def test_three_passes_in_order_and_no_gradient_through_the_original():
    lifter = Recorder().requires_grad_(False)
    pairs = [PosePair(seeded(6, 16, 2, seed=i), seeded(6, 16, 3, seed=i)) for i in range(3)]
    for pair in pairs:
        for some in pair:
            some.requires_grad_()
    errors = losses.feedback_errors(lifter, *pairs)
    assert [seen[:2] for seen in lifter.seen] == [(True, False), (True, True), (True, True)]
    assert all(seen[2] is pair.keypoints for seen, pair in zip(lifter.seen, pairs, strict=True))
    assert lifter.norm.num_batches_tracked == 3
    (errors.ba / errors.original + errors.rt / errors.original).sum().backward()
    assert pairs[0].keypoints.grad is None and pairs[0].poses.grad is None
    assert all(some.grad.abs().sum() > 0 for pair in pairs[1:] for some in pair)
    assert errors.original.shape == (6, 3)


def test_targets_are_root_relative_but_predictions_are_not():
    pose = seeded(2, 16, 3)
    shift = torch.tensor([1.0, 2.0, 3.0])

    def errors(predicted, target):
        return losses.feedback_errors(lambda _: predicted, *[PosePair(None, target)] * 3).ba

    torch.testing.assert_close(errors(pose, pose + shift), errors(pose, pose))
    torch.testing.assert_close(errors(pose - pose[:, :1], pose), torch.zeros(2, 3))
    assert errors(pose - pose[:, :1] + shift, pose).min() > 0.5


def test_the_ratio_is_wanted_about_the_target():
    original = torch.full((2, 3), 0.1)
    errors = (original * torch.tensor([[3.0, 4.9, 5.5], [1.1, 0.5, 10.0]])).requires_grad_()
    found = losses.feedback_loss(errors, original, 3.0, 2.0, 0.1)
    squares = 2.5**2 + 2.5**2 + 7.0**2
    assert found.loss.item() == pytest.approx(0.1 * squares / 6, rel=1e-5)
    assert found.mean_loss.item() == pytest.approx(squares / 6, rel=1e-5)
    assert found.mean.item() == pytest.approx(25 / 6, rel=1e-5)
    assert found.sample.item() == pytest.approx(13.4 / 3, rel=1e-5)
    found.loss.backward()
    moved = errors.grad != 0
    assert moved.tolist() == [[False, False, True], [False, True, True]]
    as_tensor = losses.feedback_loss(errors, original, torch.tensor(3.0), 2.0, 0.1)
    assert as_tensor.loss.item() == pytest.approx(found.loss.item())


def test_the_spread_term_counts_only_if_asked_for():
    errors, original = (0.1 + seeded(4, 3).abs()).requires_grad_(), torch.full((4, 3), 0.1)
    plain = losses.feedback_loss(errors, original, 3.0, 2.0, 0.1)
    spread = losses.feedback_loss(errors, original, 3.0, 2.0, 0.1, spread_factor=0.5)
    expected = ((errors / original).std() - 2).square()
    torch.testing.assert_close(spread.loss - plain.loss, 0.5 * expected)
    assert not any(some.requires_grad for some in spread[1:])
    equal = torch.full((1, 3), 0.9).requires_grad_()
    losses.feedback_loss(equal, torch.full((1, 3), 0.1), 3.0, 2.0, 0.1).loss.backward()
    assert equal.grad.isfinite().all(), "equal ratios have no slope of their standard deviation"


def test_schedules():
    assert [losses.hard_ratio(epoch, 50, 3, 5) for epoch in (0, 5, 50)] == [3, 3.2, 5]
    assert losses.hard_ratio(7, 50, 17, 17) == 17
    assert losses.decay_factor(0, 50) == 1 and losses.decay_factor(50, 50) == pytest.approx(1 / 51)


# ------------------------------------------------------------ around the losses


def test_only_coordinates_above_one_put_a_pose_out_of_view():
    keypoints = torch.zeros(4, 16, 2)
    keypoints[1, 3, 0], keypoints[2, 15, 1], keypoints[3, 0, 0] = 1.01, -5.0, 1.0
    assert losses.in_view(keypoints).tolist() == [True, False, True, True]


def test_turns_are_in_degrees():
    ba_diff = torch.zeros(2, 15)
    ba_diff[:, 3], ba_diff[:, 4], ba_diff[:, 5] = 1.0, 2.0, -1e-7
    found = losses.bone_turns(ba_diff.requires_grad_())
    assert found.shape == (15,) and not found.requires_grad and found.isfinite().all()
    assert found[3].item() == pytest.approx(90, abs=0.02) and found[4].item() == pytest.approx(180, abs=0.04)
    assert found[5] == 0


# ------------------------------------------------------------ training


def make_setting(lifter: str, batch: int = 16):
    torch.manual_seed(0)
    sizes = {"mlp": {"width": 32, "stages": 1}, "gcn": {"hidden": 16, "stages": 1}}[lifter]
    networks = Augmentor(), models.create(lifter, dropout=0.0, **sizes), Discriminator3D(), Discriminator2D()
    poses = 0.25 * seeded(batch, 16, 3) + torch.tensor([0.0, 0.0, 5.0])
    cameras = h36m_cameras()["S1"][0].intrinsics("screen").expand(batch, 1, 9)
    return networks, poses, cameras


def generator_losses(networks, poses, cameras, noise) -> dict[str, torch.Tensor]:
    augmentor, lifter, disc3d, disc2d = networks
    found = augmentor(poses, noise)
    originals = PosePair(project(poses, cameras), poses)
    ba, rt = (PosePair(project(some, cameras), some) for some in (found.pose_ba, found.pose_rt))
    errors = losses.feedback_errors(lifter, originals, ba, rt)
    angle, length = losses.diff_loss(found.ba_diff, found.blr)
    return {
        "adv2d": losses.adversarial_generator_loss(disc2d(originals.keypoints), disc2d(rt.keypoints)),
        "adv3d": 6 * losses.adversarial_generator_loss(disc3d(poses), disc3d(found.pose_ba)),
        "diff": 3 * (angle + length),
        "ba": losses.feedback_loss(errors.ba, errors.original, 3.0, 2.0, 0.1).loss,
        "rt": losses.feedback_loss(errors.rt, errors.original, 17.0, 15.0, 0.01).loss,
    }


@pytest.mark.parametrize("lifter", ["mlp", "gcn"])
def test_the_augmentor_learns_and_what_is_frozen_does_not(lifter):
    networks, poses, cameras = make_setting(lifter)
    augmentor, *frozen = networks
    for model in frozen:
        model.requires_grad_(False)
    before = [p.clone() for model in frozen for p in model.parameters()]
    optimizer = torch.optim.Adam(augmentor.parameters(), lr=3e-4)
    totals = []
    for step in range(25):
        noise = draw_noise(len(poses), torch.Generator().manual_seed(step % 2))
        total = sum(generator_losses(networks, poses, cameras, noise).values())
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(augmentor.parameters(), 1.0)
        optimizer.step()
        totals.append(total.item())
    assert sum(totals[-4:]) < 0.9 * sum(totals[:4]), totals
    after = [p for model in frozen for p in model.parameters()]
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, after, strict=True))


def test_discriminators_learn_to_tell_the_two_apart():
    networks, poses, cameras = make_setting("mlp", batch=16)
    _, _, disc3d, disc2d = networks
    noise = draw_noise(16, torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = networks[0](poses, noise)
    for model, steps, real, fake in (
        (disc3d, 30, poses, found.pose_ba),
        (disc2d, 100, project(poses, cameras), project(found.pose_rt, cameras)),
    ):
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(steps):
            loss = losses.discriminator_loss(model(real), model(fake))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert losses.accuracy(model(real), 1) > 0.9 and losses.accuracy(model(fake), 0) > 0.9


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("lifter", ["mlp", "gcn"])
def test_a_generator_step_is_captured_as_a_cuda_graph(lifter):
    networks, poses, cameras = make_setting(lifter)
    networks, poses, cameras = [model.cuda() for model in networks], poses.cuda(), cameras.cuda()

    def backward() -> torch.Tensor:
        noise = draw_noise(len(poses), device="cuda")
        total = sum(generator_losses(networks, poses, cameras, noise).values())
        total.backward()
        return total.detach()

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            backward()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        total = backward()
    graph.replay()
    assert torch.isfinite(total)
