"""BVH (Biovision hierarchy) files: reading any skeleton, all frames at once, and writing poses of 17 joints.

A joint's channels turn and move it in the frame of its parent, the first channel outermost: for Zrotation Xrotation
Yrotation a column vector goes through Rz Rx Ry. Degrees; the unit of length is not in the file.
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

from common.errors import InputError
from common.files.atomic import write_atomic
from common.mocap.motion import Motion, check_finite, moved, turned
from common.skeleton import H36M_17

_CHANNEL = re.compile(r"([XYZ])(position|rotation)", re.IGNORECASE)


class _Node(NamedTuple):
    name: str
    parent: int
    offset: list[float]
    channels: list[tuple[str, int]]  # "position" or "rotation", axis


def read_bvh(path: str | os.PathLike) -> Motion:
    """Joint positions of every frame, end sites included ("Head end"), in the file's unit and axes.

    A root stands where its position channels say; so do other joints that have such channels, unless these are
    displacements from the offset (values that are nearer to zero than to it).

    Raises:
        InputError: no BVH, a broken hierarchy, channels and numbers that do not fit, NaN; the line is named.
    """
    path = Path(path)
    lines = _read_lines(path)
    nodes, start = _hierarchy(lines, path)
    fps, values = _motion(lines, start, sum(len(node.channels) for node in nodes), path)
    check_finite(values, path)
    return Motion(tuple(node.name for node in nodes), _positions(nodes, values), fps)


def _read_lines(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    lines = [line.strip() for line in text.splitlines()]
    if not any(lines):
        raise InputError(f"{path} is empty; expected a BVH file")
    if next(line for line in lines if line).upper() != "HIERARCHY":
        raise InputError(f"{path} is not a BVH file: its first line is not HIERARCHY")
    return lines


def _hierarchy(lines: list[str], path: Path) -> tuple[list[_Node], int]:
    """The joints, parents before children, and the number of the line after MOTION."""
    nodes: list[_Node] = []
    open_nodes: list[int] = []
    for number, line in enumerate(lines):
        where = f"{path} line {number + 1}"
        word, rest = [*line.rstrip("{").strip().split(None, 1), "", ""][:2]
        word = word.upper()
        if word in ("ROOT", "JOINT", "END"):
            parent = open_nodes[-1] if open_nodes else -1
            if (word == "ROOT") != (parent < 0) or (word == "ROOT" and nodes):
                raise InputError(
                    f"{where}: {line!r:.60} in the wrong place: expected one ROOT with all JOINTs inside it"
                )
            name = f"{nodes[parent].name} end" if word == "END" else rest or f"joint {len(nodes)}"
            nodes.append(_Node(name, parent, [], []))
            open_nodes.append(len(nodes) - 1)
        elif word == "OFFSET" and open_nodes:
            nodes[open_nodes[-1]].offset[:] = _numbers(rest, 3, where)
        elif word == "CHANNELS" and open_nodes:
            nodes[open_nodes[-1]].channels[:] = _channels(rest, where)
        elif line.startswith("}"):
            if not open_nodes:
                raise InputError(f"{where}: a '}}' too many")
            node = nodes[open_nodes.pop()]
            if not node.offset:
                raise InputError(f"{where}: joint {node.name!r} has no OFFSET")
        elif word == "MOTION":
            if open_nodes or not nodes:
                raise InputError(f"{where}: MOTION before the hierarchy is complete ({len(open_nodes)} '}}' missing)")
            return nodes, number + 1
        elif word not in ("", "HIERARCHY"):
            raise InputError(f"{where}: {line!r:.60}; expected JOINT, OFFSET, CHANNELS, End Site or a brace")
    raise InputError(f"{path} has no MOTION: the file is cut off")


def _numbers(text: str, count: int, where: str) -> list[float]:
    try:
        numbers = [float(word) for word in text.split()]
    except ValueError:
        numbers = []
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise InputError(f"{where}: found {text!r:.60}, expected {count} numbers")
    return numbers


def _channels(text: str, where: str) -> list[tuple[str, int]]:
    count, *names = text.split() or ["0"]
    found = [_CHANNEL.fullmatch(name) for name in names]
    if not count.isdigit() or int(count) != len(names) or not all(found):
        raise InputError(f"{where}: CHANNELS {text!r:.80}: expected their number, then as many such as Xrotation")
    return [(match[2].lower(), "XYZ".index(match[1].upper())) for match in found]


def _motion(lines: list[str], start: int, width: int, path: Path) -> tuple[float, Array]:
    """Frames per second and channel values (T, width)."""
    rows = [number for number in range(start, len(lines)) if lines[number]]
    head = [" ".join(lines[number].split()).partition(":") for number in rows[:2]]
    if [part[0].upper() for part in head] != ["FRAMES", "FRAME TIME"]:
        raise InputError(f"{path} line {start + 1}: expected 'Frames:' and 'Frame Time:' after MOTION")
    count, seconds = (_numbers(part[2], 1, f"{path} line {row + 1}")[0] for part, row in zip(head, rows, strict=False))
    if seconds <= 0:
        raise InputError(f"{path}: Frame Time is {seconds}; expected seconds above 0")
    rows = rows[2:]
    words = " ".join([lines[row] for row in rows]).split()
    if len(words) != width * len(rows):
        row = next(row for row in rows if len(lines[row].split()) != width)
        raise InputError(
            f"{path} line {row + 1} has {len(lines[row].split())} numbers; the hierarchy has {width} channels"
        )
    if len(rows) != count or not rows:
        raise InputError(f"{path} has {len(rows)} frames; 'Frames:' promises {count:g}")
    try:
        values = np.array(words, dtype=np.float64)
    except ValueError as error:
        raise InputError(f"{path}: something in MOTION is no number ({error})") from error
    return 1 / seconds, values.reshape(len(rows), width)


def _positions(nodes: list[_Node], values: Array) -> Array:
    """Forward kinematics: channel values (T, channels) -> (T, J, 3). A loop over joints, none over frames."""
    columns = np.ascontiguousarray(values.T)
    frames: list[Array] = []
    points: list[Array] = []
    used = 0
    for node in nodes:
        here = dict(enumerate(columns[used : used + len(node.channels)]))
        used += len(node.channels)
        root = node.parent < 0
        frame = np.broadcast_to(np.eye(3)[..., None], (3, 3, len(values))) if root else frames[node.parent]
        offset = np.broadcast_to(np.array(node.offset)[:, None], (3, len(values))).copy()
        for channel, (kind, axis) in enumerate(node.channels):
            if kind == "position":
                moves = not root and np.median(np.abs(here[channel])) < np.median(np.abs(here[channel] - offset[axis]))
                offset[axis] = here[channel] + (offset[axis] if moves else 0)
        points.append(offset if root else points[node.parent] + moved(frame, offset))
        for channel, (kind, axis) in enumerate(node.channels):
            if kind == "rotation":
                frame = turned(frame, axis, here[channel])
        frames.append(frame)
    return np.stack(points).transpose(2, 0, 1)


# ------------------------------------------------------------ writing

# The skeleton written: joint, parent, Human3.6M's joint where it stands, and the direction of its offset in the rest
# pose, a T-pose that looks along z, y up. Names are those of CMU's BVH files. Joints without an offset of their own
# give each of several children of one joint a rotation of its own, so that bones of constant length are met exactly.
_RIG = (
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
# Human3.6M's joint -> its name in the files that `write_bvh` writes: a joint map for `common.mocap.joints`.
WRITTEN_JOINTS = {joint: name for name, _, joint, rest in reversed(_RIG) if any(rest) or name == "Hips"}
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
    """Points (T, 17, 3), y up -> offsets (N, 3) of _RIG; degrees (n, T, 3) about z, x, y of those joints that turn."""
    names = [name for name, *_ in _RIG]
    place = [points[:, H36M_17.index(joint)] for _, _, joint, _ in _RIG]
    parents = [names.index(parent) if parent else -1 for _, parent, _, _ in _RIG]
    rest = np.array([direction for *_, direction in _RIG], dtype=float)
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
        name, tabs = _RIG[i][0], "\t" * depth
        children = [child for child, (_, parent, *_) in enumerate(_RIG) if parent == name]
        if name == "Head end":
            return end(offsets[i], depth)
        inside = [f"OFFSET {_text(offsets[i])}"]
        position = "" if depth else "Xposition Yposition Zposition "
        inside.append(f"CHANNELS {3 if depth else 6} {position}Zrotation Xrotation Yrotation")
        lines = [f"{tabs}{'JOINT' if depth else 'ROOT'} {name}", f"{tabs}{{", *(f"{tabs}\t{line}" for line in inside)]
        for child in children:
            lines += block(child, depth + 1)
        if not children:
            lines += end(np.array(_RIG[i][3]) * _TIP, depth + 1)
        return [*lines, f"{tabs}}}"]

    def end(offset: Array, depth: int) -> list[str]:
        tabs = "\t" * depth
        return [f"{tabs}End Site", f"{tabs}{{", f"{tabs}\tOFFSET {_text(offset)}", f"{tabs}}}"]

    return block(0, 0)


def _text(vector: Array) -> str:
    return " ".join(f"{value + 0.0:.6f}" for value in vector)
