"""PoseAug's four lifters written the straightforward way: convolutions on (B, C, T), dense graph products on (B, J, C),
einsum over partitions of the graph, torch's own dropout.

Like `benchmarks.textbook`: they take the state dicts of `models` and compute the same functions.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.textbook import TextbookGraphConv
from common.skeleton import H36M_16
from models.graph import partitions
from models.stgcn import BODY, LIMBS

NECK = 9  # of ST-GCN's 17 joints, which the 16-joint skeleton lacks
GROUPS = ((11, 12, 13), (14, 15, 16), (4, 5, 6), (1, 2, 3), (0, 7, 8, 9, 10))  # joints of each pooled node


class TextbookStage(nn.Module):
    """Two fully connected layers and the input."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.w1, self.batch_norm1 = nn.Linear(width, width), nn.BatchNorm1d(width)
        self.w2, self.batch_norm2 = nn.Linear(width, width), nn.BatchNorm1d(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dropout(F.relu(self.batch_norm1(self.w1(x))))
        return x + self.dropout(F.relu(self.batch_norm2(self.w2(y))))


class TextbookMLP(nn.Module):
    """SimpleBaseline. keypoints: (B, 16, 2) -> (B, 16, 3)."""

    def __init__(self, width: int = 1024, stages: int = 2, dropout: float = 0.25):
        super().__init__()
        self.w1, self.batch_norm1 = nn.Linear(32, width), nn.BatchNorm1d(width)
        self.linear_stages = nn.ModuleList(TextbookStage(width, dropout) for _ in range(stages))
        self.w2 = nn.Linear(width, 45)
        self.dropout = nn.Dropout(dropout)

    def forward(self, keypoints: Tensor) -> Tensor:
        x = self.dropout(F.relu(self.batch_norm1(self.w1(keypoints.reshape(-1, 32)))))
        for stage in self.linear_stages:
            x = stage(x)
        x = self.w2(x).view(-1, 15, 3)
        return torch.cat([torch.zeros_like(x[:, :1]), x], dim=1)


class TextbookVideoPose(nn.Module):
    """VideoPose3D with kernels of width 1, on (B, C, T = 1). keypoints: (B, 16, 2) -> (B, 16, 3)."""

    def __init__(self, channels: int = 1024, stages: int = 4, dropout: float = 0.25):
        super().__init__()
        self.expand_bn, self.shrink = nn.BatchNorm1d(channels), nn.Conv1d(channels, 45, 1)
        self.expand_conv = nn.Conv1d(32, channels, 1, bias=False)
        self.layers_conv = nn.ModuleList(nn.Conv1d(channels, channels, 1, bias=False) for _ in range(2 * stages))
        self.layers_bn = nn.ModuleList(nn.BatchNorm1d(channels) for _ in range(2 * stages))
        self.dropout = nn.Dropout(dropout)

    def forward(self, keypoints: Tensor) -> Tensor:
        x = self.dropout(F.relu(self.expand_bn(self.expand_conv(keypoints.reshape(-1, 32, 1)))))
        for i in range(0, len(self.layers_conv), 2):
            y = self.dropout(F.relu(self.layers_bn[i](self.layers_conv[i](x))))
            x = x + self.dropout(F.relu(self.layers_bn[i + 1](self.layers_conv[i + 1](y))))
        x = self.shrink(x).view(-1, 15, 3)
        return torch.cat([torch.zeros_like(x[:, :1]), x], dim=1)


class TextbookGcnLayer(nn.Module):
    """Graph convolution, batch norm, ReLU, dropout on (B, J, C)."""

    def __init__(self, in_features: int, channels: int, dropout: float):
        super().__init__()
        self.gconv = TextbookGraphConv(in_features, channels, H36M_16)
        self.bn = nn.BatchNorm1d(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(F.relu(self.bn(self.gconv(x).transpose(1, 2)).transpose(1, 2)))


class TextbookGcnBlock(nn.Module):
    """Two layers and the input."""

    def __init__(self, channels: int, dropout: float):
        super().__init__()
        self.gconv1 = TextbookGcnLayer(channels, channels, dropout)
        self.gconv2 = TextbookGcnLayer(channels, channels, dropout)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gconv2(self.gconv1(x))


class TextbookGCN(nn.Module):
    """SemGCN without non-local blocks. keypoints: (B, 16, 2) -> (B, 16, 3)."""

    def __init__(self, hidden: int = 128, stages: int = 4, dropout: float = 0.0):
        super().__init__()
        self.gconv_input = nn.Sequential(TextbookGcnLayer(2, hidden, dropout))
        self.gconv_layers = nn.Sequential(*(TextbookGcnBlock(hidden, dropout) for _ in range(stages)))
        self.gconv_output = TextbookGraphConv(hidden, 3, H36M_16)

    def forward(self, keypoints: Tensor) -> Tensor:
        return self.gconv_output(self.gconv_layers(self.gconv_input(keypoints)))


class TextbookPartitionedConv(nn.Module):
    """ST-GCN's convolution on (B, C, 1, V): four maps by one 1x1 convolution, each mixed by its partition."""

    def __init__(self, in_channels: int, out_channels: int, graph):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4 * out_channels, 1)
        self.register_buffer("matrices", partitions(graph), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).unflatten(1, (4, -1))
        return torch.einsum("nkctv,kvw->nctw", y, self.matrices).contiguous()


class TextbookStgcnBlock(nn.Module):
    """Graph convolution, pointwise convolution, residual on (B, C, 1, V)."""

    def __init__(self, in_channels: int, out_channels: int, graph, dropout: float, residual: bool = True):
        super().__init__()
        self.gcn = TextbookPartitionedConv(in_channels, out_channels, graph)
        self.tcn = nn.Sequential(
            nn.BatchNorm2d(out_channels), nn.ReLU(), nn.Dropout(dropout),
            nn.Conv2d(out_channels, out_channels, 1), nn.BatchNorm2d(out_channels), nn.Dropout(dropout),
        )  # fmt: skip
        self.has_residual = residual
        if residual and in_channels != out_channels:
            self.residual = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels))
        else:
            self.residual = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.tcn(self.gcn(x))
        return F.relu(y + self.residual(x) if self.has_residual else y)


