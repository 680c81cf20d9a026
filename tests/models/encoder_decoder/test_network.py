"""The geometry-aware encoder-decoder: sizes, who turns into whose view, what a rotation does, what stays frozen."""

import pytest
import torch

from common.errors import InputError
from models.encoder_decoder.network import Blend, EncoderDecoder, Latent, Partners
from models.encoder_decoder.views import (
    freeze,
    frozen_parts,
    own_partners,
    shuffled_partners,
    training_mode,
    user_rotation,
    view_rotation,
)
from models.layers import rotate
from tests.golden.encoder_decoder_oracles import rolled_partners  # fmt: skip

SMALL = {"resolution": 32, "encoder": "unet", "feature_scale": 16, "latent_fg": 8, "latent_3d": 12, "pose_width": 16}


@pytest.fixture
def small() -> EncoderDecoder:
    """With latents that show in the picture, which they hardly do at the start."""
    torch.manual_seed(0)
    model = EncoderDecoder(**SMALL).eval()
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
                layer.weight.mul_(3)
    return model


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, resolution: int = 32) -> torch.Tensor:
    return torch.randn(count, 3, resolution, resolution, generator=generator(1))


def rotations(count: int) -> torch.Tensor:
    turned = torch.linalg.qr(torch.randn(count, 3, 3, generator=generator(2)))[0]
    return turned * torch.linalg.det(turned)[:, None, None]


# ------------------------------------------------------------ networks


