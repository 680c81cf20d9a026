"""The networks of the adversarial lifters: 2D pose to depths, and discriminators of the projections.

Martinez: residual stages of two layers, as in "A Simple yet Effective Baseline for 3D Human Pose Estimation" (ICCV
2017), which Chen et al., "Unsupervised 3D Pose Estimation with Geometric Self-Supervision" (CVPR 2019), and its
reproduction use. KudoMLP: Kudo et al., "Unsupervised Adversarial Learning of 3D Human Pose from 2D Joint Locations"
(2018). Discriminators return logits, above 0 for real (the reproduction's and its port's end in a sigmoid, before which
the softplus losses of `models.adversarial.losses` belong). Parameters have the names and shapes of the published files.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers import full_precision, no_autocast, norm_relu_dropout
from models.mlp import Stage


class Martinez(nn.Module):
    """(B, ...) of `inputs` numbers a pose -> (B, outputs); torch's initial weights, as the reproduction.

    Args:
        inputs, outputs: numbers a pose has before and after.
        width: channels of the trunk.
        stages: number of residual stages.
        dropout: rate of zeros after every activation.
        batch_norm: without it (no published file is) the entries `batch_norm*` are absent.
    """

    def __init__(self, inputs: int, outputs: int, width: int, stages: int, dropout: float, batch_norm: bool = True):
        super().__init__()
        self.dropout = dropout
        self.w1 = nn.Linear(inputs, width)
        self.batch_norm1 = nn.BatchNorm1d(width)
        self.linear_stages = nn.ModuleList(Stage(width, dropout) for _ in range(stages))
        self.w2 = nn.Linear(width, outputs)
        if not batch_norm:
            self.batch_norm1 = nn.Identity()
            for stage in self.linear_stages:
                stage.batch_norm1, stage.batch_norm2 = nn.Identity(), nn.Identity()

    def forward(self, poses: Tensor) -> Tensor:
        """A batch of one works too (in evaluation; batch norm cannot train on it)."""
        x = norm_relu_dropout(self.w1(poses.flatten(1)), self.batch_norm1, self.dropout, self.training)
        for stage in self.linear_stages:
            x = stage(x)
        return _head(self.w2, x)


class KudoMLP(nn.Module):
    """(B, ...) of `inputs` numbers a pose -> (B, outputs); three layers with one shortcut, weights from N(0, 0.02).

    Args:
        inputs, outputs: numbers a pose has before and after.
        width: channels of the trunk.
        batch_norm: after each layer but the last (the published `--use_bn`).
        slope: of the leaky ReLU; 0.2 is chainer's, 0.01 the torch port's, 0 makes it a ReLU (`--activate_func relu`).
        eps: of the batch norm; 2e-5 is chainer's, 1e-5 the torch port's.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int = 1024,
        batch_norm: bool = False,
        slope: float = 0.2,
        eps: float = 2e-5,
    ):
        super().__init__()
        self.slope = slope
        self.l1, self.l2, self.l3 = nn.Linear(inputs, width), nn.Linear(width, width), nn.Linear(width, width)
        self.l4 = nn.Linear(width, outputs)
        for name in ("bn1", "bn2", "bn3"):  # momentum 0.1 is chainer's decay of 0.9
            setattr(self, name, nn.BatchNorm1d(width, eps=eps) if batch_norm else nn.Identity())
        for linear in (self.l1, self.l2, self.l3, self.l4):
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, poses: Tensor) -> Tensor:
        first = self._active(self.bn1(self.l1(poses.flatten(1))))
        second = self._active(self.bn2(self.l2(first)))
        third = self._active(self.bn3(self.l3(second)) + first)
        return _head(self.l4, third)

    def _active(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.slope, inplace=True)


def gan_lifter(
    joints: int = 17, width: int = 1024, stages: int = 4, dropout: float = 0.5, batch_norm: bool = True
) -> Martinez:
    """keypoints (B, J, 2) or (B, 2 J), x0, y0, x1, ..., joint 0 at the origin -> depths (B, J), in their unit."""
    return Martinez(2 * joints, joints, width, stages, dropout, batch_norm)


def gan_discriminator(
    joints: int = 17, axes: int = 2, width: int = 1024, stages: int = 3, dropout: float = 0.5, batch_norm: bool = True
) -> Martinez:
    """Poses (B, J, axes) or (B, J axes) -> logits (B, 1). The reproduction's last revision scores 3D poses, axes 3."""
    return Martinez(axes * joints, 1, width, stages, dropout, batch_norm)


def kudo_generator(joints: int = 17, **sizes) -> KudoMLP:
    """As `gan_lifter`; `sizes` are those of `KudoMLP`."""
    return KudoMLP(2 * joints, joints, **sizes)


def kudo_discriminator(joints: int = 17, axes: int = 2, **sizes) -> KudoMLP:
    """As `gan_discriminator`; `sizes` are those of `KudoMLP`."""
    return KudoMLP(axes * joints, 1, **sizes)


def _head(linear: nn.Linear, features: Tensor) -> Tensor:
    with no_autocast(features):
        return linear(full_precision(features))


@torch.no_grad()
def start_flat(layer: torch.nn.Linear) -> None:
    """Shrinks the layer that gives depths, so that training begins with almost flat poses: from depths as wild as those
    of torch's initial weights, the discriminator is sure before the lifter learns.
    """
    layer.weight.mul_(0.1)
    layer.bias.zero_()
