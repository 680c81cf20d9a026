"""Lifted videos: their 2D keypoints read and reported on, their poses stood upright and written, for `demo.py`."""

import argparse
import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.draw import animation, page, turntable
from common.errors import InputError
from common.lifter_input import facing_hip
from common.run.options import number
from common.run.run import Run
from common.skeleton import H36M_17
from common.video import gltf, motion, report, rig, tables, upright
from common.video.follow import FOLLOWING
from common.video.formats import read_raw
from common.video.frames import Pictures
from common.video.numbering import common_rate, is_even, on_pictures, placed_on_pictures, shown_at
from common.video.raw import RawKeypoints
from common.video.read import FPS, KeypointFile, image_size, read_keypoints
from common.video.write import save_poses
from methods import lifters

log = logging.getLogger(__name__)

_LIMBS = [*H36M_17.left, *H36M_17.right]

# What reading a video's keypoints and writing its poses can be told.
OPTIONS = (
    *FOLLOWING,
    ("--image-size", image_size, None, "of the video, pixels; default: as the keypoints' file or --input says", "WxH"),
    ("--camera-pitch", number(float, -90, 90), None,
     "how far the camera looks down; default: found from feet and bodies", "DEGREES"),
    ("--focal", number(float, 0.1), 0.9,
     "focal length, for the way through the room: up to 20 in shares of the picture's longer side, above it in pixels"),
    ("--height", number(float, 0.3), None,
     "of the person; default: the lifter's metres, or bones of usual length (above 3, the published pixels: no effect)",
     "METRES"),
    ("--filter", number(float, 0, 20), 1.0,
     "strength against jitter, of joints and of the way; feet that stand are held. 0: raw poses, in one place"),
    ("--detectors-3d", number(float, 0, 1), 0.5,
     "share of the detector's own 3D, where it has such (blazepose), in the mean with the lifter's", "X"),
    ("--constant-bones", bool, None, "give every bone its median length of the clip"),
    ("--bones", tuple(rig.BONES), "cmu", "whose names the joints have in BVH and glTF"),
    ("--causal", bool, None, "videopose was trained with --causal"),
    ("--vis-frames", number(int, 1), 300, "length of the film, in pictures", "N"),
    page.VIS_HTML,
)  # fmt: skip


def read(
    args: argparse.Namespace, images: Pictures | None, saved: lifters.SavedLifter, raw: RawKeypoints | None = None
) -> tuple[KeypointFile, tuple[int, int] | None, float, str]:
    """The keypoints (`raw`, or those of --keypoints), the picture's size, frames per second, and what was found in
    words; warns of what is odd.
    """
    source = args.keypoints if raw is None else args.input
    raw = read_raw(source) if raw is None else raw
    raw = timed(raw, images, args)
    found = read_keypoints(source, args.layout, args.thr, args.person, args.max_gap, args.smooth, raw=raw)
    size = picture_size(found, images, args)
    said = rate(found)
    fps = said or FPS
    for line in report.warnings(found, size, lifters.sees(saved)):
        log.warning("%s: %s", source, line)
    return found, size, fps, report.describe(found, source, size, fps, not said and len(found.points) > 1)


def timed(raw: RawKeypoints, images: Pictures | None, args: argparse.Namespace) -> RawKeypoints:
    """Keypoints with a frame for each picture; the times and the rate that --fps, their file or the pictures say."""
    if images is not None:
        raw = on_images(raw, images, args)
    if args.fps:
        return raw._replace(times=None, fps=args.fps)
    return raw if raw.fps or images is None or len(images) == 1 else raw._replace(fps=images.fps)


def rate(found: KeypointFile) -> float | None:
    """Frames per second: as said, or the most common rate of frames that come unevenly; None: nothing says it."""
    if found.times is not None and not (found.fps and is_even(found.times, found.fps)):
        return common_rate(found.times)
    return found.fps


