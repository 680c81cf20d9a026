"""The comparison of all methods: its budget, its table from made-up results, its scores against the own scripts'."""

import csv
import io
import json
import math
import os
import signal
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from PIL import Image

import models
from benchmarks import compare_plan, compare_scores, compare_table, within_budget
from common.errors import InputError
from common.run import checkpoint
from common.run.run import Run
from common.skeleton import H36M_16, H36M_17
from methods.adversarial import options as gan_options
from methods.encoder_decoder import options as encoder_decoder_options
from methods.hourglass import options as hourglass_options
from methods.ites import options
from methods.poseaug import options as lifter_options
from tests.conftest import assert_refused
from tests.processes import fork_scripts
from tests.test_poseaug_scripts import write_cross_data
from tests.tiny_dataset import write_tiny_dataset

SCRIPT = "benchmarks/compare_methods.py"
DATA = ("-d", "tiny", "-k", "gt", "--data-dir", ".", "--device", "cpu")
TEST = Namespace(dataset="tiny", keypoints="gt", data_dir=Path("."), subjects_test="S9,S11", downsample=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("compare"), frames=5)


# ------------------------------------------------------------ table


def errors(first: float, **more: float | None) -> dict:
    names = ("MPJPE", "N-MPJPE", "P-MPJPE", "velocity", "PCK", "AUC")
    return {name: first + i for i, name in enumerate(names)} | more


def made_up(name: str, supervision: str, level: float, knows_size: bool, **more) -> dict:
    """A result as compare_methods.py keeps it."""
    rows = [{"protocol": "as it is"} | errors(level, **{"cross MPJPE": 1.5 * level, "cross P-MPJPE": level})]
    if not knows_size:
        none = dict.fromkeys(("MPJPE", "velocity", "PCK", "AUC", "cross MPJPE"))
        rows = [rows[0] | none, {"protocol": "scale"} | errors(level), {"protocol": "mirror"} | errors(level - 9)]
    stage = {"steps": 10, "poses": 2560, "seconds": 60.0, "poses_per_s": 1234.5, "rss_mb": 512.0, "gpu_mb": None}
    stage |= {"device": "CPU"}
    return {
        "method": name, "supervision": supervision, "joints": 16, "rows": rows,
        "inputs": "synthetic S9: 9 poses", "images": False,
        "cost": {"parameters": 4_288_560, "multiply_adds": 4.27e6, "poses_per_s": 54_321.0},
        "training": [stage, stage | {"rss_mb": 700.0, "poses_per_s": 99.0}] if len(name) > 6 else [stage],
        "settings": {"dataset": "synthetic"},
    } | more  # fmt: skip


@pytest.fixture
def results() -> list[dict]:
    return [
        made_up("no_depth", "none", 180.0, False, cost={}, training=[]),
        made_up("teacher", "2D only", 120.0, False),
        made_up("mlp", "3D", 60.0, True),
    ]


def test_markdown_marks_what_takes_something_from_the_truth(results):
    lines = compare_table.markdown(results, "Every method").splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    heading, rows = table[0], [dict(zip(table[0], row, strict=True)) for row in table[2:]]
    assert {len(row) for row in table} == {len(heading)} and len(rows) == 3 + 3 + 1
    assert [name for name in heading if name.endswith("†")] == ["N-MPJPE †", "P-MPJPE †", "cross P-MPJPE †"]
    by_key = {(row["method"], row["protocol"]): row for row in rows}
    own = by_key["teacher", "as it is"]
    assert (own["MPJPE"], own["N-MPJPE †"], own["PCK"], own["cross MPJPE"]) == ("–", "121.0", "–", "–")
    assert by_key["teacher", "† scale of the truth"]["MPJPE"] == "120.0"
    assert by_key["teacher", "‡ its scale, better mirror"]["MPJPE"] == "111.0"
    mlp = by_key["mlp", "as it is"]
    assert (mlp["MPJPE"], mlp["velocity"], mlp["cross MPJPE"]) == ("60.0", "63.0", "90.0")
    assert (mlp["parameters"], mlp["multiply-adds"], mlp["training poses/s"]) == ("4.29 M", "4.27 M", "1.23 k")
    # of two stages: all poses, the last one's rate, the larger memory
    assert (own["trained on, poses"], own["training poses/s"], own["memory, MB"]) == ("5.12 k", "99", "700 RSS")
    assert by_key["no_depth", "as it is"]["parameters"] == "–"
    assert compare_table.NOT_PUBLISHED in "\n".join(lines)


