"""The ITES networks: sizes, released layouts, two steps of loss parity, strict loading, behaviour in training."""

import pytest
import torch

import models
from benchmarks import published
from common.errors import InputError
from common.rotation import random_rotations
from common.skeleton import H36M_16
from models.student import Student, student_losses
from models.teacher import centre, mean_distance, rotate, teacher_losses

BATCH = 16
# name: [[first term, second term] of step 1, of step 2]
STORED = {
    "teacher": [[0.410080, 1.655773], [0.385139, 1.443300]],
    "student": [[1.145920, 1.188618], [0.964225, 0.756847]],
}


def seeded(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def fill(model: torch.nn.Module) -> torch.nn.Module:
    """Seeded weights at which no part of the network is silent: a trained norm, unequal edge logits, biases."""
    for index, (name, tensor) in enumerate(model.state_dict().items()):
        if tensor.is_floating_point():
            uniform = 2 * torch.rand(tensor.shape, generator=torch.Generator().manual_seed(index)) - 1
            if name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight")):
                tensor.copy_(1 + 0.5 * uniform)
            elif tensor.dim() > 1 and not name.endswith(".e"):
                tensor.copy_(uniform / tensor.shape[1] ** 0.5)
            else:
                tensor.copy_(uniform)
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
            "gconv_layers.3.gconv2.bn.running_mean": (128,), "gconv_input.0.gconv.W": (2, 2, 128),
            "gconv_output.bias": (1,),
        }),
    ],
)  # fmt: skip
def test_sizes_and_layout_are_the_released_ones(networks, name, parameters, entries, some):
    model = networks[name]
    assert sum(p.numel() for p in model.parameters()) == parameters
    state = model.state_dict()
    assert len(state) == entries
    assert {key: tuple(state[key].shape) for key in some} == some
    assert list(state)[0] in some and list(state)[-1] in some


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


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_same_function_as_in_the_published_layout(networks, name):
    """Losses, all gradients and running statistics in float64, against convolutions and explicit pairs."""
    ours, theirs = models.create(name), published.Published(name)
    for model in (ours, theirs.network):
        model.load_state_dict(networks[name].state_dict())
        model.double().train()
    data = [seeded(4, 17, 2, scale=0.2).double()] + ([seeded(4, 17, 1, seed=2).double()] if name == "student" else [])
    rotations = random_rotations(16, generator=torch.Generator().manual_seed(1)).double()
    if name == "teacher":
        losses = teacher_losses(ours, *data, rotations, align_root=True)
        total = 5 * losses["reprojection"] + losses["cycle"]
        expected = published.teacher_loss(theirs, data, rotations)
    else:
        losses = student_losses(ours, *data, rotations)
        total = 5 * losses["depth"] + losses["reconstruction"]
        expected = published.student_loss(theirs, data, rotations)
    torch.testing.assert_close(total, expected, rtol=1e-9, atol=0)
    total.backward()
    expected.backward()
    for (key, mine), other in zip(ours.named_parameters(), theirs.network.parameters(), strict=True):
        if other.grad is None:
            assert mine.grad is None, key
        else:
            torch.testing.assert_close(mine.grad, other.grad, rtol=1e-6, atol=1e-9, msg=key)
    for key, value in theirs.network.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value, msg=key)


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_two_steps_give_the_stored_losses(networks, name):
    """SGD as published. The numbers come from this project when it agreed with the published code's vectors."""
    model = models.create(name).train()
    model.load_state_dict(networks[name].state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    found = []
    for _ in range(2):
        losses = losses_of(name, model)
        first, second = losses.values()
        optimizer.zero_grad()
        (5 * first + second).backward()
        optimizer.step()
        found.append([first.item(), second.item()])
    torch.testing.assert_close(torch.tensor(found), torch.tensor(STORED[name]), rtol=3e-4, atol=0)


def test_the_teacher_steps_its_running_statistics_twice(networks):
    model = models.create("teacher", width=16, layers=1).train()
    losses_of("teacher", model)
    assert model.fe_net[1].bn2.num_batches_tracked == 2


def test_only_the_unused_layer_gets_no_gradient():
    model = models.create("teacher", width=16, layers=1).train()
    sum(losses_of("teacher", model).values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == [
        "trans_layer.weight", "trans_layer.bias",
    ]  # fmt: skip


def test_gradients_flow_through_both_sides_of_the_cycle():
    """Nothing is detached: the cycle loss alone reaches the canonical shape that it compares with."""
    model = models.create("teacher", width=16, layers=1).eval()
    canonical = seeded(2, 17, 3).requires_grad_()
    cycle = model.cycle(canonical, random_rotations(8), align_root=False)
    for part in (cycle.target, cycle.keypoints, cycle.canonical):
        (gradient,) = torch.autograd.grad(part.square().sum(), canonical, retain_graph=True)
        assert gradient.abs().sum() > 0


def test_replicas_are_pose_by_pose_and_roots_move_only_if_asked():
    model, canonical = models.create("teacher", width=16, layers=1).eval(), seeded(3, 17, 3)
    rotations = random_rotations(12)
    apart = model.cycle(canonical, rotations, align_root=False)
    assert torch.equal(apart.target[3 * 2 + 1], canonical[1])
    aligned = model.cycle(canonical, rotations, align_root=True)
    assert torch.equal(aligned.target[4], centre(canonical)[1])
    again = models.create("student", hidden=8, blocks=1).eval().reconstruct(canonical, rotations)
    torch.testing.assert_close(again.rotated[7], canonical[1] @ rotations[7])


def test_the_teacher_sees_poses_relative_to_joint_0(networks):
    keypoints = seeded(4, 17, 2, scale=0.2)
    teacher, student = networks["teacher"].eval(), networks["student"].eval()
    moved = keypoints + torch.tensor([0.3, -0.2])
    torch.testing.assert_close(teacher(moved).pose, teacher(keypoints).pose, rtol=1e-4, atol=1e-5)
    assert (student(moved).depth - student(keypoints).depth).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_scoring_draws_no_random_numbers(networks, name):
    before = torch.random.get_rng_state()
    networks[name].eval()(seeded(4, 17, 2))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(("name", "other"), [("teacher", "student"), ("student", "teacher")])
def test_weights_of_the_other_network_are_refused(networks, name, other):
    with pytest.raises(RuntimeError, match="(?s)Missing key.*Unexpected key"):
        models.create(name).load_state_dict(networks[other].state_dict())


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_bfloat16_stays_near_float32_and_losses_are_float32(networks, name):
    keypoints = seeded(8, 17, 2, scale=0.2)
    model = networks[name].eval()
    expected = model(keypoints).pose
    with torch.autocast("cpu", torch.bfloat16):
        found = model(keypoints).pose
        losses = losses_of(name, model)
    assert found.dtype == torch.float32 and {t.dtype for t in losses.values()} == {torch.float32}
    assert (found - expected).abs().mean() < 0.03 * expected.abs().mean()


def test_rotate_and_mean_distance():
    points, rotation = seeded(4, 17, 3), random_rotations(4)
    torch.testing.assert_close(rotate(points, rotation), points @ rotation)
    assert mean_distance(points, points + torch.tensor([3.0, 0.0, 4.0])).item() == pytest.approx(5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["teacher", "student"])
def test_a_training_step_is_captured_as_a_cuda_graph(name):
    model = models.create(name).cuda().train()
    keypoints, depth = seeded(8, 17, 2).cuda(), seeded(8, 17, 1).cuda()

    def backward() -> torch.Tensor:
        rotations = random_rotations(32, device="cuda")
        if name == "teacher":
            losses = teacher_losses(model, keypoints, rotations, align_root=True)
        else:
            losses = student_losses(model, keypoints, depth, rotations)
        total = sum(losses.values())
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