def on_images(raw: RawKeypoints, images: Pictures, args: argparse.Namespace) -> RawKeypoints:
    """A frame of keypoints for each picture, at its time: where there are more pictures, the names say which.

    Raises:
        InputError: another number, and no names or numbers of frames that say which.
    """
    count, frames = len(images), len(raw.frames)
    if count > frames > 0 and count > 1:
        names = [file.name for file, _ in images.places] if args.input.is_dir() else None
        rows = on_pictures(raw.frames, names, count)
        if rows is not None:
            log.warning("%s has keypoints of %d of the %d pictures of %s, as the names say", args.keypoints, frames,
                        count, args.input)  # fmt: skip
            raw, frames = placed_on_pictures(raw, rows, count), count
    if count not in (1, frames):
        raise InputError(f"{args.input} has {count} pictures, {args.keypoints} {frames} frames; expected as many")
    return raw._replace(times=images.times) if count > 1 and raw.times is None else raw


def lift(
    saved: lifters.SavedLifter,
    file: Path,
    found: KeypointFile,
    size: tuple[int, int] | None,
    run: Run,
    focal: float | None = None,
    share: float = 0.0,
) -> np.ndarray:
    """Poses (T, 17, 3), camera axes, the hip at the origin, in the lifter's unit.

    Args:
        saved, file: the lifter, and the checkpoint that it is of.
        size: width and height of the picture, pixels.
        focal: pixels, or shares of the longer side (`motion.focal_pixels`); None: a guess.
        share: of the detector's own 3D in the mean with the lifter's (`averaged`), where it has such.
    """
    focal = motion.focal_pixels(focal, size) if focal and size else None
    network = lifters.network_of(saved, file).to(run.device)
    points = torch.from_numpy(found.points)
    lifters.check_size(points, file.name)
    with run.autocast():
        pose = lifters.lift(saved, network, points, size, torch.from_numpy(found.confidence), focal).cpu().numpy()
    if found.own is None or not share:
        return pose
    turns = facing_hip(points[:, H36M_17.root], size, focal).numpy() if size else np.eye(3)
    return averaged(pose, found.own @ np.swapaxes(turns, -1, -2), share)


def averaged(pose: np.ndarray, own: np.ndarray, share: float) -> np.ndarray:
    """The mean of a lifter's poses and of a detector's own, (T, 17, 3) each, camera axes: `share` of the latter, made
    as large as the former. Spine, neck and head, which detectors guess, go with the thorax; frames without own 3D stay.
    """
    own = own - own[:, :1]
    size, own_size = (np.linalg.norm(x[:, _LIMBS], axis=-1).mean(-1)[:, None, None] for x in (pose, own))
    moved = share * (own * (size / own_size) - pose)
    for joint, part in (("spine", 0.5), ("neck", 1), ("head", 1)):
        moved[:, H36M_17.index(joint)] = part * moved[:, H36M_17.index("thorax")]
    return pose + np.nan_to_num(moved).astype(pose.dtype)


def write(
    folder: Path,
    found: KeypointFile,
    camera: np.ndarray,
    method: str,
    fps: float,
    args: argparse.Namespace,
    images: Pictures | None = None,
    film: bool = True,
) -> tuple[list[Path], str]:
    """Poses as npz, JSON, BVH, CSV, TRC and glTF, and a film of them, a GIF if `film`, and an MP4; -> the files, and
    camera, scale and the way in words.
    """
    scale = scale_of(camera, method, args.height)
    world, pitch, way = in_the_world(scale * camera, found, fps, args, picture_size(found, images, args))
    files = save_poses(
        folder, found, camera, world, fps, args.bones, method=method, checkpoint=str(args.ckpt),
        camera_pitch=round(pitch, 3), metres_per_unit=scale,
    )  # fmt: skip
    files += save_for_programs(folder, found, world, fps, args.bones)
    how = "found from feet and bodies" if args.camera_pitch is None else "as given"
    rows = shown_rows(found, fps)
    shown = rows[: args.vis_frames]
    files += draw_film(folder, found.points[shown], world[shown], method, fps, chosen(images, shown), film)
    if args.vis_html:
        shown = rows[: page.LONGEST]
        files.append(write_page(args.vis_html, found.points[shown], world[shown], method, fps, chosen(images, shown)))
    return files, f"camera {pitch:.1f} degrees down ({how}); one unit of {method} is {scale:.3g} m; {way}"


def scale_of(camera: np.ndarray, method: str, height: float | None) -> float:
    """Metres in one unit of the lifter."""
    if height and height <= 3:
        return upright.height_scale(camera, height)
    return 1.0 if method in lifters.POSEAUG else upright.human_scale(camera)


