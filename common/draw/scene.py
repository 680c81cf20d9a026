"""Scenes: checked sequences of poses on a floor, as a turntable camera sees them, panel by panel, with captions.

Geometry only; `common.draw.animation` puts it on paper. Frames: 3D poses are z-up, metres (`to_z_up` turns camera-frame
poses upright); keypoints are pixels, y down. A joint with a value that is not finite counts as missing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from common.camera import camera_to_world
from common.errors import InputError
from common.skeleton import Skeleton

PLACES = ("root", "floor", "world")
# How far a viewer looks down, degrees. From above: low enough to see a body from the front, high enough to see where it
# stands. Nearly level: of pictures whose published form is level, which hides the depth of the feet.
FROM_ABOVE, NEARLY_LEVEL = 14.0, 10.0


def as_array(values) -> np.ndarray:
    """Tensor, array or nested sequence -> float64 array."""
    return np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values, dtype=np.float64)


def to_z_up(poses, orientation=None) -> np.ndarray:
    """Camera-frame poses (..., 3) (x right, y down, z forward) -> z-up (..., 3), same unit; a rotation only.

    `orientation`: the camera's quaternion wxyz (4,), camera to world, gives the true vertical. Without it the camera is
    taken as level: (x, y, z) -> (x, z, -y).
    """
    poses = as_array(poses)
    if orientation is None:
        return np.stack((poses[..., 0], poses[..., 2], -poses[..., 1]), -1)
    return camera_to_world(torch.from_numpy(poses), torch.from_numpy(as_array(orientation))).numpy()


def camera_azimuth(orientation) -> float:
    """The turntable's `azimuth` in degrees at which it looks the way the camera with this quaternion (4,) does."""
    right = to_z_up((1.0, 0.0, 0.0), orientation)
    return math.degrees(math.atan2(right[1], right[0]))


def turntable(points, azimuth=0.0, elevation: float = FROM_ABOVE, distance: float = 8.0):
    """Perspective view of z-up points (..., 3): screen (..., 2), x right and y up, and depth (...) from the origin.

    The viewer circles the z axis and looks at the origin, `elevation` degrees above it, from `distance` (the points'
    unit; lengths at the origin are kept). `azimuth` (degrees, broadcast over the points): at 0, x points right and y
    away.
    """
    x, y, z = np.moveaxis(as_array(points), -1, 0)
    angle, tilt = np.deg2rad(azimuth), math.radians(elevation)
    right = x * np.cos(angle) + y * np.sin(angle)
    away = y * np.cos(angle) - x * np.sin(angle)
    depth = away * math.cos(tilt) - z * math.sin(tilt)
    up = away * math.sin(tilt) + z * math.cos(tilt)
    scale = distance / np.maximum(distance + depth, distance / 10)
    return np.stack((right, up), -1) * scale[..., None], depth


# --------------------------------------------------------------------------------------------------------------- panels


@dataclass(frozen=True)
class Panel:
    """Joints, floor and shadow of one sequence in each of T frames, on the plane of a picture."""

    skeleton: Skeleton
    joints: np.ndarray  # (T, J, 2)
    depth: np.ndarray  # (T, J), the far bones are drawn first
    bounds: np.ndarray  # (2, 2), the lower left and the upper right corner to show
    floor: np.ndarray | None = None  # (K, 2), outline
    grid: np.ndarray | None = None  # (T, L, 2, 2), lines on the floor
    shadow: np.ndarray | None = None  # (T, J, 2)
    spacing: float | None = None  # of the grid


def panel_2d(keypoints: np.ndarray, skeleton: Skeleton) -> Panel:
    """Panel of keypoints (T, J, 2), pixels, y down; the bounds hold the whole sequence."""
    (left, top), (right, bottom) = _extent(keypoints)
    margin = 0.08 * max(right - left, bottom - top, 1e-6)
    bounds = np.array(((left - margin, bottom + margin), (right + margin, top - margin)))
    return Panel(skeleton, keypoints, np.zeros(keypoints.shape[:2]), bounds)


