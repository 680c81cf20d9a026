"""ST-GCN lifter on single frames: graph convolutions with one weight matrix for each kind of neighbour, pooling of
joints to limbs to the body and back, and a non-local block (Cai et al., "Exploiting Spatial-Temporal Relationships for
3D Pose Estimation via Graph Convolutional Networks", ICCV 2019), as PoseAug trains it (Gong et al., CVPR 2021).

The graphs are data: `BODY` (17 joints) and `LIMBS` (5 pooled nodes). Their matrices are `partitions(graph)`,
`normalised_adjacency(graph)` and `distance_to_centre(graph)` of `models.partitioned_conv`; none is in the state dict.

Features inside are node-major, (V, B, C).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.skeleton import H36M_16, H36M_17
from models.fast.norm_relu_dropout import draw_numbers, dropout_code, keep_above, norm_relu_dropout, widened
from models.functional import full_precision, no_autocast
from models.graph_conv import poses_of
from models.partitioned_conv import Conv, Graph, PartitionedConv, distance_to_centre, normalised_adjacency, partitions

__all__ = ["BODY", "LIMBS", "STGCN", "distance_to_centre", "normalised_adjacency", "partitions"]

BODY = Graph(17, H36M_17.bones, tuple(zip(H36M_17.left, H36M_17.right, strict=True)), H36M_17.index("spine"))
# Left arm, right arm, left leg, right leg, centre.
LIMBS = Graph(5, ((0, 4), (1, 4), (2, 4), (3, 4)), ((0, 1), (2, 3)), 4)
# Order inside the network: left limbs, right limbs, centre, so that limbs and pairs are slices. Limbs from the shoulder
# and the hip outwards, arm and leg in turn.
BODY_ORDER = (11, 4, 12, 5, 13, 6, 14, 1, 15, 2, 16, 3, 0, 7, 8, 9, 10)
LIMBS_ORDER = (0, 2, 1, 3, 4)
NECK = H36M_17.index("neck")  # not in the 16-joint skeleton: between thorax and head


class Block(nn.Module):
    """(V, B, in) -> (V, B, out): graph convolution, then a pointwise layer, each with batch norm; residual; ReLU.

    `residual`: "none", or the input itself where the widths agree, else projected and normalised.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        graph: Graph,
        order: Sequence[int],
        dropout: float,
        residual: bool = True,
    ):
        super().__init__()
        self.gcn = PartitionedConv(in_features, out_features, graph, order)
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
        y = dropout_(self.tcn[4](self.tcn[3](rows)), self.dropout, self.training)
        if self.projected:
            y = y.add_(self.residual(x.flatten(0, 1)))
        elif self.has_residual:
            y = y.add_(x.flatten(0, 1))
        return F.relu(y, inplace=True).unflatten(0, (len(x), -1))


class NonLocal(nn.Module):
    """x + W(softmax_j(theta(x_i) . phi(x_j)) g(x_j)), the embedded Gaussian form over the joints of a pose.

    x_i is the joint's own features beside those of its limb. Both halves of a product are linear in x, so theta is
    multiplied into phi and W into g beforehand, and what concerns limbs is done once a limb.
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
        """fine: (17, B, C) of the joints, coarse: (5, B, C) of the limbs -> (B * 17, 2 C), pose after pose."""
        width = fine.shape[2]
        with no_autocast(fine):
            # theta(x_i) . phi(x_j) up to what is the same for all j, which the softmax does not see.
            pairs = self.theta.matrix.t() @ self.phi.matrix
            offset = (self.theta.bias @ self.phi.matrix).split(width)
            value = (self.g.matrix.t() @ self.W[0].matrix.t()).split(width)
            bias = self.W[0].matrix @ self.g.bias + self.W[0].bias  # as attention's rows sum to one
        (joint_joint, joint_limb), (limb_joint, limb_limb) = (half.split(width, 1) for half in pairs.split(width))
        query = AddLimbs.apply(fine @ joint_joint, coarse @ limb_joint + offset[0])
        logits = pose_products(query, fine)
        of_limbs = pose_products(coarse @ limb_limb + offset[1], coarse)
        limb_logits = pose_products(fine, coarse @ joint_limb.t()) + to_joints(of_limbs.transpose(0, 1)).transpose(0, 1)
        logits = logits + to_joints(limb_logits.permute(2, 0, 1)).permute(1, 2, 0)
        values = AddLimbs.apply(fine @ value[0], coarse @ value[1] + bias)
        attention = full_precision(logits).softmax(2).to(values.dtype)
        y = torch.bmm(attention, values.transpose(0, 1))
        return Join.apply(self.W[1](y.flatten(0, 1)), fine, coarse)


def pose_products(a: Tensor, b: Tensor) -> Tensor:
    """a: (I, B, C), b: (J, B, C) -> (B, I, J), the scalar products of the nodes of each pose."""
    return torch.bmm(a.transpose(0, 1), b.permute(1, 2, 0))


def to_limbs(joints: Tensor) -> Tensor:
    """joints: (17, B, C) -> (5, B, C), the maximum of each limb."""
    left, right, centre = joints.split([6, 6, 5])
    parts = (left.unflatten(0, (3, 2)).amax(0), right.unflatten(0, (3, 2)).amax(0), centre.amax(0, keepdim=True))
    return torch.cat(parts)


def to_joints(limbs: Tensor) -> Tensor:
    """limbs: (5, B, C) -> (17, B, C), that of each joint's limb."""
    left, right, centre = limbs.split([2, 2, 1])
    return torch.cat([left, left, left, right, right, right, centre.expand(5, -1, -1)])


