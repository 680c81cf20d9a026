"""Pictures of the encoder-decoder: examples during training, the sweep of the yaw as GIF and PNGs, and the viewer.

Poses are in the crop camera's frame (x right, y down, z forward), root-relative, and are seen as that camera sees them,
over a level floor. Matplotlib's Agg canvas; only `show_viewer`, which needs a display, imports pyplot.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.draw import page
from common.draw.animation import draw_legend, draw_panel
from common.draw.colours import COLOURS, GRID, INK, PAPER
from common.draw.gif import FASTEST, save_gif, save_picture
from common.draw.scene import NEARLY_LEVEL, panels_3d, to_z_up
from common.errors import InputError
from common.files.atomic import atomic_path
from common.skeleton import H36M_17
from methods.encoder_decoder.data import Views
from methods.encoder_decoder.scores import millimetres, pose_errors

if TYPE_CHECKING:  # matplotlib takes most of a second to import, so functions that draw import it themselves
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.widgets import Button, Slider

PANEL = 200  # pixels


class Turned(NamedTuple):
    """A person turned by T angles. synthesised: (T, S, S, 3) uint8; predicted, true: (T, 17, 3), None without."""

    synthesised: np.ndarray
    predicted: np.ndarray | None
    true: np.ndarray | None


def save_page(path: str | Path, data: Views, predict: Callable[[Tensor], Tensor] | None) -> Path:
    """The page for the browser of the images of `data`: each with the true pose, and the predicted one where there is a
    pose head (rows (B,) -> poses (B, 17, 3), in the labels' unit).
    """
    rows = torch.from_numpy(data.rows()[: page.LONGEST])
    there = rows.to(data.labels.pose.device)
    true = data.labels.pose[there].unflatten(-1, (-1, 3))
    metres = millimetres(true) / 1000  # in the unit
    found = {} if predict is None else {"pose head": torch.cat([predict(part).float() for part in there.split(1024)])}
    errors = {name: pose_errors(pose, true)["MPJPE"] for name, pose in found.items()}
    poses = {name: metres * (pose - pose[:, :1]) for name, pose in (found | {"truth": true}).items()}
    return page.write_page(
        path, poses, H36M_17, fps=2, frame="camera", errors=errors, flat_title="image",
        image=page.Lazy(len(rows), lambda i: data.images[rows[i : i + 1]][0][0].cpu().numpy()),
        title=f"encoder-decoder: {len(rows):,} held-out images", about="17 joints, root-relative, one image a frame",
    )  # fmt: skip


# ------------------------------------------------------------ examples


def examples(images: dict[str, np.ndarray], poses: dict[str, np.ndarray]) -> Image.Image:
    """A row for each sample: its images, (N, S, S, 3) uint8 by title, then its poses, (N, 17, 3) by title."""
    count, columns = len(next(iter(images.values()))), len(images) + len(poses)
    figure, rows = _page(count, [*images, *poses], columns, bool(poses))
    for i, row in enumerate(rows):
        for axes, pictures in zip(row, images.values(), strict=False):
            _show_image(axes, pictures[i])
        if poses:
            show_poses(row[len(images) :], [pose[i] for pose in poses.values()])
    return _picture(figure)


def _page(count: int, titles: Sequence[str], columns: int, legend: bool = True) -> tuple[Figure, list[list[Axes]]]:
    """A figure of `count` rows of square panels under their titles, and the colours' meaning below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    head, foot = 26, 26 if legend else 6
    width, height = columns * (PANEL + 6) + 6, head + foot + count * (PANEL + 6)
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor=PAPER)
    FigureCanvasAgg(figure)
    rows = []
    for i in range(count):
        top = height - head - i * (PANEL + 6)
        boxes = [((6 + k * (PANEL + 6)) / width, (top - PANEL) / height) for k in range(columns)]
        rows.append([figure.add_axes((x, y, PANEL / width, PANEL / height)) for x, y in boxes])
    for axes in (axes for row in rows for axes in row):
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color(GRID)
    for k, title in enumerate(titles):
        x = (6 + (k + 0.5) * (PANEL + 6) - 3) / width
        figure.text(x, 1 - 13 / height, title, ha="center", va="center", fontsize=9.5, color=INK, parse_math=False)
    if legend:
        draw_legend(figure, 8.5)
    return figure, rows


def _picture(figure: Figure) -> Image.Image:
    figure.canvas.draw()
    return Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")


