"""PoseAug's tables and chart of many runs of its two training scripts: lifters by 2D input, with and without it.

A run is a folder with `config.yaml` (its options) and `metrics.csv` (a row for each epoch; a PoseAug run's epoch 0 is
the pretrained baseline). Errors are millimetres. As published, a run's number is the lowest of all epochs, which
chooses the epoch on the test set; the tables say so, and can show the last epoch instead.
"""

import csv
import io
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.draw.colours import COLOURS, FLOOR, INK
from common.errors import InputError, printable
from common.files.atomic import atomic_path, write_atomic
from common.files.reading import load_yaml
from common.run.log import read_metrics

if TYPE_CHECKING:  # matplotlib takes most of a second to import, so functions that draw import it themselves
    from matplotlib.axes import Axes

# in the order of the paper's tables
LIFTER_NAMES = {"gcn": "SemGCN", "mlp": "SimpleBaseline", "stgcn": "ST-GCN", "videopose": "VideoPose"}
KEYPOINTS = ("gt", "cpn_ft_h36m_dbb", "detectron_ft_h36m", "hr")
METRICS = {"MPJPE": "p1", "P-MPJPE": "p2"}
TEST_SETS = ("h36m", "3dhp")  # as the columns of metrics.csv are named, whatever the data
# Runs that differ in one of these were scored on other data or in another way: they never share a table.
PROTOCOL = ("dataset", "subjects_train", "subjects_test", "actions", "downsample", "flip_test")
CHOICES = ("min", "last")
DAGGER = "\u2020"

Bar = tuple[float, bool] | None  # height in mm, and whether its run is finished
Bars = Mapping[tuple[str, str], tuple[Bar, Bar]]  # (lifter, keypoints) -> baseline, PoseAug
BAR_NAMES = ("baseline", "PoseAug")
BAR_FACES = ("#9aa5ae", COLOURS["left"])
BAR_WIDTH = 0.45  # of a bar; a lifter's inputs are 1 apart, lifters one more


# ------------------------------------------------------------ runs


@dataclass(frozen=True)
class RunRecord:
    """A run as its folder has it; `rows` are those of metrics.csv, `changed` the time of its last epoch."""

    folder: Path
    options: dict[str, Any]
    rows: list[dict[str, Any]]
    changed: float

    @property
    def kind(self) -> str:
        """ "baseline" or "poseaug"."""
        return "poseaug" if {"warmup", "lr_g"} <= self.options.keys() else "baseline"

    @property
    def epochs(self) -> int:
        """Asked for."""
        return self.options["epochs"]

    @property
    def done(self) -> int:
        """The last epoch that has a row; 0 where there is none."""
        return max((int(row["epoch"]) for row in self.rows), default=0)

    @property
    def finished(self) -> bool:
        """Whether all its epochs are done."""
        return self.done >= self.epochs

    @property
    def lifter(self) -> str:
        """Its name in the tables."""
        name = LIFTER_NAMES.get(self.options["posenet_name"], self.options["posenet_name"])
        widths = self.options.get("architecture") or ""
        return name + f" {widths}" * bool(widths) + " causal" * bool(self.options.get("causal"))

    @property
    def keypoints(self) -> str:
        """Its 2D input."""
        return self.options["keypoints"]

    @property
    def cross_data(self) -> str:
        """The (first) set of other people that was scored, by its name in the tables; "" where none was asked for."""
        name = str(self.options.get("cross_data", "auto")).split(",")[0].strip()
        if name == "auto":
            name = "synthetic" if self.options["dataset"] == "synthetic" else "3dhp"
        return {"none": "", "3dhp": "3DHP", "synthetic": "synthetic's twin"}.get(name, Path(name).stem)

    def score(self, column: str, choice: str) -> float | None:
        """The lowest error of all epochs ("min") or the last one's ("last"); None where there is none."""
        rows = self.rows if choice == "min" else self.rows[-1:]
        return min((value for value in (_number(row.get(column)) for row in rows) if value is not None), default=None)

    def start_score(self, column: str) -> float | None:
        """The error before PoseAug began, which is the pretrained baseline's; None where it began from nothing."""
        if self.kind == "baseline" or self.options.get("pretrain") is False:
            return None
        return next((_number(row.get(column)) for row in self.rows if int(row["epoch"]) == 0), None)


def find_runs(paths: Iterable[str | Path]) -> list[RunRecord]:
    """All runs of the two scripts in `paths` (run folders, or folders above them), in the order of their names.

    Other scripts' runs are passed over; so are links to folders. A run that has not finished an epoch has no rows.

    Raises:
        InputError: a path that is not there or no folder; a damaged config.yaml or metrics.csv.
    """
    found: dict[Path, RunRecord] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            what = "it is a file" if path.exists() else "it is not there"
            raise InputError(f"no runs in {path}: {what}; expected a run's folder, or one above runs")
        for folder, folders, files in os.walk(path):
            folders.sort()
            if "config.yaml" in files and (run := read_run(Path(folder))):
                found.setdefault(Path(folder).resolve(), run)
    return list(found.values())


