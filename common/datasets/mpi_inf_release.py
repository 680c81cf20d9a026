"""MPI-INF-3DHP's annotations as released: the training videos in 14 cameras, the six test videos in one camera each.

Mehta et al., "Monocular 3D Human Pose Estimation In The Wild Using Improved CNN Supervision", 3DV 2017. Files read:
    S1/Seq1/annot.mat           MATLAB 5; annot2 (pixels), annot3 and univ_annot3 (millimetres, camera frame): cells,
                                one for each camera, of (T, 56) and (T, 84) numbers, 28 joints
    S1/Seq1/camera.calibration  text; of each camera the lines name, size, intrinsic and extrinsic (4 x 4, row by row;
                                extrinsic: world -> camera, millimetres)
    TS1/annot_data.mat          MATLAB 7.3, which is HDF5; as h5py sees it annot2 (T, 1, 17, 2), univ_annot3
                                (T, 1, 17, 3), valid_frame (T, 1), and activity_annotation (T, 1), numbers 1 to 7
"Universal" coordinates are those of a body scaled to one height; the published scores are in them.

Known from the publication and from public code that reads the release; no file of it was at hand. Not held against the
release itself, therefore: the names of the activities; the 50 frames per second of the long training videos (all take
some four minutes, in 6,000 or 12,000 frames). Checked on reading is what the files must agree in: the cameras with the
pixels, the world's axes with the people.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.datasets.captures import CAMERA_TO_Z_UP, Take, camera, projected, runs, upright_camera_frame
from common.datasets.h36m_takes import read_h5
from common.errors import InputError
from common.files.mat import load_mat
from common.files.reading import read_bytes
from common.skeleton import H36M_17, MPI_INF_3DHP_17, convert

log = logging.getLogger(__name__)

TRAIN_SUBJECTS = tuple(f"S{number}" for number in range(1, 9))
SQUARE, WIDE = (2048, 2048), (1920, 1080)  # pixels
TEST_SIZES = {"TS1": SQUARE, "TS2": SQUARE, "TS3": SQUARE, "TS4": SQUARE, "TS5": WIDE, "TS6": WIDE}
CAMERAS, CHEST_CAMERAS = 14, (0, 2, 4, 7, 8)
FPS, LONG = 25, 9000  # training videos of more frames have twice as many a second
# The place of each joint of MPI_INF_3DHP_17 among the training set's 28. The published list has head and head top the
# other way round, which puts the nose above the head.
JOINTS = (7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6)
ACTIVITIES = (
    "Standing or walking", "Exercise", "Sitting", "Crouching or reaching", "On the floor", "Sports", "Miscellaneous"
)  # fmt: skip
FARTHEST = 20  # pixels by which the middle joint may be off where its camera puts it


def annotations(file: Path, *keys: str) -> dict[str, list]:
    """Variables of an annot.mat that are cells, one for each of the 14 cameras.

    Raises:
        InputError: the file is missing or damaged, a variable is missing, or has other than 14 cells.
    """
    found = load_mat(file, required=keys)
    for key in keys:
        cells = found[key] if isinstance(found[key], list) else []
        if len(cells) != CAMERAS:
            raise InputError(f"{file}: {key} has {len(cells)} cameras; expected the 14 of MPI-INF-3DHP's training set")
    return {key: found[key] for key in keys}


def h36m_joints(cell: object, dims: int, where: str) -> np.ndarray:
    """One camera's points (T, 28 dims) -> (T, 17, dims), Human3.6M's joints."""
    if not isinstance(cell, np.ndarray) or cell.dtype.kind not in "fiu" or cell.shape[1:] != (28 * dims,):
        raise InputError(f"{where} has shape {np.shape(cell)}; expected numbers (frames, {28 * dims}): 28 joints")
    return convert(cell.reshape(-1, 28, dims)[:, JOINTS], MPI_INF_3DHP_17, H36M_17)


# ------------------------------------------------------------ training videos


def training_take(folder: Path, cameras: Sequence[int] = CHEST_CAMERAS, universal: bool = True) -> Take:
    """The video of a folder S1/Seq1 in some cameras, 25 frames per second.

    universal: in universal coordinates, as the test set's are: person and distances scaled alike, so that the pictures
    stay what they are; else as large as the person is.

    Raises:
        InputError: a file is missing or damaged, frames or cameras do not fit each other.
    """
    views = _calibration(folder / "camera.calibration")
    if missing := [number for number in cameras if number not in range(min(len(views), CAMERAS))]:
        raise InputError(f"{folder}: no camera {missing[0]}; there are 0 to {min(len(views), CAMERAS) - 1}")
    views = [views[number] for number in cameras]
    file = folder / "annot.mat"
    cells = annotations(file, "annot2", "annot3", *["univ_annot3"] * universal)
    keypoints = [h36m_joints(cells["annot2"][number], 2, f"{file}: annot2, camera {number}") for number in cameras]
    first = cameras[0]
    poses = h36m_joints(cells["annot3"][first], 3, f"{file}: annot3, camera {first}") / 1000
    counts = {len(poses), *map(len, keypoints)}
    if len(counts) > 1 or not len(poses):
        raise InputError(
            f"{file}: annot2 and annot3 have {', '.join(map(str, sorted(counts)))} frames; expected as many"
        )
    scale = 1.0
    if universal:
        other = h36m_joints(cells["univ_annot3"][first], 3, f"{file}: univ_annot3, camera {first}") / 1000
        scale = _size(other) / _size(poses)
    world = (poses - views[0]["translation"]) @ views[0]["rotation"]
    upright = _z_up(world, file)
    for view in views:
        view["rotation"], view["translation"] = view["rotation"] @ upright.T, scale * view["translation"]
    world = scale * world @ upright.T
    for number, view, points in zip(cameras, views, keypoints, strict=True):
        _check_pixels(projected(world, view), points, f"{file}, camera {number}, and camera.calibration")
    step = 2 if len(world) > LONG else 1
    return Take(world[::step], views, [points[::step] for points in keypoints])


def _size(poses: np.ndarray) -> float:
    return float(np.linalg.norm(poses - poses[:, :1], axis=-1).mean())


def _z_up(world: np.ndarray, file: Path) -> np.ndarray:
    """The rotation (3, 3) to z up of a world whose y points up or down, by the people: the capture's points down."""
    feet = world[:, [H36M_17.index("left foot"), H36M_17.index("right foot")]].mean(1)
    up = world[:, H36M_17.index("thorax")] - feet
    share = float((up[:, 1] / np.linalg.norm(up, axis=-1)).mean())
    if not abs(share) > 0.5:
        raise InputError(f"{file}: people do not stand along the y axis of camera.calibration's world: another file?")
    sign = np.sign(share)
    return np.array([[1, 0, 0], [0, 0, -sign], [0, sign, 0]])


