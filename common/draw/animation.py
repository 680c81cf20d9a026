"""Animations of 2D and 3D skeletons, panels side by side: GIF, MP4 or a contact sheet (PNG).

Matplotlib's Agg canvas and Pillow only; no pyplot, so no global state. A 3D pose is drawn on plain axes: a turntable
camera (`common.draw.scene`) projects all joints of the sequence at once, and each frame then only moves a few artists
over a background that was drawn once. That is many times faster than mplot3d (`benchmarks/draw.py`).

Frames: 3D poses are z-up, metres (`scene.to_z_up` turns camera-frame poses upright); keypoints are pixels, y down.
A joint with a value that is not finite is not drawn.
"""

import importlib.util
import math
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from common.draw.colours import COLOURS, FLOOR, GRID, INK, PAPER, SHADOW
from common.draw.gif import save_gif, save_picture
from common.draw.scene import FROM_ABOVE, Panel, Scene, drawn_bones, make_scene, side_of
from common.errors import InputError
from common.files.atomic import atomic_path
from common.skeleton import Skeleton

if TYPE_CHECKING:  # matplotlib takes most of a second to import, so functions that draw import it themselves
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
    elevation: float = FROM_ABOVE,
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
    kind, kinds = path.suffix.lower(), (".gif", ".mp4", ".png")
    if kind not in kinds:
        raise InputError(f"cannot write {path}: unknown format {path.suffix!r}; use one of {', '.join(kinds)}")
    if not (math.isfinite(fps) and fps > 0 and width >= 100):
        raise InputError(f"found fps {fps} and width {width}; expected fps above 0 and a width of 100 pixels or more")
    scene = make_scene(panels, titles, skeleton, azimuth, turn / fps, elevation, place, errors, metric)
    if kind == ".png":
        return save_picture(path, _sheet(scene, width))
    return (save_gif if kind == ".gif" else _save_mp4)(path, _frames(scene, width), fps)


def draw_panel(axes: "Axes", panel: Panel, frame: int = 0) -> None:
    """Draw one frame of a panel (`scene.panel_2d`, `scene.panels_3d`: several in one scale) on the given axes."""
    _Artists(axes, panel).show(frame)