def limb_views(joints: Tensor) -> tuple[Tensor, ...]:
    """joints: (17, B, C) -> views (3, 2, B, C), (3, 2, B, C), (5, 1, B, C): the second axis runs over limbs."""
    left, right, centre = joints.split([6, 6, 5])
    return left.unflatten(0, (3, 2)), right.unflatten(0, (3, 2)), centre.unsqueeze(1)


class AddLimbs(torch.autograd.Function):
    """joints: (17, B, C), limbs: (5, B, C) -> (17, B, C) = joints + to_joints(limbs), going over memory once."""

    @staticmethod
    def forward(ctx, joints, limbs):
        y = torch.empty_like(joints)
        for out, mine, limb in zip(limb_views(y), limb_views(joints), limbs.split([2, 2, 1]), strict=True):
            torch.add(mine, limb, out=out)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        """The gradients of joints and limbs."""
        return gradient, torch.cat([view.sum(0) for view in limb_views(gradient)])


class Join(torch.autograd.Function):
    """features: (B * 17, 2 C), overwritten, plus [fine, to_joints(coarse)] of fine: (17, B, C), coarse: (5, B, C)."""

    @staticmethod
    def forward(ctx, features, fine, coarse):
        ctx.mark_dirty(features)
        own, shared = features.unflatten(0, (-1, len(fine))).transpose(0, 1).chunk(2, 2)
        own.add_(fine)
        for view, limb in zip(limb_views(shared), coarse.split([2, 2, 1]), strict=True):
            view.add_(limb)
        return features

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        """The gradients of features, fine and coarse."""
        own, shared = gradient.unflatten(0, (-1, BODY.size)).transpose(0, 1).chunk(2, 2)
        return gradient, own.contiguous(), torch.cat([view.sum(0) for view in limb_views(shared)])


def dropout_(x: Tensor, p: float, training: bool) -> Tensor:
    """`F.dropout` of a dense tensor that nobody else needs, with few random bits on the CPU; x may be overwritten."""
    if not training or p == 0:
        return x
    known = x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16)
    if known and p < 1 and not torch.compiler.is_compiling():
        return Dropout.apply(x, p)
    return F.dropout(x, p)


class Dropout(torch.autograd.Function):
    """The fast form of `dropout_`: blocks that stay in the cache, a mask of bytes."""

    block = 1 << 17

    @staticmethod
    def forward(ctx, x, p):
        ctx.mark_dirty(x)
        bits, dropped = dropout_code(p)
        ctx.factor = 1 / (1 - dropped / 2**bits)
        mask = torch.empty(x.shape, dtype=torch.bool)
        drawn, wide = torch.empty(2, Dropout.block)
        tensors = x.view(-1), draw_numbers(x.numel(), bits), mask.view(-1)
        for values, number, kept in zip(*(tensor.split(Dropout.block) for tensor in tensors), strict=True):
            number = widened(number, drawn)
            torch.gt(number, dropped - 0.5, out=kept)
            result = widened(values, wide)
            values.copy_(keep_above(result, number, dropped - 0.5, out=result).mul_(ctx.factor))
        ctx.save_for_backward(mask)
        return x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        """The gradient of x."""
        (mask,) = ctx.saved_tensors
        gradient = gradient.contiguous()
        passed = torch.empty_like(gradient)
        blocks = (tensor.view(-1).split(Dropout.block) for tensor in (gradient, mask, passed))
        for g, kept, out in zip(*blocks, strict=True):
            out.copy_(kept).mul_(g).mul_(ctx.factor)
        return passed, None


