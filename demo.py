"""Find the 3D pose of a person: in a video or pictures, or from 2D keypoints, with any lifter; and draw it.

    python demo.py --input VIDEO       or an image, a folder of them: BlazePose's 2D poses, the best released lifter
    python demo.py --demo IMAGE_OR_FOLDER --load_model FILE [--gpus -1]         image-to-3D network (hourglass)
    python demo.py --input IMAGE --method gan --ckpt FILE --keypoints FILE [--output demo_out]
    python demo.py --method mlp --ckpt FILE --keypoints FOLDER --image-size 1920x1080     a video, any other lifter
    python demo.py --input VIDEO --load_model FILE --ckpt FILE     2D poses by an image network, then any lifter

hourglass: takes images with one person in the middle, cut out to fill them. Writes NAME_pose.png (the 2D pose over the
image, the 3D pose beside it), NAME_turning.gif, and poses.npz.

teacher, student, mlp, gcn, videopose, stgcn, gan: without --method what the checkpoint holds. 2D poses come from a file
of OpenPose, COCO (Detectron2), AlphaPose, MMPose or Ultralytics (JSON), of VideoPose3D's inference, or .npz or .npy, in
any layout of common/video/layouts.py. One person is followed and gaps are filled in; what was found is told joint by
joint, with a warning of what does not look like the training set. Writes poses.npz, .json, .bvh, .csv, .trc, .glb
(upright, metres), film.gif, and film.mp4 where there is PyAV or ffmpeg. Without --keypoints the 2D poses are found in
--input, a video (by PyAV, or ffmpeg on the PATH), a folder of frames, an image: by BlazePose (pip install -r
requirements-video.txt; two files are fetched at the first run), by rtmlib, or, with --load_model, by a network of
train_hourglass.py.

gan: writes besides openpose_detect.jpg (the 2D pose over the picture), rot_000_degree.png to rot_345_degree.png (a view
every 15 degrees), turning.gif, and pose_3d.npz, which has no unit: Kudo's joints are 1 from the hip on average across
the image, Chen's heads 1 from it over the training set. Of a single picture it writes nothing else,
unless --vis-html asks for a page.
"""

from common.run.entry import run_script

import logging
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np

from common.draw import turntable  # fmt: skip
from common.errors import InputError
from common.files.npz import save_npz
from common.images.decode import REFINEMENTS
from common.run.gpus import gpu_numbers, start_on_gpus
from common.run.options import Parser, number, saved_file
from common.run.run import Run, start  # fmt: skip
from common.video import find, frames  # fmt: skip
from common.video.frames import Pictures
from common.video.read import LAYOUT_NAMES, KeypointFile
from methods import detectors, lifters, released, several_people, video_lifting  # fmt: skip
from methods.hourglass import pictures

OPTIONS = (
    ("--input", Path, None, "picture, video or folder of frames; none: blank paper", "IMAGE"),
    ("--method", ("hourglass", *lifters.METHODS), None,
     "how the pose is found; default: hourglass with --demo, else the lifter that the checkpoint holds"),
    ("--demo", Path, None, "hourglass: an image or a folder of images", "IMAGE"),
    ("--load_model", str, "",
     "of train_hourglass.py or released: for hourglass, or the 2D model in front of a lifter", "FILE"),
    ("--gpus", str, "", "hourglass: 0: that GPU, -1: the CPU", "N"),
    ("--refine", REFINEMENTS, "taylor", "hourglass: where on the map a joint is"),
    ("--ckpt", saved_file, None,
     "trained lifter: a file, or released/NAME for one of this repository; default: the best of those", "FILE"),
    ("--keypoints", Path, None, "2D pose: .json, .npz, .npy, or a folder of JSON", "FILE"),
    ("--layout", str, None, f"joints of the 2D pose: {', '.join(LAYOUT_NAMES)} (else found)", "NAME"),
    ("--thr", number(float, 0), 0.1, "a joint of less confidence is missing; Detectron's are low: 0.02"),
    ("--frame", number(int, 0), 0, "of a sequence, the one shown from all sides"),
    ("--fps", number(float, 0.1), None, "frames per second; default: as the file says, else 25"),
    ("--output", Path, "demo_out", "where the pictures go", "DIR"),
)  # fmt: skip
# Of the published demo's 2D model: the input's size, which keypoints do not need; Caffe's network, weights and joints.
INPUT_SIZE = (("--width", number(int, 1), 368, "pixels"),)
CAFFE = (("--proto2d", str, None, "network"), ("--model2d", str, None, "weights"), ("--dataset", str, None, "joints"))
NO_CAFFE = (
    "there is no Caffe here; give the file of another 2D model as --keypoints FILE, or a network of this framework as "
    "--load_model FILE"
)


def options_parser() -> Parser:
    parser = Parser(__doc__)
    parser.add_table("Input and method", OPTIONS)
    parser.add_table("2D poses of pictures", detectors.OPTIONS)
    parser.add_table("Keypoints of a video", video_lifting.OPTIONS)
    parser.add_run_options(training=False, draws=False)
    parser.accept(INPUT_SIZE)
    parser.refuse(NO_CAFFE, CAFFE)
    return parser


