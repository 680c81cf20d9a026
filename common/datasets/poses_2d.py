"""2D poses to learn from without any 3D: MPII, MPI-INF-3DHP and every set in Human3.6M's layout, joined by name.

Pixels, y down, 17 joints in Human3.6M order. `--dataset mpii,cmu` means both, one after the other.
"""

from collections.abc import Iterable
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.datasets.contract import find_3d, own_split
from common.datasets.h36m_layout import DEFAULT_NOISE, load_motion, load_pose_set
from common.datasets.mpi_inf_release import CHEST_CAMERAS, annotations, h36m_joints
from common.datasets.projected import Noise
from common.errors import InputError
from common.files.reading import load_array
from common.h36m import TRAIN_SUBJECTS
from common.pose_set import PoseSet, Sequence, joined, sequence_index, still_images
from common.skeleton import H36M_17

MPII_FILE = "mpii_poses.npy"
MPII_SEED, MPII_TRAIN_SHARE = 100, 0.9  # of the published split
MPI_INF_FOLDER = "mpi_inf_3dhp"
MPI_INF_TEST_SUBJECTS = ("S8",)
WITHOUT_3D = ("mpii", "3dhp")
SPLITS = ("train", "test")


def split_names(names: str | Iterable[str]) -> tuple[str, ...]:
    """The names in "mpii,cmu", each once.

    Raises:
        InputError: there is none.
    """
    parts = names.split(",") if isinstance(names, str) else names
    found = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
    if not found:
        raise InputError(f"found no data set in {names!r}; name one, or several as in mpii,cmu")
    return found


def names_with_3d(names: str | Iterable[str]) -> tuple[str, ...]:
    """Those of the sets that `load_poses_2d` can give with poses."""
    return tuple(name for name in split_names(names) if name not in WITHOUT_3D)


def load_poses_2d(
    names: str | Iterable[str],
    data_dir: str | Path,
    keypoints: str = "gt",
    subjects: str | Iterable[str] = TRAIN_SUBJECTS,
    actions: str | Iterable[str] = "*",
    downsample: int = 1,
    device: str | torch.device = "cpu",
    split: str = "train",
    with_poses: bool = False,
    middle_spine: bool = False,
    noise: Noise = DEFAULT_NOISE,
) -> PoseSet:
    """Read the 2D poses of one or several sets, one after the other.

    Args:
        names: a list, or text with commas. "mpii": `mpii_poses.npy`; "3dhp": MPI-INF-3DHP's training videos, the chest
            cameras; any other: `data_2d_NAME_KEYPOINTS.npz` in Human3.6M's layout (h36m, synthetic, cmu).
        keypoints, subjects, actions, noise: of the sets in Human3.6M's layout (`h36m_layout.load_pose_set`); without
            subjects each set's own split.
        downsample: every n-th frame, of videos.
        split: "train" or "test", where the set has a split of its own. MPII: the published one, 90 % to train.
            MPI-INF-3DHP: subject S8 to test (the published test, the first 1,000 training poses, is no test).
        with_poses: also the camera-frame 3D, for validation; without it no 3D is kept.
        middle_spine: put MPII's spine halfway from hip to thorax, where the other sets have it. The published
            `mpii_poses.npy` has MPII's thorax there.

    Raises:
        InputError: a file is missing or damaged, a name unknown, a set without 3D where poses are asked for.
    """
    names = split_names(names)
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}; expected {' or '.join(SPLITS)}")
    without = [name for name in names if name in WITHOUT_3D]
    if with_poses and without:
        raise InputError(
            f"{', '.join(without)}: no 3D poses, which validation and --mode supervised need; name a set with them"
        )
    parts = []
    for name in names:
        if name == "mpii":
            part = still_images(load_mpii(data_dir, split, middle_spine), H36M_17, name)
        elif name == "3dhp":
            part = _videos(*_load_mpi_inf(Path(data_dir) / MPI_INF_FOLDER, split, downsample), downsample, name)
        else:
            people = subjects or own_split(data_dir, name)[SPLITS.index(split)]
            part = load_pose_set(data_dir, name, keypoints, people, actions, downsample=downsample, noise=noise)
            part = part if with_poses else replace(part, poses=None)
        _check(part.keypoints, name)
        parts.append(part)
    return joined(parts).to(device)


