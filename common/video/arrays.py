"""NumPy files of 2D detectors -> people by frame: `.npz`, `.npy`, VideoPose3D's inference and data sets."""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import InputError
from common.files.npz import load_npz
from common.files.reading import load_array
from common.video.numbering import with_gaps
from common.video.raw import Found, RawKeypoints, numbers, raw_keypoints, size_of

log = logging.getLogger(__name__)

_FRAMES = ("frames", "frame", "frame_id", "frame_ids", "image_id")
_STILL = 0.5  # of a body's size, that a person moves at most from one frame to the next


def read_npz(path: Path) -> RawKeypoints:
    """VideoPose3D's inference or data set; else an array `keypoints`, `points` or the first of numbers, as `sequence`
    takes it. Read besides, where they are there: `confidence` (or `scores`), `layout`, `joints` (names), `image_size`,
    `fps`, `frames` (T,) names or numbers, and `times` (T,) in seconds, as demo.py writes them.

    Raises:
        InputError: damaged, no array of keypoints, or shapes that do not fit.
    """
    arrays = load_npz(path)
    if "positions_2d" in arrays:
        return _videopose_dataset(arrays, path)
    detections = arrays.get("keypoints")
    if isinstance(detections, np.ndarray) and detections.dtype.kind == "O" and "boxes" in arrays:
        return _videopose_inference(arrays, path)
    numeric = {k: v for k, v in arrays.items() if isinstance(v, np.ndarray) and v.dtype.kind in "fiu" and v.ndim > 1}
    key = next((name for name in ("keypoints", "points", *numeric) if name in numeric), None)
    points = numeric.get(key)
    if points is None or points.ndim not in (2, 3, 4):
        raise InputError(f"{path} has no array of keypoints (T, J, 2); it has: {', '.join(arrays) or 'none'}")
    scores = next((arrays[name] for name in ("confidence", "scores", "keypoint_scores") if name in arrays), None)
    if scores is not None:
        if np.shape(scores) != points.shape[:-1]:
            raise InputError(f"{path}: confidence has shape {np.shape(scores)}; expected {points.shape[:-1]}")
        points = np.concatenate((points[..., :2], np.asarray(scores)[..., None]), -1)
    layout, size, fps = (arrays.get(name) for name in ("layout", "image_size", "fps"))
    raw = sequence(points, None if layout is None else str(layout), path)
    people, frames, times = raw.people, raw.frames, _times(arrays.get("times"), len(raw.frames), path)
    names = next((np.ravel(arrays[name]) for name in _FRAMES if np.shape(arrays.get(name)) == (len(frames),)), None)
    if names is not None and names.dtype.kind in "iuUS":
        frames = [str(name) for name in names]
        people, frames = (people, frames) if times is not None else with_gaps(people, frames, path)
    joints = [str(name) for name in np.ravel(arrays.get("joints", []))]
    named = raw_keypoints([[Found(one) for one in some] for some in people], frames, joints, path)
    fps = float(fps) if fps is not None and np.size(fps) == 1 and np.asarray(fps).dtype.kind in "fiu" else None
    return named._replace(
        layout=raw.layout or named.layout, size=None if np.size(size) != 2 else size_of(*np.ravel(size)),
        fps=fps if fps and np.isfinite(fps) and fps > 0 else None, times=times,
    )  # fmt: skip


def _times(times: Any, count: int, path: Path) -> np.ndarray | None:
    """Seconds (T,), rising."""
    if times is None:
        return None
    times = numbers(times, path)
    if times.shape != (count,) or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise InputError(f"{path}: times of shape {times.shape}; expected {count} rising numbers, seconds")
    return times


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
    size = size_of(metadata.get("w"), metadata.get("h"))
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
    raw = sequence(numbers(points, path), metadata.get("layout_name"), path)
    return raw._replace(size=size_of(video.get("w"), video.get("h")))


def read_npy(path: Path) -> RawKeypoints:
    """An array as `sequence` takes it.

    Raises:
        InputError: damaged, or another shape.
    """
    return sequence(numbers(load_array(path), path), None, path)


def sequence(points: np.ndarray, layout: Any, path: Path) -> RawKeypoints:
    """(J, D) or (T, J, D) numbers, D 2 or 3, of one person; (T, people, J, D) or (people, T, J, D) of several.

    Of people and frames those are the frames along which the bodies move less from one to the next.
    """
    if points.ndim == 2:
        points = points[None]
    if points.ndim == 3:
        points = points[:, None]
    if points.ndim != 4 or points.shape[-1] not in (2, 3) or not points.size:
        shape = points[:, 0].shape if points.ndim == 4 else points.shape
        raise InputError(f"{path} has shape {shape}; expected keypoints (J, 2 or 3) or (T, J, 2 or 3)")
    points = points.astype(float)
    if _person_first(points):
        log.warning("%s: shape %s taken for (people, frames, joints, coordinates): %d people", path, points.shape,
                    len(points))  # fmt: skip
        points = np.swapaxes(points, 0, 1)
    if points.shape[-1] == 2:
        points = np.concatenate((points, np.ones_like(points[..., :1])), -1)
    return RawKeypoints([list(frame) for frame in points], [str(t) for t in range(len(points))], layout)


def _person_first(points: np.ndarray) -> bool:
    """Whether the first axis of (A, B, J, D) is of people: bodies nearly coincide along the second, and less so, or not
    at all, along the first.
    """
    if points.shape[1] == 1:
        return False
    known = np.where((points[..., :2] != 0).any(-1, keepdims=True), points[..., :2], np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of bodies without a joint
        size = np.nanmedian(np.linalg.norm(np.nanmax(known, 2) - np.nanmin(known, 2), axis=-1))
        first, second = (
            float(np.nanmedian(np.linalg.norm(np.diff(known, axis=axis), axis=-1))) if known.shape[axis] > 1 else np.inf
            for axis in (0, 1)
        )
    return second < min(first, _STILL * size)
