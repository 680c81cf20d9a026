"""Files of 2D detectors -> people by frame, as the file has them: OpenPose, AlphaPose, COCO's results (Detectron2's are
the same), MMPose / RTMPose, VideoPose3D's inference with Detectron, `.npz`, `.npy`, lists of numbers.

Nothing in a file is ever executed. Pixels, y down.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.errors import InputError
from common.files.atomic import natural
from common.files.npz import load_npz
from common.files.reading import load_array, reading
from common.video.layouts import layout_by_names

_MOST_INSERTED = 9  # frames without a line in the file, for each one with a line: more, and the numbers mean otherwise


class RawKeypoints(NamedTuple):
    """People by frame: each (J, 3) float64 with x, y, confidence. What the file does not say is None."""

    people: list[list[np.ndarray]]
    frames: list[str]  # names of the images, of the files, or numbers
    layout: str | None
    size: tuple[int, int] | None = None  # width and height of the picture, pixels
    fps: float | None = None


def read_raw(path: str | Path) -> RawKeypoints:
    """Read a file, or a folder of files of one frame each.

    Raises:
        InputError: missing, damaged or unknown kind of file.
    """
    path = Path(path)
    if path.is_dir():
        with reading(path, "folder of keypoints"):
            return _read_folder(path)
    readers: dict[str, Callable[[Path], RawKeypoints]] = {".json": _read_json, ".npz": _read_npz, ".npy": _read_npy}
    if path.suffix.lower() not in readers:
        raise InputError(f"{path}: unknown kind of file {path.suffix!r}; expected one of {', '.join(readers)}")
    if not path.is_file():
        raise InputError(f"{path} does not exist (looked for {path.absolute()})")
    with reading(path, "file of keypoints"):
        return readers[path.suffix.lower()](path)


def _read_folder(folder: Path) -> RawKeypoints:
    """OpenPose's output of a video, or MMPose's of images: one file for each frame."""
    files = sorted(folder.glob("*.json"), key=lambda file: natural(file.name))
    if not files:
        raise InputError(f"{folder} holds no .json files; expected OpenPose's, one for each frame")
    parts = [_read_json(file) for file in files]
    if any(len(part.people) != 1 for part in parts):
        raise InputError(f"{folder}: a file with several frames among its .json files; expected one frame in each")
    layout = next((part.layout for part in parts if part.layout), None)
    return _all_frames([part.people[0] for part in parts], [file.stem for file in files], layout)


# ------------------------------------------------------------ JSON


def _read_json(path: Path) -> RawKeypoints:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error})") from error
    if isinstance(content, dict) and isinstance(content.get("people"), list):
        people = [_flat(_entry(person, "pose_keypoints_2d", path), path) for person in content["people"]]
        return RawKeypoints([people], [path.stem], None)
    if isinstance(content, dict) and isinstance(content.get("instance_info"), list):
        return _mmpose(content["instance_info"], content.get("meta_info"), path)
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        return _by_image(content["annotations"], path, content)
    if isinstance(content, dict) and content and all(isinstance(v, dict) and "bodies" in v for v in content.values()):
        return _alphapose_bodies(content, path)
    if isinstance(content, list) and content and all(isinstance(entry, dict) for entry in content):
        if any("instances" in entry or "keypoint_scores" in entry for entry in content):
            return _mmpose(content, None, path)
        return _by_image(content, path, {})
    layout = None
    if isinstance(content, dict):
        layout, content = content.get("layout"), _entry(content, "keypoints", path)
    return _sequence(_numbers(content, path), layout, path)


def _by_image(entries: list, path: Path, file: dict) -> RawKeypoints:
    """COCO's results, Detectron2's and AlphaPose's: {image_id, keypoints, score}, several for an image with several.

    file: COCO's annotations hold the pictures' sizes and names and the joints' names besides.
    """
    images: dict[str, list[np.ndarray]] = {}
    known = [image for image in _dicts(file.get("images")) if "id" in image]
    for image in known:
        images[str(image["id"])] = []
    for entry in entries:
        person = _flat(_entry(entry, "keypoints", path), path)
        images.setdefault(str(entry.get("image_id", 0)), []).append(person)
    frames = sorted(images, key=natural)
    people = [images[frame] for frame in frames]
    names = next((c["keypoints"] for c in _dicts(file.get("categories")) if isinstance(c.get("keypoints"), list)), None)
    people, layout = _by_names(people, names)
    counts = {len(person) for some in people for person in some}
    sizes = {_size(image.get("width"), image.get("height")) for image in known}
    size = sizes.pop() if len(sizes) == 1 else None
    return _all_frames(people, frames, layout or ("coco17" if counts == {17} else None), size)


def _mmpose(entries: list, meta: Any, path: Path) -> RawKeypoints:
    """MMPose's predictions: frames of instances for a video, instances alone for an image; joints by their names."""
    if all(isinstance(entry, dict) and "instances" in entry for entry in entries):
        frames = [str(entry.get("frame_id", t)) for t, entry in enumerate(entries)]
        groups = [entry["instances"] for entry in entries]
    else:
        frames, groups = [path.stem], [entries]
    people = [[_instance(instance, path) for instance in _dicts(group)] for group in groups]
    people, layout = _by_names(people, _mmpose_names(meta))
    return _all_frames(people, frames, layout)


