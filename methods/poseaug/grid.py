"""A grid of experiments: which runs of `run_baseline.py` and `run_poseaug.py` it needs, what is missing, and doing it.

The grid's file (YAML) lists lifters, 2D inputs and options. Each pair of a lifter and an input is a baseline run and a
PoseAug run that starts from it. What is done is read from the runs' own folders, so a broken grid goes on where it
stopped, and a finished cell is never run again.
"""

import contextlib
import fcntl
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from common.errors import InputError
from common.run import checkpoint
from common.threads import cores
from methods.poseaug.summary import RunRecord, find_runs, read_yaml

# kind of run -> its script, its folder under the grid's `checkpoint`, its note; all as published
KINDS = {
    "baseline": ("run_baseline.py", "pretrain_baseline", "pretrain"),
    "poseaug": ("run_poseaug.py", "poseaug", "poseaug"),
}
TABLES = ("common", *KINDS)  # of options
SET_HERE = ("checkpoint", "config", "dataset", "evaluate", "keypoints", "note", "posenet_name", "pretrain", "resume")
# Options in which a run may differ and still be the cell's: `pretrain` is looked at by itself, `epochs` must agree.
FREE = (*(set(checkpoint.FREE_OPTIONS) - {"epochs"}), "note", "pretrain", "snapshot", "viz_every")
BEST, LAST = "ckpt_best.pth.tar", "last.pth.tar"

Parse = Callable[[str, Sequence[str]], Mapping[str, Any]]  # (kind, words of a command line) -> the options in force


@dataclass(frozen=True)
class Cell:
    """One run of the grid: the words of its command line, and the options that they put in force."""

    kind: str
    lifter: str
    keypoints: str
    words: tuple[str, ...]
    options: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.kind} {self.lifter} {self.keypoints}"

    @property
    def script(self) -> str:
        """The script that runs it."""
        return KINDS[self.kind][0]


@dataclass(frozen=True)
class Grid:
    """What a grid's file asks for. `folder` takes the logs; `cells`: a baseline stands before its PoseAug run."""

    path: Path
    checkpoint: Path
    cells: list[Cell]

    @property
    def folder(self) -> Path:
        """Where the logs go."""
        return self.checkpoint / self.path.stem

    def log(self, cell: Cell) -> Path:
        """Where a cell's output goes."""
        return self.folder / (re.sub(r"[^\w.-]+", "_", cell.name) + ".log")


@dataclass(frozen=True)
class State:
    """What there is to do for a cell.

    word: "finished"; "resume" (`run` stopped on its way); "start"; "wait" (for its baseline). run: the run that counts.
    pretrained: the baseline's file that a PoseAug run starts from.
    """

    word: str
    run: RunRecord | None = None
    pretrained: Path | None = None


# ------------------------------------------------------------ the file


def read_grid(path: Path, parse: Parse) -> Grid:
    """Read a grid's file; `parse` raises InputError for options that a script would refuse.

    Raises:
        InputError: unreadable file, unknown or missing entries, options that the scripts refuse.
    """
    content = read_yaml(path)
    _check_keys(path, "", content, ("checkpoint", "dataset", "keypoints", "lifters", *TABLES))
    dataset, checkpoints = content.get("dataset", "h36m"), content.get("checkpoint", "checkpoint")
    lifters, inputs = content.get("lifters"), content.get("keypoints")
    inputs = [inputs] if isinstance(inputs, str) else inputs
    if not (isinstance(dataset, str) and isinstance(checkpoints, str)):
        raise InputError(f"{path}: dataset and checkpoint: found {dataset!r} and {checkpoints!r}, expected a name each")
    if not (isinstance(inputs, list) and inputs and all(isinstance(name, str) for name in inputs)):
        raise InputError(f"{path}: keypoints: found {inputs!r}, expected a list of names such as [gt, hr]")
    if not (isinstance(lifters, dict) and lifters):
        raise InputError(
            f"{path}: lifters: found {lifters!r}, expected lifters with their options, such as 'mlp: {{}}'"
        )
    cells = []
    for lifter, own in lifters.items():
        own = _check_keys(path, f"lifters: {lifter}: ", {} if own is None else own, TABLES)
        for name in dict.fromkeys(inputs):
            for kind, (_, folder, note) in KINDS.items():
                words = ["--note", note, "--checkpoint", str(Path(checkpoints) / folder), "--dataset", dataset]
                words += ["--posenet_name", str(lifter), "--keypoints", name]
                tables = {"": content, f"lifters: {lifter}: ": own}
                merged: dict[str, Any] = {}
                for where, table in tables.items():
                    for key in ("common", kind):
                        merged |= _options(f"{path}: {where}{key}", table.get(key))
                words += [word for option, value in merged.items() for word in _words(path, option, value)]
                try:
                    options = parse(kind, words)
                except InputError as error:
                    raise InputError(f"{path}: {kind} {lifter} {name}: {error}") from error
                cells.append(Cell(kind, str(lifter), name, tuple(words), options))
    return Grid(path, Path(checkpoints), cells)