def read_run(folder: Path) -> RunRecord | None:
    """The run in `folder`; None where its options are not those of the two scripts."""
    options = read_yaml(folder / "config.yaml")
    if not {"posenet_name", "keypoints", "dataset", "epochs"} <= options.keys():
        return None
    for name, kind in (("posenet_name", str), ("keypoints", str), ("dataset", str), ("epochs", int)):
        if not isinstance(options[name], kind):
            expected = {str: "a name", int: "a whole number"}[kind]
            raise InputError(f"{folder / 'config.yaml'}: {name}: found {options[name]!r}, expected {expected}")
    metrics = folder / "metrics.csv"
    rows = read_metrics(metrics) if metrics.exists() else []
    return RunRecord(folder, options, rows, (metrics if rows else folder / "config.yaml").stat().st_mtime)


def read_yaml(path: Path) -> dict[str, Any]:
    """The table in a YAML file."""
    content = load_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"cannot read {path}: expected lines such as 'epochs: 50', found {type(content).__name__}")
    return content


def _number(text: Any) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


# ------------------------------------------------------------ tables


@dataclass(frozen=True)
class Number:
    """One error, mm, and where it is from; `start`: the PoseAug run's own start stands in for the baseline."""

    value: float
    run: RunRecord
    start: bool = False

    @property
    def text(self) -> str:
        """As in a table: one decimal, and what has to be said of it."""
        unfinished = not self.run.finished and not self.start
        return f"{self.value:.1f}{DAGGER * self.start}" + f" ({self.run.done}/{self.run.epochs})" * unfinished


@dataclass(frozen=True)
class Cell:
    """A lifter on one 2D input: its errors without and with PoseAug."""

    baseline: Number | None
    poseaug: Number | None

    @property
    def gain(self) -> float | None:
        """mm that PoseAug took off the error."""
        return self.baseline.value - self.poseaug.value if self.baseline and self.poseaug else None


@dataclass(frozen=True)
class Group:
    """Runs that were scored alike; `chosen`: (lifter, keypoints, kind) -> its run, `others` are not in the tables."""

    chosen: dict[tuple[str, str, str], RunRecord]
    others: list[RunRecord]

    @property
    def example(self) -> RunRecord:
        """Any of its runs: what follows is the same in all."""
        return next(iter(self.chosen.values()))

    @property
    def dataset(self) -> str:
        """The name of the data set."""
        return self.example.options["dataset"]

    @property
    def title(self) -> str:
        """Data and protocol."""
        options = self.example.options
        text = f"{self.dataset}, trained on {options.get('subjects_train')}, tested on {options.get('subjects_test')}"
        if options.get("actions", "*") != "*":
            text += f", actions {options['actions']}"
        if options.get("downsample", 1) != 1:
            text += f", one frame in {options['downsample']}"
        return text + ", flip average" * bool(options.get("flip_test"))

    @property
    def lifters(self) -> list[str]:
        """In the order of PoseAug's tables, others behind."""
        known = list(LIFTER_NAMES.values())
        names = dict.fromkeys(lifter for lifter, _, _ in self.chosen)
        return sorted(names, key=lambda name: (*(not name.startswith(start) for start in known), name))

    @property
    def keypoints(self) -> list[str]:
        """2D inputs, likewise."""
        names = dict.fromkeys(keypoints for _, keypoints, _ in self.chosen)
        return sorted(names, key=lambda name: (*(name != known for known in KEYPOINTS), name))

    def ordered(self) -> list[RunRecord]:
        """The runs in the order of the tables."""
        cells = [(lf, kp, kind) for lf in self.lifters for kp in self.keypoints for kind in ("baseline", "poseaug")]
        return [self.chosen[cell] for cell in cells if cell in self.chosen]

    def test_name(self, test: str) -> str:
        """Name of a test set: the data set's test subjects, or the cross data."""
        if test == "3dhp":
            return self.example.cross_data
        return "H36M" if self.dataset == "h36m" else f"{self.dataset} test subjects"

    def cell(self, lifter: str, keypoints: str, test: str, metric: str, choice: str) -> Cell:
        """The errors of one lifter on one 2D input."""
        column = f"error_{test}_{METRICS[metric]}"
        plain, augmented = (self.chosen.get((lifter, keypoints, kind)) for kind in ("baseline", "poseaug"))
        baseline, poseaug = (_score(run, run and run.score(column, choice)) for run in (plain, augmented))
        if baseline is None:
            baseline = _score(augmented, augmented and augmented.start_score(column), start=True)
        return Cell(baseline, poseaug)

    def table(self, test: str, metric: str, choice: str) -> dict[tuple[str, str], Cell]:
        """(lifter, keypoints) -> cell; empty where no run was scored on this test set."""
        table = {(lf, kp): self.cell(lf, kp, test, metric, choice) for lf in self.lifters for kp in self.keypoints}
        return table if any(cell.baseline or cell.poseaug for cell in table.values()) else {}

    def tables(self, choice: str) -> dict[tuple[str, str], dict[tuple[str, str], Cell]]:
        """(test set, metric) -> table, without those that are empty."""
        tables = {(test, metric): self.table(test, metric, choice) for test in TEST_SETS for metric in METRICS}
        return {key: table for key, table in tables.items() if table}


