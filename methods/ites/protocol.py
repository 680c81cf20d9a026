"""What the four ITES scripts share: the published options, the network's input, saving and resuming, scores, pictures.

Xu et al., "Invariant Teacher and Equivariant Student for Unsupervised 3D Human Pose Estimation", AAAI 2021.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from common import metrics
from common.datasets.h36m_layout import ites_keypoints, load_pose_set
from common.draw import animation, page, tables
from common.draw.scene import camera_azimuth, to_z_up
from common.errors import InputError
from common.h36m import TEST_LIST, TRAIN_LIST
from common.pose_set import PoseSet, Sequence
from common.run import checkpoint
from common.run.options import Parser, number
from common.run.run import Run
from common.synthetic.dataset import ensure_named

PROTOCOL = "ITES protocol (scale from the truth, better of the two depth mirrors per pose)"
PLAIN = (
    "root-relative, no choice of mirror or scale by the truth; the network does not know the size of a body, so plain "
    "MPJPE reads its unit as metres and N-MPJPE is the one to compare"
)
CHUNK = 2048  # poses scored at once: the activations of a chunk stay in cache
RECORDED_FPS, GIF_FPS = 50.0, 25.0

Predict = Callable[[Tensor], Tensor]  # keypoints (B, 17, 2) -> poses (B, 17, 3)


def parser(description: str) -> Parser:
    """The published options, one set for all four scripts, plus those of `common.running`."""
    parser = Parser(description)
    data = parser.add_argument_group("Data")
    data.add_argument(
        "-d",
        "--dataset",
        default="h36m",
        metavar="NAME",
        help="reads data_3d_NAME.npz and data_2d_NAME_KEYPOINTS.npz; 'synthetic' is made on first use",
    )
    data.add_argument(
        "-k", "--keypoints", default="cpn_ft_h36m_dbb", metavar="NAME", help="2D input: gt or a detector's name"
    )
    data.add_argument("--data-dir", type=Path, default=Path("data"), metavar="DIR", help="where the .npz files lie")
    data.add_argument("-str", "--subjects-train", default=TRAIN_LIST, metavar="LIST", help="training subjects")
    data.add_argument("-ste", "--subjects-test", default=TEST_LIST, metavar="LIST", help="test subjects")
    data.add_argument("-a", "--actions", default="*", metavar="LIST", help="actions by name or beginning, * for all")
    data.add_argument("--subset", type=number(float, 0, 1), default=1.0, help="share of each sequence")
    data.add_argument("--downsample", type=number(int, 1), default=1, help="use every n-th frame")
    data.add_argument(
        "-nw",
        "--num_workers",
        type=number(int, 0),
        default=8,
        help="accepted as published; nothing to do, since the data lies on the device",
    )

    paths = parser.add_argument_group("Files")
    paths.add_argument(
        "-c",
        "--checkpoint",
        type=Path,
        default=Path("checkpoint"),
        metavar="PATH",
        help="training: the run's folder; testing: the checkpoint file",
    )
    paths.add_argument(
        "--teacher_checkpoint",
        type=Path,
        default=Path("checkpoint/teacher/ckpt_teacher.bin"),
        metavar="FILE",
        help="trained teacher (student training)",
    )
    paths.add_argument(
        "-r",
        "--resume",
        default="",
        metavar="FILE",
        help="continue a run exactly; last.bin or another checkpoint of the run, or its folder",
    )

    network = parser.add_argument_group("Network")
    network.add_argument("--n-fully-connected", type=number(int, 4), default=1024, help="teacher: width")
    network.add_argument("--n-layers", type=number(int, 0), default=6, help="teacher: residual blocks")
    network.add_argument("--dict-basis-size", type=number(int, 1), default=12, help="teacher: dictionary atoms")
    network.add_argument(
        "--weight-init-std", type=number(float, 0), default=0.01, help="teacher: of the initial weights"
    )
    network.add_argument("--n-blocks", type=number(int, 1), default=4, help="student: residual blocks")
    network.add_argument("--hid-dim", type=number(int, 2), default=128, help="student: channels")
    network.add_argument(
        "-drop",
        "--dropout",
        type=number(float, 0, 1),
        default=0.25,
        help="accepted as published, and ignored as published: the student trains without dropout",
    )

    training = parser.add_argument_group("Training")
    training.add_argument("-e", "--epochs", type=number(int, 1), default=50, help="number of epochs")
    training.add_argument("-b", "--batch-size", type=number(int, 2), default=128, help="of all processes together")
    training.add_argument("-lr", "--learning-rate", type=number(float, 0), default=0.001, help="of SGD")
    training.add_argument(
        "-lrd", "--lr-decay", type=number(float, 0), default=0.5, help="factor on the rate at each decay"
    )
    training.add_argument("-decay", "--epoch-lr-decay", type=number(int, 1), default=15, help="epochs between decays")
    training.add_argument("--momentum", type=number(float, 0, 1), default=0.9, help="of SGD")
    training.add_argument("--weight-decay", type=number(float, 0), default=0.0005, help="of SGD, on all parameters")
    training.add_argument(
        "--reploss-weight",
        type=number(float, 0),
        default=5.0,
        help="weight of the teacher's reprojection, the student's depth loss",
    )
    training.add_argument("--no-eval", action="store_true", help="do not score the test subjects after each epoch")

    testing = parser.add_argument_group("Testing")
    testing.add_argument(
        "--evaluate", action="store_true", help="score the checkpoint (test scripts; also without --vis and --vis-html)"
    )
    testing.add_argument("--vis", action="store_true", help="write GIFs of input, prediction and truth (test scripts)")
    testing.add_argument("--vis-subject", default="", metavar="LIST", help="subjects to draw; default: the first")
    testing.add_argument("--vis-action", default="", metavar="LIST", help="actions to draw; default: the first")
    testing.add_argument("--vis-camera", type=number(int, 0), default=0, metavar="N", help="camera to draw")
    testing.add_argument(
        "--vis-frames", type=number(int, 1), default=100, metavar="N", help="length of a GIF, in pictures"
    )
    page.add_option(testing)
    testing.add_argument(
        "--output",
        type=Path,
        default=None,
        metavar="DIR",
        help="for results.json and GIFs; default: a folder beside the checkpoint, named by data and 2D input",
    )
    parser.add_run_options()
    return parser


def check_options(parser: Parser, args: Any, training: bool) -> None:
    """Refuse what a script cannot do."""
    if args.resume and (args.evaluate or not training):
        parser.error("--resume and --evaluate exclude each other: --resume trains on, the test scripts evaluate")
    if training and (args.evaluate or args.vis or args.vis_html):
        parser.error(
            "--evaluate, --vis and --vis-html belong to the test scripts; training scores every epoch by itself"
        )


class Progress(NamedTuple):
    """Where a run stands: finished epochs, steps done in the next, their loss sums, best test MPJPE so far."""

    epoch: int = 0
    step: int = 0
    losses: dict[str, Any] | None = None
    best: float | None = None


def resume(
    args: Any, model: torch.nn.Module, optimizer: torch.optim.Optimizer, run: Run, teacher: str | None = None
) -> Progress:
    """Put a run back as `--resume` says. A published checkpoint, which holds no random state, resumes at its epoch.

    `teacher` is the `digest` of the student's teacher: an exact resume needs the same one.
    """
    if not args.resume:
        return Progress()
    path = checkpoint.state_file(args.resume, "last.bin", args.checkpoint)
    saved = checkpoint.load(path, run.device)
    checkpoint.check_options(saved.get("options", {}), args)
    checkpoint.load_weights(model, weights(saved, path), path)
    if saved.get("teacher", teacher) != teacher:
        raise InputError(f"{path} was distilled from another teacher than the one in {args.teacher_checkpoint} now")
    if "optimizer" in saved:
        checkpoint.load_optimizer(optimizer, saved["optimizer"], path)
    if "rng" in saved:
        run.set_rng_state(saved["rng"])
    run.last_checkpoint = path
    progress = Progress(saved.get("epoch", 0), saved.get("step", 0), saved.get("losses"), saved.get("best"))
    whole = isinstance(progress.epoch, int) and isinstance(progress.step, int)
    if not (
        whole
        and (progress.losses is None or {"sums", "rows"} <= progress.losses.keys())
        and isinstance(progress.best, float | None)
    ):
        raise InputError(f"{path}: the state of the run is damaged; resume from another checkpoint")
    checkpoint.check_epochs(path, progress.epoch, args.epochs)
    return progress


def training_state(
    args: Any,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    run: Run,
    progress: Progress,
    teacher: str | None = None,
) -> dict[str, Any]:
    """A checkpoint: the published keys (`lr` is the rate of the next step), then what an exact resume needs."""
    return {
        "epoch": progress.epoch, "lr": optimizer.param_groups[0]["lr"], "optimizer": optimizer.state_dict(),
        "model_pos": model.state_dict(), "step": progress.step, "losses": progress.losses, "best": progress.best,
        "rng": run.rng_state(), "options": checkpoint.options_json(args), "teacher": teacher,
    }  # fmt: skip


def save_epoch(folder: Path, names: tuple[str, str], state: dict[str, Any], run: Run) -> None:
    """Save a finished epoch under its published name, as the newest, and for --resume."""
    for name in (*names, "last.bin"):
        run.save(folder / name, state)


def digest(model: torch.nn.Module) -> str:
    """A short fingerprint of a network's weights."""
    code = hashlib.blake2b(digest_size=8)
    for tensor in model.state_dict().values():
        code.update(tensor.cpu().numpy().tobytes())
    return code.hexdigest()


