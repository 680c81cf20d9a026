"""Captures with cameras and people of their own, written as the framework's two files (second version: data/README.md).

World frame: metres, z up; camera = rotation @ world + translation. Joints: Human3.6M's 17.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.datasets.h36m_takes import metadata
from common.errors import InputError
from common.files.npz import save_npz
from common.skeleton import H36M_17

# A world with z up for poses of which the camera frame alone is known: up is that of the picture, the tilt of the
# camera stays in the pose.
CAMERA_TO_Z_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])


class Take(NamedTuple):
    """One recording of one person."""

    poses: np.ndarray  # (T, 17, 3), metres, world
    cameras: list[dict[str, Any]]  # of `camera`
    keypoints: list[np.ndarray]  # (T, 17, 2) in each camera, pixels; NaN where a detector found nobody


def camera(
    intrinsic: np.ndarray, size: tuple[int, int], rotation: np.ndarray, translation: np.ndarray, name: str = ""
) -> dict[str, Any]:
    """A camera's dictionary from its matrix (3, 3), pixels: a lens without distortion. size: (width, height)."""
    return {
        "name": name, "size": tuple(map(int, size)), "focal_length": np.diag(intrinsic)[:2].copy(),
        "center": intrinsic[:2, 2].copy(), "rotation": np.asarray(rotation), "translation": np.asarray(translation),
    }  # fmt: skip


def in_camera(points: np.ndarray, view: Mapping[str, Any]) -> np.ndarray:
    """World points (..., 3) -> camera frame (..., 3)."""
    return points @ view["rotation"].T + view["translation"]


def projected(points: np.ndarray, view: Mapping[str, Any]) -> np.ndarray:
    """World points (..., 3) -> pixels (..., 2) in a camera of `camera`."""
    points = in_camera(points, view)
    return points[..., :2] / points[..., 2:] * view["focal_length"] + view["center"]


def upright_camera_frame(points: np.ndarray) -> np.ndarray:
    """Camera-frame points (..., 3) -> the world of a camera that has `CAMERA_TO_Z_UP.T` and no translation."""
    return points @ CAMERA_TO_Z_UP.T


def runs(valid: np.ndarray, labels: np.ndarray | None = None) -> list[slice]:
    """The stretches of frames that are all valid and of one label. valid: (T,) bool; labels: (T,)."""
    label = np.zeros(len(valid)) if labels is None else labels
    cuts = np.flatnonzero((valid[1:] != valid[:-1]) | (label[1:] != label[:-1])) + 1
    bounds = [0, *cuts.tolist(), len(valid)]
    return [slice(a, b) for a, b in zip(bounds, bounds[1:], strict=False) if a < b and valid[a]]


def save(
    data_dir: Path, name: str, takes: Mapping[str, Mapping[str, Take]], train: list[str], test: list[str], fps: float,
    keypoints: str,
) -> list[Path]:  # fmt: skip
    """Write data_3d_NAME.npz and data_2d_NAME_KEYPOINTS.npz of subject -> action -> take -> their paths.

    Raises:
        InputError: nothing to write, or poses that are not finite: which take.
    """
    if not any(takes.values()):
        raise InputError(f"there is no take of {name} to write")
    for subject, actions in takes.items():
        for action, take in actions.items():
            if not np.isfinite(take.poses).all():
                raise InputError(f"NaN or infinity in {name}: subject {subject}, {action}: fetch its file again")

    def tree(part):
        return {s: {a: part(take) for a, take in actions.items()} for s, actions in takes.items()}

    about = {
        "layout_name": "h36m", "fps": fps, "unit": "m", "up": "z",
        "subjects_train": [s for s in train if s in takes], "subjects_test": [s for s in test if s in takes],
    }  # fmt: skip
    files = [data_dir / f"data_3d_{name}.npz", data_dir / f"data_2d_{name}_{keypoints}.npz"]
    save_npz(
        files[0], positions_3d=tree(lambda take: take.poses.astype(np.float32)),
        cameras=tree(lambda take: take.cameras), metadata=about,
    )  # fmt: skip
    views = tree(lambda take: [points.astype(np.float32) for points in take.keypoints])
    save_npz(files[1], positions_2d=views, metadata=metadata("h36m", H36M_17))
    return files
