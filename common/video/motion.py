"""Motion of a person from root-relative poses: path by perspective, filter, constant bones, feet that do not slide.

Camera frame: x right, y down, z forward; world frame: x right, y away from the camera, z up. Metres, pixels, NumPy.
Feet are Human3.6M's, the ankles. Every function takes T frames of equal distance in time, `fps` of them a second.
"""

from typing import NamedTuple

import numpy as np

from common.errors import InputError
from common.skeleton import H36M_17
from common.video import upright

CUTOFF, DEPTH_CUTOFF, ROOT_CUTOFF = (
    6.0,
    1.5,
    3.0,
)  # Hz, at strength 1: of joints, of the depth of a path, of its planting
CONTACT_CUTOFF = 3.0  # Hz, of the feet whose speed is looked at
SLOW, LOW, SHORTEST = 0.45, 0.10, 0.1  # of a foot in contact: metres a second, metres above the floor, seconds
BLEND = 0.12  # seconds in which a foot goes to and from its place
NEAREST = 0.3  # metres from the camera: nobody stands behind it
ROBUST_ROUNDS = 4
STEEPEST_FLOOR = 0.07  # slope by which feet may correct the camera's angles
FEET = tuple(H36M_17.index(f"{side} foot") for side in ("left", "right"))
LEGS = tuple(tuple(H36M_17.index(f"{side} {joint}") for joint in ("hip", "knee", "foot")) for side in ("left", "right"))


class Grounded(NamedTuple):
    """poses: (T, 17, 3), world frame, the floor at z = 0. contact: (T, 2) bool, left and right foot."""

    poses: np.ndarray
    contact: np.ndarray


# ------------------------------------------------------------ filter


def smooth(values: np.ndarray, fps: float, cutoff: float, weights: np.ndarray | None = None) -> np.ndarray:
    """The curves (T, ...) that stay near `values` and bend least: penalised least squares (Whittaker 1923).

    Minimises sum w (x - values)^2 + k sum (second difference of x)^2, without delay; k is such that with weights of 1
    an oscillation of `cutoff` Hz keeps half its size. weights: (T, ...), which broadcast; 0 where nothing is known.
    """
    count = len(values)
    if count < 3 or not cutoff > 0 or cutoff >= fps / 2:
        return np.array(values, dtype=float)
    flat = np.asarray(values, dtype=float).reshape(count, -1)
    wide = np.ones_like(flat) if weights is None else np.broadcast_to(weights, values.shape).reshape(count, -1)
    stiffness = (2 * np.sin(np.pi * cutoff / fps)) ** -4
    return _solve_bands(wide + 1e-9, stiffness, wide * flat).reshape(values.shape)


def _solve_bands(weights: np.ndarray, stiffness: float, right: np.ndarray) -> np.ndarray:
    """x (T, C) of (diag(weights) + stiffness D'D) x = right, D the second difference: Cholesky of five bands."""
    count = len(right)
    difference = np.zeros((count - 2, 3)) + (1.0, -2.0, 1.0)
    bands = np.zeros((3, count))  # main diagonal and the two below it
    for a in range(3):
        for b in range(a, 3):
            bands[b - a, a : count - 2 + a] += difference[:, a] * difference[:, b]
    bands *= stiffness
    diagonal, near, far, x = (np.zeros_like(right) for _ in range(4))
    for t in range(count):
        main, first, second = weights[t] + bands[0, t], bands[1, t], bands[2, t]
        value = right[t]
        if t > 0:
            main = main - near[t - 1] ** 2 * diagonal[t - 1]
            first = first - near[t - 1] * far[t - 1] * diagonal[t - 1]
            value = value - near[t - 1] * x[t - 1]
        if t > 1:
            main = main - far[t - 2] ** 2 * diagonal[t - 2]
            value = value - far[t - 2] * x[t - 2]
        diagonal[t], near[t], far[t], x[t] = main, first / main, second / main, value
    x /= diagonal
    for t in range(count - 2, -1, -1):
        x[t] -= near[t] * x[t + 1]
        if t < count - 2:
            x[t] -= far[t] * x[t + 2]
    return x


