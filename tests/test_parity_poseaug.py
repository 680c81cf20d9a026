"""run_baseline.py and run_poseaug.py take the steps of PoseAug's formulas (Gong et al., CVPR 2021), as written here."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import models
from common.run import checkpoint
from common.run.run import derived_seed
from common.skeleton import H36M_16
from tests.conftest import metric_rows
from tests.parity import (
    TEST,
    TRAIN,
    Martinez,
    Step,
    Watched,
    assert_same_losses,
    motion,
    views,
    virtual,
    watch,
    write_data,
)

WIDTH = 24
DATA = ("--dataset", "tiny", "--data-dir", ".", "--subjects-train", ",".join(TRAIN), "--subjects-test", ",".join(TEST))
RUN = (*DATA, "--cross_data", "none", "--device", "cpu", "--batch_size", 22)  # three steps an epoch
MLP = (*RUN, "--posenet_name", "mlp", "--stages", 1, "--dropout", 0)
EPOCH_STEPS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny data set, and one person's bone lengths."""
    folder = tmp_path_factory.mktemp("poseaug")
    write_data(folder)
    np.save(folder / "lengths.npy", np.linspace(0.1, 0.4, 15)[None])
    return folder


# ------------------------------------------------------------ the textbook


class Lifter(Martinez):
    """The mlp: (B, 16, 2) -> (B, 16, 3), the root at the origin."""

    def forward(self, keypoints: Tensor) -> Tensor:
        return F.pad(super().forward(keypoints).view(-1, 15, 3), (0, 0, 1, 0))


def textbook(network: nn.Module) -> Lifter:
    """The lifter with a network's weights, float64."""
    lifter = Lifter(32, 45, WIDTH).double()
    lifter.load_state_dict(network.state_dict())
    return lifter


class Pairs(NamedTuple):
    """keypoints: (N, 16, 2), screen-normalised; poses: (N, 16, 3), metres, absolute; cameras: (N, 9), screen units."""

    keypoints: Tensor
    poses: Tensor
    cameras: Tensor


def pairs(subjects: tuple[str, ...]) -> Pairs:
    """x / w * 2 - 1, y / w * 2 - h / w."""
    seen = views(subjects, H36M_16)
    width = torch.tensor([[[c.width]] for c in seen.cameras])
    corner = torch.tensor([[(1, c.height / c.width)] for c in seen.cameras]).double()
    cameras = [
        (*(f / c.width * 2 for f in c.focal), c.centre[0] / c.width * 2 - 1, (c.centre[1] * 2 - c.height) / c.width)
        + (*c.radial, *c.tangential)
        for c in seen.cameras
    ]
    return Pairs(seen.pixels / width * 2 - corner, seen.poses, torch.tensor(cameras).double())


