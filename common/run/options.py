"""Command-line options of the scripts: argparse with YAML files, both spellings of every name, and one-line errors."""

import argparse
import difflib
import math
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml

from common.files.atomic import write_atomic


class Parser(argparse.ArgumentParser):
    """An argument parser for the scripts.

    Every long option is accepted with `-` and with `_` between its words; help shows the one it was added with. Names
    are never abbreviated. `--config FILE.yaml` (see `add_run_options`) sets options, the command line overrides it.
    Errors are one line on stderr and exit status 2, with a suggestion for a misspelt name.
    """

    def __init__(self, description: str | None = None, **kwargs: Any) -> None:
        super().__init__(description=description, allow_abbrev=False, formatter_class=_Help, **kwargs)

    def add_run_options(self, *seed: str) -> None:
        """Add the group "Running", which `common.run.run.start` reads. `seed`: other spellings of the seed's option."""
        group = self.add_argument_group("Running")
        group.add_argument("--config", metavar="FILE.yaml", help="file of options; the command line overrides it")
        group.add_argument(
            "--device", type=device_name, default="auto", help="auto (CUDA if there is any), cpu, cuda or cuda:N"
        )
        group.add_argument(
            *(seed or ("--seed",)),
            dest="seed",
            type=number(int, 0, 2**32),
            default=0,
            help="of every draw; the same seed on the same device gives the same numbers",
        )
        group.add_argument("--amp", action="store_true", help="compute in bfloat16 where it is safe")
        group.add_argument("--compile", action="store_true", help="compile the training step (torch.compile)")
        group.add_argument(
            "--no_cuda_graphs", action="store_true", help="on CUDA, run the training step kernel by kernel"
        )
        group.add_argument(
            "--threads",
            type=number(int, low=0),
            default=0,
            help="CPU threads of each process; 0: the cores shared out among the processes of this machine",
        )
        group.add_argument(
            "--log_every",
            type=number(int, low=1),
            default=50,
            metavar="STEPS",
            help="steps between checks of the losses (finite?) and TensorBoard values",
        )

    def parse_known_args(self, args=None, namespace=None):
        """As argparse; `--config` is read first and gives the values that the command line may override."""
        args = list(sys.argv[1:] if args is None else args)
        self._accept_both_spellings()
        if namespace is None and any(action.dest == "config" for action in self._actions):
            namespace = argparse.Namespace(**self._read_config(args))
        return super().parse_known_args(args, namespace)

    def parse_args(self, args=None, namespace=None):
        """As argparse; an unknown option is named, with the nearest known one."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            name = next((word.split("=")[0] for word in unknown if word.startswith("-")), None)
            if name is None:
                self.error(f"unexpected argument {unknown[0]!r}: values follow an option, as in --epochs 50")
            self.error(f"unknown option {name}" + self._suggest(name, "--help lists the options"))
        return options

    def error(self, message: str) -> NoReturn:
        """Leave with one line on stderr and status 2."""
        self.exit(2, f"error: {' '.join(message.split())}\n")

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
        published = {_plain(word): word for action in reversed(self._actions) for word in action.option_strings}
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
                near = difflib.get_close_matches(name, by_name, n=1)
                self.error(
                    f"{path}: unknown option {key!r}"
                    + (f": did you mean {near[0]!r}?" if near else " (--help lists them)")
                )
            action = by_name[name]
            if action.dest in values:
                self.error(f"{path}: {key!r} is given twice")
            values[action.dest] = self._convert(action, name, value, f"{path}: {key}")
            action.required = False
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
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            self.error(f"cannot read {path}: {error.strerror}")
        except UnicodeDecodeError:
            self.error(f"cannot read {path}: it is not a text file")
        except (yaml.YAMLError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            where = f" in line {mark.line + 1}" if mark else ""
            self.error(
                f"cannot read {path}: malformed YAML{where} ({getattr(error, 'problem', None) or type(error).__name__})"
            )
        if content is None:
            return {}
        if not isinstance(content, dict):
            self.error(f"cannot read {path}: expected lines such as 'epochs: 50', found a {type(content).__name__}")
        return content

    def _convert(self, action: argparse.Action, name: str, value: Any, where: str) -> Any:
        if (
            action.nargs == 0
        ):  # a flag; by the option's name it says whether the flag is given, by its dest the value itself
            if not isinstance(value, bool):
                self.error(f"{where}: expected true or false, found {value!r}")
            return (
                value
                if name == action.dest and isinstance(action.const, bool)
                else action.const
                if value
                else action.default
            )
        if value is None and action.default is None:
            return None
        several = action.nargs not in (None, "?")
        if isinstance(value, list) and not several and action.type in (None, str):
            return ",".join(str(self._scalar(action, item, where)) for item in value)
        if several:
            return [self._scalar(action, item, where) for item in (value if isinstance(value, list) else [value])]
        return self._scalar(action, value, where)

    def _scalar(self, action: argparse.Action, value: Any, where: str) -> Any:
        if not isinstance(value, (str, int, float)) or (isinstance(value, bool) and action.type in (None, str)):
            self.error(
                f"{where}: expected one value, found {value!r:.60} (text such as yes, no, on, off goes in quotes)"
            )
        try:
            result = (action.type or str)(str(value))
        except (argparse.ArgumentTypeError, TypeError, ValueError) as error:
            reason = (
                str(error)
                if isinstance(error, argparse.ArgumentTypeError)
                else (f"invalid {getattr(action.type, '__name__', 'value')} value: {str(value)!r}")
            )
            self.error(f"{where}: {reason}")
        if action.choices is not None and result not in action.choices:
            self.error(f"{where}: invalid choice: {result!r} (choose from {', '.join(map(repr, action.choices))})")
        return result


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
        return f"{action.help} (default: {'none' if action.default in (None, '', []) else '%(default)s'})"


# ------------------------------------------------------------ types


def number(kind: type, low: float | None = None, high: float | None = None) -> Callable[[str], int | float]:
    """An option type: a finite `int` or `float` from `low` to `high`, both included."""
    expected = " ".join(
        filter(
            None,
            [
                {int: "a whole number", float: "a number"}[kind],
                f"from {low} to {high}"
                if low is not None and high is not None
                else f"of {low} or more"
                if low is not None
                else f"of {high} or less"
                if high is not None
                else "",
            ],
        )
    )

    def convert(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or (low is not None and value < low) or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"expected {expected}, found {text!r}")
        return value

    return convert


def bool_string(text: str) -> bool:
    """An option type: `True` or `False` as a word, as PoseAug's options have it."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected True or False, found {text!r}")
    return text.lower() == "true"


def device_name(text: str) -> str:
    """An option type: the name of a device. Whether the machine has it is seen at the start of the run."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"invalid device {text!r} (choose from 'auto', 'cpu', 'cuda', 'cuda:N')")
    return text


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
