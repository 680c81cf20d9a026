"""Readers of image data sets as `People`: MPII, COCO and Human3.6M in their published files, checked when opened.

MPII Human Pose, 16 joints: data/mpii/annot/{train,val}.json (or valid.json) and data/mpii/images
COCO person keypoints, 17 joints, from COCO's own JSON (pycocotools is not needed):
    data/COCO/annotations/person_keypoints_{train,val}2017.json
    data/COCO/{train,val}2017/000000000009.jpg ...
Human3.6M in the layout of the ECCV 2018 challenge, with the annotation cache that goes with it (a pickle):
    data/h36m/ECCV18_Challenge/{Train,Val}/IMG/00001.jpg ...
    data/h36m/msra_cache/HM36_eccv_challenge_{Train,Val}_cache/
        HM36_eccv_challenge_{Train,Val}_w288xh384_keypoint_jnt_bbox_db.pkl
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.errors import InputError
from common.files.npz import load_pickle
from common.files.reading import load_json
from common.images.crop import open_rgb
from common.images.decode import H36M_TO_MPII
from common.images.people import People, select
from common.skeleton import COCO_17, H36M_17, MPII_16

MARGIN = 1.25  # of the window around a person, MPII's and COCO's
NO_DOWNLOAD = "or train without any download: --dataset synthetic"


# ------------------------------------------------------------ MPII

_MPII_FILES = {"train": ("train.json",), "val": ("val.json", "valid.json")}
PERSON_HEIGHT, LOWER = 200.0, 15.0  # of a window, pixels of scale 1; how far its middle is below the centre
_MPII_HOW = "get the images from human-pose.mpi-inf.mpg.de and the .json lists that go with most pose code"


def load_mpii_images(data_dir: str | Path, split: str = "train") -> People:
    """MPII's people of "train" or "val", in 2D.

    The window is the published one: 15 pixels (of scale 1) below the annotated centre, 1.25 times the person's height.
    Published, the centre is moved by one pixel from MATLAB's counting to ours, and the joints are not; so it stays.

    Raises:
        InputError: files are missing or damaged; an entry has other than 16 joints, or numbers that are not finite.
    """
    root = Path(data_dir) / "mpii"
    path = find_file([root / "annot" / name for name in _MPII_FILES[split]], _MPII_HOW)
    entries = load_json(path, "fetch it again")
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path} holds {'nobody' if entries == [] else 'no list'}; expected a list of people")
    people = [_mpii_person(entry, f"{path}, entry {i}") for i, entry in enumerate(entries)]
    names, joints, center, scale = (list(part) for part in zip(*people, strict=True))
    joints, scale = np.stack(joints), np.array(scale)
    center = np.stack(center).astype(np.float32)
    return People(
        name=f"MPII {split}",
        layout="mpii16",
        joints=joints,
        annotated=(joints > 0).any(-1),
        center=window_center(center, scale),
        size=MARGIN * PERSON_HEIGHT * scale,
        open_image=image_folder(root / "images", names, _MPII_HOW),
    )


def window_center(center: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Annotated centres (N, 2) float32 and scales (N,) -> middles of the windows (N, 2) float32, pixels."""
    moved = center.copy()
    moved[:, 1] += LOWER * scale
    return moved - 1


def _mpii_person(entry: Any, where: str) -> tuple[str, np.ndarray, np.ndarray, float]:
    """Image name, joints (16, 2), centre (2,), scale; checked."""
    if not isinstance(entry, dict) or not {"image", "joints", "center", "scale"} <= entry.keys():
        raise InputError(f"{where} lacks one of image, joints, center, scale; expected MPII's list of people")
    joints = finite(entry["joints"], (MPII_16.num_joints, 2), where, "joints")
    center = finite(entry["center"], (2,), where, "center")
    scale = float(finite(entry["scale"], (), where, "scale"))
    if scale <= 0:
        raise InputError(f"{where}: `scale` is {scale}; expected the person's height / 200, above 0")
    return str(entry["image"]), joints, center, scale


# ------------------------------------------------------------ COCO

_COCO_HOW = "get 2017's images and keypoint annotations from cocodataset.org"


def load_coco_images(data_dir: str | Path, split: str = "train") -> People:
    """COCO's people of "train" or "val" with at least one annotated joint, no crowds, in 2D.

    The window's middle is that of the box, its side the box's longer one times 1.25 (`CropOptions.fit_short_side`
    makes it narrower for the upright network input).

    Raises:
        InputError: files are missing or damaged; a person has other than 17 joints, no box, or no image.
    """
    root = Path(data_dir) / "COCO"
    path = find_file([root / "annotations" / f"person_keypoints_{split}2017.json"], _COCO_HOW)
    content = load_json(path, "fetch it again")
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise InputError(f"{path} has no `images` and `annotations`; expected COCO's person keypoints")
    files = {image.get("id"): image.get("file_name") for image in content["images"] if isinstance(image, dict)}
    people = [
        _coco_person(entry, files, f"{path}, annotation {i}")
        for i, entry in enumerate(content["annotations"])
        if isinstance(entry, dict) and entry.get("num_keypoints") and not entry.get("iscrowd")
    ]
    if not people:
        raise InputError(f"{path} holds nobody with annotated joints; another file?")
    names, keypoints, boxes = (list(part) for part in zip(*people, strict=True))
    keypoints, boxes = np.stack(keypoints), np.stack(boxes)
    return People(
        name=f"COCO {split}",
        layout="coco17",
        joints=keypoints[..., :2],
        annotated=keypoints[..., 2] > 0,
        center=(boxes[:, :2] + boxes[:, 2:] / 2).astype(np.float32),
        size=MARGIN * boxes[:, 2:].max(1),
        open_image=image_folder(root / f"{split}2017", names, _COCO_HOW),
    )


