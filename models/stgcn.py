"""ST-GCN lifter on single frames: graph convolutions with one weight matrix for each kind of neighbour, pooling of
joints to limbs to the body and back, and a non-local block (Cai et al., "Exploiting Spatial-Temporal Relationships for
3D Pose Estimation via Graph Convolutional Networks", ICCV 2019), as PoseAug trains it (Gong et al., CVPR 2021).

The graphs are data: `BODY` (17 joints) and `LIMBS` (5 pooled nodes); none of their matrices is in the state dict.

Features inside are node-major, (V, B, C).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.skeleton import H36M_16, H36M_17
from models.graph import Conv, Graph, PartitionedConv, poses_of, reordered
from models.layers import dropout, full_precision, no_autocast, norm_relu_dropout

BODY = Graph(17, H36M_17.bones, tuple(zip(H36M_17.left, H36M_17.right, strict=True)), H36M_17.index("spine"))
# Left arm, right arm, left leg, right leg, centre: the joints of each limb.
LIMBS = Graph(5, ((0, 4), (1, 4), (2, 4), (3, 4)), ((0, 1), (2, 3)), 4)
JOINTS = ((11, 12, 13), (14, 15, 16), (4, 5, 6), (1, 2, 3), (0, 7, 8, 9, 10))
ORDER = sum(JOINTS, ())  # inside the network, so that a limb is a slice
NECK = H36M_17.index("neck")  # not in the 16-joint skeleton: between thorax and head


class Block(nn.Module):
    """(V, B, in) -> (V, B, out): graph convolution, then a pointwise layer, each with batch norm; residual; ReLU.

    residual: whether the input is added, where the widths differ projected and normalised.
    """

    def __init__(self, in_features: int, out_features: int, graph: Graph, dropout: float, residual: bool = True):
        super().__init__()
        self.gcn = PartitionedConv(in_features, out_features, graph)
        norms = nn.BatchNorm1d(out_features), nn.BatchNorm1d(out_features)
        # Places 1, 2 and 5 are the published activation and dropouts.
        self.tcn = nn.Sequential(
            norms[0], nn.Identity(), nn.Identity(), Conv(out_features, out_features), norms[1], nn.Identity()
        )
        self.projected = residual and in_features != out_features
        if self.projected:
            self.residual = nn.Sequential(Conv(in_features, out_features), nn.BatchNorm1d(out_features))
        self.has_residual, self.dropout = residual, dropout

    def forward(self, x: Tensor) -> Tensor:
        """x: (V, B, in) -> (V, B, out)."""
        rows = norm_relu_dropout(self.gcn(x).flatten(0, 1), self.tcn[0], self.dropout, self.training)
        y = dropout(self.tcn[4](self.tcn[3](rows)), self.dropout, self.training)
        if self.projected:
            y.add_(self.residual(x.flatten(0, 1)))
        elif self.has_residual:
            y.add_(x.flatten(0, 1))
        return F.relu(y, inplace=True).unflatten(0, x.shape[:2])


class JointAttention(nn.Module):
    """x + W(softmax_j(theta(x_i) . phi(x_j)) g(x_j)), a non-local block over the joints of a pose in the embedded
    Gaussian form (Wang et al., "Non-local Neural Networks", CVPR 2018).
    """

    def __init__(self, channels: int):
        super().__init__()
        inner = channels // 2
        self.g = Conv(channels, inner)
        self.W = nn.Sequential(Conv(inner, channels), nn.BatchNorm1d(channels))
        self.theta = Conv(channels, inner)
        self.phi = Conv(channels, inner)
        # The last norm starts at zero: an untrained branch adds nothing.
        nn.init.zeros_(self.W[1].weight)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """fine: (17, B, C / 2) of the joints, coarse: (5, B, C / 2) of the limbs; x is both -> (17, B, C)."""
        theta, phi, g = (beside_limbs(layer, fine, coarse).transpose(0, 1) for layer in (self.theta, self.phi, self.g))
        attention = full_precision(torch.bmm(theta, phi.mT)).softmax(2).to(g.dtype)
        y = self.W(torch.bmm(attention, g).transpose(0, 1).flatten(0, 1)).unflatten(0, fine.shape[:2])
        return y.add_(torch.cat((fine, to_joints(coarse)), 2))


def beside_limbs(layer: Conv, joints: Tensor, limbs: Tensor) -> Tensor:
    """`layer` of [joints, to_joints(limbs)], with the products of a limb done once. joints: (17, B, C), limbs:
    (5, B, C) -> (17, B, out).
    """
    of_joint, of_limb = layer.matrix.chunk(2, 1)
    return F.linear(joints, of_joint).add_(to_joints(F.linear(limbs, of_limb, layer.bias)))


def to_limbs(joints: Tensor) -> Tensor:
    """joints: (17, B, C), in ORDER -> (5, B, C), the maximum of each limb."""
    return torch.stack([limb.amax(0) for limb in joints.split([len(limb) for limb in JOINTS])])


def to_joints(limbs: Tensor) -> Tensor:
    """limbs: (5, B, C) -> (17, B, C), in ORDER, that of each joint's limb."""
    return torch.cat([limb.expand(len(joints), -1, -1) for limb, joints in zip(limbs, JOINTS, strict=True)])