def step_clipped(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step, the norm of the gradient clipped to 1."""
    (group,) = optimizer.param_groups
    gradients = torch.autograd.grad(loss, group["params"])
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    for weight, gradient in zip(group["params"], gradients, strict=True):
        weight.grad = gradient * (1 / norm).clamp(max=1)
    optimizer.step()


# ------------------------------------------------------------ the baseline


def baseline_steps(lifter: Lifter, steps: list[Step], rate: float, decay: int, gamma: float) -> Iterator[dict]:
    """Adam on the squared error of root-relative poses; the rate changes at step 1 and every `decay` steps."""
    data = pairs(TRAIN)
    optimizer = torch.optim.Adam(lifter.parameters(), rate)
    for number, step in enumerate(steps, 1):
        if number == 1 or number % decay == 0:
            optimizer.param_groups[0]["lr"] = rate * gamma ** (number / decay)
        target = data.poses[step.index]
        loss = (lifter(data.keypoints[step.index]) - (target - target[:, :1])).square().mean()
        step_clipped(optimizer, loss)
        yield {"loss_train": loss}


def test_baseline(here, script, monkeypatch):
    options = ("--epochs", 2, "--lr_decay", 2, "--lr_gamma", 0.5, "--checkpoint", "baseline")
    seen = watch(script, monkeypatch, "run_baseline.py", *MLP, *options, small={"mlp": {"width": WIDTH}})
    (start,) = seen.networks
    assert len(seen.steps) == 2 * EPOCH_STEPS
    expected = list(baseline_steps(textbook(start), seen.steps, 1e-3, 2, 0.5))
    assert_same_losses(seen.steps, expected)


def test_score_is_relative_to_the_root(here, script):
    """Of a gcn, which places the root itself."""
    options = ("--posenet_name", "gcn", "--stages", 1, "--epochs", 1, "--checkpoint", "gcn")
    assert script("run_baseline.py", *RUN, *options).status == 0
    (run,) = Path("gcn/gcn/gt").iterdir()
    model = models.create("gcn", stages=1).eval()
    model.load_state_dict(checkpoint.load(run / "ckpt_best.pth.tar")["state_dict"])
    data = pairs(TEST)
    with torch.no_grad():
        pose = model(data.keypoints.float())
    assert pose[:, 0].norm(dim=-1).min() > 1e-3
    error = (pose - pose[:, :1]) - (data.poses - data.poses[:, :1])
    (row,) = metric_rows(run)
    assert row["error_h36m_p1"] == pytest.approx(1000 * error.norm(dim=-1).mean().item(), rel=1e-5)


# ------------------------------------------------------------ PoseAug


PARENTS = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 8, 10, 11, 8, 13, 14)
PARTS = ((7, 9, 10, 11), (7, 12, 13, 14), (0, 1, 2, 3, 6), (0, 3, 4, 5, 6), (0, 3, 6, 7, 8, 9, 12))
JOINT_WEIGHTS = torch.tensor((1, 5, 2, 1, 5, 2, 1, 1, 1, 1, 5, 2, 1, 5, 2, 1))
JOINT_GROUPS = ((1, 4, 10, 13), (2, 5, 9, 11, 14), (3, 6, 12, 15))
NETWORKS = {  # and a parameter by which each is known
    "lifter": "w2.weight", "augmentor": "BAprocess.w2.weight", "disc_3d": "kcs_path_1.layer_pred.weight",
    "disc_2d": "layer_pred.weight",
}  # fmt: skip
KINDS = {"A": "gen_loss", "D": "d3d_dis_loss", "L": "train_P_iter"}  # of steps, and a term by which each is known
EPOCHS, WARMUP, DF, SPREAD = 2, 1, 2, 0.1  # the last is --gloss_factordiv_ba, 0 as published


def bones(poses: Tensor) -> Tensor:
    return torch.stack([poses[:, parent] - poses[:, joint] for joint, parent in enumerate(PARENTS) if joint], 1)


def rebuilt(vectors: Tensor, root: Tensor) -> Tensor:
    joints = [root]
    for joint in range(1, 16):
        joints.append(joints[PARENTS[joint]] - vectors[:, joint - 1])
    return torch.stack(joints, 1)


def projected(poses: Tensor, cameras: Tensor) -> Tensor:
    """VideoPose3D's distorted camera."""
    focal, centre, radial, tangential = cameras[:, None].split((2, 2, 3, 2), -1)
    xy = (poses[..., :2] / poses[..., 2:]).clamp(-1, 1)
    r2 = xy.square().sum(-1, keepdim=True)
    bent = 1 + (radial * torch.cat((r2, r2**2, r2**3), -1)).sum(-1, keepdim=True)
    return focal * (xy * (bent + (tangential * xy).sum(-1, keepdim=True)) + tangential * r2) + centre


def trunk(part: nn.Module, x: Tensor, mark: str = "") -> Tensor:
    """Linear, batch norm, leaky ReLU, five times, and linear."""

    def layer(owner: nn.Module, linear: str, norm: str, x: Tensor) -> Tensor:
        return F.leaky_relu(getattr(owner, norm)(getattr(owner, linear)(x)))

    x = layer(part, f"w1{mark}", f"batch_norm{mark or 1}", x)
    for stage in getattr(part, f"linear_stages{mark}"):
        x = layer(stage, "w2", "batch_norm2", layer(stage, "w1", "batch_norm1", x))
    return getattr(part, f"w2{mark}")(x)


class Made(NamedTuple):
    """pose_ba, pose_rt: (B, 16, 3); turn: (B, 15), 1 - cos of each bone's; ratios: (B, 9), of lengths."""

    pose_ba: Tensor
    pose_rt: Tensor
    turn: Tensor
    ratios: Tensor


def augmented(net: nn.Module, poses: Tensor, noise: Tensor) -> Made:
    """Bones turned, bones scaled, the body turned and moved; noise: (4, B, 48)."""
    body, old = (poses - poses[:, :1]).flatten(1), bones(poses)
    lengths = old.norm(dim=-1, keepdim=True)
    unit = old / lengths
    added = trunk(net.BAprocess, torch.cat((body, noise[0]), 1)).view(-1, 15, 3)
    new = (unit + added) / (unit + added).norm(dim=-1, keepdim=True)
    new = torch.cat((new[:, :6], unit[:, 6:8], new[:, 8:]), 1)
    mask = torch.tensor((1, 1, 1, 1, 0, 1, 1, 1, 1))
    ratios = 0.2 * (trunk(net.BLprocess, torch.cat((body, lengths[..., 0], noise[1]), 1), "_BL") * mask).tanh()
    scaled = new * lengths * (1 + ratios[:, (0, 1, 2, 0, 1, 2, 3, 4, 5, 6, 7, 8, 6, 7, 8)])[..., None]
    x, y, z = (3.1415 * trunk(net.RTprocess, torch.cat((body, noise[2]), 1), "_R").tanh()).unbind(1)
    zero = torch.zeros_like(x)
    matrix = torch.linalg.matrix_exp(torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), 1).view(-1, 3, 3))
    moved = trunk(net.RTprocess, torch.cat((body, noise[3]), 1), "_T")
    moved = torch.cat((moved[:, :2], moved[:, 2:].square()), 1)
    pose_rt = rebuilt(scaled, torch.zeros_like(poses[:, 0])) @ matrix.mT + moved[:, None]
    return Made(rebuilt(new * lengths, poses[:, 0]), pose_rt, 1 - (unit * new).sum(-1), ratios)


