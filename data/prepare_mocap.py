"""Make a data set in Human3.6M's layout from a folder of motion capture files.

python data/prepare_mocap.py --source FOLDER -d NAME [--data-dir data] [--preset auto | --map FILE.yaml] [--test A,B]
then   python train_teacher.py -d NAME -k gt ...

Read are .bvh (any skeleton), .asf/.amc (CMU), .npz (joint positions in SMPL's order, or AMASS's poses with
--smpl-model) and .c3d (with the package ezc3d), in sub-folders too. A folder is a person; in a flat folder the file
names tell ("walk1_subject5", "02_01"), or --subject-pattern. People are divided into training (S1, S5, S6, S7, S8) and
test (S9, S11): the names are seats in Human3.6M's rig, by whose cameras the people are seen. Motion comes to 50 frames
per second, metres, z up, onto the floor, and is cut into takes where somebody leaves what all four cameras see.

Writes DATA_DIR/data_3d_NAME.npz with the split (the seats taken), data_2d_NAME_gt.npz and NAME_sheet.png, some takes to
look at: upright? left blue?
"""

import contextlib
import logging
import re
import sys
from argparse import ArgumentTypeError
from collections import Counter
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.run.entry import run_script  # noqa: E402

import numpy as np  # noqa: E402

from common.camera import h36m_cameras  # noqa: E402
from common.draw.animation import save_animation  # noqa: E402
from common.errors import InputError  # noqa: E402
from common.files.npz import save_npz  # noqa: E402
from common.h36m import SUBJECTS, TEST_SUBJECTS, TRAIN_SUBJECTS  # noqa: E402
from common.mocap import motion as mocap  # noqa: E402
from common.mocap.joints import PRESETS, choose_map, h36m_poses, h36m_weights, read_map  # noqa: E402
from common.mocap.people import action_of, free_name, person_of, seats_of  # noqa: E402
from common.mocap.read import SUFFIXES, read_motion  # noqa: E402
from common.run.options import Parser, number  # noqa: E402
from common.skeleton import H36M_17  # noqa: E402
from common.synthetic.behaviour import FPS  # noqa: E402
from common.synthetic.dataset import JOINTS_32, metadata, project_views  # noqa: E402

RESERVED = ("h36m", "synthetic")
log = logging.getLogger(__name__)


class Clip(NamedTuple):
    """One file: poses (T, 17, 3), 50 Hz; axes and unit are those of the file until `upright`."""

    file: Path
    person: str
    poses: np.ndarray
    metres: float
    unit: str
    preset: str
    up: str | None


def main() -> None:
    args = parse()
    targets = [args.data_dir / name for name in (f"data_3d_{args.dataset}.npz", f"data_2d_{args.dataset}_gt.npz")]
    sheet = args.data_dir / f"{args.dataset}_sheet.png"
    if all(path.exists() for path in (*targets, sheet)) and not args.force:
        print(f"{targets[0]} and {targets[1].name} are there already: nothing done (--force makes them again)")
        return
    clips = upright(read_clips(args), args.up)
    print(f"{args.source}: {len(clips)} files, {sum(len(clip.poses) for clip in clips):,} frames at {FPS} per second")
    for what in ("preset", "unit", "up"):
        counts = Counter(getattr(clip, what) for clip in clips)
        print(f"{what}: " + ", ".join(f"{value} ({count} files)" for value, count in counts.items()))
    report_people(clips)
    poses = seated(clips, args.test, args.seed)
    views = {
        seat: {a: project_views(p, h36m_cameras()[seat]) for a, p in takes.items()} for seat, takes in poses.items()
    }
    report_seats(poses, views, sum(len(clip.poses) for clip in clips))
    full = {seat: {action: take[:, JOINTS_32] for action, take in takes.items()} for seat, takes in poses.items()}
    with contextlib.suppress(OSError):  # of other poses; if this run stops now, the next one makes it
        targets[1].unlink()
    save_npz(targets[0], positions_3d=full, metadata=contract_of(list(poses)))
    save_npz(targets[1], positions_2d=views, metadata=metadata())
    contact_sheet(sheet, poses, views)
    for path in (*targets, sheet):
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


