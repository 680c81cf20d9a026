"""Several people of one video: each followed and lifted, files for each, a film and a page with all in one world."""

import logging
from argparse import Namespace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.draw import animation, page, turntable
from common.errors import InputError
from common.run.run import Run
from common.skeleton import H36M_17, Skeleton
from common.video import follow, gltf, motion, upright
from common.video.formats import RawKeypoints, read_raw
from common.video.frames import Pictures
from common.video.read import FPS, KeypointFile, read_keypoints
from common.video.write import save_poses
from methods import lifters, video_lifting

log = logging.getLogger(__name__)

_LEAST = 0.1  # of the frames of who is seen longest: a person of fewer is taken for a mistake of the detector
_STEADY = 0.1  # seconds, over which the ways of people are smoothed


class Lifted(NamedTuple):
    found: KeypointFile
    camera: np.ndarray  # (n, 17, 3), of the frames found.rows, camera axes, the hip at the origin, the lifter's unit
    scale: float  # metres of that unit


def write_all(
    args: Namespace, run: Run, saved: lifters.SavedLifter, images: Pictures | None, raw: RawKeypoints | None
) -> tuple[list[Path], str]:
    """Lift --people of a video and write them; -> the files, and what was found in words."""
    if args.person != 1:
        raise InputError(f"--person {args.person} and --people: one person, or several? Leave one of them out")
    source = args.keypoints if raw is None else args.input
    raw = raw or read_raw(args.keypoints)
    size = args.image_size or raw.size or (images[0].size if images is not None else None)
    if size is None:
        raise InputError("several people need the size of the picture: give --image-size WIDTHxHEIGHT")
    if images is not None and len(images) not in (1, len(raw.frames)):
        raise InputError(
            f"{args.input} has {len(images)} pictures, {source} {len(raw.frames)} frames; expected as many"
        )
    fps = args.fps or raw.fps or (images.fps if images is not None else None) or FPS
    people = []
    for number in range(1, count(raw, args.people, args.max_gap) + 1):
        found = read_keypoints(source, args.layout, args.thr, number, args.max_gap, args.smooth, raw=raw)
        camera = video_lifting.lift(saved, args.ckpt, found, size, run, args.focal, args.detectors_3d)
        scale = video_lifting.scale_of(camera, saved.method, args.height)
        people.append(Lifted(found, camera, scale))
    worlds, pitch = in_one_world(people, size, fps, motion.focal_pixels(args.focal, size), args.camera_pitch)
    files = []
    for number, (person, world) in enumerate(zip(people, worlds, strict=True), 1):
        files += save_poses(
            args.output / f"person_{number}", person.found, person.camera, world, fps, args.bones, method=saved.method,
            checkpoint=str(args.ckpt), camera_pitch=round(pitch, 3), metres_per_unit=person.scale,
        )  # fmt: skip
    files.append(args.output / "people.glb")
    gltf.write_people(
        files[-1], [(world, one.found.seconds(fps)) for one, world in zip(people, worlds, strict=True)], args.bones
    )
    files += draw(args, people, worlds, images, saved.method, fps)
    seen = ", ".join(f"{n}: {len(one.found.rows)} frames" for n, one in enumerate(people, 1))
    return files, f"{len(people)} people of {len(raw.frames)} frames ({seen}); camera {pitch:.1f} degrees down"


def count(raw: RawKeypoints, most: int | None, max_gap: float) -> int:
    """How many people are lifted: `most` (None: all) of those who are seen for long enough, the largest first."""
    people = follow.follow(raw.people, raw.clock(), max_gap, mixed=raw.mixed)
    longest = max((len(one.rows) for one in people), default=0)
    staying = [len(one.rows) >= _LEAST * longest for one in people]
    chosen = (staying + [False]).index(False)  # the first who is too short ends the list: it is sorted by size and time
    if 0 < chosen < len(people):
        log.info("%d more seen in few frames, left out", len(people) - chosen)
    return max(1, chosen if most is None else min(most, chosen))


def in_one_world(
    people: list[Lifted], size: tuple[int, int], fps: float, focal: float, pitch: float | None
) -> tuple[list[np.ndarray], float]:
    """Poses (n, 17, 3) of everybody, metres, z up, on the floor, where they stand before the camera; and its pitch."""
    bodies = [one.scale * one.camera.astype(float) for one in people]
    pitch = upright.estimate_pitch(np.concatenate(bodies)) if pitch is None else pitch
    worlds = []
    for person, body in zip(people, bodies, strict=True):
        path = motion.root_path(body, person.found.points, focal, size, person.found.confidence)
        way = follow.smooth(path, _STEADY * fps)
        worlds.append(upright.on_floor(upright.to_world(body + way[:, None], pitch)))
    return worlds, pitch


# ------------------------------------------------------------ pictures


def side_by_side(people: list[Lifted], arrays: list[np.ndarray], frames: int) -> list[np.ndarray]:
    """Arrays (n, 17, D) of people in their own frames -> (T, 17, D) of the video's, NaN where they are away."""
    full = []
    for person, array in zip(people, arrays, strict=True):
        full.append(np.full((frames, *array.shape[1:]), np.nan))
        full[-1][person.found.rows.start : person.found.rows.stop] = array
    return full


def draw(
    args: Namespace, people: list[Lifted], worlds: list[np.ndarray], images: Pictures | None, method: str, fps: float
) -> list[Path]:
    """film.gif and film.mp4 of everybody, and the page for the browser if it is asked for."""
    frames = people[0].found.total
    points = side_by_side(people, [one.found.points for one in people], frames)
    worlds = side_by_side(people, worlds, frames)
    shown = slice(args.vis_frames)
    world = np.concatenate(worlds, 1)[shown]
    middle = np.nanmean(world, (0, 1)) * (1, 1, 0)
    level = np.stack((world[..., 0] - middle[0], -world[..., 2], world[..., 1] - middle[1]), -1)
    pictures = None if images is None else images.part(shown)
    files = [
        turntable.save_film(
            args.output / "film.gif", np.concatenate(points, 1)[shown], level, pictures, crowd(len(people)), fps
        )
    ]
    if len(level) > 1 and animation.writes_mp4():
        panels = [np.concatenate(points, 1)[shown], world]
        titles, skeleton = ["2D", f"{method}: {len(people)} people"], crowd(len(people))
        files.append(
            animation.save_animation(args.output / "film.mp4", panels, titles, skeleton, fps=fps, place="world")
        )
    if args.vis_html:
        shown = slice(page.LONGEST)
        names = [f"person {n}" for n in range(1, len(people) + 1)]
        files.append(
            page.write_page(
                args.vis_html, {name: one[shown] for name, one in zip(names, worlds, strict=True)}, H36M_17,
                keypoints={name: one[shown] for name, one in zip(names, points, strict=True)}, fps=fps, place="world",
                image=None if images is None else images.part(shown), title=f"{method}: {len(people)} people",
                about="lifted from 2D keypoints; no truth to compare with",
            )
        )  # fmt: skip
    return files


def crowd(count: int) -> Skeleton:
    """The skeleton of several people: Human3.6M's, so many times over; the first one's joints keep their names."""
    joints = [joint if n == 1 else f"{joint} {n}" for n in range(1, count + 1) for joint in H36M_17.joints]
    parents = [p if p < 0 else p + n * H36M_17.num_joints for n in range(count) for p in H36M_17.parents]
    return Skeleton(f"{count} people", tuple(joints), tuple(parents))
