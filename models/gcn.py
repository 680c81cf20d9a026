"""SemGCN: lifting by semantic graph convolutions (Zhao et al., "Semantic Graph Convolutional Networks for 3D Human Pose
Regression", CVPR 2019), without non-local blocks, as PoseAug trains it (Gong et al., CVPR 2021).

Features inside are node-major, (J, B, C).
"""

from torch import Tensor, nn

from common.skeleton import H36M_16, Skeleton, adjacency
from models.graph import GraphLayer, ResidualGraphBlock, SemanticGraphConv, poses_of
from models.layers import full_precision, no_autocast


class GCN(nn.Module):
    """The graph network; names and shapes of its parameters are those of the released PoseAug checkpoints.

    Args:
        skeleton: the joints and their bones. `common.skeleton.adjacency(skeleton)` is the graph.
        hidden: channels.
        stages: number of residual blocks.
        dropout: rate after every layer (0 in the published recipe).
        features: numbers that it sees of a joint; x and y, and what else it is trained on.
    """

    def __init__(
        self, skeleton: Skeleton = H36M_16, hidden: int = 128, stages: int = 4, dropout: float = 0.25, features: int = 2
    ):
        super().__init__()
        edges = adjacency(skeleton)
        self.num_joints, self.features = skeleton.num_joints, features

        def conv(in_features: int, out_features: int) -> SemanticGraphConv:
            return SemanticGraphConv(in_features, out_features, edges)

        self.gconv_input = nn.Sequential(GraphLayer(conv(features, hidden), dropout))
        blocks = (ResidualGraphBlock(conv(hidden, hidden), conv(hidden, hidden), dropout) for _ in range(stages))
        self.gconv_layers = nn.Sequential(*blocks)
        self.gconv_output = conv(hidden, 3)

    def forward(self, keypoints: Tensor) -> Tensor:
        """keypoints: (B, J, features) or (B, features J) -> (B, J, 3) metres, camera axes; the root is not fixed
        at the origin.
        """
        nodes = poses_of(keypoints, self.num_joints, self.features).transpose(0, 1).contiguous()
        features = self.gconv_layers(self.gconv_input(nodes))
        with no_autocast(features):
            return self.gconv_output(full_precision(features)).transpose(0, 1)
