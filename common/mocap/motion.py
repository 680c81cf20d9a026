"""Motion capture -> people of Human3.6M's files: 17 joints, metres, z up, 50 Hz, where the four cameras see them.

A reader (`common.mocap.read`) gives a `Motion`, `common.mocap.joints` says which of its joints are Human3.6M's; the
functions here do the rest, over all frames at once. Poses are (T, 17, 3), NumPy.
"""

import zlib
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

from common.errors import InputError
from common.files.reading import most_bytes
from common.skeleton import H36M_17
from common.synthetic.behaviour import ARENA, FPS
from common.synthetic.motion import ANKLE_HEIGHT

# Metres. CMU's own unit, kept in the BVH files that were made of its ASF/AMC: 1 / 0.45 inch.
UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001, "inch": 0.0254, "cmu": 0.0254 / 0.45}
TYPICAL_HEIGHT = 1.62  # metres along the bones from ankle to the top of the head: mean of Human3.6M's people
HEIGHTS = (1.0, 2.2)  # a unit that makes nobody of this height is none
AXES = ("x", "y", "z", "-x", "-y", "-z")
# Metres between which the body parts of people, children included, lie; `body_lengths` makes them.
HUMAN = {
    "height": (1.1, 2.1), "hips": (0.08, 0.42), "thigh": (0.25, 0.58), "shin": (0.23, 0.56), "trunk": (0.3, 0.72),
    "neck and head": (0.09, 0.45), "shoulders": (0.2, 0.56), "upper arm": (0.15, 0.42), "forearm": (0.13, 0.36),
}  # fmt: skip
_J = {name: i for i, name in enumerate(H36M_17.joints)}
BYTES_OF_JOINT = 96  # in one frame, while its place is found: an axis system and a point in float64
_TRUSTED_FLOOR = (0.0, 0.16)  # metres in which the lowest ankle of a clip stands if the file's zero is its floor
_COPIES = 10  # of the points, while they are resampled
_JUMP = 0.03  # of the height: joints of a rest pose in the first frame are off the second one's by more


class Motion(NamedTuple):
    """One recording as its file has it."""

    joints: tuple[str, ...]
    positions: Array  # (T, J, 3) in the file's unit and axes
    fps: float
    unit: float | None = None  # metres of one unit, where the format says
    up: str | None = None  # one of AXES, where the format says


def turned(frames: Array, axis: int, angle) -> Array:
    """Coordinate frames turned about an axis of their own: R -> R R_axis(angle).

    frames: (3, 3, T), `frames[:, j]` is axis j of every frame; angle: degrees, (T,) or a number.
    """
    angle = np.deg2rad(angle)
    cos, sin = np.cos(angle), np.sin(angle)
    a, b = (axis + 1) % 3, (axis + 2) % 3
    result = frames.copy()
    result[:, a] = cos * frames[:, a] + sin * frames[:, b]
    result[:, b] = cos * frames[:, b] - sin * frames[:, a]
    return result


def moved(frames: Array, vector: Array) -> Array:
    """A vector (3,) or (3, T) of the frames (3, 3, T) in the frames' surroundings: (3, T)."""
    return frames[:, 0] * vector[0] + frames[:, 1] * vector[1] + frames[:, 2] * vector[2]


def check_finite(values: Array, path, what: str = "frame") -> None:
    """Refuse NaN and infinity in (T, ...) by the number of the first bad row."""
    bad = ~np.isfinite(values.reshape(len(values), -1)).all(1)
    if bad.any():
        raise InputError(
            f"NaN or infinity in {path}: {what} {bad.argmax() + 1} ({bad.sum()} bad in all): repair the file"
        )


# ------------------------------------------------------------ time


def without_rest_pose(poses: Array) -> Array:
    """Leave the first frame out where it is a rest pose, any unit: many BVH files begin with a T-pose.

    Then the joints leap from it to the second frame, and move by far less in the next ones.
    """
    if len(poses) < 4:
        return poses
    relative = poses[:8] - poses[:8, :1]
    steps = np.linalg.norm(np.diff(relative, axis=0), axis=-1).mean(1)
    leap = max(_JUMP * float(body_lengths(poses)["height"][0]), 4 * float(steps[1:].max()))
    return poses[1:] if steps[0] > leap else poses


