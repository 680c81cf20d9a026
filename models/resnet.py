"""Residual networks' trunk, ResNet-18 to 152, with torchvision's names, so that ImageNet weights load into it.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; of a bottleneck the 3x3 convolution has the
stride, as in torchvision. Images and features: (B, C, H, W), any size; `model.to(memory_format=torch.channels_last)`
with images in the same format is the fast way.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import InputError


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; (B, inputs, H, W) -> (B, planes, H / stride, W / stride)."""

    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _shortcut(inputs, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(out)) + _shortened(self.downsample, x), inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut; (B, inputs, H, W) -> (B, 4 planes, H / stride, W / stride)."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.downsample = _shortcut(inputs, 4 * planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        return F.relu(self.bn3(self.conv3(out)) + _shortened(self.downsample, x), inplace=True)


BLOCKS: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}
PLANES, STRIDES = (64, 128, 256, 512), (1, 2, 2, 2)


class ResNet(nn.Module):
    """Images (B, 3, H, W) -> features (B, channels, H / 32, W / 32) of all four stages, H / 16 of the first three, ...

    Networks with more than the trunk derive from it, so that the trunk's weights keep their published names. Weights
    begin as torchvision's (He et al., 2015, by fan out).

    Args:
        layers: 18, 34, 50, 101 or 152.
        stages: how many of `layer1` to `layer4` there are.
    """

    def __init__(self, layers: int = 50, stages: int = 4):
        super().__init__()
        if layers not in BLOCKS:
            raise InputError(f"ResNet of {layers} layers: expected one of {', '.join(map(str, BLOCKS))}")
        block, counts = BLOCKS[layers]
        self.stages = stages
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.channels = 64
        for i in range(stages):
            setattr(self, f"layer{i + 1}", residual_stage(block, self.channels, PLANES[i], counts[i], STRIDES[i]))
            self.channels = block.expansion * PLANES[i]
        self.apply(he_convolutions)

    def stem(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 64, H / 2, W / 2), before the pooling."""
        return F.relu(self.bn1(self.conv1(images)), inplace=True)

    def features(self, images: Tensor) -> Tensor:
        """What the last stage makes of the images."""
        x = F.max_pool2d(self.stem(images), 3, 2, 1)
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        return x

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images)


def residual_stage(
    block: type[BasicBlock] | type[Bottleneck], inputs: int, planes: int, count: int, stride: int = 1
) -> nn.Sequential:
    """`count` blocks, the first with the stride; (B, inputs, H, W) -> (B, expansion planes, H / stride, W / stride)."""
    blocks = [block(inputs, planes, stride)]
    blocks += [block(block.expansion * planes, planes) for _ in range(count - 1)]
    return nn.Sequential(*blocks)


def he_convolutions(module: nn.Module) -> None:
    """For `model.apply`: He-normal weights, by fan out, of a convolution; other modules stay."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """Of a block that changes the size: 1x1 convolution and batch norm."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


def _shortened(downsample: nn.Sequential | None, x: Tensor) -> Tensor:
    return x if downsample is None else downsample(x)
