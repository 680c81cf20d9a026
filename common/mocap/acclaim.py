"""Acclaim motion capture, as CMU publishes it: a skeleton (.asf) and the motion of its bones (.amc).

A bone lies along `direction` from the end of its parent; its rotation is C M C^-1 in the frame of the parent, with C
from the bone's `axis` and M from the frame's angles. Angles apply in the order listed: for rx ry rz, M = Rz Ry Rx on
column vectors.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

from common.errors import InputError
from common.files.reading import check_bytes, read_bytes
from common.mocap.motion import BYTES_OF_JOINT, Motion, check_finite, moved, turned

INCH = 0.0254  # metres; `length 0.45`, CMU's, means that 0.45 units are an inch
CMU_FPS = 120.0  # the files do not say; CMU's were taken at this rate


class _Bone(NamedTuple):
    offset: Array  # (3,), file units: direction times length
    axis: list[tuple[int, float]]  # C: axis and degrees, in the order in which they apply
    dof: list[str]  # "rx", "ry", ...: the columns of the motion


class Skeleton(NamedTuple):
    """An .asf file."""

    bones: dict[str, _Bone]  # root first, parents before children
    parents: dict[str, str]
    metres: float | None  # of one unit of length
    radians: bool


def read_amc(path: str | os.PathLike, asf: str | os.PathLike | None = None) -> Motion:
    """Where the bones end in every frame (the root: where it is), under the bones' names; y up.

    Without `asf`, the skeleton is the .asf beside the motion whose name its own begins with ("02.asf" for "02_01.amc"),
    or else the only one there.

    Raises:
        InputError: a file is missing or broken, bones that the skeleton does not have, another number of values, NaN.
    """
    path = Path(path)
    asf = find_asf(path) if asf is None else Path(asf)
    skeleton = read_asf(asf)
    values = _read_motion(path, skeleton)
    count = max((block.shape[1] for block in values.values()), default=0)
    size = path.stat().st_size + asf.stat().st_size
    check_bytes(len(skeleton.bones) * count * BYTES_OF_JOINT, size, path)
    positions = _positions(skeleton, values)
    check_finite(positions, path)
    return Motion(tuple(skeleton.bones), positions, CMU_FPS, skeleton.metres, up="y")


def find_asf(amc: Path) -> Path:
    """The skeleton of a motion file."""
    beside = (
        sorted(file for file in amc.parent.iterdir() if file.suffix.lower() == ".asf") if amc.parent.is_dir() else []
    )
    named = [file for file in beside if amc.stem.lower().startswith(file.stem.lower())]
    if not named and len(beside) != 1:
        found = f"there are {', '.join(file.name for file in beside)}" if beside else "there is no .asf"
        raise InputError(
            f"{amc} needs the skeleton that it was taken with beside it, such as 02.asf for 02_01.amc; {found}"
        )
    return max(named, key=lambda file: len(file.stem)) if named else beside[0]


def _read_lines(path: Path) -> list[str]:
    """Lines without comments and outer blanks; empty ones stay, so that numbers can be told."""
    try:
        text = read_bytes(path).decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    return [line.partition("#")[0].strip() for line in text.splitlines()]


# ------------------------------------------------------------ skeleton


def read_asf(path: str | os.PathLike) -> Skeleton:
    """Read a skeleton.

    Raises:
        InputError: no ASF, a bone without direction or length, a hierarchy that names unknown bones.
    """
    path = Path(path)
    sections: dict[str, list[list[str]]] = {}
    for line in _read_lines(path):
        if line.startswith(":"):
            name, *rest = line[1:].split() or [""]
            current = sections.setdefault(name.lower(), [])
            current += [rest] if rest else []
        elif line and sections:
            current.append(line.split())
    lacking = [name for name in ("root", "bonedata", "hierarchy") if not sections.get(name)]
    if lacking:
        raise InputError(f"{path} is not a whole ASF skeleton: it has no :{', :'.join(lacking)}")
    units = {words[0].lower(): words[-1].lower() for words in sections.get("units", []) if words}
    radians = units.get("angle", "deg").startswith("rad")
    bones = {"root": _root(sections["root"], path, radians), **_bones(sections["bonedata"], path, radians)}
    parents = _parents(sections["hierarchy"], bones, path)
    length = _floats([units["length"]], 1, f"{path} :units length")[0] if "length" in units else None
    if length is not None and length <= 0:
        raise InputError(f"{path}: :units length is {length}; expected units to the inch, above 0 (CMU: 0.45)")
    ordered = {name: bones[name] for name in ("root", *parents)}
    return Skeleton(ordered, parents, INCH / length if length else None, radians)


def _floats(words: list[str], count: int, where: str) -> list[float]:
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = []
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise InputError(f"{where}: found {' '.join(words)!r:.60}, expected {count} number{'s' * (count > 1)}")
    return numbers


def _axis(angles: list[str], order: str, radians: bool, where: str) -> list[tuple[int, float]]:
    values = _floats(angles, 3, where)
    if sorted(order.upper()) != ["X", "Y", "Z"]:
        raise InputError(f"{where}: found the order {order!r:.20}, expected one such as XYZ")
    values = [np.rad2deg(value) if radians else value for value in values]
    return [("XYZ".index(letter), values["XYZ".index(letter)]) for letter in order.upper()]


def _root(lines: list[list[str]], path: Path, radians: bool) -> _Bone:
    """The root: its `order` says what its columns are; `axis` and `orientation` make its C."""
    entries = {words[0].lower(): words[1:] for words in lines}
    order = [word.lower() for word in entries.get("order", ["TX", "TY", "TZ", "RX", "RY", "RZ"])]
    _check_dof(order, ("tx", "ty", "tz", "rx", "ry", "rz"), f"{path}: the root")
    letters = (entries.get("axis") or ["XYZ"])[0]
    turn = _axis(entries.get("orientation", ["0"] * 3), letters, radians, f"{path}: the root")
    return _Bone(np.array(_floats(entries.get("position", ["0"] * 3), 3, f"{path}: the root's position")), turn, order)


def _bones(lines: list[list[str]], path: Path, radians: bool) -> dict[str, _Bone]:
    bones: dict[str, _Bone] = {}
    entries: dict[str, list[str]] = {}
    for words in lines:
        if words[0] == "begin":
            entries = {}
        elif words[0] != "end":
            entries.setdefault(words[0].lower(), words[1:])
        else:
            name = " ".join(entries.get("name", [])) or f"number {len(bones) + 1}"
            where = f"{path}: bone {name}"
            lacking = [key for key in ("name", "direction", "length") if key not in entries]
            if lacking or name in bones:
                raise InputError(f"{where} {'is there twice' if name in bones else 'has no ' + ', '.join(lacking)}")
            dof = [word.lower() for word in entries.get("dof", [])]
            _check_dof(dof, ("rx", "ry", "rz"), where)
            *angles, order = entries.get("axis") or ["0", "0", "0", "XYZ"]
            length = _floats(entries["length"], 1, f"{where}, length")[0]
            offset = np.array(_floats(entries["direction"], 3, f"{where}, direction")) * length
            bones[name] = _Bone(offset, _axis(angles, order, radians, f"{where}, axis"), dof)
    return bones


def _check_dof(dof: list[str], known: tuple[str, ...], where: str) -> None:
    wrong = [word for word in dof if word not in known]
    if wrong or len(set(dof)) < len(dof):
        raise InputError(f"{where} moves by {' '.join(dof)!r:.60}; can be read: {' '.join(known)}, each once")


def _parents(lines: list[list[str]], bones: dict[str, _Bone], path: Path) -> dict[str, str]:
    parents: dict[str, str] = {}
    for parent, *children in lines:
        if parent in ("begin", "end"):
            continue
        known = {"root"} | parents.keys()
        wrong = [name for name in (parent, *children) if name not in bones]
        if wrong or parent not in known or known & set(children):
            named = f"unknown bones {', '.join(wrong)}" if wrong else f"{parent} and {', '.join(children)} in no tree"
            raise InputError(f"{path}: broken hierarchy: {named}")
        parents |= dict.fromkeys(children, parent)
    loose = bones.keys() - parents.keys() - {"root"}
    if loose:
        raise InputError(f"{path}: broken hierarchy: {', '.join(sorted(loose))} hang on no bone")
    return parents


# ------------------------------------------------------------ motion


def _read_motion(path: Path, skeleton: Skeleton) -> dict[str, Array]:
    """Bone -> (columns, T) values, angles in degrees. Every frame lists the same bones in the same order."""
    lines = [line for line in _read_lines(path) if line]
    keywords = {line.upper() for line in lines if line.startswith(":")}
    lines = [line for line in lines if not line.startswith(":")]
    starts = [number for number, line in enumerate(lines) if line.isdigit()]
    if not starts:
        raise InputError(f"{path} is not an AMC motion: it has no frame")
    first = [line.split() for line in lines[starts[0] + 1 : [*starts, len(lines)][1]]]
    unknown = [words[0] for words in first if words[0] not in skeleton.bones]
    if unknown:
        raise InputError(f"{path} moves bones that its skeleton does not have: {', '.join(unknown)}; another .asf?")
    widths = {words[0]: len(skeleton.bones[words[0]].dof) for words in first}
    tokens = " ".join(lines).split()
    width = 1 + sum(1 + count for count in widths.values())
    values, column = {}, 1
    for name, count in widths.items():
        if len(tokens) != width * len(starts) or set(tokens[column::width]) != {name}:
            raise InputError(_misfit(path, lines, widths))
        try:
            block = np.array([tokens[column + 1 + i :: width] for i in range(count)], dtype=np.float64)
        except ValueError as error:
            raise InputError(f"{path}: bone {name} has something that is no number ({error})") from error
        values[name] = block.reshape(count, len(starts))
        column += 1 + count
    if skeleton.radians and ":DEGREES" not in keywords:
        for name, block in values.items():
            turns = [word.startswith("r") for word in skeleton.bones[name].dof]
            block[turns] = np.rad2deg(block[turns])
    return values


def _misfit(path: Path, lines: list[str], widths: dict[str, int]) -> str:
    """The fault of a motion whose frames are not all made of the same columns."""
    frame, names = "", list(widths)
    seen: list[str] = names
    for line in [*lines, "end of the file"]:
        name, *numbers = line.split()
        if line.isdigit() or line == "end of the file":
            if seen != names:
                return f"{path} frame {frame} does not list the {len(names)} bones of the first frame, in their order"
            frame, seen = line, []
        else:
            seen.append(name)
            if name in widths and len(numbers) != widths[name]:
                return f"{path} frame {frame}: bone {name} has {len(numbers)} values; its skeleton has {widths[name]}"
    return f"{path}: the frames are not alike"


def _positions(skeleton: Skeleton, values: dict[str, Array]) -> Array:
    """Forward kinematics -> (T, bones, 3), file units. A loop over bones, none over frames."""
    count = len(next(iter(values.values()))[0]) if values else 0
    frames: dict[str, Array] = {}
    points: dict[str, Array] = {}
    for name, bone in skeleton.bones.items():
        parent = skeleton.parents.get(name)
        frame = frames[parent] if parent else np.broadcast_to(np.eye(3)[..., None], (3, 3, count))
        channels = dict(zip(bone.dof, values.get(name, np.zeros((len(bone.dof), count))), strict=True))
        # R2 R1 R0: the last angle is the outermost
        for axis, angle in reversed(bone.axis):
            frame = turned(frame, axis, angle)
        for word in reversed(bone.dof):
            if word.startswith("r"):
                frame = turned(frame, "xyz".index(word[1]), channels[word])
        for axis, angle in bone.axis:
            frame = turned(frame, axis, -angle)
        frames[name] = frame
        if parent:
            points[name] = points[parent] + moved(frame, bone.offset)
        else:
            still = np.zeros(count)
            points[name] = bone.offset[:, None] + np.stack([channels.get(f"t{axis}", still) for axis in "xyz"])
    return np.stack(list(points.values())).transpose(2, 0, 1)
