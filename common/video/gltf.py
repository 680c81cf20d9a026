"""glTF binary files (.glb) of moving people: a figure of capsules, skinned to the bones of `common.video.rig`.

glTF 2.0 (Khronos): metres, y up, the rest pose looks along z, quaternions x, y, z, w, matrices by columns.
"""

import json
import os
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import ndarray as Array

from common.files.atomic import write_atomic
from common.video import rig
from common.video.rig import PARENTS, RIG

ROUND, RINGS = 10, 3  # vertices around a capsule, rings of each of its ends
TIP = 0.1  # metres of hands and feet
COLOURS = {"left": (0.0, 0.45, 0.70, 1.0), "right": (0.84, 0.37, 0.0, 1.0), "centre": (0.55, 0.58, 0.6, 1.0)}
_FLOAT, _SHORT, _VERTICES, _INDICES = 5126, 5123, 34962, 34963
_KINDS = {(): "SCALAR", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}


def write_glb(path: str | os.PathLike, poses: Array, times: Array, bones: str = "vrm") -> None:
    """Write poses (T, 17, 3), world frame, metres, z up, of the times (T,), seconds, as an animated glTF file.

    Raises:
        InputError: what `rig.fit` refuses, times that do not rise, or the file cannot be written.
    """
    write_people(path, [(poses, times)], bones)


def write_people(path: str | os.PathLike, people: Sequence[tuple[Array, Array]], bones: str = "vrm") -> None:
    """Write several people, each poses and times as for `write_glb`, as one file: one animation moves all of them. The
    first one's joints have their names, the second one's end in " 2".
    """
    file = _File()
    nodes, meshes, skins, roots, samplers, channels = [], [], [], [], [], []
    for number, (poses, times) in enumerate(people, 1):
        offsets, root, turns = rig.fit(poses, 1.0, path)
        first, joints = len(nodes), len(PARENTS)
        last = f" {number}" * (number > 1)
        for i, (name, offset) in enumerate(zip(rig.names_of(bones), offsets, strict=True)):
            children = [first + c for c, parent in enumerate(PARENTS) if parent == i]
            node = {"name": name + last, "translation": offset.tolist()}
            nodes.append(node | ({"children": children} if children else {}))
        nodes.append({"name": f"person{last}", "mesh": number - 1, "skin": number - 1})
        roots += [first, first + joints]
        clock = file.add(np.asarray(times, dtype="<f4"), limits=True)
        moves = [(first, "translation", root)]
        moves += [(first + i, "rotation", quaternions(turns[:, i])) for i in range(joints)]
        for node, kind, values in moves:
            channels.append({"sampler": len(samplers), "target": {"node": node, "path": kind}})
            samplers.append({"input": clock, "output": file.add(values.astype("<f4"))})
        rest = _places(offsets)
        inverse = np.tile(np.eye(4), (joints, 1, 1))
        inverse[:, 3, :3] = -rest  # by columns: the last column is written last
        meshes.append({"primitives": _figure(file, rest)})
        skins.append({"joints": list(range(first, first + joints)), "skeleton": first,
                      "inverseBindMatrices": file.add(inverse.astype("<f4"))})  # fmt: skip
    content = {
        "asset": {"version": "2.0", "generator": "3D human pose lifting"},
        "scene": 0, "scenes": [{"nodes": roots}], "nodes": nodes, "meshes": meshes,
        "materials": [
            {"name": name, "pbrMetallicRoughness": {"baseColorFactor": colour, "metallicFactor": 0}}
            for name, colour in COLOURS.items()
        ],
        "skins": skins, "animations": [{"name": "motion", "samplers": samplers, "channels": channels}],
    }  # fmt: skip
    data = file.glb(content)
    write_atomic(path, lambda stream: stream.write(data))


