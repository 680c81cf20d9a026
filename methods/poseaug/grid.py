"""A grid of experiments: which runs of `run_baseline.py` and `run_poseaug.py` it needs, what is missing, and doing it.

The grid's file (YAML) lists lifters, 2D inputs and options. Each pair of a lifter and an input is a baseline run and a
PoseAug run that starts from it. What is done is read from the runs' own folders, so a broken grid goes on where it
stopped, and a finished run is never done again.
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
# Options in which a run may differ and still be the planned one: `pretrain` is looked at by itself, `epochs` agrees.
FREE = (*(set(checkpoint.FREE_OPTIONS) - {"epochs"}), "note", "pretrain", "snapshot", "viz_every")
BEST, LAST = "ckpt_best.pth.tar", "last.pth.tar"

Parse = Callable[[str, Sequence[str]], Mapping[str, Any]]  # (kind, words of a command line) -> the options in force


@dataclass(frozen=True)
class PlannedRun:
    """One run of the grid: the words of its command line, and the options that they put in force."""

    kind: str
    lifter: str
    keypoints: str
    words: tuple[str, ...]
    options: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"{self.kind} {self.lifter} {self.keypoints}"

    @property
    def script(self) -> str:
        """The script that runs it."""
        return KINDS[self.kind][0]


@dataclass(frozen=True)
class Grid:
    """The runs that a grid's file asks for; in `plan` a baseline stands before its PoseAug run."""

    path: Path
    checkpoint: Path
    plan: list[PlannedRun]

    @property
    def folder(self) -> Path:
        """Where the logs go."""
        return self.checkpoint / self.path.stem

    def log(self, planned: PlannedRun) -> Path:
        """Where a run's output goes."""
        return self.folder / (re.sub(r"[^\w.-]+", "_", planned.name) + ".log")


@dataclass(frozen=True)
class State:
    """How far a planned run is.

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
    plan = []
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
                plan.append(PlannedRun(kind, str(lifter), name, tuple(words), options))
    return Grid(path, Path(checkpoints), plan)


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
    """Name of a planned run -> its state, from the runs under the grid's `checkpoint`."""
    folders = {kind: grid.checkpoint / folder for kind, (_, folder, _) in KINDS.items()}
    runs = {kind: find_runs([folder] if folder.exists() else []) for kind, folder in folders.items()}
    states: dict[str, State] = {}
    for plain, augmented in zip(grid.plan[::2], grid.plan[1::2], strict=True):
        first, second = pair_states(plain, augmented, runs["baseline"], runs["poseaug"])
        states |= {plain.name: first, augmented.name: second}
    return states


