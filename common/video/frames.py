"""The pictures of a video, read through ffmpeg where it is on the PATH; also those of a folder, or a single one."""

import logging
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from fractions import Fraction
from pathlib import Path

from PIL import Image, ImageOps

from common.errors import InputError
from common.files.atomic import natural

log = logging.getLogger(__name__)

_NO_PICTURES = (".mpg", ".mpeg")  # Pillow knows these by name, but cannot read them
_PROGRAMS = ("ffmpeg", "ffprobe")


class Pictures(Sequence):
    """The picture of a file, the frames of an animated one, or the pictures of a folder in the order of their names,
    10 after 9.

    Each is read, as RGB and upright, when it is asked for: a video's frames need not fit into memory.

    Args:
        path: a file, a folder, or a list of files.
        fps: frames per second, where known.

    Raises:
        InputError: missing, or no pictures that Pillow reads.
    """

    def __init__(self, path, fps: float | None = None):
        self.fps, self.times = fps, None
        if isinstance(path, list):
            self.places = [(file, 0) for file in path]
            return
        path = Path(path)
        if not path.exists():
            raise InputError(f"{path} does not exist (looked for {path.absolute()})")
        known = Image.registered_extensions()
        files = [path]
        if path.is_dir():
            files = [file for file in path.iterdir() if file.suffix.lower() in known and file.name[0] != "."]
            files.sort(key=lambda file: natural(file.name))
        if not files:
            raise InputError(f"{path} holds no pictures")
        self.places = [(file, 0) for file in files]
        if path.is_file():
            with _reading(path), Image.open(path) as image:
                # In an MPO, as phones write photos, the further pictures are depths or previews.
                count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
                self.places = [(path, i) for i in range(count)]

    def __len__(self) -> int:
        return len(self.places)

    def part(self, rows: slice) -> "Pictures":
        """Some of them; a single picture stands for all frames and stays."""
        chosen = copy(self)
        chosen.places = self.places if len(self) == 1 else self.places[rows]
        return chosen

    def __getitem__(self, index: int) -> Image.Image:
        file, frame = self.places[index]
        with _reading(file), Image.open(file) as image:
            image.seek(frame)
            return ImageOps.exif_transpose(image).convert("RGB")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Pillow's errors in one line."""
    try:
        yield
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path} cannot be read as a picture ({' '.join(str(error).split())[:120]}); choose another file"
        ) from error


# ------------------------------------------------------------ videos


@contextmanager
def opened(path: Path | None) -> Iterator[Pictures | None]:
    """The pictures of a video, a folder or an image; None without a path.

    A video's frames are written as JPEG into a temporary folder, at the video's mean rate, turned upright, so that they
    need not fit into memory; the folder is gone afterwards.

    Raises:
        InputError: missing or unreadable, or a video and there is no ffmpeg.
    """
    if path is None or not is_video(path):
        yield None if path is None else Pictures(path)
        return
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        raise InputError(
            f"{path}: there is no {' or '.join(missing)} on the PATH to read a video with; install ffmpeg, or give a "
            "folder of the video's frames"
        )
    with tempfile.TemporaryDirectory(prefix="frames_") as folder:
        fps = frames_per_second(path)
        log.info("reading %s with ffmpeg, %.3g frames per second", path, fps)
        # "file:" keeps ffmpeg from taking a name for a protocol or an option
        _call(path, "ffmpeg", "-v", "error", "-nostdin", "-i", f"file:{path}", "-map", "0:v:0", "-r", str(Fraction(fps)
              .limit_denominator(100_000)), "-q:v", "2", f"{folder}/%07d.jpg")  # fmt: skip
        if not any(Path(folder).iterdir()):
            raise InputError(f"{path} holds no frames; choose another video")
        yield Pictures(folder, fps)


def is_video(path: Path) -> bool:
    """A file that Pillow does not read, by its ending."""
    kind = path.suffix.lower()
    return path.is_file() and (kind not in Image.registered_extensions() or kind in _NO_PICTURES)


def frames_per_second(path: Path) -> float:
    """The mean over a video."""
    wanted = ("-select_streams", "v:0", "-show_entries", "stream=avg_frame_rate", "-of", "default=nw=1:nk=1")
    text = _call(path, "ffprobe", "-v", "error", *wanted, f"file:{path}").split()
    try:
        return float(Fraction(text[0]))
    except (IndexError, ValueError, ZeroDivisionError) as error:
        raise InputError(f"{path} has no video in it; choose a video, a picture or a folder of frames") from error


def _call(path: Path, *command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        reason = " ".join(done.stderr.split())[-160:] or f"status {done.returncode}"
        raise InputError(f"{path} cannot be read by {command[0]} ({reason}); choose another file")
    return done.stdout
