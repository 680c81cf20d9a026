"""Training poses as lifters are to see them: by the data set's cameras or by random ones, with bodies, joints and
detectors' errors as various as the options say. Everything is drawn on the device, in every step, from the run's
generator.
"""

import argparse
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from common.augmentation import detector_noise, detectors_joints, vary_bones, vary_pose
from common.lifter_input import SEES, LifterInput, facing, make_input
from common.pose_set import PoseSet, ray_slopes, screen_keypoints, turns_of, windows
from common.run.options import number
from common.run.run import Run, derived_seed
from common.skeleton import H36M_16, mirror
from common.virtual_cameras import CameraRanges, Views, draw, look

FOCAL_GUESS = 1.25  # a video's focal length is guessed: the slopes that a lifter is trained on are off by up to this
MIRRORED = torch.tensor((-1.0, 1.0))
HEAD = H36M_16.index("head")
ARM = 1.2  # metres: how far from the hip a hand may be
SEEN_AT_ONCE = 1 << 16

Look = Callable[..., Views]
Seen = tuple[Tensor, Tensor, Tensor | None, Tensor | None]  # keypoints, root-relative poses, slopes, confidences


def interval(text: str) -> str:
    """An option type: LOW,HIGH, two numbers, the first not above the second; the text, as `bounds` reads it."""
    parts = text.split(",")
    try:
        low, high = map(float, parts)
    except ValueError:
        low, high = 1.0, 0.0
    if not -math.inf < low <= high < math.inf:
        raise argparse.ArgumentTypeError(f"expected LOW,HIGH, two numbers with the first not above, found {text!r}")
    return text


def bounds(text: str) -> tuple[float, float]:
    """What `interval` let through, as numbers."""
    low, high = map(float, text.split(","))
    return low, high


def _range(name: str, text: str) -> tuple:
    low, high = CameraRanges._field_defaults[name]
    return (f"--camera_{name}", interval, f"{low:g},{high:g}", f"virtual: {text}", "LOW,HIGH")


INPUT = (
    ("--sees", SEES, "place",
     "the lifter's 2D input: place, as published, where in the picture and how large; pose, the pose alone, which "
     "is the same in any picture; direction, the pose and the ray to the hip"),
    ("--confidences", bool, False, "the lifter also sees each joint's confidence"),
)  # fmt: skip
CAMERAS = (
    ("--cameras", ("rig", "virtual"), "rig",
     "rig: the data set's cameras; virtual: in every step each pose is seen by a camera of its own, drawn at random"),
    _range("azimuth", "degrees around the person"),
    _range("pitch", "degrees by which it looks down; as --camera_pitch=-8,37"),
    _range("roll", "degrees"),
    _range("distance", "metres to the hip"),
    _range("focal", "focal length over the picture's width"),
    _range("aspect", "height of the picture over its width"),
    _range("place", "the hip from the middle of the picture, as a share of the half picture"),
)  # fmt: skip
BONES = (("--vary_bones", number(float, 0, 0.9), 0.0, "virtual: largest relative change of a bone's length"),)
VIEWS = (
    *CAMERAS,
    ("--detector_noise", number(float, 0), 0.0,
     "errors of the training keypoints as detectors make them (jitter, outliers, exchanged sides, missing joints); "
     "1: as BlazePose does"),
    ("--detectors_joints", bool, False,
     "virtual: three of four people have hips, shoulders and head where detectors put them"),
    ("--vary_rate", number(int, 1), 1,
     "over time: every frame, or every second, ... up to every N-th, drawn for each window, as videos of other rates"),
    *BONES,
    ("--vary_pose", number(float, 0, 180), 0.0,
     "virtual: degrees by which body, spine, arms and legs are turned at most, each in every other pose"),
)  # fmt: skip


def form_of(args: Any) -> LifterInput:
    """What the options `INPUT` say; as published in a script without them."""
    return LifterInput(getattr(args, "sees", "place"), getattr(args, "confidences", False))


def ranges_of(args: Any) -> CameraRanges:
    """What the options of the virtual cameras say."""
    texts = args.camera_azimuth, args.camera_pitch, args.camera_roll, args.camera_distance, args.camera_focal
    return CameraRanges(*map(bounds, (*texts, args.camera_aspect, args.camera_place)))


def check_views(parser: Any, args: Any) -> None:
    """Refuse options of virtual cameras where there are none, and cameras that there cannot be. A script may lack those
    of `VIEWS` that are not in `CAMERAS`.
    """
    if args.cameras == "virtual":
        for name in ("distance", "focal", "aspect"):
            if bounds(getattr(args, f"camera_{name}"))[0] <= 0:
                parser.error(f"--camera_{name} {getattr(args, f'camera_{name}')}: expected numbers above 0")
        if bounds(args.camera_distance)[0] < ARM:
            parser.error(
                f"--camera_distance {args.camera_distance}: expected {ARM} metres or more; nearer, an arm may reach "
                "behind the camera"
            )
        return
    given = [f"camera_{name}" for name in CameraRanges._fields] + ["detectors_joints", "vary_bones", "vary_pose"]
    changed = [f"--{name}" for name in given if getattr(args, name, None) != parser.get_default(name)]
    if changed:
        parser.error(f"{', '.join(changed)}: only with --cameras virtual")


def seen_by(args: Any) -> str:
    """What training poses are seen by, for the console."""
    return f"2D input {args.keypoints}" if args.cameras == "rig" else f"virtual cameras (tests: {args.keypoints})"


