"""Score an adversarial lifter, beside what knows nothing of depth (Kudo et al. 2018; Chen et al., CVPR 2019).

    python test_gan.py --dataset cmu --ckpt checkpoint/gan/best-model.ckpt
    python test_gan.py --dataset h36m --ckpt gen_epoch_500.npz                  Kudo's released chainer generator
    python test_gan.py --dataset h36m --ckpt pretrained_model.ckpt              the reproduction's Lightning file
    python test_gan.py --dataset synthetic --ckpt FILE --allow_inversion        the first line is of the better mirrors

Prints the errors by action, and a table with the trivial poses: all depths zero, and the mean training pose. Writes
results.json (and a GIF with --vis) beside the checkpoint, or into --output.
"""

from common.run.entry import run_script

import logging
from pathlib import Path

import torch

import models
from common import metrics
from common.draw import animation
from common.draw import page as vis_html
from common.draw.scene import camera_azimuth, to_z_up
from common.draw.tables import write_json
from common.errors import InputError
from common.files.names import file_name
from common.run import checkpoint
from common.run.run import start
from methods.adversarial import checkpoint as gan_checkpoint
from methods.adversarial import evaluation, options
from models.adversarial.geometry import predictor

GIF_STEP = 2  # frames of 50 a second between pictures


def main() -> None:
    args = options.testing_parser(__doc__).parse_args()
    args.keypoints = "sh_detect" if args.use_sh_detection else args.keypoints
    run = start(args)
    predict, what = load(args.ckpt, run.device)
    test = evaluation.load_test(args, run.device)
    if test is None:
        raise InputError(
            f"--dataset {args.dataset} has no 3D poses to score on: name a set that has with --test_dataset"
        )
    folder = args.output or args.ckpt.parent / f"{args.ckpt.stem}_{evaluation.test_name(args)}_{args.keypoints}"

    results = {
        what: evaluation.score(predict, test, run),
        "all depths zero": evaluation.score(evaluation.no_depth, test, run),
    }
    try:
        mean = evaluation.load_test(args, run.device, args.subjects_train).relative.mean(0)
        results["mean training pose"] = evaluation.score(evaluation.always(mean), test, run)
    except InputError as error:
        logging.warning("no mean training pose to compare with: %s (--subjects-train)", error)
    if not run.is_main:
        return
    name = "Kudo error mirror" if args.allow_inversion else "Kudo error"
    print(
        f"{name}: {results[what][name].mean():.2f} mm (published error; {evaluation.test_name(args)} {test.summary()})"
    )
    text, content = evaluation.report(args, test, results)
    print(text, flush=True)
    write_json(folder / "results.json", content)
    if args.vis:
        print(f"picture: {picture(args, predict, test, folder, what)}")
    if args.vis_html:
        print(f"page: {page(args, predict, test, what)}")
    print(f"results in {folder}")


def load(path: Path, device: torch.device) -> tuple[evaluation.Predict, str]:
    """The lifter in one of our checkpoints or of the published ones, and what it is."""
    found = gan_checkpoint.load(path)
    generator = found.generator
    lifter = checkpoint.build(lambda: models.create(generator.name, **generator.sizes), generator.state, path)
    checkpoint.load_weights(lifter, found.generator.state, path)
    what = found.method if found.source == "train_gan" else f"{found.source} {found.generator.name}"
    return predictor(lifter.to(device).eval(), found.method, found.factor), what


@torch.no_grad()
def picture(args, predict: evaluation.Predict, test, folder: Path, what: str) -> Path:
    """A GIF of 2D input, prediction and truth; the prediction at the truth's size, not turned."""
    sequence = test.sequences[0]
    rows = slice(sequence.start, sequence.start + min(sequence.length, GIF_STEP * args.vis_frames), GIF_STEP)
    keypoints, target = test.keypoints[rows], test.poses[rows] - test.poses[rows, :1]
    pose = predict(keypoints)[0].float()
    pose = evaluation.at_true_size(pose - pose[:, :1], target)
    orientation = sequence.camera.orientation
    who = file_name(f"{sequence.subject}_{sequence.action}")
    path = folder / f"{args.ckpt.stem}_{who}_camera{sequence.view}.gif"
    animation.save_animation(
        path, [keypoints.cpu(), *(to_z_up(p.cpu(), orientation) for p in (pose, target))],
        [f"2D input ({args.keypoints})", what, f"truth: {sequence.subject} {sequence.action}"], test.skeleton,
        fps=50 / args.downsample / GIF_STEP, errors=1000 * metrics.mpjpe(pose, target).cpu().numpy(),
        metric="MPJPE at true size", azimuth=camera_azimuth(orientation),
    )  # fmt: skip
    return path


@torch.no_grad()
def page(args, predict: evaluation.Predict, test, what: str) -> Path:
    """A page for the browser of the first test sequence: pose and depth mirror at the truth's size, and the truth."""
    rows = vis_html.rows(test.sequences[0])
    target = test.poses[rows] - test.poses[rows, :1]
    found = [pose.float() for pose in predict(test.keypoints[rows])]
    poses = [evaluation.at_true_size(pose - pose[:, :1], target) for pose in found]
    named = dict(zip((what, f"{what}, depth mirrored"), poses, strict=True))
    return vis_html.write_recording(
        args.vis_html, test, test.sequences[0], named, target, fps=50 / args.downsample, metric="MPJPE at true size",
        errors={name: 1000 * metrics.mpjpe(pose, target) for name, pose in named.items()},
        about=f"{evaluation.test_name(args)}, 2D input {args.keypoints}",
    )  # fmt: skip


if __name__ == "__main__":
    run_script(main)
