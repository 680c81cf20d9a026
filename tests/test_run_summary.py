"""Tables of many runs, and the grid: made-up folders, a grid of tiny stand-in scripts, and one of the real scripts."""

import csv
import json
import os
import shlex
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from common.errors import InputError
from methods.poseaug import grid, summary
from tests.conftest import ROOT, assert_refused
from tests.processes import fork_scripts, start
from tests.tiny_dataset import write_tiny_dataset

PROTOCOL = {
    "dataset": "h36m", "cross_data": "auto", "subjects_train": "S1,S5,S6,S7,S8", "subjects_test": "S9,S11",
    "actions": "*", "downsample": 1, "flip_test": False, "note": "x",
}  # fmt: skip


def make_run(
    folder: Path, kind: str, lifter: str, errors, epochs=3, keypoints="gt", cross=True, changed=None, **options
) -> Path:
    """A run's folder. errors: protocol #1 on the test subjects by epoch; #2 is half of it, the cross data's twice."""
    folder.mkdir(parents=True)
    own = {"lr": 1e-3} if kind == "baseline" else {"warmup": 2, "lr_g": 1e-4, "lr_p": 1e-4, "pretrain": "b.pth.tar"}
    config = PROTOCOL | own | {"posenet_name": lifter, "keypoints": keypoints, "epochs": epochs} | options
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML, too
    scores = {"error_h36m_p1": 1, "error_h36m_p2": 0.5} | ({"error_3dhp_p1": 2, "error_3dhp_p2": 1} if cross else {})
    lines = [",".join(["epoch", *scores])]
    for epoch, error in enumerate(errors, start=kind == "baseline"):
        lines.append(",".join([str(epoch), *(f"{factor * error:.6f}" for factor in scores.values())]))
    if errors:
        (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    if changed is not None:
        os.utime(folder / ("metrics.csv" if errors else "config.yaml"), (changed, changed))
    return folder


def groups(*folders: Path) -> list[summary.Group]:
    return summary.group_runs(summary.find_runs(folders))


# -------------------------------------------------------------------------------------------------------------- tables


def test_numbers_are_the_lowest_of_all_epochs_or_the_last(tmp_path):
    make_run(tmp_path / "b", "baseline", "mlp", (60, 50, 55))
    make_run(tmp_path / "p", "poseaug", "mlp", (50, 52, 44, 47))
    (group,) = groups(tmp_path)
    for test, metric, factor in (("h36m", "MPJPE", 1), ("h36m", "P-MPJPE", 0.5), ("3dhp", "MPJPE", 2)):
        lowest = group.cell("SimpleBaseline", "gt", test, metric, "min")
        assert (lowest.baseline.value, lowest.poseaug.value, lowest.gain) == (50 * factor, 44 * factor, 6 * factor)
        last = group.cell("SimpleBaseline", "gt", test, metric, "last")
        assert (last.baseline.value, last.poseaug.value, last.gain) == (55 * factor, 47 * factor, 8 * factor)
    lines = summary.markdown([group], "min").splitlines()
    assert "### H36M, P-MPJPE (mm)" in lines and "### 3DHP, MPJPE (mm)" in lines
    place = lines.index("### H36M, MPJPE (mm)")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[place + 2 : place + 7]]
    assert rows[0] == ["lifter", "", "gt"]
    assert rows[2:] == [["SimpleBaseline", "baseline", "50.0"], ["", "PoseAug", "44.0"], ["", "gain", "+6.0"]]
    assert "chosen on the test set, so" in summary.markdown([group], "min")
    assert "flatter" not in summary.markdown([group], "last")


