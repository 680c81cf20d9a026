"""The networks and their losses, by name: `models.create("teacher", width=1024)`.

    layers graph        what several networks share: norm and dropout, precision, graph convolutions, non-local block
    lifters             the networks from 2D to 3D poses, one row each; the networks are
    teacher student       ITES, with its losses
    mlp gcn videopose stgcn    PoseAug's
    resnet              the trunk of the networks on images
    poseaug/            augmentor, discriminators, losses, replay pool
    adversarial/        lifters and discriminators, their geometry, losses and steps
    hourglass/          stacked hourglass and pose ResNet, losses
    encoder_decoder/    network, its encoders, losses, views
    fast/               hand-written gradients behind one door: FAST=0 leaves all of it out

torch.nn modules and functions of tensors, as their papers have them; they read no files, print nothing, and import only
the ground files of `common`.
"""

from collections.abc import Callable

from torch import nn

from common.errors import InputError
from models.adversarial.networks import gan_discriminator, gan_lifter, kudo_discriminator, kudo_generator
from models.encoder_decoder.network import EncoderDecoder
from models.hourglass.hourglass import StackedHourglass
from models.hourglass.pose_resnet import PoseResNet
from models.lifters import LIFTERS

REGISTRY: dict[str, Callable[..., nn.Module]] = {
    "encoder_decoder": EncoderDecoder,
    "gan_discriminator": gan_discriminator,
    "gan_lifter": gan_lifter,
    "hourglass": StackedHourglass,
    "kudo_discriminator": kudo_discriminator,
    "kudo_generator": kudo_generator,
    "pose_resnet": PoseResNet,
}
REGISTRY |= {name: lifter.network for name, lifter in LIFTERS.items()}


def create(name: str, **sizes) -> nn.Module:
    """Builds the network of that name with fresh weights; `sizes` are its constructor's arguments."""
    if name not in REGISTRY:
        raise InputError(f"unknown model {name!r}: expected one of {', '.join(sorted(REGISTRY))}")
    return REGISTRY[name](**sizes)
