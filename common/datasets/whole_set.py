"""Whole data sets, to be looked at: all subjects of all splits, with what they have of poses, cameras, keypoints."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from common.datasets.contract import find_3d, load_contract, own_split
from common.datasets.h36m_layout import load_keypoints, load_pose_set
from common.datasets.poses_2d import WITHOUT_3D, load_poses_2d
from common.datasets.source import find_files
from common.errors import InputError
from common.files.npz import load_npz
from common.pose_set import PoseSet, joined
from common.skeleton import H36M_17, Skeleton


class WholeSet(NamedTuple):
    """A set, and what its files say about it. Nobody is in `train` and in `test`; nobody may be in either."""

    pose_set: PoseSet
    train: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    fps: float | None = None  # None: the files do not say it
    layout: str = ""  # of the 3D file
    own_cameras: bool = False  # or Human3.6M's
    made: bool = False  # keypoints are projected poses, no file's


def load_whole_set(data_dir: str | Path, dataset: str, keypoints: str, skeleton: Skeleton = H36M_17) -> WholeSet:
    """Every subject of a set in Human3.6M's layout, of one that has a 2D file alone, or of a 2D set (`poses_2d`), whose
    splits take the place of its subjects.

    Raises:
        InputError: as the loaders of those.
    """
    file_3d = find_3d(data_dir, dataset)
    if not file_3d.exists() and dataset in WITHOUT_3D:
        return _splits(data_dir, dataset)
    if not file_3d.exists() and (Path(data_dir) / f"data_2d_{dataset}_{keypoints}.npz").exists():
        return WholeSet(load_keypoints(data_dir, dataset, keypoints, skeleton))
    _, file_2d = find_files(Path(data_dir), dataset, keypoints)
    poses = load_npz(file_3d, required=("positions_3d",), only=("positions_3d",))["positions_3d"]
    subjects = [str(subject) for subject in poses] if isinstance(poses, dict) else []
    pose_set = load_pose_set(data_dir, dataset, keypoints, subjects, skeleton=skeleton)
    joints = next(take.shape[1] for takes in poses.values() for take in takes.values())
    contract, split = load_contract(data_dir, dataset), own_split(data_dir, dataset)
    train, test = (tuple(name for name in names.split(",") if name in subjects) for names in split)
    layout = contract.skeleton.name if contract.skeleton else f"Human3.6M {joints} joints"
    return WholeSet(pose_set, train, test, contract.fps, layout, contract.cameras is not None, file_2d is None)


def _splits(data_dir: str | Path, dataset: str) -> WholeSet:
    parts, errors = [], []
    for split in ("train", "test"):
        try:
            part = load_poses_2d(dataset, data_dir, split=split)
        except InputError as error:  # a part of the subjects may be there
            errors.append(error)
            continue
        parts.append(replace(part, sequences=tuple(seq._replace(subject=split) for seq in part.sequences)))
    if not parts:
        raise errors[0]
    return WholeSet(joined(parts), ("train",), ("test",))