def pair_states(
    plain: PlannedRun, augmented: PlannedRun, baselines: Sequence[RunRecord], poseaugs: Sequence[RunRecord]
) -> tuple[State, State]:
    """States of a planned baseline and of the planned PoseAug run that starts from it.

    A PoseAug run counts only where it began from a run of this baseline. A finished baseline whose checkpoint is
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
    """From all runs of a planned one: the newest finished one, or else the newest that can go on."""
    finished = [run for run in runs if run.finished]
    if finished:
        return State("finished", max(finished, key=lambda run: run.changed))
    stopped = [run for run in runs if (run.folder / LAST).exists()]
    return State("resume", max(stopped, key=lambda run: run.changed)) if stopped else State("start")


def _lost(run: RunRecord) -> bool:
    return run.finished and not (run.folder / BEST).exists()


def _belongs(run: RunRecord, planned: PlannedRun) -> bool:
    """Whether a run has the options of the planned one."""
    try:
        checkpoint.check_options(run.options, planned.options, FREE)
    except InputError:
        return False
    return True


def _same_file(path: Any) -> str:
    """One spelling for all paths of a file."""
    return os.path.realpath(str(path))


def command(planned: PlannedRun, state: State, scripts: Path | None = None) -> list[str]:
    """The command line of what there is to do; with `scripts`, their folder, as it can be run from any folder."""
    program = [sys.executable, str(scripts / planned.script)] if scripts else ["python", planned.script]
    pretrain = [] if planned.kind == "baseline" else ["--pretrain", str(state.pretrained or "FILE")]
    resume = ["--resume", str(state.run.folder)] if state.word == "resume" else []
    return [*program, *planned.words, *pretrain, *resume]


def listing(grid: Grid, states: Mapping[str, State]) -> str:
    """Every planned run with its state and, where it is not finished, its command."""
    lines = []
    for planned in grid.plan:
        state = states[planned.name]
        what = {"wait": "for its baseline", "start": ""}.get(state.word, "")
        if state.run:
            what = f"{state.run.folder} ({state.run.done} of {state.run.epochs} epochs)"
        lines.append(f"{state.word:8}  {planned.name}  {what}".rstrip())
        if state.word != "finished":
            lines.append(" " * 10 + shlex.join(command(planned, state)))
    return "\n".join(lines)


# ------------------------------------------------------------ doing it


@dataclass
class Child:
    """A run at work."""

    planned: PlannedRun
    process: subprocess.Popen
    log: BinaryIO
    since: float


def run_missing(
    grid: Grid, scripts: Path, jobs: int, report: Callable[[str], None], stopped: Callable[[], Any]
) -> dict[str, str]:
    """Do all runs that are not finished, `jobs` at a time; returns the failed ones with what they said last.

    `report` takes a line for each run that starts, finishes or fails. Once `stopped()`, the runs get SIGTERM, so that
    they save where they are; this returns when they have ended. Every run is a session of its own: a Ctrl-C in the
    terminal reaches it through here alone.

    Raises:
        InputError: the grid, or a run that it once started, is still at work.
    """
    children: list[Child] = []
    failed: dict[str, str] = {}
    with _lock(grid) as lock:
        states = find_states(grid)
        waiting = [planned for planned in grid.plan if states[planned.name].word != "finished"]
        try:
            while (waiting or children) and not stopped():
                ended = [child for child in children if child.process.poll() is not None]
                states = find_states(grid)
                for child in ended:
                    children.remove(child)
                    _take_leave(grid, child, states, failed, report)
                for planned in list(waiting):
                    if len(children) < jobs and states[planned.name].word != "wait":
                        waiting.remove(planned)
                        children.append(_start(grid, planned, states[planned.name], scripts, jobs, lock))
                        report(f"started   {planned.name}; output in {grid.log(planned)}")
                _give_up(waiting, children, states, failed, report)
                _wait(children, stopped)
        finally:
            _end(children)
            for child in children:
                child.log.close()
                report(f"{'stopped' if child.process.returncode else 'finished':8}  {child.planned.name}")
    return failed


def _start(grid: Grid, planned: PlannedRun, state: State, scripts: Path, jobs: int, lock: int) -> Child:
    """Start a run; its output is added to its log. It keeps the grid's lock for as long as it lives."""
    words = command(planned, state, scripts)
    log = open(grid.log(planned), "ab")
    log.write(os.fsencode(f"$ {shlex.join(words)}\n"))
    log.flush()
    environment = {"PYTHONUNBUFFERED": "1", **os.environ}
    if jobs > 1:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, cores() // jobs)))
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True,
        pass_fds=(lock,),
    )  # fmt: skip
    return Child(planned, process, log, time.monotonic())


def _take_leave(
    grid: Grid, child: Child, states: Mapping[str, State], failed: dict[str, str], report: Callable[[str], None]
) -> None:
    """Say how a run ended."""
    child.log.close()
    name, minutes = child.planned.name, (time.monotonic() - child.since) / 60
    if child.process.returncode == 0 and states[name].word == "finished":
        report(f"finished  {name} in {minutes:.1f} min: {states[name].run.folder}")
        return
    failed[name] = f"status {child.process.returncode}: {_last_line(grid.log(child.planned))}"
    report(f"failed    {name} after {minutes:.1f} min")


def _give_up(
    waiting: list[PlannedRun], children: Sequence[Child], states: Mapping[str, State], failed: dict[str, str],
    report: Callable[[str], None],
) -> None:  # fmt: skip
    """Take the PoseAug runs out of `waiting` whose baseline is neither there nor to come."""
    coming = {planned.name for planned in (*waiting, *(child.planned for child in children))}
    for planned in list(waiting):
        if states[planned.name].word == "wait" and f"baseline {planned.lifter} {planned.keypoints}" not in coming:
            waiting.remove(planned)
            failed[planned.name] = "not started: its baseline failed"
            report(f"left out  {planned.name}")


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
