"""The synthetic data set: people made up from joint angles in Human3.6M's rooms, in Human3.6M's file layout.

`ensure(folder)` makes `data_3d_synthetic.npz` (32 joints, metres, world frame, z up), `data_2d_synthetic_gt.npz` and
`data_2d_synthetic_noisy.npz` (17 joints, pixels, four views) on first use. The same seed gives the same bytes.
Bone lengths of S1, S5, S6, S7 and S8 are those measured in Human3.6M; S9 and S11 are made up from them.
"""

import json
import logging
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy import ndarray as Array

from common.bones import H36M_BONE_LENGTHS
from common.camera import Camera, h36m_cameras, project
from common.errors import InputError
from common.files.atomic import one_at_a_time
from common.files.npz import save_npz
from common.h36m import SUBJECTS
from common.rotation import quaternion_to_matrix
from common.skeleton import H36M_17
from common.synthetic.behaviour import FPS, perform
from common.synthetic.motion import CHANNELS, Body, above_floor, pose
from common.synthetic.postures import ACTIONS

NAME = "synthetic"
VERSION = 4  # to be raised with every change of poses or keypoints: files of another version are made anew
FILES = (f"data_3d_{NAME}.npz", f"data_2d_{NAME}_gt.npz", f"data_2d_{NAME}_noisy.npz")
SECONDS = 10.0
# Which of the 17 joints stands in each place of the 32-joint layout (copies as in Human3.6M).
JOINTS_32 = (0, 1, 2, 3, 3, 3, 4, 5, 6, 6, 6, 0, 7, 8, 9, 10) + (8, 11, 12) + (13,) * 5 + (8, 14, 15) + (16,) * 5

log = logging.getLogger(__name__)


def bone_lengths() -> dict[str, Array]:
    """Subject -> (15,) bone lengths in metres, in the order of H36M_16's children."""
    measured = {s: np.array(v) for s, v in json.loads(H36M_BONE_LENGTHS.read_text())["lengths"].items()}
    made_up = {
        "S9": 0.5 * (measured["S6"] + measured["S8"]) * 0.985,
        "S11": 0.6 * measured["S1"] + 0.4 * measured["S5"],
    }
    return {s: (measured | made_up)[s] for s in SUBJECTS}


def bodies() -> dict[str, Body]:
    """Subject -> body: both sides take the mean of the measured left and right lengths."""
    result = {}
    for number, (subject, bones) in enumerate(bone_lengths().items()):
        right_leg, left_leg, trunk, left_arm, right_arm = np.split(bones, (3, 6, 9, 12))
        build = np.random.default_rng(number)
        result[subject] = Body(
            *(left_leg + right_leg) / 2,
            *trunk,
            *(left_arm + right_arm) / 2,
            shoulder_drop=np.radians(build.uniform(12, 26)),
            lordosis=np.radians(build.uniform(0, 10)),
            head_lean=np.radians(build.uniform(4, 20)),
        )
    return result


def make_poses(seed: int = 0, seconds: float = SECONDS, subjects: tuple[str, ...] = SUBJECTS) -> dict:
    """subject -> action -> world joints (T, 17, 3), metres, float32."""
    frames = round(seconds * FPS)
    result = {}
    for subject in subjects:
        body, takes = bodies()[subject], {}
        for action, scenes in ACTIONS.items():
            for number, take in enumerate(scenes):
                name = f"{action} {number}" if number else action
                rng = np.random.default_rng((seed, zlib.crc32(f"{subject}/{name}".encode())))
                takes[name] = perform(body, take, frames, rng)
        together = {channel: np.concatenate([take[channel] for take in takes.values()]) for channel in CHANNELS}
        joints = above_floor(pose(body, together).reshape(len(takes), frames, 17, 3)).astype(np.float32)
        result[subject] = dict(zip(takes, joints, strict=True))
    return result


def project_views(joints: Array, cameras: tuple[Camera, ...]) -> list[Array]:
    """World joints (T, 17, 3) -> pixels (T, 17, 2) in every camera, float32, with lens distortion."""
    points = torch.from_numpy(joints)
    views = []
    for camera in cameras:
        # As world_to_camera, but one matrix product: there are millions of points.
        rotation = quaternion_to_matrix(torch.tensor(camera.orientation))
        in_view = (points - torch.tensor(camera.translation)) @ rotation
        views.append(project(in_view, camera.intrinsics()).numpy())
    return views


# Pixels of noise of a detector by joint: more at the ends of the limbs, where it errs most.
JITTER = np.array((3, 3, 4, 5, 3, 4, 5, 3, 2.5, 2.5, 3, 3.5, 5, 6, 3.5, 5, 6), np.float32)


