"""Checks of what the numbers of a data set say: poses in another unit or turned on their side, pixels that are none,
frames that show nobody.
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy import ndarray as Array
from torch import Tensor

from common.camera import camera_to_world, project, world_to_camera
from common.datasets.cameras import METRES, MOST_PIXELS
from common.errors import InputError
from common.pose_set import PoseSet
from common.skeleton import Skeleton, convert

# The farthest joint from the hip, median over poses: 1.0 m of a standing adult, 0.4 m of a baby.
PEOPLE = (0.15, 2.0)  # metres: feet and inches are out
UPRIGHT, LYING = 0.75, 0.35  # component of the mean direction from feet to head: that of the up axis, and of no such
NORMALISED = 3.0  # the largest coordinate of keypoints in screen or picture units
APART = 0.5  # median distance of keypoints from projected poses, over the people's size in the picture
FITS_BETTER = 0.5  # a guess of what is wrong explains it if the distance falls below this share
SAMPLES = 4  # poses of a sequence that are looked at


def sample(points: Array, layout: Skeleton, skeleton: Skeleton) -> Array:
    """A few frames of (T, J, D), evenly spread, in another layout, those with NaN or infinity left out."""
    with np.errstate(over="ignore", invalid="ignore"):
        points = convert(points[:: max(1, len(points) // SAMPLES)], layout, skeleton)
    return points[np.isfinite(points).all((1, 2))]


def check_size(poses: Iterable[Array], skeleton: Skeleton, unit: str, where: str) -> None:
    """Refuse poses, arrays (T, J, 3) in `unit`, of people who would be giants or dwarfs in it."""
    with np.errstate(over="ignore"):  # infinite ones are giants
        sizes = [np.linalg.norm(pose - pose[:, [skeleton.root]], axis=-1).max(1) for pose in poses]
    sizes = np.concatenate([size[size > 0] for size in sizes] or [np.empty(0)])
    if not len(sizes):
        return
    size = float(np.median(sizes))
    if PEOPLE[0] <= size * METRES[unit] <= PEOPLE[1]:
        return
    fitting = [name for name in METRES if 0.25 <= size * METRES[name] <= 2.5]
    names = {"m": "metres", "cm": "centimetres", "mm": "millimetres"}
    looks = f", which looks like {names[fitting[0]]}" if fitting else ""
    or_name = f", or name the file's unit: metadata {{'unit': '{fitting[0]}'}}" if fitting else ""
    found = f"the joints are up to {size:,.3g} {names[unit]} from the hip{looks}"
    raise InputError(f"{where}: {found}; give the poses in metres{or_name}")


def up_axis(poses: Iterable[Array], skeleton: Skeleton) -> str:
    """The axis that people, arrays (T, J, 3), stand along, of `cameras.UP`; "z" unless another one is plain to see."""
    if not {"head", "left foot", "right foot"} <= set(skeleton.joints):
        return "z"
    head, left, right = (skeleton.index(joint) for joint in ("head", "left foot", "right foot"))
    ways = [pose[:, head] - (pose[:, left] + pose[:, right]) / 2 for pose in poses]
    ways = np.concatenate(ways or [np.empty((0, 3))])
    lengths = np.linalg.norm(ways, axis=-1)
    if not (lengths > 0).any():
        return "z"
    mean = (ways[lengths > 0] / lengths[lengths > 0, None]).mean(0)
    axis = int(np.abs(mean).argmax())
    if np.abs(mean[axis]) < UPRIGHT or mean[2] > LYING:
        return "z"
    return ("-" if mean[axis] < 0 else "") + "xyz"[axis]


def check_pixels(keypoints: Tensor, where: str) -> None:
    """Refuse keypoints (T, J, 2) that are normalised, or larger than any picture: no pixels."""
    if not len(keypoints):
        return
    few = keypoints[:: max(1, len(keypoints) // SAMPLES)].abs()
    if few.median() > MOST_PIXELS:
        raise InputError(
            f"{where}: coordinates are {few.median():.3g} (median); expected pixels of the camera's picture"
        )
    largest = few.max().item()
    if largest <= NORMALISED:
        raise InputError(
            f"{where}: the largest coordinate is {largest:.2f}: these look normalised; expected pixels of the "
            "camera's picture"
        )


def far_apart(pose_set: PoseSet) -> str:
    """What is odd where keypoints do not lie where the cameras see the poses; "" where they do. Of a few frames."""
    rows = _few_rows(pose_set)
    cameras = pose_set.intrinsics()[pose_set.sequence[rows].long()].unsqueeze(1)
    keypoints = pose_set.keypoints[rows]
    away = (project(pose_set.poses[rows], cameras) - keypoints).norm(dim=-1).mean(1).median().item()
    size = (keypoints.amax(1) - keypoints.amin(1)).amax(-1).median().item()
    if away <= APART * size:
        return ""
    return (
        f"keypoints lie {away:,.0f} pixels (median) from where the cameras see the poses, of people {size:,.0f} pixels "
        "large: are the views in the cameras' order, rotations from world to camera, and all in one unit and frame?"
    )


def _few_rows(pose_set: PoseSet) -> Tensor:
    """A few rows of every sequence, evenly spread."""
    return torch.cat(
        [seq.start + torch.arange(0, seq.length, max(1, seq.length // SAMPLES)) for seq in pose_set.sequences]
    )


def misfit(pose_set: PoseSet) -> list[str]:
    """What would bring the keypoints much nearer to where the cameras see the poses: changes of the keypoints, or
    another camera of the same take. Of a few frames.
    """
    rows = _few_rows(pose_set)
    cameras, index = pose_set.cameras, pose_set.sequence[rows].long()
    poses, keypoints, skeleton = pose_set.poses[rows], pose_set.keypoints[rows], pose_set.skeleton
    seen = project(poses, pose_set.intrinsics()[index].unsqueeze(1), clamped=False)
    sizes = torch.tensor([(camera.width, camera.height) for camera in cameras])[index].unsqueeze(1)
    over = torch.tensor((1.0, -1.0))

    def away(points: Tensor, others: Tensor) -> float:
        return (points - others).norm(dim=-1).mean(1).median().item()

    now = away(keypoints, seen)
    guesses = {
        "left and right joints were exchanged": keypoints[:, list(skeleton.mirror)],
        "pictures were turned upside down (y points up)": sizes * torch.tensor((0, 1)) + keypoints * over,
        "pictures were mirrored": sizes * torch.tensor((1, 0)) - keypoints * over,
        "pictures were mirrored, and left and right exchanged": (
            sizes * torch.tensor((1, 0)) - keypoints * over
        )[:, list(skeleton.mirror)],
        "x and y were exchanged": keypoints.flip(-1),
    }  # fmt: skip
    found = {guess: away(points, seen) for guess, points in guesses.items()}
    odd = [(error, guess) for guess, error in found.items() if error < FITS_BETTER * now]
    text = [
        f"keypoints would lie {error:,.1f} pixels from the poses, not {now:,.1f}, if {guess}" for error, guess in odd
    ]
    return [min(zip(odd, text, strict=True))[1]] if odd else _exchanged_views(pose_set)


def _exchanged_views(pose_set: PoseSet) -> list[str]:
    """Views whose keypoints are what another camera of the same take sees, of the first take that has several."""
    takes: dict[tuple, dict[int, int]] = {}
    for i, seq in enumerate(pose_set.sequences):
        takes.setdefault(seq[:2], {}).setdefault(seq.view, i)
    views = next((views for views in takes.values() if len(views) > 1), {})
    cameras, odd = {view: pose_set.sequences[i].camera for view, i in views.items()}, []
    for view, i in views.items():
        seq = pose_set.sequences[i]
        rows = slice(seq.start, seq.start + seq.length, max(1, seq.length // SAMPLES))
        own = seq.camera
        world = camera_to_world(pose_set.poses[rows], torch.tensor(own.orientation), torch.tensor(own.translation))
        errors = {}
        for other, camera in cameras.items():
            poses = world_to_camera(world, torch.tensor(camera.orientation), torch.tensor(camera.translation))
            seen = project(poses, camera.intrinsics(), clamped=False)
            errors[other] = (seen - pose_set.keypoints[rows]).norm(dim=-1).mean(1).median().item()
        best = min(errors, key=errors.get)
        if errors[best] < FITS_BETTER * errors[view]:
            odd.append(f"view {view} shows what camera {best} sees")
    return [f"views and cameras are in another order: {', '.join(odd)}"] if odd else []


def sides_exchanged(world: Tensor, skeleton: Skeleton) -> float:
    """How surely left and right are exchanged in poses (N, J, 3), from -1 (they are right) to 1: knees bend forward,
    and seen from above the left is counter-clockwise from there.
    """
    if not {f"{side} {joint}" for side in ("left", "right") for joint in ("hip", "knee", "foot")} <= set(
        skeleton.joints
    ):
        return 0.0
    hips, knees, feet = (
        world[:, [skeleton.index(f"left {joint}"), skeleton.index(f"right {joint}")]]
        for joint in ("hip", "knee", "foot")
    )
    forward = (2 * knees - hips - feet).sum(1)
    left = hips[:, 0] - hips[:, 1]
    up = (hips - knees).sum(1)
    sure = (torch.linalg.cross(up, forward) * left).sum(-1)
    return -(sure.sum() / sure.abs().sum().clamp_min(1e-12)).item()


# ------------------------------------------------------------ frames without a person


def lost_frames(points: Array, confidence: Array | None = None) -> tuple[Array, Array] | None:
    """Frames (T,) of points (T, J, D) that show nobody, and those that lack some of the joints; None: there are none.

    Nobody: every joint is missing, or all lie in one place. A joint is missing where its confidence (T, J) is 0; of
    keypoints also where it lies at (0, 0), as detectors mark it. A joint that is NaN without such a mark is no missing
    joint but a damaged one, unless all are.
    """
    keypoints = points.shape[-1] == 2
    lowest = points.min() if points.size else np.inf  # one quick pass; NaN wherever there is one
    marked = np.zeros(points.shape[:2], bool)
    if keypoints and not lowest > 0:
        marked = (points[..., 0] == 0) & (points[..., 1] == 0)
    if confidence is not None:
        marked |= ~(np.abs(confidence) > 0)
    flat = points[:, 0, 0] == points[:, -1, 0]
    if not (np.isnan(lowest) or marked.any() or flat.any()):
        return None
    nobody = (np.isnan(points).any(-1) | marked).all(1) | (points == points[:, :1]).all((1, 2))
    lacking = marked.any(1) & ~nobody
    return (nobody, lacking) if nobody.any() or lacking.any() else None