class SpatialGraphNetwork(nn.Module):
    """The network behind the `stgcn.` of the released names."""

    def __init__(self, dropout: float):
        super().__init__()
        block, self.rate4, self.rate2, self.rate_out = (0.05, 0.25, 0.1, 0.1) if dropout < 0 else (float(dropout),) * 4
        # Published: the 0.1 meant as momentum lands in eps. Released weights depend on it.
        self.data_bn = nn.BatchNorm1d(2 * BODY.size, eps=0.1)
        self.st_gcn_networks = nn.ModuleList(
            (
                Block(2, 128, BODY, BODY_ORDER, block, residual=False),
                Block(128, 128, BODY, BODY_ORDER, block),
                Block(128, 256, BODY, BODY_ORDER, block),
            )
        )
        self.st_gcn_pool = nn.ModuleList(
            (Block(256, 512, LIMBS, LIMBS_ORDER, block), Block(512, 512, LIMBS, LIMBS_ORDER, block))
        )
        self.conv4 = nn.Sequential(Conv(512, 512), nn.BatchNorm1d(512))
        self.conv2 = nn.Sequential(Conv(1024, 256), nn.BatchNorm1d(256))
        self.non_local = NonLocal(512)
        self.fcn = nn.Sequential(nn.Identity(), Conv(512, 3))

    def forward(self, joints: Tensor) -> Tensor:
        """joints: (B, 17, 2) -> (B, 17, 3), the joints of the result in BODY_ORDER."""
        nodes = self.data_bn(joints.flatten(1)).unflatten(1, (BODY.size, 2)).unbind(1)
        fine = torch.stack([nodes[j] for j in BODY_ORDER])
        for block in self.st_gcn_networks:
            fine = block(fine)
        limbs = to_limbs(fine)
        for block in self.st_gcn_pool:
            limbs = block(limbs)
        features = dropout_(self.non_local(fine, self.coarse(limbs)), self.rate_out, self.training)
        with no_autocast(features):
            return self.fcn[1](full_precision(features)).unflatten(0, joints.shape[:2])

    def coarse(self, limbs: Tensor) -> Tensor:
        """limbs: (5, B, 512) -> (5, B, 256), each limb in the light of the whole body."""
        whole = norm_relu_dropout(self.conv4[0](limbs.amax(0)), self.conv4[1], self.rate4, self.training)
        # conv2 of [whole, limb], with the product of the whole done once.
        of_whole, of_limb = self.conv2[0].matrix.chunk(2, 1)
        rows = limbs @ of_limb.t() + F.linear(whole, of_whole, self.conv2[0].bias)
        rows = norm_relu_dropout(rows.flatten(0, 1), self.conv2[1], self.rate2, self.training)
        return rows.unflatten(0, limbs.shape[:2])


class STGCN(nn.Module):
    """The spatial graph network on the 16-joint skeleton; names and shapes of its parameters are those of the released
    PoseAug checkpoints.

    Args:
        dropout: rate everywhere; below zero the built-in rates: 0.05 in the blocks, 0.25 and 0.1 after the global and
            the coarse features, 0.1 before the output.
    """

    def __init__(self, dropout: float = -1):
        super().__init__()
        self.stgcn = SpatialGraphNetwork(dropout)

    def forward(self, keypoints: Tensor) -> Tensor:
        """keypoints: (B, 16, 2) or (B, 32), screen-normalised -> (B, 16, 3) metres, camera axes; the root is not fixed
        at the origin.
        """
        joints = poses_of(keypoints, H36M_16.num_joints)
        neck = joints[:, NECK - 1 : NECK + 1].mean(1, keepdim=True)
        pose = self.stgcn(torch.cat([joints[:, :NECK], neck, joints[:, NECK:]], 1)).unbind(1)
        return torch.stack([pose[BODY_ORDER.index(j)] for j in range(BODY.size) if j != NECK], 1)
