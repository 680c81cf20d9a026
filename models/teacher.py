"""ITES teacher: a pose dictionary that learns 3D from single 2D poses (Xu et al., "Invariant Teacher and Equivariant
Student for Unsupervised 3D Human Pose Estimation", AAAI 2021).

A residual trunk reads the 2D pose and predicts dictionary coefficients, hence a canonical 3D shape, and a rotation into
the camera frame. Two losses need no 3D label: the posed shape must project to the input (reprojection), and the
canonical shape, seen from a random side, must be recognised as the same shape (cycle).

Row vectors: `points @ rotation`. The unit is the network's own: the body stands at distance 5 and its mean 2D
hip-to-head length is 0.2.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from common.camera import perspective, unproject
from common.errors import InputError
from common.rotation import so3_exp
from models.layers import Pointwise, centre, full_precision, mean_distance, no_autocast, rotate


class TeacherOutput(NamedTuple):
    """coefficients: (B, basis); canonical: (B, J, 3); rotation: (B, 3, 3); pose: (B, J, 3) = canonical @ rotation."""

    coefficients: Tensor
    canonical: Tensor
    rotation: Tensor
    pose: Tensor


class Cycle(NamedTuple):
    """The cycle branch: what it shows the network and what it gets back, replica-major (row s * B + b).

    target: (S*B, J, 3), the canonical shapes as rotated; keypoints: (S*B, J, 2), their projections;
    canonical: (S*B, J, 3), the shapes predicted again.
    """

    target: Tensor
    keypoints: Tensor
    canonical: Tensor


class Stem(nn.Module):
    """(B, in) -> (B, width): linear, batch norm, ReLU."""

    def __init__(self, in_features: int, width: int):
        super().__init__()
        self.conv1 = Pointwise(in_features, width, spatial_dims=2)
        self.bn1 = nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(x)), inplace=True)


class Bottleneck(nn.Module):
    """(B, width) -> (B, width): a residual block through a quarter of the width."""

    def __init__(self, width: int):
        super().__init__()
        inner = width // 4
        self.conv1 = Pointwise(width, inner, spatial_dims=2)
        self.bn1 = nn.BatchNorm1d(inner)
        self.conv2 = Pointwise(inner, inner, spatial_dims=2)
        self.bn2 = nn.BatchNorm1d(inner)
        self.conv3 = Pointwise(inner, width, spatial_dims=2)
        self.bn3 = nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        return F.relu(self.bn3(self.conv3(y)).add_(x), inplace=True)


class Teacher(nn.Module):
    """The pose-dictionary network; names and shapes of its parameters are those of the released checkpoints.

    Args:
        num_joints: J, for input and output.
        width: channels of the trunk (divisible by 4).
        layers: number of residual blocks.
        basis: dictionary atoms.
        init_std: standard deviation of the initial weights.
    """

    def __init__(
        self, num_joints: int = 17, width: int = 1024, layers: int = 6, basis: int = 12, init_std: float = 0.01
    ):
        super().__init__()
        if width % 4:
            raise InputError(f"the teacher's width is {width}: it must be divisible by 4")
        self.num_joints = num_joints
        self.fe_net = nn.Sequential(Stem(2 * num_joints, width), *(Bottleneck(width) for _ in range(layers)))
        self.alpha_layer = Pointwise(width, basis, spatial_dims=2)
        self.shape_layer = Pointwise(basis, 3 * num_joints, spatial_dims=2)
        self.rot_layer = Pointwise(width, 3, spatial_dims=2)
        # Part of every released checkpoint, but no output depends on it: it never gets a gradient.
        self.trans_layer = Pointwise(width, 1, spatial_dims=2)
        self._initialise(init_std)

    def _initialise(self, std: float) -> None:
        for module in self.modules():
            if isinstance(module, Pointwise):
                nn.init.normal_(module.weight, std=std)
            elif isinstance(module, nn.BatchNorm1d):
                nn.init.uniform_(module.weight)

    def features(self, keypoints: Tensor) -> Tensor:
        """keypoints: (B, J, 2), taken as they are -> (B, width), float32 or wider."""
        return full_precision(self.fe_net(keypoints.flatten(1)))

    def shape(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """features: (B, width) -> coefficients (B, basis), canonical shape (B, J, 3)."""
        coefficients = self.alpha_layer(features)
        return coefficients, self.shape_layer(coefficients).unflatten(1, (self.num_joints, 3))

    def forward(self, keypoints: Tensor) -> TeacherOutput:
        """keypoints: (B, J, 2), focal-normalised and scaled; centred on joint 0 here."""
        features = self.features(centre(keypoints))
        with no_autocast(features):
            coefficients, canonical = self.shape(features)
            rotation = so3_exp(self.rot_layer(features))
            pose = rotate(canonical, rotation)
        return TeacherOutput(coefficients, canonical, rotation, pose)

    def cycle(self, canonical: Tensor, rotations: Tensor, align_root: bool) -> Cycle:
        """Shows rotated canonical shapes to the network and predicts their shape again.

        canonical: (B, J, 3); rotations: (S*B, 3, 3), replica-major. Gradients flow through both sides, and the
        projections are not centred again, as published. `align_root` moves joint 0 of the shapes to the origin first.
        """
        if align_root:
            canonical = centre(canonical)
        with no_autocast(canonical):
            target = canonical.repeat(rotations.shape[0] // canonical.shape[0], 1, 1)
            keypoints = perspective(rotate(target, rotations))
        features = self.features(keypoints)
        with no_autocast(features):
            return Cycle(target, keypoints, self.shape(features)[1])


def published_pose(teacher: Callable[[Tensor], TeacherOutput], keypoints: Tensor) -> Tensor:
    """The pose that is published for a teacher: its input pushed out to the depths that it predicts, so that z alone is
    the network's own. keypoints: (B, J, 2), root-relative and scaled -> (B, J, 3), in the network's unit.
    """
    return unproject(keypoints, teacher(keypoints).pose[..., 2:], nearest=None)


def teacher_losses(model: Teacher, keypoints: Tensor, rotations: Tensor, align_root: bool) -> dict[str, Tensor]:
    """The two unsupervised terms, unweighted, each a scalar; the published total is 5 * reprojection + cycle.

    keypoints: (B, J, 2); rotations: (S*B, 3, 3) random (S = 4 published). In training mode the trunk's running
    statistics are updated twice, first by the B input rows, then by the S*B rotated ones.
    """
    output = model(keypoints)
    cycle = model.cycle(output.canonical, rotations, align_root)
    with no_autocast(keypoints):
        return {
            "reprojection": mean_distance(perspective(output.pose), centre(keypoints)),
            "cycle": mean_distance(cycle.canonical, cycle.target),
        }
