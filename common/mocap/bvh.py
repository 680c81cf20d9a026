"""BVH (Biovision hierarchy) files: reading any skeleton, all frames at once. `common.video.bvh` writes them.

A joint's channels turn and move it in the frame of its parent, the first channel outermost: for Zrotation Xrotation
Yrotation a column vector goes through Rz Rx Ry. Degrees; the unit of length is not in the file.
"""

import logging
import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

from common.errors import InputError
from common.files.reading import check_bytes, read_bytes
from common.mocap.motion import BYTES_OF_JOINT, Motion, check_finite, moved, turned

log = logging.getLogger(__name__)

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
    check_bytes(len(nodes) * len(values) * BYTES_OF_JOINT, path.stat().st_size, path)
    return Motion(tuple(node.name for node in nodes), _positions(nodes, values), fps)


def _read_lines(path: Path) -> list[str]:
    try:
        text = read_bytes(path).decode("utf-8-sig", errors="replace")
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
    if not rows:
        raise InputError(f"{path} has 0 frames; 'Frames:' promises {count:g}")
    if len(rows) != count:
        log.warning("%s has %d frames, all of which are read; 'Frames:' promises %g", path, len(rows), count)
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