def test_csv_holds_every_row_in_numbers(results):
    rows = list(csv.DictReader(io.StringIO(compare_table.csv_text(results))))
    assert len(rows) == 7 and all(None not in row for row in rows)
    assert [row["from_the_truth"] for row in rows[3:]] == ["", "scale", "scale and mirror", ""]
    assert rows[3]["MPJPE"] == "" and float(rows[3]["N-MPJPE"]) == 121.0
    assert float(rows[6]["multiply_adds"]) == 4.27e6 and float(rows[6]["training_poses"]) == 2560
    assert float(rows[3]["training_steps"]) == 20 and float(rows[3]["training_rss_mb"]) == 700


def test_scores_on_images_are_told_from_those_on_keypoints(results):
    results[2] |= {"images": True, "inputs": "200 images of 128 pixels"}
    lines = compare_table.markdown(results, "").splitlines()
    assert sum("as it is, rendered images" in line for line in lines) == 1
    assert "- mlp: 200 images of 128 pixels." in lines and "- no_depth, teacher: synthetic S9: 9 poses." in lines


def test_memory_of_a_gpu_is_named(results):
    results[2]["training"][0]["gpu_mb"] = 1024.0
    assert "1,024 GPU" in compare_table.markdown(results, "") and "1,024 RSS" not in compare_table.markdown(results, "")


def test_chart_grows_with_the_methods(results, tmp_path):
    sizes = []
    for count in (1, 3):
        compare_table.write(tmp_path, results[:count], "title")
        with Image.open(tmp_path / "compare.png") as picture:
            assert picture.format == "PNG" and len(picture.getcolors(1 << 24)) > 20
            sizes.append(picture.size)
    assert sizes[0][0] == sizes[1][0] and sizes[0][1] < sizes[1][1]


# ------------------------------------------------------------ budget


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def interrupts(monkeypatch) -> list[int]:
    sent: list[int] = []
    monkeypatch.setattr(signal, "raise_signal", sent.append)
    return sent


def test_the_meter_ends_a_run_after_its_steps(interrupts):
    meter = within_budget.Meter(steps=3)
    for epoch in range(2):
        for step, _ in enumerate(meter.watch(enumerate(torch.arange(8).split(4)))):
            assert interrupts == ([signal.SIGINT] if (epoch, step) == (1, 0) else [])
            if interrupts:
                break
    assert (meter.steps, meter.poses, meter.spent) == (3, 12, True)


