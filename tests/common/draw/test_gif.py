"""Pictures as files: one palette that has the drawing's colours and a photograph's, true speeds, one-line errors."""

import numpy as np
import pytest
from PIL import Image, ImageColor

from common.draw import gif
from common.draw.colours import COLOURS, FLOOR, GRID, INK, PAPER, SHADOW
from common.errors import InputError

ALL = (*COLOURS.values(), PAPER, INK, FLOOR, GRID, SHADOW)


def drawings(count: int, size: int = 40) -> list[Image.Image]:
    """Pictures of stripes in all colours of the drawings, each moved by a pixel."""
    stripes = np.repeat([ImageColor.getrgb(colour) for colour in ALL], size // len(ALL), axis=0).astype(np.uint8)
    return [Image.fromarray(np.roll(np.repeat(stripes[None], size, 0), i, 1)) for i in range(count)]


def photograph(size: int = 40) -> Image.Image:
    x, y = np.meshgrid(np.arange(size), np.arange(size))
    return Image.fromarray(np.stack((6 * x, 6 * y, 250 - 3 * (x + y)), -1).astype(np.uint8))


@pytest.mark.parametrize(("count", "fps", "length"), ((30, 30, 1000), (24, 24, 1000), (7, 50, 140), (5, 0.5, 10000)))
def test_delays_add_up_to_the_length_of_the_film(tmp_path, count, fps, length):
    path = gif.save_gif(tmp_path / "a.gif", iter(drawings(count)), fps)
    with Image.open(path) as film:
        assert film.n_frames == count and film.info["loop"] == 0
        delays = []
        for i in range(count):
            film.seek(i)
            delays.append(film.info["duration"])
    assert sum(delays) == length and max(delays) - min(delays) <= 10


def test_the_last_picture_ends_with_the_film(tmp_path):
    """Of 13 pictures at 60 a second every other one is shown: 13 / 60 s; no delay is shorter than viewers keep to."""
    for seconds, length in ((13 / 60, 220), (12.1 / 60, 220), (14 / 60, 230)):
        with Image.open(gif.save_gif(tmp_path / "a.gif", iter(drawings(7)), 30, (), seconds)) as film:
            delays = []
            for i in range(7):
                film.seek(i)
                delays.append(film.info["duration"])
        assert sum(delays) == length and min(delays) >= 20


@pytest.mark.parametrize("with_photograph", (False, True))
def test_the_palette_has_the_colours_of_the_drawings(tmp_path, with_photograph):
    photographs = [photograph()] if with_photograph else []
    frames = [*drawings(3), *photographs]
    path = gif.save_gif(tmp_path / "a.gif", frames, 10, photographs)
    with Image.open(path) as film:
        for i, frame in enumerate(frames):
            film.seek(i)
            difference = np.abs(np.asarray(film.convert("RGB")).astype(int) - np.asarray(frame).astype(int))
            assert difference.max() <= (24 if with_photograph else 8)  # Pillow looks colours up in boxes of 8 levels
    assert len(gif.palette(photographs).getpalette()) // 3 < 256  # one is left to mean "unchanged"


def test_pictures(tmp_path):
    picture = drawings(1)[0]
    assert np.array_equal(Image.open(gif.save_picture(tmp_path / "a.png", picture)), picture)
    assert Image.open(gif.save_picture(tmp_path / "a.JPG", picture)).format == "JPEG"


def test_bad_input_is_named_and_leaves_no_file(tmp_path):
    with pytest.raises(InputError, match="'.bmp'; use one of .png, .jpg, .jpeg"):
        gif.save_picture(tmp_path / "a.bmp", drawings(1)[0])
    with pytest.raises(InputError, match="'.mp4'; use .gif"):
        gif.save_gif(tmp_path / "a.mp4", drawings(1), 10)
    with pytest.raises(InputError, match="fps 60, but a GIF plays 50 at most"):
        gif.save_gif(tmp_path / "a.gif", drawings(1), 60)
    assert not list(tmp_path.iterdir())
