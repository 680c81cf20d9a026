"""Reports on 2D keypoints before they are lifted: where each joint comes from, and whether they look like poses.

A lifter knows the poses that it was trained on. Joints in another order, sides exchanged, a picture turned over or a
wrong size of it give poses that no training set has: `warnings` compares with statistics of the synthetic training set
(`keypoint_statistics.json`, made by `python data/prepare_data_2d_custom.py --statistics`) and says what sticks out.
"""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from common.skeleton import H36M_17
from common.video.follow import FOUND, GUESSED, INTERPOLATED
from common.video.numbering import is_even
from common.video.read import KeypointFile

STATISTICS = Path(__file__).with_name("keypoint_statistics.json")
RIDGE = 0.01  # added to the covariance, (mean hip-joint distances)^2: what annotation conventions differ by
FAR_JOINT = 2.5  # standard deviations of the mean of a video from that of the training set
NARROW = 0.2  # mean hip-joint distances: a smaller standard deviation counts as this, again for the conventions' sake
SPREAD = 3.0  # times as widely a joint may scatter
# Gain in squared Mahalanobis distance from which on sides count as exchanged. Of single clips seen the right way round
# about 4 % (synthetic, CMU) come above the second, of those exchanged all over 50 to 75 %; none above the first, and
# all of those with arms or legs exchanged.
SWAPPED_PART, SWAPPED_ALL = 1.0, 0.5
MANY_DROPPED = 0.3  # share of a joint's frames
AXIS = 45.0  # degrees: a body is upright on average
_ARM, _LEG = ("shoulder", "elbow", "wrist"), ("hip", "knee", "foot")


# ------------------------------------------------------------ what was found


def describe(found: KeypointFile, source: Any, size: tuple[int, int] | None, fps: float, assumed: bool = False) -> str:
    """Frames, people, picture size and rate (`assumed`, if nothing says it), then a table of the joints."""
    frames, total = len(found.points), found.total
    span = f" (of {total}: {found.rows.start} to {found.rows.stop - 1}, while the person is there)"
    others = ", ".join(f"{i + 1}: {n} frames, {px:.0f} px" for i, (n, px) in enumerate(found.people[:6]))
    more = f", and {len(found.people) - 6} more" if len(found.people) > 6 else ""
    lines = [
        f"{source}: {frames} frame{'s' * (frames > 1)} in the layout {found.layout_found}{span * (frames < total)}",
        f"people: {len(found.people)} ({others}{more}); number {found.person} is followed",
        f"picture: {f'{size[0]} x {size[1]} pixels' if size else 'size unknown'}; {_rate(found, fps, assumed)}",
        f"{'joint':15s} {'found':>6s} {'interpolated':>13s} {'missing':>8s} {'confidence':>11s}  taken from",
    ]
    for j, joint in enumerate(H36M_17.joints):
        counts = [int((found.status[:, j] == kind).sum()) for kind in (FOUND, INTERPOLATED, GUESSED)]
        seen = found.confidence[found.status[:, j] == FOUND, j]
        confidence = f"{seen.mean():.2f}" if len(seen) else "-"
        note = found.made_of[j] or joint
        note += ", else its neighbours in the body" * (counts[2] > 0)
        lines.append(f"{joint:15s} {counts[0]:6d} {counts[1]:13d} {counts[2]:8d} {confidence:>11s}  {note}")
    return "\n".join(lines)


def _rate(found: KeypointFile, fps: float, assumed: bool) -> str:
    times = found.seconds(fps)
    text = f"{fps:.6g} frames per second{', which nothing says (--fps)' * assumed}"
    return text if is_even(times, fps) else f"{text}, unevenly, from {times[0]:.2f} to {times[-1]:.2f} s"


# ------------------------------------------------------------ statistics


def statistics(points: np.ndarray, width: np.ndarray, height: np.ndarray) -> dict[str, Any]:
    """The reference of a set of poses (N, 17, 2), pixels, in pictures of width and height (N,).

    Poses and their mirror images count alike, so that left and right are alike.
    """
    body = at_one_size(points)
    both = np.concatenate((body, body[:, H36M_17.mirror] * (-1, 1)))
    covariance = np.cov(both[:, 1:].reshape(len(both), -1).T)
    screen = points / width[:, None, None] * 2 - np.stack((np.ones_like(width), height / width), -1)[:, None]
    return {
        "joints": list(H36M_17.joints),
        "poses": len(points),
        "mean": both.mean(0).round(4).tolist(),
        "std": both.std(0).round(4).tolist(),
        "covariance": [row[: i + 1].round(4).tolist() for i, row in enumerate(covariance)],
        "percent": [1, 50, 99],
        "aspect": _percentiles(_aspect(points)),
        "height": _percentiles(np.ptp(screen[..., 1], -1)),
        "hip to head": _percentiles(_hip_to_head(points)),
        "hip x": _percentiles(screen[:, 0, 0]),
        "hip y": _percentiles(screen[:, 0, 1]),
    }