def without_jitter(poses: np.ndarray, fps: float, strength: float = 1.0) -> np.ndarray:
    """Poses (T, 17, 3) or keypoints (T, 17, 2) filtered over time; 0 returns them as they are, 2 halves the cut-off.

    A joint that jumps away from its own curve for some frames counts less from round to round.
    """
    if not strength > 0 or len(poses) < 3:
        return poses
    weights = np.ones((*poses.shape[:2], 1))
    for _ in range(ROBUST_ROUNDS):
        filtered = smooth(poses, fps, CUTOFF / strength, weights)
        away = np.linalg.norm(poses - filtered, axis=-1, keepdims=True)
        usual = 3 * np.median(away, axis=0, keepdims=True).clip(1e-9)
        weights = 1 / (1 + (away / usual) ** 2) ** 2
    return filtered.astype(poses.dtype)


def constant_bones(poses: np.ndarray) -> np.ndarray:
    """Poses (T, 17, 3) whose bones keep their directions and have their median length of the clip; the hip stays."""
    result = poses.astype(float)
    for parent, child in H36M_17.bones:  # parents before children
        bone = poses[:, child].astype(float) - poses[:, parent]
        length = np.linalg.norm(bone, axis=-1, keepdims=True)
        result[:, child] = result[:, parent] + bone * np.median(length) / length.clip(1e-9)
    return result.astype(poses.dtype)


# ------------------------------------------------------------ path


def focal_pixels(focal: float, size: tuple[int, int]) -> float:
    """A focal length in pixels: up to 20 it is in shares of the picture's longer side."""
    return focal * max(size) if focal <= 20 else focal


def root_path(
    poses: np.ndarray, keypoints: np.ndarray, focal: float, size: tuple[int, int], weights: np.ndarray | None = None
) -> np.ndarray:
    """Where the hip is, (T, 3), camera frame, so that the poses lie on their keypoints.

    Of every frame the least squares of f (x + X) = u (z + Z) over the joints, u from the picture's middle; joints that
    fit ill count less from round to round. Nobody is nearer than `NEAREST`.

    Args:
        poses: (T, 17, 3), metres, the hip at the origin.
        keypoints: (T, 17, 2), pixels.
        focal: pixels.
        weights: (T, 17), of the keypoints, such as their confidence.
    """
    slope = (keypoints.astype(float) - np.array(size) / 2) / focal
    one, zero = np.ones(poses.shape[:2]), np.zeros(poses.shape[:2])
    matrix = np.stack(
        (np.stack((one, zero, -slope[..., 0]), -1), np.stack((zero, one, -slope[..., 1]), -1)), 2
    )  # (T, 17, 2, 3)
    right = slope * poses[..., 2:] - poses[..., :2]
    given = one if weights is None else weights.clip(1e-3)
    weight = given
    for _ in range(ROBUST_ROUNDS):
        weighted = matrix * weight[..., None, None]
        normal = np.einsum("tjai,tjak->tik", weighted, matrix) + 1e-9 * np.eye(3)
        path = np.linalg.solve(normal, np.einsum("tjai,tja->ti", weighted, right)[..., None])[..., 0]
        away = np.linalg.norm(np.einsum("tjai,ti->tja", matrix, path) - right, axis=-1)
        usual = 2 * np.median(away, axis=1, keepdims=True).clip(1e-6)
        weight = given / (1 + (away / usual) ** 2)
    path[:, 2] = path[:, 2].clip(NEAREST)
    return path


def smooth_path(path: np.ndarray, fps: float, strength: float = 1.0) -> np.ndarray:
    """A path (T, 3), camera frame, filtered: its depth, which is least certain, more than its direction."""
    if not strength > 0 or len(path) < 3:
        return path
    depth = np.log(path[:, 2:])
    sights = path[:, :2] / path[:, 2:]
    weights = np.ones_like(depth)
    for _ in range(ROBUST_ROUNDS):
        even = smooth(depth, fps, DEPTH_CUTOFF / strength, weights)
        away = np.abs(depth - even)
        weights = 1 / (1 + (away / (3 * np.median(away).clip(1e-9))) ** 2)
    sights = smooth(sights, fps, CUTOFF / strength)
    return np.concatenate((sights, np.ones_like(even)), -1) * np.exp(even)


