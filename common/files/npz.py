"""Safe reading and atomic writing of `.npz` files, including the object arrays of the VideoPose3D layout.

NumPy stores a dict as a pickle, and a pickle may run any code while it is read. `load_npz` reads pickles through an
unpickler that knows a handful of harmless builders and no classes at all: a file can hold data and nothing else.
"""

import io
import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from common.errors import InputError
from common.files.atomic import write_atomic
from common.files.reading import check_content, check_pickle, check_zip, open_file, read_bytes

_PLAIN = (str, bytes, bool, int, float, complex, type(None), np.generic)
_DTYPE = re.compile(r"[<>|=]?(?:[biufcSU]\d+|\?|O\d?)")  # numbers, strings, objects: nothing structured
_MAX_DEPTH = 64


def load_npz(
    path: str | os.PathLike, required: tuple[str, ...] = (), only: tuple[str, ...] | None = None
) -> dict[str, Any]:
    """Read every array of an `.npz` file (`only`: of these, those that there are); an object array of shape () comes
    back as the object in it.

    Objects may be made of dict, list, tuple, str, bytes, numbers, None and NumPy arrays; pickles of Python 2 load too.
    Arrays inside objects are read-only views of the bytes read (no second copy in memory).

    Raises:
        InputError: missing, empty, truncated or other file; a `required` key is absent; an object is not plain data.
    """
    path = Path(path)
    with _open_archive(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        missing = [key for key in required if key not in members]
        if missing:
            raise InputError(
                f"{path} has no array {', '.join(missing)}; it has: {', '.join(members) or 'none'}; another file?"
            )
        wanted = [key for key in members if only is None or key in only]
        return {key: _read_member(archive, members[key], path, key) for key in wanted}


def load_pickle(path: str | os.PathLike) -> Any:
    """Read a pickle file of plain data, as published annotation caches are; nothing in it is executed.

    Dicts, lists, tuples, str, bytes, numbers, None and NumPy arrays of these; pickles of Python 2 load too.

    Raises:
        InputError: missing, truncated or other file; it names anything that is not plain data.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} {'is no file' if path.exists() else 'does not exist'} (looked for {path.absolute()})")
    try:
        data = read_bytes(path)
        check_pickle(data)
        return _unpickle(io.BytesIO(data), len(data), str(path))
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"{path} is truncated, damaged or no pickle ({reason}): fetch or make it again") from error


def save_npz(path: str | os.PathLike, compressed: bool = False, **arrays: Any) -> None:
    """Write arrays (or dicts of arrays, stored as object arrays) to `path`, all or nothing.

    VideoPose3D and `numpy.load(..., allow_pickle=True)` read the result. An old file stays whole until the new one is.
    """
    write = np.savez_compressed if compressed else np.savez
    write_atomic(path, lambda file: write(file, **arrays))


def _open_archive(path: Path) -> zipfile.ZipFile:
    """Open the zip, or say in one line why it is none."""
    if not path.exists():
        raise InputError(f"{path} does not exist (looked for {path.absolute()})")
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected an .npz file")
    try:
        with open_file(path) as file:
            start = file.read(2)
        if not start:
            raise InputError(f"{path} is empty (0 bytes); expected an .npz file: fetch or make it again")
        archive = zipfile.ZipFile(path)
        check_zip(archive, path.stat().st_size, path)
        return archive
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        if start == b"PK":
            raise InputError(f"{path} is truncated or damaged ({error}): fetch or make it again") from error
        raise InputError(f"{path} is not an .npz file (a zip of NumPy arrays)") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, key: str) -> Any:
    """One array of the archive. Whatever a hostile or damaged file provokes becomes one InputError."""
    try:
        with archive.open(info) as file:
            shape, dtype = _read_header(file)
            if dtype.kind == "O":
                size = _check_pickle(file)
                with archive.open(info) as again:
                    _read_header(again)
                    return _read_objects(again, size, f"object array in {path} key {key}")
            if int(np.prod(shape, dtype=object)) * dtype.itemsize > info.file_size:
                raise ValueError("the data are shorter than the header says")
        with archive.open(info) as file:
            value = np.lib.format.read_array(file, allow_pickle=False)
            file.read(1)
            return value
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"{path} key {key} is truncated or damaged ({reason}): fetch or make it again") from error


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of the array that a member begins with; an unknown version has those of no array."""
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, _, dtype = read_header[version](file) if version in read_header else ((), False, np.dtype("u1"))
    return shape, dtype


def _check_pickle(file: BinaryIO) -> int:
    """`check_pickle` of the rest of a file -> its length. The bytes are let go before anything is made of them, which
    is as much again, and are read in parts, for a zip's member of n bytes read at once takes 2 n: of Human3.6M 600 MB.
    """
    data = bytearray()
    while part := file.read(1 << 20):
        data += part
    check_pickle(data)
    return len(data)


def _unpickle(file: BinaryIO, size: int, where: str) -> Any:
    """The plain data of a checked pickle of so many bytes; it takes no more memory than these explain."""
    value = _Plainer(where).plain(_DataUnpickler(file, where).load())
    check_content(value, size, where)
    return value


def _read_objects(file: BinaryIO, size: int, where: str) -> Any:
    """The plain data in a pickled object array; an array of shape () is opened."""
    array = _unpickle(file, size, where)
    if not isinstance(array, np.ndarray):
        raise InputError(f"{where} holds a bare {type(array).__name__}; expected a NumPy object array")
    return array[()] if array.shape == () else array


class _DataUnpickler(pickle.Unpickler):
    """Builds data only: every global name in the stream is looked up in a short table, and never imported.

    What the table hands out are stand-ins, not NumPy's own functions and types: a pickle can also set the state of an
    object it got hold of, and NumPy trusts the state that it is given (a dtype, a shape) further than a file deserves.
    """

    def __init__(self, file: BinaryIO, where: str):
        super().__init__(file, encoding="latin1")  # Python 2 strings, which carry the array bytes there
        self._where = where

    def find_class(self, module: str, name: str) -> "_Builder":
        module = {"__builtin__": "builtins"}.get(module, module)  # its name in Python 2
        make = _BUILDERS.get((module.replace("numpy._core.", "numpy.core."), name))  # its names in NumPy 2 and 1
        if make is None:
            raise InputError(f"{self._where} holds {module}.{name}, which is not data: refused")
        return _Builder(f"{module}.{name}", make)


class _Builder:
    """Stand-in for a callable named in a pickle; the pickle can call it and nothing else."""

    __slots__ = ("name", "make")

    def __init__(self, name: str, make):
        self.name, self.make = name, make

    def __call__(self, *arguments):
        return self.make(*arguments)

    def __setstate__(self, state):
        raise pickle.UnpicklingError(f"state for {self.name}")


class _Dtype:
    """Stand-in for `numpy.dtype`: plain numbers, strings and objects in either byte order."""

    __slots__ = ("built",)

    def __init__(self, spec: str | bytes, *_flags):
        spec = spec.decode("ascii") if isinstance(spec, bytes) else spec
        if not _DTYPE.fullmatch(spec):
            raise pickle.UnpicklingError(f"dtype {spec[:40]!r} is not of plain numbers or strings")
        self.built = np.dtype(object if "O" in spec else spec)

    def __setstate__(self, state):
        _version, order, *structure = state[:5]
        if any(part is not None for part in structure):
            raise pickle.UnpicklingError("structured dtype")
        order = order.decode("ascii") if isinstance(order, bytes) else order
        if order in ("<", ">"):
            self.built = self.built.newbyteorder(order)


class _Array:
    """Stand-in for an array between its creation (`_reconstruct`) and its state (shape, dtype, bytes)."""

    __slots__ = ("built", "flat")

    def __init__(self, *_arguments):
        self.built = self.flat = None

    def __setstate__(self, state):
        shape, dtype, fortran, data = state[-4:]
        if dtype.built.kind == "O":
            self.flat = np.empty(len(data), dtype=object)  # listed in C order, whatever the flag says
            for i, value in enumerate(data):
                self.flat[i] = value
        else:
            self.flat = _numbers(data, dtype)
        self.built = self.flat.reshape(shape, order="F" if fortran and dtype.built.kind != "O" else "C")


def _numbers(data, dtype: _Dtype) -> np.ndarray:
    """Flat array of the machine's byte order, from bytes or from Python 2's text."""
    data = data.encode("latin1") if isinstance(data, str) else data
    array = np.frombuffer(data, dtype.built) if len(data) else np.empty(0, dtype.built)
    return array.astype(dtype.built.newbyteorder("="), copy=False)


def _from_buffer(buffer, dtype: _Dtype, shape, order, *_axes) -> np.ndarray:
    """An array of pickle protocol 5 whose bytes lie in the stream."""
    return _numbers(buffer, dtype).reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: _Dtype, data) -> np.generic:
    """A NumPy scalar from its bytes."""
    return _numbers(data, dtype)[0]


