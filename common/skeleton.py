"""Skeletons as data: named joints, parents, sides; conversion between layouts by name; mirror images; adjacency."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from common.errors import InputError


@dataclass(frozen=True)
class Skeleton:
    """A joint layout. `parents[j]` is -1 for the root; joint names are shared between layouts where they agree."""

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]

    @property
    def num_joints(self) -> int:
        """J."""
        return len(self.joints)

    @property
    def root(self) -> int:
        """Index of the joint without a parent."""
        return self.parents.index(-1)

    @cached_property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(parent, child) pairs in the order of the children."""
        return tuple((p, j) for j, p in enumerate(self.parents) if p >= 0)

    @cached_property
    def left(self) -> tuple[int, ...]:
        """Joints of the left side, matched one to one with `right`."""
        return tuple(j for j, name in enumerate(self.joints) if name.startswith("left "))

    @cached_property
    def right(self) -> tuple[int, ...]:
        """Joints of the right side, in the order of `left`."""
        return tuple(self.index(self.joints[j].replace("left ", "right ", 1)) for j in self.left)

    @cached_property
    def mirror(self) -> tuple[int, ...]:
        """Joint permutation that swaps the sides."""
        order = list(range(self.num_joints))
        for a, b in zip(self.left, self.right, strict=True):
            order[a], order[b] = b, a
        return tuple(order)

    def index(self, joint: str) -> int:
        """Index of a joint by name."""
        if joint not in self.joints:
            raise InputError(f"layout {self.name} has no joint {joint!r}; it has: {', '.join(self.joints)}")
        return self.joints.index(joint)


def _skeleton(name: str, links: str) -> Skeleton:
    """Build a skeleton from lines of `joint < parent` (the root has no parent)."""
    pairs = [[part.strip() for part in line.split("<")] for line in links.strip().split(",")]
    joints = tuple(pair[0] for pair in pairs)
    return Skeleton(name, joints, tuple(joints.index(pair[1]) if len(pair) > 1 else -1 for pair in pairs))


# Human3.6M's 32 joints with the parents of the published files. The copies (second hip and thorax, wrists, ends)
# carry names of their own, so that no conversion picks them by accident. In the smaller layouts both shoulders hang off
# the thorax.
H36M_32 = _skeleton(
    "Human3.6M 32 joints",
    """hip, right hip < hip, right knee < right hip, right foot < right knee, right toe < right foot,
    right toe end < right toe, left hip < hip, left knee < left hip, left foot < left knee, left toe < left foot,
    left toe end < left toe, hip copy < hip, spine < hip copy, thorax < spine, neck < thorax, head < neck,
    left thorax copy < spine, left shoulder < left thorax copy, left elbow < left shoulder, left wrist < left elbow,
    left wrist copy < left wrist, left thumb < left wrist copy, left hand < left wrist, left hand end < left hand,
    right thorax copy < spine, right shoulder < right thorax copy, right elbow < right shoulder,
    right wrist < right elbow, right wrist copy < right wrist, right thumb < right wrist copy,
    right hand < right wrist, right hand end < right hand""",
)
H36M_17 = _skeleton(
    "Human3.6M 17 joints",
    """hip, right hip < hip, right knee < right hip, right foot < right knee, left hip < hip, left knee < left hip,
    left foot < left knee, spine < hip, thorax < spine, neck < thorax, head < neck, left shoulder < thorax,
    left elbow < left shoulder, left wrist < left elbow, right shoulder < thorax, right elbow < right shoulder,
    right wrist < right elbow""",
)
H36M_16 = _skeleton(
    "Human3.6M 16 joints",
    """hip, right hip < hip, right knee < right hip, right foot < right knee, left hip < hip, left knee < left hip,
    left foot < left knee, spine < hip, thorax < spine, head < thorax, left shoulder < thorax,
    left elbow < left shoulder, left wrist < left elbow, right shoulder < thorax, right elbow < right shoulder,
    right wrist < right elbow""",
)
MPII_16 = _skeleton(
    "MPII 16 joints",
    """right foot < right knee, right knee < right hip, right hip < hip, left hip < hip, left knee < left hip,
    left foot < left knee, hip, thorax < hip, upper neck < thorax, head < upper neck, right wrist < right elbow,
    right elbow < right shoulder, right shoulder < thorax, left shoulder < thorax, left elbow < left shoulder,
    left wrist < left elbow""",
)
COCO_17 = _skeleton(
    "COCO 17 keypoints",
    """nose, left eye < nose, right eye < nose, left ear < left eye, right ear < right eye, left shoulder < nose,
    right shoulder < nose, left elbow < left shoulder, right elbow < right shoulder, left wrist < left elbow,
    right wrist < right elbow, left hip < left shoulder, right hip < right shoulder, left knee < left hip,
    right knee < right hip, left foot < left knee, right foot < right knee""",
)
OPENPOSE_18 = _skeleton(
    "OpenPose 18 keypoints",
    """nose < thorax, thorax, right shoulder < thorax, right elbow < right shoulder, right wrist < right elbow,
    left shoulder < thorax, left elbow < left shoulder, left wrist < left elbow, right hip < thorax,
    right knee < right hip, right foot < right knee, left hip < thorax, left knee < left hip, left foot < left knee,
    right eye < nose, left eye < nose, right ear < right eye, left ear < left eye""",
)
MPI_INF_3DHP_17 = _skeleton(
    "MPI-INF-3DHP 17 joints",
    """head < neck, thorax < spine, right shoulder < thorax, right elbow < right shoulder,
    right wrist < right elbow, left shoulder < thorax, left elbow < left shoulder, left wrist < left elbow,
    right hip < hip, right knee < right hip, right foot < right knee, left hip < hip, left knee < left hip,
    left foot < left knee, hip, spine < hip, neck < thorax""",
)
LAYOUTS = {
    "h36m32": H36M_32, "h36m17": H36M_17, "h36m16": H36M_16, "mpii16": MPII_16,
    "coco17": COCO_17, "openpose18": OPENPOSE_18, "mpi_inf_3dhp17": MPI_INF_3DHP_17,
}  # fmt: skip

