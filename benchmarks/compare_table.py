"""The table of `benchmarks.compare_methods`: Markdown, CSV and a chart, from the result files of its methods.

A result (`result.json`) holds: method, supervision, settings (data, budget, options), inputs (what was scored), images
(whether those are images), joints, rows (`compare_scores.rows_of`), cost (parameters, multiply_adds, poses_per_s;
nothing of a trivial method), training (reports of `within_budget`, one of each stage; likewise).
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from common.draw.colours import CURVE_COLOURS, FLOOR, INK
from common.files.atomic import atomic_path, write_atomic

KEYS = ("method", "supervision", "settings", "inputs", "images", "joints", "rows", "cost", "training")
DASH = "–"
PROTOCOLS = {"as it is": "as it is", "scale": "† scale of the truth", "mirror": "‡ its scale, better mirror"}
ERRORS = ("MPJPE", "N-MPJPE", "P-MPJPE", "velocity", "PCK", "AUC")
HEADINGS = (
    "method", "supervision", "joints", "protocol", "MPJPE", "N-MPJPE †", "P-MPJPE †", "velocity", "PCK", "AUC",
    "cross MPJPE", "cross P-MPJPE †", "parameters", "multiply-adds", "trained on, poses", "training poses/s",
    "inference poses/s", "memory, MB",
)  # fmt: skip
LONGEST = 3.0  # times the median: a longer bar is cut off
NUMBERS_FROM = HEADINGS.index("MPJPE")  # columns from it on stand right
NOTES = (
    "Errors in mm, velocity in mm a frame, PCK (150 mm) and AUC in percent; means over poses, relative to the hip.",
    "† takes something from the truth, pose by pose: its scale, and for P-MPJPE scale and rotation. ‡ besides, the "
    "better of the pose and its mirror image in depth. Such numbers are no method's own: no camera tells them.",
    f"{DASH} the method has no such number: without the size of a body no millimetres, of single images no velocity.",
    "Multiply-adds: of the network for one pose. Training poses/s: poses (images) that steps took in, of the last "
    "stage; scoring not counted. Memory: peak of the training process, GPU where it ran on one, else all of the "
    "process (RSS).",
)
NOT_PUBLISHED = "There is no published number on these data by this protocol, so none stands beside the measured ones."
PUBLISHED = "Published numbers on Human3.6M are of whole trainings: none stands beside those of this budget."


def markdown(results: Sequence[Mapping[str, Any]], title: str) -> str:
    """The table with its notes."""
    lines = [
        f"# {title}",
        "",
        _row(HEADINGS),
        _row(["---:" if i >= NUMBERS_FROM else "---" for i in range(len(HEADINGS))]),
    ]
    for result in results:
        lines += [_row(_cells(result, row, first=i == 0)) for i, row in enumerate(result["rows"])]
    inputs = dict.fromkeys(result["inputs"] for result in results)
    named = (f"{', '.join(r['method'] for r in results if r['inputs'] == text)}: {text}." for text in inputs)
    published = PUBLISHED if any(r["settings"]["dataset"] == "h36m" for r in results) else NOT_PUBLISHED
    return "\n".join([*lines, "", *(f"- {note}" for note in (*named, *NOTES, published)), ""])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(result: Mapping[str, Any], row: Mapping[str, Any], first: bool) -> list[str]:
    cells = [result["method"], result["supervision"], str(result["joints"])]
    cells.append(PROTOCOLS[row["protocol"]] + ", rendered images" * result["images"])
    cells += [_number(row.get(name)) for name in (*ERRORS, "cross MPJPE", "cross P-MPJPE")]
    cost, last = result["cost"], (result["training"] or [None])[-1]
    if not first:
        return cells + 6 * [""]
    if not cost:
        return cells + 6 * [DASH]
    return cells + [
        _short(cost["parameters"]), _short(cost["multiply_adds"]), _short(sum(s["poses"] for s in result["training"])),
        _short(last["poses_per_s"]), _short(cost["poses_per_s"]), _memory(result["training"]),
    ]  # fmt: skip


def _number(value: float | None) -> str:
    return DASH if value is None else f"{value:.1f}"


def _short(value: float | None) -> str:
    """1234567 -> 1.23 M."""
    if value is None:
        return DASH
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= 0.9995 * unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.3g}"


def _memory(stages: Sequence[Mapping[str, Any]]) -> str:
    gpu = [stage["gpu_mb"] for stage in stages if stage["gpu_mb"] is not None]
    return f"{max(gpu):,.0f} GPU" if gpu else f"{max(stage['rss_mb'] for stage in stages):,.0f} RSS"


def csv_text(results: Sequence[Mapping[str, Any]]) -> str:
    """One line for each row, all numbers in full."""
    text = io.StringIO()
    stages = ("steps", "poses", "seconds", "poses_per_s", "rss_mb", "gpu_mb")
    errors = [*ERRORS, *(f"cross {name}" for name in ERRORS if name != "velocity")]
    costs = ("parameters", "multiply_adds", "poses_per_s")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            "method", "supervision", "joints", "protocol", "from_the_truth", *errors, *costs[:2],
            "inference_poses_per_s", *(f"training_{name}" for name in stages), "device", "inputs",
        ]
    )  # fmt: skip
    for result in results:
        done, cost = result["training"], result["cost"]
        training = [_together(name, [stage[name] for stage in done]) for name in stages]
        device = done[-1]["device"] if done else ""
        for row in result["rows"]:
            oracle = {"as it is": "", "scale": "scale", "mirror": "scale and mirror"}[row["protocol"]]
            words = [result["method"], result["supervision"], result["joints"], row["protocol"], oracle]
            numbers = [row.get(name) for name in errors] + [cost.get(name) for name in costs] + training
            writer.writerow([*words, *("" if x is None else f"{x:.6g}" for x in numbers), device, result["inputs"]])
    return text.getvalue()


def _together(name: str, values: Sequence[float | None]) -> float | None:
    """Of all stages: sums, the last one's rate, the largest memory."""
    if not values or values[-1] is None:
        return None
    return values[-1] if name == "poses_per_s" else max(values) if name.endswith("_mb") else sum(values)