def _show_image(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(image, interpolation="nearest")


def show_poses(panels: Sequence[Axes], poses: Sequence[np.ndarray]) -> None:
    """Draw poses (17, 3) of the camera's frame on their axes, in one scale."""
    bodies = panels_3d([to_z_up(pose[None]) for pose in poses], [H36M_17] * len(poses), np.zeros(1), NEARLY_LEVEL)
    for axes, body in zip(panels, bodies, strict=True):
        axes.clear()
        draw_panel(axes, body)


def save_label_curve(path: str | Path, fractions: Sequence[float], curves: dict[str, list[float]], mean: float) -> Path:
    """Write N-MPJPE over the part of the labels, a line for each method; mean: of the mean pose, a dashed line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), dpi=125, layout="constrained")
    axes = figure.add_subplot()
    percent = [100 * fraction for fraction in fractions]
    for (name, values), colour in zip(curves.items(), COLOURS.values(), strict=False):
        axes.plot(percent, values, "o-", color=colour, linewidth=1.6, markersize=4, label=name)
    axes.axhline(mean, linestyle="--", color=INK, linewidth=1, label="mean pose")
    axes.set(xscale="log", xlabel="labels used, %", ylabel="N-MPJPE, mm", title="Few labels, held-out subjects")
    axes.set_xticks(percent, [f"{value:g}" for value in percent])
    axes.minorticks_off()
    axes.grid(color=GRID, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    return Path(path)


# ------------------------------------------------------------ the sweep


def save_sweep(folder: str | Path, image: np.ndarray, sweep: Turned, angles: np.ndarray, seconds: float = 6.0) -> Path:
    """Write `sweep.gif`, and a PNG for every eighth of the turn, into the folder; -> the GIF.

    image: (S, S, 3), the input; angles: (T,) radians, of one turn.
    """
    pictures = sweep_pictures(image, sweep, angles)
    for i in sorted({round(k * len(angles) / 8) for k in range(8)} & set(range(len(angles)))):
        save_picture(Path(folder) / f"yaw_{round(np.degrees(angles[i])):03d}.png", pictures[i])
    some = pictures[:: max(1, len(pictures) // 4)]
    return save_gif(Path(folder) / "sweep.gif", pictures, min(FASTEST, len(angles) / seconds), some)


def sweep_pictures(image: np.ndarray, sweep: Turned, angles: np.ndarray) -> list[Image.Image]:
    """Input, synthesised view, predicted and true skeleton at every angle."""
    poses = {"predicted pose": sweep.predicted, "true pose": sweep.true}
    poses = {name: pose for name, pose in poses.items() if pose is not None}
    figure, (row,) = _page(1, ["input", "", *poses], 2 + len(poses), bool(poses))
    caption = figure.texts[1]
    _show_image(row[0], image)
    shown = row[1].imshow(sweep.synthesised[0], interpolation="nearest")
    bodies = poses and panels_3d(
        [to_z_up(pose) for pose in poses.values()], [H36M_17] * len(poses), np.zeros(len(angles)), NEARLY_LEVEL
    )
    pictures = []
    for t, angle in enumerate(angles):
        caption.set_text(f"synthesised, turned by {round(np.degrees(angle))}\u00b0")
        shown.set_data(sweep.synthesised[t])
        for axes, body in zip(row[2:], bodies, strict=False):
            axes.clear()
            draw_panel(axes, body, t)
        pictures.append(_picture(figure))
    return pictures


# ------------------------------------------------------------ the viewer


class Viewer(NamedTuple):
    """The figure and its controls, which matplotlib forgets unless they are kept."""

    figure: Figure
    slider: Slider
    button: Button


def make_viewer(figure: Figure, count: int, look: Callable[[int, float], tuple[np.ndarray, Turned]]) -> Viewer:
    """Input, synthesised view, predicted and true skeleton, a slider for the yaw and the button "Next image".

    The rotation stays when the image changes, which the published viewer forgets; after the last image comes the first.

    Args:
        figure: an empty one, 10 x 3.75 inches.
        count: of the images.
        look: image number, yaw in radians -> the input (S, S, 3) uint8, and what is seen, T = 1.
    """
    from matplotlib.widgets import Button, Slider

    titles = ("input", "synthesised", "predicted pose", "true pose")
    panels = [figure.add_axes((0.01 + 0.2475 * k, 0.2, 0.2375, 0.7)) for k in range(4)]
    slider = Slider(figure.add_axes((0.1, 0.06, 0.55, 0.06)), "yaw", -2 * np.pi, 2 * np.pi, valinit=0.0)
    button = Button(figure.add_axes((0.8, 0.04, 0.15, 0.1)), "Next image")
    number = 0

    def redraw(_: float = 0.0) -> None:
        image, seen = look(number, slider.val)
        poses = {2: seen.predicted, 3: seen.true}
        poses = {k: pose[0] for k, pose in poses.items() if pose is not None}
        for axes, picture in zip(panels, (image, seen.synthesised[0]), strict=False):
            axes.clear()
            _show_image(axes, picture)
        if poses:
            show_poses([panels[k] for k in poses], list(poses.values()))
        for axes, title in zip(panels, titles, strict=True):
            axes.set(title=title, xticks=[], yticks=[])
        figure.canvas.draw_idle()

    def next_image(_: object) -> None:
        nonlocal number
        number = (number + 1) % count
        redraw()

    slider.on_changed(redraw)
    button.on_clicked(next_image)
    redraw()
    return Viewer(figure, slider, button)


def show_viewer(count: int, look: Callable[[int, float], tuple[np.ndarray, Turned]]) -> None:
    """Open the viewer in a window, until it is closed.

    Raises:
        InputError: there is no display.
    """
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise InputError("--viewer needs a display, and there is none: --gif writes the sweep of the yaw into files")
    import matplotlib.pyplot as plt

    if plt.get_backend().lower() == "agg":
        raise InputError("--viewer needs one of matplotlib's window toolkits (PyQt6, tkinter): install one, or --gif")
    viewer = make_viewer(plt.figure(figsize=(10, 3.75)), count, look)
    plt.show()
    del viewer  # its controls had to live until here
