"""Bones of a pose: vectors, lengths, directions, and poses rebuilt from them.

Bone b joins joint `skeleton.bones[b][1]` to its parent and points to the parent: vector = parent - child, as published
with PoseAug (Gong et al., "PoseAug: A Differentiable Pose Augmentation Framework for 3D Human Pose Estimation", CVPR
2021). Row vectors, metres, any frame, any leading dimensions. A bone's direction keeps the published form, vector /
length without an epsilon: a bone of length zero has no direction, and gives NaN.
"""

import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.errors import InputError
from common.skeleton import H36M_16, Skeleton

H36M_BONE_LENGTHS = Path(__file__).with_name("h36m_bone_lengths.json")


def bone_vectors(poses: Tensor, skeleton: Skeleton = H36M_16) -> Tensor:
    """Parent minus child. poses: (..., J, D) -> (..., J - 1, D), in the order of `skeleton.bones`."""
    _check_count(poses, skeleton.num_joints, "joints", skeleton)
    return _mix(poses, skeleton, inverse=False)


def pose_from_bones(bones: Tensor, root: Tensor | None = None, skeleton: Skeleton = H36M_16) -> Tensor:
    """Inverse of `bone_vectors`. bones: (..., J - 1, D); root: (..., D), the origin if left out -> (..., J, D)."""
    _check_count(bones, skeleton.num_joints - 1, "bones", skeleton)
    pose = _mix(bones, skeleton, inverse=True)
    return pose if root is None else pose + root.unsqueeze(-2)


def bone_lengths(bones: Tensor) -> Tensor:
    """bones: (..., N, D) -> (..., N)."""
    return torch.linalg.vector_norm(bones, dim=-1)


def unit_bones(bones: Tensor) -> Tensor:
    """Directions, (..., N, D) -> the same shape; NaN for a bone of length zero."""
    return bones / bone_lengths(bones).unsqueeze(-1)


def with_lengths(poses: Tensor, lengths: Tensor, skeleton: Skeleton = H36M_16) -> Tensor:
    """The same directions and root with other bone lengths. poses: (..., J, D); lengths: (..., J - 1) -> (..., J, D).

    PoseAug's bone-length swap: `with_lengths(poses, templates[index])`.
    """
    bones = bone_vectors(poses, skeleton)
    scale = lengths / bone_lengths(bones)
    return pose_from_bones(bones * scale.unsqueeze(-1), poses[..., skeleton.root, :], skeleton)


def length_templates(path: str | os.PathLike | None = None) -> Tensor:
    """Bone lengths of real people, (people, 15) float32 in metres, in the order of H36M_16's bones.

    Without a path: Human3.6M's S1, S5, S6, S7, S8, equal to the published `hm36s15678_bl_templates.npy`. With one, such
    a file: any number of rows of 15 lengths.

    Raises:
        InputError: no readable .npy file of numbers, another shape, or a length that is not above zero.
    """
    if path is None:
        lengths = np.array(list(json.loads(H36M_BONE_LENGTHS.read_text())["lengths"].values()))
    else:
        lengths = _read_templates(Path(path))
    return torch.from_numpy(lengths.astype(np.float32))


def _read_templates(path: Path) -> np.ndarray:
    count = H36M_16.num_joints - 1
    try:
        lengths = np.load(path, mmap_mode="r", allow_pickle=False)  # a header that claims more than is there fails
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}; expected bone lengths, .npy") from error
    except Exception as error:  # a damaged file can fail in any way
        raise InputError(f"{path} is not an .npy file of numbers: expected bone lengths (people, {count})") from error
    if not isinstance(lengths, np.ndarray) or lengths.dtype.kind not in "fiu":
        raise InputError(f"{path} does not hold one array of numbers: expected bone lengths (people, {count}), .npy")
    if lengths.ndim != 2 or lengths.shape[1] != count or not len(lengths):
        raise InputError(
            f"{path} holds an array of shape {lengths.shape}: expected bone lengths (people, {count}) in metres, in "
            f"the order of the joints after the hip"
        )
    wrong = np.argwhere(~((lengths > 0) & np.isfinite(lengths)))
    if len(wrong):
        row, bone = wrong[0]
        raise InputError(
            f"{path} row {row} bone {bone} has length {lengths[row, bone]}: every length must be above zero (metres)"
        )
    return lengths


def _mix(points: Tensor, skeleton: Skeleton, inverse: bool) -> Tensor:
    """Joints (..., J, D) -> bone vectors (..., J - 1, D), or back with the root at the origin.

    One matrix product with ones and zeros, backwards too, instead of one slice for every joint. A compiler melts the
    slices into one kernel, but cannot see that a matrix stays the same.
    """
    if torch.compiler.is_compiling():
        return _mix_slices(points, skeleton, inverse)
    matrix = _matrix(inverse, skeleton, points.shape[-1], points.dtype, points.device)
    with torch.autocast(points.device.type, enabled=False):
        return (points.flatten(-2) @ matrix).unflatten(-1, (-1, points.shape[-1]))


def _mix_slices(points: Tensor, skeleton: Skeleton, inverse: bool) -> Tensor:
    parts = points.unbind(-2)
    if not inverse:
        return torch.stack([parts[parent] - parts[child] for parent, child in skeleton.bones], -2)
    bone_of = {child: part for part, (_, child) in zip(parts, skeleton.bones, strict=True)}
    joints = {skeleton.root: torch.zeros_like(parts[0])}
    while len(joints) < skeleton.num_joints:  # children may come before their parents
        for parent, child in skeleton.bones:
            if parent in joints and child not in joints:
                joints[child] = joints[parent] - bone_of[child]
    return torch.stack([joints[joint] for joint in range(skeleton.num_joints)], -2)


@cache
def _matrix(inverse: bool, skeleton: Skeleton, dims: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Acts on flattened rows from the right; an ordinary tensor even where first asked for in inference mode."""
    with torch.inference_mode(False):
        matrix = _paths(skeleton) if inverse else _differences(skeleton)
        return torch.kron(matrix.T.contiguous(), torch.eye(dims)).to(device, dtype)


def _differences(skeleton: Skeleton) -> Tensor:
    """(bones, J): joints to bone vectors."""
    matrix = torch.zeros(len(skeleton.bones), skeleton.num_joints)
    for bone, (parent, child) in enumerate(skeleton.bones):
        matrix[bone, parent], matrix[bone, child] = 1, -1
    return matrix


def _paths(skeleton: Skeleton) -> Tensor:
    """(J, bones): bone vectors to joints, each the negated sum of the bones between it and the root."""
    bone_of = {child: bone for bone, (_, child) in enumerate(skeleton.bones)}
    matrix = torch.zeros(skeleton.num_joints, len(skeleton.bones))
    for joint in range(skeleton.num_joints):
        ancestor = joint
        while ancestor != skeleton.root:
            matrix[joint, bone_of[ancestor]] = -1
            ancestor = skeleton.parents[ancestor]
    return matrix


def _check_count(points: Tensor, count: int, what: str, skeleton: Skeleton) -> None:
    if points.dim() < 2 or points.shape[-2] != count:
        raise InputError(f"found {what} of shape {tuple(points.shape)}: {skeleton.name} has (..., {count}, axes)")
