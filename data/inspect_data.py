"""Look at a data set before training on it.

python data/inspect_data.py -d NAME -k KEYPOINTS [--data-dir DIR] [--output DIR] [--no-pictures]

Prints its subjects, takes, frames and joints, the cameras, bone lengths, where people are in the pictures, how well
keypoints fit the poses, and what is odd. Writes OUTPUT/NAME_KEYPOINTS_poses.png, people in the frames of their pictures
(upright? left blue, right orange?), and OUTPUT/NAME_KEYPOINTS_cameras.png, the cameras around the people.
"""

import logging
import math
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.run.entry import run_script  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402

from common.datasets import statistics  # noqa: E402
from common.datasets.statistics import Bones, Seen, View  # noqa: E402
from common.datasets.whole_set import WholeSet, load_whole_set  # noqa: E402
from common.draw.overview import Pyramid, Shot, save_room, save_shots  # noqa: E402
from common.pose_set import PoseSet  # noqa: E402
from common.run.options import Parser  # noqa: E402
from common.skeleton import Skeleton  # noqa: E402
from common.synthetic.dataset import ensure_named  # noqa: E402

MOST_LINES = 40  # of a table
SHOTS, VIEWS = 6, 8  # columns and rows of the sheet, at most
WAY = 3000  # points of a subject's way
OPTIONS = (
    ("-d --dataset", str, "h36m", "name of the set; 'synthetic' is made on first use, mpii is 2D poses", "NAME"),
    ("-k --keypoints", str, "gt",
     "2D poses: data_2d_NAME_KEYPOINTS.npz; gt and noisy are made where there is no such file", "KEYPOINTS"),
    ("--data-dir", Path, Path(__file__).parent, "where the files are", "DIR"),
    ("--output", Path, Path("inspect_out"), "where the pictures go", "DIR"),
    ("--no-pictures", bool, False, "print only"),
)  # fmt: skip


def main() -> None:
    parser = Parser(__doc__)
    parser.add_table("Data", OPTIONS)
    args = parser.parse_args()
    ensure_named(args.data_dir, args.dataset)
    with warnings_kept() as warned:
        whole = load_whole_set(args.data_dir, args.dataset, args.keypoints)
    pose_set = whole.pose_set
    print_people(whole)
    print_cameras(statistics.cameras_of(pose_set))
    bones = {} if pose_set.poses is None else statistics.bones_of(pose_set)
    if bones:
        print_bones(bones, pose_set.skeleton)
    views = statistics.views_of(pose_set)
    print_views(views, pose_set)
    odd = warned + statistics.oddities(pose_set, bones, views, whole.train, whole.test)
    print("\nWhat is odd" + ("" if odd else ": nothing"))
    for line in odd:
        print(f"- {line}")
    if not args.no_pictures:
        name = f"{args.dataset}_{args.keypoints}"
        written = [save_shots(args.output / f"{name}_poses.png", shots(pose_set), pose_set.skeleton)]
        if pose_set.poses is not None and statistics.has_cameras(pose_set):
            written.append(write_room(args.output / f"{name}_cameras.png", pose_set))
        print(f"\nresults in {', '.join(map(str, written))}")


@contextmanager
def warnings_kept() -> Iterator[list[str]]:
    """Warnings of the library, for the list of what is odd instead of the terminal."""
    kept: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        kept.append(record.getMessage())
        return False

    handlers = logging.getLogger().handlers
    for handler in handlers:
        handler.addFilter(keep)
    try:
        yield kept
    finally:
        for handler in handlers:
            handler.removeFilter(keep)


# ------------------------------------------------------------ printing


def print_people(whole: WholeSet) -> None:
    """Subjects with their takes and frames, the rate, the joints."""
    pose_set = whole.pose_set
    once = torch.bincount(pose_set.sequence[statistics.rows_once(pose_set)].long(), minlength=len(pose_set.sequences))
    print(f"{pose_set.name}: {pose_set.summary()}")
    rows = []
    for subject in statistics.subjects_of(pose_set):
        own = [i for i, seq in enumerate(pose_set.sequences) if seq.subject == subject]
        sequences = [pose_set.sequences[i] for i in own]
        takes, views = len({seq.action for seq in sequences if seq.action}), len({seq.view for seq in sequences})
        frames, poses = int(once[own].sum()), sum(seq.length for seq in sequences)
        split = "train" if subject in whole.train else "test" if subject in whole.test else "-"
        time = f"{frames / whole.fps / 60:.1f}" if whole.fps else "-"
        rows.append((subject or "-", split, takes or "-", f"{frames:,}", time, views, f"{poses:,}"))
    print_table(("subject", "split", "takes", "frames", "minutes", "views", "poses"), rows)
    if pose_set.actions:
        print(f"actions: {short(pose_set.actions, 30)}")
    print(f"frames per second: {f'{whole.fps:g}' if whole.fps else 'the files do not say it'}")
    layout = f"{whole.layout}, read as " if whole.layout else ""
    print(f"joints: {layout}{pose_set.skeleton.name}: {', '.join(pose_set.skeleton.joints)}")
    if pose_set.poses is None:
        print("no 3D poses")
    if whole.made:
        print("keypoints: made of the poses, there is no 2D file")


