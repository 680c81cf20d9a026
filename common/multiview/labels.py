"""Multi-view image sets: labels of synchronised cameras and the crops around a person.

A folder in the layout of Rhodin et al. (ECCV 2018) holds `labels.h5`, one array for each key with one row a sample, and

    seq_%03d/cam_%02d/img_crop_%06d.png     the crop (sequence, camera, frame)
    seq_%03d/cam_%02d/bg_crop_%06d.png      the same crop of the empty background

Keys: `frame`, `cam`, `seq`, `subj`, whole numbers (N,) or (N, 1); `extrinsic_rot` (N, 3, 3), the rotation from the
world into the crop's camera, for column vectors; `3D` (N, 51), x0 y0 z0 x1 ... of 17 joints relative to the root, in
the crop camera's frame; `pose_mean`, `pose_std` (N, 51), by which the pose head normalises. Other keys are left alone.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from common.errors import InputError
from common.files.reading import check_bytes, open_image, reading

LABELS_FILE = "labels.h5"
INDEX = ("subj", "seq", "frame", "cam")
POSE = ("3D",)
NORMALISED_POSE = ("3D", "pose_mean", "pose_std")
IMAGES = ("img_crop", "bg_crop")
ORTHOGONAL = 1e-3  # how far R R^T may be from the identity: labels are float32, calibrations have few digits
# of ImageNet's RGB images, in 0..1: the networks' inputs and outputs are (image - mean) / deviation
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


# ------------------------------------------------------------ labels


@dataclass(frozen=True)
class Labels:
    """Labels of N samples, on one device.

    subject, sequence, frame, camera: (N,) int64; world_to_camera: (N, 3, 3) float32, its transpose is the inverse;
    pose, mean, std: (N, 51) float32 in the file's unit, None where they were not asked for.
    """

    subject: Tensor
    sequence: Tensor
    frame: Tensor
    camera: Tensor
    world_to_camera: Tensor
    pose: Tensor | None = None
    mean: Tensor | None = None
    std: Tensor | None = None

    def __len__(self) -> int:
        return len(self.subject)

    def to(self, device: torch.device | str) -> "Labels":
        """The same on another device; batches then take their rows by `labels[rows]`, without a copy from the host."""
        return self._each(lambda value: value.to(device))

    def __getitem__(self, rows: Tensor) -> "Labels":
        return self._each(lambda value: value[rows])

    def _each(self, change) -> "Labels":
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return Labels(**{name: None if value is None else change(value) for name, value in values.items()})


def read_labels(folder: str | Path, needs: Sequence[str] = ()) -> Labels:
    """Read `labels.h5` of a folder into memory.

    needs: keys besides the index and `extrinsic_rot`: `POSE` or `NORMALISED_POSE`.

    Raises:
        InputError: no such folder or file, a damaged file; a key is missing, of another length, of another shape, not
            finite; a matrix of `extrinsic_rot` is no rotation.
    """
    path = Path(folder) / LABELS_FILE
    arrays = _read_arrays(path, (*INDEX, "extrinsic_rot", *needs))
    count = len(arrays["frame"])
    for key, array in arrays.items():
        if len(array) != count or not count:
            raise InputError(
                f"{path}: {key} has {len(array)} rows and frame has {count}; expected one for each sample: make the "
                "file again"
            )
    index = {key: _whole_numbers(arrays[key], key, path) for key in INDEX}
    rotation = _numbers(arrays["extrinsic_rot"], "extrinsic_rot", 9, path).reshape(-1, 3, 3)
    _check_rotations(rotation, index, path)
    numbers = {key: _numbers(arrays[key], key, 51, path) for key in needs}
    if "pose_std" in numbers and (numbers["pose_std"] < 0).any():
        raise InputError(f"{path}: pose_std has numbers below 0, which no deviation is; make the file again")
    poses = [torch.from_numpy(numbers[key]) if key in numbers else None for key in NORMALISED_POSE]
    subject, sequence, frame, camera = (torch.from_numpy(index[key]) for key in INDEX)
    return Labels(subject, sequence, frame, camera, torch.from_numpy(rotation), *poses)


def _read_arrays(path: Path, keys: Sequence[str]) -> dict[str, np.ndarray]:
    if not path.is_file():
        folder = path.parent
        problem = f"{folder} holds no {path.name}" if folder.is_dir() else f"there is no folder {folder.absolute()}"
        raise InputError(
            f"{problem}; expected a multi-view folder: data/make_synthetic.py --multiview {folder} writes one"
        )
    size = path.stat().st_size
    with reading(path, "HDF5 file", "copy or make it again"):
        with h5py.File(path, "r") as file:
            missing = [key for key in keys if not _is_array(file, key)]
            if missing:
                there = ", ".join(sorted(map(str, file))) or "none"
                raise InputError(
                    f"{path} has no array {', '.join(missing)}; it has: {there}; expected {', '.join(keys)}"
                )
            for key in keys:
                check_bytes(file[key].size * max(file[key].dtype.itemsize, 8), size, f"{path}: {key}")
            return {key: np.asarray(file[key][()]) for key in keys}


def _is_array(file: h5py.File, key: str) -> bool:
    """Whether the file itself holds this array: links to, and data in, other files are not followed."""
    if not isinstance(file.get(key, getlink=True), h5py.HardLink):
        return False
    item = file[key]
    plain = isinstance(item, h5py.Dataset) and not item.dtype.hasobject and item.ndim > 0
    return plain and not item.external and not item.is_virtual


def _numbers(array: np.ndarray, key: str, size: int, path: Path) -> np.ndarray:
    """(N, size) float32, finite."""
    if array.dtype.kind not in "fiu" or array[0].size != size:
        raise InputError(
            f"{path}: {key} has shape {array.shape} of {array.dtype}; expected {size} numbers for each of {len(array)} "
            "samples"
        )
    array = np.array(array, np.float32, order="C").reshape(len(array), size)
    finite = np.isfinite(array).all(1)
    if not finite.all():
        raise InputError(f"{path}: NaN or infinity in {key}, row {finite.argmin()} ({(~finite).sum()} bad rows)")
    return array


def _whole_numbers(array: np.ndarray, key: str, path: Path) -> np.ndarray:
    """(N,) int64."""
    numbers = _numbers(array, key, 1, path)[:, 0]
    whole = np.array(array).reshape(-1).astype(np.int64)  # not by way of float32, which ends at 2^24
    wrong = (numbers != whole.astype(np.float32)) | (whole < 0)
    if wrong.any():
        raise InputError(f"{path}: {key}, row {wrong.argmax()} is {numbers[wrong.argmax()]}; expected a whole number")
    return whole


def _check_rotations(rotation: np.ndarray, index: dict[str, np.ndarray], path: Path) -> None:
    off = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3, dtype=np.float32)).max((1, 2))
    determinant = np.linalg.det(rotation)
    wrong = (off > ORTHOGONAL) | (determinant < 0)
    if wrong.any():
        row = int(wrong.argmax())
        what = "mirrors" if off[row] <= ORTHOGONAL else f"is off by {off[row]:.3g} from having orthonormal rows"
        place = ", ".join(f"{key} {index[key][row]}" for key in INDEX)
        raise InputError(
            f"{path}: extrinsic_rot, row {row} ({place}) is no rotation: it {what} ({wrong.sum()} bad rows); expected "
            "the camera's rotation without scale or mirror image"
        )


# ------------------------------------------------------------ images


def image_file(folder: str | Path, sequence: int, camera: int, frame: int, key: str) -> Path:
    """Where the crop `key` of a sample lies."""
    return Path(folder) / f"seq_{sequence:03d}" / f"cam_{camera:02d}" / _name(key, frame)


def _name(key: str, frame: int) -> str:
    return f"{key}_{frame:06d}.png"


class MultiviewImages(Dataset):
    """The crops of a folder by rows of its labels, (B, S, S, 3) uint8 RGB for each of `keys`; see `normalise`.

    `self[rows]` and DataLoader's `__getitems__` read files; after `preload` they take them from memory.

    Args:
        folder: the multi-view folder.
        labels: of all its samples.
        keys: kinds of crops, of `IMAGES`.
        rows: (n,) those that will be read, default all; their files are looked for right away.
        resolution: S; None takes that of the first image.

    Raises:
        InputError: a file is missing, or the first one is damaged or of another size.
    """

    def __init__(
        self,
        folder: str | Path,
        labels: Labels,
        keys: Sequence[str] = IMAGES,
        rows: Tensor | np.ndarray | None = None,
        resolution: int | None = None,
    ):
        self.folder, self.keys = Path(folder), tuple(keys)
        self.place = torch.stack((labels.sequence, labels.camera, labels.frame), 1).cpu().numpy()
        self.rows = np.arange(len(labels)) if rows is None else np.unique(np.asarray(rows))
        self.memory: dict[str, Tensor] = {}
        self._check_files()
        first = self._path(int(self.rows[0]), self.keys[0])
        self.resolution = resolution or _image_size(first)
        _read_image(first, self.resolution)

    def __len__(self) -> int:
        return len(self.place)

    def __getitem__(self, rows: Tensor | np.ndarray) -> list[Tensor]:
        """rows: (B,) -> for each of `keys` (B, S, S, 3) uint8; on the device of `preload` after it."""
        if self.memory:
            rows = torch.as_tensor(rows)
            device = self.memory[self.keys[0]].device
            slots = self._slots.to(device)[rows.to(device)]
            return [self.memory[key][slots] for key in self.keys]
        return [self._read(np.asarray(rows), key) for key in self.keys]

    def __getitems__(self, rows: Sequence[int]) -> list[Tensor] | InputError:
        """As `self[rows]`. An error comes back as the result: a DataLoader's worker would make a traceback of it."""
        try:
            return self[np.asarray(rows)]
        except InputError as error:
            return error

    def preload(self, device: torch.device | str = "cpu", threads: int = 4) -> None:
        """Read every image of `rows` into memory of `device`, S S 3 bytes each: the fastest where they fit."""
        slots = torch.zeros(len(self.place), dtype=torch.int64)
        slots[torch.from_numpy(self.rows)] = torch.arange(len(self.rows))
        parts = np.array_split(self.rows, max(1, len(self.rows) // 256))
        with ThreadPoolExecutor(threads) as pool:  # decoding leaves Python's lock
            memory = {
                key: torch.cat(list(pool.map(lambda part, key=key: self._read(part, key), parts))).to(device)
                for key in self.keys
            }
        self._slots, self.memory = slots.to(device), memory

    def _read(self, rows: np.ndarray, key: str) -> Tensor:
        images = np.empty((len(rows), self.resolution, self.resolution, 3), np.uint8)
        for image, row in zip(images, rows.tolist(), strict=True):
            image[:] = _read_image(self._path(row, key), self.resolution)
        return torch.from_numpy(images)

    def _path(self, row: int, key: str) -> Path:
        return image_file(self.folder, *self.place[row].tolist(), key)

    def _check_files(self) -> None:
        """One listing a folder: a hundred thousand look-ups of single files would take minutes on a network's disk."""
        if not len(self.rows):
            raise InputError(f"{self.folder}: no samples are left to read; check the subjects and cameras asked for")
        views, inverse = np.unique(self.place[self.rows, :2], axis=0, return_inverse=True)
        for view in range(len(views)):
            rows = self.rows[inverse.reshape(-1) == view]
            folder = self._path(int(rows[0]), self.keys[0]).parent
            there = set(os.listdir(folder)) if folder.is_dir() else set()
            frames = self.place[rows, 2].tolist()
            missing = [name for key in self.keys for frame in frames if (name := _name(key, frame)) not in there]
            if missing:
                raise InputError(
                    f"{folder / missing[0]} is missing ({len(missing)} of {len(rows) * len(self.keys)} images of that "
                    f"folder are); {LABELS_FILE} lists it: copy it or take its row out"
                )


def _image_size(path: Path) -> int:
    with _damage_named(path), open_image(path, formats=["PNG"]) as image:
        return image.size[0]


def _read_image(path: Path, resolution: int) -> np.ndarray:
    """(S, S, 3) uint8."""
    with _damage_named(path), open_image(path, formats=["PNG"]) as image:
        if image.size != (resolution, resolution):  # before anything is decoded
            raise InputError(
                f"{path} has {image.size[0]} x {image.size[1]} pixels; expected {resolution} x {resolution}: "
                "--input_dimension says how large the crops are"
            )
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (InputError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing: was it removed during the run?") from error
    except Exception as error:  # a damaged picture can fail in any way
        what = " ".join(str(error).split())[:120]
        raise InputError(f"{path} is damaged or no PNG ({what}): copy or make it again") from error


def normalise(images: Tensor) -> Tensor:
    """uint8 RGB (..., H, W, 3) -> float32 (..., 3, H, W), as ImageNet's; in memory channels stay last, as is fast."""
    mean, deviation = _statistics(images.device)
    return (images * (1 / (255 * deviation))).sub_(mean / deviation).movedim(-1, -3)


def denormalise(images: Tensor) -> Tensor:
    """The opposite of `normalise`, clipped: (..., 3, H, W) -> uint8 (..., H, W, 3)."""
    mean, deviation = _statistics(images.device)
    grey = (images.float().movedim(-3, -1) * deviation + mean) * 255
    return grey.round().clamp(0, 255).to(torch.uint8)


@cache  # a copy to the device in every step would make it wait
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):
        return torch.tensor(MEAN, device=device), torch.tensor(DEVIATION, device=device)
