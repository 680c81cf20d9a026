"""BVH files of poses, which Blender opens; `common.mocap.bvh` reads them."""

import os

import numpy as np
from numpy import ndarray as Array

from common.files.atomic import write_atomic
from common.video import rig
from common.video.rig import END, PARENTS, RIG

_TIP = 0.06  # metres of the end site that a hand or foot gets: a joint at the end of a branch must have one


def write_bvh(path: str | os.PathLike, poses: Array, fps: float, bones: str = "cmu") -> None:
    """Write poses (T, 17, 3), world frame, metres, z up, as a BVH file: metres, y up, as Blender's import expects.

    Lengths and rotations are those of `rig.fit`; bones: whose names the joints have, one of `rig.BONES`.

    Raises:
        InputError: what `rig.fit` refuses, or the file cannot be written.
    """
    names = rig.names_of(bones)
    offsets, root, turns = rig.fit(poses, fps, path)
    turning = [i for i in range(len(RIG)) if i != END]
    angles = np.stack([np.rad2deg(np.unwrap(_euler_zxy(turns[:, i]), axis=0)) for i in turning], 1)
    values = np.concatenate((root, angles.reshape(len(root), -1)), 1)
    lines = ["HIERARCHY", *_hierarchy_lines(offsets, names)]
    lines += ["MOTION", f"Frames: {len(root)}", f"Frame Time: {1 / fps:.9g}"]
    row = " ".join(["%.6f"] * values.shape[1])
    lines += [row % tuple(frame) for frame in values.tolist()]
    write_atomic(path, lambda file: file.write(("\n".join(lines) + "\n").encode("ascii")))


def _euler_zxy(matrix: Array) -> Array:
    """Angles (T, 3) about z, x, y in radians with R = Rz Rx Ry; where x is a right angle, y is 0."""
    m = matrix
    cosine = np.hypot(m[:, 2, 0], m[:, 2, 2])
    locked = cosine < 1e-7
    z = np.where(locked, np.arctan2(m[:, 1, 0], m[:, 0, 0]), np.arctan2(-m[:, 0, 1], m[:, 1, 1]))
    y = np.where(locked, 0.0, np.arctan2(-m[:, 2, 0], m[:, 2, 2]))
    return np.stack((z, np.arctan2(m[:, 2, 1], cosine), y), -1)


def _hierarchy_lines(offsets: Array, names: tuple[str, ...]) -> list[str]:
    """The text from ROOT to its closing brace."""

    def block(i: int, depth: int) -> list[str]:
        name, tabs = names[i], "\t" * depth
        children = [child for child, parent in enumerate(PARENTS) if parent == i]
        if i == END:
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
