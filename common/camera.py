"""Cameras: world <-> camera, distorted projection, screen coordinates, and the Human3.6M calibration.

World frame: metres, z up. Camera frame: metres, x right, y down, z forward. Points are row vectors.
The intrinsic vector is (fx, fy, cx, cy, k1, k2, k3, p1, p2): radial k, tangential p; in whatever unit focal length and
centre are given (pixels or screen-normalised), the projection comes out in that unit.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from common.errors import InputError
from common.rotation import matrix_to_quaternion, quaternion_inverse, quaternion_rotate

H36M_CALIBRATION = Path(__file__).with_name("h36m_cameras.json")
NEAREST = 1e-12  # metres: a smaller depth has no quotient worth the name


@dataclass(frozen=True)
class Camera:
    """One calibrated camera. `orientation` (wxyz) and `translation` (metres) carry camera points into the world."""

    id: str
    width: int  # pixels; 0 where not known
    height: int
    focal: tuple[float, float]  # pixels
    centre: tuple[float, float]  # pixels
    radial: tuple[float, float, float]
    tangential: tuple[float, float]
    orientation: tuple[float, float, float, float]
    translation: tuple[float, float, float]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the pictures, pixels; an InputError where they are not known."""
        if not (self.width and self.height):
            raise InputError(
                f"camera {self.id or 'without a name'}: the size of its pictures is not known, which screen "
                "coordinates need: give each of the file's cameras its 'size' (width, height)"
            )
        return self.width, self.height

    def intrinsics(self, unit: str = "pixels") -> Tensor:
        """The intrinsic vector (9,), float32. `unit`:

        "pixels": focal length and centre in pixels. "screen": both screen-normalised (VideoPose3D, PoseAug); an
        InputError where the size of the pictures is not known.
        """
        (fx, fy), (cx, cy) = self.focal, self.centre
        if unit == "screen":
            width, height = self.size
            fx, fy = fx / width * 2, fy / width * 2
            cx, cy = cx / width * 2 - 1, cy / width * 2 - height / width
        return torch.tensor((fx, fy, cx, cy, *self.radial, *self.tangential), dtype=torch.float32)


@cache
def h36m_cameras() -> dict[str, tuple[Camera, ...]]:
    """The four Human3.6M cameras by subject, in the order of the published 2D files (54138969, 55011271, ...).

    Subjects without published extrinsics (S2, S3, S4) are absent.
    """
    table = json.loads(H36M_CALIBRATION.read_text())
    cameras = {}
    for subject, views in table["extrinsics"].items():
        if all(view for view in views):
            cameras[subject] = tuple(
                Camera(
                    id=lens["id"],
                    width=lens["res_w"],
                    height=lens["res_h"],
                    focal=tuple(lens["focal_length"]),
                    centre=tuple(lens["center"]),
                    radial=tuple(lens["radial_distortion"]),
                    tangential=tuple(lens["tangential_distortion"]),
                    orientation=tuple(view["orientation"]),
                    translation=tuple(t / 1000 for t in view["translation"]),  # published in millimetres
                )
                for lens, view in zip(table["intrinsics"], views, strict=True)
            )
    return cameras


def from_extrinsics(rotation: Tensor, translation: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`Camera.orientation` and `Camera.translation` of (3, 3) and (3,) with camera = rotation @ world + translation."""
    turned, translation = rotation.double().mT, translation.double()
    return tuple(matrix_to_quaternion(turned).tolist()), tuple((-turned @ translation).tolist())


def world_to_camera(points: Tensor, orientation: Tensor, translation: Tensor) -> Tensor:
    """World points (..., 3) in metres -> camera frame; `orientation` (..., 4) and `translation` (..., 3) broadcast."""
    return quaternion_rotate(quaternion_inverse(orientation), points - translation)


def camera_to_world(points: Tensor, orientation: Tensor, translation: Tensor | float = 0.0) -> Tensor:
    """Camera-frame points (..., 3) -> world; leave `translation` out to turn a root-relative pose upright."""
    return quaternion_rotate(orientation, points) + translation


def project(points: Tensor, intrinsics: Tensor, clamped: bool = True) -> Tensor:
    """Camera-frame points (..., 3) -> image (..., 2) with lens distortion; `intrinsics` (..., 9) broadcasts.

    With `clamped` False points more than 45 degrees off the axis stay where they are, as wide lenses see them. The
    field's form (VideoPose3D, PoseAug), which is not the textbook's: X/Z and Y/Z are clamped to [-1, 1], the factor
    1 + k1 r^2 + k2 r^4 + k3 r^6 + p1 x + p2 y scales the point, and p * r^2 is added.
    """
    focal, centre, radial, tangential = intrinsics.split((2, 2, 3, 2), -1)
    xy = _slopes(points, clamped)
    r2 = (xy * xy).sum(-1, keepdim=True)
    k1, k2, k3 = radial.split(1, -1)
    scale = 1 + r2 * (k1 + r2 * (k2 + r2 * k3)) + (tangential * xy).sum(-1, keepdim=True)
    return focal * (xy * scale + tangential * r2) + centre


def _slopes(points: Tensor, clamped: bool) -> Tensor:
    """X/Z and Y/Z, clamped within [-1, 1], (..., 3) -> (..., 2).

    PoseAug moves people as near to the camera as it likes. Against the published form, a depth of (almost) zero gives
    no infinite quotient, whose gradient would be NaN.
    """
    depth = points[..., 2:]
    depth = torch.where(depth.abs() < NEAREST, NEAREST, depth)
    slopes = points[..., :2] / depth
    return slopes.clamp(-1, 1) if clamped else slopes


def normalise_screen(pixels: Tensor, width: float, height: float) -> Tensor:
    """Pixels (..., 2) -> screen coordinates: x in [-1, 1] over the width, y with the same scale (VideoPose3D)."""
    return pixels / width * 2 - pixels.new_tensor((1, height / width))


def perspective(points: Tensor, distance: float = 5.0, nearest: float = 1.0) -> Tensor:
    """ITES's camera: (..., 3) -> (..., 2), (x, y) / max(distance + z, nearest); focal length 1, root at `distance`."""
    return points[..., :2] / (points[..., 2:] + distance).clamp_min(nearest)


def unproject(keypoints: Tensor, depth: Tensor, distance: float = 5.0, nearest: float | None = 1.0) -> Tensor:
    """Inverse of `perspective`: keypoints (..., 2), depth relative to the root (..., 1) -> points (..., 3).

    With `nearest` None the distance from the camera is not clamped: the teacher's published evaluation.
    """
    away = depth + distance
    return torch.cat((keypoints * (away if nearest is None else away.clamp_min(nearest)), depth), -1)
