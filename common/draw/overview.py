"""Overviews of a data set: poses in the frames of their pictures, and the cameras around the people, as PNG or JPEG.

Pixels, y down; the room in metres, z up. The left side is blue, the right side orange.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from common.draw.animation import DPI, POINT, draw_legend, draw_panel
from common.draw.colours import CURVE_COLOURS, FLOOR, GRID, INK, PAPER
from common.draw.gif import save_picture
from common.draw.scene import drawn_bones, panel_2d
from common.skeleton import Skeleton

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL = 250  # pixels, the width of a picture on the sheet
LETTERS = 13  # pixels, their height
ROOM = 1400  # pixels, the width of both views of the room together, at most


class Shot(NamedTuple):
    """A person in a picture: keypoints (J, 2), the picture's width and height (None: not known), and its name."""

    keypoints: np.ndarray
    size: tuple[int, int] | None = None
    name: str = ""


def save_shots(path, rows: Mapping[str, Sequence[Shot | None]], skeleton: Skeleton) -> Path:
    """Write a sheet of people in the frames of their pictures: a row for each name, and as many columns as shots.

    Pictures of unknown size are as large as the person; a shot that is None stays empty.
    """
    columns = max(len(shots) for shots in rows.values())
    heights = [max((CELL * _ratio(shot) for shot in shots if shot), default=CELL) for shots in rows.values()]
    lines = [1.7 * LETTERS if any(shot and shot.name for shot in shots) else 6 for shots in rows.values()]
    left, width, height = 2 * LETTERS, 3 * LETTERS + columns * CELL, sum(heights) + sum(lines) + 3 * LETTERS
    figure, top = _figure(width, height), LETTERS / 2
    for (name, shots), line, tall in zip(rows.items(), lines, heights, strict=True):
        _text(figure, left / 2, top + line + tall / 2, name, rotation=90, weight="bold")
        for column, shot in enumerate(shots):
            if shot is not None:
                x, wide = left + column * CELL + 4, CELL - 8
                _text(figure, x + wide / 2, top + line / 2, shot.name)
                box = (x / width, 1 - (top + line + tall) / height, wide / width, tall / height)
                _draw_shot(figure.add_axes(box), shot, skeleton)
        top += line + tall
    sized = any(shot and shot.size for shots in rows.values() for shot in shots)
    draw_legend(figure, LETTERS * POINT, [("edge of the picture", "-")] if sized else ())
    return save_picture(path, _image(figure))


def _ratio(shot: Shot) -> float:
    """Height / width of a shot, within limits."""
    return float(np.clip(shot.size[1] / shot.size[0], 0.4, 1.8)) if shot.size else 1.0


def _draw_shot(axes: "Axes", shot: Shot, skeleton: Skeleton) -> None:
    """One picture's frame with the person; a little around it is shown, too."""
    panel = panel_2d(shot.keypoints[None], skeleton)
    if shot.size:
        width, height = shot.size
        around = 0.06 * np.array(((-width, height), (width, -height)))
        panel = replace(panel, bounds=np.array(((0, height), (width, 0))) + around)
        axes.fill((0, width, width, 0), (0, 0, height, height), facecolor=PAPER, edgecolor=GRID, linewidth=1.2)
        axes.set_facecolor(FLOOR)
    axes.spines[:].set_color(GRID)
    axes.spines[:].set_visible(not shot.size)
    draw_panel(axes, panel)


class Pyramid(NamedTuple):
    """A camera in the room: its place and the corners of its picture, (5, 3), and its name."""

    points: np.ndarray
    name: str


def save_room(
    path, cameras: Sequence[Pyramid], ways: Mapping[str, np.ndarray], poses: np.ndarray, skeleton: Skeleton
) -> Path:
    """Write the cameras around the people in one scale, seen from above and from the side where the room is longer.

    Args:
        cameras: one or several of a name, which share a label where they stand together.
        ways: subject -> where its root goes, (T, 3), NaN between two takes.
        poses: some people, (N, J, 3).
    """
    everything = np.concatenate([poses.reshape(-1, 3), *(camera.points for camera in cameras), *ways.values()])
    low, high = np.nanmin(everything, 0) - 0.4, np.nanmax(everything, 0) + 0.4
    low[2] = min(low[2], -0.4)
    size, margin, line = high - low, 4.5 * LETTERS, 2.5 * LETTERS
    long = int(size[1] > size[0])
    scale = min(ROOM / (size[0] + size[long]), ROOM / 2 / max(size[1:]))
    tall = scale * max(size[1:])
    width, height = scale * (size[0] + size[long]) + 3 * margin, tall + line + 2 * margin
    figure, left = _figure(width, height), margin
    for plane, title in (((0, 1), "from above"), ((long, 2), "from the side")):
        wide, high_ = scale * size[list(plane)]
        _text(figure, left + wide / 2, line / 2, title, weight="bold")
        axes = figure.add_axes((left / width, 1 - (line + high_) / height, wide / width, high_ / height))
        _draw_room(axes, plane, cameras, ways, (low, high))
        for pose in poses:
            _draw_small(axes, pose[:, plane], skeleton)
        left += wide + margin
    _legend(figure, list(ways))
    return save_picture(path, _image(figure))


