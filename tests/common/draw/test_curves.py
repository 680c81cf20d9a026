"""Learning curves: drawn in their colours, and what bad input does."""

import os

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from common.draw.colours import CURVE_COLOURS
from common.draw.curves import plot_curves
from common.errors import InputError


def where(picture: np.ndarray, colour: str) -> np.ndarray:
    """(row, column) of the pixels that are exactly of a colour."""
    return np.argwhere((picture == np.array(to_rgb(colour)) * 255).all(-1))


def test_curves_are_drawn_in_their_colours(tmp_path):
    steps = np.arange(1, 20)
    curves = {"teacher": (steps, 100 / steps), "student $": (steps, np.where(steps == 5, np.nan, 80 / steps))}
    path = plot_curves(tmp_path / "curves.png", curves, title="MPJPE", ylabel="mm", log_scale=True)
    with Image.open(path) as image:
        picture = np.asarray(image.convert("RGB")).astype(int)
    assert all(len(where(picture, colour)) > 100 for colour in CURVE_COLOURS[:2])
    assert not len(where(picture, CURVE_COLOURS[2])) and os.listdir(tmp_path) == ["curves.png"]


@pytest.mark.parametrize(
    ("name", "curves", "message"),
    (
        ("a.png", {}, "at least one curve"),
        ("a.png", {"loss": ([1, 2], [1])}, "curve 'loss'"),
        ("a.bmp", {"loss": ([1], [1])}, "'.bmp'"),
    ),
)
def test_bad_curves_are_named(tmp_path, name, curves, message):
    with pytest.raises(InputError, match=message):
        plot_curves(tmp_path / name, curves)
    assert not os.listdir(tmp_path)
