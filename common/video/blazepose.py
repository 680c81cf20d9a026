"""BlazePose: people in a picture, 33 landmarks of each, by two networks of mediapipe 0.10 (Bazarevsky et al., 2020).

A detector looks at a square of the picture for people; a second network places the landmarks in a turned square, the
region, around one of them. In a video the region of the next frame comes from the landmarks of this one. Networks are
functions, array (H, W, 3) float32 -> list of arrays; `load` gives those of the two files, run by ai-edge-litert.
NumPy; pixels, x right, y down; angles in radians.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from common.errors import InputError
from common.video import detector_files

Network = Callable[[np.ndarray], list[np.ndarray]]
Box = tuple[float, float, float, float]  # x, y of the top left corner, width, height

LAYOUT, POINTS = "blazepose33", 33
SURE = 0.5  # score from which the detector, and the landmarks' network, says that there is a person
_GRIDS = ((28, 2), (14, 2), (7, 6))  # cells a side, anchors a cell
_DETECTOR, _LANDMARKS = 224, 256  # sides of the networks' inputs
_ALL = 39  # landmarks, and with those that give the next region
_OVERLAP = 0.3  # of two boxes, from which they are one person's
_REGION = 1.25
_PAINT = (128, 128, 128)  # over people who are not meant
_WINDOW, _PEAK = 7, 0.5  # heat map cells around a landmark that refine it, and the peak from which they do


class BlazePose(NamedTuple):
    detector: Network
    landmarks: Network


class Region(NamedTuple):
    """A turned square: its middle, half its side, and the angle by which the body is turned from upright."""

    x: float
    y: float
    half: float
    angle: float


class Person(NamedTuple):
    """One person in one picture."""

    points: np.ndarray  # (33, 3): x, y in pixels, visibility
    world: np.ndarray  # (33, 3) metres, relative to the hips' middle: x right, y down, z away from the camera
    score: float  # that there is a person in the region
    following: Region  # where to look in the next frame
    region: Region | None = None  # where it was looked for
    mask: np.ndarray | None = None  # (256, 256) bool: the body in that region


def load(folder: Path, threads: int) -> BlazePose:
    """The networks of the two files in `folder`, which are fetched if they are not there.

    Raises:
        InputError: ai-edge-litert is not installed, or the files are missing or damaged.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise InputError(
            f"--detector blazepose needs ai-edge-litert ({error}): python -m pip install -r requirements-video.txt"
        ) from error
    return BlazePose(*(_network(Interpreter, file, threads) for file in detector_files.blazepose(folder)))


@contextmanager
def without_stderr() -> Iterator[None]:
    """Keep what libraries written in C say of themselves from the terminal."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def _network(interpreter: type, file: Path, threads: int) -> Network:
    with without_stderr():
        network = interpreter(model_path=str(file), num_threads=threads)
        network.allocate_tensors()
    (entry,), outputs = network.get_input_details(), network.get_output_details()

    def run(picture: np.ndarray) -> list[np.ndarray]:
        network.set_tensor(entry["index"], picture[None])
        network.invoke()
        return [network.get_tensor(output["index"])[0] for output in outputs]

    return run


# ------------------------------------------------------------ where people are


class Sight(NamedTuple):
    """A person that the detector sees."""

    score: float
    box: np.ndarray  # (4,): x, y of two corners, of the upper body
    region: Region


def look(network: BlazePose, image: Image.Image, box: Box | None = None) -> list[Sight]:
    """The people in a picture, or in a box of it, the surest first; those that overlap are one."""
    x, y, width, height = box or (0, 0, *image.size)
    scale = _DETECTOR / max(width, height)
    inside = max(1, round(width * scale)), max(1, round(height * scale))
    small = image.resize(inside, Image.Resampling.BILINEAR, (x, y, x + width, y + height), reducing_gap=2)
    left, top = (_DETECTOR - inside[0]) // 2, (_DETECTOR - inside[1]) // 2
    square = Image.new("RGB", (_DETECTOR, _DETECTOR))
    square.paste(small, (left, top))
    raw, logits = network.detector(np.asarray(square, np.float32) / 127.5 - 1)
    scores = _sigmoid(logits[:, 0])
    sure = scores >= SURE
    numbers, cell = raw[sure] / _DETECTOR, _anchors()[sure]
    centre, size = numbers[:, :2] + cell, numbers[:, 2:4]
    points = numbers[:, 4:].reshape(-1, 4, 2) + cell[:, None]
    rows = np.concatenate([(centre - size / 2)[:, None], (centre + size / 2)[:, None], points], 1)
    return merged(scores[sure], (rows * _DETECTOR - (left, top)) / scale + (x, y))


def merged(scores: np.ndarray, rows: np.ndarray) -> list[Sight]:
    """Sightings (N, 6, 2: two corners, four points) -> one each; those of one person's are averaged by their scores."""
    found, order = [], np.argsort(-scores)
    boxes = rows[:, :2].reshape(-1, 4)
    while len(order):
        same = overlap(boxes[order[0]], boxes[order]) > _OVERLAP
        same[0] = True
        chosen = order[same]
        mean = np.average(rows[chosen], axis=0, weights=scores[chosen])
        found.append(Sight(float(scores[order[0]]), mean[:2].ravel(), region_of(mean[2], mean[3])))
        order = order[~same]
    return found


def overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of a box (4,: two corners) with each of (N, 4)."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    inner = np.clip(high - low, 0, None).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return inner / np.maximum((box[2:] - box[:2]).prod() + areas - inner, 1e-9)


def region_of(hip: np.ndarray, other: np.ndarray) -> Region:
    """The region around a body with this mid-hip; `other` gives its size and upward direction."""
    dx, dy = other - hip
    return Region(float(hip[0]), float(hip[1]), float(_REGION * np.hypot(dx, dy)), float(np.arctan2(dx, -dy)))


def _anchors() -> np.ndarray:
    """Middles of the detector's cells, (2254, 2), shares of its input."""
    parts = []
    for cells, each in _GRIDS:
        middle = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(middle, middle), -1).reshape(-1, 2)
        parts.append(np.repeat(grid, each, axis=0))
    return np.concatenate(parts)


# ------------------------------------------------------------ landmarks


def landmarks(network: BlazePose, image: Image.Image, region: Region, others: Sequence[Person] = ()) -> Person:
    """The landmarks of the person in a region; `others`, who are not meant, are painted over.

    Where people overlap the network gives a body that is half of one and half of the other, or the one whose face is
    seen in both regions.
    """
    affine = from_region(region)
    size = (_LANDMARKS, _LANDMARKS)
    crop = image.transform(size, Image.Transform.AFFINE, tuple(affine.ravel()), Image.Resampling.BILINEAR)
    for other in others:
        crop.paste(_PAINT, mask=mask_in(region, other))
    raw, score, mask, maps, world = network.landmarks(np.asarray(crop, np.float32) / 255)
    rows, world = raw.reshape(_ALL, 5), world.reshape(_ALL, 3)[:POINTS]
    places = refined(rows[:, :2] / _LANDMARKS, maps) * _LANDMARKS
    pixels = places @ affine[:, :2].T + affine[:, 2]
    cos, sin = np.cos(region.angle), np.sin(region.angle)
    turned = np.stack((cos * world[:, 0] - sin * world[:, 1], sin * world[:, 0] + cos * world[:, 1], world[:, 2]), -1)
    points = np.column_stack((pixels[:POINTS], _sigmoid(rows[:POINTS, 3])))
    following = region_of(pixels[POINTS], pixels[POINTS + 1])
    return Person(points, turned, float(score.ravel()[0]), following, region, mask.reshape(size) > 0)


def mask_in(region: Region, person: Person) -> Image.Image:
    """A person's mask, as it lies in the input of the landmarks' network around another region."""
    there, here = (np.vstack((from_region(one), (0, 0, 1))) for one in (person.region, region))
    back = (np.linalg.inv(there) @ here)[:2]
    return Image.fromarray(person.mask).transform(person.mask.shape, Image.Transform.AFFINE, tuple(back.ravel()))


def from_region(region: Region) -> np.ndarray:
    """(2, 3): pixels of the landmarks' network's input -> pixels of the picture."""
    cos, sin = np.cos(region.angle), np.sin(region.angle)
    turn = 2 * region.half / _LANDMARKS * np.array(((cos, -sin), (sin, cos)))
    return np.column_stack((turn, np.array((region.x, region.y)) - turn @ np.full(2, _LANDMARKS / 2)))


def refined(places: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Landmarks (N, 2), shares of the input, moved to the mean of the heat map (H, W, N) around, where it is sure."""
    height, width, count = maps.shape
    result, reach = places.copy(), _WINDOW // 2
    columns, rows = (places * (width, height)).astype(int).T
    for i in np.flatnonzero((places >= 0).all(1) & (columns < width) & (rows < height))[:count]:
        top, left = max(0, rows[i] - reach), max(0, columns[i] - reach)
        part = _sigmoid(maps[top : rows[i] + reach + 1, left : columns[i] + reach + 1, i])
        if part.max() >= _PEAK:
            x, y = part.sum(0) @ np.arange(part.shape[1]), part.sum(1) @ np.arange(part.shape[0])
            result[i] = (left + x / part.sum()) / width, (top + y / part.sum()) / height
    return result


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -80, 80)))