def test_start_of_a_poseaug_run_stands_in_for_a_baseline_that_is_not_there(tmp_path):
    make_run(tmp_path / "p", "poseaug", "mlp", (50, 52, 44, 47))
    make_run(tmp_path / "q", "poseaug", "gcn", (900, 52, 44, 47), pretrain=False)  # began from nothing
    (group,) = groups(tmp_path)
    cell = group.cell("SimpleBaseline", "gt", "h36m", "MPJPE", "last")
    assert cell.baseline.text == "50.0\u2020" and cell.gain == 3
    assert group.cell("SemGCN", "gt", "h36m", "MPJPE", "min").baseline is None
    assert "\u2020 there is no baseline run" in summary.markdown([group], "min")


def test_lifters_and_inputs_are_in_the_published_order(tmp_path):
    for lifter in ("videopose", "stgcn", "mlp", "gcn"):
        for keypoints in ("noisy", "hr", "detectron_ft_h36m", "cpn_ft_h36m_dbb", "gt"):
            make_run(tmp_path / lifter / keypoints, "baseline", lifter, (50,), keypoints=keypoints)
    make_run(tmp_path / "temporal", "baseline", "videopose", (40,), architecture="3,3,3")
    (group,) = groups(tmp_path)
    assert group.lifters == ["SemGCN", "SimpleBaseline", "ST-GCN", "VideoPose", "VideoPose 3,3,3"]
    assert group.keypoints == ["gt", "cpn_ft_h36m_dbb", "detectron_ft_h36m", "hr", "noisy"]


def test_newest_finished_run_is_taken_and_the_others_are_listed(tmp_path):
    make_run(tmp_path / "old", "baseline", "mlp", (40, 40, 40), changed=1000)
    make_run(tmp_path / "new", "baseline", "mlp", (50, 50, 50), changed=2000)
    make_run(tmp_path / "stopped", "baseline", "mlp", (30,), changed=3000)
    make_run(tmp_path / "begun", "baseline", "mlp", (), changed=4000)
    assert len(summary.find_runs([tmp_path, tmp_path / "new"])) == 4  # given twice, there once
    (group,) = groups(tmp_path)
    assert group.cell("SimpleBaseline", "gt", "h36m", "MPJPE", "min").baseline.text == "50.0"
    assert {run.folder.name for run in group.others} == {"old", "stopped", "begun"}
    listed = summary.markdown([group], "min").split("Not in the tables:")[1]
    assert "stopped (1 of 3 epochs, unfinished)" in listed and "old (3 of 3 epochs)" in listed


def test_unfinished_run_is_marked_where_there_is_no_other(tmp_path):
    make_run(tmp_path / "b", "baseline", "mlp", (60, 50))
    make_run(tmp_path / "p", "poseaug", "mlp", (50,))
    (group,) = groups(tmp_path)
    text = summary.markdown([group], "min")
    assert "50.0 (2/3)" in text and "50.0 (0/3)" in text and "(n/m): unfinished" in text


def test_runs_on_other_data_or_another_protocol_have_tables_of_their_own(tmp_path):
    make_run(tmp_path / "a", "baseline", "mlp", (50, 50, 50))
    make_run(tmp_path / "b", "poseaug", "mlp", (60, 60, 60, 60), dataset="synthetic")
    make_run(tmp_path / "c", "baseline", "gcn", (70, 70, 70), downsample=64)
    make_run(tmp_path / "d", "baseline", "stgcn", (80, 80, 80), cross=False, cross_data="3dhp")  # as auto for h36m
    make_run(tmp_path / "e", "poseaug", "stgcn", (80, 80, 80, 80), cross_data="sets/office.npz")
    found = groups(tmp_path)
    expected = [["ST-GCN", "SimpleBaseline"], ["SimpleBaseline"], ["SemGCN"], ["ST-GCN"]]
    assert [sorted(group.lifters) for group in found] == expected
    assert [group.test_name("3dhp") for group in found] == ["3DHP", "synthetic's twin", "3DHP", "office"]
    assert "one frame in 64" in found[2].title and "synthetic" in found[1].title
    assert found[0].cell("SimpleBaseline", "gt", "h36m", "MPJPE", "min").poseaug is None