def virtual_views(ranges: CameraRanges, motion: PoseSet, run: Run, bones: float = 0.0) -> Look:
    """How virtual cameras see motion in the world (`load_motion`), of any joints.

    Args:
        bones: as `vary_bones`.

    Returns:
        A function: rows of the global batch (B,), or of frames that one camera is to see (B, F), and the generator to
        draw from, the run's if none is given -> `Views` of the whole batch, alike in all processes.
    """

    def see(rows: Tensor, generator: torch.Generator = run.generator) -> Views:
        poses = motion.poses[rows]
        if bones:
            poses = vary_bones(poses, bones, generator, motion.skeleton)
        return look(poses, draw(len(rows), generator, run.device), ranges, motion.skeleton.root)

    return see


def first_look(see: Look, rows: Tensor, run: Run) -> Views:
    """`Views` of some rows (N, ...), say of all, by draws of their own: what statistics of a set are taken of, the same
    whenever a run begins or goes on.
    """
    generator = torch.Generator(run.device).manual_seed(derived_seed(run.seed, "first look"))
    parts = [see(some, generator) for some in rows.split(SEEN_AT_ONCE)]
    return Views(*map(torch.cat, zip(*parts, strict=True)))


def training_views(
    args: Any, train: PoseSet, run: Run, frames: int = 1, causal: bool = False, flip: bool = False
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """How a step sees its poses.

    Args:
        train: by the data set's cameras, or, for virtual ones, motion in the world (`load_motion`).
        frames: F of the windows around (causal: up to) each frame; 1: single frames.
        flip: mirror every other pose at random.

    Returns:
        A function: rows of the global batch (B,) -> this process's 2D input (b, J, features), or (b, F, J, features),
        and root-relative poses (b, J, 3), metres, camera axes; for lifters that see the pose alone in axes of which the
        third is the ray to the hip, as they cannot know the camera's.
    """
    form, signs, generator = form_of(args), MIRRORED.to(run.device), run.generator
    first, last = train.first, train.last
    here = 0 if frames == 1 else frames - 1 if causal else frames // 2
    virtual = args.cameras == "virtual"
    look = _by_virtual_cameras(args, train, run, frames, here) if virtual else _by_rig(train, form)

    def see(index: Tensor) -> tuple[Tensor, Tensor]:
        rows = index
        if frames > 1:
            shape = {"size": (len(index),), "device": run.device, "generator": generator}
            strides = torch.randint(1, args.vary_rate + 1, **shape) if args.vary_rate > 1 else None
            rows = windows(index, first[index], last[index], frames, causal, strides)
        points, target, rays, sure = look(index, rows)
        if flip:
            flipped = torch.rand(len(index), device=run.device, generator=generator) < 0.5
            points = torch.where(flipped.view(-1, *[1] * (points.dim() - 1)), mirror(points, H36M_16), points)
            target = torch.where(flipped.view(-1, 1, 1), mirror(target, H36M_16), target)
            if rays is not None:
                rays = torch.where(flipped.view(-1, *[1] * (rays.dim() - 1)), rays * signs, rays)
        if args.detector_noise:
            points, sure = detector_noise(points, args.detector_noise, generator)
        return run.shard(make_input(form, points, rays, sure)), run.shard(target)

    return see


def _by_rig(train: PoseSet, form: LifterInput) -> Callable[[Tensor, Tensor], Seen]:
    """How the data set's own cameras see frames (B,) and the windows around them, (B, F) or (B,)."""
    keypoints, poses, confidence = screen_keypoints(train), train.targets(), train.confidence
    slopes = ray_slopes(train) if form.sees == "direction" else None
    if form.sees == "pose":
        poses = train.relative @ turns_of(train)

    def look(index: Tensor, rows: Tensor) -> Seen:
        target = poses[index]
        target = target - target[:, :1]  # in every step: a whole set's is 300 MB
        rays, sure = (None if part is None else part[rows] for part in (slopes, confidence))
        return keypoints[rows], target, rays, sure

    return look


def _by_virtual_cameras(
    args: Any, train: PoseSet, run: Run, frames: int, here: int
) -> Callable[[Tensor, Tensor], Seen]:
    """As `_by_rig`, by cameras drawn at random, of bodies, poses and joints as various as the options say; here: which
    of the F frames of a window is lifted.
    """
    form, ranges, generator = form_of(args), ranges_of(args), run.generator

    def look_anew(_: Tensor, rows: Tensor) -> Seen:
        poses = train.poses[rows]
        if args.vary_bones:
            poses = vary_bones(poses, args.vary_bones, generator)
        if args.vary_pose:
            poses = vary_pose(poses, args.vary_pose, generator)
        shown = detectors_joints(poses, generator) if args.detectors_joints else poses
        views = look(shown, draw(len(rows), generator, run.device), ranges)
        target, body, seen_body = (part if frames == 1 else part[:, here] for part in (views.poses, poses, shown))
        target = target - target[:, :1]
        if args.detectors_joints:  # the head is where it is, wherever a face would have it
            head = torch.einsum("bij,bj->bi", views.rotation, body[:, HEAD] - seen_body[:, 0])
            target = torch.cat((target[:, :HEAD], head[:, None], target[:, HEAD + 1 :]), 1)
        rays = views.poses[..., 0, :2] / views.poses[..., 0, 2:]
        if form.sees == "pose":
            target = target @ facing(rays if frames == 1 else rays[:, here])
        if form.sees == "direction":
            guess = torch.rand(len(rows), *(1,) * (rays.dim() - 1), device=run.device, generator=generator) * 2 - 1
            rays = rays * FOCAL_GUESS**guess
        return views.keypoints, target, rays, None

    return look_anew
