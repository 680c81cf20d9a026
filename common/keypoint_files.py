"""2D keypoints of one person from a file of another program, or a folder of them -> Human3.6M's 17 joints.

Read are: OpenPose's JSON (one file for a frame, a folder for a video), COCO's results, AlphaPose's JSON, a JSON list of
numbers, `.npz` and `.npy`. Nothing in a file is ever executed. Pixels, y down.
"""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.errors import InputError
from common.npz import load_npz
from common.skeleton import COCO_17, H36M_17, LAYOUTS, MPII_16, conversion_matrix

log = logging.getLogger(__name__)

# The places of COCO's joints among OpenPose's 25 and Halpe's 26 (which begin with them): feet and midpoints are left.
_BODY_25 = (0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11)
_COCO_PLACES = {"body25": (25, _BODY_25), "halpe26": (26, tuple(range(17)))}
LAYOUT_NAMES = (*LAYOUTS, *_COCO_PLACES)
_BY_COUNT = {18: "openpose18", 25: "body25", 26: "halpe26", 32: "h36m32"}
_ALIASES = {"coco": "coco17", "h36m": "h36m17", "openpose": "openpose18", "body_25": "body25", "mpii": "mpii16"}
_FACE_SHARE = 0.3  # of a body's size: five face joints (COCO's first) stay below, a pelvis with a leg (ours) above
_NEEDED = ("right hip", "left hip", "right shoulder", "left shoulder")


class KeypointFile(NamedTuple):
    """What was read: one person in T frames."""

    points: np.ndarray  # (T, 17, 2) float32, pixels, Human3.6M order
    confidence: np.ndarray  # (T, 17) float32; 0 where the joint was filled in
    layout_found: str  # one of LAYOUT_NAMES
    frames: tuple[str, ...]  # T names: of the images, of the files, or numbers


class _Raw(NamedTuple):
    """People by frame as the file has them: each (J, 3) with x, y, confidence; and the layout that the file names."""

    people: list[list[np.ndarray]]
    frames: list[str]
    layout: str | None


def read_keypoints(path: str | Path, layout: str | None = None, threshold: float = 0.1) -> KeypointFile:
    """Read one person's keypoints.

    Of several people the one seen best is taken, and followed from frame to frame by its place. A joint is missing
    where its confidence is below `threshold` or it stands at (0, 0). It is filled in from the frames before and after,
    or, if it is never there, from its neighbours in the body; a warning names it.

    Args:
        path: `.json`, `.npz`, `.npy`, or a folder of OpenPose's files, one for each frame.
        layout: one of `LAYOUT_NAMES`; None: found from the file's names or the number of joints.

    Raises:
        InputError: missing or damaged file, unknown layout, nobody in it, or a hip or shoulder missing in every frame.
    """
    path = Path(path)
    raw = _read(path)
    counts = sorted({len(person) for people in raw.people for person in people})
    if not counts:
        raise InputError(f"{path} holds no person; choose another file")
    if len(counts) > 1:
        raise InputError(f"{path} has people of {' and '.join(map(str, counts))} joints; expected one layout")
    points = _follow(raw.people, counts[0], path)
    missing = ~(points[..., 2] >= threshold) | ~(points[..., :2] != 0).any(-1) | ~np.isfinite(points).all(-1)
    points[missing] = np.nan
    name = _layout_name(layout or raw.layout, points, path)
    matrix = h36m_matrix(name)
    joints, confidence = _convert(_fill_in_time(points, matrix, name, path), points[..., 2], matrix)
    return KeypointFile(_fill_in_body(joints, path).astype(np.float32), confidence, name, tuple(raw.frames))