def detect(keypoints: Array, rng: np.random.Generator) -> Array:
    """Keypoints (T, 17, 2), pixels, with the errors of a detector: jitter and drift, outliers, sides swapped.

    Errors last for a while, as they do in video: drift and the misses come and go within about half a second.
    """
    frames = len(keypoints)
    drift = _slow_noise(rng, frames, (17, 2)) * 0.8 + rng.normal(0, 0.6, keypoints.shape).astype(np.float32)
    found = keypoints + drift * JITTER[:, None]
    lost = _episodes(rng, frames, 17, rate=0.012 * JITTER / JITTER.mean())
    found = found + lost[..., None] * 30 * _slow_noise(rng, frames, (17, 2))
    for pairs, rate in ((((4, 1), (5, 2), (6, 3)), 0.01), (((11, 14), (12, 15), (13, 16)), 0.008)):
        swapped = np.flatnonzero(_episodes(rng, frames, 1, rate)[:, 0])
        for a, b in pairs:
            found[swapped, a], found[swapped, b] = found[swapped, b], found[swapped, a]
    return found.astype(np.float32)


def _slow_noise(rng: np.random.Generator, frames: int, shape: tuple[int, ...], step: int = 12) -> Array:
    """Unit normal noise at every `step`-th frame, joined linearly: (frames, *shape) float32."""
    knots = rng.standard_normal((frames // step + 2, *shape)).astype(np.float32)
    index, share = np.divmod(np.arange(frames), step)
    share = (share / step).astype(np.float32).reshape(-1, *(1 for _ in shape))
    return knots[index] * (1 - share) + knots[index + 1] * share


def _episodes(rng: np.random.Generator, frames: int, count: int, rate, length: int = 8) -> Array:
    """Boolean (frames, count): spells of `length` frames that fill about `rate` of the time."""
    starts = rng.random((frames // length + 1, count)) < rate
    return np.repeat(starts, length, 0)[:frames]


def metadata() -> dict:
    """The `metadata` entry of the 2D files."""
    return {
        "layout_name": "h36m",
        "num_joints": H36M_17.num_joints,
        "keypoints_symmetry": [list(H36M_17.left), list(H36M_17.right)],
    }


def make_dataset(seed: int = 0, seconds: float = SECONDS, subjects: tuple[str, ...] = SUBJECTS) -> dict[str, dict]:
    """The arrays of the three files, by file name: 3D world poses, exact and detector-like 2D poses."""
    poses, exact, noisy = make_poses(seed, seconds, subjects), {}, {}
    for subject, takes in poses.items():
        joints = np.concatenate(list(takes.values()))
        ends = np.cumsum([len(take) for take in takes.values()])[:-1]
        views = project_views(joints, h36m_cameras()[subject])
        rng = np.random.default_rng((seed, zlib.crc32(f"{subject} detector".encode())))
        cut = [np.split(view, ends) for view in views]
        exact[subject] = {name: [view[i] for view in cut] for i, name in enumerate(takes)}
        noisy[subject] = {name: [detect(view, rng) for view in views] for name, views in exact[subject].items()}
    full = {s: {name: take[:, JOINTS_32] for name, take in takes.items()} for s, takes in poses.items()}
    contents = (
        {"positions_3d": full, "metadata": {"layout_name": "h36m", "fps": FPS}},
        {"positions_2d": exact, "metadata": metadata()},
        {"positions_2d": noisy, "metadata": metadata()},
    )
    return dict(zip(FILES, contents, strict=True))


def ensure(data_dir: str | Path, seed: int | None = 0) -> list[Path]:
    """Make the three files in `data_dir` unless they are there already, made with this seed; return their paths.

    With `seed` None a set of any seed will do, and a missing one is made with seed 0. See `make_once`.
    """
    return make_once(data_dir, FILES, f"{NAME} version {VERSION}", seed, make_dataset)


def ensure_named(data_dir: str | Path, *names: str | None) -> None:
    """`ensure` where one of the data sets' `names` (each may be several with commas) is the synthetic one: what a
    caller does before it reads them, as reading makes no files.
    """
    if any(part.strip() == NAME for name in names for part in (name or "").split(",")):
        ensure(data_dir, seed=None)


def make_once(
    data_dir: str | Path, names: tuple[str, ...], kind: str, seed: int | None, make: Callable[[int], dict[str, dict]]
) -> list[Path]:
    """Make the files `names` of `kind` (what and which version) in `data_dir`, unless they are there; their paths.

    `make(seed)` gives the arrays by file name; each file is stamped with its kind and seed. With `seed` None files of
    any seed will do. Safe when several processes start at once: one makes the files and the others wait; each file
    appears whole.

    Raises:
        InputError: the folder cannot be made or written.
    """
    folder = Path(data_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}; choose another --data-dir") from error
    paths = [folder / name for name in names]

    def complete() -> bool:
        stamps = {_stamp(path) for path in paths}
        return stamps == {f"{kind} seed {seed}"} or (
            seed is None and len(stamps) == 1 and str(*stamps).startswith(f"{kind} seed ")
        )

    if not complete():
        with one_at_a_time(folder / f".{NAME}.lock"):
            if not complete():  # another process may have made them meanwhile
                log.info("making %s in %s", ", ".join(names), folder)
                for name, arrays in make(seed or 0).items():
                    save_npz(folder / name, stamp=np.array(f"{kind} seed {seed or 0}"), **arrays)
    return paths


def _stamp(path: Path) -> str | None:
    """The stamp of the file's making: None where there is no such file, or it is none of ours."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return str(arrays["stamp"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