def _calibration(file: Path) -> list[dict]:
    """The cameras of a camera.calibration, in its order, metres."""
    try:
        lines = [line.split() for line in read_bytes(file).decode(errors="replace").splitlines()]
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}; it lies beside annot.mat in the release") from error
    found: list[dict[str, list[str]]] = []
    for key, *words in filter(None, lines):
        if key == "name":
            found.append({})
        if found:
            found[-1][key] = words
    return [_calibrated(lines, f"{file}: camera {number}") for number, lines in enumerate(found)]


def _calibrated(lines: dict[str, list[str]], where: str) -> dict:
    numbers = {}
    for key, count in (("size", 2), ("intrinsic", 16), ("extrinsic", 16)):
        try:
            numbers[key] = np.array(lines.get(key, ()), float)
        except ValueError as error:
            raise InputError(f"{where}: {key} is not of numbers ({error})") from error
        if len(numbers[key]) != count or not np.isfinite(numbers[key]).all():
            raise InputError(f"{where} has {len(numbers[key])} numbers for {key}; expected {count}")
    extrinsic = numbers["extrinsic"].reshape(4, 4)
    rotation = extrinsic[:3, :3]
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or np.linalg.det(rotation) < 0:
        raise InputError(f"{where}: the extrinsic matrix holds no rotation")
    name, size = " ".join(lines["name"]), numbers["size"].astype(int).tolist()
    return camera(numbers["intrinsic"].reshape(4, 4)[:3, :3], size, rotation, extrinsic[:3, 3] / 1000, name)