def _instance(instance: dict, path: Path) -> np.ndarray:
    points = _numbers(_entry(instance, "keypoints", path), path)
    if points.ndim != 2 or points.shape[1] not in (2, 3):
        raise InputError(f"{path}: keypoints of shape {points.shape}; expected x and y of each joint (MMPose)")
    scores = _numbers(instance.get("keypoint_scores", np.ones(len(points))), path)
    if scores.shape != (len(points),):
        raise InputError(f"{path}: {scores.size} keypoint_scores for {len(points)} keypoints")
    return np.column_stack((points[:, :2], scores))


def _mmpose_names(meta: Any) -> list[str] | None:
    """The joints' names in MMPose's meta_info, by their numbers."""
    table = meta.get("keypoint_id2name") if isinstance(meta, dict) else None
    if isinstance(table, dict):
        table = [table[key] for key in sorted(table, key=natural)]
    return table if isinstance(table, list) else None


def _alphapose_bodies(content: dict, path: Path) -> RawKeypoints:
    """AlphaPose's --format cmu: image -> bodies."""
    frames = sorted(content, key=natural)
    people = [[_flat(_entry(body, "joints", path), path) for body in content[frame]["bodies"]] for frame in frames]
    return _all_frames(people, frames, None)


def _by_names(people: list[list[np.ndarray]], names: Any) -> tuple[list[list[np.ndarray]], str | None]:
    """People with the joints of the layout that the names tell, and that layout."""
    found = layout_by_names(names) if names else None
    if found is None or any(len(person) != len(names) for some in people for person in some):
        return people, None
    layout, places = found
    return [[person[places] for person in some] for some in people], layout


# ------------------------------------------------------------ NumPy


def _read_npz(path: Path) -> RawKeypoints:
    arrays = load_npz(path)
    if "positions_2d" in arrays:
        return _videopose_dataset(arrays, path)
    detections = arrays.get("keypoints")
    if isinstance(detections, np.ndarray) and detections.dtype.kind == "O" and "boxes" in arrays:
        return _videopose_inference(arrays, path)
    numbers = {k: v for k, v in arrays.items() if isinstance(v, np.ndarray) and v.dtype.kind in "fiu" and v.ndim > 1}
    key = next((name for name in ("keypoints", "points", *numbers) if name in numbers), None)
    points = numbers.get(key)
    if points is None or points.ndim not in (2, 3, 4):
        raise InputError(f"{path} has no array of keypoints (T, J, 2); it has: {', '.join(arrays) or 'none'}")
    scores = next((arrays[name] for name in ("confidence", "scores", "keypoint_scores") if name in arrays), None)
    if scores is not None:
        if np.shape(scores) != points.shape[:-1]:
            raise InputError(f"{path}: confidence has shape {np.shape(scores)}; expected {points.shape[:-1]}")
        points = np.concatenate((points[..., :2], np.asarray(scores)[..., None]), -1)
    layout, size, fps = (arrays.get(name) for name in ("layout", "image_size", "fps"))
    raw = _sequence(points, None if layout is None else str(layout), path)
    people, by_names = _by_names(raw.people, [str(name) for name in np.ravel(arrays.get("joints", []))])
    size = None if size is None or np.size(size) != 2 else _size(*np.ravel(size))
    fps = float(fps) if fps is not None and np.size(fps) == 1 and np.asarray(fps).dtype.kind in "fiu" else None
    return raw._replace(people=people, layout=raw.layout or by_names, size=size, fps=fps)


