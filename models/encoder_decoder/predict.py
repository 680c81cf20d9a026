"""What a trained encoder-decoder is asked for: every view from every other one, a view turned by hand, poses.

Images are (B, 3, S, S), normalised as ImageNet's; a batch is a row of frames, each seen by the same number of cameras.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from models.encoder_decoder.losses import restore_pose
from models.encoder_decoder.network import EncoderDecoder, Latent, Partners
from models.encoder_decoder.views import own_partners, user_rotation, view_rotation


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