class SpatialGraphNetwork(nn.Module):
    """The network behind the `stgcn.` of the released names."""

    def __init__(self, dropout: float, features: int):
        super().__init__()
        block, self.rate4, self.rate2, self.rate_out = (0.05, 0.25, 0.1, 0.1) if dropout < 0 else (float(dropout),) * 4
        # Published: the 0.1 meant as momentum lands in eps. Released weights depend on it.
        self.data_bn = nn.BatchNorm1d(features * BODY.size, eps=0.1)
        body = reordered(BODY, ORDER)
        self.st_gcn_networks = nn.ModuleList(
            (
                Block(features, 128, body, block, residual=False),
                Block(128, 128, body, block),
                Block(128, 256, body, block),
            )
        )
        self.st_gcn_pool = nn.ModuleList((Block(256, 512, LIMBS, block), Block(512, 512, LIMBS, block)))
        self.conv4 = nn.Sequential(Conv(512, 512), nn.BatchNorm1d(512))
        self.conv2 = nn.Sequential(Conv(1024, 256), nn.BatchNorm1d(256))
        self.non_local = JointAttention(512)
        self.fcn = nn.Sequential(nn.Identity(), Conv(512, 3))

    def forward(self, joints: Tensor) -> Tensor:
        """joints: (B, 17, features) -> (B, 17, 3)."""
        nodes = self.data_bn(joints.flatten(1)).view_as(joints).unbind(1)
        fine = torch.stack([nodes[j] for j in ORDER])
        for block in self.st_gcn_networks:
            fine = block(fine)
        limbs = to_limbs(fine)
        for block in self.st_gcn_pool:
            limbs = block(limbs)
        x = dropout(self.non_local(fine, self.coarse(limbs)), self.rate_out, self.training)
        with no_autocast(x):
            nodes = self.fcn[1](full_precision(x)).unbind(0)
        return torch.stack([nodes[ORDER.index(j)] for j in range(BODY.size)], 1)

    def coarse(self, limbs: Tensor) -> Tensor:
        """limbs: (5, B, 512) -> (5, B, 256), each limb in the light of the whole body."""
        whole = norm_relu_dropout(self.conv4[0](limbs.amax(0)), self.conv4[1], self.rate4, self.training)
        # conv2 of [whole, limb], with the product of the whole done once
        of_whole, of_limb = self.conv2[0].matrix.chunk(2, 1)
        x = F.linear(limbs, of_limb) + F.linear(whole, of_whole, self.conv2[0].bias)
        return norm_relu_dropout(x.flatten(0, 1), self.conv2[1], self.rate2, self.training).view_as(x)


class STGCN(nn.Module):
    """The spatial graph network on the 16-joint skeleton; names and shapes of its parameters are those of the released
    PoseAug checkpoints.

    Args:
        dropout: rate everywhere; below zero the built-in rates: 0.05 in the blocks, 0.25 and 0.1 after the global and
            the coarse features, 0.1 before the output.
        features: numbers that it sees of a joint; x and y, and what else it is trained on.
    """

    def __init__(self, dropout: float = -1, features: int = 2):
        super().__init__()
        self.features = features
        self.stgcn = SpatialGraphNetwork(dropout, features)

    def forward(self, keypoints: Tensor) -> Tensor:
        """keypoints: (B, 16, features) or (B, 16 features) -> (B, 16, 3) metres, camera axes; the root is not fixed at
        the origin.
        """
        joints = poses_of(keypoints, H36M_16.num_joints, self.features)
        neck = joints[:, NECK - 1 : NECK + 1].mean(1, keepdim=True)
        pose = self.stgcn(torch.cat([joints[:, :NECK], neck, joints[:, NECK:]], 1))
        return torch.cat([pose[:, :NECK], pose[:, NECK + 1 :]], 1)