def _coco_person(entry: dict[str, Any], files: dict[Any, str], where: str) -> tuple[str, np.ndarray, np.ndarray]:
    """Image name, keypoints (17, 3) with x, y, visibility, and box (x, y, width, height); checked."""
    name = files.get(entry.get("image_id"))
    if not name:
        raise InputError(f"{where} is of image {entry.get('image_id')}, which `images` lacks: fetch the file again")
    keypoints = finite(entry.get("keypoints"), (3 * COCO_17.num_joints,), where, "keypoints")
    box = finite(entry.get("bbox"), (4,), where, "bbox")
    return name, keypoints.reshape(-1, 3), box


# ------------------------------------------------------------ Human3.6M

VALIDATION_STEP = 10  # published: every tenth image, unless all are asked for
_H36M_HOW = "ask for Human3.6M at vision.imar.ro/human3.6m (ECCV 2018 challenge) and put its annotation cache beside it"


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
    path = find_file([file], _H36M_HOW)
    entries = load_pickle(path)
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path} holds {'nobody' if entries == [] else 'no list'}; expected a list of people")
    boxes = np.stack(
        [_h36m_numbers(entry, ("center_x", "center_y", "width", "height"), path, i) for i, entry in enumerate(entries)]
    )
    joints = np.stack([_h36m_joints(entry, "joints_3d", path, i) for i, entry in enumerate(entries)])
    relative = np.stack([_h36m_joints(entry, "joints_3d_relative", path, i) for i, entry in enumerate(entries)])
    names = [f"{i + 1:05d}.jpg" for i in range(len(entries))]
    images = image_folder(folder / "ECCV18_Challenge" / name / "IMG", names, _H36M_HOW)
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


def _h36m_numbers(entry: Any, names: tuple[str, ...], path: Path, index: int) -> np.ndarray:
    where = f"{path}, entry {index}"
    missing = [name for name in names if not isinstance(entry, dict) or name not in entry]
    if missing:
        raise InputError(f"{where} lacks {', '.join(missing)}; expected the challenge's annotation cache")
    return np.array([float(finite(entry[name], (), where, name)) for name in names])


def _h36m_joints(entry: Any, name: str, path: Path, index: int) -> np.ndarray:
    """The first 17 rows of a list of 3D joints; the caches have an eighteenth."""
    where = f"{path}, entry {index}"
    values = entry.get(name) if isinstance(entry, dict) else None
    rows = np.shape(values)[0] if isinstance(values, (np.ndarray, list)) and len(np.shape(values)) == 2 else 0
    if rows < H36M_17.num_joints:
        raise InputError(f"{where}: `{name}` has {rows} joints; expected {H36M_17.num_joints} or more")
    return finite(values[: H36M_17.num_joints], (H36M_17.num_joints, 3), where, name)


# ------------------------------------------------------------ files


def find_file(candidates: list[Path], how: str) -> Path:
    """The first of the files that is there.

    Raises:
        InputError: none is; all places are named, and `how` to get the file.
    """
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        looked = " and ".join(str(path.absolute()) for path in candidates)
        raise InputError(f"{candidates[0]} not found (looked for {looked}): {how}, {NO_DOWNLOAD}")
    return found


def finite(values: Any, shape: tuple[int, ...], where: str, what: str) -> np.ndarray:
    """`values` as float64 of `shape`.

    Raises:
        InputError: other shape, or NaN, infinity, text; `where` and `what` are named.
    """
    try:
        array = np.array(values, float)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != shape or not np.isfinite(array).all():
        found = "values that are not finite" if array.shape == shape else f"shape {array.shape}"
        raise InputError(f"{where}: `{what}` has {found}; expected {shape} finite numbers: fetch the file again")
    return array


@dataclass(frozen=True)
class ImageFolder:
    """Opens the image of one person: `folder` / `names[i]`. `names` is an array of text, which workers share."""

    folder: Path
    names: np.ndarray  # (N,) of text

    def __call__(self, index: int) -> Image.Image:
        return open_rgb(self.folder / str(self.names[index]))


def image_folder(folder: Path, names: list[str], how: str) -> ImageFolder:
    """The images of N people, after a look that they are there.

    Raises:
        InputError: no such folder, or images are missing; the first is named, and `how` to get them.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} not found (looked for the folder {folder.absolute()}): {how}, {NO_DOWNLOAD}")
    wanted, there = set(names), set(os.listdir(folder))
    missing = sorted(wanted - there)
    if missing:
        raise InputError(
            f"{folder} lacks {len(missing):,} of {len(wanted):,} annotated images, the first {missing[0]}: {how}"
        )
    return ImageFolder(folder, np.array(names))