def at_one_size(points: np.ndarray) -> np.ndarray:
    """(N, 17, 2) -> hip at the origin, the other joints 1 from it on average."""
    points = points.astype(float) - points[:, :1]
    return points / np.linalg.norm(points[:, 1:], axis=-1).mean(-1).clip(1e-9)[:, None, None]


def _aspect(points: np.ndarray) -> np.ndarray:
    """Width over height of the box around each pose."""
    box = np.ptp(points, axis=1)
    return box[:, 0] / box[:, 1].clip(1e-9)


def _percentiles(values: np.ndarray) -> list[float]:
    return np.percentile(values, (1, 50, 99)).round(4).tolist()


@cache
def reference() -> dict[str, Any]:
    """The table, its lists as arrays, with `precision`, the inverse covariance of the 16 joints besides the hip."""
    table = json.loads(STATISTICS.read_text())
    count = len(table["covariance"])
    covariance = np.zeros((count, count))
    for i, row in enumerate(table["covariance"]):
        covariance[i, : i + 1] = covariance[: i + 1, i] = row
    arrays = {
        name: np.array(table[name]) for name in ("mean", "std", "aspect", "height", "hip to head", "hip x", "hip y")
    }
    return {**table, **arrays, "precision": np.linalg.inv(covariance + RIDGE * np.eye(count))}


# ------------------------------------------------------------ warnings