def _score(run: RunRecord | None, value: float | None, start: bool = False) -> Number | None:
    return None if run is None or value is None else Number(value, run, start)


def group_runs(runs: Sequence[RunRecord]) -> list[Group]:
    """Runs by data and protocol. Of several of one cell the newest finished one is chosen, or else the newest.

    Raises:
        InputError: no run has finished an epoch.
    """
    groups: dict[str, list[RunRecord]] = {}
    for run in runs:
        protocol = (run.cross_data, *(run.options.get(name) for name in PROTOCOL))
        groups.setdefault(repr(protocol), []).append(run)
    result = []
    for members in groups.values():
        chosen: dict[tuple[str, str, str], RunRecord] = {}
        for run in sorted(members, key=lambda run: (run.finished, run.changed, run.folder)):
            if run.rows:
                chosen[run.lifter, run.keypoints, run.kind] = run
        if chosen:
            result.append(Group(chosen, [run for run in members if run not in chosen.values()]))
    if not result:
        begun = f"{len(runs)} runs, none with a finished epoch" if runs else "no run of run_baseline.py, run_poseaug.py"
        raise InputError(f"nothing to tabulate: found {begun}; expected folders with config.yaml and metrics.csv")
    return result


# ------------------------------------------------------------ text


def markdown(groups: Sequence[Group], choice: str) -> str:
    """All tables, what their numbers mean, and the runs they are from."""
    parts = ["# Lifters without and with PoseAug"]
    for group in groups:
        parts.append(f"## {group.title}")
        tables = group.tables(choice)
        for (test, metric), table in tables.items():
            parts.append(f"### {group.test_name(test)}, {metric} (mm)")
            parts.append(_grid(["lifter", "", *group.keypoints], list(_table_rows(group, table))))
        parts.append("\n".join(_notes(tables, choice)))
        parts.append("Runs:\n\n" + "\n".join(f"- {_describe(run)}" for run in group.ordered()))
        if group.others:
            parts.append("Not in the tables:\n\n" + "\n".join(f"- {_describe(run)}" for run in group.others))
    return "\n\n".join(parts) + "\n"


def _table_rows(group: Group, table: Mapping[tuple[str, str], Cell]) -> Iterable[list[str]]:
    rows: dict[str, Callable[[Cell], str]] = {
        "baseline": lambda cell: cell.baseline.text if cell.baseline else "-",
        "PoseAug": lambda cell: cell.poseaug.text if cell.poseaug else "-",
        "gain": lambda cell: f"{cell.gain:+.1f}" if cell.gain is not None else "-",
    }
    for lifter in group.lifters:
        for i, (name, text) in enumerate(rows.items()):
            yield [lifter * (i == 0), name, *(text(table[lifter, keypoints]) for keypoints in group.keypoints)]


