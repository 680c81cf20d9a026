"""SimpleBaseline lifter: fully connected residual stages from one 2D pose to one 3D pose (Martinez et al., "A Simple
yet Effective Baseline for 3D Human Pose Estimation", ICCV 2017), as PoseAug trains it (Gong et al., CVPR 2021).
"""

from torch import Tensor, nn

from models.layers import full_precision, kaiming_linears, no_autocast, norm_relu_dropout, root_first


class Stage(nn.Module):
    """(B, width) -> (B, width): two layers and the input, with no activation after the sum."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.dropout = dropout
        self.w1 = nn.Linear(width, width)
        self.batch_norm1 = nn.BatchNorm1d(width)
        self.w2 = nn.Linear(width, width)
        self.batch_norm2 = nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = norm_relu_dropout(self.w1(x), self.batch_norm1, self.dropout, self.training)
        return x + norm_relu_dropout(self.w2(y), self.batch_norm2, self.dropout, self.training)


class MLP(nn.Module):
    """The fully connected lifter; names and shapes of its parameters are those of the released checkpoints.

    Args:
        joints: J, for input and output.
        width: channels of the trunk.
        stages: number of residual stages (the released checkpoints have 2).
        dropout: rate of zeros after every activation.
        features: numbers that it sees of a joint; x and y, and what else it is trained on.
    """

    def __init__(self, joints: int = 16, width: int = 1024, stages: int = 4, dropout: float = 0.25, features: int = 2):
        super().__init__()
        self.joints, self.dropout = joints, dropout
        self.w1 = nn.Linear(features * joints, width)
        self.batch_norm1 = nn.BatchNorm1d(width)
        self.linear_stages = nn.ModuleList(Stage(width, dropout) for _ in range(stages))
        self.w2 = nn.Linear(width, 3 * (joints - 1))
        kaiming_linears(self)

    def forward(self, keypoints: Tensor) -> Tensor:
        """keypoints: (B, J, features), or (B, features J) -> pose (B, J, 3), metres, joint 0 at the origin."""
        x = norm_relu_dropout(self.w1(keypoints.flatten(1)), self.batch_norm1, self.dropout, self.training)
        for stage in self.linear_stages:
            x = stage(x)
        x = full_precision(x)
        with no_autocast(x):
            return root_first(self.w2(x))