def warnings(found: KeypointFile, size: tuple[int, int] | None, sees: str) -> list[str]:
    """The ways in which these keypoints are unlike the training set's, a line each.

    size: of the picture, pixels. sees: what the lifter sees besides the pose: "place", where in the picture a person is
    and how large (PoseAug's lifters), "size" within the video (ITES), or "pose", nothing else.
    """
    points = found.points[:: max(1, len(found.points) // 2000)].astype(float)
    lines = [*_dropped(found), *_units(points, size)]
    if lines and "normalised" in lines[-1]:
        return lines  # nothing else can be told
    turned = list(_orientation(points))
    lines += turned
    if sees == "place" and size:
        lines += _place_and_size(points, size)
    if sees == "size":
        lines += _change_of_size(points)
    low, middle, high = reference()["aspect"]
    aspect = float(np.median(_aspect(points)))
    if not low <= aspect <= high:
        lines.append(
            f"bodies are {aspect:.2f} times as wide as high; in training {low:.2f} to {high:.2f}, mostly {middle:.2f}: "
            "is the picture stretched or turned, or the layout another?"
        )
    if not turned:
        lines += [*_sides(points), *_exchanges(found.points)]
    return [*lines, *_joints(points)]


def _dropped(found: KeypointFile) -> Iterable[str]:
    share = (found.status != FOUND).mean(0)
    bad = [f"{H36M_17.joints[j]} {100 * share[j]:.0f} %" for j in np.flatnonzero(share > MANY_DROPPED)]
    if bad:
        yield f"not seen in many frames: {', '.join(bad)}; a lower --thr takes joints of less confidence"


def _units(points: np.ndarray, size: tuple[int, int] | None) -> Iterable[str]:
    largest = float(np.abs(points).max())
    if largest <= 3:
        yield f"the largest coordinate is {largest:.2f}: these look normalised; expected pixels"
    elif size:
        low, high = np.percentile(points.reshape(-1, 2), (5, 95), axis=0)
        if (high > 1.05 * np.array(size)).any() or (low < -0.05 * np.array(size)).any():
            yield (
                f"joints lie at x {low[0]:.0f} to {high[0]:.0f}, y {low[1]:.0f} to {high[1]:.0f}, outside a picture of "
                f"{size[0]} x {size[1]} pixels: is --image-size that of the video that the keypoints are of?"
            )
        elif (points.reshape(-1, 2).max(0) < 0.4 * np.array(size)).all():
            yield (
                f"everything lies in the upper left corner, up to x {points[..., 0].max():.0f}, y "
                f"{points[..., 1].max():.0f}, of a picture of {size[0]} x {size[1]} pixels: is its size right?"
            )


def _orientation(points: np.ndarray) -> Iterable[str]:
    """A body's axis, from the feet to the thorax, is upright on average."""
    joint = {name: points[:, j] for j, name in enumerate(H36M_17.joints)}
    axis = (joint["thorax"] - (joint["left foot"] + joint["right foot"]) / 2).mean(0)
    angle = np.degrees(np.arctan2(axis[0], -axis[1]))
    if abs(angle) > 180 - AXIS:
        yield "the head is below the feet: upside down, y up instead of down, or joints in another layout"
    elif abs(angle) > AXIS:
        yield f"bodies lie, {abs(angle):.0f} degrees from upright on average: a turned video, or another layout?"


def _place_and_size(points: np.ndarray, size: tuple[int, int]) -> Iterable[str]:
    """Where PoseAug's lifters see the person, beside where they learned to."""
    width, height = size
    screen = points / width * 2 - (1, height / width)
    values = {
        "height": float(np.median(np.ptp(screen[..., 1], -1))),
        "hip x": float(np.median(screen[:, 0, 0])), "hip y": float(np.median(screen[:, 0, 1])),
    }  # fmt: skip
    texts = {"height": "the body's height", "hip x": "the hip's x", "hip y": "the hip's y"}
    for name, value in values.items():
        low, middle, high = reference()[name]
        if not low <= value <= high:
            yield (
                f"{texts[name]} is {value:.2f} on the screen (2 is the picture's width); in training {low:.2f} to "
                f"{high:.2f}, mostly {middle:.2f}: is --image-size right? A crop around the person may do better"
            )


def _change_of_size(points: np.ndarray) -> Iterable[str]:
    """ITES brings a whole video to one scale: somebody who comes near is a giant there."""
    low, _, high = reference()["hip to head"]
    small, large = np.percentile(_hip_to_head(points), (10, 90))
    if small < low or large > high:
        yield (
            f"from hip to head it is {small:.2f} to {large:.2f} of the video's mean; in training {low:.2f} to "
            f"{high:.2f}: cut the video where the person comes nearer or goes away"
        )


def _hip_to_head(points: np.ndarray) -> np.ndarray:
    """Distances (N,) over their mean."""
    length = np.linalg.norm(points[:, H36M_17.index("head")] - points[:, 0], axis=-1)
    return length / length.mean().clip(1e-9)


def _sides(points: np.ndarray) -> Iterable[str]:
    """Sides exchanged: with left and right the other way round the poses would be more like the training set's."""
    body, table = at_one_size(points), reference()

    def distance(poses: np.ndarray) -> float:
        away = (poses - table["mean"])[:, 1:].reshape(len(poses), -1)
        return float(np.einsum("ni,ij,nj->n", away, table["precision"], away).mean())

    now = distance(body)
    for name, parts in (("arms", _ARM), ("legs", _LEG)):
        if now - distance(body[:, exchanged(parts)]) > SWAPPED_PART:
            yield f"left and right of the {name} do not fit the rest of the body: are its joints in another order?"
            return
    if now - distance(body[:, H36M_17.mirror]) > SWAPPED_ALL:
        yield (
            "with left and right exchanged the poses would be more like the training set's: are the sides, or the "
            "picture, mirrored?"
        )


def exchanged(parts: tuple[str, ...]) -> list[int]:
    """The permutation of the 17 joints that exchanges left and right of these parts."""
    order = list(range(H36M_17.num_joints))
    for left, right in zip(H36M_17.left, H36M_17.right, strict=True):
        if H36M_17.joints[left].removeprefix("left ") in parts:
            order[left], order[right] = right, left
    return order


def _exchanges(points: np.ndarray) -> Iterable[str]:
    """Frames from which on left and right have changed places."""
    body = at_one_size(points)
    before, now = body[:-1], body[1:]
    stays = np.linalg.norm(now - before, axis=-1).mean(-1)
    changes = np.linalg.norm(now[:, H36M_17.mirror] - before, axis=-1).mean(-1)
    frames = np.flatnonzero((stays > 0.15) & (changes < 0.5 * stays)) + 1
    if len(frames):
        some = ", ".join(map(str, frames[:5])) + (", ..." if len(frames) > 5 else "")
        yield f"left and right change places from one frame to the next {len(frames)} times (frames {some})"


def _joints(points: np.ndarray) -> Iterable[str]:
    """Joints that are elsewhere, or scatter more, than in training."""
    body, table = at_one_size(points), reference()
    away = np.linalg.norm((body.mean(0) - table["mean"])[1:] / np.maximum(table["std"][1:], NARROW), axis=-1)
    far = [f"{H36M_17.joints[j + 1]} ({away[j]:.1f})" for j in np.flatnonzero(away > FAR_JOINT)]
    if far:
        yield (
            f"far from where they are in training, in its standard deviations: {', '.join(far)}: is the layout right "
            "(--layout)?"
        )
    spread = np.linalg.norm(body.std(0), axis=-1)[1:] / np.linalg.norm(np.maximum(table["std"], NARROW), axis=-1)[1:]
    wild = [f"{H36M_17.joints[j + 1]} ({spread[j]:.1f} times)" for j in np.flatnonzero(spread > SPREAD)]
    if wild:
        yield f"scattered more widely than in training: {', '.join(wild)}: noise, or several people mixed up"
