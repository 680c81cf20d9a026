"""A lifted video as files for other programs: `poses.npz`, `poses.json`, and `poses.bvh`, which Blender opens."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array

from common.errors import InputError
from common.files.atomic import write_atomic
from common.files.npz import save_npz
from common.mocap.motion import check_finite
from common.skeleton import H36M_17
from common.video.numbering import at_rate, is_even
from common.video.read import KeypointFile


def save_poses(
    folder: Path, found: KeypointFile, camera: np.ndarray, world: np.ndarray, fps: float, **about: Any
) -> list[Path]:
    """Write a sequence in all three forms; -> the files. A BVH file has one rate: frames that come unevenly are brought
    to it.

    Args:
        found: the 2D poses that were lifted.
        camera: (T, 17, 3), camera axes, the hip at the origin, in the lifter's unit.
        world: (T, 17, 3), metres, z up, on the floor.
        fps: frames per second; of the BVH file, where they come unevenly.
        about: what else to say of them (text and numbers): the method, the checkpoint, the camera's pitch.
    """
    files = [folder / f"poses.{kind}" for kind in ("npz", "json", "bvh")]
    about, times = {"fps": fps, **about}, found.seconds(fps)
    save_npz(
        files[0], poses=world.astype(np.float32), poses_camera=camera.astype(np.float32), keypoints=found.points,
        confidence=found.confidence, status=found.status, frames=np.array(found.frames),
        times=times, joints=np.array(H36M_17.joints), **{name: np.array(value) for name, value in about.items()},
    )  # fmt: skip
    content = {
        **about, "unit": "metres", "axes": "x right, y away from the camera, z up; hip over the origin, lowest joint "
        "on the floor", "joints": list(H36M_17.joints), "parents": list(H36M_17.parents),
        "frames": [
            {"frame": name, "time": time, "pose": pose, "keypoints": points, "confidence": confidence}
            for name, time, pose, points, confidence in zip(
                found.frames, times.round(6).tolist(), world.astype(float).round(5).tolist(),
                found.points.astype(float).round(2).tolist(), found.confidence.astype(float).round(4).tolist(),
                strict=True,
            )
        ],
    }  # fmt: skip
    write_atomic(files[1], lambda file: file.write(json.dumps(content).encode()))
    write_bvh(files[2], world if is_even(times, fps) else at_rate(world, times, fps), fps)
    return files


# ------------------------------------------------------------ BVH

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
_TIP = 0.06  # metres of the end site that a hand or foot gets: a joint at the end of a branch must have one


def write_bvh(path: str | os.PathLike, poses: Array, fps: float) -> None:
    """Write poses (T, 17, 3), world frame, metres, z up, as a BVH file: metres, y up, as Blender's import expects.

    Every bone has the length of its mean over the clip, and the rotations meet the directions of all bones, so what has
    constant bone lengths comes back exactly. A bone's turn about itself is not in 17 points: it takes the smallest.

    Raises:
        InputError: another shape, NaN, a rate that is not above 0, or the file cannot be written.
    """
    poses = np.asarray(poses, dtype=np.float64)
    if poses.ndim != 3 or poses.shape[1:] != (H36M_17.num_joints, 3) or not len(poses):
        raise InputError(f"{path}: found poses of shape {poses.shape}; expected (T, 17, 3) with T > 0")
    if not (np.isfinite(fps) and fps > 0):
        raise InputError(f"{path}: found {fps} frames per second; expected a number above 0")
    check_finite(poses, f"the poses for {path}")
    points = np.stack((poses[..., 0], poses[..., 2], -poses[..., 1]), -1)
    offsets, angles = _fit(points)
    lines = ["HIERARCHY", *_hierarchy_lines(offsets), "MOTION", f"Frames: {len(points)}", f"Frame Time: {1 / fps:.9g}"]
    values = np.concatenate((points[:, 0], np.moveaxis(angles, 0, 1).reshape(len(points), -1)), 1)
    row = " ".join(["%.6f"] * values.shape[1])
    lines += [row % tuple(frame) for frame in values.tolist()]
    write_atomic(path, lambda file: file.write(("\n".join(lines) + "\n").encode("ascii")))


def _fit(points: Array) -> tuple[Array, Array]:
    """Points (T, 17, 3), y up -> offsets (N, 3) of RIG; degrees (n, T, 3) about z, x, y of those joints that turn."""
    names = [name for name, *_ in RIG]
    place = [points[:, H36M_17.index(joint)] for _, _, joint, _ in RIG]
    parents = [names.index(parent) if parent else -1 for _, parent, _, _ in RIG]
    rest = np.array([direction for *_, direction in RIG], dtype=float)
    lengths = np.array(
        [np.linalg.norm(place[i] - place[p], axis=-1).mean() if p >= 0 else 0 for i, p in enumerate(parents)]
    )
    turns: list[Array] = []
    angles = []
    for i, (name, parent) in enumerate(zip(names, parents, strict=True)):
        frame = _body_frame(points) if parent < 0 else turns[parent]
        # A joint with a single child looks at it. Hips and thorax have helpers as children, which do so for them.
        for child in [c for c, its_parent in enumerate(parents) if its_parent == i and rest[c].any()]:
            frame = _swing(frame @ rest[child], place[child] - place[i]) @ frame
        turns.append(frame)
        if name != "Head end":
            local = frame if parent < 0 else np.swapaxes(turns[parent], 1, 2) @ frame
            angles.append(np.rad2deg(np.unwrap(_euler_zxy(local), axis=0)))
    return rest * lengths[:, None], np.stack(angles)


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


def _euler_zxy(matrix: Array) -> Array:
    """Angles (T, 3) about z, x, y in radians with R = Rz Rx Ry; where x is a right angle, y is 0."""
    m = matrix
    cosine = np.hypot(m[:, 2, 0], m[:, 2, 2])
    locked = cosine < 1e-7
    z = np.where(locked, np.arctan2(m[:, 1, 0], m[:, 0, 0]), np.arctan2(-m[:, 0, 1], m[:, 1, 1]))
    y = np.where(locked, 0.0, np.arctan2(-m[:, 2, 0], m[:, 2, 2]))
    return np.stack((z, np.arctan2(m[:, 2, 1], cosine), y), -1)


def _hierarchy_lines(offsets: Array) -> list[str]:
    """The text from ROOT to its closing brace."""

    def block(i: int, depth: int) -> list[str]:
        name, tabs = RIG[i][0], "\t" * depth
        children = [child for child, (_, parent, *_) in enumerate(RIG) if parent == name]
        if name == "Head end":
            return end(offsets[i], depth)
        inside = [f"OFFSET {_text(offsets[i])}"]
        position = "" if depth else "Xposition Yposition Zposition "
        inside.append(f"CHANNELS {3 if depth else 6} {position}Zrotation Xrotation Yrotation")
        lines = [f"{tabs}{'JOINT' if depth else 'ROOT'} {name}", f"{tabs}{{", *(f"{tabs}\t{line}" for line in inside)]
        for child in children:
            lines += block(child, depth + 1)
        if not children:
            lines += end(np.array(RIG[i][3]) * _TIP, depth + 1)
        return [*lines, f"{tabs}}}"]

    def end(offset: Array, depth: int) -> list[str]:
        tabs = "\t" * depth
        return [f"{tabs}End Site", f"{tabs}{{", f"{tabs}\tOFFSET {_text(offset)}", f"{tabs}}}"]

    return block(0, 0)


def _text(vector: Array) -> str:
    return " ".join(f"{value + 0.0:.6f}" for value in vector)
