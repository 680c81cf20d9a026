"""Cameras of a file: dictionaries of calibrations, ours and VideoPose3D's, -> `Camera`, in metres and z up.

A dictionary has `focal_length` (2) and `center` (2) in pixels, `size` (width, height), and `rotation` (3, 3) and
`translation` (3) with camera = rotation @ world + translation; if it likes, `radial_distortion` (k1, k2, k3),
`tangential_distortion` (p1, p2) and `name`.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.camera import Camera, from_extrinsics
from common.errors import InputError
from common.h36m import canonical_action
from common.rotation import quaternion_to_matrix

METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001}
# Rows are the axes of a world with z up, in those of a world with another axis up.
UP = {
    "z": ((1, 0, 0), (0, 1, 0), (0, 0, 1)), "y": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "x": ((0, 0, -1), (0, 1, 0), (1, 0, 0)), "-z": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
    "-y": ((1, 0, 0), (0, 0, 1), (0, -1, 0)), "-x": ((0, 0, 1), (0, 1, 0), (-1, 0, 0)),
}  # fmt: skip
NOT_PIXELS = 10  # a focal length or a picture's side below it is no number of pixels
MOST_PIXELS = 1e6  # nor is one above it
FARTHEST = 200  # metres: a camera that stands farther from the origin is in another unit
CROOKED = 0.01  # how far a rotation may be from one, in rounded files

Views = tuple[Camera, ...]


class Frame(NamedTuple):
    """The world frame of a file: its unit, of `METRES`, and the axis that points up, of `UP`."""

    unit: str = "m"
    up: str = "z"

    def to_world(self, points: Tensor) -> Tensor:
        """Points (..., 3) of the file -> metres, z up; nothing is copied where they are that already."""
        if self.up != "z":
            points = points @ torch.tensor(UP[self.up], dtype=points.dtype).mT
        return points if self.unit == "m" else points * METRES[self.unit]


METRES_Z_UP = Frame()


def read_cameras(tree: Any, where: str, frame: Frame = METRES_Z_UP) -> dict[str, Views | dict[str, Views]]:
    """The cameras of subject (or subject -> action) -> list of dictionaries; names of actions levelled.

    Raises:
        InputError: not of that form, or see `read_camera`.
    """
    if not isinstance(tree, dict):
        raise InputError(f"{where}: cameras is no dictionary of subject (or subject -> action) -> list of cameras")
    cameras = {}
    for subject, views in tree.items():
        here = f"{where}: cameras of subject {subject}"
        if isinstance(views, dict):
            cameras[str(subject)] = {
                canonical_action(str(action)): _read_views(value, f"{here}, action {action}", frame)
                for action, value in views.items()
            }
        else:
            cameras[str(subject)] = _read_views(views, here, frame)
    return cameras


def _read_views(views: Any, where: str, frame: Frame) -> Views:
    if not isinstance(views, (list, tuple, np.ndarray)) or not len(views):
        raise InputError(f"{where}: found {_short(views)}; expected a list of dictionaries, one for each view")
    return tuple(read_camera(view, f"{where}, view {i}", frame) for i, view in enumerate(views))


def read_camera(values: Any, where: str, frame: Frame = METRES_Z_UP) -> Camera:
    """One camera of its dictionary, in metres and z up. VideoPose3D's keys are understood, too: `orientation` with a
    `translation` that is the camera's place, `res_w`, `res_h`, `id`.

    Raises:
        InputError: something is missing, of another shape, no rotation, or not in pixels.
    """
    if not isinstance(values, dict):
        raise InputError(f"{where} is a {type(values).__name__}; expected a dictionary")
    focal = numbers(values.get("focal_length"), (2,), f"{where}: focal_length")
    centre = numbers(values.get("center"), (2,), f"{where}: center")
    if (focal < NOT_PIXELS).any() or (np.abs((focal, centre)) > MOST_PIXELS).any():
        raise InputError(f"{where}: focal_length is {focal.tolist()}, center {centre.tolist()}; expected pixels")
    size = values.get("size", (values.get("res_w", 0), values.get("res_h", 0)))
    width, height = (int(round(side)) for side in numbers(size, (2,), f"{where}: size"))
    if (width, height) != (0, 0) and not all(NOT_PIXELS <= side <= MOST_PIXELS for side in (width, height)):
        raise InputError(f"{where}: size is {(width, height)}; expected width and height in pixels")
    orientation, place = _pose_of_camera(values, where, frame)
    radial = numbers(values.get("radial_distortion", ()), None, f"{where}: radial_distortion")
    tangential = numbers(values.get("tangential_distortion", (0, 0)), (2,), f"{where}: tangential_distortion")
    if len(radial) > 3:
        raise InputError(f"{where}: radial_distortion has {len(radial)} numbers; expected k1, k2, k3")
    return Camera(
        str(values.get("name", values.get("id", ""))), width, height, tuple(focal.tolist()), tuple(centre.tolist()),
        (*radial.tolist(), 0.0, 0.0, 0.0)[:3], tuple(tangential.tolist()), orientation, place,
    )  # fmt: skip


def _pose_of_camera(values: dict, where: str, frame: Frame) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`Camera.orientation` and `Camera.translation`, in metres and z up."""
    if "rotation" in values:
        rotation = torch.from_numpy(numbers(values["rotation"], (3, 3), f"{where}: rotation"))
        if (rotation @ rotation.mT - torch.eye(3)).abs().max() > CROOKED or torch.linalg.det(rotation) < 0:
            raise InputError(
                f"{where}: rotation is none: its rows are not at right angles and of length 1, or it is a mirror"
            )
        name = "position" if "position" in values and "translation" not in values else "translation"
        moved = torch.from_numpy(numbers(values.get(name), (3,), f"{where}: {name}"))
        translation = moved if name == "translation" else -rotation @ moved
    elif "orientation" in values:
        quaternion = torch.from_numpy(numbers(values["orientation"], (4,), f"{where}: orientation"))
        if (quaternion.norm() - 1).abs() > CROOKED:
            raise InputError(f"{where}: orientation is no rotation: a quaternion (w, x, y, z) has length 1")
        name = "position" if "position" in values else "translation"
        place = torch.from_numpy(numbers(values.get(name), (3,), f"{where}: {name}"))
        if frame.up == "z":  # as it is written, to the last digit
            return tuple(quaternion.tolist()), _place(place, where, frame)
        rotation = quaternion_to_matrix(quaternion / quaternion.norm()).mT
        translation = -rotation @ place
    else:
        raise InputError(f"{where} has neither rotation and translation nor orientation and position")
    orientation, place = from_extrinsics(rotation @ torch.tensor(UP[frame.up]).double().mT, translation)
    return orientation, _place(torch.tensor(place, dtype=torch.float64), where, frame)


def _place(place: Tensor, where: str, frame: Frame) -> tuple[float, ...]:
    place = place * METRES[frame.unit]
    if place.norm() > FARTHEST:
        raise InputError(
            f"{where} stands {place.norm():,.0f} metres from the origin: in millimetres? Poses and cameras are in "
            "metres, or both in metadata's unit"
        )
    return tuple(place.tolist())


def numbers(value: Any, shape: tuple[int, ...] | None, where: str) -> np.ndarray:
    """Finite numbers of a shape (None: any number of them), float64."""
    try:
        array = None if np.iscomplexobj(value) else np.array(value, np.float64)
    except (TypeError, ValueError):
        array = None
    if value is None or array is None:
        raise InputError(
            f"{where} is {'missing' if value is None else _short(value)}; expected numbers {shape or ''}".rstrip()
        )
    array = array.reshape(-1) if shape is None or (array.size == 3 and shape == (3,)) else array
    if (shape is not None and array.shape != shape) or not np.isfinite(array).all():
        of_shape = f" of shape {shape}" if shape else ""
        raise InputError(f"{where} is {_short(array.tolist())}; expected finite numbers{of_shape}")
    return array


def _short(value: Any) -> str:
    return " ".join(repr(value).split())[:60]