class _File:
    """The binary part of a file, and what says where things are in it."""

    def __init__(self):
        self.data, self.views, self.accessors = bytearray(), [], []

    def add(self, values: Array, target: int | None = None, limits: bool = False) -> int:
        """-> the accessor's number of values (N, ...)."""
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": values.nbytes}
        self.views.append(view | ({"target": target} if target else {}))
        self.data += values.tobytes() + b"\0" * (-values.nbytes % 4)
        kind = _FLOAT if values.dtype == np.dtype("<f4") else _SHORT
        accessor: dict[str, Any] = {
            "bufferView": len(self.views) - 1, "componentType": kind, "count": len(values),
            "type": _KINDS[values.shape[1:]],
        }  # fmt: skip
        if limits:
            accessor |= {"min": np.atleast_1d(values.min(0)).tolist(), "max": np.atleast_1d(values.max(0)).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def glb(self, content: dict[str, Any]) -> bytes:
        content |= {"buffers": [{"byteLength": len(self.data)}], "bufferViews": self.views, "accessors": self.accessors}
        text = json.dumps(content, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        parts = struct.pack("<II", len(text), 0x4E4F534A) + text
        parts += struct.pack("<II", len(self.data), 0x004E4942) + bytes(self.data)
        return struct.pack("<III", 0x46546C67, 2, 12 + len(parts)) + parts


def quaternions(matrix: Array) -> Array:
    """Rotations (T, 3, 3) -> unit quaternions (T, 4), x, y, z, w, each on the side of the one before it."""
    m = matrix
    # The eigenvector of the largest eigenvalue of Bar-Itzhack's matrix (2000): no cases, no small divisors.
    k = np.empty((len(m), 4, 4))
    for i in range(3):
        j, n = (i + 1) % 3, (i + 2) % 3
        k[:, i, i] = m[:, i, i] - m[:, j, j] - m[:, n, n]
        k[:, i, j] = k[:, j, i] = m[:, i, j] + m[:, j, i]
        k[:, i, 3] = k[:, 3, i] = m[:, n, j] - m[:, j, n]
    k[:, 3, 3] = np.trace(m, axis1=1, axis2=2)
    found = np.linalg.eigh(k)[1][..., -1]
    signs = np.where((found[1:] * found[:-1]).sum(-1) < 0, -1.0, 1.0)
    return found * np.cumprod(np.concatenate(([1.0], signs)))[:, None]


# ------------------------------------------------------------ figure


def _places(offsets: Array) -> Array:
    """(N, 3), the joints of the rest pose, the hip at the origin."""
    places = np.zeros_like(offsets)
    for i, parent in enumerate(PARENTS):
        if parent >= 0:
            places[i] = places[parent] + offsets[i]
    return places


def _figure(file: _File, rest: Array) -> list[dict[str, Any]]:
    """The primitives of the mesh, one a side: capsules from joint to joint, in the rest pose."""
    parts: dict[str, list[tuple[Array, Array, int]]] = {side: [] for side in COLOURS}
    for i, (name, _, _, direction) in enumerate(RIG):
        side = {"L": "left", "R": "right"}.get(name[0], "centre") if name != "LowerBack" else "centre"
        parent = PARENTS[i]
        if any(direction):
            length = np.linalg.norm(rest[i] - rest[parent])
            radius = min(0.11 if name in ("Spine", "Neck") else 0.085 if name == "Head end" else 0.05, 0.45 * length)
            parts[side].append((*capsule(rest[parent], rest[i], radius), parent))
        if name.endswith(("Hand", "Foot")):
            way = np.array(direction, dtype=float) if name.endswith("Hand") else np.array((0, -0.3, 1.0))
            parts[side].append((*capsule(rest[i], rest[i] + TIP * way, 0.04), i))
    primitives = []
    for material, side in enumerate(COLOURS):
        counts = np.cumsum([0, *(len(points) for points, *_ in parts[side])])
        joints = np.zeros((counts[-1], 4), dtype="<u2")
        joints[:, 0] = np.repeat([joint for *_, joint in parts[side]], np.diff(counts))
        points = np.concatenate([points for points, *_ in parts[side]]).astype("<f4")
        triangles = np.concatenate([faces + first for (_, faces, _), first in zip(parts[side], counts, strict=False)])
        attributes = {
            "POSITION": file.add(points, _VERTICES, limits=True), "JOINTS_0": file.add(joints, _VERTICES),
            "WEIGHTS_0": file.add(np.tile(np.array((1, 0, 0, 0), dtype="<f4"), (len(points), 1)), _VERTICES),
        }  # fmt: skip
        indices = file.add(triangles.reshape(-1).astype("<u2"), _INDICES)
        primitives.append({"attributes": attributes, "indices": indices, "material": material})
    return primitives


def capsule(start: Array, end: Array, radius: float) -> tuple[Array, Array]:
    """Points (N, 3) and triangles (M, 3), seen from outside counter-clockwise, of a cylinder with round ends."""
    length = np.linalg.norm(end - start)
    along = (end - start) / max(length, 1e-9)
    across = np.cross(along, np.eye(3)[np.abs(along).argmin()])
    across /= np.linalg.norm(across)
    other = np.cross(along, across)
    rise = np.linspace(-np.pi / 2, np.pi / 2, 2 * RINGS)[:, None]
    height = radius * np.sin(rise) + np.where(rise < 0, 0, length)
    angle = np.arange(ROUND) * 2 * np.pi / ROUND
    circle = np.cos(angle)[:, None] * across + np.sin(angle)[:, None] * other
    points = start + height[:, None] * along + radius * np.cos(rise)[:, None] * circle
    ring, place = np.meshgrid(np.arange(2 * RINGS - 1) * ROUND, np.arange(ROUND), indexing="ij")
    a, b = (ring + place).ravel(), (ring + (place + 1) % ROUND).ravel()
    triangles = np.concatenate((np.stack((a, b, b + ROUND), -1), np.stack((a, b + ROUND, a + ROUND), -1)))
    return points.reshape(-1, 3), triangles
