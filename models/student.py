"""ITES student: a graph network that learns each joint's depth from the teacher (Xu et al., "Invariant Teacher and
Equivariant Student for Unsupervised 3D Human Pose Estimation", AAAI 2021).

Semantic graph convolutions with non-local blocks predict a depth per joint; the 3D pose is the 2D pose pushed out to
that depth. Two losses: the teacher's depth (distillation), and that a rotated prediction, projected, is predicted
again as the same rotated pose (reconstruction).

Features inside are node-major, (J, B, C). Row vectors: `points @ rotation`. Units as in `models.teacher`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from common.camera import perspective
from common.errors import InputError
from common.skeleton import H36M_17, Skeleton, adjacency
from common.threads import in_threads
from models.graph import GraphLayer, ResidualGraphBlock, SemanticGraphConv
from models.layers import full_precision, mean_distance, no_autocast, rotate

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

        self.gconv_input = nn.Sequential(GraphLayer(graph_conv(2, hidden)))
        pairs = ((graph_conv(hidden, hidden), graph_conv(hidden, hidden)) for _ in range(blocks))
        self.gconv_layers = nn.Sequential(*(ResidualGraphBlock(*pair, non_local=True) for pair in pairs))
        self.gconv_output = graph_conv(hidden, 1)

    def forward(self, keypoints: Tensor) -> StudentOutput:
        """keypoints: (B, J, 2), focal-normalised and scaled, taken as they are."""
        if not self._is_scoring(keypoints) or len(keypoints) <= CHUNK:  # in this order: an export asks for no length
            return self._lift(keypoints)
        parts = in_threads(self._lift, keypoints.split(CHUNK))
        return StudentOutput(*map(torch.cat, zip(*parts, strict=True)))

    def _is_scoring(self, keypoints: Tensor) -> bool:
        plain = torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu")
        return keypoints.device.type == "cpu" and not (self.training or plain)

    def _lift(self, keypoints: Tensor) -> StudentOutput:
        joints = keypoints.unbind(1)
        features = self.gconv_layers(self.gconv_input(torch.stack([joints[j] for j in self.node_order])))
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