def print_cameras(cameras: list[Seen]) -> None:
    """Where the cameras stand and how they look."""
    if not cameras:
        print("\nCameras: not known, nor the size of the pictures")
        return
    print("\nCameras (metres; pitch: degrees that it looks down; focal length and pictures in pixels; width: degrees)")
    rows = []
    for seen in cameras:
        camera = seen.camera
        place = " ".join(f"{value:6.2f}" for value in camera.translation)
        size = f"{camera.width} x {camera.height}" if camera.width else "-"
        lens = f"{camera.focal[0]:.0f} {camera.focal[1]:.0f}"
        angles = [f"{round(angle, 1) + 0:.1f}" for angle in (seen.pitch, seen.roll)]  # + 0: never -0.0
        rows.append((
            seen.view, camera.id or "-", short(seen.subjects, 4), place, *angles, lens, size,
            text_of(seen.width, ".0f"),
        ))  # fmt: skip
    print_table(("view", "camera", "subjects", "x, y and height", "pitch", "roll", "focal", "pictures", "width"), rows)


def print_bones(bones: dict[str, Bones], skeleton: Skeleton) -> None:
    """Median lengths, each bone by the joint at its end, left and right together."""
    names = [skeleton.joints[child] for _, child in skeleton.bones]
    plain = [name.removeprefix("left ").removeprefix("right ") for name in names]
    rows = []
    for subject, own in bones.items():
        lengths = [own.lengths[[i for i, other in enumerate(plain) if other == name]] for name in dict.fromkeys(plain)]
        uneven, bone = statistics.unevenness(own, skeleton)
        share, most = own.change.max(0)
        rows.append((
            subject or "-", text_of(own.height, ".2f"), *(f"{100 * length.mean():.1f}" for length in lengths),
            share_of(uneven, plain[bone]), share_of(float(share), names[most]),
        ))  # fmt: skip
    print(
        "\nBones (median, cm, by the joint at the end, mean of left and right; height in metres from foot to head along"
    )
    print("the bones; the most that left and right differ; the most that a bone changes, 5th to 95th percentile)")
    print_table(("subject", "height", *dict.fromkeys(plain), "left/right", "change"), rows)


def print_views(views: list[View], pose_set: PoseSet) -> None:
    """Size and place of the people in the pictures, and how far from the projected poses."""
    print(
        f"\n2D poses ({pose_set.unit}; size: larger side of the box around a person, 5th, 50th, 95th percentile; place:"
    )
    print("its middle, shares of the picture; error: from the poses seen by the cameras, 50th, 95th percentile)")
    rows = []
    for view in views:
        decimals = ".0f" if pose_set.unit == "pixels" else ".2f"
        size = " ".join(text_of(value, decimals) for value in view.size)
        place = " ".join(text_of(value, ".2f") for value in view.place)
        error = " ".join(text_of(value, ".2f") for value in view.error)
        rows.append((
            view.view, f"{view.poses:,}", size, place, text_of(view.outside, ".2%"), f"{view.nobody:.2%}",
            text_of(view.confidence, ".2f"), text_of(view.unsure, ".1%"), error,
        ))  # fmt: skip
    low = f"below {statistics.LOW_CONFIDENCE}"
    print_table(("view", "poses", "size", "place", "outside", "nobody", "confidence", low, "error"), rows)


def print_table(titles: tuple[str, ...], rows: list[tuple]) -> None:
    """Columns as wide as what stands in them, without those in which nothing is known; the first `MOST_LINES` rows."""
    columns = list(zip(titles, *rows, strict=True))
    known = [column for column in columns if any(cell not in ("-", "- - -", "- -") for cell in column[1:])]
    rows = list(zip(*(column[1:] for column in known), strict=True))
    shown = [tuple(column[0] for column in known), *(tuple(map(str, row)) for row in rows[:MOST_LINES])]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if len(rows) > MOST_LINES:
        print(f"... and {len(rows) - MOST_LINES} more")


