"""The ITES networks: sizes, released layouts, two steps of loss parity, strict loading, behaviour in training."""

import pytest
import torch

import models
from benchmarks.textbook import TextbookStudent, TextbookTeacher
from common.errors import InputError
from common.rotation import random_rotations
from common.skeleton import H36M_16
from models.student import Student, student_losses
from models.teacher import centre, mean_distance, rotate, teacher_losses

BATCH = 16


def seeded(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def fill(model: torch.nn.Module) -> torch.nn.Module:
    """Weights without a random generator: sines of the position, scaled to keep activations near one."""
    for index, (name, tensor) in enumerate(model.state_dict().items()):
        if not tensor.is_floating_point():
            continue
        wave = torch.sin(torch.arange(tensor.numel(), dtype=torch.float64) * 1.7 + index).view_as(tensor).float()
        if name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight")):
            tensor.copy_(1 + 0.5 * wave)
        elif tensor.dim() > 1:
            tensor.copy_(wave * (2 / tensor[0].numel()) ** 0.5)
        else:
            tensor.copy_(0.1 * wave)
    return model


def losses_of(name: str, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    keypoints = seeded(BATCH, 17, 2, scale=0.2)
    rotations = random_rotations(4 * BATCH, generator=torch.Generator().manual_seed(1))
    if name == "teacher":
        return teacher_losses(model, keypoints, rotations, align_root=True)
    return student_losses(model, keypoints, seeded(BATCH, 17, 1, seed=2), rotations)


@pytest.fixture(scope="module")
def networks():
    return {name: fill(models.create(name)) for name in ("teacher", "student")}


@pytest.mark.parametrize(
    ("name", "parameters", "entries", "some"),
    [
        ("teacher", 3_621_543, 141, {
            "fe_net.0.conv1.weight": (1024, 34, 1, 1), "fe_net.6.conv3.weight": (1024, 256, 1, 1),
            "fe_net.6.bn3.running_var": (1024,), "shape_layer.weight": (51, 12, 1, 1), "trans_layer.bias": (1,),
        }),
        ("student", 534_635, 187, {
            "gconv_input.0.gconv.e": (1, 49), "gconv_layers.0.gconv1.non_local.non_local.g.0.weight": (64, 128, 1),
            "gconv_layers.3.gconv2.non_local.non_local.concat_project.0.weight": (1, 128, 1, 1),
            "gconv_layers.3.gconv2.bn.running_mean": (128,), "gconv_output.W": (2, 128, 1),
        }),
    ],
)  # fmt: skip
def test_sizes_and_layout_are_the_released_ones(networks, name, parameters, entries, some):
    model = networks[name]
    assert sum(p.numel() for p in model.parameters()) == parameters
    state = model.state_dict()
    assert len(state) == entries
    assert {key: tuple(state[key].shape) for key in some} == some
    assert list(state)[0] in some and list(state)[-1] in (*some, "gconv_output.bias")


def test_output_shapes():
    keypoints = seeded(5, 17, 2)
    teacher = models.create("teacher", width=32, layers=1, basis=4).eval()(keypoints)
    assert [tuple(t.shape) for t in teacher] == [(5, 4), (5, 17, 3), (5, 3, 3), (5, 17, 3)]
    student = models.create("student", hidden=8, blocks=1).eval()(keypoints)
    assert [tuple(t.shape) for t in student] == [(5, 17, 1), (5, 17, 3)]


def test_unknown_names_and_wrong_orders_are_refused():
    with pytest.raises(InputError, match="'pupil'.*student, teacher"):
        models.create("pupil")
    with pytest.raises(InputError, match="node order"):
        Student(H36M_16)


@pytest.mark.parametrize(("name", "textbook"), [("teacher", TextbookTeacher), ("student", TextbookStudent)])
def test_same_function_as_the_textbook_form(networks, name, textbook):
    """Poses, losses and all gradients in float64, in training mode, against convolutions and explicit pairs."""
    fast, plain = models.create(name), textbook()
    fast.load_state_dict(networks[name].state_dict())
    plain.load_state_dict(networks[name].state_dict())
    data = [seeded(4, 17, 2, scale=0.2).double()] + ([seeded(4, 17, 1, seed=2).double()] if name == "student" else [])
    rotations = random_rotations(16, generator=torch.Generator().manual_seed(1)).double()
    fast.double()
    fast.features = lambda k: fast.fe_net(k.flatten(1))  # without the rounding to float32
    if name == "teacher":
        losses = teacher_losses(fast, *data, rotations, align_root=True)
        total = 5 * losses["reprojection"] + losses["cycle"]
    else:
        with double_precision():
            losses = student_losses(fast, *data, rotations)
        total = 5 * losses["depth"] + losses["reconstruction"]
    expected = plain.double().losses(*data, rotations)
    torch.testing.assert_close(total, expected, rtol=1e-9, atol=0)
    total.backward()
    expected.backward()
    for (key, ours), theirs in zip(fast.named_parameters(), plain.parameters(), strict=True):
        if theirs.grad is None:
            assert ours.grad is None, key
        else:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-9, msg=key)
    for (key, ours), theirs in zip(fast.named_buffers(), plain.buffers(), strict=False):
        if key.endswith("running_var"):
            torch.testing.assert_close(ours, dict(plain.named_buffers())[key], msg=key)