def test_no_cross_data_no_table_of_it(tmp_path):
    make_run(tmp_path / "a", "baseline", "mlp", (50, float("nan"), 48), cross=False)
    (group,) = groups(tmp_path)
    assert list(group.tables("min")) == [("h36m", "MPJPE"), ("h36m", "P-MPJPE")]
    assert group.cell("SimpleBaseline", "gt", "h36m", "MPJPE", "min").baseline.value == 48  # nan is no lowest error


def test_script_writes_tables_and_chart(tmp_path, monkeypatch, script):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs/baseline/mlp", "baseline", "mlp", (60, 50, 55))
    make_run(tmp_path / "runs/baseline/gcn", "baseline", "gcn", (60, 50), keypoints="detectron_ft_h36m")
    make_run(tmp_path / "runs/poseaug/mlp", "poseaug", "mlp", (50, 52, 44, 47))
    (tmp_path / "runs/ites").mkdir()
    (tmp_path / "runs/ites/config.yaml").write_text("keypoints: gt\nepochs: 3\n")  # another script's run
    outcome = script("run_summary.py", "runs", "--output", "out")
    assert outcome.status == 0, outcome.err
    text = (tmp_path / "out/summary.md").read_text()
    assert text.strip() in outcome.out and "ites" not in text
    with open("out/summary.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 4
    (row,) = (r for r in rows if (r["test_set"], r["metric"], r["lifter"], r["keypoints"]) ==
              ("3DHP", "MPJPE", "SimpleBaseline", "gt"))  # fmt: skip
    assert [float(row[f"{name}_mm"]) for name in ("baseline", "poseaug", "gain")] == [100, 88, 12]
    assert row["baseline_run"] == "runs/baseline/mlp" and row["poseaug_epochs"] == "3/3"
    picture = np.asarray(Image.open("out/summary_h36m.png").convert("RGB"))
    sizes = [(picture == np.round(255 * np.array(to_rgb(face)))).all(-1).sum() for face in summary.BAR_FACES]
    assert min(sizes) > 5000


def test_bars_are_as_high_as_the_errors(tmp_path):
    """One baseline bar is twice as high as the other: so is its area."""

    def area(value: float) -> int:
        key, face = ("SemGCN", "gt"), summary.BAR_FACES[0]
        panel = {key: ((value, True), (100.0, True))}
        path = summary.save_chart(tmp_path / "a.png", {"H36M": panel}, "")
        picture = np.asarray(Image.open(path).convert("RGB"))[:-60]  # without the legend
        return (picture == np.round(255 * np.array(to_rgb(face)))).all(-1).sum()

    assert area(80) / area(40) == pytest.approx(2, rel=0.05)


def test_long_names_fold_behind_underscores():
    assert summary._folded("cpn_ft_h36m_dbb") == "cpn_ft_\nh36m_dbb"
    assert summary._folded("gt") == "gt" and summary._folded("averyveryverylongone") == "averyveryverylongone"


@pytest.mark.parametrize(
    "damage, parts",
    [
        (lambda run: run.parent.rename(run.parent.with_name("gone")), ("runs", "not there")),
        (lambda run: (run / "config.yaml").unlink(), ("nothing to tabulate", "no run of")),
        (lambda run: (run / "metrics.csv").unlink(), ("1 runs, none with a finished epoch",)),
        (lambda run: (run / "metrics.csv").write_text("a,b\n1,2\n"), ("metrics.csv", "epoch")),
        (lambda run: (run / "config.yaml").write_text("a: [1"), ("config.yaml", "malformed YAML")),
        (lambda run: (run / "config.yaml").write_bytes(b"\xff\xfe\x00"), ("config.yaml", "not a text file")),
        (
            lambda run: (run / "config.yaml").write_text(
                "{posenet_name: mlp, keypoints: gt, dataset: a, epochs: many}"
            ),
            ("config.yaml", "epochs", "'many'", "whole number"),
        ),
    ],
)
def test_bad_folders_are_refused_in_one_line(tmp_path, monkeypatch, script, damage, parts):
    monkeypatch.chdir(tmp_path)
    damage(make_run(tmp_path / "runs/a", "baseline", "mlp", (60, 50, 55)))
    assert_refused(script("run_summary.py", "runs"), *parts)
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize(
    "words, part",
    [
        ((), "--grid FILE"),
        (("runs", "--grid", "g.yaml"), "either"),
        (("runs", "--run"), "--run needs --grid"),
        (("--grid", "g.yaml", "--jobs", 2), "--jobs needs --run"),
        (("--grid", "none.yaml"), "none.yaml"),
        (("runs", "--epoch", "best"), "'min', 'last'"),
    ],
)
def test_options_that_do_not_go_together(tmp_path, monkeypatch, script, words, part):
    monkeypatch.chdir(tmp_path)
    assert_refused(script("run_summary.py", *words), part)


# ------------------------------------------------------------------------------------------------------------ the grid

PUBLISHED = """
    run_baseline.py --note pretrain --dropout 0 --lr 2e-2 --epochs 100 --posenet_name gcn --checkpoint checkpoint/pretrain_baseline --keypoints KEYPOINTS
    run_baseline.py --note pretrain --lr 1e-3 --posenet_name videopose --checkpoint checkpoint/pretrain_baseline --keypoints KEYPOINTS
    run_baseline.py --note pretrain --lr 1e-3 --stages 2 --posenet_name mlp --checkpoint checkpoint/pretrain_baseline --keypoints KEYPOINTS
    run_baseline.py --note pretrain --dropout -1 --lr 1e-3 --posenet_name stgcn --checkpoint checkpoint/pretrain_baseline --keypoints KEYPOINTS
    run_poseaug.py --note poseaug --dropout 0 --posenet_name gcn --lr_p 1e-3 --checkpoint checkpoint/poseaug --keypoints KEYPOINTS
    run_poseaug.py --note poseaug --posenet_name videopose --lr_p 1e-4 --checkpoint checkpoint/poseaug --keypoints KEYPOINTS
    run_poseaug.py --note poseaug --posenet_name mlp --lr_p 1e-4 --stages 2 --checkpoint checkpoint/poseaug --keypoints KEYPOINTS
    run_poseaug.py --note poseaug --dropout 0 --posenet_name stgcn --lr_p 1e-4 --checkpoint checkpoint/poseaug --keypoints KEYPOINTS
"""  # noqa: E501


def pairs(words) -> dict[str, str]:
    return dict(zip(words[::2], words[1::2], strict=True))


def test_grid_asks_for_the_published_commands(tmp_path, monkeypatch, script):
    monkeypatch.chdir(tmp_path)
    outcome = script("run_summary.py", "--grid", ROOT / "configs/poseaug_grid.yaml")
    assert outcome.status == 0, outcome.err
    found = [shlex.split(line) for line in outcome.out.splitlines() if line.startswith(" ")]
    expected = [
        shlex.split(line.replace("KEYPOINTS", keypoints)) for line in PUBLISHED.strip().splitlines()
        for keypoints in ("gt", "cpn_ft_h36m_dbb", "detectron_ft_h36m", "hr")
    ]  # fmt: skip
    expected = [(words[0], pairs(words[1:]) | {"--dataset": "h36m"}) for words in expected]
    asked = [(words[1], pairs(words[2:])) for words in found]
    assert all((name == "run_poseaug.py") == (options.pop("--pretrain", "") == "FILE") for name, options in asked)

    def in_order(commands):
        return sorted((name, sorted(options.items())) for name, options in commands)

    assert len(asked) == 32 and in_order(asked) == in_order(expected)
    assert not (tmp_path / "checkpoint").exists()  # listing writes nothing


def test_recipe_without_files_is_accepted(tmp_path, monkeypatch, script):
    monkeypatch.chdir(tmp_path)
    outcome = script("run_summary.py", "--grid", ROOT / "configs/poseaug_synthetic.yaml")
    assert outcome.status == 0 and outcome.out.count("--dataset synthetic") == 2 * 4 * 2, outcome.err


@pytest.mark.parametrize(
    "text, parts",
    [
        ("keypoints: [gt]", ("lifters",)),
        ("lifters: {mlp: }", ("keypoints", "None")),
        ("lifters: {mlp: }\nkeypoints: gt\nkeypoint: gt", ("unknown entry 'keypoint'",)),
        ("lifters: {mlp: {lr: 1}}\nkeypoints: gt", ("lifters: mlp: ", "'lr'", "baseline, poseaug")),
        ("lifters: {cnn: }\nkeypoints: gt", ("baseline cnn gt", "'cnn'", "'stgcn'")),
        ("lifters: {mlp: {baseline: {lrr: 1}}}\nkeypoints: gt", ("baseline mlp gt", "--lrr", "--lr")),
        ("lifters: {mlp: {poseaug: {warmup: -1}}}\nkeypoints: gt", ("poseaug mlp gt", "--warmup", "-1")),
        ("lifters: {mlp: {common: {dropout: -1}}}\nkeypoints: gt", ("baseline mlp gt", "only stgcn")),
        ("lifters: {mlp: }\nkeypoints: gt\ncommon: {note: x}", ("common", "sets note")),
        ("lifters: {mlp: }\nkeypoints: gt\ncommon: {amp: false}", ("amp", "False", "leave out")),
        ("lifters: [mlp]\nkeypoints: gt", ("lifters", "['mlp']")),
        ("lifters: {mlp: }\nkeypoints: gt\nposeaug: 3", ("poseaug", "found 3")),
        ("- a", ("g.yaml", "list")),
    ],
)
def test_bad_grid_is_refused_in_one_line(tmp_path, monkeypatch, script, text, parts):
    monkeypatch.chdir(tmp_path)
    Path("g.yaml").write_text(text)
    assert_refused(script("run_summary.py", "--grid", "g.yaml", "--run"), "g.yaml", *parts)
    assert not (tmp_path / "checkpoint").exists()


# ------------------------------------------------------------------------------------------------- what is done of it


def planned(kind: str, **options) -> grid.PlannedRun:
    own = {"lr": 1e-3} if kind == "baseline" else {"warmup": 2, "lr_g": 1e-4, "lr_p": 1e-4}
    wanted = PROTOCOL | own | {"posenet_name": "mlp", "keypoints": "gt", "epochs": 3, "checkpoint": "c"} | options
    return grid.PlannedRun(kind, "mlp", "gt", ("--epochs", "3"), wanted)


def states(folder: Path, **options) -> tuple[grid.State, grid.State]:
    runs = summary.find_runs([folder])
    return grid.pair_states(planned("baseline", **options), planned("poseaug", **options), runs, runs)


def words(*found: grid.State) -> tuple[str, ...]:
    return tuple(state.word for state in found)


def baseline(folder: Path, epochs: int = 3, files=("ckpt_best.pth.tar", "last.pth.tar"), **options) -> Path:
    make_run(folder, "baseline", "mlp", [50] * epochs, **options)
    for name in files:
        (folder / name).touch()
    return folder


def test_a_grid_goes_from_nothing_to_finished(tmp_path):
    assert words(*states(tmp_path)) == ("start", "wait")
    first = baseline(tmp_path / "b1", epochs=0, files=())
    assert words(*states(tmp_path)) == ("start", "wait")  # stopped before anything was saved
    stopped = baseline(tmp_path / "b2", epochs=2)
    plain, augmented = states(tmp_path)
    assert words(plain, augmented) == ("resume", "wait") and plain.run.folder == stopped
    assert grid.command(planned("baseline"), plain)[-2:] == ["--resume", str(stopped)]
    assert first != stopped
    done = baseline(tmp_path / "b3")
    plain, augmented = states(tmp_path)
    assert words(plain, augmented) == ("finished", "start") and plain.run.folder == done
    file = done / "ckpt_best.pth.tar"
    expected = ["python", "run_poseaug.py", "--epochs", "3", "--pretrain", str(file)]
    assert grid.command(planned("poseaug"), augmented) == expected
    part = make_run(tmp_path / "p", "poseaug", "mlp", (50, 50), pretrain=str(file))
    assert words(*states(tmp_path)) == ("finished", "start")  # nothing to resume it from
    (part / "last.pth.tar").touch()
    plain, augmented = states(tmp_path)
    assert words(plain, augmented) == ("finished", "resume")
    assert grid.command(planned("poseaug"), augmented) == [*expected, "--resume", str(part)]
    make_run(tmp_path / "q", "poseaug", "mlp", (50, 50, 50, 50), pretrain=os.path.relpath(file))
    assert words(*states(tmp_path)) == ("finished", "finished")


@pytest.mark.parametrize("change", [{"lr": 1e-2}, {"epochs": 4}, {"keypoints": "hr"}, {"dataset": "cmu"}])
def test_run_with_other_options_is_not_the_cells(tmp_path, change):
    baseline(tmp_path / "b")
    assert words(*states(tmp_path)) == ("finished", "start")
    assert words(*states(tmp_path, **change)) == ("start", "wait")


def test_options_that_change_no_number_do_not_matter(tmp_path):
    baseline(tmp_path / "b", note="other", device="cuda", num_workers=9)
    assert words(*states(tmp_path, device="cpu", num_workers=2)) == ("finished", "start")


def test_poseaug_run_from_another_baseline_is_not_the_cells(tmp_path):
    baseline(tmp_path / "b")
    make_run(tmp_path / "p", "poseaug", "mlp", (50,) * 4, pretrain="elsewhere/ckpt_best.pth.tar")
    assert words(*states(tmp_path)) == ("finished", "start")


def test_baseline_that_began_from_other_weights_is_not_the_cells(tmp_path):
    baseline(tmp_path / "b", pretrain="other.pth.tar")
    assert words(*states(tmp_path)) == ("start", "wait")
    baseline(tmp_path / "c", pretrain=False)
    assert words(*states(tmp_path)) == ("finished", "start")


def test_baseline_whose_file_is_lost_is_run_again_only_where_it_is_needed(tmp_path):
    done = baseline(tmp_path / "b", files=())
    assert words(*states(tmp_path)) == ("start", "wait")
    make_run(tmp_path / "p", "poseaug", "mlp", (50,) * 4, pretrain=str(done / "ckpt_best.pth.tar"))
    assert words(*states(tmp_path)) == ("finished", "finished")


# ------------------------------------------------------------------------------------------------------------ doing it

# Stands in for both scripts: adds an epoch each 10 ms, notes how it was called, fails for gcn, waits in epoch 2 while
# there is a file `hold`, and saves and leaves at SIGTERM.
STAND_IN = """
    import json, os, signal, sys, time
    options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    with open("calls", "a") as file:
        file.write(json.dumps([os.path.basename(sys.argv[0]), options]) + "\\n")
    poseaug = "poseaug" in sys.argv[0]
    if options["--posenet_name"] == "gcn" and not poseaug:
        sys.exit("error: it broke")
    assert os.getsid(0) == os.getpid()  # out of reach of the terminal's Ctrl-C
    if poseaug:
        assert os.path.exists(options["--pretrain"])
    name = f"{options['--posenet_name']}/{options['--keypoints']}/{time.time_ns()}_x"
    folder = options.get("--resume") or os.path.join(options["--checkpoint"], name)
    os.makedirs(folder, exist_ok=True)
    config = {k[2:]: v for k, v in options.items() if k != "--resume"} | {"epochs": int(options["--epochs"])}
    config |= {"warmup": 2, "lr_g": 1e-4} if poseaug else {}
    json.dump(config, open(folder + "/config.yaml", "w"))
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    metrics = folder + "/metrics.csv"
    lines = open(metrics).read().splitlines() if os.path.exists(metrics) else ["epoch,error_h36m_p1,error_h36m_p2"]
    for epoch in range(len(lines), config["epochs"] + 1):
        while True:
            if asked:
                open(folder + "/last.pth.tar", "w")
                print("stopped")
                sys.exit(143)
            if epoch != 2 or not os.path.exists("hold"):
                break
            open("holding", "w")
            time.sleep(0.01)
        lines.append(f"{epoch},50,40")
        open(metrics, "w").write("\\n".join(lines) + "\\n")
    open(folder + "/ckpt_best.pth.tar", "w")
    print("done")
    sys.exit(os.path.exists("fail"))
"""


def stand_in_options(kind: str, words) -> dict:
    options = {name[2:]: value for name, value in pairs(words).items()}
    return options | {"epochs": int(options["epochs"])}


@pytest.fixture
def small_grid(tmp_path, monkeypatch):
    """A grid of 1 lifter by 2 inputs, and a folder with stand-ins for the scripts; the current folder is empty."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scripts").mkdir()
    for name in ("run_baseline.py", "run_poseaug.py"):
        (tmp_path / "scripts" / name).write_text(textwrap.dedent(STAND_IN))
    return read_small_grid("{mlp: }")


def read_small_grid(lifters: str) -> grid.Grid:
    Path("small.yaml").write_text(f"lifters: {lifters}\nkeypoints: [gt, hr]\ncommon: {{epochs: 3}}\n")
    return grid.read_grid(Path("small.yaml"), stand_in_options)


def do(wanted: grid.Grid, jobs: int = 1, stopped=lambda: False) -> tuple[dict[str, str], list[str]]:
    lines: list[str] = []
    return grid.run_missing(wanted, Path("scripts").resolve(), jobs, lines.append, stopped), lines


def calls() -> list[tuple[str, dict]]:
    return [tuple(json.loads(line)) for line in Path("calls").read_text().splitlines()]


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_cell_is_run_once_and_never_again(small_grid, jobs):
    failed, lines = do(small_grid, jobs)
    assert not failed and sum(line.startswith("finished") for line in lines) == 4
    names = [(script, options["--keypoints"]) for script, options in calls()]
    assert sorted(names) == [(f"run_{kind}.py", kp) for kind in ("baseline", "poseaug") for kp in ("gt", "hr")]
    verbs = [line.split()[0] for line in lines]
    assert jobs > 1 or verbs == ["started", "finished"] * 4  # never two at once
    for keypoints in ("gt", "hr"):
        assert names.index(("run_baseline.py", keypoints)) < names.index(("run_poseaug.py", keypoints))
        log = (small_grid.folder / f"poseaug_mlp_{keypoints}.log").read_text()
        assert log.startswith("$ ") and log.endswith("done\n")
    assert do(small_grid, jobs) == ({}, []) and len(calls()) == 4


def test_failed_cell_stops_no_other_and_is_reported(small_grid):
    wanted = read_small_grid("{gcn: , mlp: }")
    failed, lines = do(wanted)
    assert failed == {
        "baseline gcn gt": "status 1: error: it broke", "poseaug gcn gt": "not started: its baseline failed",
        "baseline gcn hr": "status 1: error: it broke", "poseaug gcn hr": "not started: its baseline failed",
    }  # fmt: skip
    assert sum(line.startswith("finished") for line in lines) == 4
    assert words(*grid.find_states(wanted).values()) == ("start", "wait") * 2 + ("finished", "finished") * 2
    do(wanted)  # only what failed is tried again
    assert [options["--posenet_name"] for _, options in calls()[6:]] == ["gcn", "gcn"]


def test_stop_ends_the_runs_which_then_go_on_where_they_were(small_grid):
    Path("hold").touch()
    failed, lines = do(small_grid, 2, stopped=lambda: Path("holding").exists())
    assert not failed and lines[-1].startswith("stopped")
    Path("hold").unlink()
    found = grid.find_states(small_grid)
    assert "resume" in words(*found.values())
    failed, _ = do(small_grid, 2)
    assert not failed and set(words(*grid.find_states(small_grid).values())) == {"finished"}
    resumed = [options["--resume"] for _, options in calls() if "--resume" in options]
    assert sorted(resumed) == sorted(str(state.run.folder) for state in found.values() if state.word == "resume")


def test_two_at_once_are_refused(small_grid):
    with grid._lock(small_grid):
        with pytest.raises(InputError, match="small.yaml is being run already"):
            do(small_grid)
    assert not Path("calls").exists()


def test_run_that_ends_well_without_its_last_epoch_has_failed(small_grid):
    Path("scripts/run_baseline.py").write_text("print('all is well')")
    failed, _ = do(small_grid)
    assert failed["baseline mlp gt"] == "status 0: all is well" and len(failed) == 4


def test_run_that_fails_after_its_last_epoch_has_failed_and_is_not_run_again(small_grid):
    Path("fail").touch()
    failed, _ = do(small_grid)
    assert failed == {planned.name: "status 1: done" for planned in small_grid.plan}
    assert do(small_grid) == ({}, [])


# ---------------------------------------------------------------------------------------------------- the real scripts

REAL = """
    dataset: tiny
    keypoints: [gt]
    common: {data_dir: ., batch_size: 32, device: cpu, stages: 1, cross_data: none}
    baseline: {epochs: 2}
    poseaug: {epochs: 1, warmup: 0, viz_every: 0}
    lifters: {mlp: }
"""


@pytest.mark.usefixtures("small")
def test_grid_of_the_real_scripts_stops_at_a_signal_and_goes_on(tmp_path, monkeypatch, script):
    """SIGTERM while the baseline runs; the same command again does the rest; a third time there is nothing to do."""
    monkeypatch.chdir(tmp_path)
    write_tiny_dataset(tmp_path, frames=4, actions=("Walking",))
    (tmp_path / "g.yaml").write_text(textwrap.dedent(REAL))
    first = start(("run_summary.py", "--grid", "g.yaml", "--run"), tmp_path)
    first.wait_for("started")
    first.process.terminate()
    status, out, err = first.wait(60)
    assert status == 143 and "\nstopped   baseline mlp gt" in out, (out, err)
    assert "stopped with 2 runs to do" in err and err.count("\n") == 1
    fork_scripts(monkeypatch)
    done = script("run_summary.py", "--grid", "g.yaml", "--run")
    assert done.status == 0 and "g.yaml: 2 runs, 0 finished, 2 to do" in done.out, done
    assert "| SimpleBaseline | baseline |" in done.out and (tmp_path / "checkpoint/g/summary_tiny.png").exists()
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "checkpoint").rglob("*.pth.tar")}
    assert {path.name for path in times} == {"ckpt_best.pth.tar", "ckpt_best_h36m_p1.pth.tar", "last.pth.tar"}
    again = script("run_summary.py", "--grid", "g.yaml", "--run")
    assert again.status == 0 and "2 finished, 0 to do" in again.out and "started" not in again.out
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "checkpoint").rglob("*.pth.tar")}


def test_real_run_that_fails_is_reported_with_its_last_line(tmp_path, monkeypatch, script):
    monkeypatch.chdir(tmp_path)
    Path("g.yaml").write_text(textwrap.dedent(REAL))  # there is no data set
    fork_scripts(monkeypatch)
    outcome = script("run_summary.py", "--grid", "g.yaml", "--run")
    assert outcome.status == 1 and "Traceback" not in outcome.err
    first, second = outcome.out.splitlines()[-2:]
    assert first.startswith("failed: baseline mlp gt: status 2: error: ") and "data_3d_tiny.npz" in first
    assert second == "failed: poseaug mlp gt: not started: its baseline failed"


def test_command_is_run_by_this_python():
    line = grid.command(planned("baseline"), grid.State("start"), ROOT)
    assert line[:2] == [sys.executable, str(ROOT / "run_baseline.py")]
