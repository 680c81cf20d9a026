"""The networks in the published code's layout: convolutions on (B, C, T) and (B, C, 1, V), dense graph products on
(B, J, C), explicit pairs in the non-local block, torch's own dropout.

Each form is a function of a network of `models`, whose parameters it uses, and of what that takes: a baseline for time,
a count of the published networks' multiply-adds, and a second opinion in the tests.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import models
from common.camera import perspective, unproject
from common.rotation import so3_exp
from common.skeleton import H36M_16, H36M_17, adjacency
from models.graph import partitions
from models.stgcn import BODY, JOINTS, LIMBS, NECK
from models.student import NODE_ORDER


class Published(nn.Module):
    """`models.create(name, **sizes)` in the published layout; the network itself is `network`."""

    def __init__(self, name: str, **sizes):
        super().__init__()
        self.name, self.network = name, models.create(name, **sizes)

    def forward(self, keypoints: Tensor) -> Tensor:
        """keypoints: (B, J, 2) -> pose (B, J, 3), of the adversarial networks what they give."""
        return FORMS[self.name](self.network, keypoints)


def norm(layer: nn.BatchNorm1d, x: Tensor) -> Tensor:
    """Batch norm over all axes but the second."""
    if layer.training:
        layer.num_batches_tracked.add_(1)
    statistics = layer.running_mean, layer.running_var
    return F.batch_norm(x, *statistics, layer.weight, layer.bias, layer.training, layer.momentum, layer.eps)


def active(layer: nn.BatchNorm1d, x: Tensor, p: float = 0.0) -> Tensor:
    """Batch norm, ReLU and dropout."""
    return F.dropout(F.relu(norm(layer, x)), p, layer.training)


def conv(layer: nn.Module, x: Tensor) -> Tensor:
    """Convolution by kernels of 1 on (B, C, T) or (B, C, 1, V)."""
    return (F.conv1d if x.dim() == 3 else F.conv2d)(x, layer.weight, layer.bias)


# ------------------------------------------------------------ fully connected, VideoPose3D


def fully_connected(net: nn.Module, poses: Tensor) -> Tensor:
    """Trunk and head of SimpleBaseline: (B, ...) -> (B, outputs)."""
    x = active(net.batch_norm1, net.w1(poses.flatten(1)), net.dropout)
    for stage in net.linear_stages:
        y = active(stage.batch_norm1, stage.w1(x), net.dropout)
        x = x + active(stage.batch_norm2, stage.w2(y), net.dropout)
    return net.w2(x)


def rooted(joints: Tensor) -> Tensor:
    """(B, 45) -> (B, 16, 3), the root at the origin before them."""
    joints = joints.view(-1, 15, 3)
    return torch.cat([torch.zeros_like(joints[:, :1]), joints], dim=1)


def mlp(net: nn.Module, keypoints: Tensor) -> Tensor:
    return rooted(fully_connected(net, keypoints))


def videopose(net: nn.Module, keypoints: Tensor) -> Tensor:
    """Single frames: kernels of width 1."""
    x = active(net.expand_bn, conv(net.expand_conv, keypoints.reshape(-1, 32, 1)), net.dropout)
    convs, norms = net.layers_conv, net.layers_bn
    for i in range(0, len(convs), 2):
        y = active(norms[i], conv(convs[i], x), net.dropout)
        x = x + active(norms[i + 1], conv(convs[i + 1], y), net.dropout)
    return rooted(conv(net.shrink, x))


# ------------------------------------------------------------ semantic graph convolutions


def graph_conv(layer: nn.Module, x: Tensor) -> Tensor:
    """x: (B, J, in) -> (B, J, out), with dense masks."""
    pattern = adjacency(H36M_17 if x.shape[1] == H36M_17.num_joints else H36M_16).to(x.device) > 0
    logits = torch.full_like(pattern, -9e15, dtype=layer.e.dtype)
    logits[pattern] = layer.e[0]
    weights, diagonal = logits.softmax(dim=1), torch.eye(len(pattern), device=x.device)
    own = torch.matmul(weights * diagonal, torch.matmul(x, layer.W[0]))
    return own + torch.matmul(weights * (1 - diagonal), torch.matmul(x, layer.W[1])) + layer.bias


def non_local(block: nn.Module, x: Tensor) -> Tensor:
    """x: (B, J, C) -> x and its block, every pair's features concatenated."""
    order = torch.tensor(NODE_ORDER, device=x.device)
    x = x[:, order].transpose(1, 2)
    theta, phi, g = conv(block.theta, x), *(F.max_pool1d(conv(part[0], x), 2) for part in (block.phi, block.g))
    joints, pairs = theta.shape[2], phi.shape[2]
    features = torch.cat([theta[..., None].expand(-1, -1, -1, pairs), phi[:, :, None].expand(-1, -1, joints, -1)], 1)
    weights = F.relu(conv(block.concat_project[0], features))[:, 0] / pairs
    y = x + norm(block.W[1], conv(block.W[0], torch.matmul(weights, g.transpose(1, 2)).transpose(1, 2)))
    return y.transpose(1, 2)[:, order.argsort()]


def graph_layer(layer: nn.Module, x: Tensor) -> Tensor:
    """x: (B, J, in) -> (B, J, out)."""
    y = graph_conv(layer.gconv, x)
    if layer.non_local is not None:
        y = y + non_local(layer.non_local.non_local, x)
    return active(layer.bn, y.transpose(1, 2), layer.dropout).transpose(1, 2)


