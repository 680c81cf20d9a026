"""People of a video in 2D: each followed from frame to frame, joints that are missing filled in, jitter smoothed away.

Pixels, y down, NumPy. T frames, J joints of the detector's layout, 17 of Human3.6M's.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.errors import InputError
from common.run.options import number
from common.skeleton import H36M_17
from common.video.layouts import joint_names

log = logging.getLogger(__name__)

MAX_GAP = 1.0  # seconds: a joint or a person may be away for so long
FOLLOWING = (
    ("--person", number(int, 1), 1, "whom to follow; 1: the largest"),
    ("--max-gap", number(float, 0), MAX_GAP,
     "longest gap of a joint that is filled in from other frames (longer ones from its neighbours in the body), "
     "and of a person who stays the same one", "SECONDS"),
    ("--smooth", number(float, 0), 0.0, "sigma of a mean over time; 0: none", "FRAMES"),
)  # fmt: skip
FOUND, INTERPOLATED, GUESSED = 0, 1, 2  # a joint: seen, from frames before and after, from its neighbours
# How far a person may be from where it was, as a share of its size: at once, for each second of a gap, and at most.
_REACH, _REACH_PER_SECOND, _MOST_REACH = 0.5, 1.25, 1.0
_LATELY = 6  # frames, whose motion tells where a person is next
_AHEAD = 0.24  # seconds, for which it goes on like that
_SLACK = 1e-6  # seconds
_LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "foot")
_CUT = 0.25  # of a body's size, from which on a step is none of one body's, but a cut
_TURNED = 0.005  # of a body's size: what a frame with exchanged sides costs, so that some dozen on end are turned back
_NEEDED = ("right hip", "left hip", "right shoulder", "left shoulder")
_FILL_ORDER = (
    "hip", "thorax", "spine", "neck", "head",
    *(f"{side} {joint}" for joint in ("knee", "foot", "elbow", "wrist") for side in ("right", "left")),
)  # fmt: skip


class Person(NamedTuple):
    """One person in n of the frames."""

    rows: np.ndarray  # (n,) int, frames
    points: np.ndarray  # (n, J, 3): x, y, confidence
    size: float  # mean diagonal of the box around the joints that are seen, pixels
    score: float = 1.0  # mean of what the detector gives the person

    @property
    def share(self) -> float:
        """The order of people: the size, summed over the frames, by how sure the detector is."""
        return self.size * len(self.rows) * self.score


# ------------------------------------------------------------ following


def follow(
    frames: list[list[np.ndarray]],
    clock: np.ndarray,
    max_gap: float = MAX_GAP,
    threshold: float = 0.0,
    scores: list[list[float]] | None = None,
    mixed: bool = False,
) -> list[Person]:
    """Every person of a video, the largest (in pixels, times frames, times score) first.

    Frame by frame the nearest pairs of a person, as it moves on, and of a pose, by the mean distance of their joints,
    are joined first.
    A person may be away for `max_gap` seconds. Where no frame has two poses, all are one person's; if they may be
    `mixed`, only unless somebody is elsewhere within that time and stays there.

    Args:
        frames: T lists of poses (J, 3): x, y, confidence.
        clock: (T,) seconds, rising.
        threshold: confidence of a joint that counts; poses without such are nobody's.
        scores: of each pose, above 0, in any unit.
    """
    pairs = [pair for poses, some in zip(frames, scores or [], strict=False) for pair in zip(poses, some, strict=True)]
    score = {id(pose): one for pose, one in pairs}
    frames = [[pose for pose in poses if _seen(pose, threshold).any()] for poses in frames]
    tracks = _tracks(frames, clock, max_gap, mixed)
    people = [_person(track, threshold, np.mean([score.get(id(pose), 1.0) for _, pose in track])) for track in tracks]
    return sorted(people, key=lambda person: -person.share)


def _tracks(
    frames: list[list[np.ndarray]], clock: np.ndarray, max_gap: float, mixed: bool
) -> list[list[tuple[int, np.ndarray]]]:
    """Frames and poses of everybody."""
    tracks: list[list[tuple[int, np.ndarray]]] = []
    longest = max_gap + (np.median(np.diff(clock)) if len(clock) > 1 else 0) + _SLACK  # from seen to seen
    for t, poses in enumerate(frames):
        active = [track for track in tracks if clock[t] - clock[track[-1][0]] <= longest]
        for track, pose in zip(*_matched(active, poses, t, clock), strict=True):
            (tracks.append([]) or tracks[-1] if track is None else track).append((t, pose))
    if max(map(len, frames), default=0) <= 1 and tracks:
        lasting = sorted((track for track in tracks if len(track) >= _LATELY), key=lambda track: track[0][0])
        pairs = zip(lasting, lasting[1:], strict=False)
        if not mixed or not any(clock[after[0][0]] - clock[before[-1][0]] <= longest for before, after in pairs):
            return [[(t, poses[0]) for t, poses in enumerate(frames) if poses]]
    return tracks


def _matched(active: list, poses: list[np.ndarray], t: int, clock: np.ndarray) -> tuple[list, list[np.ndarray]]:
    """A track, or None for a new one, for each pose of frame t."""
    if not active or not poses:
        return [None] * len(poses), poses
    last = np.stack([_ahead(track, t, clock) for track in active])
    gap = np.array([clock[t - 1] - clock[track[-1][0]] for track in active])
    distance = _distances(last, np.stack(poses))
    distance[distance > np.minimum(_REACH + _REACH_PER_SECOND * gap, _MOST_REACH)[:, None]] = np.inf
    chosen: list = [None] * len(poses)
    for _ in range(min(distance.shape)):
        i, j = np.unravel_index(distance.argmin(), distance.shape)
        if not np.isfinite(distance[i, j]):
            break
        chosen[j] = active[i]
        distance[i], distance[:, j] = np.inf, np.inf
    return chosen, poses


def _ahead(track: list[tuple[int, np.ndarray]], t: int, clock: np.ndarray) -> np.ndarray:
    """A track's last pose, moved on to frame t as its middle has moved lately: people who cross walk on."""
    pose = track[-1][1].copy()
    (first, before), (last, _) = track[-_LATELY:][0], track[-1]
    both = _seen(before) & _seen(pose)
    if last > first and both.any():
        speed = (pose - before)[both, :2].mean(0) / (clock[last] - clock[first])
        pose[:, :2] += speed * min(clock[t] - clock[last], _AHEAD)
    return pose


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(A, J, 3), (B, J, 3) -> (A, B): mean distance of the joints that both see, in sizes of the larger one."""
    both = _seen(a)[:, None] & _seen(b)[None]
    apart = np.linalg.norm(np.nan_to_num(a[:, None, :, :2] - b[None, :, :, :2]), axis=-1)
    size = np.maximum(_sizes(a)[:, None], _sizes(b)[None]).clip(1e-9)
    mean = (apart * both).sum(-1) / both.sum(-1).clip(1) / size
    return np.where(both.any(-1), mean, np.inf)


def _seen(points: np.ndarray, threshold: float = 0.0) -> np.ndarray:
    """(..., J, 3) -> (..., J)."""
    return present(points, threshold) & (points[..., 2] > 0)


def _sizes(points: np.ndarray, threshold: float = 0.0) -> np.ndarray:
    """Diagonals of the boxes around what is seen: (N, J, 3) -> (N,)."""
    seen = _seen(points, threshold)[..., None]
    low, high = (np.where(seen, points[..., :2], fill) for fill in (np.inf, -np.inf))
    return np.linalg.norm(np.maximum(high.max(1) - low.min(1), 0), axis=-1)


def _person(track: list[tuple[int, np.ndarray]], threshold: float, score: float) -> Person:
    points = np.stack([pose for _, pose in track])
    return Person(np.array([t for t, _ in track]), points, float(_sizes(points, threshold).mean()), float(score))


def one_person(people: list[Person], number: int, frames: int, trim: bool, where: Path) -> tuple[np.ndarray, range]:
    """The points (T, J, 3) of person `number`, 1 the largest, NaN where away; and the frames they are of.

    trim: from the person's first to its last frame; else all frames.
    """
    if not 1 <= number <= len(people):
        raise InputError(
            f"--person {number}: {where} has {len(people)} {'person' if len(people) == 1 else 'people'}, 1 the largest"
        )
    chosen = people[number - 1]
    if len(people) > 1:
        log.warning(
            "%s: %d people, one followed: number %d, in %d of %d frames, %.0f pixels; --person N takes another",
            where, len(people), number, len(chosen.rows), frames, chosen.size,
        )  # fmt: skip
    rows = range(int(chosen.rows[0]), int(chosen.rows[-1]) + 1) if trim else range(frames)
    points = np.full((len(rows), *chosen.points.shape[1:]), np.nan)
    points[chosen.rows - rows.start] = chosen.points
    return points, rows


# ------------------------------------------------------------ sides


def with_steady_sides(points: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """One person's points (T, J, 2 or more: x, y) with left and right turned back where a detector exchanged them for
    some frames, and in which frames it did, (T,) bool.

    Of all ways to turn frames over that by which arms and legs move least from frame to frame; a frame turned over
    costs `_TURNED` of the body's size. Frames in which one of these joints is missing are left out.
    """
    points, turned = points.copy(), np.zeros(len(points), bool)
    both = [joint for joint in _LIMBS if {f"left {joint}", f"right {joint}"} <= {*names}]
    left, right = ([names.index(f"{side} {joint}") for joint in both] for side in ("left", "right"))
    placed = (points[..., :2] != 0).any(-1) & np.isfinite(points[..., :2]).all(-1)
    rows = np.flatnonzero(placed[:, left + right].all(1))
    if not both or len(rows) < 2:
        return points, turned
    body = points[rows][:, left + right]
    size = _sizes(np.concatenate((body[..., :2], np.ones_like(body[..., :1])), -1))[1:, None, None].clip(1e-9)
    over = [*range(len(left), 2 * len(left)), *range(len(left))]
    steps = np.stack([(now[1:, :, :2] - body[:-1, :, :2]) / size for now in (body, body[:, over])])
    costs = np.linalg.norm(steps, axis=-1).mean(-1)
    turned[rows] = _cheapest(*np.where(costs.min(0) < _CUT, costs, 0))
    points[np.ix_(turned, left + right)] = points[np.ix_(turned, right + left)]
    return points, turned


def _cheapest(stays: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """(T,) bool: the states through T frames whose steps cost least: `stays` (T - 1,) between equal ones, `changes`
    between unequal ones; Viterbi (1967).
    """
    cost, came = np.array((0, _TURNED)), []
    for stay, change in zip(stays, changes, strict=True):
        ways = cost + np.array(((stay, change), (change, stay)))  # [to, from]
        came.append(ways.argmin(1))
        cost = ways.min(1) + (0, _TURNED)
    state, states = int(cost.argmin()), []
    for back in (*came[::-1], None):
        states.append(state)
        state = state if back is None else int(back[state])
    return np.array(states[::-1], bool)


# ------------------------------------------------------------ missing joints


def fill(
    points: np.ndarray, matrix: np.ndarray, layout: str, threshold: float, max_gap: float, where: Path,
    clock: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Points (T, J, 3) of one person -> Human3.6M's joints (T, 17, 2), confidence (T, 17), status (T, 17).

    A joint is missing where its confidence is below `threshold` or it stands at (0, 0). In gaps of up to `max_gap`
    seconds it moves straight from where it was to where it is next; in longer ones, and where it is never seen, it
    takes its place from its neighbours in the body. Hips and shoulders always come from other frames. Confidence is
    that of the least certain part, 0 where a part was not seen; status is FOUND, INTERPOLATED or GUESSED.

    clock: (T,) seconds, of the frames.

    Raises:
        InputError: a hip or shoulder is missing in every frame.
    """
    there = present(points, threshold)
    names, used = joint_names(layout), (matrix != 0).any(0)
    placed, known = points[..., :2].copy(), there.copy()
    placed[~there] = np.nan
    for j in np.flatnonzero(used & there.any(0) & ~there.all(0)):
        limit = np.inf if names[j] in _NEEDED else max_gap
        known[:, j] |= gap_lengths(there[:, j], clock) <= limit + _SLACK
        interpolate(placed[:, j], there[:, j], known[:, j], clock)
    _warn_of_gaps(there, known, names, used, max_gap, where, clock)
    parts = (matrix != 0).T.astype(int)  # (J, 17)
    joints = matrix @ np.nan_to_num(placed)
    guessed, moved = (~known).astype(int) @ parts > 0, (~there).astype(int) @ parts > 0
    joints[guessed] = np.nan
    status = np.where(guessed, GUESSED, np.where(moved, INTERPOLATED, FOUND)).astype(np.uint8)
    seen = np.where(there, np.nan_to_num(points[..., 2]), 0)
    confidence = np.where(parts.T, seen[:, None], np.inf).min(-1)
    return fill_in_body(joints, where), confidence, status


