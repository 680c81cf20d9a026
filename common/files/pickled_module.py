"""Weights out of whole networks that torch has pickled (`torch.save(model)`), read without running what they hold.

The classes that such a file names need not exist: empty shells take their place, from which parameters and buffers are
gathered. Only names within `torch.nn` and the `modules` that the caller names get a shell, and tensors are rebuilt
here; any other name is refused. Torch's own safe loader does not read such files from before torch 1.6.
"""

import mmap
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from common.errors import InputError
from common.files.reading import check_content, check_pickle, check_zip, open_file

_TYPES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "ByteStorage": torch.uint8, "CharStorage": torch.int8, "BoolStorage": torch.bool,
}  # fmt: skip
_MODULES = ("torch.nn.modules", "torch.nn.parallel", "torch.nn.backends")


class _Shell:
    """Stands in for a pickled module: keeps its attributes and has no code."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state if isinstance(state, dict) else {})


class _Parameter:
    """Stands in for a parameter, however its time pickled it: keeps the first tensor among what it is made of."""

    tensor: Tensor | None = None

    def __new__(cls, *parts: Any) -> "_Parameter":
        made = super().__new__(cls)
        made.__setstate__(parts)
        return made

    def __setstate__(self, state: Any) -> None:
        tensors = [part for part in state if isinstance(part, Tensor)] if isinstance(state, tuple) else []
        self.tensor = tensors[0] if self.tensor is None and tensors else self.tensor


class _Tensor:
    def __new__(cls, storage: Tensor, offset: int, size: tuple, stride: tuple, *_: Any) -> Tensor:
        return storage.as_strided(size, stride, offset)  # refuses what lies outside


_NAMES = {
    "torch._utils._rebuild_tensor": _Tensor, "torch._utils._rebuild_tensor_v2": _Tensor,
    "torch._utils._rebuild_parameter": _Parameter, "torch.nn.parameter.Parameter": _Parameter,
    "torch.autograd.variable.Variable": _Parameter, "collections.OrderedDict": OrderedDict,
    "__builtin__.set": set, "builtins.set": set, "torch.Size": tuple,
}  # fmt: skip


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, modules: tuple[str, ...], limit: int):
        super().__init__(file, encoding="latin1")
        self.prefixes = tuple(f"{module}." for module in (*_MODULES, *modules))
        self.limit = limit  # bytes that the file's tensors can have
        self.storages: dict[str, Tensor] = {}
        self.taken = 0  # bytes of those

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in _NAMES:
            known = _NAMES[full]  # ours are handed out as classes made anew, which the file may spoil as it likes
            return type(name, (known,), {}) if known in (_Tensor, _Parameter) else known
        if module in ("torch", "torch.cuda") and name in _TYPES:
            return _TYPES[name]
        if full.startswith(self.prefixes):
            return type(name, (_Shell,), {})
        raise pickle.UnpicklingError(f"it holds {full}")

    def persistent_load(self, saved: tuple) -> Any:
        if saved[0] == "module":
            return saved[1]
        _, dtype, key, _, count, *view = saved
        if key not in self.storages:
            self.taken += count * dtype.itemsize
            if not 0 <= count * dtype.itemsize <= self.taken <= self.limit:
                raise ValueError(f"{count} numbers in a file of {self.limit} bytes")
            self.storages[key] = torch.zeros(count, dtype=dtype)
        if view and view[0] is not None:
            _, offset, length = view[0]
            return self.storages[key][offset : offset + length]
        return self.storages[key]


def global_names(file: BinaryIO) -> set[str]:
    """`module.name` of every class and function that the pickles in a file of torch's refer to.

    Raises:
        InputError, ValueError, ...: pickles or archive are damaged, or claim more than the file's bytes can hold.
    """
    size, names = os.fstat(file.fileno()).st_size, set()
    if file.read(4) == b"PK\3\4":  # since torch 1.6
        with zipfile.ZipFile(file) as archive:
            check_zip(archive, size, file.name)
            for info in archive.infolist():
                if info.filename.rpartition("/")[2] == "data.pkl":
                    names |= check_pickle(archive.read(info))[1]
    else:  # before: magic number, protocol, system, the object, the storages' keys, each a pickle
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            end = 0
            for _ in range(5):
                end, more = check_pickle(data, end)
                names |= more
    file.seek(0)
    return names


def is_whole_network(path: str | Path) -> bool:
    """Whether the file names classes of `torch.nn.modules`, as pickled networks do; false for what cannot be read."""
    try:
        with open_file(path) as file:
            return any(name.startswith("torch.nn.modules.") for name in global_names(file))
    except Exception:  # a damaged file can fail in any way; the reader that comes next says how
        return False


def load_state(path: str | Path, modules: tuple[str, ...] = ("models",)) -> dict[str, Tensor]:
    """State dict of a pickled network; the classes that are its own are in `modules` or below.

    Files of torch 0.1 (Python 2) and later are meant; what is not understood is refused.

    Raises:
        InputError: something else than a network in the file, or code beside it.
    """
    try:
        read = _read_zip if zipfile.is_zipfile(path) else _read_legacy
        network = read(Path(path), modules)
        if not isinstance(network, _Shell):
            raise ValueError(f"found a {type(network).__name__}")
        state = dict(_entries(network, ""))
        check_content(state, Path(path).stat().st_size, path)
        return state
    except (InputError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a damaged file can fail in any way; every one of them is the file's fault
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(
            f"{path} holds a whole pickled network that cannot be read safely ({reason}); nothing was run. Open it "
            "with the code that wrote it and save model.state_dict() instead"
        ) from error


def _read_zip(path: Path, modules: tuple[str, ...]) -> Any:
    """Since torch 1.6: data.pkl and one entry for each storage."""
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        check_zip(archive, size, path)
        name = next(name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl")
        check_pickle(archive.read(name))
        with archive.open(name) as file:
            unpickler = _Unpickler(file, modules, sum(info.file_size for info in archive.infolist()))
            network = unpickler.load()
        for key, storage in unpickler.storages.items():
            _fill(storage, archive.read(f"{name.removesuffix('data.pkl')}data/{key}"))
    return network


def _read_legacy(path: Path, modules: tuple[str, ...]) -> Any:
    """Before: magic number, protocol, system, the object, the storages' keys; then each storage's count and bytes."""
    with open_file(path) as file:
        global_names(file)  # holds its pickles against its size
        for _ in range(3):
            _Unpickler(file, (), 0).load()
        unpickler = _Unpickler(file, modules, path.stat().st_size)
        network = unpickler.load()
        for key in _Unpickler(file, (), 0).load():
            storage = unpickler.storages[key]
            (count,) = struct.unpack("<q", file.read(8))
            if count != len(storage):
                raise ValueError(f"{count} numbers where {len(storage)} belong")
            _fill(storage, file.read(storage.nbytes))
    return network


def _fill(storage: Tensor, data: bytes) -> None:
    if len(data) != storage.nbytes:
        raise ValueError(f"truncated: {len(data)} bytes of {storage.nbytes}")
    if data:
        storage.copy_(torch.frombuffer(bytearray(data), dtype=storage.dtype))


def _entries(module: _Shell, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """As `module.state_dict()` orders them."""
    for kind in ("_parameters", "_buffers"):
        for name, value in _table(module, kind):
            value = value.tensor if isinstance(value, _Parameter) else value
            if value is not None:
                if not isinstance(value, Tensor):
                    raise ValueError(f"{prefix}{name} is a {type(value).__name__}")
                yield prefix + name, value
    for name, child in _table(module, "_modules"):
        if isinstance(child, _Shell):
            yield from _entries(child, f"{prefix}{name}.")


def _table(module: _Shell, kind: str) -> list[tuple[str, Any]]:
    table = module.__dict__.get(kind, {})
    if not isinstance(table, Mapping):
        raise ValueError(f"{kind} is a {type(table).__name__}")
    return list(table.items())
