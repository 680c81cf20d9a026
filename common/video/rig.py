"""Rig: the skeleton with turning joints that goes into BVH and glTF files, fitted to poses of 17 points."""

from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

from common.errors import InputError
from common.mocap.motion import check_finite
from common.skeleton import H36M_17

# The skeleton written: joint, parent, Human3.6M's joint where it stands, and the direction of its offset in the rest
# pose, a T-pose that looks along z, y up. Names are those of CMU's BVH files. Joints without an offset of their own
# give each of several children of one joint a rotation of its own, so that bones of constant length are met exactly.
RIG = (
    ("Hips", None, "hip", (0, 0, 0)),
    ("RHipJoint", "Hips", "hip", (0, 0, 0)),
    ("RightUpLeg", "RHipJoint", "right hip", (-1, 0, 0)),
    ("RightLeg", "RightUpLeg", "right knee", (0, -1, 0)),
    ("RightFoot", "RightLeg", "right foot", (0, -1, 0)),
    ("LHipJoint", "Hips", "hip", (0, 0, 0)),
    ("LeftUpLeg", "LHipJoint", "left hip", (1, 0, 0)),
    ("LeftLeg", "LeftUpLeg", "left knee", (0, -1, 0)),
    ("LeftFoot", "LeftLeg", "left foot", (0, -1, 0)),
    ("LowerBack", "Hips", "hip", (0, 0, 0)),
    ("Spine", "LowerBack", "spine", (0, 1, 0)),
    ("Neck", "Spine", "thorax", (0, 1, 0)),
    ("Neck1", "Neck", "thorax", (0, 0, 0)),
    ("Head", "Neck1", "neck", (0, 1, 0)),
    ("Head end", "Head", "head", (0, 1, 0)),
    ("LeftShoulder", "Neck", "thorax", (0, 0, 0)),
    ("LeftArm", "LeftShoulder", "left shoulder", (1, 0, 0)),
    ("LeftForeArm", "LeftArm", "left elbow", (1, 0, 0)),
    ("LeftHand", "LeftForeArm", "left wrist", (1, 0, 0)),
    ("RightShoulder", "Neck", "thorax", (0, 0, 0)),
    ("RightArm", "RightShoulder", "right shoulder", (-1, 0, 0)),
    ("RightForeArm", "RightArm", "right elbow", (-1, 0, 0)),
    ("RightHand", "RightForeArm", "right wrist", (-1, 0, 0)),
)

# What the joints of RIG, in their order, are called elsewhere; joints that a program does not know have names near its.
_RIGIFY = "spine pelvis.R thigh.R shin.R foot.R pelvis.L thigh.L shin.L foot.L spine.001 spine.002 spine.003 spine.004 "
_RIGIFY += "spine.006 spine.006_end chest.L upper_arm.L forearm.L hand.L chest.R upper_arm.R forearm.R hand.R"
_MIXAMO = (
    "Hips RightHip RightUpLeg RightLeg RightFoot LeftHip LeftUpLeg LeftLeg LeftFoot Spine Spine1 Spine2 Neck Head "
)
_MIXAMO += "HeadTop_End LeftShoulder LeftArm LeftForeArm LeftHand RightShoulder RightArm RightForeArm RightHand"
_VRM = "hips rightHip rightUpperLeg rightLowerLeg rightFoot leftHip leftUpperLeg leftLowerLeg leftFoot spine chest "
_VRM += "upperChest neck head headEnd leftShoulder leftUpperArm leftLowerArm leftHand rightShoulder rightUpperArm "
_VRM += "rightLowerArm rightHand"
BONES = {
    "cmu": tuple(name for name, *_ in RIG),
    "blender": tuple(_RIGIFY.split()),
    "mixamo": tuple(f"mixamorig:{name}" for name in _MIXAMO.split()),
    "vrm": tuple(_VRM.split()),
}
PARENTS = tuple(BONES["cmu"].index(parent) if parent else -1 for _, parent, *_ in RIG)
END = BONES["cmu"].index("Head end")  # does not turn


class Fit(NamedTuple):
    """offsets: (N, 3), metres, of RIG's joints from their parents in the rest pose, y up, looking along z. root:
    (T, 3), where the hip is. turns: (T, N, 3, 3), rotations of each joint relative to its parent.
    """

    offsets: Array
    root: Array
    turns: Array


