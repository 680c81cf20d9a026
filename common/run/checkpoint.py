"""Checkpoints: atomic saving, safe loading, strict weights, and the random state that an exact resume needs.

A training checkpoint keeps the published keys `epoch`, `lr`, `optimizer`, `model_pos` at the top level; what an exact
resume needs besides (`rng`, `step`, `best`, `options`, ...) lies beside them. Only tensors, numbers and strings are
stored, so that `torch.load(weights_only=True)` reads every file of ours; `load` never runs code from a file.
"""

import io
import json
import logging
import math
import os
import random
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from common.errors import InputError
from common.files.atomic import write_atomic
from common.files.pickled_module import global_names
from common.files.reading import check_content, open_file

log = logging.getLogger(__name__)

# Options that may differ between a run and its resumption: they say where and for how long, not what is computed.
FREE_OPTIONS = (
    "checkpoint",
    "config",
    "data_dir",
    "device",
    "epochs",
    "gpus",
    "log_every",
    "no_cuda_graphs",
    "no_eval",
    "num_workers",
    "resume",
    "teacher_checkpoint",  # what is in it is compared
    "threads",
)


# ------------------------------------------------------------ saving


def save(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write the checkpoint `state` to `path` atomically (see `write_atomic`)."""
    memory = io.BytesIO()  # torch's own writer may abort the process when the disk fills up under it
    torch.save(dict(state), memory)
    write_atomic(path, lambda file: file.write(memory.getbuffer()))


# ------------------------------------------------------------ loading


class _NumpyType:
    """Stands in for `numpy.dtype` while a checkpoint is read: plain numbers only, so no file can forge an object
    pointer.
    """

    def __init__(self, code: str, *_: Any) -> None:
        if not re.fullmatch(r"[biuf](1|2|4|8)", code):
            raise ValueError(f"NumPy type {code!r}")
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple) -> None:
        self.order = {"<": "<", ">": ">"}.get(state[1], "=")


def _numpy_number(kind: _NumpyType, data: bytes) -> float | int | bool:
    """Stands in for NumPy's scalar constructor: the same number as plain Python."""
    return np.frombuffer(data, kind.order + kind.code)[0].item()


class NotLoaded:
    """Stands in for an object (NumPy's random state, say) inside a published checkpoint; its content is passed over."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def _allowed() -> list:
    numbers = [(_numpy_number, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    arrays = [(NotLoaded, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    states = [
        (NotLoaded, f"numpy.random.{name}")
        for name in (
            "_pickle.__randomstate_ctor",
            "_pickle.__bit_generator_ctor",
            "_mt19937.MT19937",
            "__RandomState_ctor",
        )
    ]
    return [*numbers, *arrays, *states, (NotLoaded, "numpy.ndarray"), (_NumpyType, "numpy.dtype")]


def _passed_over(file: BinaryIO, modules: tuple[str, ...]) -> list:
    """Stand-ins for what the file names of these modules. Older files than torch 1.6's cannot be searched."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(file) if modules else []
    except ValueError:
        names = []
    file.seek(0)
    prefixes = tuple(f"{module}." for module in modules)
    return [(type(name, (NotLoaded,), {}), name) for name in names if name.startswith(prefixes)]


# What torch's safe loader builds besides plain tensors: some of it takes the memory that the file asks for.
_NOT_PLAIN = re.compile(
    r"\w+\.bytearray|torch\.(\w+\.)*\w*Tensor|torch\.storage\..*|torch\._tensor\..*|torch\.nested\..*"
    r"|torch\._utils\._rebuild_(?!(tensor|tensor_v2|tensor_v3|parameter|parameter_with_state)$).*"
)


def _check_names(file: BinaryIO, path: Path) -> None:
    """Hold a file's pickles against its size, and the names in them against `_NOT_PLAIN`, before torch reads it."""
    names = global_names(file)
    wrong = next((name for name in sorted(names) if _NOT_PLAIN.fullmatch(name)), None)
    if wrong:
        raise InputError(f"cannot load {path}: it holds {wrong}, expected plain tensors; nothing was run")


def load(path: str | Path, device: str | torch.device = "cpu", pass_over: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read a checkpoint onto `device` without running any code in it.

    Tensors, plain containers, numbers and strings are read; NumPy numbers (which published files hold) become Python
    numbers, NumPy random states become `NotLoaded`. So do classes and functions of the modules to `pass_over`, and
    objects made of them: subclasses of it by their names. Anything else in the file is refused by name with an
    InputError, as are tensors that are sparse, quantized or without numbers, and content that claims, or repeats, more
    than the file's bytes can hold (`common.files.reading`).
    """
    with _open(Path(path)) as file, torch.serialization.safe_globals(_allowed()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the format: what cannot be read is refused below
        try:
            _check_names(file, Path(path))
            with torch.serialization.safe_globals(_passed_over(file, pass_over)):
                state = torch.load(file, map_location=device, weights_only=True)
            check_content(state, os.fstat(file.fileno()).st_size, path)
        except (InputError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # a damaged file can fail in any way; every one of them is the file's fault
            raise InputError(f"cannot load {path}: {_what_is_wrong(str(error))}") from error
    if not isinstance(state, dict):
        raise InputError(f"cannot load {path}: found a {type(state).__name__}, expected a checkpoint dictionary")
    return state


def _open(path: Path) -> BinaryIO:
    try:
        return open_file(path)
    except (FileNotFoundError, NotADirectoryError):
        problem = "is missing" if path.parent.is_dir() else f"is missing: there is no folder {path.parent}"
    except IsADirectoryError:
        problem = "is a folder, expected a checkpoint file"
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    folder = path if path.is_dir() else path.parent
    near = sorted(file.name for file in folder.glob("*") if file.suffix in (".bin", ".pt", ".pth", ".tar"))
    raise InputError(f"checkpoint {path} {problem}" + (f"; {folder} holds {_some(near)}" if near else ""))


def _what_is_wrong(text: str) -> str:
    named = re.search(r"GLOBAL (\S+)", text)
    if named:
        return f"it holds code or an object ({named[1]}), which a checkpoint must not; nothing was run"
    reason = re.search(r"WeightsUnpickler error:\s*(.+)", text) or re.search(r"(.*)", text)
    return f"truncated or not a checkpoint ({reason[1][:120]})"


# ------------------------------------------------------------ weights

_COVERED, _SMALL, _MANY = 2, 64 << 20, 1000  # a network may have heads that the file lacks: times, bytes, entries


def load_weights(model: nn.Module, state_dict: Mapping[str, torch.Tensor], source: str | Path) -> None:
    """Load `state_dict` into `model` strictly; `source` names the file in errors.

    Names may carry the prefixes of DataParallel (`module.`) and of torch.compile (`_orig_mod.`). Missing or
    unexpected names and other shapes are refused in one line before anything is changed. Only `num_batches_tracked`
    may be missing, as files from before torch 0.4.1 lack it.
    """
    _check_tensors(state_dict, source)
    found = plain_names(state_dict)
    expected = model.state_dict()
    missing = [name for name in expected if name not in found and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in found if name not in expected]
    shapes = [
        f"{name}: {tuple(found[name].shape)} in the file, {tuple(expected[name].shape)} expected"
        for name in expected
        if name in found and found[name].shape != expected[name].shape
    ]
    problems = [
        f"{len(names)} {what} ({_some(names, separator)})"
        for names, what, separator in (
            (missing, "missing", ", "),
            (unexpected, "unexpected", ", "),
            (shapes, "of another size", "; "),
        )
        if names
    ]
    if problems:
        raise InputError(
            f"{source} does not fit {type(model).__name__}: of its {len(found)} weights, " + ", ".join(problems)
        )
    model.load_state_dict(found, strict=False)


def _check_tensors(state_dict: Any, source: str | Path) -> None:
    if not isinstance(state_dict, Mapping) or not state_dict:
        raise InputError(f"{source} holds no weights: expected a dictionary of tensors")
    wrong = [
        str(name)
        for name, value in state_dict.items()
        if not isinstance(name, str) or not isinstance(value, torch.Tensor) or value.is_complex()
    ]
    if wrong:
        raise InputError(f"{source}: the weights hold entries that are no tensors of real numbers ({_some(wrong)})")


class _WithoutMemory(TorchFunctionMode):
    """Large tensors made within have a shape and no numbers; small ones, such as a skeleton's graph, have both."""

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function in (torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn):
            shape = args[0] if args and isinstance(args[0], Sequence) else args
            if math.prod(shape) > 1 << 14:
                kwargs["device"] = "meta"
        return function(*args, **kwargs)


def build(make: Callable[[], nn.Module], state: Mapping[str, Any], source: str | Path) -> nn.Module:
    """The network that `make` builds in the sizes read off a file, whose weights `state` cover it: sizes are shapes, or
    numbers beside them, and a file of some bytes can name any.

    Raises:
        InputError: sizes of no network, or the network has many times the file's weights.
    """
    storages = {
        value.untyped_storage().data_ptr(): value for value in state.values() if isinstance(value, torch.Tensor)
    }
    held = sum(value.untyped_storage().nbytes() for value in storages.values())
    taken, count = 0, 0

    def weigh(_module: nn.Module, _name: str, parameter: Any) -> None:
        nonlocal taken, count
        taken, count = taken + (0 if parameter is None else parameter.nbytes), count + 1
        if taken > _COVERED * held + _SMALL or count > _COVERED * len(state) + _MANY:
            raise InputError(
                f"{source} names a network of {taken:,} bytes or more, and holds weights of {held:,}: refused"
            )

    counting = nn.modules.module.register_module_parameter_registration_hook(weigh)
    try:
        with torch.random.fork_rng(devices=[]), _WithoutMemory():
            make()
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, ZeroDivisionError, RuntimeError) as error:
        raise InputError(f"{source}: the sizes in it make no network ({error})") from error
    finally:
        counting.remove()
    return make()


def plain_names(state: Mapping[Any, Any]) -> dict[str, Any]:
    """The entries of `state` by the names that a network alone gives them: without what torch.compile puts into each
    (`_orig_mod.`) and what DataParallel puts before all (`module.`).
    """
    found = {str(name).replace("_orig_mod.", ""): value for name, value in state.items()}
    while found and all(name.startswith("module.") for name in found):
        found = {name.removeprefix("module."): value for name, value in found.items()}
    return found


def load_optimizer(optimizer: torch.optim.Optimizer, state: Any, source: str | Path) -> None:
    """Load an optimiser's saved state; another optimiser's, or one for other parameters, is refused in one line."""
    shapes = [tuple(parameter.shape) for group in optimizer.param_groups for parameter in group["params"]]
    try:
        for index, slots in state["state"].items():
            for name, value in slots.items():
                if isinstance(value, torch.Tensor) and value.dim() and tuple(value.shape) != shapes[index]:
                    raise ValueError(f"{name} {index}: {tuple(value.shape)} in the file, {shapes[index]} expected")
        optimizer.load_state_dict(state)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(
            f"{source}: the optimiser's state does not fit {type(optimizer).__name__} ({error})"
        ) from error


def _some(names: list[str], separator: str = ", ", count: int = 3) -> str:
    return separator.join(names[:count]) + (f"{separator}..." if len(names) > count else "")


def nonfinite(state: Any, name: str = "") -> Iterator[str]:
    """Names (dotted) of the floating-point tensors within nested dictionaries and lists that hold a NaN or an
    infinity.
    """
    if isinstance(state, torch.Tensor):
        if state.is_floating_point() and not bool(torch.isfinite(state).all()):
            yield name
    elif isinstance(state, Mapping):
        for key, value in state.items():
            yield from nonfinite(value, f"{name}.{key}".lstrip("."))
    elif isinstance(state, (list, tuple)):
        for i, value in enumerate(state):
            yield from nonfinite(value, f"{name}.{i}".lstrip("."))


# ------------------------------------------------------------ randomness, options, epochs


def rng_state(**generators: torch.Generator) -> dict[str, Any]:
    """The state of Python's, NumPy's and torch's generators (CPU, every CUDA device) and of `generators`, by name."""
    version, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": {"version": version, "words": torch.tensor(words), "gauss": gauss},
        "numpy": {
            "keys": torch.from_numpy(keys.astype(np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "generators": {name: generator.get_state() for name, generator in generators.items()},
    }


def set_rng_state(state: Mapping[str, Any], **generators: torch.Generator) -> None:
    """Put back what `rng_state` returned. Where the devices differ, what cannot be put back is named in a warning."""
    try:
        python, numpy = state["python"], state["numpy"]
        random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
        np.random.set_state(
            (
                "MT19937",
                numpy["keys"].cpu().numpy().astype(np.uint32),
                numpy["position"],
                numpy["has_gauss"],
                numpy["cached"],
            )
        )
        torch.set_rng_state(state["torch"].cpu())
        here = torch.cuda.device_count() if torch.cuda.is_available() else 0
        for device, saved in enumerate(state["cuda"][:here]):
            torch.cuda.set_rng_state(saved.cpu(), device)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(f"the checkpoint's random state is damaged ({error}); it cannot be resumed exactly") from error
    set_generators(state, **generators)


def set_generators(state: Mapping[str, Any], **generators: torch.Generator) -> None:
    """Put back only the named generators of what `rng_state` returned."""
    for name, generator in generators.items():
        saved = state.get("generators", {}).get(name)
        if saved is None or saved.shape != generator.get_state().shape:  # a CPU and a CUDA state differ in size
            log.warning(
                "the random state %r was saved on another kind of device: resumed from here, the draws differ", name
            )
        else:
            generator.set_state(saved.cpu())


def options_json(options: Any) -> str:
    """The options (a Namespace or a dictionary) as a JSON string: how a checkpoint stores them."""
    options = options if isinstance(options, Mapping) else vars(options)
    return json.dumps(options, default=str, sort_keys=True)


def saved_options(file: Mapping[str, Any]) -> dict[str, Any]:
    """The options with which a file of ours was trained; of others nothing."""
    text = file.get("options")
    try:
        options = json.loads(text) if isinstance(text, str) else {}
    except ValueError:
        options = {}
    return options if isinstance(options, dict) else {}


def state_file(given: str | Path, name: str, folder: Path | None = None) -> Path:
    """The file that `--resume` means: `given`, sought in `folder` first; where it is a folder, the `name` in it."""
    path = Path(folder or "") / given
    if not path.exists() and Path(given).exists():
        path = Path(given)
    return path / name if path.is_dir() else path


def check_options(saved: Mapping[str, Any] | str, current: Any, ignore: tuple[str, ...] = FREE_OPTIONS) -> None:
    """Refuse, naming each difference, to resume a run whose saved options (dictionary or JSON) differ from `current`.

    Options that only one side knows, and those in `ignore`, are not compared.
    """
    try:
        saved = json.loads(saved) if isinstance(saved, str) else saved
    except ValueError as error:
        raise InputError(f"the checkpoint's options are damaged ({error})") from error
    if not isinstance(saved, Mapping):
        raise InputError(f"the checkpoint's options are damaged: found {saved!r}, expected a table")
    saved, here = json.loads(options_json(saved)), json.loads(options_json(current))
    differences = [
        f"--{name} {here[name]} here, {saved[name]} in the checkpoint"
        for name in here
        if name in saved and name not in ignore and here[name] != saved[name]
    ]
    if differences:
        raise InputError("cannot resume with other options: " + "; ".join(differences))


def check_epochs(path: str | Path, finished: int, wanted: int, option: str = "--epochs") -> None:
    """Refuse to go on with a run that has done what is asked for."""
    if finished >= wanted:
        raise InputError(f"{path} has {finished} finished epochs; to go on, ask for more than that with {option}")
