"""ITES student: a graph network that learns each joint's depth from the teacher (Xu et al., "Invariant Teacher and
Equivariant Student for Unsupervised 3D Human Pose Estimation", AAAI 2021).

Semantic graph convolutions with non-local blocks predict a depth per joint; the 3D pose is the 2D pose pushed out to
that depth. Two losses: the teacher's depth (distillation), and that a rotated prediction, projected, is predicted
again as the same rotated pose (reconstruction).

Features inside are node-major, (J, B, C). Row vectors: `points @ rotation`. Units as in `models.teacher`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.camera import perspective
from common.errors import InputError
from common.skeleton import H36M_17, Skeleton, adjacency
from common.threads import in_threads
from models.functional import full_precision, mean_distance, no_autocast, rotate
from models.graph_conv import SemanticGraphConv
from models.graph_inference import FoldedLayer, can_fold, fold, run_layer
from models.graph_shortcut import convolve_and_read
from models.non_local import GraphNonLocal

# Order of the nodes inside the network. The non-local blocks pool them by twos: knees with feet, hips, root with spine
# and so on. Joint 9 (neck) is the odd one out, as published.
NODE_ORDER = (2, 3, 5, 6, 1, 4, 0, 7, 8, 10, 15, 16, 12, 13, 11, 14, 9)
CAMERA_DISTANCE = 5.0
CHUNK = 256  # poses evaluated at once on a CPU: their features stay in its cache


class StudentOutput(NamedTuple):
    """depth: (B, J, 1); pose: (B, J, 3) = [(x, y) * max(depth + 5, 1), depth]."""

    depth: Tensor
    pose: Tensor


class Reconstruction(NamedTuple):
    """The reconstruction branch, replica-major (row s * B + b).

    rotated: (S*B, J, 3) poses; keypoints: (S*B, J, 2), their projections; pose: (S*B, J, 3), predicted again.
    """

    rotated: Tensor
    keypoints: Tensor
    pose: Tensor


class GraphLayer(nn.Module):
    """(J, B, in) -> (J, B, out): graph convolution, non-local block if asked for, batch norm, ReLU."""

    def __init__(self, gconv: SemanticGraphConv, channels: int, non_local: bool):
        super().__init__()
        self.gconv = gconv
        self.non_local = GraphNonLocal(channels) if non_local else None
        self.bn = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.non_local is None:
            y = self.gconv(x)
        else:
            y, *read = convolve_and_read(self.gconv, self.non_local.non_local, x)
            y.add_(self.non_local.non_local.answer(*read))
        return F.relu(self.bn(y.flatten(0, 1)), inplace=True).view_as(y)

    def fold(self) -> FoldedLayer:
        """The layer's constants for evaluation."""
        return fold(self.gconv, self.bn, self.non_local.non_local if self.non_local is not None else None)


class ResidualGraphBlock(nn.Module):
    """(J, B, C) -> (J, B, C): two layers and the input."""

    def __init__(self, gconv1: SemanticGraphConv, gconv2: SemanticGraphConv, channels: int):
        super().__init__()
        self.gconv1 = GraphLayer(gconv1, channels, non_local=True)
        self.gconv2 = GraphLayer(gconv2, channels, non_local=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gconv2(self.gconv1(x))


class Student(nn.Module):
    """The graph network; names and shapes of its parameters are those of the released checkpoints.

    Args:
        skeleton: the joints and their bones.
        hidden: channels (even).
        blocks: number of residual blocks.
        node_order: order of the joints inside the network, in which the non-local blocks pool them by twos.
    """

    def __init__(
        self, skeleton: Skeleton = H36M_17, hidden: int = 128, blocks: int = 4, node_order: Sequence[int] = NODE_ORDER
    ):
        super().__init__()
        if sorted(node_order) != list(range(skeleton.num_joints)):
            raise InputError(
                f"the student's node order {tuple(node_order)} does not name each of the {skeleton.num_joints} joints "
                f"of {skeleton.name} once: give it another node_order"
            )
        if hidden % 2:
            raise InputError(f"the student has {hidden} channels: their number must be even")
        self.node_order = tuple(node_order)
        edges = adjacency(skeleton)

        def graph_conv(in_features: int, out_features: int) -> SemanticGraphConv:
            return SemanticGraphConv(in_features, out_features, edges, node_order)

        self.gconv_input = nn.Sequential(GraphLayer(graph_conv(2, hidden), hidden, non_local=False))
        self.gconv_layers = nn.Sequential(
            *(ResidualGraphBlock(graph_conv(hidden, hidden), graph_conv(hidden, hidden), hidden) for _ in range(blocks))
        )
        self.gconv_output = graph_conv(hidden, 1)

    def forward(self, keypoints: Tensor) -> StudentOutput:
        """keypoints: (B, J, 2), focal-normalised and scaled, taken as they are."""
        if not can_fold(self, keypoints):
            return self._lift(keypoints, lambda nodes: self.gconv_layers(self.gconv_input(nodes)))
        layers = [layer.fold() for layer in self.modules() if isinstance(layer, GraphLayer)]
        network = partial(run_folded, layers)
        parts = in_threads(lambda part: self._lift(part, network), keypoints.split(CHUNK))
        return StudentOutput(*map(torch.cat, zip(*parts, strict=True)))

    def _lift(self, keypoints: Tensor, network: Callable[[Tensor], Tensor]) -> StudentOutput:
        joints = keypoints.unbind(1)
        features = network(torch.stack([joints[j] for j in self.node_order]))
        with no_autocast(features):
            nodes = self.gconv_output(full_precision(features)).unbind(0)
            depth = torch.stack([nodes[self.node_order.index(j)] for j in range(len(nodes))], dim=1)
            pose = torch.cat([keypoints * (depth + CAMERA_DISTANCE).clamp(min=1), depth], dim=-1)
        return StudentOutput(depth, pose)

    def reconstruct(self, pose: Tensor, rotations: Tensor) -> Reconstruction:
        """Shows rotated poses to the network and predicts them again.

        pose: (B, J, 3); rotations: (S*B, 3, 3), replica-major, about the origin (not the root). Gradients flow
        through both sides.
        """
        with no_autocast(pose):
            rotated = rotate(pose.repeat(rotations.shape[0] // pose.shape[0], 1, 1), rotations)
            keypoints = perspective(rotated)
        return Reconstruction(rotated, keypoints, self(keypoints).pose)


def run_folded(layers: Sequence[FoldedLayer], nodes: Tensor) -> Tensor:
    """The network up to its output convolution: the first layer, then blocks of two. (J, B, 2) -> (J, B, C)."""
    x = run_layer(layers[0], nodes)
    for first, second in zip(layers[1::2], layers[2::2], strict=True):
        x += run_layer(second, run_layer(first, x))
    return x


def student_losses(model: Student, keypoints: Tensor, teacher_depth: Tensor, rotations: Tensor) -> dict[str, Tensor]:
    """The two terms, unweighted, each a scalar; the published total is 5 * depth + reconstruction.

    keypoints: (B, J, 2); teacher_depth: (B, J, 1), z of the teacher's pose; rotations: (S*B, 3, 3), random turns about
    the vertical axis (S = 4 published).
    """
    output = model(keypoints)
    again = model.reconstruct(output.pose, rotations)
    with no_autocast(keypoints):
        return {
            "depth": (output.depth - teacher_depth).abs().mean(),
            "reconstruction": mean_distance(again.pose, again.rotated),
        }