def resample(points: Array, fps: float, target: float = FPS, path: object = "the motion") -> Array:
    """Points (T, ...) at `target` frames per second: cubic between the frames (Catmull-Rom), exact on them.

    Raises:
        InputError: the rate is not a positive number, or so low that the frames would be without number.
    """
    if not (np.isfinite(fps) and fps > 0):
        raise InputError(f"found {fps} frames per second; expected a number above 0 (--fps gives it)")
    near = round(fps)
    if near and abs(fps - near) < 2e-4 * near:  # a frame time of 0.008333 s means 120 frames per second
        fps = near
    if fps == target or len(points) < 2:
        return points
    count = int((len(points) - 1) * target / fps + 1e-9) + 1
    if count * points[0].nbytes * _COPIES > most_bytes(points.nbytes):
        raise InputError(f"{path}: {len(points):,} frames at {fps:.3g} a second are {count:,} at {target:g}: is the "
                         "frame time right? --fps gives the rate")  # fmt: skip
    time = np.arange(count) * (fps / target)
    index = np.minimum(time.astype(int), len(points) - 2)
    share = (time - index).reshape(-1, *(1,) * (points.ndim - 1))
    before, after = points[np.maximum(index - 1, 0)], points[np.minimum(index + 2, len(points) - 1)]
    start, stop = points[index], points[index + 1]
    slope, end_slope = (stop - before) / 2, (after - start) / 2
    rise = stop - start
    return start + share * (slope + share * (3 * rise - 2 * slope - end_slope + share * (slope + end_slope - 2 * rise)))


# ------------------------------------------------------------ size and axes


def body_lengths(poses: Array) -> dict[str, Array]:
    """Lengths of the body parts of poses (T, 17, 3), by name as in HUMAN, left and right apart: name -> (sides,) means.

    height: along the bones from ankle to the top of the head, mean of both legs.
    """

    def length(a: str, b: str) -> float:
        return float(np.linalg.norm(poses[:, _J[a]] - poses[:, _J[b]], axis=-1).mean())

    def sides(a: str, b: str) -> Array:
        return np.array([length(f"{side} {a}", f"{side} {b}") for side in ("left", "right")])

    parts = {
        "hips": np.array([length("left hip", "right hip")]),
        "thigh": sides("hip", "knee"),
        "shin": sides("knee", "foot"),
        "trunk": np.array([length("hip", "thorax")]),
        "neck and head": np.array([length("thorax", "head")]),
        "shoulders": np.array([length("left shoulder", "right shoulder")]),
        "upper arm": sides("shoulder", "elbow"),
        "forearm": sides("elbow", "wrist"),
    }
    spine = length("hip", "spine") + length("spine", "thorax")
    legs = (parts["thigh"] + parts["shin"]).mean()
    return {"height": np.array([legs + spine + parts["neck and head"][0]]), **parts}


def not_human(poses: Array) -> list[str]:
    """The faults of the body of poses (T, 17, 3) in metres, z up; one short phrase each."""
    found = []
    for part, values in body_lengths(poses).items():
        low, high = HUMAN[part]
        if not (low <= values.min() and values.max() <= high):
            found.append(f"{part} {' and '.join(f'{v:.2f}' for v in values)} m (people have {low} to {high})")
        elif len(values) == 2 and values.max() > 1.25 * values.min():
            found.append(f"left {part} {values[0]:.2f} m, right {values[1]:.2f} m")
    for part, (a, b) in {"thigh": ("hip", "knee"), "upper arm": ("shoulder", "elbow")}.items():
        lengths = np.linalg.norm(poses[:, _J[f"left {a}"]] - poses[:, _J[f"left {b}"]], axis=-1)
        if lengths.std() > 0.08 * lengths.mean():
            found.append(f"left {part} changes its length by {100 * lengths.std() / lengths.mean():.0f} %")
    if knees_bend_back(poses):
        found.append("knees bend backwards: are left and right swapped, or the file mirrored?")
    return found


def knees_bend_back(poses: Array, angle: float = 25.0) -> bool:
    """Whether knees of poses (T, 17, 3) bend the wrong way: so they do where left and right are swapped.

    The hinge, thigh x shin, points to the left of the pelvis (x forward, z up, sitting: x x -z = y). Knees bent by less
    than `angle` degrees, and clips with fewer than ten bent knees, do not count; nor do hinges that point elsewhere, as
    in sitting with crossed legs.
    """
    left = poses[:, _J["left hip"]] - poses[:, _J["right hip"]]
    left = left / np.linalg.norm(left, axis=-1, keepdims=True).clip(1e-12)
    hinges = []
    for side in ("left", "right"):
        hip, knee, foot = (poses[:, _J[f"{side} {joint}"]] for joint in ("hip", "knee", "foot"))
        thigh, shin = knee - hip, foot - knee
        hinge, along = np.cross(thigh, shin), (thigh * shin).sum(-1)
        length = np.linalg.norm(hinge, axis=-1)
        bent = np.arctan2(length, along) > np.deg2rad(angle)
        hinges.append(((hinge * left).sum(-1) / length.clip(1e-12))[bent])
    hinges = np.concatenate(hinges)
    return len(hinges) >= 10 and bool(np.median(hinges) < -0.4)