def scores_3d(net: nn.Module, poses: Tensor) -> Tensor:
    """Of five parts, from the products of their bones of unit length."""
    unit = bones(poses) / bones(poses).norm(dim=-1, keepdim=True)
    found = []
    for number, part in enumerate(PARTS, 1):
        path, mask = getattr(net, f"kcs_path_{number}"), torch.zeros(15, 1)
        mask[list(part)] = 1
        a = F.leaky_relu(path.kcs_layer_1((unit * mask @ (unit * mask).mT).flatten(1)))
        c = path.kcs_layer_3(F.leaky_relu(path.kcs_layer_2(a))) + a
        found.append(path.layer_pred(F.leaky_relu(path.layer_last(c))))
    return torch.cat(found, 1)


def scores_2d(net: nn.Module, keypoints: Tensor) -> Tensor:
    a = F.leaky_relu(net.pose_layer_1(keypoints.flatten(1)))
    c = F.leaky_relu(net.pose_layer_3(F.leaky_relu(net.pose_layer_2(a))) + a)
    return net.layer_pred(F.leaky_relu(net.layer_last(net.pose_layer_4(c))))


def near(scores: Tensor, label: float) -> Tensor:
    """The published accuracy."""
    return ((scores - label).abs() < 0.5).double().mean()


def lifter_errors(lifter: Lifter, keypoints: Tensor, poses: Tensor) -> Tensor:
    """In three groups of joints, (B, 3)."""
    errors = (lifter(keypoints) - (poses - poses[:, :1])).norm(dim=-1) * JOINT_WEIGHTS
    return torch.stack([errors[:, group].mean(1) for group in JOINT_GROUPS], 1)


def gated(squares: Tensor, width: float) -> Tensor:
    """Squares within the width are free; the mean is over all."""
    return torch.where(squares > width**2, squares, 0).mean()


