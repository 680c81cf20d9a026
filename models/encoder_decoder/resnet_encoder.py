"""The image encoder of `encoder_decoder` that starts from ImageNet: ResNet-50 up to stride 16, then one vector.

Names are those of torchvision's ResNet-50 (`conv1`, `bn1`, `layer1` to `layer3`) and of the published file for what
follows (`layer4_reg`, `l4_reg_toVec`, `fc`).
"""

from torch import Tensor, nn

from common.errors import InputError
from models.resnet import Bottleneck, ResNet, he_convolutions, residual_stage

STEM = ("conv1", "bn1", "layer1", "layer2")  # what training leaves as it is
STRIDE = 16
VECTOR = 128  # numbers an image is squeezed into
SMALLEST = 64


class ResNetEncoder(ResNet):
    """images (B, 3, S, S) -> (B, outputs).

    Args:
        resolution: S, a multiple of 16, 64 or more. Below the published 128 the last convolution's kernel shrinks with
            the map it sees; above it, what that convolution leaves is averaged.
        outputs: appearance and geometry together.
    """

    def __init__(self, resolution: int = 128, outputs: int = 728):
        if resolution % STRIDE or resolution < SMALLEST:
            raise InputError(
                f"images of {resolution} pixels for the ResNet encoder: expected a multiple of {STRIDE}, {SMALLEST} or "
                "more; the UNet takes smaller ones"
            )
        super().__init__(50, stages=3)
        self.layer4_reg = residual_stage(Bottleneck, self.channels, self.channels // Bottleneck.expansion, 3)
        kernel = min(5, resolution // STRIDE - 2)
        self.l4_reg_toVec = nn.Sequential(
            nn.Conv2d(self.channels, 512, 3),
            nn.BatchNorm2d(512),
            nn.ReLU(inplace=True),
            nn.Conv2d(512, VECTOR, kernel, 2, bias=False),
            nn.BatchNorm2d(VECTOR),
            nn.Sigmoid(),
        )
        self.fc = nn.Linear(VECTOR, outputs)
        self.apply(he_convolutions)

    def forward(self, images: Tensor) -> Tensor:
        x = self.layer4_reg(self.features(images))
        return self.fc(self.l4_reg_toVec(x).mean((2, 3)))
