"""Views of the encoder-decoder: who is turned into whose, by which rotation, what stays frozen; and a trained network's
views from every other camera, views turned by hand, and poses.

Rotations are (..., 3, 3) and map column vectors; world_to_camera and camera_to_world are each other's transposes.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import InputError
from models.encoder_decoder.losses import restore_pose
from models.encoder_decoder.network import EncoderDecoder, Latent, Partners
from models.encoder_decoder.resnet_encoder import STEM

# ------------------------------------------------------------ partners


def own_partners(count: int, device: torch.device | str = "cpu") -> Partners:
    """Every row is its own partner: to reconstruct, or to turn by `user_rotation`."""
    index = torch.arange(count, device=device)
    return Partners(index, index)


def shuffled_partners(
    count: int,
    size: int,
    generator: torch.Generator,
    shuffle_3d: bool = True,
    shuffle_fg: bool = True,
    swap: bool = True,
    rank: int = 0,
    world_size: int = 1,
) -> Partners:
    """The published training: views shuffled within each sub-batch, and looks too, from the neighbouring sub-batch.

    As published, the shuffle of two views leaves them in place half of the time: then the image is just reconstructed.

    Args:
        count, size: rows of this process's batch and of a sub-batch.
        generator: seeded alike in all processes; the partners are on its device.
        shuffle_3d, shuffle_fg: False leaves views, or looks, in place.
        swap: exchange the looks of sub-batches 2 k and 2 k + 1, two frames of one person in batches of
            `use_subject_batches`; without such batches they are strangers, so the caller says False.
        rank, world_size: processes draw for the whole batch and keep their blocks of it, as `common.multiview.batches`
            deals them out.
    """
    check_whole(count, size)
    index = torch.arange(count, device=generator.device).view(-1, size)
    if swap and len(index) % 2:
        raise InputError(f"{len(index)} sub-batches of {size} rows cannot be paired: use_subject_batches needs pairs")

    def order() -> Tensor:
        draws = torch.rand(world_size * len(index), size, generator=generator, device=generator.device)
        mine = draws.view(-1, 1 + swap, size)[rank::world_size].reshape(-1, size)
        return mine.argsort(dim=1) + index[:, :1]

    geometry, appearance = order(), order()  # both in any case: a flag must not change the other's draws
    if swap:
        appearance = appearance.view(-1, 2, size).flip(1)
    rows = index.flatten()
    return Partners(geometry.flatten() if shuffle_3d else rows, appearance.flatten() if shuffle_fg else rows)


def check_whole(count: int, size: int) -> None:
    """InputError where `count` rows are no multiple of `size` views."""
    if size < 1 or count % size:
        raise InputError(f"a batch of {count} rows holds no whole sub-batches of {size} views: expected a multiple")


# ------------------------------------------------------------ rotations


def view_rotation(world_to_camera: Tensor, partner: Tensor) -> Tensor:
    """From each camera's frame to its partner's. (B, 3, 3), (B,) -> (B, 3, 3)."""
    with torch.autocast(world_to_camera.device.type, enabled=False):
        return world_to_camera[partner] @ world_to_camera.mT


def user_rotation(world_to_camera: Tensor, in_world: Tensor, in_camera: Tensor | None = None) -> Tensor:
    """Turn the figure in the world, then in the camera: R_cam W2C R_world C2W. (B, 3, 3), (..., 3, 3) -> (B, 3, 3).

    With `own_partners`, this is the viewer's rotation.
    """
    with torch.autocast(world_to_camera.device.type, enabled=False):
        turned = world_to_camera @ in_world @ world_to_camera.mT
        return turned if in_camera is None else in_camera @ turned


# ------------------------------------------------------------ frozen parts


def frozen_parts(model: EncoderDecoder, stage: str) -> list[nn.Module]:
    """What a stage of the published training leaves as it is.

    stage: "synthesis": of the ResNet what comes before layer3, nothing of the UNet; "pose": all but the pose head.
    """
    if stage == "pose":
        return [part for part in model.children() if part is not model.to_pose]
    if stage != "synthesis":
        raise InputError(f"unknown stage {stage!r}: expected synthesis or pose")
    return [getattr(model.encoder, name) for name in STEM] if model.encoder is not None else []


def freeze(parts: list[nn.Module]) -> None:
    """No gradients, and no optimiser, for these modules' parameters."""
    for part in parts:
        part.requires_grad_(False)


def training_mode(model: nn.Module, frozen: list[nn.Module], drift: bool = False) -> None:
    """`model.train()`, but the frozen modules in evaluation: fixed batch-norm statistics, no dropout.

    drift: as published; it leaves them in training mode, so that they normalise by the batch and their
    running statistics drift; True restores that.
    """
    model.train()
    if not drift:
        for part in frozen:
            part.eval()


def other_views(
    model: EncoderDecoder, images: Tensor, backgrounds: Tensor | None, world_to_camera: Tensor, views: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (source (B,), synthesised (B, 3, S, S)), views - 1 times: row i is image i as seen from image source[i].

    world_to_camera: (B, 3, 3); views: cameras of a frame. Looks are those of the source.
    """
    latent = model.encode(images)
    index = torch.arange(len(images), device=images.device)
    for shift in range(1, views):
        partner = index.view(-1, views).roll(shift, dims=1).flatten()
        pred = model.synthesise(latent, backgrounds, view_rotation(world_to_camera, partner), Partners(partner, index))
        yield index.view(-1, views).roll(-shift, dims=1).flatten(), pred


def yaw(angles: Tensor) -> Tensor:
    """Rotations about the world's vertical axis z, (T,) radians -> (T, 3, 3)."""
    cos, sin, zero, one = angles.cos(), angles.sin(), torch.zeros_like(angles), torch.ones_like(angles)
    return torch.stack((cos, -sin, zero, sin, cos, zero, zero, zero, one), -1).unflatten(-1, (3, 3))


def turned(
    model: EncoderDecoder, image: Tensor, background: Tensor | None, world_to_camera: Tensor, angles: Tensor
) -> tuple[Tensor, Tensor]:
    """One image's person turned about the vertical: (T, 3, S, S), and the turns in the camera's frame (T, 3, 3).

    image, background: (3, S, S); world_to_camera: (3, 3); angles: (T,) radians. Poses turn as `pose @ turn.mT`.
    """
    count = len(angles)
    rotation = user_rotation(world_to_camera, yaw(angles))
    latent = model.encode(image[None])
    every = Latent(*(part.expand(count, *part.shape[1:]) for part in latent))
    behind = None if background is None else background.expand(count, -1, -1, -1)
    return model.synthesise(every, behind, rotation, own_partners(count, image.device)), rotation


def pose_predictor(model: EncoderDecoder, geometry: Tensor, labels: Any) -> Callable[[Tensor], Tensor]:
    """A function, rows (B,) -> poses (B, J, 3) in the labels' unit, of what the encoder has made of all images.

    geometry: (N, P, 3); labels: with `mean` and `std`, (N, 3 J).
    """
    return lambda rows: restore_pose(model.pose(geometry[rows]), labels.mean[rows], labels.std[rows])
