"""2D keypoints of one person from a file of another program, or a folder of them -> Human3.6M's 17 joints.

Which files: `common.video.formats`. Which layouts: `common.video.layouts`. How a person is followed and gaps are
filled: `common.video.follow`. Nothing in a file is ever executed. Pixels, y down.
"""

import argparse
import logging
import re
from collections import Counter
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.errors import InputError
from common.skeleton import COCO_17, H36M_17
from common.video import follow
from common.video.formats import read_raw
from common.video.layouts import LAYOUT_NAMES, coco_matrix, h36m_matrix, joint_names, layout_of, made_of
from common.video.raw import FPS, RawKeypoints

log = logging.getLogger(__name__)

__all__ = ["FPS", "LAYOUT_NAMES", "KeypointFile", "coco_keypoints", "h36m_matrix", "image_size", "read_keypoints"]


class KeypointFile(NamedTuple):
    """One person in T frames, as read from a file."""

    points: np.ndarray  # (T, 17, 2) float32, pixels, Human3.6M order
    confidence: np.ndarray  # (T, 17) float32; 0 where the joint was filled in
    layout_found: str  # one of LAYOUT_NAMES
    frames: tuple[str, ...]  # T names: of the images, of the files, or numbers
    status: np.ndarray  # (T, 17) uint8: `follow.FOUND`, INTERPOLATED or GUESSED
    made_of: tuple[str, ...]  # of each joint, where the layout does not have it: "midpoint of left hip, right hip"
    seen: np.ndarray  # (T, J, 3) float64: x, y, confidence of the file's own joints, NaN where the person is away
    rows: range  # the T frames among those of the file
    total: int  # frames of the file
    people: tuple[tuple[int, float], ...]  # of everybody, the largest first: frames, and size in pixels
    person: int  # which of them this is, from 1
    size: tuple[int, int] | None  # width and height of the picture, where the file says
    fps: float | None  # where the file says
    times: np.ndarray | None = None  # (T,) float64, seconds from the start of the video; None: every 1 / fps
    own: np.ndarray | None = None  # (T, 17, 3), the detector's own 3D, metres, along the ray; NaN: away

    def seconds(self, fps: float) -> np.ndarray:
        """(T,) float64: when each frame is shown, from the start of the video; at `fps` where no times are known."""
        return np.array(self.rows) / fps if self.times is None else self.times


def read_keypoints(
    path: str | Path,
    layout: str | None = None,
    threshold: float = 0.1,
    person: int = 1,
    max_gap: float = follow.MAX_GAP,
    smooth: float = 0.0,
    trim: bool = True,
    raw: RawKeypoints | None = None,
) -> KeypointFile:
    """Read one person's keypoints.

    Of several people the largest is taken, or that of number `person`, and followed from frame to frame by its place;
    joints below `threshold` do not count, and the detector's scores weigh. A joint is missing where its confidence is
    below `threshold` or it stands at (0, 0). It is filled in from the frames before and after, or from its neighbours
    in the body (`follow.fill`); a warning names it.

    Args:
        path: `.json`, `.npz`, `.npy`, or a folder of files of one frame each; with `raw` only a name for messages.
        layout: one of `LAYOUT_NAMES`; None: found from the file's names or the number of joints.
        person: 1 is the largest, in pixels and frames.
        max_gap: seconds that a joint is filled in over from other frames, and that a person may be away.
        smooth: frames, sigma of a Gaussian mean over time; 0: none.
        trim: leave out the frames before the person comes and after it is gone.
        raw: what a file would hold, found otherwise.

    Raises:
        InputError: missing or damaged file, unknown layout, nobody in it, or a hip or shoulder missing in every frame.
    """
    path = Path(path)
    raw = raw or read_raw(path)
    people, name, points, rows = _one_person(raw, path, layout, threshold, person, max_gap, trim)
    points, turned = follow.with_steady_sides(points, joint_names(name))
    if turned.any():
        log.warning(
            "%s: left and right, exchanged in %d of %d frames, are turned back", path, turned.sum(), len(turned)
        )
    matrix = h36m_matrix(name)
    points, own = points[..., :3], matrix @ points[..., 3:] if points.shape[-1] == 6 else None
    part = slice(rows.start, rows.stop)
    times = None if raw.times is None else raw.times[part]
    joints, confidence, status = follow.fill(points, matrix, name, threshold, max_gap, path, raw.clock()[part])
    return KeypointFile(
        points=follow.smooth(joints, smooth).astype(np.float32),
        confidence=confidence.astype(np.float32),
        layout_found=name,
        frames=tuple(raw.frames[row] for row in rows),
        status=status,
        made_of=made_of(matrix, name),
        seen=points,
        rows=rows,
        total=len(raw.frames),
        people=tuple((len(one.rows), one.size) for one in people),
        person=person,
        size=raw.size,
        fps=raw.fps,
        times=times,
        own=own,
    )


