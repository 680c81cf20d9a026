"""Takes of Human3.6M, for the scripts that prepare it: names, checks, archives, and the form of the 2D files.

A take is one recording, "Walking 1"; a video is a take in one camera. VideoPose3D's rules (Pavllo et al., CVPR 2019):
seven subjects, 15 actions, two takes of each; "TakingPhoto" and "WalkingDog" are Photo and WalkDog; S11's take
"Directions", whose video is damaged, is left out in 3D and in 2D.
"""

import io
import logging
import re
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from common.camera import h36m_cameras
from common.datasets.contract import LAYOUTS_2D
from common.errors import InputError
from common.files.npz import load_npz, save_npz
from common.files.reading import check_bytes, reading
from common.h36m import SUBJECTS, action_label, canonical_action
from common.skeleton import H36M_17, H36M_32, Skeleton

log = logging.getLogger(__name__)

ACTIONS = (
    "Directions", "Discussion", "Eating", "Greeting", "Phoning", "Photo", "Posing", "Purchases", "Sitting",
    "SittingDown", "Smoking", "Waiting", "WalkDog", "WalkTogether", "Walking",
)  # fmt: skip
TAKES = 2  # of each action by each subject
DAMAGED = ("S11", "Directions")
FRAMES = 525_774  # of all takes that are kept, in each camera, at 50 Hz: 389,938 to train and 135,836 to test
FILE_3D = "data_3d_h36m.npz"
HIP_TO_HEAD = (0.3, 1.0)  # metres in which the middle of all hip-head distances must lie
PERSON_SIZE = (40, 1100)  # pixels in which the middle of the people's longer sides must lie
LARGEST = 1 << 28  # bytes of one file in an archive: a take has 5 million

Takes = dict[str, dict[str, np.ndarray]]  # subject -> take -> (T, 32, 3)
Videos = dict[str, dict[str, list[np.ndarray | None]]]  # subject -> take -> (T, J, 2) in each camera


# ------------------------------------------------------------ names


def take_name(text: str) -> str | None:
    """The canonical name of a take, "TakingPhoto_1" -> "Photo 1"; None if it is of none of the 15 actions ("_ALL")."""
    name = canonical_action(text.replace("_", " "))
    return name if action_label(name) in ACTIONS else None


def camera_number(identity: str) -> int | None:
    """The place of a camera in the 2D files, "54138969" -> 0; None for a name that is no camera's."""
    names = [camera.id for camera in h36m_cameras()["S1"]]
    return names.index(identity) if identity in names else None


def expected_takes(subject: str, action: str) -> int:
    """How many takes of an action are kept: two, and one of S11's Directions."""
    return TAKES - ((subject, action) == DAMAGED)


# ------------------------------------------------------------ gathering


class Gathered:
    """Takes and videos as they are found, each once, in canonical names; what is passed over is counted."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.tree: dict[str, dict] = {}
        self.passed_over: list[str] = []

    def wanted(self, subject: str, text: str) -> str | None:
        """The name under which a take is to be read; None where it is left out."""
        name = take_name(text)
        if subject in SUBJECTS and name and (subject, name) != DAMAGED:
            return name
        self.passed_over.append(f"{subject} {name or text}")
        return None

    def add_take(self, subject: str, name: str, poses: np.ndarray) -> None:
        """Keep a take's poses."""
        takes = self.tree.setdefault(subject, {})
        self._once(name in takes, subject, name)
        takes[name] = poses

    def add_video(self, subject: str, name: str, camera: int, points: np.ndarray) -> None:
        """Keep a video's keypoints."""
        views = self.tree.setdefault(subject, {}).setdefault(name, [None] * len(h36m_cameras()["S1"]))
        self._once(views[camera] is not None, subject, name)
        views[camera] = points

    def _once(self, again: bool, subject: str, name: str) -> None:
        if again:
            raise InputError(f"{self.source} has {subject} {name} twice (under two names?): leave one there")

    def finish(self, partial: bool) -> dict[str, dict]:
        """What was found, subjects and takes in order. Takes that lack a camera are left out, and count as missing.

        Raises:
            InputError: nothing was found; something is missing and `partial` is false: what.
        """
        lines = _drop_incomplete(self.tree)
        lines += missing_takes(self.tree)
        found = {s: dict(sorted(self.tree[s].items())) for s in SUBJECTS if self.tree.get(s)}
        if self.passed_over:
            names = list(dict.fromkeys(self.passed_over))
            log.info("left out: %s", ", ".join(names[:8]) + (f" and {len(names) - 8} more" if names[8:] else ""))
        if lines:
            number, whole = sum(len(takes) for takes in found.values()), _count_expected()
            text = f"{self.source} is not complete: {number} of {whole} takes; found {'; '.join(lines)}"
            if not partial or not found:
                raise InputError(text + ("; fetch them, or --partial writes what is there" if found else ""))
            log.warning("%s", text)
        return found