def h36m_matrix(layout: str) -> np.ndarray:
    """(17, J) float64: Human3.6M's joints as mixtures of those of `layout`; rows sum to one.

    From COCO and OpenPose as published (Kudo et al.'s demo): hip and thorax between the hips and shoulders, spine
    between those, neck/nose the nose, and the top of the head as far above the nose as that is above the thorax.
    From MPII as in the published mpii_poses.npy: Human3.6M's thorax, the base of the neck, is MPII's "upper neck" (its
    "thorax" lies between the shoulders), and neck/nose is halfway from there to the top of the head. The spine is
    halfway from hip to thorax (in the published file, by a slip, it is MPII's thorax).
    """
    if layout in _COCO_PLACES:
        count, places = _COCO_PLACES[layout]
        return h36m_matrix("coco17") @ np.eye(count)[list(places)]
    if layout == "openpose18":
        return h36m_matrix("coco17") @ conversion_matrix(layout, COCO_17)
    matrix = conversion_matrix(layout, H36M_17)
    if layout == "coco17":
        nose, thorax = (matrix[H36M_17.index(joint)] for joint in ("neck", "thorax"))
        matrix[H36M_17.index("head")] = 2 * nose - thorax
    if layout == "mpii16":
        hip, base_of_neck, top = (np.eye(16)[MPII_16.index(joint)] for joint in ("hip", "upper neck", "head"))
        made = {"thorax": base_of_neck, "neck": (base_of_neck + top) / 2, "spine": (hip + base_of_neck) / 2}
        for joint, row in made.items():
            matrix[H36M_17.index(joint)] = row
    return matrix


# ------------------------------------------------------------ files


def _read(path: Path) -> _Raw:
    if path.is_dir():
        return _read_folder(path)
    readers: dict[str, Callable[[Path], _Raw]] = {".json": _read_json, ".npz": _read_npz, ".npy": _read_npy}
    if path.suffix.lower() not in readers:
        raise InputError(f"{path}: unknown kind of file {path.suffix!r}; expected one of {', '.join(readers)}")
    if not path.is_file():
        raise InputError(f"{path} does not exist (looked for {path.absolute()})")
    return readers[path.suffix.lower()](path)


def _read_folder(folder: Path) -> _Raw:
    """OpenPose's output of a video: one file for each frame."""
    files = sorted(folder.glob("*.json"), key=lambda file: _natural(file.name))
    if not files:
        raise InputError(f"{folder} holds no .json files; expected OpenPose's, one for each frame")
    parts = [_read_json(file) for file in files]
    if any(len(part.people) != 1 for part in parts):
        raise InputError(f"{folder}: a file with several frames among its .json files; expected one frame in each")
    return _Raw([part.people[0] for part in parts], [file.stem for file in files], parts[0].layout)


def _read_json(path: Path) -> _Raw:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error})") from error
    if isinstance(content, dict) and isinstance(content.get("people"), list):
        people = [_flat(_entry(person, "pose_keypoints_2d", path), path) for person in content["people"]]
        return _Raw([people], [path.stem], None)
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        content = content["annotations"]
    if isinstance(content, list) and content and all(isinstance(entry, dict) for entry in content):
        return _by_image(content, path)
    layout = None
    if isinstance(content, dict):
        layout, content = content.get("layout"), _entry(content, "keypoints", path)
    return _sequence(_numbers(content, path), layout, path)


def _by_image(entries: list[dict], path: Path) -> _Raw:
    """COCO's results and AlphaPose's: a list of {image_id, keypoints, score}, several for an image with several."""
    images: dict[str, list[np.ndarray]] = {}
    for entry in entries:
        images.setdefault(str(entry.get("image_id", 0)), []).append(_flat(_entry(entry, "keypoints", path), path))
    frames = sorted(images, key=_natural)
    people = [images[frame] for frame in frames]
    counts = {len(person) for some in people for person in some}
    return _Raw(people, frames, "coco17" if counts == {17} else None)


def _read_npz(path: Path) -> _Raw:
    arrays = load_npz(path)
    numbers = {k: v for k, v in arrays.items() if isinstance(v, np.ndarray) and v.dtype.kind in "fiu" and v.ndim > 1}
    key = next((name for name in ("keypoints", "points", *numbers) if name in numbers), None)
    points = numbers.get(key)
    if points is None or points.ndim not in (2, 3):
        raise InputError(f"{path} has no array of keypoints (T, J, 2); it has: {', '.join(arrays) or 'none'}")
    scores = next((arrays[name] for name in ("confidence", "scores") if name in arrays), None)
    if scores is not None:
        if np.shape(scores) != points.shape[:-1]:
            raise InputError(f"{path}: confidence has shape {np.shape(scores)}; expected {points.shape[:-1]}")
        points = np.concatenate((points[..., :2], np.asarray(scores)[..., None]), -1)
    layout = arrays.get("layout")
    return _sequence(points, None if layout is None else str(layout), path)


def _read_npy(path: Path) -> _Raw:
    try:
        points = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is truncated, damaged or no .npy file of numbers ({error})") from error
    return _sequence(_numbers(points, path), None, path)


