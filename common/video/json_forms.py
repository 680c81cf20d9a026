"""JSON files of 2D detectors -> people by frame: OpenPose and caffe_rtpose, AlphaPose and PoseFlow, COCO's results and
annotations (Detectron2, CVAT, PoseTrack), MMPose 0.x and 1.x, Ultralytics, lists of numbers.

An entry that is no person's keypoints is left out, with a warning that counts them; a file of nothing else is refused.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import InputError
from common.files.atomic import natural
from common.files.reading import load_json
from common.video.arrays import sequence
from common.video.layouts import layout_by_names
from common.video.numbering import with_gaps
from common.video.raw import Found, RawKeypoints, numbers, raw_keypoints, size_of

log = logging.getLogger(__name__)

_PEOPLE = ("people", "bodies")  # lists of the people in one frame
# A person's keypoints: OpenPose since 1.2, before; caffe_rtpose and AlphaPose; everybody else.
_KEYPOINTS = ("pose_keypoints_2d", "pose_keypoints", "joints", "keypoints")
_FRAME = ("image_id", "frame_id", "frame_idx", "frame_index", "frame_number", "frame", "image_name", "file_name",
          "image")  # fmt: skip
_SCORES = ("score", "scores", "bbox_score", "confidence")


def read_json(path: Path) -> RawKeypoints:
    """Read a file of any of the forms.

    Raises:
        InputError: no JSON, none of the forms, or no entry of it is a person's keypoints.
    """
    content = load_json(path)
    if isinstance(content, dict):
        return _read_dict(content, path)
    if content == []:
        return RawKeypoints([[]], [path.stem], None)  # as MMPose writes of a picture without people
    if isinstance(content, list) and all(isinstance(entry, dict) for entry in content):
        if any("instances" in entry for entry in content) or all("keypoint_scores" in entry for entry in content):
            return _mmpose(content, None, path)
        return _by_image(content, path, {})
    if isinstance(content, list) and _are_people(content):
        return _frames({str(t): people for t, people in enumerate(content)}, None, path)  # MMPose 0.x, Ultralytics
    return sequence(numbers(content, path), None, path)


def is_one_frame(content: Any) -> bool:
    """Whether a file's content is of the people of a single frame, as detectors write one for each frame."""
    if isinstance(content, dict):
        return any(isinstance(content.get(key), list) for key in _PEOPLE)
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        return False
    return not any("instances" in entry or any(key in entry for key in _FRAME) for entry in content)


def _read_dict(content: dict, path: Path) -> RawKeypoints:
    if is_one_frame(content):
        return _frames({path.stem: content}, None, path)
    if isinstance(content.get("instance_info"), list):
        return _mmpose(content["instance_info"], content.get("meta_info"), path)
    if isinstance(content.get("annotations"), list):
        return _by_image(content["annotations"], path, content)
    if content and (all(map(is_one_frame, content.values())) or _are_people(list(content.values()))):
        return _frames(content, None, path)  # AlphaPose, PoseFlow: image -> people
    points = numbers(_keypoints_of(content, path), path)
    return sequence(points, content.get("layout"), path)


def _are_people(groups: list) -> bool:
    """Lists of the people of each frame, some of which may be empty."""
    return all(isinstance(group, list) for group in groups) and any(
        group and all(isinstance(entry, dict) for entry in group) for group in groups
    )


# ------------------------------------------------------------ forms


def _frames(frames: Mapping[str, Any], names: Any, path: Path) -> RawKeypoints:
    """Frame -> its people, in a list or under "people" or "bodies"."""
    ordered = sorted(frames, key=natural)
    groups = [frames[frame] for frame in ordered]
    groups = [next((g[key] for key in _PEOPLE if key in g), g) if isinstance(g, dict) else g for g in groups]
    return _collected(ordered, groups, names, path)


def _mmpose(entries: list, meta: Any, path: Path) -> RawKeypoints:
    """MMPose's predictions: frames of instances for a video, instances alone for an image; joints by their names."""
    if any("instances" in entry for entry in entries if isinstance(entry, dict)):
        frames = [e for e in entries if isinstance(e, dict) and "instances" in e]
        labels = [str(entry.get("frame_id", t)) for t, entry in enumerate(frames)]
        return _collected(labels, [entry["instances"] for entry in frames], _mmpose_names(meta), path)
    return _collected([path.stem], [entries], _mmpose_names(meta), path)


def _mmpose_names(meta: Any) -> list[str] | None:
    """The joints' names in MMPose's meta_info, by their numbers."""
    table = meta.get("keypoint_id2name") if isinstance(meta, dict) else None
    if isinstance(table, dict):
        table = [table[key] for key in sorted(table, key=natural)]
    return table if isinstance(table, list) else None