def _drop_incomplete(tree: dict[str, dict]) -> list[str]:
    """Take the takes out of `tree` that lack a camera; lines that name the videos."""
    lines = []
    for subject, takes in tree.items():
        for name, views in list(takes.items()):
            cameras = h36m_cameras()[subject]
            absent = isinstance(views, list) and [c.id for c, v in zip(cameras, views, strict=True) if v is None]
            if absent:
                lines.append(f"{subject} {name} without camera {', '.join(absent)}")
                del takes[name]
    return lines


def missing_takes(tree: Mapping[str, Collection[str]]) -> list[str]:
    """What subject -> takes lacks of 7 subjects x 15 actions x 2 takes (S11: one of Directions), by subject."""
    lines = []
    for subject in SUBJECTS:
        counts = [sum(action_label(take) == action for take in tree.get(subject, ())) for action in ACTIONS]
        wrong = [
            f"{action} ({count} of {expected_takes(subject, action)})"
            for action, count in zip(ACTIONS, counts, strict=True)
            if count != expected_takes(subject, action)
        ]
        if wrong:
            lines.append(f"{subject} {', '.join(wrong)}" if any(counts) else f"nothing of {subject}")
    return lines


def _count_expected() -> int:
    return sum(expected_takes(subject, action) for subject in SUBJECTS for action in ACTIONS)


# ------------------------------------------------------------ arrays


def poses_in_metres(values: object, where: str) -> np.ndarray:
    """Positions (T, 96) or (1, T, 96) in millimetres, as released -> (T, 32, 3) float32, metres.

    Raises:
        InputError: another shape, no numbers, no frames, NaN.
    """
    released = values if isinstance(values, np.ndarray) else np.array(None)
    array = released[0] if released.ndim == 3 and len(released) == 1 else released
    columns = 3 * H36M_32.num_joints
    if array.dtype.kind != "f" or array.ndim != 2 or array.shape[1] != columns or not len(array):
        raise InputError(
            f"{where} has shape {released.shape} of {array.dtype}; expected (frames, {columns}): x y z of 32 joints in "
            "millimetres (D3_Positions)"
        )
    _check_finite(array, where)
    return (array / 1000).astype(np.float32).reshape(-1, H36M_32.num_joints, 3)


def check_people(takes: Mapping[str, np.ndarray], where: str) -> None:
    """Refuse a subject's poses (T, 32, 3) that are not metres in a world whose z points up."""
    trunk = np.concatenate([poses[:, H36M_32.index("head")] - poses[:, H36M_32.root] for poses in takes.values()])
    size, (low, high) = np.median(np.linalg.norm(trunk, axis=-1)), HIP_TO_HEAD
    if not low <= size <= high:
        raise InputError(
            f"{where}: the middle distance from hip to head is {1000 * size:.4g} mm; expected {1000 * low:.0f} to "
            f"{1000 * high:.0f}: are these Human3.6M's D3_Positions, in millimetres?"
        )
    if np.median(trunk[:, 2]) < low / 2:
        raise InputError(
            f"{where}: the people do not stand along z: expected world coordinates, D3_Positions, not those of a "
            "camera (D3_Positions_mono)"
        )


def keypoints(values: object, where: str, joints: int | None = None) -> np.ndarray:
    """Keypoints (T, J, 2), or (T, J, 3) with a confidence that is left off -> (T, J, 2) float32; NaN stays."""
    array = values if isinstance(values, np.ndarray) else np.array(None)
    good = array.dtype.kind in "fiu" and array.ndim == 3 and len(array) and array.shape[2] in (2, 3)
    if not good or joints not in (None, array.shape[1]):
        raise InputError(
            f"{where} has shape {array.shape} of {array.dtype}; expected keypoints (frames, {joints or 'joints'}, 2) "
            "in pixels"
        )
    return array[..., :2].astype(np.float32, order="C")


def check_pixels(takes: Mapping[str, list[np.ndarray]], subject: str, where: str) -> None:
    """Refuse keypoints of a subject that are not finite, or not pixels of Human3.6M's pictures, about 1000 by 1000."""
    for name, views in takes.items():
        for camera, points in zip(h36m_cameras()[subject], views, strict=True):
            _check_finite(points, f"{where}: {subject} {name}, camera {camera.id}")
            middle = np.median(points, (0, 1))
            size = np.median(np.ptp(points, axis=1).max(-1))
            inside = (middle > 0).all() and middle[0] < camera.width and middle[1] < camera.height
            if not inside or not PERSON_SIZE[0] <= size <= PERSON_SIZE[1]:
                raise InputError(
                    f"{where}: {subject} {name}, camera {camera.id}: people of {size:.3g} pixels around "
                    f"({middle[0]:.3g}, {middle[1]:.3g}); expected pixels of a picture of {camera.width} by "
                    f"{camera.height}, not normalised, not of a crop"
                )


def _check_finite(array: np.ndarray, where: str) -> None:
    finite = np.isfinite(array.reshape(len(array), -1)).all(1)
    if not finite.all():
        raise InputError(f"NaN or infinity in {where}, frame {finite.argmin()} ({(~finite).sum()} bad frames)")


# ------------------------------------------------------------ the 2D files


