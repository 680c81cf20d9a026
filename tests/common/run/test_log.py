"""The written record of a run."""

import os
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist
import yaml
from PIL import Image, ImageColor

from common.draw.colours import CURVE_COLOURS
from common.errors import InputError
from common.run.log import EventFile, RunLog, read_metrics

ARGS = Namespace(lr=0.1, keypoints="gt")
FULL = Path("/dev/full")


def test_metrics_and_config(tmp_path):
    folder = tmp_path / "runs" / "a"
    with RunLog(folder, ARGS) as log:
        log.events = False
        log.epoch(0, {"lr": 0.1, "loss": 1 / 3})
        log.epoch(1, {"loss": 2.0, "MPJPE": 50.25, "note": "a, b"})
        assert not list(folder.glob("*.tmp"))
    assert yaml.safe_load((folder / "config.yaml").read_text()) == {"lr": 0.1, "keypoints": "gt"}
    assert (folder / "metrics.csv").read_text() == (
        'epoch,lr,loss,MPJPE,note\n0,0.1,0.333333333,,\n1,,2,50.25,"a, b"\n'
    )


def test_curves_are_drawn_of_what_every_row_or_one_has(tmp_path):
    log = RunLog(tmp_path, ARGS)
    log.plot(tmp_path / "nothing.png")
    log.events = False
    log.epoch(1, {"lr": 0.1, "loss": 3.0})
    log.epoch(2, {"lr": 0.1, "loss": 2.0, "MPJPE": 50.25})
    log.plot(tmp_path / "curves.png", ylabel="mm")
    assert not (tmp_path / "nothing.png").exists()
    with Image.open(tmp_path / "curves.png") as picture:
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3).tolist()
    for number, drawn in enumerate((True, True, False)):  # loss and MPJPE; not the epochs, not the learning rate
        assert (list(ImageColor.getrgb(CURVE_COLOURS[number])) in colours) == drawn


def test_an_earlier_run_is_warned_of_and_not_mixed_with_another(tmp_path, caplog):
    for name in ("a", "b"):
        log = RunLog(tmp_path / name, ARGS)
        log.events = False
        log.epoch(1, {"loss": 1})
    assert not caplog.records
    RunLog(tmp_path / "a", ARGS)
    assert "a holds an earlier run" in caplog.text
    before = (tmp_path / "a" / "metrics.csv").read_text()
    (tmp_path / "a" / "last.bin").touch(), (tmp_path / "b" / "last.bin").touch()
    for resumed in (tmp_path / "b", tmp_path / "b" / "last.bin"):
        with pytest.raises(InputError, match="another run than the one in .*a, whose files it would replace"):
            RunLog(tmp_path / "a", Namespace(resume=str(resumed)), resume=True)
    assert (tmp_path / "a" / "metrics.csv").read_text() == before
    for resumed in ("last.bin", tmp_path / "a", tmp_path / "a" / "last.bin", True):  # its own
        RunLog(tmp_path / "a", Namespace(resume=resumed), resume=True)
    RunLog(tmp_path / "new", Namespace(resume=str(tmp_path / "b")), resume=True)


def test_resume_drops_the_epochs_done_again(tmp_path):
    log = RunLog(tmp_path, ARGS)
    log.events = False
    for epoch in range(4):
        log.epoch(epoch, {"loss": epoch})
    log = RunLog(tmp_path, ARGS, resume=True)
    log.events = False
    log.epoch(2, {"loss": 9})
    assert [(row["epoch"], row["loss"]) for row in read_metrics(tmp_path / "metrics.csv")] == [
        ("0", "0"),
        ("1", "1"),
        ("2", "9"),
    ]
    log = RunLog(tmp_path, ARGS)
    log.events = False
    assert len(read_metrics(tmp_path / "metrics.csv")) == 3  # nothing is lost before the new run has something to say
    log.epoch(0, {"loss": 7})
    assert len(read_metrics(tmp_path / "metrics.csv")) == 1


def test_tensorboard_events(tmp_path):
    from tensorboard.backend.event_processing import event_accumulator as accumulator

    def events():
        reader = accumulator.EventAccumulator(str(tmp_path))
        reader.Reload()
        return {tag: [(event.step, event.value) for event in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}

    with RunLog(tmp_path, ARGS) as log:
        for step in range(3):
            log.scalars(step, {"loss": step})
        log.epoch(0, {"MPJPE": 50.0, "name": "x"})
    assert events() == {"step/loss": [(0, 0), (1, 1), (2, 2)], "epoch/MPJPE": [(0, 50)]}
    with RunLog(tmp_path, ARGS, resume=True) as log:
        log.scalars(2, {"loss": 7})
    assert events()["step/loss"] == [(0, 0), (1, 1), (2, 7)]


def test_folder_is_proved_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run", "/proc/run"):
        with pytest.raises(InputError, match="cannot write"):
            RunLog(folder, ARGS)
    (tmp_path / "metrics.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="'epoch'"):
        RunLog(tmp_path, ARGS, resume=True)


def test_other_ranks_are_silent(tmp_path, monkeypatch):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    with RunLog(tmp_path / "run", ARGS) as log:
        log.epoch(0, {"loss": 1})
        log.scalars(0, {"loss": 1})
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not FULL.exists(), reason="needs a device that is always full")
def test_a_full_disk_ends_the_events_in_one_line_and_not_the_run(tmp_path, caplog, capfd):
    with RunLog(tmp_path, ARGS) as log:
        log.scalars(0, {"loss": 1})
        log.writer.path = FULL
        for step in (1, 2):
            log.scalars(step, {"loss": 1})
        log.epoch(0, {"loss": 1})
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No space left" in caplog.text and "metrics.csv is still written" in caplog.text
    assert len(read_metrics(tmp_path / "metrics.csv")) == 1 and "Traceback" not in capfd.readouterr().err


def test_without_tensorboard_the_run_goes_on(tmp_path, caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
    with RunLog(tmp_path, ARGS) as log:
        log.scalars(0, {"loss": 1})
        log.epoch(0, {"loss": 1})
    assert caplog.text.count("no TensorBoard events from here on") == 1
    assert len(read_metrics(tmp_path / "metrics.csv")) == 1


def test_a_clock_set_back_keeps_the_order_of_the_events(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.setattr("time.time", lambda: 2e9)
    first = EventFile(tmp_path, 0).path
    monkeypatch.setattr("time.time", lambda: 1e9)
    assert EventFile(tmp_path, 5).path.name > first.name
