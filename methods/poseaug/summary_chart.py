"""The bar chart of `methods.poseaug.summary`: errors of lifters on several 2D inputs, without and with PoseAug."""

import re
from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from common.draw.animation import COLOURS, FLOOR, INK
from common.files.atomic import atomic_path

Bar = tuple[float, bool] | None  # height in mm, and whether its run is finished
Panel = Mapping[tuple[str, str], tuple[Bar, Bar]]  # (lifter, keypoints) -> baseline, PoseAug
NAMES = ("baseline", "PoseAug")
FACES = ("#9aa5ae", COLOURS["left"])
WIDTH = 0.45  # of a bar; a lifter's inputs are 1 apart, lifters one more


def save_chart(path: Path, panels: Mapping[str, Panel], title: str) -> Path:
    """Write a PNG with a panel, one below the other, for each of `panels` (title -> bars). Unfinished runs: hatched."""
    places = {key: i + _lifter_number(panels, key[0]) for i, key in enumerate(next(iter(panels.values())))}
    figure = Figure(figsize=(max(7.0, 2 + 0.7 * len(places)), 0.9 + 3.1 * len(panels)), dpi=125, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, panel) in zip(figure.subplots(len(panels), squeeze=False).flat, panels.items(), strict=True):
        _draw_panel(axes, panel, places)
        axes.set_title(name, fontsize=11, fontweight="bold", loc="left", pad=20, parse_math=False)
    handles = [Patch(facecolor=face, label=name) for name, face in zip(NAMES, FACES, strict=True)]
    if any(bar and not bar[1] for panel in panels.values() for pair in panel.values() for bar in pair):
        handles.append(Patch(facecolor="white", edgecolor=INK, hatch="////", label="unfinished run"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=10)
    figure.suptitle(title, fontsize=10, color=INK, parse_math=False, wrap=True)
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.1)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    return path


def _lifter_number(panels: Mapping[str, Panel], lifter: str) -> int:
    return list(dict.fromkeys(name for name, _ in next(iter(panels.values())))).index(lifter)


def _folded(name: str, room: int = 9) -> str:
    """A long name on several lines, broken behind `_` and `-`."""
    lines = [""]
    for part in re.findall(r"[^_-]*[_-]|[^_-]+$", name):
        if lines[-1] and len(lines[-1] + part) > room:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _draw_panel(axes: Axes, panel: Panel, places: Mapping[tuple[str, str], int]) -> None:
    top = max(bar[0] for pair in panel.values() for bar in pair if bar)
    for key, pair in panel.items():
        for side, bar, face in zip((-0.5, 0.5), pair, FACES, strict=True):
            if bar is None:
                continue
            x = places[key] + side * WIDTH
            look = {"color": face} if bar[1] else {"facecolor": "white", "edgecolor": face, "hatch": "////"}
            axes.bar(x, bar[0], WIDTH * 0.96, zorder=2, **look)
            axes.text(
                x, bar[0] + 0.015 * top, f"{bar[0]:.1f}", rotation=90, ha="center", va="bottom", fontsize=8, color=INK
            )
    lifters: dict[str, list[int]] = {}
    for (lifter, _), place in places.items():
        lifters.setdefault(lifter, []).append(place)
    for lifter, columns in lifters.items():
        middle = (columns[0] + columns[-1]) / 2
        axes.text(
            middle, 1.02, lifter, transform=axes.get_xaxis_transform(), ha="center", va="bottom", fontsize=10,
            color=INK, parse_math=False,
        )  # fmt: skip
    axes.set_xticks(list(places.values()), [_folded(name) for _, name in places], fontsize=8, parse_math=False)
    last = max(places.values())
    reach = max(last / 2 + 0.8, 2.5)  # so that a few bars do not fill the page
    axes.set(ylabel="error (mm)", ylim=(0, 1.22 * top), xlim=(last / 2 - reach, last / 2 + reach))
    axes.grid(axis="y", color=FLOOR, zorder=0)
    axes.tick_params(axis="x", length=0)
    axes.spines[["top", "right"]].set_visible(False)
