"""COCO person keypoints, images with 17 joints, from COCO's own JSON (pycocotools is not needed).

data/COCO/annotations/person_keypoints_{train,val}2017.json
data/COCO/{train,val}2017/000000000009.jpg ...
"""

from pathlib import Path
from typing import Any

import numpy as np

from common.errors import InputError
from common.images.image_files import find_file, finite, image_folder, read_json
from common.images.people import People
from common.skeleton import COCO_17

MARGIN = 1.25  # of the window around the box, as for MPII
_HOW = "get 2017's images and keypoint annotations from cocodataset.org"


def load_coco_images(data_dir: str | Path, split: str = "train") -> People:
    """COCO's people of "train" or "val" with at least one annotated joint, no crowds, in 2D.

    The window's middle is that of the box, its side the box's longer one times 1.25 (`CropOptions.fit_short_side`
    makes it narrower for the upright network input).

    Raises:
        InputError: files are missing or damaged; a person has other than 17 joints, no box, or no image.
    """
    root = Path(data_dir) / "COCO"
    path = find_file([root / "annotations" / f"person_keypoints_{split}2017.json"], _HOW)
    content = read_json(path)
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise InputError(f"{path} has no `images` and `annotations`; expected COCO's person keypoints")
    files = {image.get("id"): image.get("file_name") for image in content["images"] if isinstance(image, dict)}
    people = [
        _person(entry, files, f"{path}, annotation {i}")
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
        open_image=image_folder(root / f"{split}2017", names, _HOW),
    )


def _person(entry: dict[str, Any], files: dict[Any, str], where: str) -> tuple[str, np.ndarray, np.ndarray]:
    """Image name, keypoints (17, 3) with x, y, visibility, and box (x, y, width, height); checked."""
    name = files.get(entry.get("image_id"))
    if not name:
        raise InputError(f"{where} is of image {entry.get('image_id')}, which `images` lacks: fetch the file again")
    keypoints = finite(entry.get("keypoints"), (3 * COCO_17.num_joints,), where, "keypoints")
    box = finite(entry.get("bbox"), (4,), where, "bbox")
    return name, keypoints.reshape(-1, 3), box