def picture_size(found: KeypointFile, images: Pictures | None, args: argparse.Namespace) -> tuple[int, int] | None:
    """Width and height, pixels: as an option, the keypoints' file or the pictures say."""
    return args.image_size or found.size or (images[0].size if images is not None else None)


def in_the_world(
    poses: np.ndarray, found: KeypointFile, fps: float, args: argparse.Namespace, size: tuple[int, int] | None
) -> tuple[np.ndarray, float, str]:
    """Poses (T, 17, 3), metres, camera axes -> world axes, on the floor; the camera's pitch; the way in words."""
    if args.filter and size and len(poses) > 2:
        focal = motion.focal_pixels(args.focal, size)
        try:
            (world, contact), pitch = motion.moving(
                poses, found.points, fps, focal, size, found.confidence, args.filter, args.camera_pitch,
                same_bones=bool(args.constant_bones),
            )  # fmt: skip
            way = f"way by a focal length of {focal:.0f} pixels; a foot stands in {contact.any(1).mean():.0%} of frames"
            return world, pitch, way
        except InputError as error:
            log.warning("%s; the person stays in one place", error)
    poses = motion.without_jitter(poses, fps, args.filter)
    poses = motion.constant_bones(poses) if args.constant_bones else poses
    pitch = upright.estimate_pitch(poses) if args.camera_pitch is None else args.camera_pitch
    why = "raw poses" if not args.filter else "too few frames" if len(poses) < 3 else "no way found"
    way = f"in one place ({why if size or not args.filter else 'the size of the picture is not known'})"
    return upright.on_floor(upright.to_world(poses, pitch)), pitch, way


def save_for_programs(folder: Path, found: KeypointFile, world: np.ndarray, fps: float, bones: str) -> list[Path]:
    """poses.csv, poses.trc (OpenSim) and poses.glb (any viewer of glTF)."""
    times = found.seconds(fps)
    files = [folder / f"poses.{kind}" for kind in ("csv", "trc", "glb")]
    tables.write_csv(files[0], world, found.frames, times)
    tables.write_trc(files[1], world, fps, times)
    gltf.write_glb(files[2], world, times, bones)
    return files


def shown_rows(found: KeypointFile, fps: float) -> np.ndarray:
    """The frame in each picture of a film: all of them, but where they come unevenly the nearest at every 1 / fps."""
    times = found.seconds(fps)
    return np.arange(len(times)) if is_even(times, fps) else shown_at(times, fps)


def chosen(images: Pictures | None, rows: np.ndarray) -> Sequence | None:
    """The pictures of those frames; a single one stands for all and stays."""
    if images is None or len(images) == 1:
        return images
    get = lru_cache(maxsize=1)(images.__getitem__)  # one that is shown several times is read once
    return page.Lazy(len(rows), lambda i: get(int(rows[i])))


def write_page(path: Path, points: np.ndarray, world: np.ndarray, method: str, fps: float, images: Any) -> Path:
    """The page for the browser."""
    return page.write_page(
        path, {method: world}, H36M_17, keypoints=points, fps=fps, place="floor", image=images,
        title=f"{method}: {len(world):,} frames", about="lifted from 2D keypoints; no truth to compare with",
    )  # fmt: skip


def draw_film(
    folder: Path, points: np.ndarray, world: np.ndarray, method: str, fps: float, images: Any, gif: bool
) -> list[Path]:
    """film.gif, if asked for, and film.mp4, where there is PyAV or ffmpeg; of a single pose turning.gif."""
    here = world - world[:, :1] * (1, 1, 0)
    level = np.stack((here[..., 0], -here[..., 2], here[..., 1]), -1)  # axes of a camera that looks straight ahead
    files = []
    if gif and len(level) == 1:
        files.append(turntable.save_turning_gif(folder / "turning.gif", level[0]))
    elif gif:
        files.append(turntable.save_film(folder / "film.gif", points, level, images, fps=fps))
    if len(level) > 1 and not animation.writes_mp4():
        log.warning("no film.mp4: neither PyAV (pip install av) nor ffmpeg on the PATH")
    elif len(level) > 1:
        panels, titles = [points, world], ["2D", method]
        files.append(animation.save_animation(folder / "film.mp4", panels, titles, H36M_17, fps=fps, place="floor"))
    return files
