"""Loss parity: a training script beside a straightforward loop over the same weights, batches and draws.

`watch` runs a script in this process and notes its networks as they are before the first step, and of each step what
it was given, the random state it drew from, and its loss terms. A test then takes the same steps by the published
formula, with torch.nn, autograd and torch.optim, in float64 (so that all rounding is the script's float32), and
`assert_same_losses` compares.
"""

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

import models
from common.camera import Camera, h36m_cameras, world_to_camera
from common.run.losses import LossBuffer
from common.run.run import Run, derived_seed
from common.skeleton import H36M_17, H36M_32, Skeleton, convert
from tests.tiny_dataset import tiny_keypoints, tiny_poses, write_tiny_dataset

TOLERANCE = 1e-6  # relative


class Step(NamedTuple):
    """A step of a script.

    index: what it was given; random: the state of the run's generator; losses: by term; inputs: what each call of a
    network was given, as (number of the network, its first argument in float64).
    """

    index: Tensor
    random: Tensor
    losses: dict[str, float]
    inputs: list[tuple[int, Tensor]]

    def draws(self) -> torch.Generator:
        """A generator that draws what the step drew."""
        generator = torch.Generator()
        generator.set_state(self.random)
        return generator

    def input(self, network: int, expected: Tensor, start: int = 0) -> Tensor:
        """What the network saw, row `start` on: `expected`, as exact as the script's float32 has it."""
        calls = [x for number, x in self.inputs if number == network]
        assert calls, f"network {network} was not asked"
        found = torch.cat(calls)[start : start + len(expected)]
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-6)
        return found


class Watched(NamedTuple):
    """networks: those that the script prepared, in its order, float64, with the weights before its first step."""

    networks: list[nn.Module]
    steps: list[Step]

    def find(self, parameter: str) -> int:
        """The number of the network that has a parameter of this name."""
        (number,) = (n for n, network in enumerate(self.networks) if parameter in network.state_dict())
        return number


def watch(
    script, monkeypatch, name: str, *options, small: Mapping[str, nn.Module | Mapping[str, Any]] | None = None
) -> Watched:
    """Run a training script, which must end with status 0, and note every step.

    Its networks are float64 and without dropout (of `nn.Dropout`), its data float32 as ever. small: by the network's
    name in `models.create` sizes that the script has no option for, or a network to take in its place.
    """
    prepared, networks, steps = [], [], []
    create, prepare, accelerate, record = models.create, Run.prepare, Run.accelerate, LossBuffer.record
    copy_rows, single = Tensor.index_copy_, Tensor.float

    def create_small(network: str, **given):
        found = (small or {}).get(network, {})
        return found if isinstance(found, nn.Module) else create(network, **(given | found))

    def note_network(run, model):
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        prepared.append(prepare(run, model).double())
        return prepared[-1]

    def note_step(run, step, *optimizers, **more):
        fast = accelerate(run, step, *optimizers, **more)

        def call(index):
            if not networks:
                networks.extend(map(copy.deepcopy, prepared))
            steps.append(Step(index.clone(), run.generator.get_state(), {}, []))
            return fast(index)

        return call

    def note_input(module, inputs):
        inputs = _as_weights(module, inputs)
        number = next((n for n, network in enumerate(prepared) if network is module), None)
        if steps and number is not None:
            steps[-1].inputs.append((number, inputs[0].detach().clone()))
        return inputs

    def note_losses(buffer, i, values, rows=None):
        steps[-1].losses.update(zip(buffer.names, values.tolist(), strict=True))
        record(buffer, i, values, rows)

    with monkeypatch.context() as patch:
        patch.setattr(models, "create", create_small)
        patch.setattr(Run, "prepare", note_network)
        patch.setattr(Run, "accelerate", note_step)
        patch.setattr(LossBuffer, "record", note_losses)
        patch.setattr(Tensor, "float", lambda x: x if x.dtype == torch.float64 else single(x))
        patch.setattr(Tensor, "index_copy_", lambda x, dim, index, rows: copy_rows(x, dim, index, rows.to(x.dtype)))
        hook = register_module_forward_pre_hook(note_input)
        try:
            done = script(name, *options)
        finally:
            hook.remove()
    assert done.status == 0, done.err
    return Watched(networks, steps)


def _as_weights(module: nn.Module, inputs: tuple) -> tuple:
    """The inputs in the module's precision."""
    weight = next(module.parameters(), None)
    if weight is None:
        return inputs
    return tuple(x.to(weight.dtype) if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs)


def assert_same_losses(steps: Iterable[Step], expected: Iterable[Mapping[str, Tensor | float]]) -> None:
    """Every expected term of every step is there, and the same to `TOLERANCE`."""
    off = {}
    for number, (step, terms) in enumerate(zip(steps, expected, strict=True), 1):
        for term, value in terms.items():
            found, value = step.losses.get(term), torch.as_tensor(value).item()
            if found != pytest.approx(value, rel=TOLERANCE):
                off[f"step {number}, {term}"] = f"found {found}, expected {value}"
    assert not off


# ------------------------------------------------------------ a network of several methods