# ------------------------------------------------------------ test videos


def testing_takes(folder: Path) -> tuple[dict[str, Take], float]:
    """The valid frames of a folder TS1 to TS6: activity and number -> take, universal coordinates, and how far the
    middle joint lies from its pixels.

    Frames that follow each other in one activity are a take. The file has no camera: its focal length and centre are
    those that best carry the poses onto their pixels, and up is the picture's.

    Raises:
        InputError: the file is missing or damaged, holds other shapes, or poses and pixels of no one camera.
    """
    file = folder / "annot_data.mat"
    size = TEST_SIZES[folder.name]
    try:
        data = read_bytes(file)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    poses = _test_points(data, "univ_annot3", 3, file) / 1000
    pixels = _test_points(data, "annot2", 2, file)
    valid = read_h5(data, "valid_frame", str(file)).reshape(-1) != 0
    activity = _activity(data, file, len(valid))
    counts = [len(values) for values in (poses, pixels, valid, activity)]
    if len(set(counts)) > 1 or not valid.any():
        raise InputError(
            f"{file}: univ_annot3, annot2, valid_frame, activity_annotation have {', '.join(map(str, counts))} frames, "
            f"{valid.sum()} of them valid; expected as many of each, and some valid"
        )
    if not np.isin(activity[valid], np.arange(1, len(ACTIVITIES) + 1)).all():
        raise InputError(f"{file}: activity_annotation has other numbers than 1 to {len(ACTIVITIES)}")
    view = camera(_fitted(poses[valid], pixels[valid]), size, CAMERA_TO_Z_UP.T, np.zeros(3), folder.name)
    world = upright_camera_frame(poses)
    off = _check_pixels(projected(world[valid], view), pixels[valid], f"{file}: univ_annot3")
    takes: dict[str, Take] = {}
    seen = dict.fromkeys(ACTIVITIES, 0)
    for rows in runs(valid, activity):
        name = ACTIVITIES[int(activity[rows.start]) - 1]
        seen[name] += 1
        takes[f"{name} {seen[name]}"] = Take(world[rows], [view], [pixels[rows]])
    return takes, off


def _activity(data: bytes, file: Path, count: int) -> np.ndarray:
    """(T,) numbers of ACTIVITIES; the last, with a word about it, where the file has none."""
    try:
        return read_h5(data, "activity_annotation", str(file)).reshape(-1)
    except InputError as error:
        log.warning("%s: all frames count as %s", error, ACTIVITIES[-1])
        return np.full(count, len(ACTIVITIES))


def _test_points(data: bytes, key: str, dims: int, file: Path) -> np.ndarray:
    """(T, 17, dims) in Human3.6M's order."""
    points = read_h5(data, key, str(file))
    if points.dtype.kind not in "fiu" or points.ndim != 4 or points.shape[1:] != (1, 17, dims):
        raise InputError(f"{file}: {key} has shape {points.shape}; expected numbers (frames, 1, 17, {dims})")
    return convert(points[:, 0].astype(float), MPI_INF_3DHP_17, H36M_17)


def _fitted(poses: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """The camera matrix (3, 3) of least squares for camera-frame poses (N, 17, 3) and their pixels (N, 17, 2)."""
    slopes, matrix = poses[..., :2] / poses[..., 2:], np.eye(3)
    for axis in (0, 1):
        ray = slopes[..., axis].ravel()
        (focal, centre), *_ = np.linalg.lstsq(np.stack((ray, np.ones_like(ray)), 1), pixels[..., axis].ravel())
        matrix[axis, axis], matrix[axis, 2] = focal, centre
    return matrix


def _check_pixels(found: np.ndarray, pixels: np.ndarray, where: str) -> float:
    """The middle distance between projected joints and the annotated ones, pixels; refused where it is large."""
    off = float(np.median(np.linalg.norm(found - pixels, axis=-1)))
    if not off < FARTHEST:
        raise InputError(
            f"{where}: the middle joint is {off:.0f} pixels off where annot2 has it; do the files belong together?"
        )
    return off
