"""The pictures of a video, by PyAV or by ffmpeg on the PATH; also those of a folder, an animation, or a single one."""

import logging
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from common.errors import InputError
from common.files.atomic import natural
from common.files.reading import check_pixels, open_file, open_image, size_of

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

    Attributes:
        times: (T,) seconds from the first frame on, of a video or an animation; None: not known.

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
            with _reading(path), open_image(path) as image:
                # In an MPO, as phones write photos, the further pictures are depths or previews.
                count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
                self.places = [(path, i) for i in range(count)]
                if count > 1:
                    self._find_times(image)

    def _find_times(self, image: Image.Image) -> None:
        """An animation's, from how long each frame is shown (milliseconds)."""
        shown = []
        for i in range(len(self.places)):
            image.seek(i)
            shown.append(image.info.get("duration", 0) / 1000)
        if sum(shown) > 0:
            self.times = np.cumsum([0, *shown[:-1]])
            self.fps = self.fps or len(shown) / sum(shown)

    def __len__(self) -> int:
        return len(self.places)

    def part(self, rows: slice) -> "Pictures":
        """Some of them, that follow each other; a single picture stands for all frames and stays."""
        chosen = copy(self)
        if len(self) > 1:
            chosen.places = self.places[rows]
            chosen.times = None if self.times is None else self.times[rows]
        return chosen

    def __getitem__(self, index: int) -> Image.Image:
        file, frame = self.places[index]
        with _reading(file), open_image(file) as image:
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


class EndOfVideo(InputError, IndexError):
    """A frame beyond what can be read; a loop over the frames ends there."""


class Video(Pictures):
    """The frames of a video by PyAV, decoded as they are asked for, turned upright as the file says.

    Forward is fast; backward begins anew. Nothing is kept. How many frames there are is what the file says; where fewer
    can be decoded, a warning says so, and the length and `times` shrink when the last of them is reached.

    Raises:
        InputError: no video in it, or damaged from the start.
    """

    def __init__(self, path: Path):
        self.path, self.first = Path(path), 0
        self._decoder, self._next = None, 0
        with _decoding(self.path), _container(self.path) as container:
            stream = _stream(container, self.path)
            rate, base, expected = stream.average_rate, stream.time_base, stream.frames
            packets = [packet.pts for packet in container.demux(stream) if packet.size and not packet.is_discard]
        if not packets:
            raise InputError(f"{path} holds no frames; choose another video")
        if len(packets) < expected:
            log.warning("%s is damaged or cut off: %d of %d frames are there", path, len(packets), expected)
        known = all(pts is not None for pts in packets)
        self.fps = float(rate) if rate else None
        times = np.sort(np.array(packets, float)) * float(base) if known else np.arange(len(packets)) / (self.fps or 25)
        self.times = times - times[0]
        if not self.fps and self.times[-1] > 0:
            self.fps = (len(times) - 1) / float(self.times[-1])

    def __len__(self) -> int:
        return len(self.times)

    def part(self, rows: slice) -> "Video":
        """Some of its frames, on end, decoded on their own."""
        chosen = copy(self)
        if len(self) > 1:
            chosen.first, chosen.times = self.first + range(len(self))[rows].start, self.times[rows]
            chosen._decoder = None
        return chosen

    def __getitem__(self, index: int) -> Image.Image:
        try:
            wanted = self.first + range(len(self))[index]
        except IndexError as error:
            raise EndOfVideo(f"{self.path} has no frame {index}: there are {len(self)}") from error
        if self._decoder is None or wanted < self._next:
            self.close()
            self._decoder = _decoded(self.path)
        for frame in self._decoder:
            self._next += 1
            if self._next > wanted:
                return _upright(frame)
        count = max(0, self._next - self.first)
        log.warning("%s is damaged: %d of %d frames could be read", self.path, count, len(self))
        self.times = self.times[:count]
        self._decoder = None
        raise EndOfVideo(f"{self.path} is damaged: only {count} of its frames could be read; choose another video")

    def close(self) -> None:
        """Let go of the file; asked for a frame again, it is opened again."""
        if self._decoder is not None:
            self._decoder.close()
        self._decoder, self._next = None, 0


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """PyAV's errors in one line."""
    import av

    try:
        yield
    except (av.FFmpegError, UnicodeError) as error:
        raise InputError(f"{path} cannot be read as a video ({str(error)[:120]}); choose another file") from error


def _container(path: Path) -> Any:
    import av

    # "file:" keeps FFmpeg from taking a name for a protocol
    name = f"file:{path}"
    try:
        name.encode()
    except UnicodeEncodeError:  # a folder whose name is no UTF-8, which PyAV cannot say
        return av.open(open_file(path), metadata_errors="replace")
    return av.open(name, metadata_errors="replace")


def _stream(container: Any, path: Path) -> Any:
    """The first video stream that is no cover of a piece of music."""
    import av

    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams:
        raise InputError(f"{path} has no video in it; choose a video, a picture or a folder of frames")
    check_pixels(streams[0].width, streams[0].height, size_of(path), path)
    streams[0].thread_type = "AUTO"
    return streams[0]


def _decoded(path: Path) -> Iterator[Any]:
    """A video's frames, but those that are damaged."""
    import av

    with _decoding(path), _container(path) as container:
        stream = _stream(container, path)
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                yield from packet.decode()
            except av.error.InvalidDataError as error:
                log.debug("%s: a damaged part is left out (%s)", path, error)
            except av.error.EOFError:
                return


def _upright(frame: Any) -> Image.Image:
    image = Image.fromarray(frame.to_ndarray(format="rgb24"))  # half the time of to_image
    turn = round(frame.rotation / 90) % 4  # quarters, counterclockwise
    if not turn:
        return image
    ways = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
    return image.transpose(ways[turn - 1])


@contextmanager
def opened(path: Path | None) -> Iterator[Pictures | None]:
    """The pictures of a video, a folder or an image; None without a path. They need not fit into memory.

    A video is decoded by PyAV, every frame at its time. Where that is not installed, ffmpeg writes frames as JPEG into
    a temporary folder, at the video's mean rate; the folder is gone afterwards.

    Raises:
        InputError: missing or unreadable, or a video and there is neither PyAV nor ffmpeg.
    """
    if path is None or not is_video(path):
        yield None if path is None else Pictures(path)
    elif find_spec("av"):
        video = Video(path)
        try:
            yield video
        finally:
            video.close()
    else:
        with _by_ffmpeg(path) as pictures:
            yield pictures


@contextmanager
def _by_ffmpeg(path: Path) -> Iterator[Pictures]:
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        raise InputError(
            f"{path}: there is neither PyAV nor {' or '.join(missing)} on the PATH to read a video with: python -m pip "
            "install av, install ffmpeg, or give a folder of the video's frames"
        )
    with tempfile.TemporaryDirectory(prefix="frames_") as folder:
        fps = frames_per_second(path)
        log.info("reading %s with ffmpeg, %.3g frames per second", path, fps)
        # "file:" keeps ffmpeg from taking a name for a protocol or an option
        _call(path, "ffmpeg", "-v", "error", "-nostdin", "-i", f"file:{path}", "-map", "0:v:0", "-r", str(Fraction(fps)
              .limit_denominator(100_000)), "-q:v", "2", f"{folder}/%07d.jpg")  # fmt: skip
        if not any(Path(folder).iterdir()):
            raise InputError(f"{path} holds no frames; choose another video")
        pictures = Pictures(folder, fps)
        pictures.times = np.arange(len(pictures)) / fps
        yield pictures


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
