"""Pictures: 2D and 3D skeletons, panels side by side as GIF, MP4 or contact sheet, and learning curves.

Matplotlib's Agg canvas and Pillow only; no pyplot, so no global state. A 3D pose is drawn on plain axes: a turntable
camera (`common.draw.scene`) projects all joints of the sequence at once, and each frame then only moves a few artists
over a background that was drawn once. That is many times faster than mplot3d (`benchmarks/draw.py`).

Frames: 3D poses are z-up, metres (`scene.to_z_up` turns camera-frame poses upright); keypoints are pixels, y down.
A joint with a value that is not finite is not drawn.
"""

import math
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, combinations, cycle, product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageColor

from common.draw.scene import (
    ELEVATION,
    Scene,
    View,
    as_array,
    check_points,
    drawn_bones,
    make_scene,
    side_of,
    view_2d,
    views_3d,
)
from common.errors import InputError
from common.files.atomic import atomic_path
from common.skeleton import Skeleton

if TYPE_CHECKING:  # matplotlib takes most of a second to import, so functions that draw import it themselves
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which colour-blind readers tell apart too
COLOURS = {"left": "#0072b2", "right": "#d55e00", "centre": "#404040"}
CURVE_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#404040")
PAPER, INK, FLOOR, GRID, SHADOW = "#ffffff", "#222222", "#edf0f2", "#c9ced3", "#b9bfc5"
DPI = 100
POINT = 72 / DPI  # matplotlib measures lines and letters in points; here they are thought of in pixels


def save_animation(
    path,
    panels: Sequence,
    titles: Sequence[str],
    skeleton: Skeleton | Sequence[Skeleton],
    fps: float = 25.0,
    errors=None,
    metric: str = "MPJPE",
    width: int = 900,
    place: str = "root",
    azimuth: float = 0.0,
    elevation: float = ELEVATION,
    turn: float = 30.0,
) -> Path:
    """Write a sequence side by side: `.gif`, `.mp4` (needs ffmpeg on the PATH), or `.png` (some frames on one sheet).

    Args:
        panels: one array for each panel, left to right: (T, J, 2) pixels, y down, or (T, J, 3) z-up metres.
        titles: one for each panel.
        skeleton: of all panels, or one for each.
        fps: frames per second, at most 50 in a GIF.
        errors: (T,) millimetres, written under the first 3D panel, or {panel index: (T,)}; `metric` names it.
        width: of the picture, in pixels.
        place: "root" holds the root still, over a floor at the lowest joint of the sequence; "floor" stands the lowest
            joint of every frame on the floor; "world" keeps the motion as it is.
        azimuth: degrees, where the view of the 3D panels begins (`scene.camera_azimuth`: as a camera sees it).
        elevation: degrees above the floor.
        turn: of the view around the vertical, degrees per second.

    Returns:
        The path written; the file appears only when it is complete.

    Raises:
        InputError: shapes that do not fit, unknown format, no ffmpeg, folder not writable.
    """
    path = Path(path)
    writers = {".gif": _write_gif, ".mp4": _write_mp4, ".png": _write_sheet}
    if path.suffix.lower() not in writers:
        raise InputError(f"cannot write {path}: unknown format {path.suffix!r}; use one of {', '.join(writers)}")
    if not (math.isfinite(fps) and fps > 0 and width >= 100):
        raise InputError(f"found fps {fps} and width {width}; expected fps above 0 and a width of 100 pixels or more")
    scene = make_scene(panels, titles, skeleton, azimuth, turn / fps, elevation, place, errors, metric)
    with atomic_path(path) as temporary:
        writers[path.suffix.lower()](temporary, scene, fps, width)
    return path


def draw_2d(axes: "Axes", keypoints, skeleton: Skeleton, keep_limits: bool = False) -> None:
    """Draw keypoints (J, 2), pixels, y down, on the given axes.

    `keep_limits` leaves the limits of the axes as they are, to draw over an image or over other keypoints.
    """
    keypoints = check_points("keypoints", as_array(keypoints)[None], skeleton, (2,))
    _Artists(axes, view_2d(keypoints, skeleton), keep_limits=keep_limits).show(0)


def draw_3d(axes: "Axes", pose, skeleton: Skeleton, azimuth: float = 0.0, elevation: float = ELEVATION) -> None:
    """Draw a z-up pose (J, 3) and its floor on the given axes (plain ones, not mplot3d's), as `turntable` sees it."""
    pose = check_points("pose", as_array(pose)[None], skeleton, (3,))
    _Artists(axes, *views_3d([pose], [skeleton], np.array([azimuth]), elevation)).show(0)