def _grid(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, the numbers flush right, that is readable as it stands, too."""
    widths = [max(3, *(len(row[i]) for row in [head, *rows])) for i in range(len(head))]
    rule = ["-" * width if i < 2 else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    lines = [
        [
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in [head, rule, *rows]
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _notes(tables: Mapping[Any, Mapping[Any, Cell]], choice: str) -> Iterable[str]:
    """The lines under the tables."""
    yield "Lower is better; gain is the baseline's error minus PoseAug's."
    if choice == "min":
        yield (
            "As published, each number is the lowest over the run's epochs of that very test score (epoch 0 of a "
            "PoseAug run is its pretrained baseline): the epoch is chosen on the test set, so the numbers flatter "
            "every run. `--epoch last` gives the last epoch's."
        )
    else:
        yield "Each number is the last epoch's: no epoch is chosen on the test set."
    numbers = [n for table in tables.values() for cell in table.values() for n in (cell.baseline, cell.poseaug) if n]
    if any(number.start for number in numbers):
        yield f"{DAGGER} there is no baseline run: the error of the PoseAug run's start, its pretrained baseline."
    if any(not number.run.finished and not number.start for number in numbers):
        yield "(n/m): unfinished, after n of m epochs."


def _describe(run: RunRecord) -> str:
    state = f"{run.done} of {run.epochs} epochs" + ", unfinished" * (not run.finished)
    return f"{run.kind} {run.lifter} {run.keypoints}: {run.folder} ({state})"


def csv_text(groups: Sequence[Group], choice: str) -> str:
    """One line for each cell of each table."""
    columns = (
        "dataset", "protocol", "test_set", "metric", "lifter", "keypoints", "epoch", "baseline_mm", "poseaug_mm",
        "gain_mm", "baseline_epochs", "poseaug_epochs", "baseline_run", "poseaug_run",
    )  # fmt: skip
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for group in groups:
        for (test, metric), table in group.tables(choice).items():
            for (lifter, keypoints), cell in table.items():
                pair = (cell.baseline, cell.poseaug)
                errors = [number and number.value for number in pair]
                epochs = [
                    number and ("0" if number.start else f"{number.run.done}/{number.run.epochs}") for number in pair
                ]
                names = (group.dataset, group.title, group.test_name(test), metric, lifter, keypoints, choice)
                values = ["" if x is None else f"{x:.3f}" for x in (*errors, cell.gain)]
                writer.writerow([*names, *values, *epochs, *(number and number.run.folder for number in pair)])
    return text.getvalue()


def write_summary(folder: Path, groups: Sequence[Group], choice: str) -> list[Path]:
    """Write summary.md, summary.csv and a chart for each group; returns the paths."""
    paths = [folder / "summary.md", folder / "summary.csv"]
    for path, text in zip(paths, (markdown(groups, choice), csv_text(groups, choice)), strict=True):
        write_atomic(path, lambda file, text=text: file.write(printable(text).encode()))
    for i, group in enumerate(groups):
        same = [other for other in groups[:i] if other.dataset == group.dataset]
        name = re.sub(r"[^\w.-]+", "_", group.dataset) + f"_{len(same) + 1}" * bool(same)
        panels = {}
        for (test, metric), table in group.tables(choice).items():
            bars = {key: (_bar(cell.baseline), _bar(cell.poseaug)) for key, cell in table.items()}
            panels[f"{group.test_name(test)}: {metric}"] = bars
        how = "lowest of all epochs, chosen on the test set" if choice == "min" else "last epoch"
        if panels:
            paths.append(save_chart(folder / f"summary_{name}.png", panels, f"{group.title}; {how}"))
    return paths


def _bar(number: Number | None) -> tuple[float, bool] | None:
    """Height and whether it is final."""
    return number and (number.value, number.start or number.run.finished)


# ------------------------------------------------------------ chart


def save_chart(path: Path, panels: Mapping[str, Bars], title: str) -> Path:
    """Write a PNG with a panel, one below the other, for each of `panels` (title -> bars). Unfinished runs: hatched."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    places = {key: i + _lifter_number(panels, key[0]) for i, key in enumerate(next(iter(panels.values())))}
    figure = Figure(figsize=(max(7.0, 2 + 0.7 * len(places)), 0.9 + 3.1 * len(panels)), dpi=125, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, panel) in zip(figure.subplots(len(panels), squeeze=False).flat, panels.items(), strict=True):
        _draw_panel(axes, panel, places)
        axes.set_title(name, fontsize=11, fontweight="bold", loc="left", pad=20, parse_math=False)
    handles = [Patch(facecolor=face, label=name) for name, face in zip(BAR_NAMES, BAR_FACES, strict=True)]
    if any(bar and not bar[1] for panel in panels.values() for pair in panel.values() for bar in pair):
        handles.append(Patch(facecolor="white", edgecolor=INK, hatch="////", label="unfinished run"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=10)
    figure.suptitle(title, fontsize=10, color=INK, parse_math=False, wrap=True)
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.1)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    return path


def _lifter_number(panels: Mapping[str, Bars], lifter: str) -> int:
    return list(dict.fromkeys(name for name, _ in next(iter(panels.values())))).index(lifter)


def _folded(name: str, room: int = 9) -> str:
    """A long name on several lines, broken behind `_` and `-`."""
    lines = [""]
    for part in re.findall(r"[^_-]*[_-]|[^_-]+$", name):
        if lines[-1] and len(lines[-1] + part) > room:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _draw_panel(axes: "Axes", panel: Bars, places: Mapping[tuple[str, str], int]) -> None:
    top = max(bar[0] for pair in panel.values() for bar in pair if bar)
    for key, pair in panel.items():
        for side, bar, face in zip((-0.5, 0.5), pair, BAR_FACES, strict=True):
            if bar is None:
                continue
            x = places[key] + side * BAR_WIDTH
            look = {"color": face} if bar[1] else {"facecolor": "white", "edgecolor": face, "hatch": "////"}
            axes.bar(x, bar[0], BAR_WIDTH * 0.96, zorder=2, **look)
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