def find_unit(poses: Array, path) -> tuple[str, float]:
    """The unit, name and metres, in which poses (T, 17, 3) are of human height.

    Raises:
        InputError: none of UNITS does.
    """
    height = float(body_lengths(poses)["height"][0])
    name = min(UNITS, key=lambda unit: abs(np.log(max(height, 1e-9) * UNITS[unit] / TYPICAL_HEIGHT)))
    if not HEIGHTS[0] <= height * UNITS[name] <= HEIGHTS[1]:
        raise InputError(
            f"{path}: a body of {height:.4g} units from ankle to head is of human size in no unit of "
            f"{', '.join(UNITS)}; give the metres of one unit with --unit, or look at the joint map"
        )
    return name, UNITS[name]


def up_vote(poses: Array) -> Array:
    """(3,) mean direction from the feet to the thorax, in shares of its length when it never changes: at most 1."""
    up = poses[:, _J["thorax"]] - (poses[:, _J["left foot"]] + poses[:, _J["right foot"]]) / 2
    return (up / np.linalg.norm(up, axis=-1, keepdims=True).clip(1e-12)).mean(0)


def axis_of(vote: Array) -> str:
    """The axis of AXES nearest to a direction (3,)."""
    axis = int(np.abs(vote).argmax())
    return AXES[axis + 3 * bool(vote[axis] < 0)]


def to_z_up(points: Array, up: str) -> Array:
    """Points (..., 3) whose axis `up` (of AXES) points up -> z up, by a rotation: no mirror image."""
    axis, sign = AXES.index(up) % 3, -1 if up.startswith("-") else 1
    x, y = points[..., (axis + 1) % 3], points[..., (axis + 2) % 3]
    if axis == 1:  # y up is the rule: keep x
        x, y = y, -x
    return np.stack((x, sign * y, sign * points[..., axis]), -1)


# ------------------------------------------------------------ place


def on_floor(poses: Array) -> tuple[Array, float]:
    """Poses (T, 17, 3), metres, z up, with the floor at z = 0, and by how much they were lifted.

    The file's own zero is kept where the lowest ankle of the clip (2nd percentile) is at a height above it that an
    ankle can have. Otherwise that ankle goes to the height at which it stands.
    """
    ankles = poses[:, [_J["left foot"], _J["right foot"]], 2].min(1)
    low = float(np.percentile(ankles, 2))
    lift = 0.0 if _TRUSTED_FLOOR[0] <= low <= _TRUSTED_FLOOR[1] else ANKLE_HEIGHT - low
    return poses + (0, 0, lift), lift


def pieces(poses: Array, shortest: int = FPS) -> list[slice]:
    """Cut poses (T, 17, 3) where the person leaves a circle that all four cameras see; each piece as long as can be.

    A piece fits the smaller half axis of ARENA in any direction. Rests of fewer than `shortest` frames are left out,
    unless they are all there is.
    """
    path, found, start = poses[:, 0, :2], [], 0
    while start < len(path):
        low, high = np.minimum.accumulate(path[start:]), np.maximum.accumulate(path[start:])
        outside = np.hypot(*((high - low) / 2).T) > min(ARENA)
        count = max(int(outside.argmax()), 1) if outside.any() else len(outside)
        found.append(slice(start, start + count))
        start += count
    long = [piece for piece in found if piece.stop - piece.start >= shortest]
    return long or [max(found, key=lambda piece: piece.stop - piece.start)]


def place(poses: Array, name: str, seed: int = 0) -> Array:
    """Put a piece (T, 17, 3) on the floor of Human3.6M's room, in a direction that `name` and `seed` draw; float32.

    The middle of its path comes to the middle of the room, or as far off it as the path allows.
    """
    rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
    angle, away, share = rng.uniform(-np.pi, np.pi, 2).tolist() + [float(np.sqrt(rng.random()))]
    path = poses[:, 0, :2]
    low, high = path.min(0), path.max(0)
    cos, sin = np.cos(angle), np.sin(angle)
    room = max(min(ARENA) - float(np.hypot(*(high - low))) / 2, 0.0) * share
    flat = (poses[..., :2] - (low + high) / 2) @ np.array(((cos, sin), (-sin, cos)))
    flat += room * np.array((np.cos(away), np.sin(away)))
    return np.concatenate((flat, poses[..., 2:]), -1).astype(np.float32)
