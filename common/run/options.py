"""Command-line options of the scripts: tables of them, YAML files, both spellings of every name, one-line errors.

An option is a row of a table: its names, its kind, its default (`...`: it must be given), its help; where needed a word
that stands for its value in the help, and a dictionary of argparse's other arguments. Its kind is a type, or choices,
or `bool` for a flag, whose presence turns the default into its opposite:

    TRAINING = (
        ("-e --epochs", number(int, 1), 50, "number of epochs"),
        ("--metric", ("mpjpe", "acc"), "acc", "by which the best checkpoint is chosen"),
        ("--no-eval", bool, False, "do not score the test subjects after each epoch"),
        ("-c --checkpoint", Path, "checkpoint", "the run's folder", "DIR"),
        ("--teacher_checkpoint", Path, ..., "trained teacher", "FILE"),
    )
"""

import argparse
import difflib
import functools
import itertools
import math
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from common.errors import InputError, printable
from common.files.atomic import write_atomic
from common.files.reading import load_yaml

Table = Sequence[tuple]
RELEASED = Path(__file__).resolve().parents[2] / "checkpoint" / "released"  # weights of this repository


class Parser(argparse.ArgumentParser):
    """An argument parser for the scripts.

    Every long option is accepted with `-` and with `_` between its words; help shows the one it was added with. Names
    are never abbreviated. `--config FILE.yaml` (see `add_run_options`) sets options, the command line overrides it.
    Errors are one line on stderr and exit status 2, with a suggestion for a misspelt name.
    """

    def __init__(self, description: str | None = None, **kwargs: Any) -> None:
        super().__init__(description=description, allow_abbrev=False, formatter_class=_Help, **kwargs)
        self._steps: list[Callable[[argparse.Namespace], None]] = []

    def then(self, step: Callable[[argparse.Namespace], None]) -> None:
        """Have `step` complete the parsed options, in place: defaults that depend on other options, and on files."""
        self._steps.append(step)

    def add_table(self, title: str, *tables: Table) -> Any:
        """Add the options of `tables` as a group of the help, which is returned."""
        group = self.add_argument_group(title)
        add_rows(group, *tables)
        return group

    def accept(self, *tables: Table) -> None:
        """Take options that have no effect in this script, as published command lines and older files have them: values
        are checked and forgotten, and help does not list them.
        """
        add_rows(self, *tables, action=_WithoutEffect)

    def refuse(self, why: str, *tables: Table) -> None:
        """As `accept`; but where one is given (in YAML: not false nor empty) the script ends with the line `why`."""
        add_rows(self, *tables, action=functools.partial(_WithoutEffect, why=why))

    def add_run_options(self, *seed: str, training: bool = True, draws: bool = True) -> None:
        """Add the group "Running", which `common.run.run.start` reads.

        Args:
            seed: other spellings of the seed's option.
            training: whether the script has a training step and losses; else their options are accepted only.
            draws: whether it draws random numbers; else the seed is accepted only.
        """
        seeds = ((" ".join(seed) or "--seed", number(int, 0, 2**32), 0, SEED, None, {"dest": "seed"}),)
        self.add_table("Running", RUN, seeds if draws else (), TRAINING_RUN if training else ())
        self.accept(() if draws else seeds, () if training else TRAINING_RUN)

    def parse_known_args(self, args=None, namespace=None):
        """As argparse; `--config` is read first and gives the values that the command line may override."""
        args = list(sys.argv[1:] if args is None else args)
        self._accept_both_spellings()
        if namespace is None and any(action.dest == "config" for action in self._actions):
            namespace = argparse.Namespace(**self._read_config(args))
        return super().parse_known_args(args, namespace)

    def parse_args(self, args=None, namespace=None):
        """As argparse; an unknown option is named, with the nearest known one, before any that is missing for it."""
        args = list(sys.argv[1:] if args is None else args)
        self._accept_both_spellings()
        long = [word.split("=")[0] for word in args if word.startswith("--") and word != "--"]
        self._refuse_unknown([name for name in long if name not in self._option_string_actions])
        options, unknown = self.parse_known_args(args, namespace)
        self._refuse_unknown([word.split("=")[0] for word in unknown if word.startswith("-")])
        if unknown:
            self.error(f"unexpected argument {unknown[0]!r}: values follow an option, as in --epochs 50")
        for step in self._steps:
            step(options)
        return options

    def _refuse_unknown(self, names: list[str]) -> None:
        if names:
            self.error(f"unknown option {names[0]}" + self._suggest(names[0], "--help lists the options"))

    def error(self, message: str) -> NoReturn:
        """Leave with one line on stderr and status 2."""
        self.exit(2, f"error: {printable(' '.join(message.split()))}\n")

    def _get_option_tuples(self, option_string):
        # argparse abbreviates one-dash options even without allow_abbrev; keep its joined form (-e50), drop the rest
        return [found for found in super()._get_option_tuples(option_string) if len(found[1]) == 2]

    def _accept_both_spellings(self) -> None:
        # registered for parsing only: help goes by each action's own list
        for action in self._actions:
            for name in [name for name in action.option_strings if name.startswith("--")]:
                for other in (name[2:].replace("-", "_"), name[2:].replace("_", "-")):
                    self._option_string_actions.setdefault(f"--{other}", action)

    def _suggest(self, name: str, otherwise: str) -> str:
        shown = [action for action in reversed(self._actions) if action.help != argparse.SUPPRESS]
        published = {_plain(word): word for action in shown for word in action.option_strings}
        near = difflib.get_close_matches(_plain(name), published, n=1)
        return f": did you mean {published[near[0]]}?" if near else f" ({otherwise})"

    # ---- YAML

    def _read_config(self, args: list[str]) -> dict[str, Any]:
        finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        finder.error = self.error
        finder.add_argument("--config")
        path = finder.parse_known_args(args)[0].config
        if not path:
            return {}
        by_name = self._options_by_name()
        values: dict[str, Any] = {}
        for key, value in self._load_yaml(path).items():
            name = str(key).replace("-", "_")
            if name not in by_name:
                shown = [other for other, action in by_name.items() if action.help != argparse.SUPPRESS]
                near = difflib.get_close_matches(name, shown, n=1)
                hint = f": did you mean {near[0]!r}?" if near else " (--help lists them)"
                self.error(f"{path}: unknown option {key!r}{hint}")
            action = by_name[name]
            if action.dest in values:
                self.error(f"{path}: {key!r} is given twice")
            values[action.dest] = self._convert(action, name, value, f"{path}: {key}")
            action.required = False
            if isinstance(action, _WithoutEffect):
                action.check(self, f"{path}: {key}", values.pop(action.dest))
        return values

    def _options_by_name(self) -> dict[str, argparse.Action]:
        actions = [action for action in self._actions if action.dest not in ("config", "help", "version")]
        names = {
            word[2:].replace("-", "_"): action
            for action in actions
            for word in action.option_strings
            if word[:2] == "--"
        }
        return {**names, **{action.dest: action for action in actions}}

    def _load_yaml(self, path: str) -> Mapping:
        try:
            content = load_yaml(path)
        except InputError as error:
            self.error(str(error))
        if content is None:
            return {}
        if not isinstance(content, dict):
            self.error(f"cannot read {path}: expected lines such as 'epochs: 50', found a {type(content).__name__}")
        return content

    def _convert(self, action: argparse.Action, name: str, value: Any, where: str) -> Any:
        if value is None and (action.default is None or isinstance(action, _WithoutEffect)):
            return None
        if action.nargs == 0:
            return self._convert_flag(action, name, value, where)
        several = action.nargs not in (None, "?")
        if isinstance(value, list) and not several and action.type in (None, str):
            return ",".join(str(self._scalar(action, item, where)) for item in value)
        if several:
            return [self._scalar(action, item, where) for item in (value if isinstance(value, list) else [value])]
        return self._scalar(action, value, where)

    def _convert_flag(self, action: argparse.Action, name: str, value: Any, where: str) -> Any:
        """By the option's name `value` says whether the flag is given, by the name of its value it is that value."""
        if not isinstance(value, bool):
            self.error(f"{where}: expected true or false, found {value!r}")
        if name == action.dest and isinstance(action.const, bool):
            return value
        return action.const if value else action.default

    def _scalar(self, action: argparse.Action, value: Any, where: str) -> Any:
        if not isinstance(value, (str, int, float)) or (isinstance(value, bool) and action.type in (None, str)):
            self.error(
                f"{where}: expected one value, found {value!r:.60} (text such as yes, no, on, off goes in quotes)"
            )
        try:
            result = (action.type or str)(str(value))
        except argparse.ArgumentTypeError as error:
            self.error(f"{where}: {error}")
        except (TypeError, ValueError):
            self.error(f"{where}: invalid {getattr(action.type, '__name__', 'value')} value: {str(value)!r}")
        if action.choices is not None and result not in action.choices:
            self.error(f"{where}: invalid choice: {result!r} (choose from {', '.join(map(repr, action.choices))})")
        return result


