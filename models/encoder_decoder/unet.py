"""Blocks of the UNet in `encoder_decoder`: two convolutions at one resolution, and the step up to twice of it.

Ronneberger, Fischer, Brox, "U-Net: convolutional networks for biomedical image segmentation" (MICCAI 2015), padded.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def double_conv(inputs: int, outputs: int, batch_norm: bool = True) -> nn.Sequential:
    """(B, inputs, H, W) -> (B, outputs, H, W): twice a 3 x 3 convolution, batch norm and ReLU."""
    parts = {"conv1": _conv(inputs, outputs, batch_norm), "conv2": _conv(outputs, outputs, batch_norm)}
    return nn.Sequential(OrderedDict(parts))


def encode(blocks: Sequence[nn.Module], x: Tensor) -> Tensor:
    """Run the blocks with a 2 x 2 max pooling between each two."""
    x = blocks[0](x)
    for block in blocks[1:]:
        x = block(F.max_pool2d(x, 2))
    return x


class Up(nn.Module):
    """(B, inputs, H, W) and features (B, skip, 2 H, 2 W) -> (B, outputs, 2 H, 2 W).

    bilinear: upsampling, convolution, batch norm, ReLU; else one transposed convolution, without a norm.
    """

    def __init__(self, inputs: int, outputs: int, bilinear: bool = True, skip: int = 0):
        super().__init__()
        if bilinear:
            enlarge = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            self.up = nn.Sequential(enlarge, *_conv(inputs, outputs, batch_norm=True))
        else:
            self.up = nn.ConvTranspose2d(inputs, outputs, 2, 2)
        self.conv = double_conv(outputs + skip, outputs, batch_norm=False)

    def forward(self, x: Tensor, features: Tensor | None = None) -> Tensor:
        x = self.up(x)
        return self.conv(x if features is None else torch.cat((features, x), dim=1))


def _conv(inputs: int, outputs: int, batch_norm: bool) -> nn.Sequential:
    norm = [nn.BatchNorm2d(outputs)] if batch_norm else []
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), *norm, nn.ReLU(inplace=True))