# ------------------------------------------------------------ floor and feet


def contacts(feet: np.ndarray, fps: float) -> np.ndarray:
    """When each foot stands, (T, 2) bool: slow, and near the height at which slow feet are. feet: (T, 2, 3), world."""
    if len(feet) < 3:
        return np.zeros(feet.shape[:2], bool)
    feet = smooth(feet, fps, CONTACT_CUTOFF)
    speed = np.linalg.norm(np.gradient(feet, 1 / fps, axis=0), axis=-1)
    slow = speed < SLOW
    if not slow.any():
        return slow
    # The floor under a place: what is not known of the camera's angles makes it slope a little.
    height = np.quantile(feet[..., 2][slow], 0.2)
    standing = slow & (feet[..., 2] < height + LOW)
    needed = max(2, round(SHORTEST * fps))
    for foot in range(standing.shape[1]):
        for start, stop in _runs(standing[:, foot]):
            if stop - start < needed:
                standing[start:stop, foot] = False
    return standing


def grounded(poses: np.ndarray, fps: float, level: bool = True, plant_feet: bool = True) -> Grounded:
    """A moving person, world frame, put on the floor: the floor level, feet in contact at rest.

    Args:
        poses: (T, 17, 3), metres, filtered.
        level: let the feet's places correct the camera's angles.
        plant_feet: hold feet in contact at their places, by the path and then by the legs' bending.
    """
    poses = poses.astype(float)
    contact = contacts(poses[:, list(FEET)], fps)
    if not contact.any():
        return Grounded(poses - (0, 0, np.quantile(poses[..., 2].min(1), 0.1)), contact)
    if level:
        poses = poses @ _levelling(poses[:, list(FEET)][contact]).T
        contact = contacts(poses[:, list(FEET)], fps)
    if contact.any():
        poses = poses - (0, 0, np.median(poses[:, list(FEET), 2][contact]))
        if plant_feet:
            poses = _planted(poses, contact, fps)
    return Grounded(poses, contact)


