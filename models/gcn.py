"""SemGCN: lifting by semantic graph convolutions (Zhao et al., "Semantic Graph Convolutional Networks for 3D Human Pose
Regression", CVPR 2019), without non-local blocks, as PoseAug trains it (Gong et al., CVPR 2021).

Features inside are node-major, (J, B, C).
"""

from torch import Tensor, nn

from common.skeleton import H36M_16, Skeleton, adjacency
from models.fast.norm_relu_dropout import norm_relu_dropout
from models.functional import full_precision, no_autocast
from models.graph_conv import SemanticGraphConv, poses_of


class GraphLayer(nn.Module):
    """(J, B, in) -> (J, B, out): graph convolution, batch norm over poses and joints, ReLU, dropout."""

    def __init__(self, in_features: int, out_features: int, edges: Tensor, dropout: float):
        super().__init__()
        self.gconv = SemanticGraphConv(in_features, out_features, edges)
        self.bn = nn.BatchNorm1d(out_features)
        self.dropout = float(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.gconv(x)
        return norm_relu_dropout(y.flatten(0, 1), self.bn, self.dropout, self.training).view_as(y)


class ResidualGraphBlock(nn.Module):
    """(J, B, C) -> (J, B, C): two layers and the input."""

    def __init__(self, channels: int, edges: Tensor, dropout: float):
        super().__init__()
        self.gconv1 = GraphLayer(channels, channels, edges, dropout)
        self.gconv2 = GraphLayer(channels, channels, edges, dropout)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gconv2(self.gconv1(x))


class GCN(nn.Module):
    """The graph network; names and shapes of its parameters are those of the released PoseAug checkpoints.

    Args:
        skeleton: the joints and their bones. `common.skeleton.adjacency(skeleton)` is the graph.
        hidden: channels.
        stages: number of residual blocks.
        dropout: rate after every layer (0 in the published recipe).
    """

    def __init__(self, skeleton: Skeleton = H36M_16, hidden: int = 128, stages: int = 4, dropout: float = 0.25):
        super().__init__()
        edges = adjacency(skeleton)
        self.num_joints = skeleton.num_joints
        self.gconv_input = nn.Sequential(GraphLayer(2, hidden, edges, dropout))
        self.gconv_layers = nn.Sequential(*(ResidualGraphBlock(hidden, edges, dropout) for _ in range(stages)))
        self.gconv_output = SemanticGraphConv(hidden, 3, edges)

    def forward(self, keypoints: Tensor) -> Tensor:
        """keypoints: (B, J, 2) or (B, 2 J), screen-normalised -> (B, J, 3) metres, camera axes; the root is not fixed
        at the origin.
        """
        nodes = poses_of(keypoints, self.num_joints).transpose(0, 1).contiguous()
        features = self.gconv_layers(self.gconv_input(nodes))
        with no_autocast(features):
            return self.gconv_output(full_precision(features)).transpose(0, 1)