def fit(poses: Array, fps: float, where) -> Fit:
    """RIG with the movements of poses (T, 17, 3), world frame, metres, z up; `where` is named in errors.

    Every bone has the length of its mean over the clip, and the rotations meet the directions of all bones, so what has
    constant bone lengths comes back exactly. A bone's turn about itself is not in 17 points: it takes the smallest.

    Raises:
        InputError: another shape, NaN, or a rate that is not above 0.
    """
    poses = np.asarray(poses, dtype=np.float64)
    if poses.ndim != 3 or poses.shape[1:] != (H36M_17.num_joints, 3) or not len(poses):
        raise InputError(f"{where}: found poses of shape {poses.shape}; expected (T, 17, 3) with T > 0")
    if not (np.isfinite(fps) and fps > 0):
        raise InputError(f"{where}: found {fps} frames per second; expected a number above 0")
    check_finite(poses, f"the poses for {where}")
    return _fit(np.stack((poses[..., 0], poses[..., 2], -poses[..., 1]), -1))


def names_of(bones: str) -> tuple[str, ...]:
    """RIG's joints as that program calls them."""
    if bones not in BONES:
        raise InputError(f"unknown bone names {bones!r}; there are: {', '.join(BONES)}")
    return BONES[bones]


def _fit(points: Array) -> Fit:
    place = [points[:, H36M_17.index(joint)] for _, _, joint, _ in RIG]
    rest = np.array([direction for *_, direction in RIG], dtype=float)
    lengths = np.array(
        [np.linalg.norm(place[i] - place[p], axis=-1).mean() if p >= 0 else 0 for i, p in enumerate(PARENTS)]
    )
    frames: list[Array] = []
    turns = []
    for i, parent in enumerate(PARENTS):
        frame = _body_frame(points) if parent < 0 else frames[parent]
        # A joint with a single child looks at it. Hips and thorax have helpers as children, which do so for them.
        for child in [c for c, its_parent in enumerate(PARENTS) if its_parent == i and rest[c].any()]:
            frame = _swing(frame @ rest[child], place[child] - place[i]) @ frame
        frames.append(frame)
        turns.append(frame if parent < 0 else np.swapaxes(frames[parent], 1, 2) @ frame)
    return Fit(rest * lengths[:, None], points[:, 0], np.stack(turns, 1))


def _body_frame(points: Array) -> Array:
    """Rotation matrices (T, 3, 3) of the pelvis: x to its left, y along the spine as far as upright on that."""
    left = points[:, H36M_17.index("left hip")] - points[:, H36M_17.index("right hip")]
    left /= np.linalg.norm(left, axis=-1, keepdims=True).clip(1e-12)
    up = points[:, H36M_17.index("spine")] - points[:, H36M_17.root]
    up -= (up * left).sum(-1, keepdims=True) * left
    up /= np.linalg.norm(up, axis=-1, keepdims=True).clip(1e-12)
    frame = np.stack((left, up, np.cross(left, up)), -1)
    frame[np.abs(np.linalg.det(frame) - 1) > 1e-6] = np.eye(3)  # joints that fall together have no direction
    return frame


def _swing(start: Array, goal: Array) -> Array:
    """Smallest rotations (T, 3, 3) that turn directions `start` (T, 3) into those of `goal`; none for length zero."""
    a = start / np.linalg.norm(start, axis=-1, keepdims=True).clip(1e-12)
    length = np.linalg.norm(goal, axis=-1, keepdims=True)
    b = np.where(length > 1e-9, goal / length.clip(1e-12), a)
    cosine = (a * b).sum(-1)
    # Opposite directions: half a turn about any axis across.
    across = np.cross(a, np.eye(3)[np.abs(a).argmin(-1)])
    across /= np.linalg.norm(across, axis=-1, keepdims=True)
    half_turn = 2 * across[:, :, None] * across[:, None, :] - np.eye(3)
    x, y, z = np.cross(a, b).T
    zero = np.zeros_like(x)
    skew = np.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).reshape(-1, 3, 3)
    smallest = np.eye(3) + skew + skew @ skew / (1 + cosine).clip(1e-9)[:, None, None]
    return np.where((cosine < -1 + 1e-9)[:, None, None], half_turn, smallest)