def _levelling(places: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) that makes the floor under places (N, 3) level; slopes of more than some degrees are not
    believed, nor those of places close together.
    """
    flat = places[:, :2] - places[:, :2].mean(0)
    height = places[:, 2] - np.median(places[:, 2])
    weights, slope = np.ones(len(places)), np.zeros(2)
    for _ in range(ROBUST_ROUNDS):
        # A prior: places are 5 cm off the floor, slopes 2 degrees, and neighbours in time err alike.
        normal = (flat * weights[:, None]).T @ flat + 2.0 * max(len(places) / 100, 1) * np.eye(2)
        slope = np.linalg.solve(normal, (flat * weights[:, None]).T @ height)
        weights = 1 / (1 + ((height - flat @ slope) / 0.05) ** 2)
    slope *= min(1, STEEPEST_FLOOR / max(np.linalg.norm(slope), 1e-9))
    up = np.array((*-slope, 1.0)) / np.sqrt(1 + slope @ slope)
    axis = np.cross(up, (0, 0, 1.0))
    skew = np.cross(np.eye(3), -axis)
    return np.eye(3) + skew + skew @ skew / (1 + up[2])


def _planted(poses: np.ndarray, contact: np.ndarray, fps: float) -> np.ndarray:
    """Poses whose feet in contact stand still: the whole body is moved smoothly, what is left is done by the legs."""
    away, _ = _to_their_places(poses, contact, fps)
    weights = contact.sum(1, keepdims=True)
    mean = (away * contact[..., None]).sum(1) / weights.clip(1)
    poses = poses + smooth(mean, fps, ROOT_CUTOFF, np.where(weights > 0, weights, 0.02))[:, None]
    _, blended = _to_their_places(poses, contact, fps)
    poses = poses.copy()
    for foot, leg in enumerate(LEGS):
        poses[:, leg[1]], poses[:, leg[2]] = bend(*poses[:, leg].swapaxes(0, 1), blended[:, foot])
    return poses


def _to_their_places(poses: np.ndarray, contact: np.ndarray, fps: float) -> tuple[np.ndarray, np.ndarray]:
    """How far each foot in contact is from where it stands, and the same with soft beginnings and ends; (T, 2, 3)."""
    away, soft = np.zeros((2, *contact.shape, 3))
    reach = max(1, round(BLEND * fps))
    fade = (0.5 + 0.5 * np.cos(np.pi * np.arange(1, reach + 1) / (reach + 1)))[:, None]
    for foot, joint in enumerate(FEET):
        for start, stop in _runs(contact[:, foot]):
            place = np.median(poses[start:stop, joint], axis=0)
            if abs(place[2]) < LOW:
                place[2] = 0
            away[start:stop, foot] = place - poses[start:stop, joint]
            soft[start:stop, foot] = away[start:stop, foot]
            before, after = min(reach, start), min(reach, len(poses) - stop)
            soft[start - before : start, foot] += away[start, foot] * fade[:before][::-1]
            soft[stop : stop + after, foot] += away[stop - 1, foot] * fade[:after]
    return away, soft


def bend(hip: np.ndarray, knee: np.ndarray, foot: np.ndarray, move: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Knees and feet (T, 3) of legs whose feet are moved by `move`, with bones of the same lengths, the knee bending in
    the same direction. A foot beyond reach comes as near as the leg allows.
    """
    thigh, shin = (np.linalg.norm(a - b, axis=-1, keepdims=True) for a, b in ((knee, hip), (foot, knee)))
    line = foot + move - hip
    wanted = np.linalg.norm(line, axis=-1, keepdims=True).clip(1e-9)
    line = line / wanted
    length = np.clip(wanted, np.abs(thigh - shin) + 1e-6, thigh + shin)
    aside = (knee - hip) - ((knee - hip) * line).sum(-1, keepdims=True) * line
    aside = aside / np.linalg.norm(aside, axis=-1, keepdims=True).clip(1e-9)
    along = (thigh**2 - shin**2 + length**2) / (2 * length)
    bent = hip + along * line + np.sqrt((thigh**2 - along**2).clip(0)) * aside
    still = (move == 0).all(-1, keepdims=True)
    return np.where(still, knee, bent), np.where(still, foot, hip + length * line)


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Beginnings and ends of the runs of true values, (T,) bool."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(int), [0]))))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


# ------------------------------------------------------------ all of it


def moving(
    poses: np.ndarray,
    keypoints: np.ndarray,
    fps: float,
    focal: float,
    size: tuple[int, int],
    weights: np.ndarray | None = None,
    strength: float = 1.0,
    pitch: float | None = None,
    plant_feet: bool = True,
    same_bones: bool = False,
) -> tuple[Grounded, float]:
    """Root-relative poses (T, 17, 3), camera frame, metres -> the person as it moves in the world, and the camera's
    pitch in degrees, as given or found. The hip of the first frame is over the origin.
    """
    filtered = without_jitter(poses, fps, strength)
    filtered = constant_bones(filtered) if same_bones else filtered
    path = root_path(filtered, keypoints, focal, size, weights)
    if (path[:, 2] <= NEAREST).mean() > 0.5:
        raise InputError("the keypoints do not look like the lifted poses: no way of the hip fits; check --focal")
    path = smooth_path(path, fps, strength)
    angle = upright.estimate_pitch(filtered) if pitch is None else pitch
    world = upright.to_world(filtered + path[:, None], angle)
    world -= world[0, 0] * (1, 1, 0)
    found = grounded(world, fps, level=pitch is None, plant_feet=plant_feet)
    return found._replace(poses=found.poses - found.poses[0, 0] * (1, 1, 0)), angle
