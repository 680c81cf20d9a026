"""Reading what anybody may have written: faults of a file as one line, memory bounded by its size, nothing but files.

A file of N bytes may take `most_bytes(N)` of memory, far more than honest compression and Python's objects need.
Counts in headers, archives, pickles and aliases promise more at no cost; so they are held against the bytes that are
there before anything is taken.
"""

import contextlib
import json
import os
import stat
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import yaml
from PIL import Image

from common.errors import InputError

_PER_BYTE, _FREE = 64, 512 << 20
_PIXEL = 8  # bytes, as decoded and as RGB: both are there for a while
_DEEPEST = 64  # containers within containers
_LONGEST_INTEGER = 1024  # bits; Python writes no more than 4300 digits
_TEXT = 1 << 18  # bytes of a file of options


def most_bytes(size: int) -> int:
    """The memory that reading `size` bytes of a file may take."""
    return _PER_BYTE * size + _FREE


def check_bytes(claimed: int, size: int, where: object) -> None:
    """Refuse what claims more memory than `size` bytes of a file can honestly hold.

    Raises:
        InputError: with the claim, in one line that begins with `where`.
    """
    if not 0 <= claimed <= most_bytes(size):
        raise InputError(f"{where} claims {claimed:,} bytes, in a file of {size:,}: refused; fetch or make it again")


def check_pixels(width: int, height: int, size: int, where: object) -> None:
    """Refuse a picture that claims more memory than `size` bytes of a file can honestly hold, as `check_bytes`."""
    check_bytes(_PIXEL * width * height, size, f"{where}: a picture of {width} x {height} pixels")


@contextlib.contextmanager
def reading(path: object, kind: str = "file", hint: str = "fetch or make it again") -> Iterator[None]:
    """Around the reading of a file (of this `kind`): whatever goes wrong within is the file's fault, in one line.

    Raises:
        InputError: as raised within; or the file's name, what was raised, and the `hint` what to do.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist (looked for {Path(str(path)).absolute()})") from error
    except MemoryError as error:
        raise InputError(f"{path} cannot be read: it needs more memory than there is") from error
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's, of a GPU: not the file's fault
            raise
        if isinstance(error, OSError) and error.strerror:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise InputError(f"{path} is truncated, damaged or no {kind} ({reason}): {hint}") from error


def size_of(path: str | os.PathLike) -> int:
    """The bytes of a regular file; a fifo or a device, which may never end, is refused.

    Raises:
        OSError: as `os.stat`; InputError: another thing than a file.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):  # a folder: open() says so
        raise InputError(f"{path} is a fifo or a device; expected a file")
    return found.st_size


def open_file(path: str | os.PathLike) -> BinaryIO:
    """Open a regular file; errors as of `size_of`, and as of `open`."""
    size_of(path)
    return open(path, "rb")


def open_image(path: str | os.PathLike, formats: Sequence[str] | None = None) -> Image.Image:
    """Pillow's image, not decoded yet, whose pixels take no more memory than the file's bytes may (`most_bytes`).

    Raises:
        InputError: more pixels, or no file; and what Pillow raises.
    """
    size = size_of(path)
    image = Image.open(path, formats=formats)
    check_pixels(image.width, image.height, size, path)
    return image


def read_bytes(path: str | os.PathLike) -> bytes:
    """All bytes of a regular file; errors as of `open_file`."""
    with open_file(path) as file:
        return file.read()


def load_json(path: str | os.PathLike, hint: str = "fetch or make it again") -> Any:
    """A JSON file's content; UTF-8 with or without a byte order mark, UTF-16 and UTF-32.

    Raises:
        InputError: missing, damaged or other file.
    """
    with reading(path, "JSON", hint):
        return json.loads(read_bytes(path))


def read_text(path: str | os.PathLike, most: int | None = _TEXT) -> str:
    """A text in UTF-8, at most so many bytes long: files of options are short, and of some bytes much can be made."""
    with open_file(path) as file:
        data = file.read() if most is None else file.read(most + 1)
    if most is not None and len(data) > most:
        raise InputError(f"{path} has more than {most:,} bytes; expected a file of options")
    return data.decode("utf-8")


def load_array(path: str | os.PathLike) -> np.ndarray:
    """The array of numbers in an `.npy` file.

    Raises:
        InputError: missing, damaged or other file.
    """
    with reading(path, ".npy file of numbers"), open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
        if dtype.hasobject:
            raise ValueError("it holds objects")
        if int(np.prod(shape, dtype=object)) * dtype.itemsize > size:
            raise ValueError("the data are shorter than the header says")
        file.seek(0)
        return np.load(file, allow_pickle=False)


def check_zip(archive: zipfile.ZipFile, size: int, where: object) -> None:
    """Refuse an archive of `size` bytes whose members unpack to more than `most_bytes`, or that has too many."""
    check_bytes(sum(info.file_size for info in archive.infolist()), size, f"{where}: the archive")


# ------------------------------------------------------------ YAML


class _Yaml(yaml.SafeLoader):
    """YAML of plain data whose aliases, written out, are no longer than a file of options may be."""

    def get_single_node(self) -> yaml.Node | None:
        node, lengths = super().get_single_node(), {}

        def length(part: Any) -> int:
            if isinstance(part, yaml.ScalarNode):
                return 1 + len(part.value)
            if id(part) not in lengths:
                lengths[id(part)] = _TEXT + 1  # met within itself: a circle
                items = part.value if isinstance(part, yaml.SequenceNode) else [n for pair in part.value for n in pair]
                lengths[id(part)] = 1 + sum(map(length, items))
            return lengths[id(part)]

        if node is not None and length(node) > _TEXT:
            raise yaml.YAMLError("its aliases repeat too much")
        return node


