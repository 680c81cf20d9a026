"""Pictures as files: PNG or JPEG, and GIFs whose frames share one palette."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, product
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor

from common.draw.colours import COLOURS, FLOOR, GRID, INK, PAPER, SHADOW
from common.errors import InputError
from common.files.atomic import atomic_path

FASTEST = 50.0  # frames per second: viewers slow down a GIF whose delays are shorter
_SHORTEST = 2  # hundredths of a second
_STRIPE = 48  # pixels that the drawing's shades take beside each photograph when the palette is made


def save_picture(path: str | Path, picture: Image.Image) -> Path:
    """Write `.png`, `.jpg` or `.jpeg`; -> the path. The file appears only when it is complete."""
    path, formats = Path(path), {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg"}
    if path.suffix.lower() not in formats:
        raise InputError(f"cannot write {path}: unknown format {path.suffix!r}; use one of {', '.join(formats)}")
    with atomic_path(path) as temporary:
        picture.save(temporary, format=formats[path.suffix.lower()], quality=92)
    return path


def save_gif(
    path: str | Path,
    pictures: Iterable[Image.Image],
    fps: float,
    photographs: Sequence[Image.Image] = (),
    seconds: float = math.inf,
) -> Path:
    """Write a GIF that loops for ever; -> the path. The file appears only when it is complete.

    Args:
        pictures: RGB, all of one size, at least one; taken one by one.
        fps: frames per second, `FASTEST` at most. Delays are whole hundredths of a second and add up to the length of
            the film.
        seconds: length of the film, where the last picture is shown for less than 1 / fps.
        photographs: pictures with the colours that occur besides those of the drawings (`palette`).
    """
    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise InputError(f"cannot write {path}: unknown format {path.suffix!r}; use .gif")
    if fps > FASTEST:
        raise InputError(f"found fps {fps:g}, but a GIF plays 50 at most; give every second frame and half the fps")
    frames = _frames(pictures, fps, palette(photographs), seconds)
    with atomic_path(path) as temporary:
        next(frames).save(
            temporary, format="gif", save_all=True, append_images=frames, loop=0, disposal=1, optimize=True
        )
    return path


def _frames(pictures: Iterable[Image.Image], fps: float, colours: Image.Image, seconds: float) -> Iterator[Image.Image]:
    """The pictures in those colours, each with its delay in milliseconds, from which Pillow takes it."""
    shown = 0  # hundredths of a second
    for count, picture in enumerate(pictures, start=1):
        frame = picture.quantize(palette=colours, dither=Image.Dither.NONE)
        end = max(shown + _SHORTEST, round(100 * min(count / fps, seconds)))
        frame.info["duration"], shown = 10 * (end - shown), end
        yield frame


def palette(photographs: Sequence[Image.Image] = ()) -> Image.Image:
    """One palette for all frames of a film, so that colours do not flicker; fewer than 256, one means "unchanged".

    Of drawings: ramps between all colours that meet, as anti-aliasing makes them, in steps of 12 levels, which keep
    neighbours outside the boxes in which Pillow looks colours up. With photographs: the best for these and the ramps.
    """
    pairs = [*product((PAPER, FLOOR), (*COLOURS.values(), INK, GRID, SHADOW)), *combinations(COLOURS.values(), 2)]
    ramps = []
    for start, end in ((np.array(ImageColor.getrgb(a)), np.array(ImageColor.getrgb(b))) for a, b in pairs):
        ramps.append(np.linspace(start, end, 2 + int(np.abs(end - start).max() / 12)))
    shades = np.unique(np.concatenate(ramps).round().astype(np.uint8), axis=0)
    if not photographs:
        image = Image.new("P", (1, 1))
        image.putpalette(shades.tobytes())
        return image
    size = photographs[0].size
    sheet = Image.new("RGB", (size[0], len(photographs) * (size[1] + _STRIPE)))
    stripe = Image.fromarray(shades[None]).resize((size[0], _STRIPE), Image.Resampling.NEAREST)
    for i, photograph in enumerate(photographs):
        sheet.paste(stripe, (0, i * (size[1] + _STRIPE)))
        sheet.paste(photograph, (0, i * (size[1] + _STRIPE) + _STRIPE))
    return sheet.quantize(255, method=Image.Quantize.MEDIANCUT)
