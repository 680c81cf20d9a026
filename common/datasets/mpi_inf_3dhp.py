"""MPI-INF-3DHP's test set as PoseAug scores on it, and any other file of its form: people and cameras never trained on.

`test_3dhp.npz` holds `pose3d`, (N, 16, 3) in metres, camera frame (root-relative in the published file), and `pose2d`,
(N, 16, 2), screen-normalised already. `data/prepare_data_3dhp.py` makes it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.errors import InputError
from common.files.npz import load_npz
from common.pose_set import PoseSet, still_images
from common.skeleton import H36M_16, Skeleton, convert

TEST_SET = Path("data_extra", "test_set", "test_3dhp.npz")  # as published, seen from the folder of the run


def find_test_set(data_dir: str | Path) -> Path | None:
    """MPI-INF-3DHP's file: `TEST_SET` itself, that in `data_dir`, or `test_3dhp.npz` in it; None: none of them."""
    places = (TEST_SET, Path(data_dir) / TEST_SET, Path(data_dir) / TEST_SET.name)
    return next((path for path in places if path.is_file()), None)


def load_test_set(file: str | Path, skeleton: Skeleton = H36M_16, device: str | torch.device = "cpu") -> PoseSet:
    """Read a file of the form of `test_3dhp.npz`, joints converted to `skeleton` by name.

    Single poses without cameras, whose keypoints are in screen units, as the file has them. The set is named after the
    file: "3dhp" of `test_3dhp.npz`.

    Raises:
        InputError: the file or an array is missing or damaged; arrays of unequal length, another shape than (N, 16, D),
            no items, values that are not finite.
    """
    path = Path(file)
    if not path.exists():
        raise InputError(
            f"{path} not found (looked for {path.absolute()}): data/prepare_data_3dhp.py makes it, see data/README.md"
        )
    arrays = load_npz(path, required=("pose3d", "pose2d"))
    poses, keypoints = (_checked(arrays[key], key, dims, path) for key, dims in (("pose3d", 3), ("pose2d", 2)))
    if len(poses) != len(keypoints):
        raise InputError(
            f"{path}: pose3d has {len(poses)} items and pose2d {len(keypoints)}; expected as many: make the file again"
        )
    keypoints, poses = (_converted(points, skeleton) for points in (keypoints, poses))
    return still_images(keypoints, skeleton, path.stem.removeprefix("test_"), poses=poses, unit="screen").to(device)


def _checked(points: Any, key: str, dims: int, path: Path) -> np.ndarray:
    """The array if it holds finite numbers (N, 16, dims) with N > 0."""
    shape, numbers = np.shape(points), isinstance(points, np.ndarray) and points.dtype.kind in "fiu"
    if not numbers or len(shape) != 3 or shape[1:] != (H36M_16.num_joints, dims) or not len(points):
        found = f"shape {shape}" if numbers else f"no number array ({type(points).__name__})"
        raise InputError(
            f"{path}: {key} has {found}; expected ({H36M_16.num_joints} joints of {H36M_16.name}) "
            f"(N, {H36M_16.num_joints}, {dims}) with N > 0"
        )
    finite = np.isfinite(points).all((1, 2))
    if not finite.all():
        raise InputError(
            f"NaN or infinity in {path}: {key}, item {finite.argmin()} ({(~finite).sum()} bad items): make it again"
        )
    return points


def _converted(points: np.ndarray, skeleton: Skeleton) -> Tensor:
    return torch.from_numpy(np.array(convert(points, H36M_16, skeleton), np.float32))
