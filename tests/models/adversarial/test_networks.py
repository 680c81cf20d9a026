"""The adversarial lifters' networks: released layouts, initial weights, shapes, activations, one pose alone."""

import pytest
import torch
from torch.nn import functional as F

import models
from models.adversarial.networks import KudoMLP
from models.layers import no_autocast


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.5 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layout(name: str, **sizes) -> dict[str, tuple]:
    return {key: tuple(value.shape) for key, value in models.create(name, **sizes).state_dict().items()}


def test_martinez_has_the_released_layout():
    generator, discriminator = layout("gan_lifter"), layout("gan_discriminator", axes=3)
    assert len(generator) == 65 and len(discriminator) == 51
    assert list(generator)[:3] == ["w1.weight", "w1.bias", "batch_norm1.weight"] and list(generator)[-1] == "w2.bias"
    assert generator["w1.weight"] == (1024, 34) and generator["w2.weight"] == (17, 1024)
    assert generator["linear_stages.3.batch_norm2.num_batches_tracked"] == ()
    assert discriminator["w1.weight"] == (1024, 51) and discriminator["w2.weight"] == (1, 1024)
    assert layout("gan_discriminator")["w1.weight"] == (1024, 34)


def test_kudo_has_the_released_layout():
    plain, normed = layout("kudo_generator"), layout("kudo_discriminator", batch_norm=True, axes=3)
    assert list(plain) == [f"l{i}.{kind}" for i in (1, 2, 3, 4) for kind in ("weight", "bias")]
    assert plain["l1.weight"] == (1024, 34) and plain["l4.weight"] == (17, 1024)
    assert len(normed) == 8 + 3 * 5 and normed["bn3.running_var"] == (1024,) and normed["l1.weight"] == (1024, 51)


def test_initial_weights():
    kudo, martinez = models.create("kudo_generator", batch_norm=True), models.create("gan_lifter", stages=1)
    for linear in (kudo.l1, kudo.l2, kudo.l3, kudo.l4):
        assert linear.weight.std().item() == pytest.approx(0.02, rel=0.03) and not linear.bias.any()
    assert kudo.bn2.eps == 2e-5 and kudo.bn2.momentum == pytest.approx(0.1)
    assert martinez.w1.weight.abs().max().item() == pytest.approx(34**-0.5, rel=0.01)  # torch's own: uniform


NETWORKS = {
    "gan_lifter": ({"width": 32, "stages": 2}, 17),
    "gan_discriminator": ({"width": 32, "stages": 2}, 1),
    "kudo_generator": ({"width": 32, "batch_norm": True}, 17),
    "kudo_discriminator": ({"width": 32}, 1),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_flat_poses_joints_and_a_batch_of_one(name):
    sizes, outputs = NETWORKS[name]
    model, keypoints = models.create(name, **sizes).eval(), seeded(5, 17, 2)
    found = model(keypoints)
    assert found.shape == (5, outputs) and torch.equal(model(keypoints.flatten(1)), found)
    torch.testing.assert_close(torch.cat([model(pose[None]) for pose in keypoints]), found)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_learns_and_heads_are_float32_under_autocast(name):
    sizes, outputs = NETWORKS[name]
    model = models.create(name, **sizes).train()
    with torch.autocast("cpu", torch.bfloat16):
        found = model(seeded(16, 17, 2))
    assert found.dtype == torch.float32
    with no_autocast(found):
        found.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert all(p.grad.any() for key, p in model.named_parameters() if key.endswith("weight"))


def test_kudo_step_by_step():
    model, x = KudoMLP(34, 17, width=16, slope=0.1), seeded(4, 34)
    first = F.leaky_relu(x @ model.l1.weight.T + model.l1.bias, 0.1)
    second = F.leaky_relu(model.l2(first), 0.1)
    third = F.leaky_relu(model.l3(second) + first, 0.1)
    torch.testing.assert_close(model(x), model.l4(third))
    relu = KudoMLP(34, 17, width=16, slope=0.0)
    relu.load_state_dict(model.state_dict())
    assert not torch.allclose(relu(x), model(x))


def test_martinez_without_batch_norm():
    model = models.create("gan_discriminator", width=16, stages=1, batch_norm=False, dropout=0.0)
    assert not [name for name in model.state_dict() if "norm" in name]
    x, stage = seeded(4, 34), model.linear_stages[0]
    hidden = F.relu(model.w1(x))
    hidden = hidden + F.relu(stage.w2(F.relu(stage.w1(hidden))))
    torch.testing.assert_close(model.train()(x), model.w2(hidden))
    torch.testing.assert_close(model(x[:1]), model.w2(hidden)[:1])


def test_dropout_is_drawn_in_training_only():
    model, x = models.create("gan_lifter", width=32, stages=1), seeded(8, 34)
    assert not torch.equal(model.train()(x), model(x)) and torch.equal(model.eval()(x), model(x))