def panels_3d(
    poses: Sequence[np.ndarray],
    skeletons: Sequence[Skeleton],
    azimuth: np.ndarray,
    elevation: float = FROM_ABOVE,
    place: str = "root",
) -> list[Panel]:
    """Panels of z-up poses, each (T, J, 3), in one scale and on floors of one size; `azimuth` (T,) in degrees."""
    placed = [_place(p, s.root, place) for p, s in zip(poses, skeletons, strict=True)]
    height = max(_extent(p)[1][2] for p in placed)
    reach = max(_extent(np.linalg.norm(p[..., :2], axis=-1, keepdims=True))[1][0] for p in placed)
    radius = max(1.1 * reach, 0.3 * height) or 1.0
    spacing = _round_length(radius / 1.5)

    def look(points, angles):  # from so far that the perspective is mild, whatever the size of the scene
        return turntable(points - (0, 0, height / 2), angles, elevation, distance=5 * max(radius, height))

    circle = np.linspace(0, 2 * np.pi, 73)
    floor, _ = look(radius * np.stack((np.cos(circle), np.sin(circle), 0 * circle), -1), 0.0)
    grid, _ = look(_grid(radius, spacing)[None], azimuth[:, None, None])
    seen = [look(p, azimuth[:, None]) for p in placed]
    shadows = [look(p * (1, 1, 0), azimuth[:, None])[0] for p in placed]
    low, high = _extent(np.concatenate([floor, *(screen.reshape(-1, 2) for screen, _ in seen)]))
    bounds = np.stack((low, high)) + np.array(((-0.03,), (0.03,))) * (high - low)
    return [
        Panel(skeleton, screen, depth, bounds, floor, grid, shadow, spacing)
        for skeleton, (screen, depth), shadow in zip(skeletons, seen, shadows, strict=True)
    ]


def _place(poses: np.ndarray, root: int, place: str) -> np.ndarray:
    """Move poses (T, J, 3) over the origin, z = 0 at the lowest joint of the sequence (`animation.save_animation`)."""
    present = np.isfinite(poses).all(-1, keepdims=True)
    mean = np.where(present, poses, 0).sum(1) / present.sum(1).clip(1)
    anchor = np.where(present[:, root], poses[:, root], mean)  # (T, 3): the root, or the middle of what there is
    if place == "world":
        low, high = _extent(anchor)
        anchor = np.broadcast_to((low + high) / 2, anchor.shape)
    elif place == "floor":
        anchor[:, 2] = np.where(present[..., 0], poses[..., 2], np.inf).min(1)
    placed = np.where(present, poses - anchor[:, None], np.nan)
    return placed - (0, 0, _extent(placed)[0][2])


