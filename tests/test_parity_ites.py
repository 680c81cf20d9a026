"""train_teacher.py and train_student.py take the steps of ITES's formulas (Xu et al., AAAI 2021), written out here."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import models
from tests.parity import TRAIN, Seen, Step, assert_same_losses, first_draws, motion, views, virtual, watch, write_data

PI = 3.1415926  # as published
WIDTH, LAYERS, ATOMS, REPLICAS = 32, 2, 5, 4
EPOCH_STEPS, LOW_RATE = 2, 1e-5
SIZES = ("--n-fully-connected", WIDTH, "--n-layers", LAYERS, "--dict-basis-size", ATOMS)
RUN = (
    "-d",
    "tiny",
    "-k",
    "gt",
    "--data-dir",
    ".",
    "-str",
    ",".join(TRAIN),
    "--device",
    "cpu",
    "-b",
    32,
    "--no-eval",
    *SIZES,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny data set."""
    folder = tmp_path_factory.mktemp("ites")
    write_data(folder)
    return folder


# ------------------------------------------------------------ the textbook


class Stem(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(34, WIDTH, 1), nn.BatchNorm2d(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn1(self.conv1(x)).relu()


class Bottleneck(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(WIDTH, WIDTH // 4, 1), nn.BatchNorm2d(WIDTH // 4)
        self.conv2, self.bn2 = nn.Conv2d(WIDTH // 4, WIDTH // 4, 1), nn.BatchNorm2d(WIDTH // 4)
        self.conv3, self.bn3 = nn.Conv2d(WIDTH // 4, WIDTH, 1), nn.BatchNorm2d(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        return (self.bn3(self.conv3(y)) + x).relu()


class Teacher(nn.Module):
    """The published network, 1 x 1 convolutions on (B, C, 1, 1) and all."""

    def __init__(self):
        super().__init__()
        self.fe_net = nn.Sequential(Stem(), *(Bottleneck() for _ in range(LAYERS)))
        self.alpha_layer, self.shape_layer = nn.Conv2d(WIDTH, ATOMS, 1), nn.Conv2d(ATOMS, 51, 1)
        self.rot_layer, self.trans_layer = nn.Conv2d(WIDTH, 3, 1), nn.Conv2d(WIDTH, 1, 1)

    def shape(self, keypoints: Tensor) -> tuple[Tensor, Tensor]:
        """Canonical shape (B, 17, 3), log-rotation (B, 3)."""
        features = self.fe_net(keypoints.reshape(-1, 34, 1, 1))
        shape = self.shape_layer(self.alpha_layer(features))
        return shape.reshape(-1, 17, 3), self.rot_layer(features).flatten(1)

    def forward(self, keypoints: Tensor) -> tuple[Tensor, Tensor]:
        """Canonical shape and pose in the camera's frame."""
        shape, turn = self.shape(keypoints - keypoints[:, :1])
        return shape, shape @ rotation(turn)


def rotation(log: Tensor) -> Tensor:
    """The exponential map with the published epsilon, (B, 3) -> (B, 3, 3)."""
    norm = log.norm(dim=1)[:, None, None]
    x, y, z = log.unbind(1)
    zero = torch.zeros_like(x)
    skew = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), 1).view(-1, 3, 3)
    sine, cosine = norm.sin() / (norm + 1e-4), (1 - norm.cos()) / (norm + 1e-4) ** 2
    return torch.eye(3, dtype=log.dtype) + sine * skew + cosine * skew @ skew


def random_rotations(draws: torch.Generator, poses: int, axes: tuple[int, int, int], largest: float) -> Tensor:
    """Four for each pose: axis ~ N(0, I) on `axes`, angle ~ U(0, largest) -> (4, poses, 3, 3)."""
    axis = torch.randn(REPLICAS * poses, 3, generator=draws) * torch.tensor(axes)
    angle = torch.rand(REPLICAS * poses, 1, generator=draws) * largest
    turns = rotation((axis / axis.norm(dim=1, keepdim=True) * angle).double())
    return turns.view(poses, REPLICAS, 3, 3).transpose(0, 1)


def textbook(weights: dict[str, Tensor]) -> Teacher:
    """The teacher with these weights, float64."""
    net = Teacher()
    net.load_state_dict({name: value.view(net.state_dict()[name].shape) for name, value in weights.items()})
    return net.double()


def projected(points: Tensor) -> Tensor:
    return points[..., :2] / (points[..., 2:] + 5).clamp(min=1)


def distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).norm(dim=-1).mean()


def network_input() -> Tensor:
    """Pixels from the root on, over the focal length, at one scale: from hip to head 0.2 on average."""
    seen = views(TRAIN)
    points = (seen.pixels - seen.pixels[:, :1]) / torch.tensor([c.focal for c in seen.cameras]).double()[:, None]
    return points * 0.2 / points[:, 10].norm(dim=1).mean()


class VirtualInput:
    """The same of random cameras: another one for each pose of each step, one scale for all steps."""

    def __init__(self):
        self.world = motion(TRAIN)
        self.scale = 0.2 / self.relative(virtual(self.world, first_draws()))[:, 10].norm(dim=1).mean()

    @staticmethod
    def relative(seen: Seen) -> Tensor:
        return (seen.keypoints - seen.keypoints[:, :1]) / seen.focal[:, None, None]

    def of(self, step: Step, draws: torch.Generator) -> Tensor:
        return step.input(0, self.scale * self.relative(virtual(self.world[step.index], draws)))


# ------------------------------------------------------------ the steps


def teacher_steps(
    net: Teacher, steps: list[Step], rate: float, cameras: VirtualInput | None = None
) -> Iterator[dict[str, Tensor]]:
    """SGD on 5 reprojection + cycle; the rate is halved after 15 epochs."""
    keypoints = network_input()
    optimizer = torch.optim.SGD(net.parameters(), rate, momentum=0.9, weight_decay=5e-4)
    for i, step in enumerate(steps):
        draws = step.draws()
        points = cameras.of(step, draws) if cameras else keypoints[step.index]
        shape, pose = net(points)
        reprojection = distance(projected(pose), points - points[:, :1])
        if i < 15 * EPOCH_STEPS:
            shape = shape - shape[:, :1]
        turned = shape @ random_rotations(draws, len(points), (1, 1, 1), PI)
        again, _ = net.shape(projected(turned).flatten(0, 1))
        cycle = distance(again.view_as(turned), shape.expand_as(turned))
        optimizer.zero_grad()
        (5 * reprojection + cycle).backward()
        optimizer.step()
        if i + 1 == 15 * EPOCH_STEPS:
            optimizer.param_groups[0]["lr"] *= 0.5
        yield {"reprojection": reprojection, "cycle": cycle}


def student_steps(
    net: nn.Module, teacher: Teacher, steps: list[Step], rate: float, cameras: VirtualInput | None = None
) -> Iterator[dict[str, Tensor]]:
    """SGD on 5 |depth - teacher's| + reconstruction after a turn about the vertical."""
    keypoints = network_input()
    optimizer = torch.optim.SGD(net.parameters(), rate, momentum=0.9, weight_decay=5e-4)
    for step in steps:
        draws = step.draws()
        points = cameras.of(step, draws) if cameras else keypoints[step.index]
        with torch.no_grad():
            wanted = teacher(points)[1][..., 2]
        depth = net(points).depth[..., 0]
        error = (depth - wanted).abs().mean()
        turns = random_rotations(draws, len(points), (0, 1, 0), 2 * PI)
        turned = lifted(points, depth) @ turns
        seen = projected(turned).flatten(0, 1)
        again = lifted(seen, net(seen).depth[..., 0])
        reconstruction = distance(again.view_as(turned), turned)
        total = 5 * error + reconstruction
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        yield {"depth": error, "reconstruction": reconstruction, "total": total}


def lifted(points: Tensor, depth: Tensor) -> Tensor:
    """The published 3D pose of the student."""
    depth = depth.unsqueeze(-1)
    return torch.cat((points * (depth + 5).clamp(min=1), depth), -1)


def test_teacher(here, script, monkeypatch):
    """Over 16 epochs: in the first 15 the root is aligned, after them the rate is halved. It is a low one, at which
    rounding has not grown to 1e-6 by the end.
    """
    options = ("-e", 16, "-lr", LOW_RATE, "--weight-init-std", 0.1, "-c", "teacher")
    seen = watch(script, monkeypatch, "train_teacher.py", *RUN, *options)
    (start,) = seen.networks
    assert len(seen.steps) == 16 * EPOCH_STEPS
    expected = list(teacher_steps(textbook(start.state_dict()), seen.steps, LOW_RATE))
    assert_same_losses(seen.steps, expected)


VIRTUAL = ("--cameras", "virtual", "-e", 2)  # 16 poses of the world: two steps


def test_teacher_by_virtual_cameras(here, script, monkeypatch):
    options = (*VIRTUAL, "-lr", LOW_RATE, "--weight-init-std", 0.1, "-c", "virtual_teacher")
    seen = watch(script, monkeypatch, "train_teacher.py", *RUN, *options)
    (start,) = seen.networks
    assert len(seen.steps) == 2
    expected = list(teacher_steps(textbook(start.state_dict()), seen.steps, LOW_RATE, VirtualInput()))
    assert_same_losses(seen.steps, expected)


@pytest.mark.parametrize("cameras", ["rig", "virtual"])
def test_student(here, script, monkeypatch, cameras):
    """The network is the script's, the losses and the teacher's depths are the textbook's."""
    torch.manual_seed(0)
    teacher = models.create("teacher", width=WIDTH, layers=LAYERS, basis=ATOMS, init_std=0.1)
    torch.save({"model_pos": teacher.state_dict()}, "teacher.bin")
    options = ("-e", 2, "--n-blocks", 1, "--hid-dim", 16, "--teacher_checkpoint", "teacher.bin", "-c", cameras)
    options += ("--cameras", cameras)
    seen = watch(script, monkeypatch, "train_student.py", *RUN, *options)
    (start,) = seen.networks
    virtual_input = VirtualInput() if cameras == "virtual" else None
    assert len(seen.steps) == (2 if virtual_input else 2 * EPOCH_STEPS)
    expected = list(student_steps(start, textbook(teacher.state_dict()).eval(), seen.steps, 1e-3, virtual_input))
    assert_same_losses(seen.steps, expected)