@pytest.mark.parametrize("sizes", [
    {"encoder": "unet", "resolution": 64, "feature_scale": 4, "latent_fg": 100, "latent_3d": 300},
    {"encoder": "unet", "resolution": 32, "feature_scale": 8, "latent_fg": 8, "layers": 3, "upsampling": "half"},
    {"encoder": "unet", "resolution": 32, "feature_scale": 16, "latent_fg": 8, "skip_background": False},
    {"encoder": "unet", "resolution": 64, "feature_scale": 16, "latent_fg": 8, "layers": 6, "implicit_rotation": True},
    {"encoder": "resnet", "resolution": 64, "feature_scale": 8, "latent_fg": 20, "latent_3d": 30},
    {"encoder": "resnet", "resolution": 256, "feature_scale": 16, "latent_fg": 8, "latent_3d": 30},
])  # fmt: skip
def test_sizes(sizes):
    model = EncoderDecoder(**{"latent_3d": 12, "pose_width": 16, "joints": 16, **sizes})
    side = sizes["resolution"]
    images = pictures(2, side)
    partners = rolled_partners(2, 2)
    out = model(images, images, view_rotation(rotations(2), partners.geometry), partners)
    assert out.shape == images.shape and torch.isfinite(out).all()
    latent = model.encode(images)
    assert latent.geometry.shape == (2, model.latent_3d // 3, 3) and latent.appearance.shape == (2, sizes["latent_fg"])
    assert model.pose(latent.geometry).shape == (2, 48)
    out.square().mean().backward()
    without = [name for name, value in model.named_parameters() if value.grad is None]
    assert all(name.startswith("to_pose.") for name in without) and without


@pytest.mark.parametrize(("sizes", "words"), [
    ({"encoder": "vgg"}, "unknown encoder"), ({"upsampling": "lower"}, "unknown upsampling"),
    ({"layers": 7}, "expected 2 to 6"), ({"latent_fg": 32}, "32 channels"), ({"latent_3d": 20}, "multiple of 3"),
    ({"resolution": 36}, "multiple of 8"), ({"encoder": "resnet", "resolution": 48}, "48 pixels"),
    ({"feature_scale": 100}, "feature scale 100"),
])  # fmt: skip
def test_sizes_that_do_not_fit(sizes, words):
    with pytest.raises(InputError, match=words):
        EncoderDecoder(**(SMALL | sizes))


def test_image_i_is_made_from_its_partner(small):
    """Row i's geometry, turned, with its look, before its partner's background is what image partner(i) becomes."""
    images, backgrounds, to_camera = pictures(4), pictures(8)[4:], rotations(4)
    partners = Partners(torch.tensor([1, 2, 0, 3]), torch.tensor([2, 2, 1, 0]))
    rotation = view_rotation(to_camera, partners.geometry)
    with torch.no_grad():
        found = small(images, backgrounds, rotation, partners)
        latent = small.encode(images)
        for i, j in enumerate(partners.geometry.tolist()):
            points = latent.geometry[i] @ (to_camera[j] @ to_camera[i].T).T
            look = latent.appearance[partners.appearance[i]]
            alone = small.decode(Latent(look[None], points[None]), backgrounds[j : j + 1])
            torch.testing.assert_close(alone[0], found[j], atol=1e-4, rtol=1e-4)


def test_turning_moves_the_points_from_camera_to_camera(small):
    to_camera = rotations(2)
    world = torch.randn(5, 3, generator=generator())
    seen = rotate(world.expand(2, 5, 3), to_camera.mT)
    turned = small.turn(seen, view_rotation(to_camera, torch.tensor([1, 0])))
    torch.testing.assert_close(turned, seen.flip(0), atol=1e-5, rtol=1e-5)


def test_a_turn_in_the_world_is_seen_by_every_camera():
    to_camera, in_world, in_camera = rotations(3), rotations(1)[0], rotations(4)[3]
    point = torch.randn(3, generator=generator())
    found = user_rotation(to_camera, in_world, in_camera) @ (to_camera @ point).unsqueeze(-1)
    torch.testing.assert_close(found.squeeze(-1), (to_camera @ (in_world @ point)) @ in_camera.T, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(user_rotation(to_camera, torch.eye(3)), torch.eye(3).expand(3, 3, 3), atol=1e-6, rtol=0)


def test_blend(small):
    """At 0 nothing is turned; at 1 of each row's own geometry it is as without; as published, the last row's."""
    images, to_camera = pictures(4), rotations(4)
    partners = rolled_partners(4, 2)
    rotation = view_rotation(to_camera, partners.geometry)
    with torch.no_grad():
        latent = small.encode(images)
        plain = small.synthesise(latent, images, rotation, partners)
        still = small.synthesise(latent, images, torch.eye(3).expand(4, 3, 3), partners)

        def blended(*blend) -> torch.Tensor:
            return small.synthesise(latent, images, rotation, partners, Blend(*blend))

        torch.testing.assert_close(blended(0.0, 1.0), still)
        torch.testing.assert_close(blended(1.0, 1.0, False), plain)
        last = blended(1.0, 1.0)
    torch.testing.assert_close(last[2], plain[2])  # row 3 makes image 2
    assert not torch.allclose(last[0], plain[0], atol=1e-3)


def test_autocast_keeps_heads_and_geometry_in_float32(small):
    partners = rolled_partners(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        latent = small.encode(pictures(2))
        turned = small.turn(latent.geometry, view_rotation(rotations(2), partners.geometry))
        image = small.decode(Latent(latent.appearance, turned), pictures(2))
        pose = small.pose(latent.geometry)
    assert {latent.geometry.dtype, latent.appearance.dtype, turned.dtype, image.dtype, pose.dtype} == {torch.float32}
    with torch.no_grad():
        exact = rotate(latent.geometry, view_rotation(rotations(2), partners.geometry).mT)
    torch.testing.assert_close(turned, exact)


# ------------------------------------------------------------ partners


def test_rolled_partners():
    assert rolled_partners(4, 2).geometry.tolist() == [1, 0, 3, 2]
    assert rolled_partners(4, 4).geometry.tolist() == [3, 0, 1, 2]
    assert rolled_partners(4, 2).appearance.tolist() == own_partners(4).geometry.tolist() == [0, 1, 2, 3]
    with pytest.raises(InputError, match="a batch of 5 rows"):
        rolled_partners(5, 2)


def test_shuffled_partners_stay_in_their_sub_batches():
    draws = generator()
    seen = set()
    for _ in range(100):
        partners = shuffled_partners(8, 2, draws)
        sub_batch = torch.arange(8) // 2
        assert (partners.geometry // 2 == sub_batch).all()
        assert (partners.appearance // 2 == torch.tensor([1, 1, 0, 0, 3, 3, 2, 2])).all()
        for rows in partners:
            assert sorted(rows.tolist()) == list(range(8))
        seen.add((*partners.geometry[:2].tolist(), *partners.appearance[:2].tolist()))
    assert len(seen) == 4  # in place or exchanged, views and looks apart
    for flags, name in (({"shuffle_3d": False}, "geometry"), ({"shuffle_fg": False}, "appearance")):
        assert getattr(shuffled_partners(8, 2, draws, **flags), name).tolist() == list(range(8))
    strangers = shuffled_partners(6, 3, draws, swap=False)
    assert (strangers.appearance // 3 == torch.arange(6) // 3).all()
    with pytest.raises(InputError, match="cannot be paired"):
        shuffled_partners(6, 2, draws)


def test_processes_draw_what_one_process_draws():
    whole = shuffled_partners(16, 2, generator())
    for rank in range(2):
        mine = shuffled_partners(8, 2, generator(), rank=rank, world_size=2)
        rows = torch.arange(16).view(-1, 4)[rank::2].flatten()  # blocks of a frame and its companion
        for one, share in zip(whole, mine, strict=True):
            assert torch.equal(one[rows], rows[share])


# ------------------------------------------------------------ frozen parts


def running_statistics(parts) -> list[torch.Tensor]:
    return [value.clone() for part in parts for name, value in part.named_buffers() if "running" in name]


@pytest.mark.parametrize("drift", [False, True])
def test_frozen_parts_do_not_move(drift):
    torch.manual_seed(0)
    model = EncoderDecoder(64, "resnet", 16, latent_fg=8, latent_3d=12, pose_width=16)
    frozen = frozen_parts(model, "synthesis")
    freeze(frozen)
    training_mode(model, frozen, drift)
    before, weights = running_statistics(frozen), [p.clone() for part in frozen for p in part.parameters()]
    trained = [p for p in model.parameters() if p.requires_grad]
    images, partners = pictures(4, 64), rolled_partners(4, 2)
    model(images, images, view_rotation(rotations(4), partners.geometry), partners).square().mean().backward()
    torch.optim.Adam(trained).step()
    moved = [not torch.equal(a, b) for a, b in zip(before, running_statistics(frozen), strict=True)]
    assert before and all(moved) if drift else not any(moved)
    assert all(map(torch.equal, weights, (p for part in frozen for p in part.parameters())))
    assert model.encoder.layer3[0].conv1.weight.grad is not None


def test_the_pose_stage_trains_the_head_alone(small):
    frozen = frozen_parts(small, "pose")
    freeze(frozen)
    training_mode(small, frozen)
    trained = {name for name, value in small.named_parameters() if value.requires_grad}
    assert trained and all(name.startswith("to_pose.") for name in trained)
    before, head = running_statistics(frozen), running_statistics([small.to_pose])
    assert torch.equal(*(small.encode(pictures(4)).geometry for _ in range(2)))  # no dropout either
    small.pose(small.encode(pictures(4)).geometry).sum().backward()
    assert all(map(torch.equal, before, running_statistics(frozen)))
    assert not any(map(torch.equal, head, running_statistics([small.to_pose])))
    assert frozen_parts(small, "synthesis") == []
    with pytest.raises(InputError, match="expected synthesis or pose"):
        frozen_parts(small, "both")