def _sequence(points: np.ndarray, layout: Any, path: Path) -> _Raw:
    """(J, D) or (T, J, D) numbers, D 2 or 3, of one person."""
    if points.ndim == 2:
        points = points[None]
    if points.ndim != 3 or points.shape[-1] not in (2, 3) or not points.size:
        raise InputError(f"{path} has shape {points.shape}; expected keypoints (J, 2 or 3) or (T, J, 2 or 3)")
    points = points.astype(float)
    if points.shape[-1] == 2:
        points = np.concatenate((points, np.ones_like(points[..., :1])), -1)
    return _Raw([[person] for person in points], [str(i) for i in range(len(points))], layout)


def _entry(container: Any, key: str, path: Path) -> Any:
    if not isinstance(container, dict) or key not in container:
        raise InputError(f"{path}: a person without {key!r}; expected OpenPose's, COCO's or AlphaPose's layout")
    return container[key]


def _flat(values: Any, path: Path) -> np.ndarray:
    """x0 y0 c0 x1 ... -> (J, 3)."""
    values = _numbers(values, path)
    if values.ndim != 1 or len(values) % 3 or not len(values):
        raise InputError(f"{path}: keypoints of shape {values.shape}; expected x, y and confidence of each joint")
    return values.reshape(-1, 3)


def _numbers(values: Any, path: Path) -> np.ndarray:
    try:
        array = np.asarray(values)
        if array.dtype.kind in "fiu":
            return array.astype(float)
    except (TypeError, ValueError):
        pass
    raise InputError(f"{path}: keypoints that are no (regular) list of numbers")


def _natural(text: str) -> list:
    """Sorting key in which 10 comes after 9."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", text) if part]


# ------------------------------------------------------------ people and layouts


def _follow(frames: list[list[np.ndarray]], joints: int, path: Path) -> np.ndarray:
    """One person through all frames: (T, J, 3) float64, NaN where nobody is."""
    if max(map(len, frames)) > 1:
        log.warning("%s: up to %d people in a frame; the one seen best is taken", path, max(map(len, frames)))
    track, previous = np.full((len(frames), joints, 3), np.nan), None
    for t, people in enumerate(frames):
        if people:
            previous = track[t] = min(people, key=lambda person, last=previous: _distance(person, last))
    return track


def _distance(person: np.ndarray, previous: np.ndarray | None) -> float:
    """How far a person (J, 3) is from the last frame's; in the first frame, how badly it is seen."""
    if previous is not None:
        both = (person[:, 2] > 0) & (previous[:, 2] > 0)
        if both.any():
            return float(np.linalg.norm(person[both, :2] - previous[both, :2], axis=-1).mean())
    return 1e9 - float(np.nan_to_num(person[:, 2]).sum())


def _layout_name(wanted: str | None, points: np.ndarray, path: Path) -> str:
    """The layout of points (T, J, 3): by name, or by the number of joints."""
    count = points.shape[1]
    if wanted is None:
        name = _guess_17(points) if count == 17 else _BY_COUNT.get(count)
        if name is None:
            raise InputError(f"{path} has {count} joints: name their layout, one of {', '.join(LAYOUT_NAMES)}")
        return name
    name = _ALIASES.get(str(wanted).lower(), str(wanted).lower())
    if name not in LAYOUT_NAMES:
        raise InputError(f"unknown joint layout {wanted!r}; known: {', '.join(LAYOUT_NAMES)}")
    expected = _COCO_PLACES[name][0] if name in _COCO_PLACES else LAYOUTS[name].num_joints
    if count != expected:
        raise InputError(f"{path} has {count} joints, but the layout {name} has {expected}")
    return name


def _guess_17(points: np.ndarray) -> str:
    """COCO's 17 begin with five joints of the face, Human3.6M's with the pelvis and a leg: tell them apart by size."""

    def diagonal(part: np.ndarray) -> np.ndarray:
        low, high = np.where(np.isnan(part), np.inf, part).min(1), np.where(np.isnan(part), -np.inf, part).max(1)
        return np.linalg.norm(high - low, axis=-1)

    with np.errstate(invalid="ignore", divide="ignore"):
        share = diagonal(points[:, :5, :2]) / diagonal(points[..., :2])
    known = share[np.isfinite(share)]
    return "coco17" if len(known) and np.median(known) < _FACE_SHARE else "h36m17"


