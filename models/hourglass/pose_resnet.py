"""Image to heat maps and depth maps: a residual network and three transposed convolutions.

Xiao et al., "Simple Baselines for Human Pose Estimation and Tracking", ECCV 2018, with the depth head of Zhou et al.,
"Towards 3D Human Pose Estimation in the Wild: a Weakly-supervised Approach", ICCV 2017, as in the authors' later code.
Parameters have the names of its released files.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers import full_precision, no_autocast
from models.resnet import ResNet

CHANNELS = 256  # of the transposed convolutions


class PoseResNet(ResNet):
    """images (B, 3, H, W), H and W multiples of 32, normalised -> {"hm": (B, J, H / 4, W / 4), "depth": the same}.

    "hm": heat maps, 1 where the joint is sure to be. "depth": what the joint's depth, in fractions of the crop's width,
    would be if it were at that pixel; read it at the joint (`models.hourglass.losses.joint_depth`). Both float32, under
    autocast too. Images in torch.channels_last go through without a copy.

    Args:
        layers: of the residual network, 18, 34, 50, 101 or 152; its weights begin as in `ResNet`, or are ImageNet's
            (`methods.hourglass.checkpoint.load_backbone`).
        joints: J, MPII's 16 or COCO's 17.
        depth: with the head `depth`.
    """

    def __init__(self, layers: int = 50, joints: int = 16, depth: bool = False):
        super().__init__(layers)
        deconvolutions, inputs = [], self.channels
        for _ in range(3):
            deconvolution = nn.ConvTranspose2d(inputs, CHANNELS, 4, 2, 1, bias=False)
            deconvolutions += [deconvolution, nn.BatchNorm2d(CHANNELS), nn.ReLU(inplace=True)]
            inputs = CHANNELS
        self.deconv_layers = nn.Sequential(*deconvolutions)
        self.heads = ("depth", "hm") if depth else ("hm",)
        for head in self.heads:
            setattr(self, head, nn.Conv2d(CHANNELS, joints, 1))
            nn.init.zeros_(getattr(self, head).bias)
        for layer in (*self.deconv_layers, *(getattr(self, head) for head in self.heads)):
            if not isinstance(layer, (nn.BatchNorm2d, nn.ReLU)):
                nn.init.normal_(layer.weight, std=0.001)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.deconv_layers(self.features(images))
        heads = [getattr(self, head) for head in self.heads]
        with no_autocast(x):  # one convolution for both: the features, by far the largest tensor, are read once
            weight, bias = torch.cat([head.weight for head in heads]), torch.cat([head.bias for head in heads])
            maps = F.conv2d(full_precision(x), weight, bias).chunk(len(heads), dim=1)
        return dict(zip(self.heads, maps, strict=True))