def load_motions(
    names: str, data_dir: str | Path, subjects: str, actions: str, downsample: int, device: str | torch.device
) -> PoseSet:
    """The motion in the world of one or several sets, one after the other, 17 joints: for virtual cameras. Arguments as
    for `load_poses_2d`.

    Raises:
        InputError: as `h36m_layout.load_motion`; a set that has no 3D poses.
    """
    names = split_names(names)
    without = [name for name in names if name in WITHOUT_3D and not find_3d(data_dir, name).exists()]
    if without:
        raise InputError(f"{', '.join(without)}: no 3D poses, which --cameras virtual needs; name sets with them")
    chosen = {"downsample": downsample, "device": device}
    return joined(
        [load_motion(data_dir, name, subjects or own_split(data_dir, name)[0], actions, **chosen) for name in names]
    )


def _videos(keypoints: Tensor, lengths: list[int], downsample: int, dataset: str) -> PoseSet:
    """Sequences without names or cameras, one after the other: keypoints (N, 17, 2)."""
    starts = [0, *accumulate(lengths)]
    sequences = tuple(
        Sequence("", "", 0, start, length, None, dataset) for start, length in zip(starts, lengths, strict=False)
    )
    frames = [downsample * torch.arange(length, dtype=torch.int32) for length in lengths]
    return PoseSet(keypoints, H36M_17, sequences, sequence_index(sequences), torch.cat(frames))


def _check(keypoints: Tensor, name: str) -> None:
    """Refuse values that are not finite, and bodies without extent, which no scale can bring to size."""
    size = (keypoints - keypoints[:, :1]).norm(dim=-1).sum(1)
    bad = ~(size.isfinite() & (size > 0))
    if bad.any():
        raise InputError(
            f"{name}: pose {int(bad.int().argmax())} has NaN, infinity or all joints in one place "
            f"({int(bad.sum())} such poses): make the file again"
        )


# ------------------------------------------------------------ MPII


def load_mpii(data_dir: str | Path, split: str = "train", middle_spine: bool = False) -> Tensor:
    """MPII's poses of one split, (N, 17, 2) float32 pixels, in the published (shuffled) order.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """
    path = Path(data_dir) / MPII_FILE
    if not path.is_file():
        raise InputError(f"{path} not found (looked for {path.absolute()}): data/prepare_mpii.py makes it")
    poses = load_array(path)
    joints = H36M_17.num_joints
    if not isinstance(poses, np.ndarray) or poses.dtype.kind not in "fiu" or not len(poses.shape) or not poses.size:
        raise InputError(f"{path} holds no array of numbers; expected (N, {2 * joints}) pixels")
    if poses.shape[1:] not in ((2 * joints,), (joints, 2)):
        raise InputError(f"{path} has shape {poses.shape}; expected (N, {2 * joints}) or (N, {joints}, 2) pixels")
    poses = poses.reshape(-1, joints, 2)[_mpii_rows(len(poses), split)].astype(np.float32, copy=False)
    if middle_spine:
        hip, thorax = (poses[:, H36M_17.index(joint)] for joint in ("hip", "thorax"))
        poses[:, H36M_17.index("spine")] = (hip + thorax) / 2
    return torch.from_numpy(poses)


def _mpii_rows(count: int, split: str) -> np.ndarray:
    """Published: a permutation of NumPy's legacy generator, whose first 90 % train; numpy's own state stays."""
    order = np.random.RandomState(MPII_SEED).permutation(count)
    train = int(count * MPII_TRAIN_SHARE)
    return order[:train] if split == "train" else order[train:]


# ------------------------------------------------------------ MPI-INF-3DHP


def _load_mpi_inf(folder: Path, split: str, downsample: int) -> tuple[Tensor, list[int]]:
    """Keypoints (N, 17, 2) of the chest cameras and the length of each sequence, from FOLDER/S1/Seq1/annot.mat ..."""
    if downsample < 1:
        raise InputError(f"--downsample is {downsample}; expected 1 or more")
    files = sorted(folder.glob("S*/Seq*/annot.mat"))
    if not files:
        raise InputError(f"{folder.absolute()} has no S1/Seq1/annot.mat ...: put MPI-INF-3DHP's training set there")
    chosen = [file for file in files if (file.parts[-3] in MPI_INF_TEST_SUBJECTS) == (split == "test")]
    if not chosen:
        subjects = ", ".join(sorted({file.parts[-3] for file in files}))
        raise InputError(f"{folder} has nothing to {split} on: it has {subjects}, and S8 is for the test")
    views = [view[::downsample] for file in chosen for view in _chest_views(file)]
    return torch.from_numpy(np.concatenate(views)), [len(view) for view in views]


def _chest_views(file: Path) -> list[np.ndarray]:
    """Keypoints (T, 17, 2) float32 in each chest camera."""
    cells = annotations(file, "annot2")["annot2"]
    where = f"{file}: annot2, camera"
    return [h36m_joints(cells[camera], 2, f"{where} {camera}").astype(np.float32) for camera in CHEST_CAMERAS]