def _draw_room(
    axes: "Axes", plane: tuple[int, int], cameras: Sequence[Pyramid], ways: Mapping[str, np.ndarray],
    bounds: tuple[np.ndarray, np.ndarray],
) -> None:  # fmt: skip
    """The room without poses on two of its axes, whose numbers are (across, up)."""
    from matplotlib.collections import LineCollection

    across, up = plane
    axes.set(xlim=[end[across] for end in bounds], ylim=[end[up] for end in bounds])
    axes.set_xlabel(f"{'xyz'[across]}, metres", fontsize=LETTERS * POINT, color=INK)
    axes.set_ylabel(f"{'xyz'[up]}, metres", fontsize=LETTERS * POINT, color=INK)
    axes.tick_params(labelsize=0.9 * LETTERS * POINT, colors=INK)
    axes.grid(color=FLOOR)
    axes.set_axisbelow(True)
    axes.spines[:].set_color(GRID)
    if up == 2:
        axes.axhline(0, color=GRID, linewidth=1.5)
    for colour, way in zip(_colours(len(ways)), ways.values(), strict=True):
        axes.plot(way[:, across], way[:, up], color=colour, linewidth=0.8, alpha=0.6)
    edges = []
    for camera in cameras:
        points = camera.points[:, plane]
        edges += [points[[0, corner]] for corner in range(1, 5)] + [points[[1, 2, 3, 4, 1]]]
    axes.add_collection(LineCollection(edges, colors=INK, linewidths=0.5))
    for name, place in _labels(cameras):
        axes.text(
            *place[list(plane)], name, ha="center", va="center", fontsize=LETTERS * POINT, color=INK,
            weight="bold", parse_math=False, zorder=5,
            bbox={"boxstyle": "round,pad=0.1", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.8},
        )  # fmt: skip


def _labels(cameras: Sequence[Pyramid]) -> list[tuple[str, np.ndarray]]:
    """Names and their places (3,): one for all cameras of a name that stand together."""
    groups: list[tuple[str, list[np.ndarray]]] = []
    for camera in cameras:
        place, size = camera.points[1:].mean(0), np.linalg.norm(np.ptp(camera.points, 0))
        near = (
            places for name, places in groups if name == camera.name and np.linalg.norm(places[0] - place) < 2 * size
        )
        together = next(near, None)
        if together is None:
            groups.append((camera.name, [place]))
        else:
            together.append(place)
    return [(name, np.mean(places, 0)) for name, places in groups]


def _draw_small(axes: "Axes", joints: np.ndarray, skeleton: Skeleton) -> None:
    """A person (J, 2) of thin lines, in no colour that means somebody's way."""
    from matplotlib.collections import LineCollection

    bones = drawn_bones(skeleton)
    axes.add_collection(LineCollection(joints[bones], colors=INK, linewidths=1.3, capstyle="round", zorder=3))


def _colours(count: int) -> list[str]:
    return [CURVE_COLOURS[i % len(CURVE_COLOURS)] for i in range(count)]


def _legend(figure: "Figure", names: list[str]) -> None:
    """Whose way is whose, along the lower edge."""
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=colour, linewidth=2) for colour in _colours(len(names))]
    shown = min(len(names), 8)
    more = [f"and {len(names) - shown} more"] if len(names) > shown else []
    lines, labels = lines[:shown] + [Line2D([], [], alpha=0)] * len(more), names[:shown] + more
    figure.legend(
        lines, labels, loc="lower center", ncols=max(1, len(labels)), frameon=False, fontsize=LETTERS * POINT,
        handlelength=1.2, columnspacing=1.4, borderaxespad=0.2, labelcolor=INK,
    )  # fmt: skip


def _figure(width: float, height: float) -> "Figure":
    """A figure measured in pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def _text(figure: "Figure", x: float, y: float, text: str, **style) -> None:
    """Text centred at a place in pixels from the upper left."""
    width, height = figure.get_size_inches() * DPI
    text = text if len(text) < 34 else text[:32] + "\u2026"
    look = {"ha": "center", "va": "center", "color": INK, "fontsize": LETTERS * POINT, "parse_math": False}
    figure.text(x / width, 1 - y / height, text, **look, **style)


def _image(figure: "Figure") -> Image.Image:
    figure.canvas.draw()
    return Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