# ------------------------------------------------------------ chart


def save_chart(path: Path, results: Sequence[Mapping[str, Any]], title: str) -> Path:
    """Errors beside speed, a group of bars for each method; hatched where a number takes something from the truth."""
    figure = Figure(figsize=(13, 2.2 + 0.72 * len(results)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1), sharey=True)
    _draw_errors(left, results)
    _draw_speeds(right, results)
    left.set_yticks(range(len(results)), [f"{r['method']}\n{r['supervision']}" for r in results], fontsize=9)
    left.set_ylim(len(results) - 0.4, -0.6)
    figure.suptitle(title, fontsize=11, color=INK, parse_math=False, wrap=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    return path


def _draw_errors(axes: Axes, results: Sequence[Mapping[str, Any]]) -> None:
    names, colours = ("MPJPE", "N-MPJPE", "P-MPJPE"), CURVE_COLOURS[:3]
    bars = []
    for place, result in enumerate(results):
        rows = {row["protocol"]: row for row in result["rows"]}
        for i, (name, colour) in enumerate(zip(names, colours, strict=True)):
            value, oracle = rows["as it is"][name], i > 0
            if value is None:
                value, oracle = rows["scale"][name], True
            bars.append((place + 0.26 * (i - 1), value, colour, oracle))
    limit = LONGEST * median(value for _, value, *_ in bars)
    for place, value, colour, oracle in bars:
        text = _number(value) + " (cut off)" * (value > limit)
        _bar(axes, place, min(value, limit), colour, oracle, text)
    top = max(patch.get_width() for patch in axes.patches)
    axes.set(xlabel="error (mm)", xlim=(0, 1.14 * top))
    handles = [Patch(facecolor=colour, label=name) for name, colour in zip(names, colours, strict=True)]
    handles.append(Patch(facecolor="white", edgecolor=INK, hatch="////", label="takes scale (or more) from the truth"))
    _finish(axes, handles)


def _draw_speeds(axes: Axes, results: Sequence[Mapping[str, Any]]) -> None:
    colours = CURVE_COLOURS[3:5]
    axes.set_xscale("log")
    for place, result in enumerate(results):
        if not result["cost"]:
            continue
        values = (result["training"][-1]["poses_per_s"], result["cost"]["poses_per_s"])
        for i, (value, colour) in enumerate(zip(values, colours, strict=True)):
            if value:
                _bar(axes, place + 0.3 * (i - 0.5), value, colour, False, _short(value), 0.28)
    widths = [patch.get_width() for patch in axes.patches] or [1.0]
    axes.set(xlabel="poses (images) a second", xlim=(min(widths) / 3, 6 * max(widths)))
    names = ("training", "inference")
    _finish(axes, [Patch(facecolor=c, label=name) for name, c in zip(names, colours, strict=True)])


def _bar(
    axes: Axes, place: float, value: float, colour: str, oracle: bool, text: str, height: float = 0.24
) -> None:  # fmt: skip
    look = {"facecolor": "white", "edgecolor": colour, "hatch": "////"} if oracle else {"color": colour}
    axes.barh(place, value, height, zorder=2, **look)
    axes.annotate(
        text, (value, place), (3, 0), textcoords="offset points", va="center", fontsize=7.5, color=INK, zorder=3
    )


def _finish(axes: Axes, handles: Sequence[Patch]) -> None:
    axes.legend(
        handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(handles), frameon=False, fontsize=8.5
    )
    axes.grid(axis="x", color=FLOOR, zorder=0)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)


def write(folder: Path, results: Sequence[Mapping[str, Any]], title: str) -> list[Path]:
    """Write compare.md, compare.csv and compare.png; returns the paths."""
    paths = [folder / "compare.md", folder / "compare.csv"]
    for path, text in zip(paths, (markdown(results, title), csv_text(results)), strict=True):
        write_atomic(path, lambda file, text=text: file.write(text.encode()))
    return [*paths, save_chart(folder / "compare.png", results, title)]