def _extent(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest coordinates of the finite points of (..., D), each (D,); zeros where there are none."""
    flat = points.reshape(-1, points.shape[-1])
    flat = flat[np.isfinite(flat).all(-1)]
    return (flat.min(0), flat.max(0)) if len(flat) else (np.zeros(points.shape[-1]),) * 2


def _round_length(length: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not above `length`."""
    power = 10.0 ** math.floor(math.log10(length))
    return max(step for step in (1, 2, 5) if step == 1 or step * power <= length) * power


def _grid(radius: float, spacing: float) -> np.ndarray:
    """Lines (L, 2, 3) of a square grid that fill a round floor."""
    count = int(radius / spacing)
    offset = spacing * np.arange(-count, count + 1)
    half = np.sqrt(np.maximum(radius**2 - offset**2, 0))
    along = np.stack((np.stack((-half, offset), -1), np.stack((half, offset), -1)), 1)
    lines = np.concatenate((along, along[..., ::-1]))
    return np.concatenate((lines, np.zeros_like(lines[..., :1])), -1)


def drawn_bones(skeleton: Skeleton) -> np.ndarray:
    """Pairs of joints (B, 2) to join: the skeleton's bones, and lines across a torso that has no centre joints."""
    across = {"hip": ("left hip", "right hip"), "thorax": ("left shoulder", "right shoulder")}
    extra = [tuple(map(skeleton.index, pair)) for centre, pair in across.items() if centre not in skeleton.joints]
    return np.array([*skeleton.bones, *extra])


def side_of(skeleton: Skeleton, *joints: int) -> str:
    """Side of a joint or a bone: "left", "right", or "centre" where it has none or touches both."""
    sides = {"left" if j in skeleton.left else "right" for j in joints if j in skeleton.left + skeleton.right}
    return sides.pop() if len(sides) == 1 else "centre"


# --------------------------------------------------------------------------------------------------------------- scene


@dataclass(frozen=True)
class Scene:
    """Panels of one sequence with what is written over and under them."""

    panels: list[Panel]
    titles: list[str]
    errors: dict[int, np.ndarray]  # index of the panel -> (T,), mm
    metric: str

    def __len__(self) -> int:
        return len(self.panels[0].joints)

    def error(self, panel: int, t: int) -> str:
        """The error of a panel's frame, empty where none is known."""
        if panel not in self.errors:
            return ""
        value = self.errors[panel][t]
        return f"{self.metric} {value:.1f} mm" if math.isfinite(value) else f"{self.metric} unknown"

    def caption(self, panel: int, t: int) -> str:
        """The line under a panel: its error, and under the first one the frame number too."""
        frame = f"frame {t + 1}/{len(self)}" if panel == 0 else ""
        return ", ".join(filter(None, (frame, self.error(panel, t))))


def make_scene(
    panels, titles, skeleton, azimuth=0.0, turn=0.0, elevation=FROM_ABOVE, place="root", errors=None, metric="MPJPE"
) -> Scene:
    """Check what a caller gave and make the `Scene`: `animation.save_animation`, but `turn` is degrees per frame."""
    if place not in PLACES:
        raise InputError(f"unknown place {place!r}; use one of {', '.join(PLACES)}")
    panels, skeletons = _check_panels(panels, titles, skeleton)
    errors = _check_errors(errors, panels)
    solid = [i for i, panel in enumerate(panels) if panel.shape[-1] == 3]
    shown = {i: panel_2d(panels[i], skeletons[i]) for i in range(len(panels)) if i not in solid}
    if solid:
        chosen = [panels[i] for i in solid], [skeletons[i] for i in solid]
        angles = azimuth + turn * np.arange(len(panels[0]))
        shown.update(zip(solid, panels_3d(*chosen, angles, elevation, place), strict=True))
    return Scene([shown[i] for i in range(len(panels))], list(titles), errors, metric)


def check_points(name: str, points, skeleton: Skeleton, dims: tuple[int, ...]) -> np.ndarray:
    """Points (T, J, D) as float64, missing joints NaN throughout; InputError unless J fits and D is one of `dims`."""
    points = as_array(points)
    if points.ndim != 3 or points.shape[1] != skeleton.num_joints or points.shape[2] not in dims or not len(points):
        expected = " or ".join(f"(T, {skeleton.num_joints}, {d})" for d in dims)
        raise InputError(f"{name}: found shape {points.shape}, expected {expected} with T > 0 for {skeleton.name}")
    return np.where(np.isfinite(points).all(-1, keepdims=True), points, np.nan)


def _check_panels(panels, titles, skeleton) -> tuple[list[np.ndarray], list[Skeleton]]:
    """Panels as arrays of one length, and a skeleton for each."""
    skeletons = [skeleton] * len(panels) if isinstance(skeleton, Skeleton) else list(skeleton)
    if not len(panels) == len(titles) == len(skeletons) > 0:
        raise InputError(f"found {len(panels)} panels, {len(titles)} titles, {len(skeletons)} skeletons; give one each")
    named = list(zip(titles, panels, skeletons, strict=True))
    panels = [check_points(f"panel {title!r}", panel, s, (2, 3)) for title, panel, s in named]
    if len({len(panel) for panel in panels}) > 1:
        found = ", ".join(f"{title!r} {len(panel)}" for title, panel in zip(titles, panels, strict=True))
        raise InputError(f"panels of different lengths in frames: {found}; cut them to the same frames")
    return panels, skeletons


def _check_errors(errors, panels: list[np.ndarray]) -> dict[int, np.ndarray]:
    """Errors by panel, each (T,)."""
    if errors is None:
        return {}
    if not isinstance(errors, Mapping):
        errors = {next((i for i, panel in enumerate(panels) if panel.shape[-1] == 3), 0): errors}
    errors = {panel: as_array(values) for panel, values in errors.items()}
    for panel, values in errors.items():
        if panel not in range(len(panels)) or values.shape != (len(panels[0]),):
            raise InputError(
                f"errors of panel {panel}: found shape {values.shape}, expected ({len(panels[0])},), one per frame, "
                f"and a panel from 0 to {len(panels) - 1}"
            )
    return errors