def gcn(net: nn.Module, keypoints: Tensor) -> Tensor:
    """The last convolution's output, (B, J, 3) of the lifter, (B, J, 1) of the student."""
    x = graph_layer(net.gconv_input[0], keypoints)
    for block in net.gconv_layers:
        x = x + graph_layer(block.gconv2, graph_layer(block.gconv1, x))
    return graph_conv(net.gconv_output, x)


# ------------------------------------------------------------ ST-GCN


def partitioned_conv(layer: nn.Module, x: Tensor) -> Tensor:
    """x: (B, in, 1, V) -> (B, out, 1, V): four maps by one convolution, each mixed by its partition."""
    matrices = partitions(BODY if x.shape[3] == BODY.size else LIMBS).to(x)
    return torch.einsum("nkctv,kvw->nctw", conv(layer.conv, x).unflatten(1, (4, -1)), matrices).contiguous()


def stgcn_block(block: nn.Module, x: Tensor) -> Tensor:
    """x: (B, in, 1, V) -> (B, out, 1, V)."""
    y = conv(block.tcn[3], active(block.tcn[0], partitioned_conv(block.gcn, x), block.dropout))
    y = F.dropout(norm(block.tcn[4], y), block.dropout, block.training)
    if block.projected:
        y = y + norm(block.residual[1], conv(block.residual[0], x))
    return F.relu(y + x if block.has_residual and not block.projected else y)


def stgcn(lifter: nn.Module, keypoints: Tensor) -> Tensor:
    net, attention = lifter.stgcn, lifter.stgcn.non_local
    neck = keypoints[:, NECK - 1 : NECK + 1].mean(1, keepdim=True)
    joints = torch.cat([keypoints[:, :NECK], neck, keypoints[:, NECK:]], dim=1)
    x = net.data_bn(joints.flatten(1)).view(-1, 17, 1, 2).permute(0, 3, 2, 1).contiguous()
    for block in net.st_gcn_networks:
        x = stgcn_block(block, x)
    limbs = torch.cat([x[..., list(group)].amax(-1, keepdim=True) for group in JOINTS], dim=-1)
    for block in net.st_gcn_pool:
        limbs = stgcn_block(block, limbs)
    whole = active(net.conv4[1], conv(net.conv4[0], limbs.amax(-1, keepdim=True)), net.rate4)
    limbs = torch.cat([whole.expand(-1, -1, -1, len(JOINTS)), limbs], dim=1)
    limbs = active(net.conv2[1], conv(net.conv2[0], limbs), net.rate2)
    limb_of = [next(i for i, group in enumerate(JOINTS) if joint in group) for joint in range(17)]
    x = torch.cat([x, limbs[..., limb_of]], dim=1)
    theta, phi, g = (conv(layer, x).flatten(2) for layer in (attention.theta, attention.phi, attention.g))
    y = torch.matmul(torch.matmul(theta.mT, phi).softmax(-1), g.mT).mT.unsqueeze(2)
    x = x + norm(attention.W[1], conv(attention.W[0], y))
    pose = conv(net.fcn[1], F.dropout(x, net.rate_out, net.training)).squeeze(2).mT
    return torch.cat([pose[:, :NECK], pose[:, NECK + 1 :]], dim=1)


# ------------------------------------------------------------ ITES


def teacher_shape(net: nn.Module, keypoints: Tensor) -> tuple[Tensor, Tensor]:
    """keypoints: (B, J, 2) -> canonical shape (B, J, 3), rotation (B, 3, 3), by images of one pixel."""
    stem, *blocks = net.fe_net
    x = active(stem.bn1, conv(stem.conv1, keypoints.reshape(len(keypoints), -1, 1, 1)))
    for block in blocks:
        y = active(block.bn2, conv(block.conv2, active(block.bn1, conv(block.conv1, x))))
        x = F.relu(x + norm(block.bn3, conv(block.conv3, y)))
    canonical = conv(net.shape_layer, conv(net.alpha_layer, x)).view(len(keypoints), -1, 3)
    return canonical, so3_exp(conv(net.rot_layer, x)[:, :, 0, 0])


def teacher(net: nn.Module, keypoints: Tensor) -> Tensor:
    return torch.bmm(*teacher_shape(net, keypoints - keypoints[:, :1]))


def student(net: nn.Module, keypoints: Tensor) -> Tensor:
    return unproject(keypoints, gcn(net, keypoints))


def teacher_loss(model: Published, data: tuple[Tensor, ...], rotations: Tensor) -> Tensor:
    """5 * reprojection + cycle with aligned root."""
    keypoints = data[0] - data[0][:, :1]
    canonical, rotation = teacher_shape(model.network, keypoints)
    reprojection = (perspective(torch.bmm(canonical, rotation)) - keypoints).norm(dim=-1).mean()
    target = (canonical - canonical[:, :1]).repeat(4, 1, 1)
    again, _ = teacher_shape(model.network, perspective(torch.bmm(target, rotations)))
    return 5 * reprojection + (again - target).norm(dim=-1).mean()


def student_loss(model: Published, data: tuple[Tensor, ...], rotations: Tensor) -> Tensor:
    """5 * depth + reconstruction."""
    keypoints, teacher_depth = data
    pose = model(keypoints)
    rotated = torch.bmm(pose.repeat(4, 1, 1), rotations)
    again = model(perspective(rotated))
    return 5 * (pose[..., 2:] - teacher_depth).abs().mean() + (again - rotated).norm(dim=-1).mean()


FORMS = {"mlp": mlp, "videopose": videopose, "gcn": gcn, "stgcn": stgcn, "teacher": teacher, "student": student}
FORMS |= {"gan_lifter": fully_connected, "gan_discriminator": fully_connected}