def contract_of(seats: list[str]) -> dict:
    """The 3D file's metadata: rate, unit, axis up, joints, and the seats that are taken as the set's own split."""
    split = {"subjects_train": TRAIN_SUBJECTS, "subjects_test": TEST_SUBJECTS}
    taken = {name: [seat for seat in group if seat in seats] for name, group in split.items()}
    return {"layout_name": "h36m", "fps": float(FPS), "unit": "m", "up": "z"} | taken


def unit_metres(text: str) -> float | None:
    """An option type: metres of one unit, None for auto."""
    if text == "auto" or text in mocap.UNITS:
        return mocap.UNITS.get(text)
    try:
        return number(float, 1e-9)(text)
    except ArgumentTypeError as error:
        raise ArgumentTypeError(f"expected auto, {', '.join(mocap.UNITS)} or a number, found {text!r}") from error


OPTIONS = (
    ("--source", Path, ..., "motion files, or a single file", "FOLDER"),
    ("-d --dataset", str, ..., "name of the set to make", "NAME"),
    ("--data-dir", Path, Path(__file__).parent, "where the files go", "DIR"),
    ("--preset", ("auto", *PRESETS), "auto", "joint names; auto: those that fit"),
    ("--map", Path, None, "joints by name, lines such as left knee: LeftLeg", "FILE.yaml"),
    ("--unit", unit_metres, "auto", f"{', '.join(mocap.UNITS)}, or metres of one unit"),
    ("--up", ("auto", *mocap.AXES), "auto", "axis up; --up=-y for a negative one"),
    ("--fps", number(float, 0.1), None, "of the files; else what they say, and 120 for .amc"),
    ("--smpl-model", Path, None, "SMPL body model, for AMASS's poses", "FILE.npz"),
    ("--subject-pattern", str, None, "its first group in a file's path names the person", "REGEX"),
    ("--test", str, None, "people to test on (default: the last two sevenths)", "A,B"),
    ("--seed", number(int, 0), 0, "of the directions in which people face"),
    ("--force", bool, False, "make the files again if they are there"),
)


def parse():
    parser = Parser(__doc__)
    parser.add_table("Motion", OPTIONS)
    args = parser.parse_args()
    if not re.fullmatch(r"[\w-]+", args.dataset) or args.dataset in RESERVED:
        parser.error(f"--dataset {args.dataset!r}: expected letters and digits, and none of {', '.join(RESERVED)}")
    try:
        re.compile(args.subject_pattern or "")
    except re.error as error:
        parser.error(f"--subject-pattern {args.subject_pattern!r} is no regular expression: {error}")
    return args


# ------------------------------------------------------------ reading


def read_clips(args) -> list[Clip]:
    """Every file of the source that can be used; the others are named."""
    if not args.source.exists():
        raise InputError(f"{args.source} does not exist (looked for {args.source.absolute()})")
    files = [args.source] if args.source.is_file() else sorted(args.source.rglob("*"))
    files = [file for file in files if file.suffix.lower() in SUFFIXES and file.is_file()]
    if not files:
        raise InputError(f"{args.source.absolute()} has no motion files; expected {', '.join(SUFFIXES)}")
    joint_map = read_map(args.map) if args.map else None
    clips, reasons = [], []
    for file in files:
        try:
            clips.append(read_clip(file, joint_map, args))
        except InputError as error:
            reasons.append(error)
            if len(files) > 1:
                log.warning("left out: %s", error)
    if not clips:
        several = f"none of {len(files)} files can be used; the first: " if len(files) > 1 else ""
        raise InputError(f"{several}{reasons[0]}")
    return clips


def read_clip(file: Path, joint_map, args) -> Clip:
    """One file as poses (T, 17, 3) at 50 frames per second."""
    motion = read_motion(file, args.smpl_model)
    preset, wanted = ("map", joint_map) if joint_map else choose_map(motion.joints, args.preset)
    poses = h36m_poses(motion.positions, h36m_weights(motion.joints, wanted, file), file)
    mocap.check_finite(poses, file)
    fps = args.fps or motion.fps
    if not fps > 0:
        raise InputError(f"{file} does not say how many frames a second has; give it with --fps")
    poses = mocap.resample(mocap.without_rest_pose(poses), fps, path=file)
    metres = args.unit or motion.unit
    unit, metres = (f"{metres:.4g} m", metres) if metres else mocap.find_unit(poses, file)
    return Clip(file, person_of(file, args.source, args.subject_pattern), poses, metres, unit, preset, motion.up)