def coco_keypoints(found: KeypointFile, threshold: float = 0.1, smooth: float = 0.0) -> np.ndarray | None:
    """COCO's 17 keypoints (T, 17, 2) float32, pixels, of what was read; None where the file's layout lacks them.

    The joints of Human3.6M are those of `found`. Eyes and ears that are missing are filled in from other frames; those
    that no frame shows are put on the nose. threshold, smooth: as for `read_keypoints`.
    """
    matrix = coco_matrix(found.layout_found)
    if matrix is None:
        return None
    nose, face = found.points[:, H36M_17.index("neck")], found.seen[:, matrix.argmax(1)]
    result = []
    for j, joint in enumerate(COCO_17.joints):
        track = found.points[:, H36M_17.index(joint)] if joint in H36M_17.joints else nose
        seen = follow.present(face[:, j], threshold)
        if joint not in H36M_17.joints and seen.any():
            track = np.where(seen[:, None], face[:, j, :2], 0)
            follow.interpolate(track, seen, ~seen, found.seconds(found.fps or FPS))
            track = follow.smooth(track, smooth)
        result.append(track)
    return np.stack(result, 1).astype(np.float32)


def image_size(text: str) -> tuple[int, int]:
    """An option's type: 1920x1080, width and height in pixels."""
    found = re.fullmatch(r"(\d{1,5})\s*[x,]\s*(\d{1,5})", text.strip().lower())
    if not found or not int(found[1]) * int(found[2]):
        raise argparse.ArgumentTypeError(f"found {text!r}; expected WIDTHxHEIGHT in pixels, such as 1920x1080")
    return int(found[1]), int(found[2])


def _one_person(
    raw: RawKeypoints, path: Path, layout: str | None, threshold: float, person: int, max_gap: float, trim: bool
) -> tuple[list[follow.Person], str, np.ndarray, range]:
    """All people, the layout, and the points (T, J, 3) and frames of the one asked for."""
    frames, scores = _of_one_layout(raw, layout, path)
    frames = _with_confidence(frames, path)
    people = follow.follow(frames, raw.clock(), max_gap, threshold, scores, raw.mixed)
    if not people:
        every = [pose for frame in frames for pose in frame]
        poses, joints = np.concatenate(every), len(every[0])
        layout_of(layout or raw.layout, np.full((1, joints, 2), np.nan), path)
        if follow.present(poses, 0).any():
            raise InputError(
                f"{path}: every joint is missing in every frame: none has the confidence of --thr {threshold:g} (the "
                f"largest is {np.nanmax(poses[:, 2]):.2g}); give a lower --thr, or another file"
            )
        raise InputError(f"{path}: every joint is missing in every frame; choose another file")
    points, rows = follow.one_person(people, person, len(raw.frames), trim, path)
    seen = np.where((points[..., :2] != 0).any(-1, keepdims=True), points, np.nan)
    return people, layout_of(layout or raw.layout, seen, path), points, rows


def _of_one_layout(
    raw: RawKeypoints, layout: str | None, path: Path
) -> tuple[list[list[np.ndarray]], list[list[float]] | None]:
    """People of the number of joints that most have, and their scores; a warning counts the others.

    Raises:
        InputError: nobody, or no number of joints is that of more than half of the people.
    """
    counts = Counter(len(pose) for people in raw.people for pose in people)
    if not counts:
        raise InputError(f"{path} holds no person; choose another file")
    (joints, most), total = counts.most_common(1)[0], counts.total()
    if 2 * most <= total:
        numbers = " and ".join(map(str, sorted(counts)))
        raise InputError(f"{path} has people of {numbers} joints; expected one layout")
    if most == total:
        return raw.people, raw.scores
    log.warning("%s: %d of %d people left out, which have not the %d joints of the others", path, total - most, total,
                joints)  # fmt: skip
    fits = [[len(pose) == joints for pose in people] for people in raw.people]
    people = [list(compress(some, fit)) for some, fit in zip(raw.people, fits, strict=True)]
    scores = raw.scores and [list(compress(some, fit)) for some, fit in zip(raw.scores, fits, strict=True)]
    return people, scores


def _with_confidence(frames: list[list[np.ndarray]], path: Path) -> list[list[np.ndarray]]:
    """The same, with confidence 1 where every joint of everybody has 0 or none: the detector gives none."""
    poses = np.concatenate([pose for frame in frames for pose in frame])
    placed = (poses[:, :2] != 0).any(-1) & np.isfinite(poses[:, :2]).all(-1)
    if not placed.any() or (poses[:, 2] > 0).any():
        return frames
    log.warning("%s: the confidence of every joint is 0 or missing: taken for 1", path)
    return [[np.column_stack((pose[:, :2], np.ones(len(pose)))) for pose in frame] for frame in frames]
