"""The written record of a run: `config.yaml`, `metrics.csv` (one row an epoch) and TensorBoard events, in one
folder.
"""

import argparse
import contextlib
import csv
import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist

from common.draw import plot_curves
from common.errors import InputError
from common.files import write_atomic
from common.options import write_config

log = logging.getLogger(__name__)


class RunLog:
    """Writes a run's record into `folder`; on ranks other than 0 it does nothing.

    The folder is made, and proved writable, at once: InputError before any training. With `resume`, the rows of an
    earlier `metrics.csv` are kept up to the epoch resumed; without, the file starts afresh with the first epoch.
    TensorBoard shows no event of an earlier run in the folder from the first step written on.
    """

    def __init__(self, folder: str | Path, args: argparse.Namespace, resume: bool = False) -> None:
        self.folder = Path(folder)
        self.active = not (dist.is_available() and dist.is_initialized() and dist.get_rank() != 0)
        self.rows: list[dict[str, Any]] = []
        self.writer: Any = None
        self.events, self.resumed = True, resume
        if self.active:
            if self.folder.exists() and not self.folder.is_dir():
                raise InputError(
                    f"cannot write into {self.folder}: it is a file, expected a folder for the run's results"
                )
            write_config(self.folder / "config.yaml", args)
            if resume and (self.folder / "metrics.csv").exists():
                self.rows = read_metrics(self.folder / "metrics.csv")

    def epoch(self, epoch: int, values: Mapping[str, Any], step: int | None = None) -> None:
        """Write the row of `epoch` (rows from it on, of an earlier attempt, go), and its numbers to TensorBoard.

        `step` is the number of training steps so far: TensorBoard's axis. Columns keep the order in which their names
        first came.
        """
        if not self.active:
            return
        self.rows = [row for row in self.rows if int(row["epoch"]) < epoch] + [{"epoch": epoch, **values}]
        text = io.StringIO()
        table = csv.DictWriter(
            text, list(dict.fromkeys(name for row in self.rows for name in row)), lineterminator="\n"
        )
        table.writeheader()
        table.writerows({name: _cell(value) for name, value in row.items()} for row in self.rows)
        write_atomic(self.folder / "metrics.csv", lambda file: file.write(text.getvalue().encode()))
        self._add(
            epoch if step is None else step,
            {name: value for name, value in values.items() if isinstance(value, (int, float))},
            "epoch/",
        )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers of one training step to TensorBoard."""
        if self.active:
            self._add(step, values, "step/")

    def plot(self, path: str | Path) -> None:
        """Draw the run's losses and errors over its epochs."""
        if self.active and self.rows:
            epochs = [int(row["epoch"]) for row in self.rows]
            columns = dict.fromkeys(name for row in self.rows for name in row if name not in ("epoch", "lr"))
            curves = {name: (epochs, [float(row.get(name) or "nan") for row in self.rows]) for name in columns}
            plot_curves(path, curves, title=str(self.folder), ylabel="losses x 1000, errors in mm", log_scale=True)

    def close(self) -> None:
        """Write out what TensorBoard's writer still holds."""
        if self.writer is not None:
            with contextlib.suppress(OSError):
                self.writer.close()
            self.writer = None

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _add(self, step: int, values: Mapping[str, float], prefix: str) -> None:
        if not self.events:
            return
        try:
            if self.writer is None:
                from torch.utils.tensorboard import SummaryWriter  # importing it takes a second

                self.writer = SummaryWriter(str(self.folder), purge_step=step if self.resumed else 0)
            for name, value in values.items():
                self.writer.add_scalar(prefix + name, value, step)
            if prefix == "epoch/":
                self.writer.flush()
        except (ImportError, OSError) as error:  # curves are a convenience: a run must not die of them
            log.warning("no TensorBoard events from here on (%s); metrics.csv is still written", error)
            self.events, self.writer = False, None


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.csv`, by column name, as text."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            int(row["epoch"])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"cannot read {path}: expected a table whose column 'epoch' holds whole numbers; mend or move it"
        ) from None
    return [{name: value for name, value in row.items() if name} for row in rows]


def _cell(value: Any) -> Any:
    return f"{value:.9g}" if isinstance(value, float) else value