def upright(clips: list[Clip], up: str) -> list[Clip]:
    """The clips in metres, z up, on the floor. A clip that is not clearly upright goes by the others."""
    votes = [mocap.up_vote(clip.poses) for clip in clips]
    common = mocap.axis_of(sum(vote * len(clip.poses) for vote, clip in zip(votes, clips, strict=True)))
    result = []
    for clip, vote in zip(clips, votes, strict=True):
        own = mocap.axis_of(vote) if np.abs(vote).max() > 0.75 else common
        axis = clip.up or own if up == "auto" else up
        poses, _ = mocap.on_floor(mocap.to_z_up(clip.poses, axis) * clip.metres)
        result.append(clip._replace(poses=poses, up=axis))
    return result


# ------------------------------------------------------------ seats and reports


def seated(clips: list[Clip], test: str | None, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """seat -> take -> poses (T, 17, 3) in Human3.6M's room, float32; nobody in both training and test."""
    people = list(dict.fromkeys(clip.person for clip in clips))
    chosen = people[1:][-max(len(people) * 2 // 7, 1) :]
    if test:
        chosen = [name.strip() for name in test.split(",") if name.strip()]
    elif not chosen:
        log.warning("there is one person, %s: all goes to training, there is nobody to test on", people[0])
    poses: dict[str, dict[str, np.ndarray]] = {}
    for person, seats in seats_of(people, chosen).items():
        own = [(clip, piece) for clip in clips if clip.person == person for piece in mocap.pieces(clip.poses)]
        for i, (clip, piece) in enumerate(own):
            takes = poses.setdefault(seats[i % len(seats)], {})
            name = free_name(action_of(clip.file.stem, person), takes)
            takes[name] = mocap.place(clip.poses[piece], f"{clip.file.name} {piece.start}", seed)
    return {seat: poses[seat] for seat in SUBJECTS if seat in poses}


def report_people(clips: list[Clip]) -> None:
    """Height and bone lengths of each person, and what is not human in them."""
    for person in dict.fromkeys(clip.person for clip in clips):
        poses = np.concatenate([clip.poses for clip in clips if clip.person == person])
        lengths = {part: values.mean() for part, values in mocap.body_lengths(poses).items()}
        print(f"{person}: " + ", ".join(f"{part} {value:.2f} m" for part, value in lengths.items()))
        for complaint in mocap.not_human(poses):
            log.warning("%s: %s", person, complaint)


def report_seats(poses: dict, views: dict, frames: int) -> None:
    """What each seat holds, what was cut off, and how much of it the cameras see."""
    for seat, takes in poses.items():
        print(f"{seat}: {len(takes)} takes, {sum(map(len, takes.values())):,} frames")
    kept = sum(len(take) for takes in poses.values() for take in takes.values())
    inside = total = 0
    for seat, takes in views.items():
        sizes = [(camera.width, camera.height) for camera in h36m_cameras()[seat]]
        for pixels in takes.values():
            for view, size in zip(pixels, sizes, strict=True):
                inside += int(((view >= 0) & (view <= size)).all(-1).sum())
                total += view.shape[0] * view.shape[1]
    print(
        f"left out as too short between two cuts: {frames - kept:,} frames; joints in the picture: {inside / total:.2%}"
    )


def contact_sheet(path: Path, poses: dict, views: dict) -> Path:
    """Six frames of the longest take of up to four seats in space, and of the first one in the first camera."""
    panels, titles = [], []
    seats = [list(poses)[i] for i in np.unique(np.linspace(0, len(poses) - 1, 4).round().astype(int))]
    for seat in seats:
        action, take = max(poses[seat].items(), key=lambda item: len(item[1]))
        rows = np.linspace(0, len(take) - 1, 6).round().astype(int)
        panels += [take[rows]] if titles else [views[seat][action][0][rows], take[rows]]
        titles += [f"{seat} {action}"] if titles else [f"{seat}, camera 1", f"{seat} {action}"]
    return save_animation(path, panels, titles, H36M_17, fps=1, width=1200, turn=0, azimuth=30)


if __name__ == "__main__":
    run_script(main)