def _check_keys(path: Path, where: str, table: Any, known: Sequence[str]) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise InputError(f"{path}: {where}found {table!r}, expected a table of {', '.join(known)}")
    unknown = [str(key) for key in table if key not in known]
    if unknown:
        raise InputError(f"{path}: {where}unknown entry {unknown[0]!r}; expected {', '.join(known)}")
    return table


def _options(where: str, table: Any) -> dict[str, Any]:
    """Option -> value, names with `_`."""
    if table is None:
        return {}
    if not isinstance(table, dict):
        raise InputError(f"{where}: found {table!r}, expected options such as 'epochs: 50'")
    options = {str(name).lstrip("-").replace("-", "_"): value for name, value in table.items()}
    taken = [name for name in options if name in SET_HERE]
    if taken:
        raise InputError(f"{where}: the grid itself sets {taken[0]}; leave it out (dataset, keypoints: at the top)")
    return options


def _words(path: Path, option: str, value: Any) -> list[str]:
    """An option on the command line; true stands for a flag."""
    if value is True:
        return [f"--{option}"]
    if isinstance(value, list):
        value = ",".join(map(str, value))
    if value is None or isinstance(value, (bool, dict)):
        raise InputError(
            f"{path}: {option}: found {value!r}; leave out a flag that is not to be set, and put an option's True or "
            "False in quotes"
        )
    return [f"--{option}", str(value)]


# ------------------------------------------------------------ what is done


def find_states(grid: Grid) -> dict[str, State]:
    """Cell's name -> state, from the runs under the grid's `checkpoint`."""
    folders = {kind: grid.checkpoint / folder for kind, (_, folder, _) in KINDS.items()}
    runs = {kind: find_runs([folder] if folder.exists() else []) for kind, folder in folders.items()}
    states: dict[str, State] = {}
    for plain, augmented in zip(grid.cells[::2], grid.cells[1::2], strict=True):
        first, second = pair_states(plain, augmented, runs["baseline"], runs["poseaug"])
        states |= {plain.name: first, augmented.name: second}
    return states


def pair_states(
    plain: Cell, augmented: Cell, baselines: Sequence[RunRecord], poseaugs: Sequence[RunRecord]
) -> tuple[State, State]:
    """States of a baseline cell and of the PoseAug cell that starts from it.

    A PoseAug run counts only where it began from a baseline run of this cell. A finished baseline whose checkpoint is
    gone is run again, unless the PoseAug run is finished, too.
    """
    baselines = [
        run for run in baselines
        if run.kind == "baseline" and _belongs(run, plain) and run.options.get("pretrain") in (None, False)
    ]  # fmt: skip
    files = {_same_file(run.folder / BEST): run.folder / BEST for run in baselines if run.finished}
    poseaugs = [
        run for run in poseaugs
        if run.kind == "poseaug" and _belongs(run, augmented) and _same_file(run.options.get("pretrain")) in files
    ]  # fmt: skip
    second = _state(poseaugs)
    first = _state(baselines if second.word == "finished" else [run for run in baselines if not _lost(run)])
    if second.word == "resume":
        return first, State("resume", second.run, files[_same_file(second.run.options["pretrain"])])
    if second.word == "start":
        return first, State("start", None, first.run.folder / BEST) if first.word == "finished" else State("wait")
    return first, second


def _state(runs: Sequence[RunRecord]) -> State:
    """From all runs of a cell: the newest finished one, or else the newest that can go on."""
    finished = [run for run in runs if run.finished]
    if finished:
        return State("finished", max(finished, key=lambda run: run.changed))
    stopped = [run for run in runs if (run.folder / LAST).exists()]
    return State("resume", max(stopped, key=lambda run: run.changed)) if stopped else State("start")


def _lost(run: RunRecord) -> bool:
    return run.finished and not (run.folder / BEST).exists()


def _belongs(run: RunRecord, cell: Cell) -> bool:
    """Whether a run has the cell's options."""
    try:
        checkpoint.check_options(run.options, cell.options, FREE)
    except InputError:
        return False
    return True


def _same_file(path: Any) -> str:
    """One spelling for all paths of a file."""
    return os.path.realpath(str(path))


def command(cell: Cell, state: State, scripts: Path | None = None) -> list[str]:
    """The command line of what there is to do; with `scripts`, their folder, as it can be run from any folder."""
    program = [sys.executable, str(scripts / cell.script)] if scripts else ["python", cell.script]
    pretrain = [] if cell.kind == "baseline" else ["--pretrain", str(state.pretrained or "FILE")]
    resume = ["--resume", str(state.run.folder)] if state.word == "resume" else []
    return [*program, *cell.words, *pretrain, *resume]


def listing(grid: Grid, states: Mapping[str, State]) -> str:
    """Every cell with its state and, where it is not finished, its command."""
    lines = []
    for cell in grid.cells:
        state = states[cell.name]
        what = {"wait": "for its baseline", "start": ""}.get(state.word, "")
        if state.run:
            what = f"{state.run.folder} ({state.run.done} of {state.run.epochs} epochs)"
        lines.append(f"{state.word:8}  {cell.name}  {what}".rstrip())
        if state.word != "finished":
            lines.append(" " * 10 + shlex.join(command(cell, state)))
    return "\n".join(lines)


