"""Make a data set of your own videos from the keypoints that a 2D detector found: data_2d_custom_NAME.npz.

python data/prepare_data_2d_custom.py -i DETECTIONS -o NAME [--image-size 1920x1080] [--data-dir data]
python data/prepare_data_2d_custom.py --statistics                          for developers, see below

DETECTIONS is one file or folder of a video, or a folder of them: OpenPose's folder of .json files (one for each frame),
AlphaPose's or COCO's results (Detectron2's coco_instances_results.json), MMPose's, RTMPose's or Ultralytics' (.json),
the .npz of VideoPose3D's inference/infer_video_d2.py, or arrays (.npz, .npy). One person of each is followed.

Writes VideoPose3D's layout: positions_2d, video -> "custom" -> [(T, 17, 2) float32, pixels]; metadata with layout_name
(coco where all videos have COCO's joints, else h36m), num_joints, keypoints_symmetry, video_metadata: video -> w, h.

--statistics makes common/video/keypoint_statistics.json again, with which the keypoints of a video are compared: from
the synthetic training set in --data-dir, every 20th frame of S1, S5, S6, S7, S8.
"""

import argparse
import json
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.run.entry import run_script  # noqa: E402

import numpy as np  # noqa: E402

from common.datasets.h36m_layout import load_pose_set  # noqa: E402
from common.errors import InputError  # noqa: E402
from common.files.atomic import write_atomic  # noqa: E402
from common.files.names import file_name  # noqa: E402
from common.files.npz import save_npz  # noqa: E402
from common.files.reading import load_json  # noqa: E402
from common.h36m import TRAIN_SUBJECTS  # noqa: E402
from common.run.options import Parser, number  # noqa: E402
from common.skeleton import COCO_17, H36M_17  # noqa: E402
from common.synthetic.dataset import ensure  # noqa: E402
from common.video import report  # noqa: E402
from common.video.follow import FOLLOWING  # noqa: E402
from common.video.formats import json_files, read_raw  # noqa: E402
from common.video.json_forms import is_one_frame  # noqa: E402
from common.video.read import FPS, LAYOUT_NAMES, KeypointFile, coco_keypoints, image_size, read_keypoints  # noqa: E402

log = logging.getLogger(__name__)
SUFFIXES = (".json", ".npz", ".npy")
OPTIONS = (
    ("-i --input", Path, None, "detections of one video, or a folder of such", "PATH"),
    ("-o --output", str, None, "name of the data set", "NAME"),
    ("--data-dir", Path, Path(__file__).parent, "where the file goes", "DIR"),
    ("--layout", str, None, f"joints, if not to be found: {', '.join(LAYOUT_NAMES)}", "NAME"),
    ("--joints", ("auto", "coco", "h36m"), "auto", "layout to write"),
    ("--image-size", image_size, None, "of the videos, where no file says it", "WxH"),
    ("--fps", number(float, 0.1), None, "frames per second, for the report", "N"),
    ("--thr", number(float, 0), 0.1, "a joint of less confidence is missing"),
    *FOLLOWING,
    ("--force", bool, False, "make the file again if it is there"),
    ("--statistics", bool, False, "make common/video/keypoint_statistics.json instead"),
)


def main() -> None:
    parser = Parser(__doc__)
    parser.add_table("Data", OPTIONS)
    args = parser.parse_args()
    if args.statistics:
        return make_statistics(args.data_dir)
    if args.input is None or args.output is None:
        parser.error("which detections, and what is the data set to be called? give -i PATH -o NAME")
    target = args.data_dir / f"data_2d_custom_{file_name(args.output)}.npz"
    if target.exists() and not args.force:
        print(f"{target} is there already: nothing done (--force makes it again)")
        return
    sources, found, sizes = videos(args.input), {}, {}
    for name, path in sources.items():
        raw = read_raw(path)
        raw = raw._replace(fps=args.fps or raw.fps)
        found[name] = read_keypoints(
            path, args.layout, args.thr, args.person, args.max_gap, args.smooth, trim=False, raw=raw
        )  # fmt: skip
        sizes[name] = size_of(args, found[name], path)
        print(report.describe(found[name], path, sizes[name], args.fps or found[name].fps or FPS), end="\n\n")
        for line in report.warnings(found[name], sizes[name], sees="place"):
            log.warning("%s: %s", path, line)
    layout, positions = keypoints(args, sources, found)
    skeleton = {"coco": COCO_17, "h36m": H36M_17}[layout]
    metadata = {
        "layout_name": layout, "num_joints": skeleton.num_joints,
        "keypoints_symmetry": [list(skeleton.left), list(skeleton.right)],
        "video_metadata": {name: {"w": width, "h": height} for name, (width, height) in sizes.items()},
    }  # fmt: skip
    views = {name: {"custom": [points]} for name, points in positions.items()}
    save_npz(target, positions_2d=views, metadata=metadata)
    frames = sum(map(len, positions.values()))
    print(f"{len(views)} video{'s' * (len(views) > 1)}, {frames} frames, layout {layout}: {target}")


def videos(path: Path) -> dict[str, Path]:
    """Name -> detections: of one video, or of every file and folder of JSON in a folder."""
    if not path.is_dir() or is_one_video(path):
        return {path.stem: path}
    parts = sorted(part for part in path.iterdir() if not part.name.startswith("."))
    parts = [part for part in parts if (json_files(part) if part.is_dir() else part.suffix.lower() in SUFFIXES)]
    if not parts:
        raise InputError(f"{path} holds no detections: no {', '.join(SUFFIXES)}, nor folders of .json")
    names = [part.stem for part in parts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{path}: two videos would be called {twice[0]}; rename one")
    return dict(zip(names, parts, strict=True))


def is_one_video(folder: Path) -> bool:
    """Whether a folder's files are the frames of one video: OpenPose's, or MMPose's of images."""
    files = json_files(folder)
    if not files or any(folder.glob("*.np[zy]")):
        return False
    try:
        return is_one_frame(load_json(files[0]))
    except InputError:
        return False


def size_of(args: argparse.Namespace, found: KeypointFile, path: Path) -> tuple[int, int]:
    size = args.image_size or found.size
    if size is None:
        raise InputError(f"{path} does not say how large the pictures are: give --image-size WIDTHxHEIGHT")
    return size


def keypoints(
    args: argparse.Namespace, sources: dict[str, Path], found: dict[str, KeypointFile]
) -> tuple[str, dict[str, np.ndarray]]:
    """The layout to write, and the keypoints (T, 17, 2) float32 of every video in it."""
    if args.joints != "h36m":
        coco = {name: coco_keypoints(file, args.thr, args.smooth) for name, file in found.items()}
        without = [str(sources[name]) for name, points in coco.items() if points is None]
        if not without:
            return "coco", coco
        if args.joints == "coco":
            raise InputError(f"{', '.join(without)}: no eyes and ears, which COCO's joints need; use --joints h36m")
    return "h36m", {name: file.points for name, file in found.items()}


def make_statistics(folder: Path) -> None:
    """Write the table beside `common.video.report`."""
    ensure(folder, seed=None)
    train = load_pose_set(folder, "synthetic", "gt", TRAIN_SUBJECTS, downsample=20)
    width, height = train.resolution[train.sequence.long()].double().numpy().T
    table = report.statistics(train.keypoints.double().numpy(), width, height)
    table = {"made by": "python data/prepare_data_2d_custom.py --statistics", **table}
    write_atomic(report.STATISTICS, lambda file: file.write((json.dumps(table) + "\n").encode()))
    print(f"{table['poses']} poses: {report.STATISTICS}")


if __name__ == "__main__":
    run_script(main)
