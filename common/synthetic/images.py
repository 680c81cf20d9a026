"""Synthetic images: pictures of people rendered from any Human3.6M-layout motion, with exact 2D, depth and visibility.

Each picture is drawn when it is asked for, and depends on the seed and on the pose's subject, action, view and frame
alone; `cache` draws all of them once into a memory-mapped file that workers and processes share.
"""

import hashlib
import logging
import os
import zlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from common.datasets.h36m_layout import load_pose_set
from common.errors import InputError
from common.files.atomic import atomic_path
from common.images.decode import H36M_TO_MPII
from common.images.people import People
from common.pose_set import PoseSet
from common.skeleton import H36M_17
from common.synthetic.capsules import Layer, Light, View, draw
from common.synthetic.clutter import make_room, obstacles
from common.synthetic.dataset import ensure_named
from common.synthetic.figure import DIRECTIONS, Look, directions, dress, make_look, visible_joints

log = logging.getLogger(__name__)

VERSION = 2  # of the content, raised with every change of it: older caches are not read
WINDOW = 1.5  # crop window over the longer side of the joints' box (MPII's: 1.25 of a standing person)
PICTURE = 1.5  # picture over window: room for larger and turned crops
ROOMS = 48
LOOKS = ("subject", "sequence")


class SyntheticImages(Dataset):
    """N pictures of one person each; `people()` makes them a set to train on.

    Args:
        poses: 17 Human3.6M joints, with cameras.
        window: side in pixels of the crop window, best the network's input; a picture is half as large again.
        seed: of clothes, rooms, light and obstacles.
        looks: "subject", a subject keeps one look (Human3.6M); "sequence", every take has another one (MPII).
        covered: share of the pictures with something in front of the person.
    """

    def __init__(self, poses: PoseSet, window: int = 256, seed: int = 0, looks: str = "subject", covered: float = 0.4):
        if looks not in LOOKS:
            raise InputError(f"unknown looks {looks!r}; use one of {', '.join(LOOKS)}")
        self.window, self.seed, self.covered = window, seed, covered
        self.side = round(window * PICTURE)
        self.poses = poses.poses.numpy()
        self.sequence, self.frame = poses.sequence.numpy(), poses.frame.numpy()
        self.names = [f"{s.subject}/{s.action}" for s in poses.sequences]
        self.views = [s.view for s in poses.sequences]
        self.intrinsics = poses.intrinsics().numpy()
        people = [s.subject if looks == "subject" else f"{s.subject}/{s.action}" for s in poses.sequences]
        self.looks = [_look(seed, name) for name in people]
        self.rooms = _rooms(seed, "/".join(dict.fromkeys(s.subject for s in poses.sequences)), self.side)
        self.joints, self.depth, self.matrix = self._place()
        self.cached: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.poses)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """image (S, S, 3) uint8; joints (17, 2), depth (17,) pixels, relative to the root; visible (17,) bool."""
        layer = self._layer(index)
        visible = visible_joints(layer, self.joints[index], self.depth[index], self._view(index), self.poses[index])
        image = layer.over(self._room(index)) if self.cached is None else np.array(self.cached[index])
        values = (image, self.joints[index], self.depth[index], visible)
        return dict(zip(("image", "joints", "depth", "visible"), map(torch.from_numpy, values), strict=True))

    def open_image(self, index: int) -> Image.Image:
        """The picture, RGB."""
        if self.cached is not None:
            return Image.fromarray(self.cached[index])
        return Image.fromarray(self._layer(index).over(self._room(index)))

    def people(self, name: str = "synthetic", with_3d: bool = True) -> People:
        """The set for `Crops`: as Human3.6M's, or in 2D only as MPII's (the crops are turned too)."""
        joints = self.joints[:, H36M_TO_MPII]
        root = self.poses[:, :1]
        return People(
            name=name,
            layout="mpii16",
            joints=joints,
            annotated=np.ones(joints.shape[:2], bool),
            center=np.full((len(self), 2), (self.side - 1) / 2, np.float32),
            size=np.full(len(self), float(self.window)),
            open_image=self.open_image,
            rotate=not with_3d,
            depth=self.depth[:, H36M_TO_MPII] if with_3d else None,
            gt_3d=1000 * (self.poses - root) if with_3d else None,
        )

    def cache(self, folder: str | Path, progress: Callable[[Iterable], Iterable] = iter) -> Path:
        """Draw all pictures into a memory-mapped file of `folder`, unless it is there; later ones are read from it."""
        path = Path(folder) / f"images_{self._digest()}.npy"
        if not path.exists():
            shape = (len(self), self.side, self.side, 3)
            log.info("drawing %d pictures into %s (%.1f GB)", len(self), path, np.prod(shape, dtype=float) / 1e9)
            with atomic_path(path) as temporary:
                file = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
                _allocate(temporary)
                for index in progress(range(len(self))):
                    file[index] = self.open_image(index)
                file.flush()
                del file
        self.cached = np.load(path, mmap_mode="r")
        return path

    # ------------------------------------------------------------ one picture

    def _place(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Joints (N, 17, 2) and depths (N, 17) in pixels of the pictures; camera's pixels -> picture (N, 2, 3)."""
        shapes = (H36M_17.num_joints, 2), (H36M_17.num_joints,), (2, 3)
        joints, depth, matrix = (np.empty((len(self), *shape), np.float32) for shape in shapes)
        for number, intrinsics in enumerate(self.intrinsics):
            rows = np.flatnonzero(self.sequence == number)
            poses = self.poses[rows]
            pixels = View(intrinsics, np.eye(2, 3), 1.0).project(poses)[..., :2]
            low, high = pixels.min(1), pixels.max(1)
            scale = self.window / (WINDOW * (high - low).max(1))
            middle = (self.side - 1) / 2 - scale[:, None] * (low + high) / 2
            joints[rows] = scale[:, None, None] * pixels + middle[:, None]
            matrix[rows] = np.concatenate((scale[:, None, None] * np.eye(2), middle[..., None]), -1)
            focal = scale * np.sqrt(intrinsics[0] * intrinsics[1])
            depth[rows] = (poses[..., 2] - poses[:, :1, 2]) * (focal / poses[:, 0, 2])[:, None]
        return joints, depth, matrix

    def _view(self, index: int) -> View:
        return View(self.intrinsics[self.sequence[index]], self.matrix[index], float(self.poses[index, 0, 2]))

    def _random(self, index: int, purpose: int) -> np.random.Generator:
        sequence = self.sequence[index]
        name = zlib.crc32(self.names[sequence].encode())
        return np.random.default_rng((self.seed, name, self.views[sequence], int(self.frame[index]), purpose))

    def _layer(self, index: int) -> Layer:
        """The person, and what stands in the way, before a background."""
        random, joints = self._random(index, 0), self.joints[index]
        capsules = dress(self.poses[index], self.looks[self.sequence[index]], self._view(index))
        things = obstacles(random, joints.mean(0), self.window / WINDOW, self.covered)
        lamp = random.uniform((-0.8, -1.0, -0.9), (0.8, -0.4, -0.2))
        light = Light(lamp / np.linalg.norm(lamp), random.uniform(0.5, 0.7), random.uniform(0.5, 0.75))
        return draw(capsules if things is None else capsules + things, light, self.side, self.side)

    def _room(self, index: int) -> np.ndarray:
        """A part of one of the rooms, (S, S, 3) uint8."""
        random = self._random(index, 1)
        room = self.rooms[random.integers(len(self.rooms))]
        y, x = random.integers(0, np.array(room.shape[:2]) - self.side + 1)
        part = room[y : y + self.side, x : x + self.side]
        return part[:, ::-1] if random.random() < 0.5 else part

    def _digest(self) -> str:
        """Names the content: the poses, and what they are drawn with."""
        content = hashlib.sha256(repr((VERSION, self.window, self.seed, self.covered, self.names, self.views)).encode())
        for array in (self.poses, self.frame, *(look.colours for look in self.looks)):
            content.update(np.ascontiguousarray(array))
        return content.hexdigest()[:16]


@lru_cache(maxsize=512)
def _look(seed: int, name: str) -> Look:
    return make_look(seed, zlib.crc32(name.encode()))


@lru_cache(maxsize=4)
def _rooms(seed: int, name: str, side: int) -> tuple[np.ndarray, ...]:
    """Rooms a third larger than a picture. Other people are in other rooms."""
    size = side * 4 // 3
    return tuple(make_room(size, size, seed, zlib.crc32(name.encode()), number) for number in range(ROOMS))


def load_synthetic_images(
    data_dir: str | Path,
    subjects: str | Iterable[str],
    dataset: str = "synthetic",
    window: int = 256,
    seed: int = 0,
    downsample: int = 5,
    limit: int | None = None,
    looks: str = "subject",
    actions: str | Iterable[str] = "*",
    facing: float = 180.0,
) -> SyntheticImages:
    """Pictures of some subjects of a Human3.6M-layout set: every `downsample`-th frame (published: 5), four views.

    window, seed, looks: see `SyntheticImages`. limit: take that many, evenly spread. actions: as for
    `load_pose_set`. facing: people whose chest is turned at most so many degrees away from the camera.

    Raises:
        InputError: as `load_pose_set`.
    """
    ensure_named(data_dir, dataset)
    poses = load_pose_set(data_dir, dataset, "gt", subjects, actions, downsample=downsample, skeleton=H36M_17)
    if facing < 180:
        angles = turned_away(poses.poses.numpy())
        if not (angles <= facing).any():
            raise InputError(
                f"{dataset}: nobody of {len(poses):,} people faces the camera within {facing:g} degrees; the nearest "
                f"is turned {angles.min():.0f} degrees away: ask for more"
            )
        poses = poses.take(torch.from_numpy(np.flatnonzero(angles <= facing)))
    if limit is not None and limit < len(poses):
        poses = poses.take(torch.linspace(0, len(poses) - 1, limit).round().long())
    return SyntheticImages(poses, window, seed, looks)


def turned_away(poses: np.ndarray) -> np.ndarray:
    """Poses (N, 17, 3), camera frame -> (N,) degrees between the chest's front and the way to the camera."""
    chest = directions(poses)[:, DIRECTIONS.index("chest front")]
    hip = poses[:, 0] / np.linalg.norm(poses[:, 0], axis=-1, keepdims=True)
    return np.degrees(np.arccos((-chest * hip).sum(-1).clip(-1, 1)))


def _allocate(path: Path) -> None:
    """Have the disk keep room for a whole file: an OSError here; a full disk would kill who writes into the map."""
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
