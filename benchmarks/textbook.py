"""The ITES networks written the straightforward way: 1x1 convolutions on images of one pixel, dense graph products,
and the non-local block on explicitly concatenated pairs.

They take the state dicts of `models` and compute the same functions, so they are a baseline for time, a count of the
published networks' own multiply-adds, and a second opinion in the tests.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.camera import perspective, unproject
from common.rotation import so3_exp
from common.skeleton import H36M_17, Skeleton, adjacency
from models.student import NODE_ORDER


class TextbookResidual(nn.Module):
    """Teacher's bottleneck on (B, C, 1, 1)."""

    def __init__(self, width: int):
        super().__init__()
        inner = width // 4
        self.conv1, self.bn1 = nn.Conv2d(width, inner, 1), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, inner, 1), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, width, 1), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(x + self.bn3(self.conv3(y)))


class TextbookStem(nn.Module):
    """Teacher's first layer on (B, C, 1, 1)."""

    def __init__(self, in_features: int, width: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(in_features, width, 1), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(x)))


class TextbookTeacher(nn.Module):
    """The teacher of `models`, by convolutions."""

    def __init__(self, num_joints: int = 17, width: int = 1024, layers: int = 6, basis: int = 12):
        super().__init__()
        self.fe_net = nn.Sequential(
            TextbookStem(2 * num_joints, width), *(TextbookResidual(width) for _ in range(layers))
        )
        self.alpha_layer = nn.Conv2d(width, basis, 1)
        self.shape_layer = nn.Conv2d(basis, 3 * num_joints, 1)
        self.rot_layer = nn.Conv2d(width, 3, 1)
        self.trans_layer = nn.Conv2d(width, 1, 1)

    def shape(self, keypoints: Tensor) -> tuple[Tensor, Tensor]:
        """keypoints: (B, J, 2) -> canonical shape (B, J, 3), features (B, width, 1, 1)."""
        features = self.fe_net(keypoints.reshape(len(keypoints), -1, 1, 1))
        return self.shape_layer(self.alpha_layer(features)).view(len(keypoints), -1, 3), features

    def forward(self, keypoints: Tensor) -> Tensor:
        """keypoints: (B, J, 2) -> pose (B, J, 3)."""
        canonical, features = self.shape(keypoints - keypoints[:, :1])
        return torch.bmm(canonical, so3_exp(self.rot_layer(features)[:, :, 0, 0]))

    def losses(self, keypoints: Tensor, rotations: Tensor) -> Tensor:
        """5 * reprojection + cycle with aligned root."""
        keypoints = keypoints - keypoints[:, :1]
        canonical, features = self.shape(keypoints)
        pose = torch.bmm(canonical, so3_exp(self.rot_layer(features)[:, :, 0, 0]))
        reprojection = (perspective(pose) - keypoints).norm(dim=-1).mean()
        target = (canonical - canonical[:, :1]).repeat(4, 1, 1)
        again, _ = self.shape(perspective(torch.bmm(target, rotations)))
        return 5 * reprojection + (again - target).norm(dim=-1).mean()


class TextbookGraphConv(nn.Module):
    """Semantic graph convolution on (B, J, C), with dense masks."""

    def __init__(self, in_features: int, out_features: int, skeleton: Skeleton = H36M_17):
        super().__init__()
        self.register_buffer("pattern", adjacency(skeleton) > 0, persistent=False)
        self.W = nn.Parameter(torch.empty(2, in_features, out_features))
        self.e = nn.Parameter(torch.empty(1, int(self.pattern.sum())))
        self.bias = nn.Parameter(torch.empty(out_features))

    def forward(self, x: Tensor) -> Tensor:
        logits = torch.full_like(self.pattern, -9e15, dtype=self.e.dtype)
        logits[self.pattern] = self.e[0]
        weights = logits.softmax(dim=1)
        diagonal = torch.eye(len(weights), device=x.device)
        own = torch.matmul(weights * diagonal, torch.matmul(x, self.W[0]))
        return own + torch.matmul(weights * (1 - diagonal), torch.matmul(x, self.W[1])) + self.bias


class TextbookNonLocal(nn.Module):
    """Non-local block on (B, J, C) with every pair's features concatenated."""

    def __init__(self, channels: int):
        super().__init__()
        inner = channels // 2
        self.g = nn.Sequential(nn.Conv1d(channels, inner, 1), nn.MaxPool1d(2))
        self.theta = nn.Conv1d(channels, inner, 1)
        self.phi = nn.Sequential(nn.Conv1d(channels, inner, 1), nn.MaxPool1d(2))
        self.concat_project = nn.Sequential(nn.Conv2d(2 * inner, 1, 1, bias=False), nn.ReLU())
        self.W = nn.Sequential(nn.Conv1d(inner, channels, 1), nn.BatchNorm1d(channels))
        self.register_buffer("order", torch.tensor(NODE_ORDER), persistent=False)
        self.register_buffer("back", self.order.argsort(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, self.order].transpose(1, 2)
        theta, phi, g = self.theta(x), self.phi(x), self.g(x)
        joints, pairs = theta.shape[2], phi.shape[2]
        features = torch.cat(
            [theta[..., None].expand(-1, -1, -1, pairs), phi[:, :, None].expand(-1, -1, joints, -1)], dim=1
        )
        weights = self.concat_project(features)[:, 0] / pairs
        y = x + self.W(torch.matmul(weights, g.transpose(1, 2)).transpose(1, 2))
        return y.transpose(1, 2)[:, self.back]


class TextbookGraphLayer(nn.Module):
    """Graph convolution, optionally plus non-local block, batch norm, ReLU on (B, J, C)."""

    def __init__(self, in_features: int, channels: int, non_local: bool):
        super().__init__()
        self.gconv = TextbookGraphConv(in_features, channels)
        self.non_local = nn.ModuleDict({"non_local": TextbookNonLocal(channels)}) if non_local else None
        self.bn = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.gconv(x)
        if self.non_local is not None:
            y = y + self.non_local["non_local"](x)
        return F.relu(self.bn(y.transpose(1, 2)).transpose(1, 2))


class TextbookGraphBlock(nn.Module):
    """Two graph layers and the input."""

    def __init__(self, channels: int):
        super().__init__()
        self.gconv1 = TextbookGraphLayer(channels, channels, non_local=True)
        self.gconv2 = TextbookGraphLayer(channels, channels, non_local=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gconv2(self.gconv1(x))


class TextbookStudent(nn.Module):
    """The student of `models`, on (B, J, C)."""

    def __init__(self, hidden: int = 128, blocks: int = 4):
        super().__init__()
        self.gconv_input = nn.Sequential(TextbookGraphLayer(2, hidden, non_local=False))
        self.gconv_layers = nn.Sequential(*(TextbookGraphBlock(hidden) for _ in range(blocks)))
        self.gconv_output = TextbookGraphConv(hidden, 1)

    def forward(self, keypoints: Tensor) -> Tensor:
        """keypoints: (B, J, 2) -> pose (B, J, 3)."""
        depth = self.gconv_output(self.gconv_layers(self.gconv_input(keypoints)))
        return unproject(keypoints, depth)

    def losses(self, keypoints: Tensor, teacher_depth: Tensor, rotations: Tensor) -> Tensor:
        """5 * depth + reconstruction."""
        pose = self(keypoints)
        rotated = torch.bmm(pose.repeat(4, 1, 1), rotations)
        again = self(perspective(rotated))
        return 5 * (pose[..., 2:] - teacher_depth).abs().mean() + (again - rotated).norm(dim=-1).mean()
