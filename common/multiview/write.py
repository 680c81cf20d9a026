"""Writer of multi-view image sets in the layout of Rhodin et al. (ECCV 2018) from any Human3.6M-layout motion.

    labels.h5                               one array for each key, one row a sample; see `LABELS`
    seq_%03d/cam_%02d/img_crop_%06d.png     the person before the camera's room
    seq_%03d/cam_%02d/bg_crop_%06d.png      the same piece of the empty room

The crop is what a camera without distortion sees that stands where the real one does and looks at the root. The real
cameras are Human3.6M's. `common.multiview.labels` reads such folders.
"""

import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy import ndarray as Array
from PIL import Image

from common.camera import Camera, h36m_cameras
from common.errors import InputError
from common.files.atomic import atomic_path, one_at_a_time, write_atomic
from common.files.npz import load_npz
from common.h36m import TEST_SUBJECTS
from common.multiview.labels import LABELS_FILE, image_file
from common.rotation import quaternion_to_matrix
from common.skeleton import H36M_17, H36M_32, convert
from common.synthetic.capsules import Light, View, draw
from common.synthetic.clutter import make_room
from common.synthetic.figure import Look, dress, make_look

STAMP = ".options.json"  # what an unfinished or finished folder was made with
VERSION = 2
LABELS = {  # row shapes; N samples. int32 and float32
    "frame": (1,), "cam": (1,), "seq": (1,), "subj": (1,),  # frame in the source; cameras 0 to 3; S9 is 9
    "3D": (51,),  # x0 y0 z0 x1 ..., 17 joints, metres, root-relative, crop camera's frame (x right, y down, z forward)
    "bounding_box_cam": (4,),  # left, top, width, height of the crop in the camera's image, pixels
    "intrinsic_crop": (3, 3),  # of the crop camera, pixels
    "extrinsic_rot": (3, 3),  # world -> crop camera, for column vectors
    "extrinsic_rot_inv": (3, 3),
    "pose_mean": (51,), "pose_std": (51,),  # of "3D" over the training subjects, the same in every row
}  # fmt: skip
WINDOW = 2.1  # metres that the crop shows at the root's distance: a standing person from head to foot
ROOM = 1800  # pixels of a camera's room; the camera's image is its middle
LAMP = np.array((0.45, 0.3, 0.84))  # world, unit


@dataclass(frozen=True)
class Take:
    """One sequence: world joints of the frames wanted."""

    subject: str
    action: str
    number: int  # of the sequence
    frames: Array  # (T,) frame numbers in the source
    joints: Array  # (T, 17, 3), metres


def read_motion(data_dir: str | Path, dataset: str, subjects: str) -> dict[str, dict[str, Array]]:
    """World joints of a Human3.6M-layout set: subject -> action -> (T, 17, 3), metres; `subjects`: names with commas.

    Raises:
        InputError: the file is missing or damaged, a subject unknown, an array of another shape or not finite.
    """
    path = Path(data_dir) / f"data_3d_{dataset}.npz"
    poses = load_npz(path, required=("positions_3d",))["positions_3d"]
    names = list(dict.fromkeys(name.strip() for name in subjects.split(",") if name.strip()))
    unknown = [name for name in names if not isinstance(poses, dict) or not isinstance(poses.get(name), dict)]
    if unknown or not names:
        there = ", ".join(map(str, poses)) if isinstance(poses, dict) else "no subjects"
        raise InputError(f"{path} has no subject {', '.join(unknown) or repr(subjects)}; it has: {there}")
    return {name: {a: _joints_17(poses[name][a], f"{path}: {name}, {a}") for a in poses[name]} for name in names}


def _joints_17(points: Array, where: str) -> Array:
    shape = getattr(points, "shape", ())
    layout = {(32, 3): H36M_32, (17, 3): H36M_17}.get(tuple(shape[1:]))
    if layout is None:
        raise InputError(f"{where} has shape {shape}; expected (frames, 32 or 17 joints, 3)")
    if not np.isfinite(points).all():
        raise InputError(f"{where} holds NaN or infinity; repair the file or choose other subjects")
    return convert(points, layout, H36M_17)


def choose_takes(poses: dict[str, dict[str, Array]], frames: int) -> list[Take]:
    """About `frames` frames of each subject, evenly spread over its takes; poses: subject -> action -> (T, 17, 3)."""
    takes = []
    for subject, actions in poses.items():
        total = sum(map(len, actions.values()))
        wanted = np.unique(np.linspace(0, total - 1, min(frames, total)).round().astype(int))
        start = 0
        for action, joints in actions.items():
            chosen = wanted[(wanted >= start) & (wanted < start + len(joints))] - start
            if len(chosen):
                number = list(poses).index(subject) * 100 + list(actions).index(action)
                takes.append(Take(subject, action, number, chosen, np.asarray(joints, np.float64)[chosen]))
            start += len(joints)
    return takes


