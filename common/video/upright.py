"""Lifted poses, seen by a camera, put on a floor: upright, of human size, in metres.

Camera frame: x right, y down, z forward. World frame: x right, y away from the camera, z up. NumPy, (T, 17, 3).
"""

import json

import numpy as np

from common.bones import H36M_BONE_LENGTHS
from common.skeleton import H36M_16, H36M_17, convert

STEEPEST = 60.0  # degrees
_FEET_WEIGHT = 10.0  # of the line between the feet against the axis of the body
_ROUNDS = 10


def estimate_pitch(poses: np.ndarray) -> float:
    """How far the camera looks down, degrees, from poses of a person who mostly stands or walks.

    The vertical is the direction that the body's axis, from the middle of the feet to the thorax, has on average, and
    across which the line from foot to foot lies: least squares over all frames, those that fit ill (bent, lying, a foot
    in the air) counting less from round to round. The camera is not rolled. Beyond `STEEPEST` the person does
    something else than stand, and it is 0.
    """
    left, right, thorax = (
        poses[:, H36M_17.index(name)].astype(float) for name in ("left foot", "right foot", "thorax")
    )
    axis = thorax - (left + right) / 2
    height = np.linalg.norm(axis, axis=-1, keepdims=True).clip(1e-9)
    axis, feet = axis / height, (right - left) / height
    up, body_weight, feet_weight = np.array((0.0, -1.0, 0.0)), np.ones(len(poses)), np.ones(len(poses))
    for _ in range(_ROUNDS):
        apart = feet[:, 1:] * feet_weight[:, None]
        matrix = _FEET_WEIGHT * apart.T @ feet[:, 1:] + body_weight.sum() * np.eye(2)
        solved = np.linalg.solve(matrix, (body_weight[:, None] * axis[:, 1:]).sum(0))
        if not np.linalg.norm(solved) > 1e-9:
            return 0.0
        up = np.array((0.0, *(solved / np.linalg.norm(solved))))
        body_weight = 1 / (1 + ((axis - up) ** 2).sum(-1) / 0.04)
        feet_weight = body_weight / (1 + (feet @ up) ** 2 / 0.01)
    pitch = float(np.degrees(np.arctan2(-up[2], -up[1])))
    return pitch if abs(pitch) <= STEEPEST else 0.0


def to_world(poses: np.ndarray, pitch: float) -> np.ndarray:
    """Camera-frame poses -> world axes, of a camera that looks `pitch` degrees down. A rotation about x only."""
    sin, cos = np.sin(np.radians(pitch)), np.cos(np.radians(pitch))
    x, y, z = np.moveaxis(poses.astype(float), -1, 0)
    return np.stack((x, z * cos - y * sin, -y * cos - z * sin), -1)


def human_scale(poses: np.ndarray) -> float:
    """The factor that gives poses of unknown unit, in sum and on average, the bones of Human3.6M's people."""
    points = convert(poses.astype(float), H36M_17, H36M_16)
    parents, children = zip(*H36M_16.bones, strict=True)
    total = np.linalg.norm(points[:, list(children)] - points[:, list(parents)], axis=-1).sum(-1).mean()
    table = json.loads(H36M_BONE_LENGTHS.read_text())["lengths"]
    return float(np.mean([sum(lengths) for lengths in table.values()]) / max(total, 1e-12))


def height_scale(poses: np.ndarray, height: float) -> float:
    """The factor that gives poses of unknown unit the bones, medians of the clip, of somebody of that height, metres:
    thigh, shin and the way from hip to head, on an ankle of 8 cm.
    """
    leg = [
        ("left hip", "left knee"),
        ("left knee", "left foot"),
        ("right hip", "right knee"),
        ("right knee", "right foot"),
    ]
    trunk = [("hip", "spine"), ("spine", "thorax"), ("thorax", "neck"), ("neck", "head")]

    def length(a: str, b: str) -> float:
        return float(np.median(np.linalg.norm(poses[:, H36M_17.index(a)] - poses[:, H36M_17.index(b)], axis=-1)))

    total = sum(length(*bone) for bone in leg) / 2 + sum(length(*bone) for bone in trunk)
    return (height - 0.08) / max(total, 1e-12)


def on_floor(poses: np.ndarray) -> np.ndarray:
    """World poses with the lowest joint of every frame at z = 0: the way of the hip is not known, so feet do not fly,
    nor do people who jump.
    """
    return poses - np.array((0, 0, 1.0)) * poses[..., 2].min(1)[:, None, None]
