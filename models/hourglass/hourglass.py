"""Image to heat maps by stacked hourglasses, and to the joints' depths by a regression tail.

Newell et al., "Stacked Hourglass Networks for Human Pose Estimation", ECCV 2016; the tail: Zhou et al., "Towards 3D
Human Pose Estimation in the Wild: a Weakly-supervised Approach", ICCV 2017. Parameters have the names of the files
released with the latter: the branches `hg3d` (depth) and `2D` (without). torch's own initial weights, as published.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import InputError
from models.layers import full_precision, no_autocast

DEPTH = 4  # halvings in an hourglass, and in the depth tail


class Residual(nn.Module):
    """Batch norm before each convolution, 1x1, 3x3, 1x1; (B, inputs, H, W) -> (B, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.bn = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs // 2, 1)
        self.bn1 = nn.BatchNorm2d(outputs // 2)
        self.conv2 = nn.Conv2d(outputs // 2, outputs // 2, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(outputs // 2)
        self.conv3 = nn.Conv2d(outputs // 2, outputs, 1)
        self.conv4 = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.bn(x), inplace=True))
        out = self.conv2(F.relu(self.bn1(out), inplace=True))
        out = self.conv3(F.relu(self.bn2(out), inplace=True))
        return out + (x if self.conv4 is None else self.conv4(x))


class Hourglass(nn.Module):
    """Halves, works, doubles again, `depth` times nested; (B, features, H, W) -> the same; 2^depth divides H and W."""

    def __init__(self, depth: int, modules: int, features: int):
        super().__init__()
        self.up1_ = _residuals(modules, features)
        self.low1_ = _residuals(modules, features)
        if depth > 1:
            self.low2 = Hourglass(depth - 1, modules, features)
        else:
            self.low2_ = _residuals(modules, features)
        self.low3_ = _residuals(modules, features)

    def forward(self, x: Tensor) -> Tensor:
        low = _through(self.low1_, F.max_pool2d(x, 2))
        low = self.low2(low) if hasattr(self, "low2") else _through(self.low2_, low)
        low = F.interpolate(_through(self.low3_, low), scale_factor=2, mode="nearest")
        return _through(self.up1_, x) + low


class StackedHourglass(nn.Module):
    """images (B, 3, S, S) -> {"hm": (B, J, S / 4, S / 4), "hm_stacks": tuple of every stack's, "depth": (B, J)}.

    "hm" is the last of "hm_stacks", each of which has its loss. "depth", only where the network has the tail, is in
    fractions of the crop's width, as the other network's: half of the published output, which runs from -1 to 1 over
    the crop. All float32, under autocast too.

    Args:
        joints: J.
        depth: with the depth tail (branch `hg3d`); without, it is the network of branch `2D`.
        stacks, modules, features: hourglasses, residual modules at each place, channels.
        depth_modules: residual modules at each of the four sizes of the tail.
        size: S, of the images; published 256. The tail's last layer depends on it. A multiple of 64.
    """

    def __init__(
        self,
        joints: int = 16,
        depth: bool = False,
        stacks: int = 2,
        modules: int = 2,
        features: int = 256,
        depth_modules: int = 2,
        size: int = 256,
    ):
        super().__init__()
        if size % 64:
            raise InputError(f"hourglass for images of {size} x {size}: expected a multiple of 64")
        self.modules_per_stack, self.depth_modules = modules, depth_modules
        self.conv1_ = nn.Conv2d(3, 64, 7, 2, 3)
        self.bn1 = nn.BatchNorm2d(64)
        self.r1, self.r4, self.r5 = Residual(64, 128), Residual(128, 128), Residual(128, features)
        self.hourglass = nn.ModuleList(Hourglass(DEPTH, modules, features) for _ in range(stacks))
        self.Residual = _residuals(stacks * modules, features)
        self.lin_ = nn.ModuleList(_linear(features) for _ in range(stacks))
        self.tmpOut = nn.ModuleList(nn.Conv2d(features, joints, 1) for _ in range(stacks))
        again = stacks if depth else stacks - 1  # the tail continues what comes back from the last stack
        self.ll_ = nn.ModuleList(nn.Conv2d(features, features, 1) for _ in range(again))
        self.tmpOut_ = nn.ModuleList(nn.Conv2d(joints, features, 1) for _ in range(again))
        if depth:
            self.reg_ = _residuals(DEPTH * depth_modules, features)
            self.reg = nn.Linear(features * (size // 64) ** 2, joints)

    def forward(self, images: Tensor) -> dict[str, Tensor | tuple[Tensor, ...]]:
        x = F.relu(self.bn1(self.conv1_(images)), inplace=True)
        x = self.r5(self.r4(F.max_pool2d(self.r1(x), 2)))
        maps = []
        for i, hourglass in enumerate(self.hourglass):
            features = _through(_share(self.Residual, i, self.modules_per_stack), hourglass(x))
            features = self.lin_[i](features)
            maps.append(_head(self.tmpOut[i], features))
            if i < len(self.ll_):
                x = x + self.ll_[i](features) + self.tmpOut_[i](maps[-1])
        output = {"hm": maps[-1], "hm_stacks": tuple(maps)}
        if hasattr(self, "reg"):
            for i in range(DEPTH):
                x = F.max_pool2d(_through(_share(self.reg_, i, self.depth_modules), x), 2)
            output["depth"] = _head(self.reg, x.flatten(1)) / 2
        return output


def _residuals(count: int, features: int) -> nn.ModuleList:
    return nn.ModuleList(Residual(features, features) for _ in range(count))


def _through(residuals, x: Tensor) -> Tensor:
    for residual in residuals:
        x = residual(x)
    return x


def _share(residuals: nn.ModuleList, index: int, count: int) -> list[nn.Module]:
    """The modules of one place, of a list for all of them."""
    return [residuals[i] for i in range(index * count, (index + 1) * count)]


def _linear(features: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(features, features, 1), nn.BatchNorm2d(features), nn.ReLU(inplace=True))


def _head(layer: nn.Module, features: Tensor) -> Tensor:
    with no_autocast(features):
        return layer(full_precision(features))
