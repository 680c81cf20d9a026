"""3D joints of people whom several calibrated cameras see, triangulated from a detector's 2D joints.

World: metres. Camera: x right, y down, z forward; camera = R (world - place). NumPy; C cameras, T frames, J joints.
"""

import itertools
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from common.errors import InputError

_ROUNDS = 8
_TOLERATED = 10.0  # pixels of reprojection, from which on a camera counts less and less
_RADIAL = ("radialDistortion1", "radialDistortion2", "radialDistortion3")
_TANGENTIAL = ("tangentalDistortion1", "tangentalDistortion2")  # as the files spell it


class CalibratedCamera(NamedTuple):
    rotation: np.ndarray  # (3, 3)
    place: np.ndarray  # (3,) metres
    focal: np.ndarray  # (2,) pixels
    centre: np.ndarray  # (2,) pixels
    radial: np.ndarray  # (3,)
    tangential: np.ndarray  # (2,)

    def see(self, world: np.ndarray) -> np.ndarray:
        """World points (..., 3) -> camera frame."""
        return (world - self.place) @ self.rotation.T


def read_calibration(path: Path) -> list[CalibratedCamera]:
    """Cameras of a Qualisys calibration (.qca.txt): lengths in the picture and distortion are in 1/64, places in mm."""
    try:
        return [_camera(entry) for entry in ElementTree.parse(path).getroot().iter("camera")]
    except (OSError, ElementTree.ParseError, AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a calibration ({error}); expected Qualisys's XML") from error


def _camera(entry: ElementTree.Element) -> CalibratedCamera:
    transform, intrinsic = entry.find("transform"), entry.find("intrinsic")
    rotation = [[float(transform.get(f"r{row}{column}")) for column in (1, 2, 3)] for row in (1, 2, 3)]

    def values(*names: str) -> np.ndarray:
        return np.array([float(intrinsic.get(name)) for name in names]) / 64

    return CalibratedCamera(
        np.diag((1.0, -1.0, -1.0)) @ rotation,
        np.array([float(transform.get(axis)) for axis in "xyz"]) / 1000,
        values("focalLengthU", "focalLengthV"), values("centerPointU", "centerPointV"),
        values(*_RADIAL), values(*_TANGENTIAL),
    )  # fmt: skip


def slopes(pixels: np.ndarray, camera: CalibratedCamera) -> np.ndarray:
    """Pixels (..., 2) -> x / z and y / z, without the lens's distortion (Brown's model, inverted step by step)."""
    seen = (pixels - camera.centre) / camera.focal
    x, (p1, p2) = seen.copy(), camera.tangential
    for _ in range(5):
        r2 = (x * x).sum(-1)
        scale = 1 + r2 * (camera.radial[0] + r2 * (camera.radial[1] + r2 * camera.radial[2]))
        xy = x[..., 0] * x[..., 1]
        aside = (2 * p1 * xy + p2 * (r2 + 2 * x[..., 0] ** 2), p1 * (r2 + 2 * x[..., 1] ** 2) + 2 * p2 * xy)
        x = (seen - np.stack(aside, -1)) / scale[..., None]
    return x


def triangulate(points: np.ndarray, cameras: list[CalibratedCamera]) -> tuple[np.ndarray, np.ndarray]:
    """Points (C, T, J, 3: x, y in pixels, confidence; NaN unseen) -> world (T, J, 3), reprojection (C, T, J) pixels.

    Linear, weighted by confidence and, from round to round, by how well a camera agrees (Cauchy). NaN where fewer than
    two cameras see a joint.
    """
    seen = np.isfinite(points).all(-1)
    confidence = np.where(seen, np.nan_to_num(points[..., 2]).clip(0.05, 1), 0)
    ways = [slopes(np.nan_to_num(one[..., :2]), camera) for one, camera in zip(points, cameras, strict=True)]
    rows = []
    for way, camera in zip(ways, cameras, strict=True):
        matrix = np.column_stack((camera.rotation, -camera.rotation @ camera.place))
        rows.append(way[..., None] * matrix[2] - matrix[:2])  # (T, J, 2, 4)
    weights = confidence
    for _ in range(_ROUNDS):
        system = np.concatenate([weight[..., None, None] * row for weight, row in zip(weights, rows, strict=True)], -2)
        solved = np.linalg.svd(system)[2][..., -1, :]
        with np.errstate(invalid="ignore", divide="ignore"):
            world = solved[..., :3] / solved[..., 3:]
        errors = np.stack([_reprojection(world, *pair) for pair in zip(ways, cameras, strict=True)])
        weights = np.nan_to_num(confidence / (1 + (errors / _TOLERATED) ** 2))
    world[seen.sum(0) < 2] = np.nan
    return world, np.where(seen, errors, np.nan)


def _reprojection(world: np.ndarray, way: np.ndarray, camera: CalibratedCamera) -> np.ndarray:
    there = camera.see(world)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.linalg.norm((there[..., :2] / there[..., 2:] - way) * camera.focal, axis=-1)


def same_people(seen: list[list[np.ndarray]], cameras: list[CalibratedCamera]) -> list[tuple[int, ...]]:
    """Who is who: people[camera][person] (T, J, 3) -> for each person of the first camera, its number in each camera.

    Of all orders that in which the rays of all cameras meet best. (Two cameras at a time do not tell: robust weights
    would leave one of them out.) Made for a few people: their orders are tried out.
    """
    count = len(seen[0])
    orders = [list(itertools.permutations(range(len(people)), count)) for people in seen[1:]]

    def apart(order: tuple[tuple[int, ...], ...]) -> float:
        """Median reprojection, pixels, of the mean person."""
        numbers = [tuple(range(count)), *order]
        errors = []
        for person in range(count):
            points = np.stack([people[one[person]][::5] for people, one in zip(seen, numbers, strict=True)])
            errors.append(np.nanmedian(triangulate(points, cameras)[1]))
        return float(np.mean(errors))

    best = min(itertools.product(*orders), key=apart)
    return list(zip(range(count), *best, strict=True))
