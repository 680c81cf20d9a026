"""State of a training run: the parts that learn, where the run stands, its options and random states, in one file.

A file holds each part under its published key (`model_pos`, `optimizer`, ...); beside them `epoch`, `step`, `losses`,
`best` (the `Progress`), `rng`, `options`, `format` and what the script adds. Files before format 2 have no such entry;
they hold the same keys.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn

import torch
import torch.distributed as dist

from common.errors import InputError
from common.files.reading import reading
from common.run import checkpoint
from common.run.run import Run
from common.run.script import resume_command

log = logging.getLogger(__name__)

FORMAT = 2
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Progress(NamedTuple):
    """Where a run stands.

    Attributes:
        epoch: finished epochs.
        step: steps done in the next one.
        losses: `LossBuffer.state_dict()` of those steps.
        best: the best score so far, or one for each of several.
        more: what else a script keeps of a run (a row of scores, a learning rate): numbers, texts, tensors, by key.
    """

    epoch: int = 0
    step: int = 0
    losses: dict[str, Any] | None = None
    best: float | dict[str, float] | None = None
    more: Mapping[str, Any] = NOTHING


class State(NamedTuple):
    """What a run saves, and how it goes on. All methods are for every process to call; rank 0 writes.

    Attributes:
        run: whose random states are kept.
        args: the options; a resumed run must have the same, but for the free ones.
        parts: by their keys in the file: objects with `state_dict` and `load_state_dict`, a list of such, or networks
            by prefixes, {"gen.": lifter}, whose weights then lie in one dictionary.
        path: the file that `--resume` goes on from.
        fixed: further entries, alike in all files of the run (a network's sizes); not read back.
        free: options that may change from a run to its resumption, besides `checkpoint.FREE_OPTIONS`.
        kept: options that a resumed run takes from the file, whatever it is given.
        optional: keys that a file may lack (published files resume without a random state).
        scores: the names that `Progress.best` has at least, where it is a table; else it is one number.
    """

    run: Run
    args: Any
    parts: Mapping[str, Any]
    path: Path
    fixed: Mapping[str, Any] = NOTHING
    free: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()

    def contents(self, progress: Progress) -> dict[str, Any]:
        """The file's dictionary."""
        parts = {name: _state_of(part) for name, part in self.parts.items()}
        where = progress._asdict()
        more = where.pop("more")
        own = {"rng": random_states(self.run), "options": checkpoint.options_json(self.args), "format": FORMAT}
        return {**where, **parts, **self.fixed, **more, **own}

    def save(self, progress: Progress, *copies: str) -> None:
        """Write the file to `path`, and before under other names beside it, all atomically."""
        contents = self.contents(progress)
        for path in (*(self.path.with_name(name) for name in copies), self.path):
            self.run.save(path, contents)

    def stop(self, progress: Progress, command: str = "", where: str = "") -> NoReturn:
        """Save, and leave as the signal asked. The last line says `where` the run stopped (else: in which epoch) and
        with which `command` it goes on (else: with `--resume FOLDER`).
        """
        self.save(progress)
        where = where or f"in epoch {progress.epoch + 1}"
        self.run.leave(f"stopped {where}; go on with: {command or resume_command(self.path.parent)}")

    def resume(
        self,
        epochs: int | None = None,
        *,
        option: str = "--epochs",
        folder: Path | None = None,
        check: Callable[[dict[str, Any], Path], None] | None = None,
        hint: str = "",
    ) -> Progress:
        """Put parts and random states back as `--resume` says, and say where the run stands: without it, at the start.

        Args:
            epochs: that the run is to have in the end, as `option` says; None: the caller looks.
            folder: where a name given as `--resume` is sought first.
            check: is given the file and its path, before anything is put back, and raises InputError where it does not
                suit the script.
            hint: what else to do with a file that is no state of a run.

        Raises:
            InputError: missing, damaged or other file; other options; as many epochs as are asked for, or more.
        """
        if not self.args.resume:
            return Progress()
        given = self.path if self.args.resume is True else self.args.resume
        path = checkpoint.state_file(given, self.path.name, folder)
        with reading(path, "state of a run", "resume from another checkpoint"):
            return self._resume(path, epochs, option, check, hint)

    def _resume(self, path: Path, epochs: int | None, option: str, check: Callable | None, hint: str) -> Progress:
        saved = checkpoint.load(path, self.run.device)
        self._check_keys(saved, path, hint)
        if check is not None:
            check(saved, path)
        free = (*checkpoint.FREE_OPTIONS, *self.free, *self.kept)
        checkpoint.check_options(saved.get("options", {}), self.args, free)
        progress = self._progress(saved, path)
        if epochs is not None:
            checkpoint.check_epochs(path, progress.epoch, epochs, option)
        for name, part in self.parts.items():
            if name in saved:
                _put_back(part, saved[name], path, name)
        was = checkpoint.saved_options(saved)
        vars(self.args).update((name, was[name]) for name in self.kept if name in was)
        if "rng" in saved:
            set_random_states(self.run, saved["rng"])
        self.run.last_checkpoint = path
        return progress

    def _check_keys(self, saved: dict[str, Any], path: Path, hint: str) -> None:
        version = saved.get("format", 1)
        if not isinstance(version, int) or version > FORMAT:
            raise InputError(
                f"{path} is of format {version}, of a later version of this code, which reads formats 1 to {FORMAT}: "
                "resume it with that version"
            )
        missing = [key for key in (*self.parts, "rng", "options") if key not in saved and key not in self.optional]
        if missing:
            raise InputError(
                f"{path} is no state to resume from: it has no {', '.join(missing)}; give the {self.path.name} of a "
                f"run of this script{hint and f', or {hint}'}"
            )

    def _progress(self, saved: dict[str, Any], path: Path) -> Progress:
        known = {name: saved[name] for name in ("epoch", "step", "losses", "best") if name in saved}
        ours = {*known, *self.parts, *self.fixed, "rng", "options", "format"}
        progress = Progress(**known, more={name: value for name, value in saved.items() if name not in ours})
        whole = all(type(number) is int and number >= 0 for number in progress[:2])
        rows = (progress.more.get("row"), progress.more.get("scores"))
        right = _is_best(progress.best, self.scores) and all(row is None or _are_scores(row) for row in rows)
        if not (whole and right and _are_losses(progress.losses)):
            raise InputError(f"{path}: the state of the run is damaged; resume from another checkpoint")
        return progress


def random_states(run: Run) -> dict[str, Any]:
    """The random states of all processes. Every process must call it."""
    states = [checkpoint.rng_state(run=run.generator)]
    if run.world_size > 1:
        mine, states = states[0], [None] * run.world_size
        dist.all_gather_object(states, mine)
    return {"ranks": states}


def set_random_states(run: Run, saved: dict[str, Any]) -> None:
    """Put this process's random state back; with another number of processes, only that of `run.generator`."""
    try:
        states = list(saved["ranks"])
        mine = states[run.rank if len(states) == run.world_size else 0]
    except (KeyError, TypeError, IndexError) as error:
        raise InputError("the checkpoint's random state is damaged; it cannot be resumed exactly") from error
    if len(states) == run.world_size:
        checkpoint.set_rng_state(mine, run=run.generator)
    else:
        log.warning(
            "saved by %d processes, resumed by %d: dropout and the like draw afresh", len(states), run.world_size
        )
        checkpoint.set_generators(mine, run=run.generator)


def _is_best(saved: Any, names: tuple[str, ...]) -> bool:
    """Whether this is a number, or a table that has `names`, or nothing."""
    if saved is None or not names:
        return saved is None or type(saved) in (int, float)
    return _are_scores(saved) and all(name in saved for name in names)


def _are_scores(saved: Any) -> bool:
    """Whether this is a table of numbers by name."""
    return isinstance(saved, Mapping) and all(
        isinstance(name, str) and type(number) in (int, float) for name, number in saved.items()
    )


def _are_losses(saved: Any) -> bool:
    """Whether this is `LossBuffer.state_dict()`, or nothing."""
    if saved is None:
        return True
    sums, rows = (saved.get(name) for name in ("sums", "rows")) if isinstance(saved, Mapping) else (None, None)
    plain = isinstance(sums, torch.Tensor) and sums.dim() == 1 and sums.is_floating_point()
    return plain and type(rows) is int and rows >= 0


def _state_of(part: Any) -> Any:
    if isinstance(part, list):
        return [_state_of(item) for item in part]
    if isinstance(part, dict):
        states = {prefix: item.state_dict() for prefix, item in part.items()}
        return {prefix + name: value for prefix, state in states.items() for name, value in state.items()}
    return part.state_dict()


def _put_back(part: Any, saved: Any, path: Path, name: str) -> None:
    if isinstance(part, torch.nn.Module):
        checkpoint.load_weights(part, saved, path)
    elif isinstance(part, torch.optim.Optimizer):
        checkpoint.load_optimizer(part, saved, path)
    elif isinstance(part, list):
        if not isinstance(saved, list) or len(saved) != len(part):
            raise InputError(f"{path}: {name} is damaged, or of a run with other networks; expected {len(part)} states")
        for item, state in zip(part, saved, strict=True):
            _put_back(item, state, path, name)
    elif isinstance(part, dict):
        if not isinstance(saved, Mapping) or not all(isinstance(key, str) for key in saved):
            raise InputError(f"{path}: {name} is damaged; expected a dictionary of tensors")
        for prefix, item in part.items():
            state = {key.removeprefix(prefix): value for key, value in saved.items() if key.startswith(prefix)}
            _put_back(item, state, path, name)
    else:
        try:
            part.load_state_dict(saved)
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, IndexError) as error:
            raise InputError(f"{path}: {name} is damaged ({error}); resume from another checkpoint") from error