class Training:
    """PoseAug's networks and optimisers, its training set with other bone lengths, and what the augmentor has made."""

    def __init__(self, seen: Watched, world: Tensor | None = None):
        self.world = world
        self.number = {name: seen.find(parameter) for name, parameter in NETWORKS.items()}
        self.net = {name: seen.networks[number].requires_grad_(True) for name, number in self.number.items()}
        self.net["lifter"] = textbook(self.net["lifter"])
        self.adam = {name: torch.optim.Adam(net.parameters()) for name, net in self.net.items()}
        self.see(pairs(TRAIN))

    def see_anew(self, epoch: int) -> None:
        """Every pose of the world by another camera."""
        draws = torch.Generator().manual_seed(derived_seed(0, "bone lengths", epoch))
        torch.randint(1, (len(self.world),), generator=draws)  # whose bones: there is one person
        seen = virtual(self.world, draws)
        self.see(Pairs(seen.keypoints, seen.poses, F.pad(seen.focal[:, None].expand(-1, 2), (0, 7))))

    def see(self, real: Pairs) -> None:
        """Take pairs for the real ones, and give them the one person's bones."""
        self.real = real
        lengths = torch.linspace(0.1, 0.4, 15).double()
        directions = bones(self.real.poses) / bones(self.real.poses).norm(dim=-1, keepdim=True)
        poses = rebuilt(directions * lengths[:, None], self.real.poses[:, 0])
        self.source = Pairs(projected(poses, self.real.cameras), poses, self.real.cameras)

    def augmentor_step(self, step: Step, epoch: int) -> dict[str, Tensor]:
        """adv2d + 6 adv3d + 3 range + feedback, which begins after the warm-up."""
        rows, place = step.index.unbind(1)
        keypoints, poses, cameras = (part[rows] for part in self.source)
        poses = step.input(self.number["augmentor"], poses)
        keypoints = step.input(self.number["lifter"], keypoints)
        made = augmented(self.net["augmentor"], poses, torch.randn(4, len(rows), 48, generator=step.draws()).double())
        keypoints_ba, keypoints_rt = projected(made.pose_ba, cameras), projected(made.pose_rt, cameras)
        terms, adversarial = {}, 0
        for name, scores, net, weight, real, fake in (
            ("g3d", scores_3d, self.net["disc_3d"], 6, poses, made.pose_ba),
            ("g2d", scores_2d, self.net["disc_2d"], 1, keypoints, keypoints_rt),
        ):
            real, fake = scores(net, real), scores(net, fake)
            loss = 0.5 * (real.square().mean() + (fake - 1).square().mean())
            adversarial = adversarial + weight * loss
            values = {"real_acc": near(real, 0), "fake_acc": near(fake, 1), "adv_loss": loss}
            terms |= {f"train_G_iter_PoseAug/{name}_{key}": value for key, value in values.items()}
        angle = gated((made.turn.mean(1) - 0.205).square(), 0.165)
        length = gated(made.ratios.square(), 0.1)
        original, ba, rt = (
            lifter_errors(self.net["lifter"], *pair)
            for pair in ((keypoints, poses), (keypoints_ba, made.pose_ba), (keypoints_rt, made.pose_rt))
        )
        ba, rt = ba / original.detach(), rt / original.detach()
        feedback = 0.1 * gated((ba - (3 + 2 * epoch / EPOCHS)).square(), 2) + SPREAD * (ba.std() - 2).square()
        feedback = feedback + 0.01 * gated((rt - 17).square(), 15)
        total = adversarial + 3 * (angle + length) + (feedback if epoch > WARMUP else 0)
        step_clipped(self.adam["augmentor"], total)
        self.fake = made.pose_ba.detach(), keypoints_rt.detach()
        self.made_2d[place], self.made_3d[place] = keypoints_rt.detach(), made.pose_rt.detach()
        return terms | {
            "train_G_iter/gen_loss": total,
            "train_G_iter_diff_loss/loss_diff_angle": angle,
            "train_G_iter_diff_loss/loss_diff_blr": length,
            "train_G_iter_posenet_feedback/ba_hard_mean": ba.mean(),
            "train_G_iter_posenet_feedback/rt_hard_std": rt.std(),
        }

    def discriminator_step(self, step: Step) -> dict[str, Tensor]:
        """Real ones are other poses than the augmentor's; the pool is not full yet: what was made last comes back."""
        terms = {}
        for name, net, scores, real, fake in (
            ("d3d", "disc_3d", scores_3d, self.source.poses[step.index[:, 0]], self.fake[0]),
            ("d2d", "disc_2d", scores_2d, self.source.keypoints[step.index[:, 1]], self.fake[1]),
        ):
            poses = step.input(self.number[net], torch.cat((real, fake)))
            real, fake = scores(self.net[net], poses).chunk(2)
            loss = 0.5 * ((real - 1).square().mean() + fake.square().mean())
            step_clipped(self.adam[net], loss)
            values = {"real_acc": near(real, 1), "fake_acc": near(fake, 0), "dis_loss": loss}
            terms |= {f"train_G_iter_PoseAug/{name}_{key}": value for key, value in values.items()}
        return terms

    def lifter_step(self, step: Step, name: str) -> dict[str, Tensor]:
        """On the rows of the real pairs, which the made ones follow."""
        keypoints = torch.cat((self.real.keypoints, self.made_2d))[step.index]
        poses = torch.cat((self.real.poses, self.made_3d))[step.index]
        keypoints = step.input(self.number["lifter"], keypoints)
        loss = (self.net["lifter"](keypoints) - (poses - poses[:, :1])).square().mean()
        step_clipped(self.adam["lifter"], loss)
        return {f"train_P_iter/{name}": loss}

    def run(self, steps: list[Step]) -> Iterator[dict[str, Tensor]]:
        """All epochs."""
        steps, iteration = iter(steps), 0
        for epoch in range(1, EPOCHS + 1):
            if self.world is not None:
                self.see_anew(epoch)
            count = len(self.real.poses)
            for adam in self.adam.values():
                adam.param_groups[0]["lr"] = 1e-4 * (1 - (epoch - 1) / (EPOCHS + 1))
            self.made_2d, self.made_3d = torch.zeros_like(self.real.keypoints), torch.zeros_like(self.real.poses)
            for _ in range(EPOCH_STEPS):
                yield self.augmentor_step(next(steps), epoch)
                if iteration % DF == 0:
                    yield self.discriminator_step(next(steps))
                iteration += 1
            if epoch > WARMUP:
                in_view = count + (self.made_2d <= 1).flatten(1).all(1).nonzero()[:, 0]
                for name, rows in (("made", in_view), ("real", torch.arange(count))):
                    seen = []
                    while sum(map(len, seen)) < len(rows):
                        step = next(steps)
                        seen.append(step.index)
                        yield self.lifter_step(step, name)
                    assert torch.cat(seen).sort().values.equal(rows)


@pytest.mark.parametrize("cameras", ["rig", "virtual"])
def test_poseaug(here, script, monkeypatch, cameras):
    """One epoch of warm-up and one in full, three steps each, discriminators in every second of the six."""
    world = motion(TRAIN, H36M_16) if cameras == "virtual" else None
    options = (
        "--cameras", cameras, "--batch_size", 22 if world is None else 5,
        "--note", "debug", "--epochs", EPOCHS, "--warmup", WARMUP, "--viz_every", 0, "--bone_lengths", "lengths.npy",
        "--gloss_factordiv_ba", SPREAD, "--checkpoint", cameras,
    )  # fmt: skip
    seen = watch(script, monkeypatch, "run_poseaug.py", *MLP, *options, small={"mlp": {"width": WIDTH}})
    order = "".join(next(kind for kind, term in KINDS.items() if term in " ".join(step.losses)) for step in seen.steps)
    assert order.rstrip("L") == "ADAAD" + "AADA", order  # two epochs of the augmentor, then the lifter
    expected = list(Training(seen, world).run(seen.steps))
    assert_same_losses(seen.steps, expected)