# ------------------------------------------------------------ doing it


@dataclass
class Child:
    """A run at work."""

    cell: Cell
    process: subprocess.Popen
    log: BinaryIO
    since: float


def run_missing(
    grid: Grid, scripts: Path, jobs: int, report: Callable[[str], None], stopped: Callable[[], Any]
) -> dict[str, str]:
    """Run all cells that are not finished, `jobs` at a time; returns the failed ones with what they said last.

    `report` takes a line for each cell that starts, finishes or fails. Once `stopped()`, the runs get SIGTERM, so that
    they save where they are; this returns when they have ended. Every run is a session of its own: a Ctrl-C in the
    terminal reaches it through here alone.

    Raises:
        InputError: the grid, or a run that it once started, is still at work.
    """
    children: list[Child] = []
    failed: dict[str, str] = {}
    with _lock(grid) as lock:
        states = find_states(grid)
        waiting = [cell for cell in grid.cells if states[cell.name].word != "finished"]
        try:
            while (waiting or children) and not stopped():
                ended = [child for child in children if child.process.poll() is not None]
                states = find_states(grid)
                for child in ended:
                    children.remove(child)
                    _take_leave(grid, child, states, failed, report)
                for cell in list(waiting):
                    if len(children) < jobs and states[cell.name].word != "wait":
                        waiting.remove(cell)
                        children.append(_start(grid, cell, states[cell.name], scripts, jobs, lock))
                        report(f"started   {cell.name}; output in {grid.log(cell)}")
                _give_up(waiting, children, states, failed, report)
                _wait(children, stopped)
        finally:
            _end(children)
            for child in children:
                child.log.close()
                report(f"{'stopped' if child.process.returncode else 'finished':8}  {child.cell.name}")
    return failed


def _start(grid: Grid, cell: Cell, state: State, scripts: Path, jobs: int, lock: int) -> Child:
    """Start a run; its output is added to the cell's log. It keeps the grid's lock for as long as it lives."""
    words = command(cell, state, scripts)
    log = open(grid.log(cell), "ab")
    log.write(f"$ {shlex.join(words)}\n".encode())
    log.flush()
    environment = {"PYTHONUNBUFFERED": "1", **os.environ}
    if jobs > 1:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, cores() // jobs)))
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True,
        pass_fds=(lock,),
    )  # fmt: skip
    return Child(cell, process, log, time.monotonic())


def _take_leave(
    grid: Grid, child: Child, states: Mapping[str, State], failed: dict[str, str], report: Callable[[str], None]
) -> None:
    """Say how a run ended."""
    child.log.close()
    name, minutes = child.cell.name, (time.monotonic() - child.since) / 60
    if child.process.returncode == 0 and states[name].word == "finished":
        report(f"finished  {name} in {minutes:.1f} min: {states[name].run.folder}")
        return
    failed[name] = f"status {child.process.returncode}: {_last_line(grid.log(child.cell))}"
    report(f"failed    {name} after {minutes:.1f} min")


def _give_up(
    waiting: list[Cell], children: Sequence[Child], states: Mapping[str, State], failed: dict[str, str],
    report: Callable[[str], None],
) -> None:  # fmt: skip
    """Take the PoseAug runs out of `waiting` whose baseline is neither there nor to come."""
    coming = {cell.name for cell in (*waiting, *(child.cell for child in children))}
    for cell in list(waiting):
        if states[cell.name].word == "wait" and f"baseline {cell.lifter} {cell.keypoints}" not in coming:
            waiting.remove(cell)
            failed[cell.name] = "not started: its baseline failed"
            report(f"left out  {cell.name}")


def _wait(children: Sequence[Child], stopped: Callable[[], Any]) -> None:
    """Until a run has ended, or all are to stop."""
    while children and not stopped() and all(child.process.poll() is None for child in children):
        time.sleep(0.1)


def _end(children: Sequence[Child]) -> None:
    """Ask the runs to stop and wait for them; whoever interrupts that kills them (what is saved stays whole)."""
    try:
        for child in children:
            child.process.terminate()
        for child in children:
            child.process.wait()
    except BaseException:
        for child in children:
            child.process.kill()
        raise


@contextlib.contextmanager
def _lock(grid: Grid):
    """Holds the grid for this process and the runs that it starts; yields the descriptor."""
    path = grid.folder / "lock"
    try:
        grid.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise InputError(f"cannot write into {grid.folder}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                f"{grid.path} is being run already (lock {path}), or a run that it started still works; wait, or end it"
            ) from error
        yield descriptor
    finally:
        os.close(descriptor)


def _last_line(path: Path) -> str:
    """The last line of a log that is not empty."""
    lines = path.read_bytes()[-4000:].decode(errors="replace").replace("\r", "\n").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")