def present(points: np.ndarray, threshold: float) -> np.ndarray:
    """Which joints were seen: (..., 3) with x, y, confidence -> (...)."""
    return (points[..., 2] >= threshold) & (points[..., :2] != 0).any(-1) & np.isfinite(points).all(-1)


def gap_lengths(present: np.ndarray, clock: np.ndarray) -> np.ndarray:
    """(T,) bool, seconds (T,) -> (T,): seconds of the gap that a frame lies in, 0 outside."""
    edges = np.flatnonzero(np.diff(present.astype(np.int8), prepend=1, append=1))
    lengths = np.zeros(len(present))
    ends = np.append(clock, clock[-1] + (np.median(np.diff(clock)) if len(clock) > 1 else 0))
    for start, stop in edges.reshape(-1, 2):
        lengths[start:stop] = ends[stop] - ends[start]
    return lengths


def interpolate(track: np.ndarray, present: np.ndarray, wanted: np.ndarray, clock: np.ndarray) -> None:
    """Fill (T, 2) in place where wanted: straight lines between the frames present; beyond them the nearest's."""
    for axis in range(2):
        track[wanted, axis] = np.interp(clock[wanted], clock[present], track[present, axis])


def _warn_of_gaps(present, known, names, used, max_gap: float, where: Path, clock: np.ndarray) -> None:
    filled = [f"{names[j]} in {n}" for j, n in enumerate((known & ~present).sum(0)) if n and used[j]]
    if filled:
        log.warning(
            "%s: missing in some of %d frames, filled in from the others: %s", where, len(present), ", ".join(filled)
        )
    needed = [j for j, name in enumerate(names) if name in _NEEDED]
    longest = max((gap_lengths(present[:, j], clock).max() for j in needed if present[:, j].any()), default=0)
    if longest > max_gap + _SLACK:
        log.warning(
            "%s: hips or shoulders are missing for up to %.2f s on end (--max-gap %g): the poses between are guesses",
            where, longest, max_gap,
        )  # fmt: skip