# How a joint that a layout lacks is made from joints that it has: the mean of the named ones, first recipe that fits.
# "neck" is Human3.6M's neck/nose, "head" its top of the head, "thorax" the base of the neck.
_RECIPES: dict[str, tuple[tuple[str, ...], ...]] = {
    "hip": (("left hip", "right hip"),),
    "thorax": (("left shoulder", "right shoulder"),),
    "spine": (("hip", "thorax"),),
    "neck": (("nose",), ("upper neck",), ("thorax", "head")),
    "nose": (("neck",),),
    "upper neck": (("neck",), ("thorax", "head")),
    "head": (("left ear", "right ear"), ("left eye", "right eye")),
}


def layout(name: str | Skeleton) -> Skeleton:
    """A skeleton by its short name (`LAYOUTS`), or the skeleton itself."""
    if isinstance(name, Skeleton):
        return name
    if name not in LAYOUTS:
        raise InputError(f"unknown joint layout {name!r}; known: {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def _weights(joint: str, source: Skeleton, pending: tuple[str, ...] = ()) -> np.ndarray | None:
    """Mixing weights over the source joints that give `joint`, or None where no recipe fits."""
    if joint in source.joints:
        return np.eye(source.num_joints)[source.index(joint)]
    for parts in _RECIPES.get(joint, ()):
        if not set(parts) & set(pending):
            found = [_weights(part, source, (*pending, joint)) for part in parts]
            if all(w is not None for w in found):
                return np.mean(found, axis=0)
    return None


def conversion_matrix(source: Skeleton | str, target: Skeleton | str) -> np.ndarray:
    """(target joints, source joints) float64 matrix M with converted = M @ points; rows sum to one.

    Raises:
        InputError: a target joint cannot be made from the source joints; both layouts and the joints are named.
    """
    return _conversion(layout(source), layout(target)).copy()


@lru_cache(maxsize=64)
def _conversion(source: Skeleton, target: Skeleton) -> np.ndarray:
    rows = {joint: _weights(joint, source) for joint in target.joints}
    missing = [joint for joint, row in rows.items() if row is None]
    if missing:
        raise InputError(
            f"cannot convert {source.name} to {target.name}: it has no {', '.join(missing)}, nor joints to make them of"
        )
    return np.stack(list(rows.values()))


def convert(points, source: Skeleton | str, target: Skeleton | str):
    """Points (..., J_source, D) -> (..., J_target, D), by joint name; NumPy arrays and tensors, same dtype out.

    A joint that the source lacks is the mean of the joints around it (COCO's hip: between the hips); a joint that is
    there is copied exactly.

    Raises:
        InputError: wrong joint count, or no way from one layout to the other.
    """
    source, target = layout(source), layout(target)
    if points.ndim < 2 or points.shape[-2] != source.num_joints:
        found = points.shape[-2] if points.ndim > 1 else f"shape {tuple(points.shape)}"
        raise InputError(
            f"found {found} joints, but {source.name} has {source.num_joints}; name the layout that the data has "
            f"({', '.join(LAYOUTS)})"
        )
    matrix = _conversion(source, target)
    if (matrix.max(1) == 1).all():  # a pure selection stays exact
        places = matrix.argmax(1).tolist()
        return points[..., places, :] if isinstance(points, Tensor) else np.take(points, places, axis=-2)
    if isinstance(points, Tensor):
        return torch.as_tensor(matrix, dtype=points.dtype, device=points.device) @ points
    return (matrix @ points).astype(points.dtype)


def mirror(points: Tensor, skeleton: Skeleton) -> Tensor:
    """points: (..., J, 2 or 3), x to the right and 0 in the middle -> the mirrored body: x negated, sides exchanged."""
    x, rest = points.split([1, points.shape[-1] - 1], dim=-1)
    flipped = torch.cat([-x, rest], dim=-1).unbind(-2)
    return torch.stack([flipped[j] for j in skeleton.mirror], dim=-2)  # no index tensor: nothing to copy to a device


def adjacency(skeleton: Skeleton) -> Tensor:
    """Row-normalised adjacency (J, J), float32: bones in both directions and self loops (SemGCN, ITES student)."""
    matrix = torch.eye(skeleton.num_joints)
    for parent, child in skeleton.bones:
        matrix[parent, child] = matrix[child, parent] = 1
    return matrix / matrix.sum(1, keepdim=True)