def draw_legend(figure: "Figure", size: float, grid: Sequence[tuple[str, str]] = ()) -> None:
    """The colours of the sides, and what lines of the grid's colour mean (label, style), along the lower edge.

    size: of the letters, points.
    """
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=colour, linewidth=3.5 * POINT) for colour in COLOURS.values()]
    lines += [Line2D([], [], color=GRID, linewidth=1.5 * POINT, linestyle=style) for _, style in grid]
    figure.legend(
        lines, [*COLOURS, *(label for label, _ in grid)], loc="lower center", ncols=len(lines), frameon=False,
        fontsize=size, handlelength=1.2, columnspacing=1.4, borderaxespad=0.2, labelcolor=INK,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- artists


class _Artists:
    """The artists of one panel on its axes; `show(t)` moves them to frame t."""

    def __init__(self, axes: "Axes", panel: Panel, animated: bool = False):
        from matplotlib.collections import LineCollection
        from matplotlib.lines import Line2D

        self.panel = panel
        box = axes.get_window_extent()
        _set_limits(axes, panel.bounds, box.height / box.width)
        if panel.floor is not None:
            axes.fill(*panel.floor.T, facecolor=FLOOR, edgecolor=GRID, linewidth=0.8, zorder=0)
            axes.set_axis_off()
        self.bones = drawn_bones(panel.skeleton)
        self.bone_colours = np.array([COLOURS[side_of(panel.skeleton, *bone)] for bone in self.bones])
        sides = np.array([side_of(panel.skeleton, j) for j in range(panel.skeleton.num_joints)])
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
        joints, depth = self.panel.joints[t], self.panel.depth[t]
        present = np.isfinite(joints[self.bones]).all((1, 2))
        if self.panel.grid is not None:
            self.grid.set_segments(self.panel.grid[t])
            self.shadow.set_segments(self.panel.shadow[t][self.bones][present])
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

    def legend(self, panels: Sequence[Panel]) -> None:
        """The sides' colours and the floor's measure, along the lower edge."""
        spacing = next((panel.spacing for panel in panels if panel.spacing), None)
        draw_legend(self.figure, 0.9 * self.font * POINT, [(f"grid {spacing:g} m", "-")] if spacing else ())

    def image(self) -> Image.Image:
        return Image.fromarray(np.asarray(self.canvas.buffer_rgba())).convert("RGB")


def _same_size(texts: Sequence) -> None:
    """Give all texts the size of the smallest."""
    size = min(text.get_fontsize() for text in texts)
    for text in texts:
        text.set_fontsize(size)


def _ratio(panels: Sequence[Panel]) -> float:
    """Height / width of the panels: enough for the tallest content, within limits."""
    sizes = [np.abs(panel.bounds[1] - panel.bounds[0]) for panel in panels]
    return float(np.clip(max(height / max(width, 1e-9) for width, height in sizes), 0.8, 1.5))


def _frames(scene: Scene, width: int) -> Iterator[Image.Image]:
    """The pictures of a film, of one size with even sides: title, panel and caption of each panel, and a legend."""
    count = len(scene.panels)
    step = width / count
    font = min(max(step / 15, 11), 17, width / 24)
    box = (step - 8) * _ratio(scene.panels)
    page = _Page(width // 2 * 2, round((box + 5.6 * font) / 2) * 2, font)
    artists, titles, captions = [], [], []
    for i, (panel, title) in enumerate(zip(scene.panels, scene.titles, strict=True)):
        middle = (i + 0.5) * step
        titles.append(page.text(middle, font, title, step - 8, 1.08, weight="bold"))
        artists.append(_Artists(page.axes(i * step + 4, 2 * font, step - 8, box), panel, animated=True))
        longest = max((scene.caption(i, t) for t in range(len(scene))), key=len)
        captions.append(page.text(middle, 2.9 * font + box, longest, step - 8, animated=True))
    _same_size(titles)
    page.legend(scene.panels)
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


def _sheet(scene: Scene, width: int) -> Image.Image:
    """The contact sheet, a row for each panel and a column for each of up to six frames, evenly spread."""
    chosen = np.linspace(0, len(scene) - 1, min(6, len(scene))).round().astype(int)
    font = min(max(width / 62, 11), 17, width / 24)
    step = (width - 2 * font) / len(chosen)
    box = (step - 6) * _ratio(scene.panels)
    heights = [box + (1.8 if i in scene.errors else 0.5) * font for i in range(len(scene.panels))]
    tops = 2 * font + np.cumsum([0, *heights])
    page = _Page(width, round(tops[-1] + 2 * font), font)
    captions = []
    for column, t in enumerate(chosen):
        x = 2 * font + column * step
        page.text(x + step / 2, font, f"frame {t + 1}/{len(scene)}", step - 12)
        for row, panel in enumerate(scene.panels):
            _Artists(page.axes(x + 3, tops[row], step - 6, box), panel).show(t)
            captions.append(page.text(x + step / 2, tops[row] + box + 0.8 * font, scene.error(row, t), step - 12))
    _same_size(captions)
    _same_size([
        page.text(font, tops[row] + box / 2, title, box, 1.08, weight="bold", rotation=90)
        for row, title in enumerate(scene.titles)
    ])  # fmt: skip
    page.legend(scene.panels)
    page.canvas.draw()
    return page.image()


def writes_mp4() -> bool:
    """Whether films can be written as MP4: by PyAV (`pip install av`), or by ffmpeg on the PATH."""
    return importlib.util.find_spec("av") is not None or shutil.which("ffmpeg") is not None


def _save_mp4(path: Path, frames: Iterator[Image.Image], fps: float) -> Path:
    if importlib.util.find_spec("av") is not None:
        return _save_by_pyav(path, frames, fps)
    return _save_by_ffmpeg(path, frames, fps)


def _save_by_pyav(path: Path, frames: Iterator[Image.Image], fps: float) -> Path:
    """Write an MP4 (H.264) in this process."""
    import av

    first = next(frames)
    with atomic_path(path) as temporary:
        try:
            with av.open(str(temporary), "w", format="mp4", options={"movflags": "faststart"}) as container:
                stream = container.add_stream("h264", rate=Fraction(fps).limit_denominator(1001))
                stream.width, stream.height, stream.pix_fmt = first.width, first.height, "yuv420p"
                for image in chain((first,), frames):
                    container.mux(stream.encode(av.VideoFrame.from_image(image)))
                container.mux(stream.encode())
        except av.FFmpegError as error:
            raise InputError(f"PyAV cannot write {path}: {error}; choose a file name in .gif") from error
    return path


def _save_by_ffmpeg(path: Path, frames: Iterator[Image.Image], fps: float) -> Path:
    """Write an MP4 by ffmpeg, which gets raw pictures on its standard input."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise InputError(
            "cannot write mp4: found neither PyAV nor ffmpeg on the PATH; pip install av, or choose a file name in .gif"
        )
    first = next(frames)
    command = [
        program, "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24",
        "-s", f"{first.width}x{first.height}", "-r", f"{fps:.9g}", "-i", "-",
        "-an", "-pix_fmt", "yuv420p", "-movflags", "+faststart",
    ]  # fmt: skip
    with atomic_path(path) as temporary, tempfile.TemporaryFile() as messages:
        with suppress(BrokenPipeError):  # when ffmpeg gives up early, its message says why
            command.append(str(temporary.resolve()))
            with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=messages) as process:
                for image in chain((first,), frames):
                    process.stdin.write(image.tobytes())
        if process.returncode:
            messages.seek(0)
            reason = messages.read().decode(errors="replace").strip().splitlines() or ["no message"]
            raise InputError(f"ffmpeg failed with status {process.returncode}: {reason[-1]}; a .gif needs no ffmpeg")
    return path
