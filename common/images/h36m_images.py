"""Human3.6M in the layout of the ECCV 2018 challenge: images, and the annotation cache that goes with it (a pickle).

data/h36m/ECCV18_Challenge/{Train,Val}/IMG/00001.jpg ...
data/h36m/msra_cache/HM36_eccv_challenge_{Train,Val}_cache/
    HM36_eccv_challenge_{Train,Val}_w288xh384_keypoint_jnt_bbox_db.pkl
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.errors import InputError
from common.files.npz import load_pickle
from common.images.decode import H36M_TO_MPII
from common.images.image_files import find_file, finite, image_folder
from common.images.people import People, select
from common.skeleton import H36M_17

VALIDATION_STEP = 10  # published: every tenth image, unless all are asked for
_HOW = "ask for Human3.6M at vision.imar.ro/human3.6m (ECCV 2018 challenge) and put its annotation cache beside it"


def load_h36m_images(data_dir: str | Path, split: str = "train", every: int | None = None) -> People:
    """Human3.6M's people of "train" or "val", in 3D, joints in MPII's order.

    `every`: take each n-th; default 1 to train, 10 to validate (published; `--full_test` takes all: 1). The depth of a
    joint is the third column of `joints_3d`, in the image's pixels as x and y are; the window is the box's longer side.

    Raises:
        InputError: files are missing or damaged, the pickle holds more than data, an entry has too few joints, or
            numbers that are not finite.
    """
    folder, name = Path(data_dir) / "h36m", {"train": "Train", "val": "Val"}[split]
    cache = f"HM36_eccv_challenge_{name}"
    file = folder / "msra_cache" / f"{cache}_cache" / f"{cache}_w288xh384_keypoint_jnt_bbox_db.pkl"
    path = find_file([file], _HOW)
    entries = load_pickle(path)
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path} holds {'nobody' if entries == [] else 'no list'}; expected a list of people")
    boxes = np.stack(
        [_numbers(entry, ("center_x", "center_y", "width", "height"), path, i) for i, entry in enumerate(entries)]
    )
    joints = np.stack([_joints(entry, "joints_3d", path, i) for i, entry in enumerate(entries)])
    relative = np.stack([_joints(entry, "joints_3d_relative", path, i) for i, entry in enumerate(entries)])
    names = [f"{i + 1:05d}.jpg" for i in range(len(entries))]
    images = image_folder(folder / "ECCV18_Challenge" / name / "IMG", names, _HOW)
    people = h36m_people(f"Human3.6M {split}", joints, relative, boxes, images)
    return select(people, slice(None, None, every or (1 if split == "train" else VALIDATION_STEP)))


def h36m_people(
    name: str, joints: np.ndarray, relative: np.ndarray, boxes: np.ndarray, images: Callable[[int], Image.Image]
) -> People:
    """People from the cache's arrays.

    Args:
        joints: (N, 17, 3), x and y and depth in image pixels.
        relative: (N, 17, 3), millimetres, root-relative.
        boxes: (N, 4), middle x, middle y, width, height, image pixels.
        images: opens the i-th image.
    """
    points = joints[:, list(H36M_TO_MPII)]
    return People(
        name=name,
        layout="mpii16",
        joints=points[..., :2],
        annotated=np.ones(points.shape[:2], bool),
        center=boxes[:, :2].astype(np.float32),
        size=boxes[:, 2:].max(1),
        open_image=images,
        rotate=False,  # as published
        depth=points[..., 2],
        gt_3d=relative.astype(np.float32),
    )


def _numbers(entry: Any, names: tuple[str, ...], path: Path, index: int) -> np.ndarray:
    where = f"{path}, entry {index}"
    missing = [name for name in names if not isinstance(entry, dict) or name not in entry]
    if missing:
        raise InputError(f"{where} lacks {', '.join(missing)}; expected the challenge's annotation cache")
    return np.array([float(finite(entry[name], (), where, name)) for name in names])


def _joints(entry: Any, name: str, path: Path, index: int) -> np.ndarray:
    """The first 17 rows of a list of 3D joints; the caches have an eighteenth."""
    where = f"{path}, entry {index}"
    values = entry.get(name) if isinstance(entry, dict) else None
    rows = np.shape(values)[0] if isinstance(values, (np.ndarray, list)) and len(np.shape(values)) == 2 else 0
    if rows < H36M_17.num_joints:
        raise InputError(f"{where}: `{name}` has {rows} joints; expected {H36M_17.num_joints} or more")
    return finite(values[: H36M_17.num_joints], (H36M_17.num_joints, 3), where, name)