def share_of(share: float, name: str) -> str:
    """A share and what it is of."""
    return f"{share:.1%} {name}" if share > 5e-4 else "0"


def text_of(value: float, form: str) -> str:
    """A number, "-" for NaN."""
    return "-" if math.isnan(value) else format(value, form)


def short(names: Iterable[str], count: int) -> str:
    """The first of some names."""
    names = list(names)
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")


# ------------------------------------------------------------ pictures


def shots(pose_set: PoseSet) -> dict[str, list[Shot | None]]:
    """A row for each view, a column for each of some moments, evenly spread over the set."""
    rows = statistics.rows_once(pose_set)
    views = sorted({seq.view for seq in pose_set.sequences})[:VIEWS]
    if len(views) == 1:
        chosen = rows[np.linspace(0, len(rows) - 1, 3 * SHOTS).round()].tolist()
        found = [shot(pose_set, row) for row in chosen]
        return {f"{' ' * i}view {views[0]}": found[i * SHOTS : (i + 1) * SHOTS] for i in range(3)}
    moments = np.linspace(0, len(rows) - 1, 2 * SHOTS + 1)[1::2].round()
    items = [pose_set.item(row) for row in rows[moments].tolist()]
    found = {f"view {view}": [shot(pose_set, row_of(pose_set, item, view)) for item in items] for view in views}
    for later in list(found.values())[1:]:  # the first row names the moments
        later[:] = [other and other._replace(name="") for other in later]
    return found


def row_of(pose_set: PoseSet, item, view: int) -> int | None:
    """The row of another view of the same moment."""
    for seq in pose_set.sequences:
        if (seq.subject, seq.action, seq.view) == (item.subject, item.action, view):
            place = (pose_set.frame[seq.start : seq.start + seq.length] == item.frame).nonzero()
            if len(place):
                return seq.start + int(place[0])
    return None


def shot(pose_set: PoseSet, row: int | None) -> Shot | None:
    """One pose in its picture."""
    if row is None:
        return None
    seq, item = pose_set.sequences[int(pose_set.sequence[row])], pose_set.item(row)
    size = (seq.camera.width, seq.camera.height) if seq.camera and seq.camera.width else None
    frame = row if pose_set.stills else item.frame
    name = " ".join(part for part in (item.subject, item.action, str(frame)) if part)
    return Shot(pose_set.keypoints[row].numpy(), size, name)


def write_room(path: Path, pose_set: PoseSet) -> Path:
    """The cameras, everybody's way, and some people."""
    rows, ways = statistics.rows_in_room(pose_set), {}
    room = bool(len(rows))
    rows = rows if room else statistics.rows_once(pose_set)
    for subject in statistics.subjects_of(pose_set):
        own = statistics.spread_rows(statistics.rows_of_subject(pose_set, subject, rows), WAY)
        if len(own):
            ways[subject] = way(pose_set, own)
    elsewhere = [subject for subject in statistics.subjects_of(pose_set) if subject not in ways]
    if elsewhere:
        print(f"\nnot in the plot of the cameras: {short(elsewhere, 8)}, who are in their own camera's frame")
    some = rows[np.linspace(0, len(rows) - 1, 2 * SHOTS + 1)[1::2].round()]
    people = statistics.in_world(pose_set, some).numpy()
    cameras = [seen for seen in statistics.cameras_of(pose_set) if any(seen.camera.translation) or not room]
    middle = np.nanmean(np.concatenate(list(ways.values())), 0)
    away = np.median([np.linalg.norm(np.array(seen.camera.translation) - middle) for seen in cameras])
    pyramids = [Pyramid(statistics.corners(seen.camera, 0.12 * away).numpy(), str(seen.view)) for seen in cameras]
    return save_room(path, pyramids, ways, people, pose_set.skeleton)


def way(pose_set: PoseSet, rows: torch.Tensor) -> np.ndarray:
    """Where the root goes, (T, 3), with NaN between two sequences."""
    roots = statistics.roots_in_world(pose_set, rows).numpy()
    cuts = (pose_set.sequence[rows].diff() != 0).nonzero()[:, 0].numpy() + 1
    return np.insert(roots, cuts, np.nan, axis=0)


if __name__ == "__main__":
    run_script(main)