def fill_in_body(joints: np.ndarray, where: Path) -> np.ndarray:
    """Joints (T, 17, 2) that are NaN from their neighbours.

    Raises:
        InputError: hips or shoulders are among them.
    """
    missing = np.isnan(joints[..., 0])
    names = [H36M_17.joints[j] for j in np.flatnonzero(missing.any(0))]
    if not names:
        return joints
    lost = [name for name in names if name in _NEEDED]
    if lost:
        raise InputError(
            f"{where}: {', '.join(lost)} missing in every frame; hips and shoulders are needed: use a picture that "
            "shows them, or a lower --thr"
        )
    body = {name: joints[:, j] for j, name in enumerate(H36M_17.joints)}
    for name in (name for name in _FILL_ORDER if name in names):
        gone = missing[:, H36M_17.index(name), None]
        body[name] = np.where(gone, _from_neighbours(name, body, missing), body[name])
    log.warning("%s: missing, filled in from the joints around: %s", where, ", ".join(names))
    return np.stack([body[name] for name in H36M_17.joints], 1)


def _from_neighbours(name: str, body: dict[str, np.ndarray], missing: np.ndarray) -> np.ndarray:
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
        headless = missing[:, H36M_17.index("head"), None]
        return np.where(headless, body["thorax"] - 0.25 * down, (body["thorax"] + body["head"]) / 2)
    if name == "head":
        return 2 * body["neck"] - body["thorax"]
    parent = H36M_17.joints[H36M_17.parents[H36M_17.index(name)]]
    other, other_parent = (_other_side(joint) for joint in (name, parent))
    share = {"knee": 0.9, "foot": 0.9, "elbow": 0.55, "wrist": 0.5}[name.split()[-1]]  # of the torso
    alone = missing[:, [H36M_17.index(other), H36M_17.index(other_parent)]].any(-1, keepdims=True)
    as_the_other = body[other] - body[other_parent]  # as the other limb hangs
    return body[parent] + np.where(alone, share * down, as_the_other)


def _other_side(joint: str) -> str:
    side = "left" if joint.startswith("left") else "right"
    return joint.replace(side, "right" if side == "left" else "left", 1)


# ------------------------------------------------------------ smoothing


def smooth(points: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian mean over frames, (T, ...) -> the same; `sigma` in frames, 0: none. Near an end, of the frames there."""
    if not sigma > 0 or len(points) < 2:
        return points
    reach = min(int(np.ceil(3 * sigma)), len(points) - 1)
    total, weights = np.zeros(points.shape), np.zeros(len(points))
    for offset in range(-reach, reach + 1):
        weight = np.exp(-0.5 * (offset / sigma) ** 2)
        to, start = slice(max(0, -offset), len(points) - max(0, offset)), max(0, offset)
        part = points[start : start + (to.stop - to.start)]
        total[to] += weight * part
        weights[to] += weight
    return (total / weights.reshape(-1, *[1] * (points.ndim - 1))).astype(points.dtype)
