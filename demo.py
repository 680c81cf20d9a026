"""Lift the 2D pose of a picture to 3D with an adversarial lifter, and draw it from all sides.

    python demo.py --input IMAGE --method gan --ckpt FILE --keypoints FILE [--output demo_out]
    python demo.py --ckpt FILE --keypoints FOLDER                   OpenPose's files of a video: also a film

2D poses come from a file: OpenPose's, COCO's or AlphaPose's JSON, .npz or .npy, in COCO's, OpenPose's or Human3.6M's
joints (--layout). Writes openpose_detect.jpg (the 2D pose over the picture), rot_000_degree.png to rot_345_degree.png
(a view every 15 degrees), turning.gif, pose_3d.npz, and of a sequence film.gif. The 3D pose has no unit: Kudo's
joints are 1 from the hip on average across the image, Chen's heads 1 from it over the training set.
"""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import models
from common import checkpoint, gan_checkpoint, running, turntable
from common.errors import InputError
from common.keypoint_files import LAYOUT_NAMES, KeypointFile, read_keypoints
from common.npz import save_npz
from common.options import Parser, number
from common.skeleton import H36M_17
from models.gan_losses import normalize_2d
from models.gan_predict import Predicted, predictor

BATCH = 1 << 14
JOINTS = H36M_17.num_joints
# Published options of the Caffe network that found the 2D pose.
CAFFE = {
    "proto2d": "Caffe's network description",
    "model2d": "Caffe's weights",
    "dataset": "Caffe's joints, COCO or MPI",
}


def options_parser() -> Parser:
    parser = Parser(__doc__)
    parser.add_argument(
        "--input", type=Path, metavar="IMAGE", help="picture, animated picture or folder of frames; none: blank paper"
    )
    parser.add_argument("--method", choices=("gan",), default="gan", help="how the pose is lifted")
    parser.add_argument(
        "--ckpt", type=Path, required=True, metavar="FILE", help="of train_gan.py, Lightning's or Kudo's .npz"
    )
    parser.add_argument(
        "--keypoints", type=Path, metavar="FILE", help="2D pose: .json, .npz, .npy, or a folder of JSON"
    )
    parser.add_argument(
        "--layout", metavar="NAME", help=f"joints of the 2D pose: {', '.join(LAYOUT_NAMES)} (else found)"
    )
    parser.add_argument(
        "--thr", type=number(float, 0), default=0.1, help="a joint seen with less confidence is missing"
    )
    parser.add_argument("--frame", type=number(int, 0), default=0, help="of a sequence, the one shown from all sides")
    parser.add_argument("--fps", type=number(float, 0.1), default=25.0, help="frames per second of a sequence")
    parser.add_argument("--output", type=Path, default=Path("demo_out"), metavar="DIR", help="where the pictures go")
    parser.add_argument("--width", type=number(int, 1), default=368, help="of a 2D model's input; keypoints need none")
    parser.add_argument("--height", type=number(int, 1), default=368, help="of a 2D model's input; keypoints need none")
    for name, text in CAFFE.items():
        parser.add_argument(f"--{name}", metavar="TEXT", help=f"{text}: refused, see --keypoints")
    parser.add_run_options()
    return parser


def main() -> None:
    parser = options_parser()
    args = parser.parse_args()
    check_options(parser, args)
    run = running.start(args)
    found = read_keypoints(args.keypoints, args.layout, args.thr)
    count = len(found.points)
    if args.frame >= count:
        raise InputError(f"--frame {args.frame}: {args.keypoints} has frames 0 to {count - 1}")
    images = turntable.Pictures(args.input) if args.input else None
    if images is not None and len(images) not in (1, count):
        raise InputError(f"{args.input} has {len(images)} pictures, {args.keypoints} {count} frames; expected as many")
    poses = gan_lift(args.ckpt, torch.from_numpy(found.points), run).cpu().numpy()
    if not run.is_main:
        return
    print(f"{args.keypoints}: {count} frame{'s' * (count > 1)} in the layout {found.layout_found}")
    files = draw(found, poses, images, args)
    print(f"{len(files)} files in {args.output}: {', '.join(file.name for file in (files[0], files[1], *files[-3:]))}")


def check_options(parser: Parser, args: Namespace) -> None:
    """Refuse what needs a 2D network, which this framework does not have yet."""
    caffe = [f"--{name}" for name in CAFFE if getattr(args, name) is not None]
    if caffe:
        parser.error(
            f"{', '.join(caffe)}: there is no Caffe here; run OpenPose or another 2D model on the picture and give its "
            "file as --keypoints FILE"
        )
    if args.keypoints is None:
        parser.error("which 2D pose? there is no 2D model here yet: give --keypoints FILE (OpenPose, COCO, AlphaPose)")


def gan_lift(file: Path, points: torch.Tensor, run: running.Run) -> torch.Tensor:
    """2D poses (T, 17, 2), pixels -> (T, 17, 3), camera frame, the hip at the origin, in the lifter's own unit."""
    if not normalize_2d(points).isfinite().all():
        raise InputError("a 2D pose has all joints in one place, so that it has no size; choose another file")
    lift = load_lifter(file, run.device)
    with torch.inference_mode():
        poses = torch.cat([lift(part.to(run.device)).pose for part in points.split(BATCH)])
    return poses - poses[:, :1]


def load_lifter(file: Path, device: torch.device) -> Callable[[torch.Tensor], Predicted]:
    """The lifter of train_gan.py's checkpoint, or of the published files, which are for an orthographic camera."""
    found = gan_checkpoint.load(file)
    if found.generator.sizes.get("joints", JOINTS) != JOINTS:
        raise InputError(f"{file} lifts {found.generator.sizes['joints']} joints; expected {JOINTS}")
    lifter = models.create(found.generator.name, **found.generator.sizes)
    checkpoint.load_weights(lifter, found.generator.state, file)
    return predictor(lifter.to(device).eval(), found.method, found.factor)


def draw(found: KeypointFile, poses: np.ndarray, images: turntable.Pictures | None, args: Namespace) -> list[Path]:
    """All pictures of poses (T, 17, 3), and the numbers; -> the files written."""
    folder, t = args.output, args.frame
    image = None if images is None else images[t if len(images) > 1 else 0]
    files = [
        turntable.save_overlay(folder / "openpose_detect.jpg", found.points[t], image),
        *turntable.save_views(folder, poses[t]),
        turntable.save_turning_gif(folder / "turning.gif", poses[t]),
    ]
    if len(poses) > 1:
        files.append(turntable.save_film(folder / "film.gif", found.points, poses, images, fps=args.fps))
    save_npz(
        folder / "pose_3d.npz",
        poses=poses,
        keypoints=found.points,
        confidence=found.confidence,
        frames=np.array(found.frames),
    )
    return [*files, folder / "pose_3d.npz"]


if __name__ == "__main__":
    running.run_script(main)
