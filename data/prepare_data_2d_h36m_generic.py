"""Make a Human3.6M 2D file, data_2d_h36m_NAME.npz, from the keypoints of any detector: CPN, Detectron, HRNet, ...

python data/prepare_data_2d_h36m_generic.py -i detections -o detectron_pt_coco
python data/prepare_data_2d_h36m_generic.py -i data_2d_h36m_cpn_ft_h36m_dbb.npz -o cpn16 --joints 16

-i is one of:
    a folder with a file for each video, DIR/S1/Directions 1.54138969.SUFFIX (underscores for blanks will do):
        .mp4.npz       Detectron's, as VideoPose3D's inference scripts write them: boxes and keypoints by frame; of
                       several people the one with the best box is taken
        .npz, .npy     (T, J, 2) or (T, J, 3), pixels (and a confidence, left off); in an .npz the array keypoints, or
                       the only one
    a file of the whole set with positions_2d: published ones (CPN, Detectron, HRNet), or your own
Frames without a person (NaN) are filled in from the frames around them, and counted.

The joints' layout, h36m (17 or 16 joints), coco (17) or mpii (16), is --layout, or the file's metadata, or the word in
NAME, as VideoPose3D has it. --joints 16 leaves Human3.6M's neck/nose out (PoseAug's files); the default keeps all.

Writes DATA_DIR/data_2d_h36m_NAME.npz (-k NAME): positions_2d, subject -> take -> four arrays (T, J, 2) float32, pixels;
and metadata. 209 takes, without S11's take "Directions". A file that is there is not made again.
"""

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.run.entry import run_script  # noqa: E402

import numpy as np  # noqa: E402

from common.camera import h36m_cameras  # noqa: E402
from common.datasets import h36m_takes  # noqa: E402
from common.errors import InputError  # noqa: E402
from common.files.npz import load_npz  # noqa: E402
from common.files.reading import load_array  # noqa: E402
from common.run.options import Parser  # noqa: E402
from common.skeleton import COCO_17, H36M_16, H36M_17, convert  # noqa: E402

LAYOUTS = ("coco", "mpii", "h36m")  # VideoPose3D's order: "h36m_pt_coco" is COCO's
PERSON = 1  # Detectron's class

OPTIONS = (
    ("-i --input", Path, ..., "folder or file of keypoints", "PATH"),
    ("-o --output", str, ..., "name of the keypoints, as -k takes it", "NAME"),
    ("-l --layout", tuple(LAYOUTS), None, "the joints' layout, if no metadata or name tells it"),
    ("--joints", (16, 17), None, "16: of 17 Human3.6M joints leave neck/nose out", None, {"type": int}),
    ("--data-dir", Path, Path(__file__).parent, "where the file goes", "DIR"),
    ("--partial", bool, False, "write what there is if videos are missing"),
    ("--force", bool, False, "make the file again if it is there"),
)


def main() -> None:
    parser = Parser(__doc__)
    parser.add_table("Data", OPTIONS)
    args = parser.parse_args()
    name = args.output.removeprefix("data_2d_h36m_").removesuffix(".npz")
    if not re.fullmatch(r"[\w.+-]+", name):
        parser.error(f"--output {args.output!r}: expected a name such as cpn_ft_h36m_dbb, which -k takes")
    target = args.data_dir / f"data_2d_h36m_{name}.npz"
    if target.exists() and not args.force:
        print(f"{target} is there already: nothing done (--force makes it again)")
        return
    if not args.input.exists():
        raise InputError(f"{args.input} does not exist (looked for {args.input.absolute()})")
    gathered, told = h36m_takes.Gathered(args.input), None
    if args.input.is_dir():
        read_folder(gathered)
    else:
        told = read_set(gathered)
    videos = gathered.finish(args.partial)
    layout = args.layout or told or next((word for word in LAYOUTS if word in name), None)
    if layout is None:
        raise InputError(f"{args.input}: neither its metadata nor the name {name} tell the joints' layout: give -l")
    print(fill_in(videos, args.input))
    print(h36m_takes.save_keypoints(target, reduced(videos, layout, args.joints, args.input), layout, args.input))


def reduced(videos: h36m_takes.Videos, layout: str, joints: int | None, source: Path) -> h36m_takes.Videos:
    """The videos with the number of joints asked for; None: as they are."""
    found = next(views[0].shape[1] for takes in videos.values() for views in takes.values())
    if joints in (None, found):
        return videos
    if layout != "h36m" or (found, joints) != (17, 16):
        raise InputError(f"{source} has {found} joints ({layout}); --joints {joints} is for 17 of Human3.6M (h36m)")
    return {
        subject: {name: [convert(points, H36M_17, H36M_16) for points in views] for name, views in takes.items()}
        for subject, takes in videos.items()
    }


