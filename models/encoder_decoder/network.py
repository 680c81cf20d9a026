"""The geometry-aware encoder-decoder: an image becomes a look and a cloud of 3D points, which another camera can see.

Rhodin, Salzmann, Fua, "Unsupervised geometry-aware representation for 3D human pose estimation" (ECCV 2018). The
encoder splits an image into appearance, a vector, and geometry, points in its camera's frame. Turned by the rotation
between two cameras, given another frame's appearance and the other camera's background, they are decoded into the other
camera's image; so two cameras teach 3D without any label. A small head then reads the pose off the geometry.

Images are (B, 3, S, S), normalised as ImageNet's. Points are row vectors, `points @ rotation.mT` for a rotation that
maps column vectors. A batch is a row of sub-batches, the views of one frame. Parameters have the names and shapes of
the published files, in which modules that the network does not use are left out
(`methods.encoder_decoder.checkpoint.UNUSED`).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from common.errors import InputError
from models.encoder_decoder.resnet_encoder import ResNetEncoder
from models.encoder_decoder.unet import Up, double_conv, encode
from models.layers import full_precision, no_autocast, rotate

FILTERS = (64, 128, 256, 512, 512, 512)
ENCODERS = ("resnet", "unet")


class Latent(NamedTuple):
    """appearance: (B, A); geometry: (B, P, 3), points in the frame of the image's camera, in no unit."""

    appearance: Tensor
    geometry: Tensor


class Partners(NamedTuple):
    """geometry: (B,) whose view row i is turned into, a permutation; appearance: (B,) whose look it wears."""

    geometry: Tensor
    appearance: Tensor


class Blend(NamedTuple):
    """How far geometry and appearance are taken from the row itself, 0, to the partner's, 1.

    last: as published; the blend takes the turned geometry of the batch's last row for every row (for batches of one,
    as in its viewer, the row's own); False takes each row's own.
    """

    pose: float = 1.0
    appearance: float = 1.0
    last: bool = True


