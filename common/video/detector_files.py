"""Files of the 2D detectors: where they are kept, fetched once through pip, and checked by their hash."""

import hashlib
import logging
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import InputError
from common.files.atomic import write_atomic

log = logging.getLogger(__name__)

FOLDER = Path(__file__).resolve().parents[2] / "checkpoint/detectors"
WHEEL = "mediapipe==0.10.21"  # Apache-2.0; later ones hold no models
# In the wheel, and sha256.
BLAZEPOSE = (
    ("mediapipe/modules/pose_detection/pose_detection.tflite",
     "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c"),
    ("mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
     "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f"),
)  # fmt: skip
# The wheel is only unzipped: one of any system does, and naming one lets every system and Python take it.
_ANY_SYSTEM = ("--only-binary=:all:", "--platform", "manylinux_2_28_x86_64", "--python-version", "3.11")
_ANY_SYSTEM += ("--implementation", "cp", "--abi", "cp311")


def blazepose(folder: Path = FOLDER) -> list[Path]:
    """The two files of BlazePose in `folder`, fetched where they are missing.

    Raises:
        InputError: a file is damaged, or missing and cannot be fetched.
    """
    files = [folder / Path(name).name for name, _ in BLAZEPOSE]
    if not all(file.is_file() for file in files):
        _fetch(folder)
    for file, (name, digest) in zip(files, BLAZEPOSE, strict=True):
        if _digest(file.read_bytes()) != digest:
            raise InputError(
                f"{file} is damaged or another version (sha256 is not {digest[:12]}...): delete it, and it is fetched "
                f"anew; or put {name} of the wheel {WHEEL} there"
            )
    return files


def _fetch(folder: Path) -> None:
    """Take the files out of mediapipe's wheel, which pip downloads and nobody installs."""
    log.info("fetching BlazePose's two files through pip (%s, 36 MB, once) into %s", WHEEL, folder)
    names = " and ".join(name for name, _ in BLAZEPOSE)
    with downloaded(WHEEL, f"{folder} lacks BlazePose's files", f"put {names} of that wheel into {folder}") as wheel:
        unpack(wheel, folder)


@contextmanager
def downloaded(requirement: str, why: str, instead: str) -> Iterator[Path]:
    """The wheel of NAME==VERSION, through pip; it is gone afterwards.

    Args:
        why, instead: what is missing, and what to do where it cannot be downloaded, for the message.

    Raises:
        InputError: pip could not download it.
    """
    with tempfile.TemporaryDirectory(prefix="wheel_") as place:
        command = (sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", place)
        done = subprocess.run((*command, *_ANY_SYSTEM, requirement), capture_output=True, text=True, errors="replace")
        wheels = list(Path(place).glob("*.whl"))
        if done.returncode or not wheels:
            reason = " ".join(done.stderr.split())[-160:] or f"status {done.returncode}"
            raise InputError(f"{why}, and pip could not download {requirement} ({reason}): {instead}")
        yield wheels[0]


def unpack(wheel: Path, folder: Path) -> None:
    """Write the two files, checked, into `folder`.

    Raises:
        InputError: the wheel is damaged, or holds others.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            contents = [archive.read(name) for name, _ in BLAZEPOSE]
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{wheel.name} is no wheel that holds BlazePose ({error}); expected {WHEEL}") from error
    for content, (name, digest) in zip(contents, BLAZEPOSE, strict=True):
        if _digest(content) != digest:
            raise InputError(f"{wheel.name}: {name} is another one (sha256 is not {digest[:12]}...); expected {WHEEL}")
        write_atomic(folder / Path(name).name, lambda file, content=content: file.write(content))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