def _by_image(entries: list, path: Path, file: dict) -> RawKeypoints:
    """COCO's results, Detectron2's and AlphaPose's: {image_id, keypoints, score}, several for an image with several.

    file: COCO's annotations hold the pictures' sizes and names and the joints' names besides.
    """
    known = [image for image in _dicts(file.get("images")) if "id" in image]
    label = {str(image["id"]): str(image.get("file_name") or image["id"]) for image in known}
    if len(set(label.values())) < len(label):
        label = {number: number for number in label}
    images: dict[str, list] = {name: [] for name in label.values()}
    names, other = _names(file)
    named = [(_frame_of(entry), entry) for entry in entries]
    alone = all(frame is None for frame, _ in named)  # the people of one picture
    for frame, entry in named:
        if (alone or frame is not None) and not (isinstance(entry, dict) and entry.get("category_id") in other):
            images.setdefault(label.get(str(frame or 0), str(frame or 0)), []).append(entry)
    lost = 0 if alone else sum(frame is None for frame, _ in named)
    if lost:
        log.warning("%s: %d of %d entries left out, which name no frame", path, lost, len(entries))
    frames = sorted(images, key=natural)
    sizes = {size_of(image.get("width"), image.get("height")) for image in known}
    raw = _collected(frames, [images[frame] for frame in frames], names, path)
    return raw._replace(size=sizes.pop() if len(sizes) == 1 else None)


def _frame_of(entry: Any) -> Any:
    """The frame that an entry names; None if none."""
    return next((entry[key] for key in _FRAME if entry.get(key) is not None), None) if isinstance(entry, dict) else None


def _names(file: dict) -> tuple[list | None, list]:
    """The joints' names of COCO's category of people, and the ids of the categories of other things."""
    named = [c for c in _dicts(file.get("categories")) if isinstance(c.get("keypoints"), list) and c["keypoints"]]
    chosen = next((c for c in named if layout_by_names(c["keypoints"])), named[0] if named else None)
    if chosen is None:
        return None, []
    return chosen["keypoints"], [c["id"] for c in _dicts(file["categories"]) if c is not chosen and "id" in c]


# ------------------------------------------------------------ people


def _collected(frames: list[str], groups: Sequence[Any], names: Any, path: Path) -> RawKeypoints:
    """The people of each frame; entries that are none are left out, with a warning."""
    people: list[list[Found]] = []
    faults: list[str] = []
    for frame, group in zip(frames, groups, strict=True):
        people.append([])
        for entry in group if isinstance(group, list) else [group]:
            try:
                people[-1].append(_person(entry, path))
            except InputError as error:
                faults.append(f"frame {frame}: {str(error).removeprefix(f'{path}: ')}")
    count = sum(map(len, people))
    if faults and not count:
        raise InputError(f"{path}: {faults[0]}")
    if faults:
        log.warning("%s: %d of %d entries left out; the first, %s", path, len(faults), count + len(faults), faults[0])
    people, frames = with_gaps(people, frames, path)
    return raw_keypoints(people, frames, names, path)


def _person(entry: Any, path: Path) -> Found:
    points = _keypoints_of(entry, path)
    if isinstance(points, dict):  # Ultralytics
        points = _columns([points.get("x"), points.get("y")], points.get("visible"), path)
    else:
        points = _rows(numbers(points, path), entry.get("keypoint_scores"), path)
    box = entry.get("bbox")
    scores = [entry.get(key) for key in _SCORES] + ([box[4]] if isinstance(box, list) and len(box) == 5 else [])
    score = next((float(s) for s in scores if isinstance(s, int | float) and not isinstance(s, bool)), 1.0)
    return Found(points, score if np.isfinite(score) and score > 0 else 1e-9)


def _keypoints_of(entry: Any, path: Path) -> Any:
    key = next((key for key in _KEYPOINTS if key in entry), None) if isinstance(entry, dict) else None
    if key is None:
        raise InputError(
            f"{path}: a person without 'keypoints' or 'pose_keypoints_2d'; expected the form of OpenPose, AlphaPose, "
            "COCO, MMPose or Ultralytics"
        )
    return entry[key]


def _rows(values: np.ndarray, scores: Any, path: Path) -> np.ndarray:
    """x0 y0 c0 x1 ..., or rows of x, y and perhaps confidence, which `scores` (J,) replaces -> (J, 3)."""
    if values.ndim == 1 and len(values) and len(values) % 3 == 0:
        values = values.reshape(-1, 3)
    if values.ndim != 2 or values.shape[1] not in (2, 3):
        raise InputError(f"{path}: keypoints of shape {values.shape}; expected x, y and confidence of each joint")
    return _columns(values[:, :2].T, scores if scores is not None else values[:, 2] if values.shape[1] > 2 else None,
                    path)  # fmt: skip


def _columns(places: Any, scores: Any, path: Path) -> np.ndarray:
    """x and y (2, J), confidence (J,) or None for 1 -> (J, 3)."""
    places = numbers(places, path)
    if places.ndim != 2 or not places.size:
        raise InputError(f"{path}: keypoints of shape {places.shape}; expected x, y and confidence of each joint")
    scores = np.ones(places.shape[1]) if scores is None else numbers(scores, path)
    if scores.shape != places.shape[1:]:
        raise InputError(f"{path}: {scores.size} keypoint_scores for {places.shape[1]} keypoints")
    return np.column_stack((*places, scores))


def _dicts(values: Any) -> list[dict]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