class TextbookJointAttention(nn.Module):
    """Embedded Gaussian non-local block on (B, C, 1, V)."""

    def __init__(self, channels: int):
        super().__init__()
        inner = channels // 2
        self.g, self.theta, self.phi = (nn.Conv2d(channels, inner, 1) for _ in range(3))
        self.W = nn.Sequential(nn.Conv2d(inner, channels, 1), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        theta, phi, g = (layer(x).flatten(2) for layer in (self.theta, self.phi, self.g))
        attention = torch.matmul(theta.mT, phi).softmax(-1)
        return x + self.W(torch.matmul(attention, g.mT).mT.unsqueeze(2))


class TextbookSpatialGraphNetwork(nn.Module):
    """ST-GCN behind its released names. joints: (B, 17, 2) -> (B, 17, 3)."""

    def __init__(self, dropout: float):
        super().__init__()
        block, rate4, rate2, rate_out = (0.05, 0.25, 0.1, 0.1) if dropout < 0 else (dropout,) * 4
        self.data_bn = nn.BatchNorm1d(34, eps=0.1)
        self.st_gcn_networks = nn.ModuleList(
            (
                TextbookStgcnBlock(2, 128, BODY, block, residual=False),
                TextbookStgcnBlock(128, 128, BODY, block),
                TextbookStgcnBlock(128, 256, BODY, block),
            )
        )
        self.st_gcn_pool = nn.ModuleList(TextbookStgcnBlock(width, 512, LIMBS, block) for width in (256, 512))

        def layer(in_channels: int, out_channels: int, rate: float) -> nn.Sequential:
            conv = nn.Conv2d(in_channels, out_channels, 1)
            return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(), nn.Dropout(rate))

        self.conv4, self.conv2 = layer(512, 512, rate4), layer(1024, 256, rate2)
        self.non_local = TextbookJointAttention(512)
        self.fcn = nn.Sequential(nn.Dropout(rate_out), nn.Conv2d(512, 3, 1))

    def forward(self, joints: Tensor) -> Tensor:
        x = self.data_bn(joints.flatten(1)).view(-1, 17, 1, 2).permute(0, 3, 2, 1).contiguous()
        for block in self.st_gcn_networks:
            x = block(x)
        limbs = torch.cat([x[..., list(group)].amax(-1, keepdim=True) for group in GROUPS], dim=-1)
        for block in self.st_gcn_pool:
            limbs = block(limbs)
        whole = self.conv4(limbs.amax(-1, keepdim=True))
        limbs = self.conv2(torch.cat([whole.expand(-1, -1, -1, len(GROUPS)), limbs], dim=1))
        limb_of = [next(i for i, group in enumerate(GROUPS) if joint in group) for joint in range(17)]
        x = self.non_local(torch.cat([x, limbs[..., limb_of]], dim=1))
        return self.fcn(x).squeeze(2).mT


class TextbookSTGCN(nn.Module):
    """ST-GCN on single frames. keypoints: (B, 16, 2) -> (B, 16, 3)."""

    def __init__(self, dropout: float = -1):
        super().__init__()
        self.stgcn = TextbookSpatialGraphNetwork(dropout)

    def forward(self, keypoints: Tensor) -> Tensor:
        neck = keypoints[:, NECK - 1 : NECK + 1].mean(1, keepdim=True)
        pose = self.stgcn(torch.cat([keypoints[:, :NECK], neck, keypoints[:, NECK:]], dim=1))
        return torch.cat([pose[:, :NECK], pose[:, NECK + 1 :]], dim=1)
