"""Frames of a video by number and time: those that a keypoint file leaves out, pictures that belong to it, frames that
come unevenly.
"""

import logging
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import InputError

log = logging.getLogger(__name__)

# Frames for each one with a line in the file: more, and the numbers mean otherwise. Of a long video fewer.
_SPARSE, _SPARSE_AND_LONG, _LONG = 50, 10, 200_000
_LONGEST, _FASTEST = 500_000, 240  # pictures of a film, and in a second
_ENOUGH, _IRREGULAR = 10, 3  # frames, and times the smallest step: irregular numbers count, too


def with_gaps(people: list[list], frames: list[str], path: Path) -> tuple[list[list], list[str]]:
    """Put in the frames of a video that have no line, because nobody was found in them: gaps in their numbering.

    The numbers of the names count as those of frames where they rise and their smallest step, which all are multiples
    of, occurs; or where many are irregular. Otherwise they are names. A warning says so wherever frames are put in, or
    numbers with gaps are taken for names.
    """
    numbered = [last_number(frame) for frame in frames]
    if len(frames) < 3 or None in numbered:
        return people, frames
    steps = [b - a for a, b in zip(numbered, numbered[1:], strict=False)]
    if min(steps) <= 0 or len(set(steps)) == 1:
        if steps[0] > 1 and len(set(steps)) == 1:
            log.warning("%s: frames are numbered in steps of %d and taken as one after the other: if they are some "
                        "of a video's, --fps is its rate by %d", path, steps[0], steps[0])  # fmt: skip
        return people, frames
    step = math.gcd(*steps)
    total = sum(steps) // step + 1
    counts = step == min(steps) or (len(frames) >= _ENOUGH and max(steps) >= _IRREGULAR * min(steps))
    if not counts or total > max(min(_SPARSE * len(frames), _LONG), _SPARSE_AND_LONG * len(frames)):
        log.warning("%s: the numbers of its frames, %d to %d, are taken for names: its %d frames are shown one "
                    "after the other", path, numbered[0], numbered[-1], len(frames))  # fmt: skip
        return people, frames
    log.warning("%s: %d of the %d frames from %s to %s are not in the file: nobody there, filled in from the others",
                path, total - len(frames), total, frames[0], frames[-1])  # fmt: skip
    names = [f"{numbered[0] + row * step} (not in the file)" for row in range(total)]
    return _placed(people, frames, [(number - numbered[0]) // step for number in numbered], names)


def on_pictures(frames: list[str], pictures: list[str] | None, count: int) -> list[int] | None:
    """The picture that each of the frames is of: by their names, else by their numbers, from 0 or 1; None: untold.

    Args:
        frames: names in a keypoint file.
        pictures: names of the picture files, where the pictures have any.
        count: of pictures.
    """
    if pictures is not None:
        places = {Path(name).stem: i for i, name in enumerate(pictures)}
        stems = [re.sub(r"_keypoints$", "", Path(frame).stem) for frame in frames]
        if len(places) == count and all(stem in places for stem in stems):
            return _rising([places[stem] for stem in stems])
        picture_numbers = {last_number(name): i for i, name in enumerate(pictures)}
        by_number = [picture_numbers.get(last_number(frame)) for frame in frames]
        if len(picture_numbers) == count and None not in picture_numbers and None not in by_number:
            return _rising(by_number)
    numbered = [last_number(frame) for frame in frames]
    if None in numbered or not numbered or not 0 <= min(numbered) <= max(numbered) <= count:
        return None
    first = int(max(numbered) == count)  # the last of `count` pictures has this number where they are counted from 1
    return _rising([number - first for number in numbered]) if min(numbered) >= first else None


def placed_on_pictures(raw: Any, rows: list[int], count: int) -> Any:
    """RawKeypoints with a frame for each of `count` pictures; nobody in those that `rows` does not name."""
    names = [f"{row} (not in the file)" for row in range(count)]
    people, frames = _placed(raw.people, raw.frames, rows, names)
    scores = None if raw.scores is None else _placed(raw.scores, raw.frames, rows, names)[0]
    return raw._replace(people=people, frames=frames, scores=scores, times=None)


def last_number(name: str) -> int | None:
    """The last number in a file's name without its ending, or in a label; None where there is none."""
    found = re.findall(r"\d+", re.sub(r"\.[A-Za-z]\w{1,3}$", "", str(name)))
    return int(found[-1][:15]) if found else None


def _placed(people: list[list], frames: list[str], rows: list[int], names: list[str]) -> tuple[list[list], list[str]]:
    there = {row: t for t, row in enumerate(rows)}
    placed = [people[there[row]] if row in there else [] for row in range(len(names))]
    return placed, [frames[there[row]] if row in there else name for row, name in enumerate(names)]


def _rising(rows: list[int]) -> list[int] | None:
    """The rows, if each comes after the one before."""
    return rows if all(a < b for a, b in zip(rows, rows[1:], strict=False)) else None


# ------------------------------------------------------------ uneven times


def common_rate(times: np.ndarray) -> float | None:
    """Frames per second of the median step between `times` (T,), seconds; None of a single one."""
    return float(1 / np.median(np.diff(times)).clip(1 / _FASTEST)) if len(times) > 1 else None


def is_even(times: np.ndarray, fps: float) -> bool:
    """Whether frames at these times (T,), seconds, lie within a quarter of a frame of those of an even film."""
    return bool((np.abs(times - times[0] - np.arange(len(times)) / fps) < 0.25 / fps).all())


def ticks(times: np.ndarray, fps: float) -> np.ndarray:
    """(n,) seconds: an even film's pictures, from the first to the last of `times` (T,).

    Raises:
        InputError: more than half a million.
    """
    count = math.floor((times[-1] - times[0]) * fps + 0.5) + 1
    if count > _LONGEST:
        raise InputError(
            f"{len(times)} frames go from {times[0]:.6g} to {times[-1]:.6g} s: {count:,} pictures at {fps:g} frames "
            f"per second; expected {_LONGEST:,} at most: cut the video, or give another --fps"
        )
    return times[0] + np.arange(count) / fps


def shown_at(times: np.ndarray, fps: float) -> np.ndarray:
    """(n,) int: for each picture of an even film the nearest of the frames at `times` (T,), seconds, rising."""
    return np.searchsorted((times[:-1] + times[1:]) / 2, ticks(times, fps))


def at_rate(poses: np.ndarray, times: np.ndarray, fps: float) -> np.ndarray:
    """Poses (T, ...) at `times` (T,) -> (n, ...), every 1 / fps, straight lines between."""
    wanted, flat = ticks(times, fps), poses.reshape(len(poses), -1)
    columns = [np.interp(wanted, times, column) for column in flat.T]
    return np.stack(columns, -1).reshape(-1, *poses.shape[1:])