class _WithoutEffect(argparse.Action):
    """An option that help does not list; its value is checked and forgotten, or refused with the word `why`."""

    def __init__(self, option_strings, dest, why: str = "", **arguments):
        hidden = {"required": False, "default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
        super().__init__(option_strings, dest, **(arguments | hidden))
        self.why = why

    def __call__(self, parser, namespace, values, option_string=None):
        self.check(parser, option_string, self.nargs == 0 or values)

    def check(self, parser: Parser, name: str, value: Any) -> None:
        """Leave with a line where `value` is given and refused."""
        if self.why and value:
            parser.error(f"{name}: {self.why}")


def add_rows(group: Any, *tables: Table, action: Callable | None = None) -> None:
    """Add the options of `tables` to a parser or a group of it; an `action` takes the place of keeping the values."""
    for names, kind, default, text, *rest in itertools.chain(*tables):
        metavar, more = (*rest, None, None)[:2]
        arguments: dict[str, Any] = {"required": True} if default is ... else {"default": default}
        if kind is bool:
            arguments |= (
                {"nargs": 0, "const": True} if action else {"action": "store_false" if default else "store_true"}
            )
        elif isinstance(kind, tuple):
            arguments |= {"choices": kind, "metavar": metavar}
        else:
            arguments |= {"type": kind, "metavar": metavar or getattr(kind, "metavar", None)}
        arguments |= (more or {}) | ({"action": action} if action else {})
        group.add_argument(*names.split(), help=text, **arguments)


class _Help(argparse.RawDescriptionHelpFormatter):
    """Shows every default, and each option's value once, behind its longest name."""

    def __init__(self, prog: str, **kwargs: Any) -> None:
        width = min(120, shutil.get_terminal_size().columns - 2)
        super().__init__(prog, **{"max_help_position": 36, "width": width, **kwargs})

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return ", ".join(action.option_strings) + " " + value

    def _format_action(self, action: argparse.Action) -> str:
        if action.option_strings and not action.help:
            action.help = action.dest.replace("_", " ")  # without any help argparse would leave out the default, too
        return super()._format_action(action)

    def _get_help_string(self, action: argparse.Action) -> str:
        if not action.option_strings or action.default is argparse.SUPPRESS or "%(default)" in action.help:
            return action.help
        if action.required:
            return f"{action.help} (required)"
        if action.nargs == 0 or isinstance(action.default, bool):
            state = ("on" if action.default == action.const else "off") if action.nargs == 0 else "%(default)s"
            return f"{action.help} (default: {state})"
        if action.default in (None, "", []):
            return action.help if "default:" in action.help else f"{action.help} (default: none)"
        return f"{action.help} (default: %(default)s)"


# ------------------------------------------------------------ types


def number(kind: type, low: float | None = None, high: float | None = None) -> Callable[[str], int | float]:
    """An option type: a finite `int` or `float` from `low` to `high`, both included."""
    if low is not None and high is not None:
        bounds = f" from {low} to {high}"
    elif low is not None:
        bounds = f" of {low} or more"
    else:
        bounds = "" if high is None else f" of {high} or less"
    expected = {int: "a whole number", float: "a number"}[kind] + bounds

    def convert(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or (low is not None and value < low) or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"expected {expected}, found {text!r}")
        return value

    convert.metavar = {int: "N", float: "X"}[kind]
    return convert


def bool_string(text: str) -> bool:
    """An option type: `True` or `False` as a word, as PoseAug's options have it."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected True or False, found {text!r}")
    return text.lower() == "true"


def saved_file(text: str) -> Path:
    """An option type: a file, or released/NAME for one of this repository's own weights."""
    path = Path(text)
    if path.parts[:1] != ("released",) or len(path.parts) != 2 or path.exists():
        return path
    names = {file.name.split(".")[0]: file for file in sorted(RELEASED.glob("*.pth"))}
    if path.name not in names:
        raise argparse.ArgumentTypeError(f"found {text!r}; there is released/ with {', '.join(names) or 'nothing'}")
    return names[path.name]


def device_name(text: str) -> str:
    """An option type: the name of a device. Whether the machine has it is seen at the start of the run."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"invalid device {text!r} (choose from 'auto', 'cpu', 'cuda', 'cuda:N')")
    return text


# ------------------------------------------------------------ running

SEED = "of every draw; the same seed on the same device gives the same numbers"
RUN = (
    ("--config", str, None, "file of options; the command line overrides it", "FILE.yaml"),
    ("--device", device_name, "auto", "auto (CUDA if there is any), cpu, cuda or cuda:N"),
    ("--amp", bool, False, "compute in bfloat16 where it is safe"),
    ("--threads", number(int, 0), 0,
     "CPU threads of each process; 0: the cores shared out among the processes of this machine"),
)  # fmt: skip
TRAINING_RUN = (
    ("--compile", bool, False, "compile the training step (torch.compile)"),
    ("--no_cuda_graphs", bool, False, "on CUDA, run the training step kernel by kernel"),
    ("--log_every", number(int, 1), 50, "steps between checks of the losses: finite? TensorBoard", "STEPS"),
)  # fmt: skip


# ------------------------------------------------------------ writing


def write_config(path: str | Path, args: argparse.Namespace) -> None:
    """Write the options in force to `path` as YAML, so that `--config path` gives the same run. Atomic."""
    values = {name: _yaml_value(value) for name, value in vars(args).items() if name not in ("config", "resume")}
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    write_atomic(path, lambda file: file.write(text.encode()))


def _yaml_value(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Iterable) and not isinstance(value, (bytes, Mapping)):
        return [_yaml_value(item) for item in value]
    return str(value)


def _plain(name: str) -> str:
    return name.lstrip("-").replace("-", "_")
