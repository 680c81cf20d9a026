"""The networks, by name: `models.create("teacher", width=1024)`.

torch.nn modules and their losses; they read no files, print nothing, and import only the geometry of `common`.
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
