"""What the four ITES scripts share: the published options, the network's input, saving and resuming, scores, pictures.

Xu et al., "Invariant Teacher and Equivariant Student for Unsupervised 3D Human Pose Estimation", AAAI 2021.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from common import metrics
from common.datasets.contract import own_split
from common.datasets.h36m_layout import load_pose_set
from common.datasets.projected import noise_of
from common.draw import tables
from common.errors import InputError
from common.pose_set import PoseSet
from common.run import checkpoint
from common.run.run import Run
from common.synthetic.dataset import ensure_named
from methods.ites.metrics import ites_evaluation
from methods.ites.scaling import network_input

PROTOCOL = "ITES protocol (scale from the truth, better of the two depth mirrors per pose)"
PLAIN = (
    "root-relative, no choice of mirror or scale by the truth; the network does not know the size of a body, so plain "
    "MPJPE reads its unit as metres and N-MPJPE is the one to compare"
)
CHUNK = 2048  # poses scored at once: the activations of a chunk stay in cache
RECORDED_FPS = 50.0

Predict = Callable[[Tensor], Tensor]  # keypoints (B, 17, 2) -> poses (B, 17, 3)


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


def final_line(row: dict[str, float], best: float | None, test: PoseSet | None, args: Any) -> str:
    """The last line of a training run: what was reached, by which protocol, and where everything lies."""
    if test is None:
        return f"results in {args.checkpoint}"
    scores = f"MPJPE {row['MPJPE']:.1f} (best {best:.1f}), P-MPJPE {row['P-MPJPE']:.1f} mm"
    what = f"{test.summary()}, 17 joints, 2D input {args.keypoints}, {PROTOCOL}"
    return f"{scores}; {what}; results in {args.checkpoint}"


def weights(saved: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """The network's state dict in a checkpoint."""
    if "model_pos" not in saved:
        found = ", ".join(map(str, saved))
        raise InputError(f"{path} is no ITES checkpoint: found the keys {found}, expected model_pos")
    return saved["model_pos"]


def load(args: Any, subjects: str, device: torch.device, training: bool = False) -> PoseSet:
    """Read the split of `subjects` as the options say, `inputs` scaled over the split (`scaling.network_input`); for
    training without the true poses, which it never reads.
    """
    ensure_named(args.data_dir, args.dataset)
    pose_set = load_pose_set(
        args.data_dir, args.dataset, args.keypoints, subjects, args.actions,
        subset=args.subset, downsample=args.downsample, device=device, noise=noise_of(args),
    )  # fmt: skip
    if training:
        pose_set = replace(pose_set, poses=None)  # before the input is made: 300 MB of Human3.6M are free for it
    return replace(pose_set, inputs=network_input(pose_set))


@torch.no_grad()
def score(predict: Predict, split: PoseSet, run: Run) -> dict[str, Tensor]:
    """Errors of every pose, (N,) millimetres each, on the CPU.

    MPJPE and P-MPJPE by the published protocol; "plain" ones root-relative without any choice of mirror or scale from
    the truth. The networks do not know the size of a body, so plain MPJPE reads their unit as metres: compare N-MPJPE.
    """
    targets = split.targets()
    names = ("MPJPE", "P-MPJPE", "plain MPJPE", "plain N-MPJPE", "plain P-MPJPE")
    errors = torch.zeros(len(targets), len(names), device=targets.device)
    for rows in run.shard(torch.arange(len(targets), device=targets.device)).split(CHUNK):
        with run.autocast():
            pose = predict(split.inputs[rows]).float()
        target = targets[rows]
        published = ites_evaluation(pose, target)
        pose, target = pose - pose[:, :1], target - target[:, :1]
        plain = metrics.mpjpe(pose, target), metrics.n_mpjpe(pose, target), published.p_mpjpe_pose
        errors[rows] = torch.stack((published.mpjpe, published.p_mpjpe, *plain), -1)
    errors = 1000 * run.world_size * run.average(errors)  # other processes' rows are zero here
    return dict(zip(names, errors.cpu().unbind(-1), strict=True))


def output_folder(args: Any) -> Path:
    """Where a test script writes: --output, or a folder beside the checkpoint that is named by what is scored."""
    parts = [args.checkpoint.stem, args.dataset, args.keypoints]
    usual = own_split(args.data_dir, args.dataset)[1]
    parts += [args.subjects_test] * (args.subjects_test != usual) + [args.actions] * (args.actions != "*")
    parts += [f"{name}{value:g}" for name in ("downsample", "subset") if (value := getattr(args, name)) != 1]
    return args.output or args.checkpoint.parent / re.sub(r"[^\w.,-]+", "-", "_".join(parts))


def report(name: str, errors: dict[str, Tensor], split: PoseSet, args: Any) -> tuple[str, dict[str, Any]]:
    """The scores as text for the console and as the content of `results.json`."""
    results = tables.summaries(errors, split)
    what = f"{args.dataset} {split.summary()}, 17 joints, 2D input {args.keypoints}"
    content = {
        "method": f"ITES {name}", "checkpoint": str(args.checkpoint), "dataset": args.dataset,
        "keypoints": args.keypoints, "subjects": args.subjects_test, "actions_asked_for": args.actions,
        "downsample": args.downsample, "subset": args.subset, "joints": 17,
        "unit": "mm", "protocol": {"MPJPE, P-MPJPE": PROTOCOL, "plain": PLAIN}, **tables.results_dictionary(results),
    }  # fmt: skip
    lines = [f"{what}; millimetres, mean over frames; {PROTOCOL}:"]
    lines += [f"{metric}: {results[metric].frame_wise:.2f}" for metric in ("MPJPE", "P-MPJPE")]
    return "\n".join((*lines, "", f"plain: {PLAIN}", tables.action_table(results))), content