def main() -> None:
    parser = options_parser()
    args = parser.parse_args()
    args.method = args.method or ("hourglass" if args.demo else None)
    if args.method == "hourglass":
        return from_images(parser, args)
    check_options(parser, args)
    run = start(args)
    saved = lifters.load(args.ckpt, args.method, args.causal)
    with frames.opened(args.input) as images:
        from_keypoints(args, run, saved, images)


def from_keypoints(args: Namespace, run: Run, saved: lifters.SavedLifter, images: Pictures | None) -> None:
    """Lift what a file holds, or what the 2D model finds in the pictures."""
    raw = None if args.keypoints else detectors.find_poses(args, run, images)
    if args.people != 1:
        files, report = several_people.write_all(args, run, saved, images, raw)
        print(report)
        return told(files, args.output)
    found, size, fps, report = video_lifting.read(args, images, saved, raw)
    images = None if images is None else images.part(slice(found.rows.start, found.rows.stop))
    print(report)
    count = len(found.points)
    if args.frame >= count:
        raise InputError(f"--frame {args.frame}: there are frames 0 to {count - 1}")
    poses = video_lifting.lift(saved, args.ckpt, found, size, run, args.focal, args.detectors_3d)
    if not run.is_main:
        return
    files = []
    if saved.method == "gan":
        files = draw(found, poses, images, args, fps)
    if saved.method != "gan" or count > 1 or args.vis_html:
        written, how = video_lifting.write(args.output, found, poses, saved.method, fps, args, images, not files)
        print(how)
        files += written
    told(files, args.output)


def told(files: list[Path], folder: Path) -> None:
    names = [str(file.relative_to(folder)) if folder in file.parents else file.name for file in files]
    print(f"{len(files)} files in {folder}: {', '.join(names if len(names) < 9 else names[:2] + names[-6:])}")


def check_options(parser: Parser, args: Namespace) -> None:
    """Refuse 2D poses from nowhere or from two sides; fill in the detector and the lifter."""
    if args.keypoints and (args.load_model or args.detector):
        other = "--load_model" if args.load_model else "--detector"
        parser.error(f"both --keypoints and {other} give 2D poses: leave one out")
    if args.keypoints is None and args.input is None:
        parser.error("which person? give --input VIDEO (an image, a folder), or --keypoints FILE (OpenPose, COCO, ...)")
    args.detector = args.detector or ("hourglass" if args.load_model else "blazepose")
    if (args.detector == "hourglass") != bool(args.load_model) and not args.keypoints:
        parser.error("--detector hourglass and --load_model FILE, a network of train_hourglass.py, go together")
    args.ckpt = args.ckpt or released.best()


def draw(found: KeypointFile, poses: np.ndarray, images: Pictures | None, args: Namespace, fps: float) -> list[Path]:
    """All published pictures of poses (T, 17, 3), and the numbers; -> the files written."""
    folder, t = args.output, args.frame
    image = None if images is None else images[t if len(images) > 1 else 0]
    files = [
        turntable.save_overlay(folder / "openpose_detect.jpg", found.points[t], image),
        *turntable.save_views(folder, poses[t]),
        turntable.save_turning_gif(folder / "turning.gif", poses[t]),
    ]
    if len(poses) > 1:
        rows = video_lifting.shown_rows(found, fps)
        pictures_shown = video_lifting.chosen(images, rows)
        files.append(turntable.save_film(folder / "film.gif", found.points[rows], poses[rows], pictures_shown, fps=fps))
    save_npz(
        folder / "pose_3d.npz",
        poses=poses,
        keypoints=found.points,
        confidence=found.confidence,
        frames=np.array(found.frames),
        times=found.seconds(fps),
        fps=np.array(fps),
    )
    return [*files, folder / "pose_3d.npz"]


# ------------------------------------------------------------ images


def from_images(parser: Parser, args: Namespace) -> None:
    """`--method hourglass`: the poses in every image that can be read."""
    source = args.demo or args.input
    if source is None or not args.load_model:
        parser.error("hourglass takes --demo IMAGE_OR_FOLDER and --load_model FILE")
    if args.gpus.strip() == "-1":
        args.device = "cpu"
    if len(gpu_numbers(args.gpus)) > 1:
        parser.error(f"--gpus {args.gpus}: the demo takes one, or -1 for the CPU")
    run = start_on_gpus(args, sys.argv)
    files = pictures.image_files(source)
    finder, has_depths = detectors.load_finder(args, run)
    if not has_depths:
        logging.warning("%s has no depths (stage 1): 2D poses only", args.load_model)
    names, found = pictures.picture_names(files), {}
    for file, image in run.progress(pictures.readable_images(files), len(files), "images"):
        found[file] = find.find(finder, [image], find.whole_picture(image.size, finder)[None])
        pictures.save_pose(args.output, names[file], image, found[file])
    if not found:
        raise InputError(f"none of {len(files)} file{'s' * (len(files) > 1)} of {source} could be read as an image")
    pictures.save_poses(args.output / "poses.npz", found)
    if args.vis_html:
        print(f"page: {pictures.save_page(args.vis_html, found)}")
    print(f"{len(found)} of {len(files)} images; results in {args.output}")


if __name__ == "__main__":
    run_script(main)