def _videopose_inference(arrays: dict[str, Any], path: Path) -> RawKeypoints:
    """What VideoPose3D's inference/infer_video.py and infer_video_d2.py write: [[], people (N, 4, 17)] in each frame.

    The rows of a person are x, y, the logit and the probability.
    """
    people = []
    for t, frame in enumerate(arrays["keypoints"]):
        found = np.asarray(frame[-1] if len(frame) else [])
        if found.size and (found.dtype.kind not in "fiu" or found.ndim != 3 or found.shape[1:] != (4, 17)):
            raise InputError(f"{path}: keypoints of shape {found.shape} in frame {t}; expected (people, 4, 17)")
        people.append([person[[0, 1, 3]].T.astype(float) for person in found] if found.size else [])
    metadata = arrays.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    size = _size(metadata.get("w"), metadata.get("h"))
    fps = metadata.get("fps")
    return RawKeypoints(
        people, [str(t) for t in range(len(people))], "coco17", size,
        float(fps) if isinstance(fps, (int, float)) and fps > 0 else None,
    )  # fmt: skip


def _videopose_dataset(arrays: dict[str, Any], path: Path) -> RawKeypoints:
    """A file of a data set in VideoPose3D's layout that holds one video, as data/prepare_data_2d_custom.py's may."""
    tree, metadata = arrays["positions_2d"], arrays.get("metadata")
    if not isinstance(tree, dict) or not all(isinstance(actions, dict) for actions in tree.values()):
        raise InputError(f"{path}: positions_2d is not a dict of subject -> action -> views (VideoPose3D's layout)")
    found = [
        (subject, action, view, points)
        for subject, actions in tree.items()
        for action, views in actions.items()
        for view, points in enumerate(views)
    ]
    if len(found) != 1:
        raise InputError(f"{path} holds {len(found)} videos; expected one: give the detector's file of the one wanted")
    subject, _, _, points = found[0]
    metadata = metadata if isinstance(metadata, dict) else {}
    videos = metadata.get("video_metadata")
    video = videos.get(subject, {}) if isinstance(videos, dict) else {}
    raw = _sequence(_numbers(points, path), metadata.get("layout_name"), path)
    return raw._replace(size=_size(video.get("w"), video.get("h")))


def _read_npy(path: Path) -> RawKeypoints:
    return _sequence(_numbers(load_array(path), path), None, path)


def _sequence(points: np.ndarray, layout: Any, path: Path) -> RawKeypoints:
    """(J, D) or (T, J, D) numbers, D 2 or 3, of one person; (T, people, J, D) of several."""
    if points.ndim == 2:
        points = points[None]
    if points.ndim == 3:
        points = points[:, None]
    if points.ndim != 4 or points.shape[-1] not in (2, 3) or not points.size:
        shape = points[:, 0].shape if points.ndim == 4 else points.shape
        raise InputError(f"{path} has shape {shape}; expected keypoints (J, 2 or 3) or (T, J, 2 or 3)")
    points = points.astype(float)
    if points.shape[-1] == 2:
        points = np.concatenate((points, np.ones_like(points[..., :1])), -1)
    return RawKeypoints([list(frame) for frame in points], [str(t) for t in range(len(points))], layout)


# ------------------------------------------------------------ parts


def _all_frames(
    people: list[list[np.ndarray]], frames: list[str], layout: str | None, size: tuple[int, int] | None = None
) -> RawKeypoints:
    """Put in the frames of a video that have no line, because nobody was found in them: gaps in their numbering.

    The numbering counts where most frames are one and the same step after the one before, and all a multiple of it.
    """
    numbers = [_last_number(frame) for frame in frames]
    if len(frames) > 2 and None not in numbers:
        steps = np.diff(np.array(numbers, dtype=object))
        step = sorted(steps)[len(steps) // 2]
        total = sum(steps) // step + 1 if step > 0 else 0
        regular = step > 0 and 2 * (steps == step).sum() > len(steps) and all(s > 0 and s % step == 0 for s in steps)
        if regular and len(frames) < total <= (1 + _MOST_INSERTED) * len(frames):
            rows = {(number - numbers[0]) // step: t for t, number in enumerate(numbers)}
            name = {row: frames[t] for row, t in rows.items()}
            frames = [name.get(row, f"{numbers[0] + row * step} (not in the file)") for row in range(total)]
            people = [people[rows[row]] if row in rows else [] for row in range(total)]
    return RawKeypoints(people, frames, layout, size)


def _last_number(name: str) -> int | None:
    found = re.findall(r"\d+", re.sub(r"\.\w{2,4}$", "", name))
    return int(found[-1][:15]) if found else None


def _size(width: Any, height: Any) -> tuple[int, int] | None:
    try:
        return (int(width), int(height)) if int(width) > 0 and int(height) > 0 else None
    except (TypeError, ValueError, OverflowError):
        return None


def _dicts(values: Any) -> list[dict]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _entry(container: Any, key: str, path: Path) -> Any:
    if not isinstance(container, dict) or key not in container:
        raise InputError(f"{path}: a person without {key!r}; expected OpenPose's, COCO's, AlphaPose's or MMPose's form")
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
