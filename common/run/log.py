"""The written record of a run: `config.yaml`, `metrics.csv` (one row an epoch) and TensorBoard events, in one
folder.
"""

import argparse
import csv
import io
import logging
import os
import re
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist
from PIL import Image

from common.draw.curves import plot_curves
from common.errors import InputError, printable
from common.files.atomic import write_atomic
from common.run.checkpoint import state_file
from common.run.options import write_config

log = logging.getLogger(__name__)


class EventFile:
    """A TensorBoard event file of scalars in `folder`; events of earlier files from `first_step` on are not shown.

    It writes at once, in the caller: `SummaryWriter` writes from a thread, whose errors (a full disk) end in a
    traceback on the terminal. ImportError without tensorboard, OSError where nothing can be written.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2  # importing them takes a while
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary, self._session = event_pb2.Event, summary_pb2.Summary, event_pb2.SessionLog
        self._record_writer = RecordWriter
        # TensorBoard reads the files of a folder in the order of their names, also where the clock was set back.
        stamps = [re.match(r"events\.out\.tfevents\.(\d{1,10}\.\d{6})", file.name) for file in folder.glob("events*")]
        now = max([time.time(), *(float(stamp[1]) + 1e-3 for stamp in stamps if stamp)])
        self.path = folder / f"events.out.tfevents.{now:017.6f}.{socket.gethostname()}.{os.getpid()}"
        start = self._session(status=self._session.START)
        self._append([self._event(file_version="brain.Event:2"), self._event(step=first_step, session_log=start)])

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values at a step."""
        scalars = [self._summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._append([self._event(step=step, summary=self._summary(value=scalars))])

    def add_picture(self, step: int, name: str, png: bytes, width: int, height: int) -> None:
        """Write a picture, the bytes of a PNG in RGB, at a step."""
        picture = self._summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
        value = self._summary.Value(tag=name, image=picture)
        self._append([self._event(step=step, summary=self._summary(value=[value]))])

    def _append(self, events: list[Any]) -> None:
        text = io.BytesIO()
        for event in events:
            event.wall_time = time.time()
            self._record_writer(text).write(event.SerializeToString())
        with open(self.path, "ab") as file:
            file.write(text.getvalue())


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
        self.writer: EventFile | None = None
        self.events, self.resumed = True, resume
        if self.active:
            if self.folder.exists() and not self.folder.is_dir():
                raise InputError(
                    f"cannot write into {self.folder}: it is a file, expected a folder for the run's results"
                )
            if (self.folder / "metrics.csv").exists():
                self._meet_earlier_run(getattr(args, "resume", "") if resume else None)
            write_config(self.folder / "config.yaml", args)
            if resume and (self.folder / "metrics.csv").exists():
                self.rows = read_metrics(self.folder / "metrics.csv")

    def _meet_earlier_run(self, resumed: Any) -> None:
        """Warn that its files will be replaced; refuse to mix them with those of another run that is resumed."""
        if resumed is None:
            log.warning(
                "%s holds an earlier run, whose files stay until this one writes its own; name another folder to keep "
                "them, or go on with --resume",
                self.folder,
            )
        elif isinstance(resumed, (str, Path)):
            if state_file(resumed, "state", self.folder).parent.resolve() != self.folder.resolve():
                raise InputError(
                    f"--resume {resumed} goes on with another run than the one in {self.folder}, whose files it would "
                    "replace: name that run's own folder, or a new one"
                )

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
        """Write numbers of one training step to TensorBoard, under "step/" where a name has no group of its own."""
        if self.active:
            self._add(step, values, "step/")

    def picture(self, step: int, name: str, picture: Image.Image) -> None:
        """Show an RGB picture of one training step in TensorBoard."""
        if self.active:
            png = io.BytesIO()
            picture.save(png, format="png")
            self._write(step, lambda writer: writer.add_picture(step, name, png.getvalue(), *picture.size))

    def plot(self, path: str | Path, ylabel: str = "") -> None:
        """Draw the run's losses and errors over its epochs; ylabel: their units, where all have the same."""
        if self.active and self.rows:
            epochs = [int(row["epoch"]) for row in self.rows]
            columns = dict.fromkeys(name for row in self.rows for name in row if name not in ("epoch", "lr"))
            curves = {name: (epochs, [float(row.get(name) or "nan") for row in self.rows]) for name in columns}
            plot_curves(path, curves, title=printable(str(self.folder)), ylabel=ylabel, log_scale=True)

    def close(self) -> None:
        """End the record. Nothing is lost without it: every row and event is in its file already."""
        self.writer = None

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _add(self, step: int, values: Mapping[str, float], prefix: str) -> None:
        named = {name if "/" in name else prefix + name: value for name, value in values.items()}
        self._write(step, lambda writer: writer.add(step, named))

    def _write(self, step: int, write: Callable[[EventFile], None]) -> None:
        if not self.events:
            return
        try:
            if self.writer is None:
                self.writer = EventFile(self.folder, step if self.resumed else 0)
            write(self.writer)
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


def numbers_line(row: Mapping[str, float]) -> str:
    """An epoch's numbers for the console: losses that are not 0, and all scores, named val_..."""
    return "  ".join(f"{name} {value:.4g}" for name, value in row.items() if value or name.startswith("val"))


def _cell(value: Any) -> Any:
    return f"{value:.9g}" if isinstance(value, float) else value
