"""People of a video by frame as a detector's file has them, and how their numbers are checked. Pixels, y down."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.errors import InputError
from common.video.layouts import layout_by_names

log = logging.getLogger(__name__)

FPS = 25.0  # frames per second, where neither the file nor the user says


class RawKeypoints(NamedTuple):
    """People by frame: each (J, 3) float64 with x, y, confidence, or (J, 6) with the detector's own 3D behind. What the
    file does not say is None.
    """

    people: list[list[np.ndarray]]
    frames: list[str]  # names of the images, of the files, or numbers
    layout: str | None
    size: tuple[int, int] | None = None  # width and height of the picture, pixels
    fps: float | None = None  # the mean, where frames come unevenly
    times: np.ndarray | None = None  # (T,) float64, rising: seconds from the video's start; None: every 1 / fps
    scores: list[list[float]] | None = None  # of each person, how sure the detector is, in any unit
    mixed: bool = False  # whether one pose in every frame may yet be of several people: of whoever was found

    def clock(self) -> np.ndarray:
        """(T,) float64, seconds: when each frame is shown."""
        return np.arange(len(self.frames)) / (self.fps or FPS) if self.times is None else self.times


class Found(NamedTuple):
    """A person in a frame of a file."""

    points: np.ndarray  # (J, 3) float64: x, y, confidence; NaN where the file has null
    score: float = 1.0


def raw_keypoints(
    people: Sequence[Sequence[Found]], frames: list[str], names: Any, path: Path, size: tuple[int, int] | None = None
) -> RawKeypoints:
    """People with the joints of the layout that the file's `names` of joints tell; else as they are.

    Joints that the layout has and the file does not stand at (0, 0) with confidence 0. Where names are told, people of
    another number of joints are left out, with a warning that counts them.
    """
    layout = None
    if names:
        found = layout_by_names(names)
        if found is None:
            log.warning("%s: its joints (%s) are none of a known layout: taken by their number, or give --layout", path,
                        ", ".join(map(str, names))[:80])  # fmt: skip
        else:
            layout, places = found
            total = sum(map(len, people))
            people = [[one for one in some if len(one.points) == len(names)] for some in people]
            if total > sum(map(len, people)):
                log.warning("%s: %d of %d people left out: other joints than the %d that the file names", path,
                            total - sum(map(len, people)), total, len(names))  # fmt: skip
            people = [
                [one._replace(points=np.vstack((one.points, np.zeros(3)))[places]) for one in some] for some in people
            ]
    points, scores = [[one.points for one in some] for some in people], [[one.score for one in some] for some in people]
    return RawKeypoints(points, frames, layout, size, scores=scores)


def numbers(values: Any, path: Path) -> np.ndarray:
    """Lists of numbers, some of them null -> float64, NaN for null.

    Raises:
        InputError: no regular list of numbers.
    """
    try:
        array = np.asarray(values)
        if array.dtype.kind == "O" and not any(isinstance(value, str) for value in array.flat):
            array = array.astype(float)
        if array.dtype.kind in "fiu":
            return array.astype(float)
    except (TypeError, ValueError, OverflowError):
        pass
    raise InputError(f"{path}: keypoints that are no (regular) list of numbers")


def size_of(width: Any, height: Any) -> tuple[int, int] | None:
    """Width and height of a picture as a file has them; None where they are none."""
    try:
        return (int(width), int(height)) if int(width) > 0 and int(height) > 0 else None
    except (TypeError, ValueError, OverflowError):
        return None
