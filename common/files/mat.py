"""MATLAB files (version 5, as MATLAB and SciPy save them): arrays of numbers, texts and cells of these; no SciPy.

Nothing in a file is run. Structures, objects and sparse arrays are passed over.
"""

import os
import struct
import zlib
from typing import Any

import numpy as np

from common.errors import InputError
from common.files.atomic import write_atomic
from common.files.reading import most_bytes, read_bytes, reading

_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED, _UTF8 = 1, 5, 6, 14, 15, 16
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8", 16: "u1",
           17: "u2", 18: "u4"}  # fmt: skip
_CELL, _CHAR = 1, 4
_NUMBERS = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_CLASS = {kind: number for number, kind in _NUMBERS.items()}
_CODE = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 9, "i8": 12, "u8": 13}
_COMPLEX = 0x800


def save_mat(path: str | os.PathLike, **arrays: np.ndarray) -> None:
    """Write arrays of numbers, atomically; one- and zero-dimensional ones become rows, as in MATLAB."""
    parts = [b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H2s", 0x0100, b"IM")]
    for name, value in arrays.items():
        value = np.asarray(value)
        value = value.astype(np.uint8) if value.dtype == bool else value
        kind = value.dtype.str[1:]
        if kind not in _CLASS:
            raise InputError(f"cannot write {path}: {name} is {value.dtype}; expected an array of numbers")
        shape = value.shape if value.ndim > 1 else (1, value.size)
        body = _element(_UINT32, struct.pack("<II", _CLASS[kind], 0))
        body += _element(_INT32, np.array(shape, "<i4").tobytes()) + _element(_INT8, name.encode())
        body += _element(_CODE[kind], value.astype("<" + kind).tobytes(order="F"))
        parts.append(_element(_MATRIX, body))
    write_atomic(path, lambda file: file.write(b"".join(parts)))


def _element(code: int, data: bytes) -> bytes:
    return struct.pack("<II", code, len(data)) + data + bytes(-len(data) % 8)


def load_mat(path: str | os.PathLike, required: tuple[str, ...] = ()) -> dict[str, Any]:
    """Variables by name: arrays, strings, and lists for cells.

    Raises:
        InputError: missing, damaged or other file; a `required` variable that is not in it.
    """
    with reading(path):
        data = read_bytes(path)
    if data[:10] == b"MATLAB 7.3":
        raise InputError(f"{path} is MATLAB's version 7.3; expected version 5: save it with -v7 in MATLAB")
    if len(data) < 128 or data[126:128] not in (b"IM", b"MI"):
        raise InputError(f"{path} is no MATLAB file of version 5")
    with reading(path, "MATLAB file", "fetch it again"):
        found = _variables(memoryview(data)[128:], "<" if data[126:128] == b"IM" else ">")
    missing = [name for name in required if name not in found]
    if missing:
        raise InputError(f"{path} has no {', '.join(missing)}; it holds {', '.join(found) or 'nothing'}")
    return found


def _variables(data: memoryview, order: str) -> dict[str, Any]:
    found, room = {}, most_bytes(len(data)) // 16  # bytes to unpack: what is made of one byte may take sixteen
    for code, body in _elements(data, order):
        if code == _COMPRESSED:
            unpacked = memoryview(zlib.decompressobj().decompress(body, max(room, 1)))
            room -= len(unpacked)
            code, body = next(_elements(unpacked, order))
        if code == _MATRIX:
            name, value = _matrix(body, order)
            if value is not None:
                found[name] = value
    return found


def _elements(data: memoryview, order: str):
    """(type, bytes) of the elements, one after the other."""
    at = 0
    while at + 8 <= len(data):
        code, size = struct.unpack_from(order + "II", data, at)
        if code >> 16:  # a small one: size, type and up to four bytes in eight
            code, size, start = code & 0xFFFF, code >> 16, at + 4
            at += 8
        else:
            start = at + 8
            at = start + size + (0 if code == _COMPRESSED else -size % 8)
        if start + size > len(data):
            raise ValueError(f"{size} bytes expected, {len(data) - start} left")
        yield code, data[start : start + size]


def _matrix(data: memoryview, order: str) -> tuple[str, Any]:
    """Name and value; None for kinds that are passed over."""
    elements = _elements(data, order)
    flags = np.frombuffer(next(elements)[1], order + "u4")[0]
    shape = tuple(np.frombuffer(next(elements)[1], order + "i4").tolist())
    name = bytes(next(elements)[1]).decode()
    kind = int(flags & 0xFF)
    if kind == _CELL:
        cells = [_matrix(body, order)[1] if body else None for code, body in elements if code == _MATRIX]
        return name, cells
    if kind != _CHAR and kind not in _NUMBERS or flags & _COMPLEX:
        return name, None
    code, body = next(elements)
    values = np.frombuffer(body, order + _STORED[code])
    if kind == _CHAR:
        return name, bytes(body).decode() if code == _UTF8 else "".join(map(chr, values))
    return name, values.astype(_NUMBERS[kind]).reshape(shape, order="F")