def draw_view(axes: "Axes", view: View, frame: int = 0) -> None:
    """Draw one frame of a view (`scene.view_2d`, `scene.views_3d`: several in one scale) on the given axes."""
    _Artists(axes, view).show(frame)


# ------------------------------------------------------------------------------------------------------------- artists


class _Artists:
    """The artists of one view on its axes; `show(t)` moves them to frame t."""

    def __init__(self, axes: "Axes", view: View, animated: bool = False, keep_limits: bool = False):
        from matplotlib.collections import LineCollection
        from matplotlib.lines import Line2D

        self.view = view
        box = axes.get_window_extent()
        if not keep_limits:
            _set_limits(axes, view.bounds, box.height / box.width)
        if view.floor is not None:
            axes.fill(*view.floor.T, facecolor=FLOOR, edgecolor=GRID, linewidth=0.8, zorder=0)
            axes.set_axis_off()
        self.bones = drawn_bones(view.skeleton)
        self.bone_colours = np.array([COLOURS[side_of(view.skeleton, *bone)] for bone in self.bones])
        sides = np.array([side_of(view.skeleton, j) for j in range(view.skeleton.num_joints)])
        self.members = {side: sides == side for side in COLOURS}

        width = max(2.0, min(box.width, box.height) / 65) * POINT
        lines = {"capstyle": "round", "animated": animated}
        self.grid = LineCollection([], colors=GRID, linewidths=0.8, zorder=1, **lines)
        self.shadow = LineCollection([], colors=SHADOW, linewidths=width, zorder=2, **lines)
        self.limbs = LineCollection([], linewidths=width, zorder=3, **lines)
        dots = {"linestyle": "", "marker": "o", "markersize": 1.6 * width, "markeredgewidth": 0, "animated": animated}
        self.dots = {side: Line2D([], [], color=colour, zorder=4, **dots) for side, colour in COLOURS.items()}
        self.all = [self.grid, self.shadow, self.limbs, *self.dots.values()]
        for artist in self.all:
            axes.add_artist(artist)

    def show(self, t: int) -> None:
        joints, depth = self.view.joints[t], self.view.depth[t]
        present = np.isfinite(joints[self.bones]).all((1, 2))
        if self.view.grid is not None:
            self.grid.set_segments(self.view.grid[t])
            self.shadow.set_segments(self.view.shadow[t][self.bones][present])
        far_first = np.argsort(-depth[self.bones].mean(1), kind="stable")
        order = far_first[present[far_first]]
        self.limbs.set_segments(joints[self.bones][order])
        self.limbs.set_color(self.bone_colours[order])
        for side, dots in self.dots.items():
            dots.set_data(*joints[self.members[side]].T)


def _set_limits(axes: "Axes", bounds: np.ndarray, ratio: float) -> None:
    """Equal axes without ticks that show `bounds` (2, 2) in the middle of a box of the given height / width."""
    centre, half = bounds.mean(0), (bounds[1] - bounds[0]) / 2  # half[1] < 0 where y points down
    size = max(half[0], abs(half[1]) / ratio)
    vertical = math.copysign(size * ratio, half[1])
    axes.set(xlim=(centre[0] - size, centre[0] + size), ylim=(centre[1] - vertical, centre[1] + vertical))
    axes.set(aspect="equal", xticks=[], yticks=[])


# -------------------------------------------------------------------------------------------------------------- layout