def write_multiview(
    folder: str | Path,
    poses: dict[str, dict[str, Array]],
    size: int = 128,
    frames: int = 200,
    seed: int = 0,
    force: bool = False,
    progress: Callable[[Iterable, int], Iterable] = lambda items, total: items,
) -> Path:
    """Write the folder; what an interrupted call left is kept and finished. `labels.h5` comes last.

    Args:
        poses: subject -> action -> world joints (T, 17, 3), metres, z up.
        size: of the square crops, pixels. frames: of each subject, each in four cameras.
        force: replace a folder that was made with other options.
        progress: wraps the iteration over the samples, given their number.

    Returns:
        the path of `labels.h5`.

    Raises:
        InputError: the folder holds another set, a subject has no cameras, or it cannot be written.
    """
    folder = Path(folder)
    unknown = [subject for subject in poses if subject not in h36m_cameras()]
    if unknown:
        raise InputError(f"no camera calibration for {', '.join(unknown)}; there is for: {', '.join(h36m_cameras())}")
    takes = choose_takes(poses, frames)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot use the folder {folder}: {error.strerror or error}; choose another") from error
    with one_at_a_time(folder / ".lock"):
        _claim(folder, {"version": VERSION, "size": size, "seed": seed, "content": _digest(takes)}, force)
        return _write_takes(folder, takes, size, seed, progress)


def _write_takes(folder: Path, takes: list[Take], size: int, seed: int, progress: Callable) -> Path:
    """Render the images of all takes and write them with their labels; -> the labels' file."""
    rooms = [Image.fromarray(make_room(ROOM, ROOM, seed, camera)) for camera in range(4)]
    rows = []
    try:
        for take, row, camera in progress(_samples(takes), 4 * sum(len(take.frames) for take in takes)):
            look = make_look(seed, zlib.crc32(take.subject.encode()))
            rows.append(_write_sample(folder, take, row, camera, look, rooms[camera], size))
    except OSError as error:
        raise InputError(f"cannot write in {folder}: {error.strerror or error}") from error
    return _write_labels(
        folder / LABELS_FILE, rows, [take.subject for take in takes for _ in range(4 * len(take.frames))]
    )


def _samples(takes: list[Take]) -> Iterator[tuple[Take, int, int]]:
    for take in takes:
        for row in range(len(take.frames)):
            for camera in range(4):
                yield take, row, camera


def _digest(takes: list[Take]) -> int:
    value = 0
    for take in takes:
        value = zlib.crc32(f"{take.subject}/{take.action}".encode(), value)
        value = zlib.crc32(take.joints.tobytes(), zlib.crc32(take.frames.astype(np.int64).tobytes(), value))
    return value


def _claim(folder: Path, options: dict, force: bool) -> None:
    """Make the folder ours, or go on with it."""
    try:
        there = [path for path in folder.iterdir() if path.name == LABELS_FILE or re.fullmatch(r"seq_\d+", path.name)]
        stamp = folder / STAMP
        same = stamp.is_file() and stamp.read_text() == json.dumps(options)
        if there and not same:
            if not force:
                raise InputError(
                    f"{folder} holds a multi-view set that was made otherwise; --force replaces it, or name another"
                )
            for path in there:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    except OSError as error:
        raise InputError(f"cannot use the folder {folder}: {error.strerror or error}; choose another") from error
    if not same:
        write_atomic(stamp, lambda file: file.write(json.dumps(options).encode()))


# ------------------------------------------------------------ one sample


def crop_camera(root: Array, camera: Camera, size: int) -> tuple[Array, Array]:
    """World -> crop camera rotation (3, 3), and its intrinsics (3, 3), for a root (3,) in the world, metres."""
    rotation = quaternion_to_matrix(torch.tensor(camera.orientation, dtype=torch.float64)).numpy().T
    ahead = rotation @ (root - camera.translation)
    distance = np.linalg.norm(ahead)
    rotation = _towards(ahead / distance) @ rotation
    focal = size * distance / WINDOW
    middle = (size - 1) / 2
    return rotation, np.array(((focal, 0, middle), (0, focal, middle), (0, 0, 1)))


