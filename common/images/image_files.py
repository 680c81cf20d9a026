"""Annotation files and folders of images, checked when they are opened: shared by the readers of image data sets."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.errors import InputError
from common.images.crop import open_rgb

NO_DOWNLOAD = "or train without any download: --dataset synthetic"


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


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        InputError: it is truncated or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}): fetch it again") from error


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