class _Page:
    """A figure measured in pixels from its upper left corner; `font` is the size of its letters."""

    def __init__(self, width: int, height: int, font: float):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.width, self.height, self.font = width, height, font
        self.figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=PAPER)
        self.canvas = FigureCanvasAgg(self.figure)

    def axes(self, x: float, y: float, width: float, height: float) -> "Axes":
        box = (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(box, facecolor="none")
        axes.spines[:].set_color(GRID)
        axes.spines[:].set_linewidth(0.8)
        return axes

    def text(self, x: float, y: float, text: str, room: float, scale: float = 1.0, **style):
        """Text centred at (x, y), made smaller (down to 9 pixels) and then cut to fit into `room` pixels."""
        artist = self.figure.text(
            x / self.width, 1 - y / self.height, text, ha="center", va="center", color=INK, parse_math=False, **style
        )

        def length() -> float:
            extent = artist.get_window_extent(self.canvas.get_renderer())
            return max(extent.width, extent.height)  # of a line that may stand upright

        size = scale * self.font
        artist.set_fontsize(size * POINT)
        if length() > room:
            artist.set_fontsize(max(9.0, 0.98 * size * room / length()) * POINT)
        while length() > room and len(text) > 1:
            text = text[: min(len(text) - 1, int(len(text) * room / length()) + 1)]
            artist.set_text(text.rstrip() + "\u2026")
        return artist

    def legend(self, views: Sequence[View]) -> None:
        """The sides' colours and the floor's measure, along the lower edge."""
        from matplotlib.lines import Line2D

        lines = [Line2D([], [], color=colour, linewidth=3.5 * POINT) for colour in COLOURS.values()]
        labels = list(COLOURS)
        spacing = next((view.spacing for view in views if view.spacing), None)
        if spacing:
            lines.append(Line2D([], [], color=GRID, linewidth=1.5 * POINT))
            labels.append(f"grid {spacing:g} m")
        self.figure.legend(
            lines, labels, loc="lower center", ncols=len(labels), frameon=False, fontsize=0.9 * self.font * POINT,
            handlelength=1.2, columnspacing=1.4, borderaxespad=0.2, labelcolor=INK,
        )  # fmt: skip

    def image(self) -> Image.Image:
        return Image.fromarray(np.asarray(self.canvas.buffer_rgba())).convert("RGB")


def _same_size(texts: Sequence) -> None:
    """Give all texts the size of the smallest."""
    size = min(text.get_fontsize() for text in texts)
    for text in texts:
        text.set_fontsize(size)


def _ratio(views: Sequence[View]) -> float:
    """Height / width of the panels: enough for the tallest content, within limits."""
    sizes = [np.abs(view.bounds[1] - view.bounds[0]) for view in views]
    return float(np.clip(max(height / max(width, 1e-9) for width, height in sizes), 0.8, 1.5))


def _frames(scene: Scene, width: int) -> Iterator[Image.Image]:
    """The pictures of a film, of one size with even sides: title, panel and caption of each view, and a legend."""
    count = len(scene.views)
    step = width / count
    font = min(max(step / 15, 11), 17, width / 24)
    box = (step - 8) * _ratio(scene.views)
    page = _Page(width // 2 * 2, round((box + 5.6 * font) / 2) * 2, font)
    artists, titles, captions = [], [], []
    for i, (view, title) in enumerate(zip(scene.views, scene.titles, strict=True)):
        middle = (i + 0.5) * step
        titles.append(page.text(middle, font, title, step - 8, 1.08, weight="bold"))
        artists.append(_Artists(page.axes(i * step + 4, 2 * font, step - 8, box), view, animated=True))
        longest = max((scene.caption(i, t) for t in range(len(scene))), key=len)
        captions.append(page.text(middle, 2.9 * font + box, longest, step - 8, animated=True))
    _same_size(titles)
    page.legend(scene.views)
    page.canvas.draw()
    background = page.canvas.copy_from_bbox(page.figure.bbox)
    for t in range(len(scene)):
        page.canvas.restore_region(background)
        for i in range(count):
            artists[i].show(t)
            captions[i].set_text(scene.caption(i, t))
            for artist in (*artists[i].all, captions[i]):
                page.figure.draw_artist(artist)
        yield page.image()


def _write_sheet(path: Path, scene: Scene, fps: float, width: int) -> None:
    """Contact sheet, a row for each view and a column for each of up to six frames, evenly spread."""
    chosen = np.linspace(0, len(scene) - 1, min(6, len(scene))).round().astype(int)
    font = min(max(width / 62, 11), 17, width / 24)
    step = (width - 2 * font) / len(chosen)
    box = (step - 6) * _ratio(scene.views)
    heights = [box + (1.8 if i in scene.errors else 0.5) * font for i in range(len(scene.views))]
    tops = 2 * font + np.cumsum([0, *heights])
    page = _Page(width, round(tops[-1] + 2 * font), font)
    captions = []
    for column, t in enumerate(chosen):
        x = 2 * font + column * step
        page.text(x + step / 2, font, f"frame {t + 1}/{len(scene)}", step - 12)
        for row, view in enumerate(scene.views):
            _Artists(page.axes(x + 3, tops[row], step - 6, box), view).show(t)
            captions.append(page.text(x + step / 2, tops[row] + box + 0.8 * font, scene.error(row, t), step - 12))
    _same_size(captions)
    _same_size([
        page.text(font, tops[row] + box / 2, title, box, 1.08, weight="bold", rotation=90)
        for row, title in enumerate(scene.titles)
    ])  # fmt: skip
    page.legend(scene.views)
    page.canvas.draw()
    page.image().save(path, format="png", optimize=True)


# --------------------------------------------------------------------------------------------------------------- files


def _palette() -> Image.Image:
    """One palette for every picture: ramps between all colours that meet, as anti-aliasing makes them.

    Fixed, so that colours do not flicker and no frame has to be analysed. Steps of 12 levels keep neighbours outside
    the boxes in which Pillow looks colours up, and the count below 256, which leaves one to mean "unchanged".
    """
    pairs = [*product((PAPER, FLOOR), (*COLOURS.values(), INK, GRID, SHADOW)), *combinations(COLOURS.values(), 2)]
    ramps = []
    for start, end in ((np.array(ImageColor.getrgb(a)), np.array(ImageColor.getrgb(b))) for a, b in pairs):
        ramps.append(np.linspace(start, end, 2 + int(np.abs(end - start).max() / 12)))
    image = Image.new("P", (1, 1))
    image.putpalette(np.unique(np.concatenate(ramps).round().astype(np.uint8), axis=0).tobytes())
    return image


def _write_gif(path: Path, scene: Scene, fps: float, width: int) -> None:
    """GIF that loops for ever; the delays, whole hundredths of a second, add up to the length of the sequence."""
    if fps > 50:
        raise InputError(f"found fps {fps:g}, but a GIF plays 50 at most; give every second frame and half the fps")
    ends = (np.arange(1, len(scene) + 1) * 100 / fps).round().astype(int)
    palette = _palette()
    frames = (image.quantize(palette=palette, dither=Image.Dither.NONE) for image in _frames(scene, width))
    next(frames).save(
        path, format="gif", save_all=True, append_images=frames, loop=0, disposal=1, optimize=True,
        duration=(10 * np.diff(ends, prepend=0)).tolist(),
    )  # fmt: skip


def _write_mp4(path: Path, scene: Scene, fps: float, width: int) -> None:
    """MP4 by ffmpeg, which gets raw pictures on its standard input."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise InputError("cannot write mp4: found no ffmpeg on the PATH; install it, or choose a file name in .gif")
    frames = _frames(scene, width)
    first = next(frames)
    command = [
        program, "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24",
        "-s", f"{first.width}x{first.height}", "-r", f"{fps:g}", "-i", "-",
        "-an", "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(path.resolve()),
    ]  # fmt: skip
    with tempfile.TemporaryFile() as messages:
        with suppress(BrokenPipeError):  # when ffmpeg gives up early, its message says why
            with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=messages) as process:
                for image in chain((first,), frames):
                    process.stdin.write(image.tobytes())
        if process.returncode:
            messages.seek(0)
            reason = messages.read().decode(errors="replace").strip().splitlines() or ["no message"]
            raise InputError(f"ffmpeg failed with status {process.returncode}: {reason[-1]}; a .gif needs no ffmpeg")


# -------------------------------------------------------------------------------------------------------------- curves


def plot_curves(
    path,
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    title: str = "",
    xlabel: str = "epoch",
    ylabel: str = "",
    log_scale: bool = False,
) -> Path:
    """Write learning curves {name: (steps, values)} as `.png`, `.pdf` or `.svg`; values that are not finite: gaps."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    path = Path(path)
    if path.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise InputError(f"cannot write {path}: unknown format {path.suffix!r}; use .png, .pdf or .svg")
    if not curves:
        raise InputError(f"nothing to plot in {path}: give at least one curve")
    figure = Figure(figsize=(7.2, 4.2), dpi=125, layout="constrained")
    axes = figure.add_subplot()
    looks = cycle(product(("-", "--", ":", "-."), CURVE_COLOURS))
    for (name, (steps, values)), (style, colour) in zip(curves.items(), looks, strict=False):
        steps, values = as_array(steps), as_array(values)
        if steps.ndim != 1 or steps.shape != values.shape:
            raise InputError(f"curve {name!r}: found {steps.shape} steps and {values.shape} values; give one list each")
        values = np.where(np.isfinite(values), values, np.nan)
        marker = "o" if len(steps) <= 40 else ""
        axes.plot(steps, values, style, color=colour, marker=marker, markersize=3.5, linewidth=1.6, label=name)
    axes.set(xlabel=xlabel, ylabel=ylabel, yscale="log" if log_scale else "linear")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if log_scale:
        low, high = axes.get_ylim()
        plain = FuncFormatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_major_formatter(plain)
        axes.yaxis.set_minor_formatter(plain if high < 20 * low else NullFormatter())
    figure.suptitle(title, fontsize=11, parse_math=False, wrap=True)
    axes.grid(color=FLOOR)
    axes.spines[["top", "right"]].set_visible(False)
    beside = {"loc": "center left", "bbox_to_anchor": (1, 0.5)} if len(curves) > 4 else {}
    for text in axes.legend(frameon=False, **beside).get_texts():
        text.set_parse_math(False)  # a run's name may hold dollar signs
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower())
    return path