def test_the_meter_times_warm_steps_and_not_what_is_between(interrupts, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(within_budget, "time", clock)
    meter = within_budget.Meter(seconds=1000)
    for _ in range(3):
        for _ in meter.watch(enumerate(torch.arange(20).split(5))):
            clock.now += 100 if meter.steps <= within_budget.WARM_UP else 2
        clock.now += 290  # scoring
    assert meter.report()["poses_per_s"] == pytest.approx(5 / 2) and not interrupts


def test_the_meter_ends_a_run_after_its_time(interrupts, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(within_budget, "time", clock)
    meter = within_budget.Meter(seconds=5)
    for _ in meter.watch(enumerate(torch.arange(20).split(5))):
        clock.now += 4
        if interrupts:
            break
    assert meter.steps == 3 and meter.report()["poses_per_s"] == pytest.approx(5 / 4)


@pytest.mark.parametrize("item", [(0, torch.arange(4)), torch.arange(4), (3, {"image": torch.zeros(4, 2)})])
def test_poses_of_every_kind_of_batch(item):
    assert within_budget.poses_in(item) == 4


def test_the_newest_state_is_kept_alone(tmp_path):
    for i, name in enumerate(("tea_model_epoch_1.bin", "ckpt_teacher.bin", "tea_model_epoch_2.bin", "last.bin")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (i, i))
    (stage,) = compare_plan.methods()["teacher"].stages
    assert compare_plan.newest(tmp_path, stage.checkpoints).name == "last.bin"
    assert {path.name for path in tmp_path.iterdir()} == {"ckpt_teacher.bin", "last.bin"}
    (tmp_path / "last.bin").unlink()
    assert compare_plan.newest(tmp_path, stage.checkpoints).name == "ckpt_teacher.bin"
    with pytest.raises(InputError, match="--minutes"):
        compare_plan.newest(tmp_path / "none", stage.checkpoints)


# ------------------------------------------------------------ scores


def saved_lifter(path: Path, name: str, **sizes) -> Path:
    """A checkpoint of a small lifter as training leaves it."""
    torch.manual_seed(0)
    model = models.create(name, **sizes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    checkpoint.save(path, {("model_pos" if name in ("teacher", "student") else "state_dict"): model.state_dict()})
    return path


def scored(path: Path, skeleton=H36M_16) -> dict[str, dict]:
    run = Run(torch.device("cpu"), torch.Generator())
    saved, network = compare_scores.load_lifter(path, run.device)
    return compare_scores.score_lifter(saved, network, compare_scores.load_test(TEST, run.device), run, skeleton)


def test_a_lifter_in_metres_scores_as_by_run_evaluate(here, script):
    lifter = ("--posenet_name", "mlp", "--stages", 1, "--cross_data", "none")
    path = saved_lifter(Path("mlp.pth.tar"), "mlp", stages=1, dropout=0.0)
    done = script("run_evaluate.py", *DATA, *lifter, "--evaluate", path, "--output", "evaluated")
    assert done.status == 0, done.err
    (content,) = (json.loads(file.read_text()) for file in Path("evaluated").glob("*.json"))
    theirs = content["results"]["TINY"]["overall"]["mean over frames"]
    ours = scored(path)
    assert list(ours) == ["as it is"] and ours["as it is"]["velocity"] > 0
    for name in ("MPJPE", "N-MPJPE", "P-MPJPE", "PCK", "AUC"):
        assert ours["as it is"][name] == pytest.approx(theirs[name], rel=1e-4), name


def test_a_lifter_without_size_scores_as_by_test_student(here, script):
    path = saved_lifter(Path("student.bin"), "student", hidden=8, blocks=1)
    done = script("test_student.py", *DATA, "--hid-dim", 8, "--n-blocks", 1, "-c", path, "--output", "student")
    assert done.status == 0, done.err
    theirs = json.loads(Path("student/results.json").read_text())["overall"]["mean over frames"]
    ours = scored(path, H36M_17)
    for name in ("N-MPJPE", "P-MPJPE"):
        assert ours["as it is"][name] == pytest.approx(theirs[f"plain {name}"], rel=1e-4), name
    for name in ("MPJPE", "P-MPJPE"):
        assert ours["mirror"][name] == pytest.approx(theirs[name], rel=1e-4), name
    assert ours["as it is"]["MPJPE"] is None and ours["mirror"]["velocity"] is None
    assert ours["mirror"]["MPJPE"] < ours["scale"]["MPJPE"]


def test_multiply_adds_are_those_of_the_layers():
    layer = torch.nn.Linear(34, 51)
    run = Run(torch.device("cpu"), torch.Generator())
    found = compare_scores.cost(layer, layer, torch.randn(64, 34), run)
    assert found.multiply_adds == 34 * 51 and found.parameters == 34 * 51 + 51 and found.poses_per_s > 0


# ------------------------------------------------------------ all of it


def test_two_methods_from_training_to_table(here, script, monkeypatch):
    fork_scripts(monkeypatch)
    write_cross_data(Path("cross.npz"))
    words = (*DATA, "--steps", 2, "--cross_data", "cross.npz", "-o", "out", "--methods", "mlp", "kudo")
    done = script(SCRIPT, *words, "--more", "mlp: --batch_size 16")
    assert done.status == 0, done.err + done.out
    found = {name: json.loads(Path(f"out/{name}/result.json").read_text()) for name in ("mlp", "kudo")}
    assert [found[name]["supervision"] for name in found] == ["3D", "2D only"]
    assert [[stage["steps"] for stage in found[name]["training"]] for name in found] == [[2], [2]]
    assert found["mlp"]["training"][0]["poses"] == 32 and found["mlp"]["training"][0]["rss_mb"] > 50
    assert [row["protocol"] for row in found["kudo"]["rows"]] == ["as it is", "scale", "mirror"]
    for result in found.values():
        assert result["cost"]["multiply_adds"] > 1e6 and math.isfinite(result["rows"][-1]["cross MPJPE"])
        assert Path(result["state"]).is_file()
    assert {"compare.md", "compare.csv", "compare.png"} <= {path.name for path in Path("out").iterdir()}

    state = Path(found["mlp"]["state"]).stat().st_mtime
    again = script(SCRIPT, *words, "--more", "mlp: --batch_size 16")
    assert again.status == 0 and again.out.count("done before") == 2
    assert Path(found["mlp"]["state"]).stat().st_mtime == state
    assert_refused(script(SCRIPT, *words), "out/mlp/result.json", "--batch_size", "--again")
    Path("out/kudo/result.json").write_text('{"settings": {}}')
    more = ("--more", "mlp: --batch_size 16")
    assert_refused(script(SCRIPT, *words, *more), "out/kudo/result.json is damaged", "--again --methods kudo")


def test_refusals(here, script):
    assert_refused(script(SCRIPT, *DATA, "--methods", "resnet"), "resnet", "there are: no_depth, teacher")
    assert_refused(script(SCRIPT, *DATA, "--more", "mpl: --lr 1"), "mpl", "expected")


def test_a_failing_method_does_not_end_the_others(here, script, monkeypatch):
    fork_scripts(monkeypatch)
    words = (*DATA, "--steps", 1, "--cross_data", "none", "-o", "failing", "--methods", "no_depth", "teacher")
    done = script(SCRIPT, *words, "--more", "teacher: --learning-rat 1")
    assert done.status == 1 and "failed: teacher" in done.out and "did you mean --learning-rate" in done.out
    assert "no_depth" in Path("failing/compare.md").read_text()


def test_every_option_of_the_plan_is_known_to_its_script():
    """Words that a script does not know would fail after other methods have trained for hours."""
    args = Namespace(
        **vars(TEST), subjects_train="S1", images=10, frames=4, output=Path("out"), device="cpu", seed=0, threads=0,
        amp=False, compile=False, no_cuda_graphs=False,
    )  # fmt: skip
    plan = compare_plan.methods(("mlp", "gcn", "stgcn", "videopose"))
    assert {"teacher", "student", "kudo", "chen", "hourglass", "encoder_decoder", "poseaug_stgcn"} <= set(plan)

    parsers = {
        "train_teacher.py": options.teacher_parser, "train_student.py": options.student_parser,
        "run_baseline.py": lifter_options.baseline_parser, "run_poseaug.py": lifter_options.poseaug_parser,
        "train_gan.py": gan_options.training_parser, "train_hourglass.py": hourglass_options.training_parser,
        "train_encoder_decoder.py": encoder_decoder_options.synthesis_parser,
        "train_encoder_decoder_pose.py": encoder_decoder_options.pose_parser,
    }  # fmt: skip
    for method in plan.values():
        for stage in method.stages:
            words = [*stage.options(args, Path("run"), Path("before")), *compare_plan.run_words(args)]
            parsed = parsers[stage.script]("").parse_args(words)
            assert getattr(parsed, "actions", "*") == "*"  # the same test subjects in all that they do
            assert Path("run") in (getattr(parsed, "checkpoint", None), getattr(parsed, "exp_dir", None))


def test_poseaug_stopped_in_its_warm_up_is_named(tmp_path):
    def note(**state) -> str:
        torch.save(state, tmp_path / "last.pth.tar")
        return compare_scores.warm_up_note(tmp_path / "last.pth.tar")

    options = checkpoint.options_json({"warmup": 2})
    assert "warm-up" in note(epoch=1, options=options) and "warm-up" in note(epoch=2, options=options)
    assert not note(epoch=3, options=options) and not note(epoch=1, options="{}") and not note(epoch=1)
