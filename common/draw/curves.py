"""Learning curves of a run, as PNG, PDF or SVG."""

from collections.abc import Mapping, Sequence
from itertools import cycle, product
from pathlib import Path

import numpy as np

from common.draw.colours import CURVE_COLOURS, FLOOR
from common.draw.scene import as_array
from common.errors import InputError
from common.files.atomic import atomic_path


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