def load_yaml(path: str | os.PathLike) -> Any:
    """The content of a file of options: plain data, of at most 256 kB with its aliases written out.

    Raises:
        InputError: missing or damaged file, or other content; the line is named where it can be.
    """
    try:
        content = yaml.load(read_text(path), _Yaml)
        check_content(content, _TEXT, path)
        return content
    except (yaml.YAMLError, RecursionError, ValueError, LookupError, TypeError, AttributeError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise InputError(f"cannot read {path}: it is not a text file") from error
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or f"{type(error).__name__}: {error}"[:100]
        raise InputError(f"cannot read {path}: malformed YAML{where} ({reason}); mend or move it") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


# ------------------------------------------------------------ pickles

# Bytes of each opcode with its argument; those with counted arguments: how many bytes tell the count; with lines: how
# many. Of all others there is no length, and no pickle of data has them.
_FIXED = dict.fromkeys(b"()]}.012RQabedosltu\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94\x97\x98N", 1)
_FIXED |= {code: 2 for code in b"Khq\x80\x82"} | {code: 3 for code in b"M\x83"}
_FIXED |= {code: 5 for code in b"Jjr\x84"} | {ord("G"): 9, 0x95: 9}
_COUNTED = {code: 1 for code in b"UC\x8a\x8c"} | {code: 4 for code in b"TBX\x8b"}
_COUNTED |= {code: 8 for code in b"\x8d\x8e\x96"}
_LINES = dict.fromkeys(b"FILSVPgp", 1) | dict.fromkeys(b"ci", 2)
_STOP, _PUT, _LONG_PUT, _GLOBAL = ord("."), ord("p"), ord("r"), ord("c")


def check_pickle(data: Any, start: int = 0) -> tuple[int, set[str]]:
    """Walk over a pickle's opcodes in bytes (or a map of a file) without doing what they say.

    Python's unpickler takes memory as an index of its memo, or a count, tells it, before it looks what there is.

    Returns:
        where the pickle ends, and the names `module.name` that it loads by GLOBAL.

    Raises:
        ValueError: an unknown opcode, an index or a count beyond what the data can hold, or no end.
    """
    at, end, names = start, len(data), set()
    fixed = [_FIXED.get(code, 0) for code in range(256)]
    while at < end:
        code = data[at]
        if fixed[code]:
            if code == _LONG_PUT and int.from_bytes(data[at + 1 : at + 5], "little") > end:
                raise ValueError("a memo index beyond the pickle's length")
            at += fixed[code]
            if code == _STOP:
                return at, names
        elif code in _COUNTED:
            width = _COUNTED[code]
            at += 1 + width + int.from_bytes(data[at + 1 : at + 1 + width], "little")
        elif code in _LINES:
            after = at + 1
            for _ in range(_LINES[code]):
                after = data.find(b"\n", after) + 1
                if not after:
                    raise ValueError("truncated pickle")
            if code == _PUT and not 0 <= int(data[at + 1 : after][:20]) <= end:
                raise ValueError("a memo index beyond the pickle's length")
            if code == _GLOBAL:
                names.add(data[at + 1 : after - 1].decode("utf-8", "replace").replace("\n", "."))
            at = after
        else:
            raise ValueError(f"opcode {code} in a pickle")
    raise ValueError("truncated pickle")


# ------------------------------------------------------------ aliases


def check_content(value: Any, size: int, where: object) -> None:
    """Refuse content whose parts stand for more than a file of `size` bytes can hold.

    An alias repeats a part at no cost, and aliases of aliases do so without end: each counts with all that is in it.
    So do arrays and tensors that show their numbers many times over. Refused, too: circles, containers nested deeper
    than 64, integers of hundreds of digits, tensors that are not plain numbers in memory.

    Raises:
        InputError: as said.
    """
    weights: dict[int, int] = {}
    limit = most_bytes(size)

    def weigh(part: Any, depth: int) -> int:
        objects = isinstance(part, np.ndarray) and part.dtype == object
        if not objects and not isinstance(part, (Mapping, list, tuple, set)):
            return _leaf(part, where)
        if depth > _DEEPEST:
            raise InputError(f"{where} is nested deeper than {_DEEPEST} levels: refused")
        if id(part) not in weights:
            weights[id(part)] = limit + 1  # met within itself: a circle
            if isinstance(part, Mapping):
                total = 8 * len(part) + sum(_leaf(k, where) + weigh(v, depth + 1) for k, v in part.items())
            else:
                flat = part.ravel() if isinstance(part, np.ndarray) else part
                total = 8 * len(flat) + sum(weigh(item, depth + 1) for item in flat)
            weights[id(part)] = total
        if weights[id(part)] > limit:
            raise InputError(f"{where} repeats its parts, or shows few numbers as many: more than {size:,} bytes can "
                             "hold; refused")  # fmt: skip
        return weights[id(part)]

    if weigh(value, 0) > limit:
        raise InputError(f"{where} shows few numbers as many: more than {size:,} bytes can hold; refused")


def _leaf(part: Any, where: object) -> int:
    """Bytes of what is no container."""
    if isinstance(part, int):
        if part.bit_length() > _LONGEST_INTEGER:
            raise InputError(f"{where} holds an integer of {part.bit_length()} bits: refused")
        return 8
    if isinstance(part, (str, bytes, tuple)):
        return 8 + len(part)
    return 8 + int(getattr(part, "nbytes", 0))