def fill_in(videos: h36m_takes.Videos, source: Path) -> str:
    """Fill NaN in, in place, linearly between the frames around; tell how many frames were filled in, and where most.

    Before the first and after the last frame with a value the nearest one stands.
    """
    counts = {}
    for subject, takes in videos.items():
        for name, views in takes.items():
            for camera, points in zip(h36m_cameras()[subject], views, strict=True):
                lost = np.isnan(points).any((1, 2))
                if lost.any():
                    where = f"{subject} {name}, camera {camera.id}"
                    _interpolate(points, f"{source}: {where}")
                    counts[where] = int(lost.sum())
    if not counts:
        return "frames filled in: none"
    worst = max(counts, key=counts.get)
    total = f"frames filled in: {sum(counts.values()):,} in {len(counts)} videos"
    return f"{total}, most in {worst}: {counts[worst]:,}"


def _interpolate(points: np.ndarray, where: str) -> None:
    """(T, J, 2) in place, column by column."""
    frames, columns = np.arange(len(points)), points.reshape(len(points), -1)
    for column in columns.T:
        known = ~np.isnan(column)
        if not known.any():
            raise InputError(f"{where}: nobody, or a joint of nobody, in all of its {len(points)} frames")
        if not known.all():
            column[~known] = np.interp(frames[~known], frames[known], column[known])


# ------------------------------------------------------------ reading


def read_set(gathered: h36m_takes.Gathered) -> str | None:
    """The videos of a file of the whole set; the layout that its metadata names, if it does."""
    file = gathered.source
    arrays = load_npz(file, required=("positions_2d",))
    tree = arrays["positions_2d"]
    if not isinstance(tree, dict) or not all(isinstance(takes, dict) for takes in tree.values()):
        raise InputError(f"{file}: positions_2d is no dict of subject -> action -> views (VideoPose3D's layout)")
    for subject, takes in tree.items():
        for text, views in takes.items():
            if name := gathered.wanted(str(subject), str(text)):
                cameras = h36m_cameras()[subject]
                if not isinstance(views, (list, tuple, np.ndarray)) or len(views) != len(cameras):
                    found = len(views) if isinstance(views, (list, tuple, np.ndarray)) else type(views).__name__
                    raise InputError(f"{file}: {subject} {text} has {found} views; expected {len(cameras)}")
                for camera, points in enumerate(views):
                    where = f"{file}: {subject} {text}, camera {cameras[camera].id}"
                    gathered.add_video(subject, name, camera, h36m_takes.keypoints(points, where))
    told = arrays.get("metadata")
    told = told.get("layout_name") if isinstance(told, dict) else None
    return told if told in LAYOUTS else None


def read_folder(gathered: h36m_takes.Gathered) -> None:
    """The videos of a folder, a file for each."""
    pattern = re.compile(r"(?P<take>[^.].*)\.(?P<camera>\d+)(?P<suffix>\.mp4\.npz|\.npz|\.npy)")
    found = False
    for file in sorted(gathered.source.glob("S*/*")):
        match, subject = pattern.fullmatch(file.name), file.parent.name
        camera = h36m_takes.camera_number(match["camera"]) if match else None
        name = gathered.wanted(subject, match["take"]) if camera is not None else None
        if name:
            gathered.add_video(subject, name, camera, read_video(file))
        found = found or camera is not None
    if not found:
        raise InputError(
            f"{gathered.source} has no files such as S1/Directions 1.54138969.mp4.npz (or .npz, .npy): a folder for "
            "each subject, a file for each video"
        )


def read_video(file: Path) -> np.ndarray:
    """(T, J, 2) float32, NaN in frames without a person."""
    if file.suffix == ".npy":
        return h36m_takes.keypoints(load_array(file), str(file))
    arrays = load_npz(file)
    if {"boxes", "keypoints"} <= arrays.keys():
        return best_people(arrays["boxes"], arrays["keypoints"], file)
    if "keypoints" not in arrays and len(arrays) > 1:
        raise InputError(f"{file} has the arrays {', '.join(arrays)}; expected keypoints, or one array")
    return h36m_takes.keypoints(
        arrays["keypoints"] if "keypoints" in arrays else next(iter(arrays.values())), str(file)
    )


def best_people(boxes: Any, people: Any, file: Path) -> np.ndarray:
    """Detectron's lists, frame -> class -> people: boxes (N, 5) with a score, keypoints (N, 4, 17): x, y, two scores.

    Of each frame the person with the best box: (T, 17, 2) float32, NaN where there is nobody.
    """
    points = np.full((len(boxes), COCO_17.num_joints, 2), np.nan, np.float32)
    try:
        for frame, (found, poses) in enumerate(zip(boxes, people, strict=True)):
            if len(found[PERSON]) and len(poses[PERSON]):
                best = np.asarray(found[PERSON])[:, 4].argmax()
                points[frame] = np.asarray(poses[PERSON][best])[:2].T
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{file}: boxes and keypoints are not Detectron's lists of people by frame ({error})"
        ) from error
    return h36m_takes.keypoints(points, str(file))


if __name__ == "__main__":
    run_script(main)
