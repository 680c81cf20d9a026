"""Folders and files of PoseAug's runs: where a run lies, the baseline it starts from, its checkpoints, `log.txt`."""

import itertools
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from common.errors import InputError
from common.files.atomic import write_atomic
from common.lifter_input import LifterInput, named_form
from common.run import checkpoint
from common.run.run import Run
from common.run.script import may_restart
from common.run.state import State

PRETRAINED = Path("checkpoint/pretrain_baseline")


def run_folder(args: Any, time: str) -> Path:
    """The folder of a new run, CHECKPOINT/LIFTER/KEYPOINTS/TIME_NOTE; that of `--resume` where a run goes on."""
    if args.resume:
        path = Path(args.resume)
        return path.parent if path.suffix == ".tar" and not path.is_dir() else path
    return args.checkpoint / args.posenet_name / args.keypoints / f"{time}_{args.note}"


def claim(folder: Path, args: Any, run: Run) -> Path:
    """Make the folder of a new run, or TIME-2_NOTE and so on: another run may have begun in the same second."""
    time, _, note = folder.name.partition("_")
    numbers = itertools.count(2)
    while run.is_main and not args.resume and not may_restart():  # a job that may restart names its folder itself
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            folder = folder.with_name(f"{time}-{next(numbers)}_{note}")
            continue
        except OSError:
            pass  # RunLog says what is wrong
        break
    return folder


def time_of_day(iso: bool) -> str:
    """Now, as the published run folders are named: MMDDHHMMSS (baseline) or ISO 8601 (PoseAug), without colons."""
    return f"{datetime.now():%Y-%m-%dT%H-%M-%S}" if iso else f"{datetime.now():%m%d%H%M%S}"


def find_pretrained(args: Any) -> Path | None:
    """The baseline to start from, as `--pretrain` says: none, a file, or the one that was trained for this lifter.

    Raises:
        InputError: no baseline, or several; they are listed.
    """
    if isinstance(args.pretrain, str):
        return Path(args.pretrain)
    if not args.pretrain:
        return None
    pattern = f"{args.posenet_name}/{args.keypoints}/*/ckpt_best.pth.tar"
    found = sorted(PRETRAINED.glob(pattern))
    if len(found) == 1:
        return found[0]
    hint = "name the right one with --pretrain FILE"
    if found:
        raise InputError(f"{len(found)} pretrained baselines: {', '.join(map(str, found))}; {hint}")
    others = ", ".join(map(str, sorted(PRETRAINED.glob("*/*/*/ckpt_best.pth.tar")))) or "none at all"
    raise InputError(
        f"no pretrained baseline {PRETRAINED / pattern}; there: {others}; train one with run_baseline.py --checkpoint "
        f"{PRETRAINED} --posenet_name {args.posenet_name} --keypoints {args.keypoints}, or {hint}"
    )


def saved_input(path: Path) -> LifterInput:
    """What the lifter of a checkpoint sees; the published form where the file does not say."""
    return named_form(checkpoint.saved_options(checkpoint.load(path, torch.device("cpu"))))


def load_lifter(model: torch.nn.Module, path: Path, device: torch.device, form: LifterInput) -> dict[str, Any]:
    """Load a released or own checkpoint (key `state_dict` or `model_pos`) strictly; returns the checkpoint. Its lifter
    must see what `form` says.
    """
    saved = checkpoint.load(path, device)
    name = next((key for key in ("state_dict", "model_pos") if key in saved), None)
    if name is None:
        found = ", ".join(map(str, saved))
        raise InputError(f"{path} is no lifter's checkpoint: found the keys {found}, expected state_dict or model_pos")
    options, causal = checkpoint.saved_options(saved), getattr(model, "causal", False)
    was = named_form(options)
    if was != form:
        raise InputError(
            f"{path}: its lifter sees {was}, here it would see {form}: make --sees and --confidences agree"
        )
    try:
        checkpoint.load_weights(model, saved[name], path)
    except InputError as error:
        raise InputError(f"{error}; do --posenet_name, --stages and --architecture fit the file?") from error
    if bool(options.get("causal", causal)) != causal:
        raise InputError(f"{path} was trained with{'out' * causal} --causal: {'leave it out' if causal else 'give it'}")
    return saved


def run_state(args: Any, run: Run, parts: Mapping[str, Any], folder: Path, scores: tuple[str, ...] = ()) -> State:
    """What a run saves as last.pth.tar and goes on from; its note and its baseline stay those it began with."""
    kept = ("note", "pretrain")
    return State(run, args, parts, folder / "last.pth.tar", free=("snapshot",), kept=kept, scores=scores)


class TextLog:
    """The published `log.txt`: the options, a header, one row of numbers an epoch, tab-separated."""

    def __init__(self, path: Path, args: Any, columns: tuple[str, ...], epochs: int, active: bool):
        self.path, self.columns, self.active = path, columns, active
        kept = path.read_text("utf-8", "replace").splitlines()[2 : 2 + epochs] if epochs and path.exists() else []
        self.lines = [str(args), "\t".join(columns), *kept]

    def row(self, values: Mapping[str, float]) -> None:
        """Add one epoch."""
        self.lines.append("\t".join(f"{values.get(name, float('nan')):.6f}" for name in self.columns))
        if self.active:
            write_atomic(self.path, lambda file: file.write("\n".join([*self.lines, ""]).encode()))