def final_line(row: dict[str, float], best: float | None, test: "ScaledSplit | None", args: Any) -> str:
    """The last line of a training run: what was reached, by which protocol, and where everything lies."""
    if test is None:
        return f"results in {args.checkpoint}"
    scores = f"MPJPE {row['MPJPE']:.1f} (best {best:.1f}), P-MPJPE {row['P-MPJPE']:.1f} mm"
    what = f"{test.pose_set.summary()}, 17 joints, 2D input {args.keypoints}, {PROTOCOL}"
    return f"{scores}; {what}; results in {args.checkpoint}"


def weights(saved: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """The network's state dict in a checkpoint."""
    if "model_pos" not in saved:
        found = ", ".join(map(str, saved))
        raise InputError(f"{path} is no ITES checkpoint: found the keys {found}, expected model_pos")
    return saved["model_pos"]


class ScaledSplit(NamedTuple):
    """The poses of some subjects and the network's input: (N, 17, 2), focal-normalised, scaled over the split."""

    pose_set: PoseSet
    keypoints: Tensor

    def targets(self) -> Tensor:
        """True poses (N, 17, 3), metres, camera frame."""
        if self.pose_set.poses is None:
            raise InputError("these files hold no 3D poses to compare with")
        return self.pose_set.poses


def load(args: Any, subjects: str, device: torch.device, training: bool = False) -> ScaledSplit:
    """Read the split of `subjects` as the options say; for training without the true poses, which it never reads."""
    ensure_named(args.data_dir, args.dataset)
    pose_set = load_pose_set(
        args.data_dir, args.dataset, args.keypoints, subjects, args.actions,
        subset=args.subset, downsample=args.downsample, device=device,
    )  # fmt: skip
    if training:
        pose_set = replace(pose_set, poses=None)
    return ScaledSplit(pose_set, ites_keypoints(pose_set).to(device))


@torch.no_grad()
def score(predict: Predict, split: ScaledSplit, run: Run) -> dict[str, Tensor]:
    """Errors of every pose, (N,) millimetres each, on the CPU.

    MPJPE and P-MPJPE by the published protocol; "plain" ones root-relative without any choice of mirror or scale from
    the truth. The networks do not know the size of a body, so plain MPJPE reads their unit as metres: compare N-MPJPE.
    """
    targets = split.targets()
    names = ("MPJPE", "P-MPJPE", "plain MPJPE", "plain N-MPJPE", "plain P-MPJPE")
    errors = torch.zeros(len(targets), len(names), device=targets.device)
    for rows in run.shard(torch.arange(len(targets), device=targets.device)).split(CHUNK):
        with run.autocast():
            pose = predict(split.keypoints[rows.to(run.device)]).float()
        target = targets[rows].to(run.device)
        published = metrics.ites_evaluation(pose, target)
        pose, target = pose - pose[:, :1], target - target[:, :1]
        plain = metrics.mpjpe(pose, target), metrics.n_mpjpe(pose, target), published.p_mpjpe_pose
        errors[rows] = torch.stack((published.mpjpe, published.p_mpjpe, *plain), -1).to(errors)
    errors = 1000 * run.world_size * run.average(errors)  # other processes' rows are zero here
    return dict(zip(names, errors.cpu().unbind(-1), strict=True))


def output_folder(args: Any) -> Path:
    """Where a test script writes: --output, or a folder beside the checkpoint that is named by what is scored."""
    parts = [args.checkpoint.stem, args.dataset, args.keypoints]
    parts += [args.subjects_test] * (args.subjects_test != TEST_LIST) + [args.actions] * (args.actions != "*")
    parts += [f"{name}{value:g}" for name in ("downsample", "subset") if (value := getattr(args, name)) != 1]
    return args.output or args.checkpoint.parent / re.sub(r"[^\w.,-]+", "-", "_".join(parts))


def report(name: str, errors: dict[str, Tensor], split: ScaledSplit, args: Any) -> tuple[str, dict[str, Any]]:
    """The scores as text for the console and as the content of `results.json`."""
    results = tables.summaries(errors, split.pose_set)
    what = f"{args.dataset} {split.pose_set.summary()}, 17 joints, 2D input {args.keypoints}"
    content = {
        "method": f"ITES {name}", "checkpoint": str(args.checkpoint), "dataset": args.dataset,
        "keypoints": args.keypoints, "subjects": args.subjects_test, "actions_asked_for": args.actions,
        "downsample": args.downsample, "subset": args.subset, "joints": 17,
        "unit": "mm", "protocol": {"MPJPE, P-MPJPE": PROTOCOL, "plain": PLAIN}, **tables.results_dictionary(results),
    }  # fmt: skip
    lines = [f"{what}; millimetres, mean over frames; {PROTOCOL}:"]
    lines += [f"{metric}: {results[metric].frame_wise:.2f}" for metric in ("MPJPE", "P-MPJPE")]
    return "\n".join((*lines, "", f"plain: {PLAIN}", tables.action_table(results))), content


def chosen_sequences(split: ScaledSplit, args: Any) -> list[Sequence]:
    """The sequences that --vis-subject, --vis-action and --vis-camera name; by default the first."""
    in_view = [s for s in split.pose_set.sequences if s.view == args.vis_camera]
    if not in_view:
        views = sorted({s.view for s in split.pose_set.sequences})
        raise InputError(f"--vis-camera {args.vis_camera}: no such camera; there are {', '.join(map(str, views))}")
    chosen = []
    for subject in _names(args.vis_subject) or [in_view[0].subject]:
        own = [s for s in in_view if s.subject == subject]
        if not own:
            raise InputError(f"--vis-subject {subject}: not among the test subjects ({args.subjects_test})")
        for action in _names(args.vis_action) or [own[0].action]:
            start = split.pose_set.find(subject, action, args.vis_camera).start
            chosen.append(next(s for s in own if s.start == start))
    return chosen


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


@torch.no_grad()
def draw_sequences(predict: Predict, split: ScaledSplit, args: Any, folder: Path, name: str) -> list[Path]:
    """Write one GIF for each chosen sequence, at its true speed: 2D input, aligned prediction, truth.

    The prediction is aligned frame by frame as published for pictures (`metrics.calibrate_by_procrustes`).
    """
    pose_set, targets = split.pose_set, split.targets()
    step = max(1, round(RECORDED_FPS / args.downsample / GIF_FPS))
    files = []
    for sequence in chosen_sequences(split, args):
        stop = sequence.start + min(sequence.length, step * args.vis_frames)
        rows = slice(sequence.start, stop, step)
        pose = predict(split.keypoints[rows]).float()
        target = targets[rows].to(pose.device)
        errors = 1000 * metrics.ites_evaluation(pose, target).mpjpe
        pose, target = pose - pose[:, :1], target - target[:, :1]
        aligned = metrics.calibrate_by_procrustes(pose, target).aligned
        orientation = pose_set.orientation[pose_set.sequences.index(sequence)].cpu()
        action = sequence.action.replace(" ", "_")
        path = folder / f"{name}_{sequence.subject}_{action}_camera{sequence.view}.gif"
        animation.save_animation(
            path,
            [pose_set.keypoints[rows].cpu(), *(to_z_up(p.cpu(), orientation) for p in (aligned, target))],
            [f"2D input ({args.keypoints})", f"{name} (aligned)", f"truth: {sequence.subject} {sequence.action}"],
            pose_set.skeleton, fps=RECORDED_FPS / args.downsample / step, errors=np.asarray(errors.cpu()),
            metric="ITES MPJPE", azimuth=camera_azimuth(orientation),
        )  # fmt: skip
        files.append(path)
    return files


@torch.no_grad()
def write_page(predict: Predict, split: ScaledSplit, args: Any, name: str) -> Path:
    """Write `--vis-html` of the first chosen sequence: both depth mirrors in the truth's scale, and the truth.

    The published MPJPE is, frame by frame, the lower of the two curves in the page.
    """
    pose_set, recording = split.pose_set, chosen_sequences(split, args)[0]
    rows = page.rows(recording)
    pose, target = predict(split.keypoints[rows]).float(), split.targets()[rows]
    target = target.to(pose.device)
    errors = metrics.ites_evaluation(pose, target)
    scaled = metrics.calibrate_by_scale(pose, target)
    poses = {name: scaled, f"{name}, depth mirrored": metrics.depth_flip(scaled)}
    return page.write_recording(
        args.vis_html, pose_set, recording, {key: p - p[:, :1] for key, p in poses.items()}, target - target[:, :1],
        fps=RECORDED_FPS / args.downsample, metric="MPJPE in the truth's scale",
        errors=dict(zip(poses, (1000 * errors.mpjpe_pose, 1000 * errors.mpjpe_flip), strict=True)),
        about=f"{args.dataset}, 2D input {args.keypoints}; the {PROTOCOL} takes the lower of both curves in each frame",
    )  # fmt: skip
