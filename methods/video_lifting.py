"""Lifted videos: their 2D keypoints read and reported on, their poses stood upright and written, for `demo.py`."""

import argparse
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.draw import animation, page, turntable
from common.errors import InputError
from common.run.options import number
from common.run.run import Run
from common.skeleton import H36M_17
from common.video import report, upright
from common.video.follow import FOLLOWING
from common.video.frames import Pictures
from common.video.raw import RawKeypoints
from common.video.read import FPS, KeypointFile, image_size, read_keypoints
from common.video.write import save_poses
from methods import lifters

log = logging.getLogger(__name__)

# What reading a video's keypoints and writing its poses can be told.
OPTIONS = (
    *FOLLOWING,
    ("--image-size", image_size, None, "of the video, pixels; default: as the keypoints' file or --input says", "WxH"),
    ("--camera-pitch", number(float, -90, 90), None,
     "how far the camera looks down; default: found from feet and bodies", "DEGREES"),
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
    found = read_keypoints(source, args.layout, args.thr, args.person, args.max_gap, args.smooth, raw=raw)
    if images is not None:
        if len(images) not in (1, found.total):
            raise InputError(
                f"{args.input} has {len(images)} pictures, {args.keypoints} {found.total} frames; expected as many"
            )
    size = args.image_size or found.size or (images[0].size if images is not None else None)
    fps = args.fps or found.fps or (images.fps if images is not None else None) or FPS
    for line in report.warnings(found, size, lifters.sees(saved)):
        log.warning("%s: %s", source, line)
    return found, size, fps, report.describe(found, source, size, fps)


def lift(
    saved: lifters.SavedLifter, file: Path, found: KeypointFile, size: tuple[int, int] | None, run: Run
) -> np.ndarray:
    """Poses (T, 17, 3), camera axes, the hip at the origin, in the lifter's unit.

    Args:
        saved, file: the lifter, and the checkpoint that it is of.
        size: width and height of the picture, pixels.
    """
    network = lifters.network_of(saved, file).to(run.device)
    points = torch.from_numpy(found.points)
    lifters.check_size(points, file.name)
    keypoints = lifters.input_of(saved, points, size, torch.from_numpy(found.confidence)).to(run.device)
    with run.autocast():
        return lifters.camera_poses(saved, network, keypoints).cpu().numpy()


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
    """Poses as npz, JSON and BVH, and a film of them, a GIF if `film`, and an MP4; -> the files, and camera and scale
    in words.
    """
    pitch = upright.estimate_pitch(camera) if args.camera_pitch is None else args.camera_pitch
    scale = 1.0 if method in lifters.POSEAUG else upright.human_scale(camera)
    world = upright.on_floor(upright.to_world(scale * camera, pitch))
    files = save_poses(
        folder, found, camera, world, fps, method=method, checkpoint=str(args.ckpt), camera_pitch=round(pitch, 3),
        metres_per_unit=scale,
    )  # fmt: skip
    how = "found from feet and bodies" if args.camera_pitch is None else "as given"
    shown = slice(args.vis_frames)
    pictures = None if images is None else images.part(shown)
    files += draw_film(folder, found.points[shown], world[shown], method, fps, pictures, film)
    if args.vis_html:
        files.append(write_page(args.vis_html, found, world, method, fps, images))
    return files, f"camera {pitch:.1f} degrees down ({how}); one unit of {method} is {scale:.3g} m"


def write_page(
    path: Path, found: KeypointFile, world: np.ndarray, method: str, fps: float, images: Pictures | None
) -> Path:
    """The page for the browser, of the first frames."""
    shown = slice(page.LONGEST)
    return page.write_page(
        path, {method: world[shown]}, H36M_17, keypoints=found.points[shown], fps=fps, place="floor",
        image=None if images is None else images.part(shown), title=f"{method}: {len(world):,} frames",
        about="lifted from 2D keypoints; no truth to compare with",
    )  # fmt: skip


def draw_film(
    folder: Path, points: np.ndarray, world: np.ndarray, method: str, fps: float, images: Any, gif: bool
) -> list[Path]:
    """film.gif, if asked for, and film.mp4, where there is ffmpeg; of a single pose turning.gif."""
    level = np.stack((world[..., 0], -world[..., 2], world[..., 1]), -1)  # axes of a camera that looks straight ahead
    files = []
    if gif and len(level) == 1:
        files.append(turntable.save_turning_gif(folder / "turning.gif", level[0]))
    elif gif:
        files.append(turntable.save_film(folder / "film.gif", points, level, images, fps=fps))
    if len(level) > 1 and shutil.which("ffmpeg"):
        panels, titles = [points, world], ["2D", method]
        files.append(animation.save_animation(folder / "film.mp4", panels, titles, H36M_17, fps=fps, place="floor"))
    return files