class EncoderDecoder(nn.Module):
    """Defaults are the published sizes.

    Args:
        resolution: S, pixels; UNet: a multiple of 2^(layers - 1), ResNet: of 16, from 64 on. encoder: "resnet" or
        "unet". feature_scale: divides the numbers of channels, 64 to 512. layers: resolutions of the UNet and of the
        decoder; the deepest map has side S / 2^(layers - 1). latent_fg: numbers of the appearance; fewer than the
        channels of the deepest map. latent_3d: numbers of the geometry, three a point. dropout: rate at the UNet's
        latents and at the decoder's entry. upsampling: "upper": bilinear and convolution (as published: the name
        promises a transposed convolution at the end, which
            the published code does not make); "half": transposed convolutions but for the last.
        skip_background: give the decoder features of the background; without, it paints its own.
        implicit_rotation: a layer that sees the rotation's nine numbers instead of turning the points (published as a
            comparison; no file is).
        joints, pose_width, pose_layers: of the pose head.

    Raises:
        InputError: sizes that do not fit together.
    """

    def __init__(
        self,
        resolution: int = 128,
        encoder: str = "resnet",
        feature_scale: int = 2,
        layers: int = 4,
        latent_fg: int = 128,
        latent_3d: int = 600,
        dropout: float = 0.3,
        upsampling: str = "upper",
        skip_background: bool = True,
        implicit_rotation: bool = False,
        joints: int = 17,
        pose_width: int = 2048,
        pose_layers: int = 2,
    ):
        super().__init__()
        _check_sizes(resolution, encoder, feature_scale, layers, latent_fg, latent_3d, upsampling)
        filters = [number // feature_scale for number in FILTERS[:layers]]
        self.layers, self.latent_fg, self.latent_3d = layers, latent_fg, latent_3d
        self.side = resolution >> (layers - 1)
        self.encoder = ResNetEncoder(resolution, latent_fg + latent_3d) if encoder == "resnet" else None
        if self.encoder is None:
            for i, (before, after) in enumerate(zip((3, *filters), filters, strict=False), 1):
                setattr(self, f"conv_{i}_stage0", double_conv(before, after))
            numbers = filters[-1] * self.side**2
            self.to_3d = nn.Sequential(nn.Linear(numbers, latent_3d), nn.Dropout(dropout))
            self.to_fg = nn.Sequential(nn.Linear(numbers, latent_fg), nn.Dropout(dropout), nn.ReLU())
        self.conv_1_stage_bg0 = double_conv(3, filters[0]) if skip_background else None
        self.rotation_code = _RotationCode(latent_3d, dropout) if implicit_rotation else None
        entry = (filters[-1] - latent_fg) * self.side**2
        self.from_latent = nn.Sequential(nn.Linear(latent_3d, entry), nn.Dropout(dropout), nn.ReLU())
        for i in range(1, layers):
            before, after, last = filters[-i], filters[-i - 1], i == layers - 1
            bilinear = upsampling == "upper" or last
            setattr(
                self, f"upconv_{i}_stage0", Up(before, after, bilinear, skip=after if last and skip_background else 0)
            )
        self.final_stage0 = nn.Conv2d(filters[0], 3, 1)
        self.to_pose = PoseHead(latent_3d, 3 * joints, pose_width, pose_layers)

    def encode(self, images: Tensor) -> Latent:
        """images: (B, 3, S, S) -> Latent, float32 at least."""
        if self.encoder is not None:
            appearance, geometry = self.encoder(images).split([self.latent_fg, self.latent_3d], dim=1)
        else:
            features = encode([getattr(self, f"conv_{i}_stage0") for i in range(1, self.layers + 1)], images).flatten(1)
            appearance, geometry = self.to_fg(features), self.to_3d(features)
        return Latent(full_precision(appearance), full_precision(geometry).unflatten(1, (-1, 3)))

    def turn(self, geometry: Tensor, rotation: Tensor) -> Tensor:
        """geometry: (B, P, 3), rotation: (B, 3, 3) from its camera to another -> (B, P, 3) in the other's frame."""
        if self.rotation_code is not None:
            return self.rotation_code(geometry, rotation)
        with no_autocast(geometry):
            return rotate(geometry, rotation.mT)

    def decode(self, latent: Latent, backgrounds: Tensor | None) -> Tensor:
        """What a camera sees of a latent in its own frame, before its background (B, 3, S, S) -> (B, 3, S, S)."""
        code = self.from_latent(latent.geometry.flatten(1)).unflatten(1, (-1, self.side, self.side))
        look = latent.appearance.to(code.dtype)[..., None, None].expand(-1, -1, self.side, self.side)
        x = torch.cat((look, code), dim=1)
        for i in range(1, self.layers - 1):
            x = getattr(self, f"upconv_{i}_stage0")(x)
        behind = None if self.conv_1_stage_bg0 is None else self.conv_1_stage_bg0(backgrounds)
        x = getattr(self, f"upconv_{self.layers - 1}_stage0")(x, behind)
        with no_autocast(x):
            return self.final_stage0(full_precision(x))

    def forward(
        self,
        images: Tensor,
        backgrounds: Tensor | None,
        rotation: Tensor,
        partners: Partners,
        blend: Blend | None = None,
    ) -> Tensor:
        """Image i as synthesised from another view -> (B, 3, S, S), to be compared with image i.

        Args:
            images, backgrounds: (B, 3, S, S); backgrounds[i] is what is behind image i.
            rotation: (B, 3, 3), rotation i takes camera i's frame to that of camera partners.geometry[i]
                (`view_rotation`, `user_rotation`).
            partners: `shuffled_partners` or `own_partners`.
        """
        return self.synthesise(self.encode(images), backgrounds, rotation, partners, blend)

    def synthesise(
        self,
        latent: Latent,
        backgrounds: Tensor | None,
        rotation: Tensor,
        partners: Partners,
        blend: Blend | None = None,
    ) -> Tensor:
        """`forward` from what `encode` made of the images."""
        own, look = latent.geometry, latent.appearance
        geometry, appearance = self.turn(own, rotation), look[partners.appearance]
        if blend is not None:
            geometry = own.lerp(geometry[-1:] if blend.last else geometry, blend.pose)
            appearance = look.lerp(appearance, blend.appearance)
        # row i makes the view of its partner: rows go there before the decoder, where there is least to move
        source = partners.geometry.argsort()
        return self.decode(Latent(appearance[source], geometry[source]), backgrounds)

    def pose(self, geometry: Tensor) -> Tensor:
        """geometry: (B, P, 3), as encoded -> pose (B, 3 J), x0 y0 z0 x1 ..., normalised by mean and deviation."""
        return self.to_pose(geometry.flatten(1))


class PoseHead(nn.Module):
    """(B, inputs) -> (B, outputs): hidden layers with ReLU, batch norm and dropout, in this order."""

    def __init__(self, inputs: int, outputs: int, width: int = 2048, layers: int = 2, dropout: float = 0.5):
        super().__init__()
        sizes = [inputs] + [width] * layers
        hidden = [
            module
            for before, after in zip(sizes, sizes[1:], strict=False)
            for module in (nn.Linear(before, after), nn.ReLU(), nn.BatchNorm1d(after), nn.Dropout(dropout))
        ]
        self.fully_connected = nn.Sequential(*hidden, nn.Linear(sizes[-1], outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = self.fully_connected[:-1](x)
        with no_autocast(x):
            return self.fully_connected[-1](full_precision(x))


class _RotationCode(nn.Module):
    """Points (B, P, 3) and a rotation (B, 3, 3) -> points (B, P, 3), by layers that know nothing of rotations."""

    def __init__(self, numbers: int, dropout: float):
        super().__init__()
        self.angle = nn.Sequential(
            nn.Linear(9, 64), nn.ReLU(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()
        )
        self.mix = nn.Sequential(nn.Linear(numbers + 128, numbers), nn.Dropout(dropout), nn.ReLU())

    def forward(self, geometry: Tensor, rotation: Tensor) -> Tensor:
        code = torch.cat((geometry.flatten(1), self.angle(rotation.flatten(1))), dim=1)
        return full_precision(self.mix(code)).view_as(geometry)


def _check_sizes(
    resolution: int, encoder: str, feature_scale: int, layers: int, latent_fg: int, latent_3d: int, upsampling: str
) -> None:
    if encoder not in ENCODERS:
        raise InputError(f"unknown encoder {encoder!r}: expected {' or '.join(ENCODERS)}")
    if upsampling not in ("upper", "half"):
        raise InputError(f"unknown upsampling {upsampling!r}: expected upper or half")
    if not 2 <= layers <= len(FILTERS):
        raise InputError(f"{layers} encoding layers: expected 2 to {len(FILTERS)}")
    if not 1 <= feature_scale <= FILTERS[0]:
        raise InputError(f"feature scale {feature_scale}: expected 1 to {FILTERS[0]}")
    if resolution < 1 or resolution % (1 << (layers - 1)):
        raise InputError(f"images of {resolution} pixels: {layers} layers need a multiple of {1 << (layers - 1)}")
    channels = FILTERS[layers - 1] // feature_scale
    if not 0 < latent_fg < channels:
        raise InputError(f"{latent_fg} numbers of appearance: the deepest map has {channels} channels; expected fewer")
    if latent_3d < 3 or latent_3d % 3:
        raise InputError(f"{latent_3d} numbers of geometry: expected a multiple of 3, points being (x, y, z)")