def _towards(direction: Array) -> Array:
    """The smallest rotation (3, 3) that carries a unit vector in front of the camera onto its axis z."""
    x, y, z = direction
    return np.array(
        ((1 - x * x / (1 + z), -x * y / (1 + z), -x), (-x * y / (1 + z), 1 - y * y / (1 + z), -y), (x, y, z))
    )


def _write_sample(folder: Path, take: Take, row: int, number: int, look: Look, room: Image.Image, size: int) -> dict:
    """Write both crops unless they are there; the sample's labels."""
    camera, joints = h36m_cameras()[take.subject][number], take.joints[row]
    rotation, intrinsics = crop_camera(joints[0], camera, size)
    points = (joints - camera.translation) @ rotation.T
    to_image = _to_image(rotation, intrinsics, camera)
    place = take.number, number, int(take.frames[row])
    paths = [image_file(folder, *place, key) for key in ("bg_crop", "img_crop")]
    if not all(path.is_file() for path in paths):
        background = _empty(room, to_image, camera, size)
        lens = np.array((intrinsics[0, 0], intrinsics[1, 1], *intrinsics[:2, 2], 0, 0, 0, 0, 0))
        view = View(lens, np.eye(2, 3), float(points[0, 2]))
        layer = draw(dress(points, look, view), Light(rotation @ LAMP), size, size)
        for path, image in zip(paths, (background, layer.over(background)), strict=True):
            _save(path, image)
    return {
        "frame": place[2], "cam": number, "seq": take.number, "subj": int(take.subject.removeprefix("S")),
        "3D": (points - points[0]).ravel(), "bounding_box_cam": _box(to_image, size), "intrinsic_crop": intrinsics,
        "extrinsic_rot": rotation, "extrinsic_rot_inv": rotation.T,
    }  # fmt: skip


def _to_image(rotation: Array, intrinsics: Array, camera: Camera) -> Array:
    """Homography (3, 3): pixels of the crop -> pixels of the camera's image (its lens without distortion)."""
    world = quaternion_to_matrix(torch.tensor(camera.orientation, dtype=torch.float64)).numpy()
    lens = np.array(((camera.focal[0], 0, camera.centre[0]), (0, camera.focal[1], camera.centre[1]), (0, 0, 1)))
    return lens @ world.T @ rotation.T @ np.linalg.inv(intrinsics)


def _box(to_image: Array, size: int) -> Array:
    """Left, top, width, height (4,) around the crop's corners in the camera's image."""
    corners = np.array([(x, y, 1) for x in (-0.5, size - 0.5) for y in (-0.5, size - 0.5)]) @ to_image.T
    corners = corners[:, :2] / corners[:, 2:]
    return np.concatenate((corners.min(0), corners.max(0) - corners.min(0)))


def _empty(room: Image.Image, to_image: Array, camera: Camera, size: int) -> Array:
    """The crop's piece of the camera's room, (size, size, 3) uint8."""
    margin = (ROOM - camera.width) / 2, (ROOM - camera.height) / 2
    to_room = np.array(((1, 0, margin[0] + 0.5), (0, 1, margin[1] + 0.5), (0, 0, 1))) @ to_image
    to_room = to_room @ np.array(((1, 0, -0.5), (0, 1, -0.5), (0, 0, 1)))  # Pillow counts from the pixels' corners
    to_room /= to_room[2, 2]
    data = tuple(to_room.ravel()[:8])
    return np.asarray(room.transform((size, size), Image.Transform.PERSPECTIVE, data, Image.Resampling.BILINEAR))


def _save(path: Path, image: Array) -> None:
    """A PNG, all or nothing: no `fsync`, for there are thousands; `labels.h5` tells that all are there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    Image.fromarray(image).save(temporary, format="PNG", compress_level=3)
    os.replace(temporary, path)


def _write_labels(path: Path, rows: list[dict], subjects: list[str]) -> Path:
    """All samples' labels, with the statistics of the training subjects' poses."""
    columns = {key: np.array([row[key] for row in rows]).reshape(len(rows), *LABELS[key]) for key in rows[0]}
    training = ~np.isin(subjects, TEST_SUBJECTS)
    poses = columns["3D"][training if training.any() else slice(None)]
    deviation = poses.std(0)
    deviation[deviation < 1e-6] = 1  # the root's, which is always 0
    columns["pose_mean"] = np.broadcast_to(poses.mean(0), (len(rows), 51))
    columns["pose_std"] = np.broadcast_to(deviation, (len(rows), 51))
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        for key, values in columns.items():
            file.create_dataset(key, data=values.astype(np.int32 if values.dtype.kind == "i" else np.float32))
    return path