# ------------------------------------------------------------ missing joints


def _convert(points: np.ndarray, confidence: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Filled points (T, J, 2) and read confidence (T, J), NaN where missing -> the same of 17 joints.

    A joint is missing where one that it is made of is; its confidence is the lowest of theirs, 0 where not read.
    """
    parts = matrix != 0  # (17, J)
    joints = matrix @ np.nan_to_num(points)
    joints[~np.isfinite(points).all(-1) @ parts.T] = np.nan
    lowest = np.where(parts, np.nan_to_num(confidence)[:, None], np.inf).min(-1)
    return joints, lowest.astype(np.float32)


def _fill_in_time(points: np.ndarray, matrix: np.ndarray, layout: str, path: Path) -> np.ndarray:
    """(T, J, 3) -> (T, J, 2): straight lines between the frames that have a joint; NaN stays where none has it."""
    present, filled = np.isfinite(points[..., 0]), points[..., :2].copy()
    times, partly = np.arange(len(points)), present.any(0) & ~present.all(0)
    for j in np.flatnonzero(partly):
        for axis in range(2):
            filled[:, j, axis] = np.interp(times, times[present[:, j]], points[present[:, j], j, axis])
    used = np.flatnonzero(partly & (matrix != 0).any(0))
    if len(used):
        names = ", ".join(f"{_joint_names(layout)[j]} in {(~present[:, j]).sum()}" for j in used)
        log.warning("%s: missing in some of %d frames, filled in from the others: %s", path, len(points), names)
    return filled


def _joint_names(layout: str) -> tuple[str, ...]:
    if layout not in _COCO_PLACES:
        return LAYOUTS[layout].joints
    count, places = _COCO_PLACES[layout]
    names = {place: name for place, name in zip(places, COCO_17.joints, strict=True)}
    return tuple(names.get(j, f"joint {j}") for j in range(count))


def _fill_in_body(joints: np.ndarray, path: Path) -> np.ndarray:
    """Joints (T, 17, 2) that no frame has, NaN, from their neighbours.

    Raises:
        InputError: hips or shoulders are among them.
    """
    missing = [H36M_17.joints[j] for j in np.flatnonzero(np.isnan(joints[..., 0]).any(0))]
    if not missing:
        return joints
    lost = [name for name in missing if name in _NEEDED]
    if lost:
        raise InputError(
            f"{path}: {', '.join(lost)} missing in every frame; hips and shoulders are needed: use a picture that "
            "shows them, or a lower --thr"
        )
    body = {name: joints[:, j] for j, name in enumerate(H36M_17.joints) if name not in missing}
    for name in _FILL_ORDER:
        if name not in body:
            body[name] = _from_neighbours(name, body)
    log.warning("%s: missing, filled in from the joints around: %s", path, ", ".join(missing))
    return np.stack([body[name] for name in H36M_17.joints], 1)


_FILL_ORDER = (
    "hip", "thorax", "spine", "neck", "head",
    *(f"{side} {joint}" for joint in ("knee", "foot", "elbow", "wrist") for side in ("right", "left")),
)  # fmt: skip


def _from_neighbours(name: str, body: dict[str, np.ndarray]) -> np.ndarray:
    """A joint (T, 2) from those already there, which hold everything before it in `_FILL_ORDER`."""
    between = {
        "hip": ("right hip", "left hip"),
        "thorax": ("right shoulder", "left shoulder"),
        "spine": ("hip", "thorax"),
    }
    if name in between:
        return sum(body[part] for part in between[name]) / 2
    down = body["hip"] - body["thorax"]
    if name == "neck":
        return (body["thorax"] + body["head"]) / 2 if "head" in body else body["thorax"] - 0.25 * down
    if name == "head":
        return 2 * body["neck"] - body["thorax"]
    parent = H36M_17.joints[H36M_17.parents[H36M_17.index(name)]]
    other, other_parent = (_other_side(joint) for joint in (name, parent))
    if other in body and other_parent in body:  # as the other limb hangs
        return body[parent] + body[other] - body[other_parent]
    share = {"knee": 0.9, "foot": 0.9, "elbow": 0.55, "wrist": 0.5}[name.split()[-1]]  # of the torso
    return body[parent] + share * down


def _other_side(joint: str) -> str:
    side = "left" if joint.startswith("left") else "right"
    return joint.replace(side, "right" if side == "left" else "left", 1)