def layout_skeleton(layout: str, joints: int, where: str) -> Skeleton:
    """The joints of a layout name ("h36m", "coco", "mpii") and a joint count."""
    found = next((known for known in LAYOUTS_2D[layout] if known.num_joints == joints), None)
    if found is None:
        counts = " or ".join(str(known.num_joints) for known in LAYOUTS_2D[layout])
        raise InputError(f"{where}: {joints} joints; the layout {layout} has {counts}")
    return found


def metadata(layout: str, skeleton: Skeleton = H36M_17) -> dict:
    """VideoPose3D's `metadata`: the layout's name, the number of joints, the joints of the left and the right side."""
    return {
        "layout_name": layout,
        "num_joints": skeleton.num_joints,
        "keypoints_symmetry": [list(skeleton.left), list(skeleton.right)],
    }


def save_keypoints(target: Path, videos: Videos, layout: str, source: Path) -> str:
    """Check a set of 2D keypoints, write it, and tell in one line what was written. Lengths are held against the 3D.

    Raises:
        InputError: NaN, values that are no pixels, joint counts that differ or are not the layout's.
    """
    count = {points.shape[1] for takes in videos.values() for views in takes.values() for points in views}
    if len(count) > 1:
        raise InputError(f"{source} has keypoints of {' and '.join(map(str, sorted(count)))} joints; expected one")
    skeleton = layout_skeleton(layout, *count, str(source))
    for subject, takes in videos.items():
        check_pixels(takes, subject, str(source))
    _hold_against_poses(videos, target.parent / FILE_3D)
    save_npz(target, positions_2d=videos, metadata=metadata(layout, skeleton))
    frames = sum(len(points) for takes in videos.values() for views in takes.values() for points in views)
    number = sum(len(takes) for takes in videos.values())
    size = target.stat().st_size / 1e6
    return f"{target}  {number} takes, {frames:,} poses, {skeleton.num_joints} joints ({layout}), {size:.1f} MB"


def _hold_against_poses(videos: Videos, file_3d: Path) -> None:
    """Warn of videos that end before the poses do: a run on them would stop, or is cut short."""
    poses = load_npz(file_3d, required=("positions_3d",))["positions_3d"] if file_3d.exists() else {}
    short = []
    for subject, takes in poses.items():
        lengths = {canonical_action(name): len(world) for name, world in takes.items()}
        for name, views in videos.get(subject, {}).items():
            if min(map(len, views)) < lengths.get(name, 0):
                short.append(f"{subject} {name} ({min(map(len, views))} of {lengths[name]} frames)")
    if short:
        more = f" and {len(short) - 5} more" if short[5:] else ""
        log.warning("shorter than the poses in %s: %s%s", file_3d.name, ", ".join(short[:5]), more)


# ------------------------------------------------------------ archives and HDF5


class Member(NamedTuple):
    """A file in an archive or folder."""

    match: re.Match
    where: str  # for messages
    data: bytes


def archive_files(path: Path, pattern: str) -> Iterator[Member]:
    """The files of a zip, a tar (packed or not) or a folder whose path ends in `pattern`; nothing is unpacked to disk.

    Raises:
        InputError: it does not exist, is damaged or something else, or has no such file.
    """
    wanted = re.compile(rf"(?:.*/)?{pattern}")
    if not path.exists():
        raise InputError(f"{path} does not exist (looked for {path.absolute()})")
    found = False
    try:
        for name, size, read in _members(path):
            match = wanted.fullmatch(name)
            if match and "__MACOSX" not in name:  # not the shadows that a Mac leaves in a zip
                found = True
                if size > LARGEST:
                    raise InputError(f"{path}: {name} has {size:,} bytes; expected {LARGEST:,} at most")
                yield Member(match, f"{path}, {name}", read())
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, OSError, RuntimeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise InputError(f"{path} is truncated or damaged ({reason}): fetch it again") from error
    if not found:
        raise InputError(f"{path} has no file of the form {pattern}; another archive?")


def _members(path: Path) -> Iterator[tuple[str, int, object]]:
    """Name, size and a reader of every file, in the order of the archive: a packed tar is read once."""
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file():
                yield f"{path.name}/{file.relative_to(path).as_posix()}", file.stat().st_size, file.read_bytes
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                yield info.filename, info.file_size, lambda info=info: archive.read(info)
    elif tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            for info in archive:
                if info.isfile():
                    yield info.name, info.size, lambda info=info: archive.extractfile(info).read()
    else:
        raise InputError(f"{path} is no zip, no tar and no folder, or it is truncated: fetch it again")


def read_h5(data: bytes, key: str, where: str) -> np.ndarray:
    """The array `key` of an HDF5 file; links out of the file are not followed."""
    with reading(where, "HDF5", "fetch it again"):
        with h5py.File(io.BytesIO(data), "r") as file:
            item = file[key] if isinstance(file.get(key, getlink=True), h5py.HardLink) else None
            plain = isinstance(item, h5py.Dataset) and not item.dtype.hasobject
            plain = plain and not item.external and not item.is_virtual
            if not plain:
                raise InputError(f"{where} has no array {key}; it has: {', '.join(file) or 'none'}")
            check_bytes(item.size * max(item.dtype.itemsize, 8), len(data), f"{where}: {key}")
            return item[()]
