"""MPII Human Pose, 16 joints: `data/mpii/annot/{train,val}.json` (or `valid.json`) and `data/mpii/images`."""

from pathlib import Path
from typing import Any

import numpy as np

from common.errors import InputError
from common.images.image_files import find_file, finite, image_folder, read_json
from common.images.people import People
from common.skeleton import MPII_16

FILES = {"train": ("train.json",), "val": ("val.json", "valid.json")}
PERSON_HEIGHT, MARGIN, LOWER = 200.0, 1.25, 15.0  # pixels of scale 1; of the window; pixels of scale 1, downwards
_HOW = "get the images from human-pose.mpi-inf.mpg.de and the .json lists that go with most pose code"


def load_mpii_images(data_dir: str | Path, split: str = "train") -> People:
    """MPII's people of "train" or "val", in 2D.

    The window is the published one: 15 pixels (of scale 1) below the annotated centre, 1.25 times the person's height.
    Published, the centre is moved by one pixel from MATLAB's counting to ours, and the joints are not; so it stays.

    Raises:
        InputError: files are missing or damaged; an entry has other than 16 joints, or numbers that are not finite.
    """
    root = Path(data_dir) / "mpii"
    path = find_file([root / "annot" / name for name in FILES[split]], _HOW)
    entries = read_json(path)
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path} holds {'nobody' if entries == [] else 'no list'}; expected a list of people")
    people = [_person(entry, f"{path}, entry {i}") for i, entry in enumerate(entries)]
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
        open_image=image_folder(root / "images", names, _HOW),
    )


def window_center(center: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Annotated centres (N, 2) float32 and scales (N,) -> middles of the windows (N, 2) float32, pixels."""
    moved = center.copy()
    moved[:, 1] += LOWER * scale
    return moved - 1


def _person(entry: Any, where: str) -> tuple[str, np.ndarray, np.ndarray, float]:
    """Image name, joints (16, 2), centre (2,), scale; checked."""
    if not isinstance(entry, dict) or not {"image", "joints", "center", "scale"} <= entry.keys():
        raise InputError(f"{where} lacks one of image, joints, center, scale; expected MPII's list of people")
    joints = finite(entry["joints"], (MPII_16.num_joints, 2), where, "joints")
    center = finite(entry["center"], (2,), where, "center")
    scale = float(finite(entry["scale"], (), where, "scale"))
    if scale <= 0:
        raise InputError(f"{where}: `scale` is {scale}; expected the person's height / 200, above 0")
    return str(entry["image"]), joints, center, scale