class Martinez(nn.Module):
    """(B, ...) of `inputs` numbers a pose -> (B, outputs): the published layers and names, without dropout."""

    def __init__(self, inputs: int, outputs: int, width: int):
        super().__init__()
        self.w1, self.batch_norm1 = nn.Linear(inputs, width), nn.BatchNorm1d(width)
        self.linear_stages = nn.ModuleList([MartinezStage(width)])
        self.w2 = nn.Linear(width, outputs)

    def forward(self, poses: Tensor) -> Tensor:
        return self.w2(self.linear_stages[0](self.batch_norm1(self.w1(poses.flatten(1))).relu()))


class MartinezStage(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.w1, self.batch_norm1 = nn.Linear(width, width), nn.BatchNorm1d(width)
        self.w2, self.batch_norm2 = nn.Linear(width, width), nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.batch_norm2(self.w2(self.batch_norm1(self.w1(x)).relu())).relu()


# ------------------------------------------------------------ data


TRAIN, TEST, ACTIONS, FRAMES = ("S1", "S5", "S6", "S7"), ("S9",), ("Walking", "Eating"), 2


def write_data(folder) -> None:
    """A tiny set in Human3.6M's layout, -d tiny -k gt, of people who stand and turn differently: batch norm, which
    divides by how much poses differ, would make much of rounding if they hardly did.
    """
    write_tiny_dataset(folder, frames=FRAMES, actions=ACTIONS, subjects=(*TRAIN, *TEST))


def motion(subjects: Sequence[str], skeleton: Skeleton = H36M_17) -> Tensor:
    """World poses (N, J, 3), float64, once for all cameras, in the scripts' order: by subject, action, frame."""
    world = tiny_poses(FRAMES, (*TRAIN, *TEST), ACTIONS)
    poses = [convert(world[subject][action], H36M_32, skeleton) for subject in subjects for action in ACTIONS]
    return torch.from_numpy(np.concatenate(poses)).double()


class Seen(NamedTuple):
    """keypoints: (B, ..., J, 2), x from -1 to 1 over the width; poses: (B, ..., J, 3), camera frame; focal: (B,), over
    half the width.
    """

    keypoints: Tensor
    poses: Tensor
    focal: Tensor


def virtual(world: Tensor, draws: torch.Generator) -> Seen:
    """What random cameras of the options' ranges see of poses (B, J, 3) or pairs (B, 2, J, 3): each is rolled, looks at
    its horizon, and is then moved until the last frame's hip is where it is to be.
    """
    numbers = torch.rand(len(world), 8, generator=draws).double()
    low = numbers.new_tensor((-180, -8, -6, 2.2, 0.6, 0.5, -0.7, -0.7))
    high = numbers.new_tensor((180, 37, 6, 8.2, 2.0, 2.0, 0.7, 0.7))
    azimuth, pitch, roll, distance, focal, aspect, across, down = (low + (high - low) * numbers).unbind(1)
    azimuth, pitch, roll = (x * math.pi / 180 for x in (azimuth, pitch, roll))
    forward = -torch.stack((azimuth.cos() * pitch.cos(), azimuth.sin() * pitch.cos(), pitch.sin()), 1)
    right = torch.linalg.cross(forward, forward.new_tensor((0, 0, 1)).expand_as(forward))
    right = right / right.norm(dim=1, keepdim=True)
    below = torch.linalg.cross(forward, right)
    cos, sin = roll.cos()[:, None], roll.sin()[:, None]
    axes = torch.stack((cos * right + sin * below, cos * below - sin * right, forward), 1)
    flat = world.flatten(1, -2)
    ray = torch.stack((across / 2 / focal, down * aspect / 2 / focal, torch.ones_like(focal)), 1)
    hip = ray / ray.norm(dim=1, keepdim=True) * distance[:, None]
    poses = (flat - flat[:, None, -world.shape[-2]]) @ axes.mT + hip[:, None]
    poses = poses.view_as(world)
    keypoints = 2 * focal.view(-1, *[1] * (poses.dim() - 1)) * poses[..., :2] / poses[..., 2:]
    return Seen(keypoints, poses, 2 * focal)


def first_draws(seed: int = 0) -> torch.Generator:
    """What a run draws from to see a set once, for its scale."""
    return torch.Generator().manual_seed(derived_seed(seed, "first look"))


class Views(NamedTuple):
    """What the cameras see of some subjects in `write_data`'s set, N rows, float64.

    pixels: (N, J, 2); poses: (N, J, 3), metres, camera frame; cameras: N of them, one for each row.
    """

    pixels: Tensor
    poses: Tensor
    cameras: list[Camera]


def views(subjects: Sequence[str], skeleton: Skeleton = H36M_17) -> Views:
    """The rows of a split in the scripts' order: by subject, action, camera, frame."""
    world = tiny_poses(FRAMES, (*TRAIN, *TEST), ACTIONS)
    seen = tiny_keypoints(world)
    pixels, poses, cameras = [], [], []
    for subject in subjects:
        for action in ACTIONS:
            for camera, keypoints in zip(h36m_cameras()[subject], seen[subject][action], strict=True):
                joints = torch.from_numpy(convert(world[subject][action], H36M_32, skeleton)).double()
                place = joints.new_tensor(camera.orientation), joints.new_tensor(camera.translation)
                poses.append(world_to_camera(joints, *place))
                pixels.append(torch.from_numpy(convert(keypoints, H36M_17, skeleton)).double())
                cameras += [camera] * FRAMES
    return Views(torch.cat(pixels), torch.cat(poses), cameras)