def _encode(text: str, codec: str = "latin1") -> bytes:
    """Bytes in a pickle of protocol 2 or older, which Python 3 writes as encoded text."""
    if codec not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"codec {codec!r}")
    return text.encode("latin1")


_BUILDERS = {
    ("numpy", "ndarray"): _Array,  # only ever the first argument of _reconstruct
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encode,
    ("builtins", "complex"): complex,
    ("builtins", "bytes"): lambda: b"",  # how protocol 2 writes empty bytes
}


class _Plainer:
    """Replaces the stand-ins in what was unpickled by what they stand for, and refuses whatever is not plain data."""

    def __init__(self, where: str):
        self.where = where
        self.done: dict[int, tuple[Any, Any]] = {}  # id -> (object, plain form); held, so that ids last

    def plain(self, value: Any, depth: int = 0) -> Any:
        """The plain form of `value`; lists, dicts and object arrays are changed in place."""
        if isinstance(value, _PLAIN):
            return value
        if id(value) in self.done:
            return self.done[id(value)][1]
        if depth > _MAX_DEPTH:
            raise InputError(f"{self.where} is nested deeper than {_MAX_DEPTH} levels: refused")
        if type(value) is tuple:
            result = tuple(self.plain(part, depth + 1) for part in value)
            self.done[id(value)] = (value, result)
            return result
        result = value.built if isinstance(value, (_Array, _Dtype)) else value
        self.done[id(value)] = (value, result)  # before its parts, one of which may be the value itself
        if type(result) is dict:
            for key in result:
                self._check_key(key)
                result[key] = self.plain(result[key], depth + 1)
        elif type(result) is list or (isinstance(result, np.ndarray) and result.dtype.kind == "O"):
            parts = result if type(result) is list else value.flat
            for i, part in enumerate(parts):
                parts[i] = self.plain(part, depth + 1)
        elif not isinstance(result, (np.ndarray, np.dtype)):
            kind = value.name if isinstance(value, _Builder) else f"{type(result).__module__}.{type(result).__name__}"
            raise InputError(f"{self.where} holds {kind}, which is not data: refused")
        return result

    def _check_key(self, key: Any) -> None:
        parts = key if isinstance(key, tuple) else (key,)
        if not all(isinstance(part, _PLAIN) for part in parts):
            raise InputError(f"{self.where} has a dict key that is neither text nor number: refused")
