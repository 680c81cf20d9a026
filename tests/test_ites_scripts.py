"""The four ITES scripts on tiny data: the published commands, exact resume, several processes, bad input."""

import json
import os
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from common.run import checkpoint
from methods.ites import options as ites_options
from tests.conftest import as_before_format_2, assert_refused, metric_rows
from tests.processes import interrupt, run_apart, run_as_two
from tests.tiny_dataset import write_tiny_dataset

TINY = ("--data-dir", ".", "-d", "tiny", "-k", "gt", "--device", "cpu")
SMALL_TEACHER = ("--n-fully-connected", 32, "--n-layers", 2)
SMALL_STUDENT = ("--hid-dim", 16, "--n-blocks", 1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A folder with a tiny data set and a small trained teacher."""
    folder = tmp_path_factory.mktemp("ites")
    write_tiny_dataset(folder, frames=6)
    done = run_apart(("train_teacher.py", *TINY, *SMALL_TEACHER, "-e", 2, "-b", 64, "-c", "teacher"), folder)
    assert done.status == 0, done.err
    return folder


@pytest.fixture
def in_tiny(tiny, monkeypatch):
    monkeypatch.chdir(tiny)
    return tiny


def assert_same_weights(a: Path, b: Path) -> None:
    first, second = (checkpoint.load(path)["model_pos"] for path in (a, b))
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different, different


def test_published_commands_follow_one_another(tmp_path):
    """The six commands of the README, word for word but for the number of epochs, full-size networks."""
    commands = """
        python train_teacher.py -k gt -e 1 -c checkpoint/teacher
        python train_student.py -k gt -e 1 -c checkpoint/student \\
            --teacher_checkpoint checkpoint/teacher/ckpt_teacher.bin
        python test_teacher.py -k gt --evaluate -c checkpoint/teacher/ckpt_teacher.bin
        python test_teacher.py -k cpn_ft_h36m_dbb --evaluate -c checkpoint/teacher/ckpt_teacher.bin
        python test_student.py -k gt --evaluate -c checkpoint/student/ckpt_student.bin
        python test_student.py -k gt --vis -c checkpoint/student/ckpt_student.bin
    """
    write_tiny_dataset(tmp_path / "data", "h36m", keypoints=("gt", "cpn_ft_h36m_dbb"), frames=4, actions=("Walking",))
    for line in commands.replace("\\\n", "").strip().splitlines():
        _, name, *options = shlex.split(line)
        done = run_apart((name, *options), tmp_path)
        assert done.status == 0, f"{line}\n{done.err}"
        assert "results in checkpoint" in done.out.splitlines()[-1]
        if "--evaluate" in options:
            scores = dict(line.split(": ", 1) for line in done.out.splitlines() if "MPJPE: " in line)
            assert 0 < float(scores["P-MPJPE"]) <= float(scores["MPJPE"]) < 2000
    teacher = checkpoint.load(tmp_path / "checkpoint/teacher/tea_model_epoch_1.bin")
    assert {"epoch", "lr", "optimizer", "model_pos"} <= teacher.keys() and teacher["epoch"] == 1
    assert sum(v.numel() for k, v in teacher["model_pos"].items() if "running" not in k and "num" not in k) == 3_621_543
    # trans_layer never gets a gradient: no momentum, as in the published files
    assert set(range(84)) - teacher["optimizer"]["state"].keys() == {82, 83}
    for file in ("config.yaml", "metrics.csv", "stu_model_epoch_1.bin", "ckpt_student.bin"):
        assert (tmp_path / "checkpoint/student" / file).stat().st_size > 0
    assert list((tmp_path / "checkpoint/student").glob("events.out.tfevents.*"))
    results = json.loads((tmp_path / "checkpoint/student/ckpt_student_h36m_gt/results.json").read_text())
    assert {"plain N-MPJVE", "plain N-PCK14", "plain N-AUC14"} < results["overall"]["mean over frames"].keys()
    assert results["poses"] == 2 * 4 * 4 and results["actions"].keys() == {"Walking"}
    (gif,) = (tmp_path / "checkpoint/student/ckpt_student_h36m_gt").glob("*.gif")
    with Image.open(gif) as picture:
        assert picture.n_frames == 2  # every second of four frames
    assert not list(tmp_path.glob("visualization"))


def test_training_lowers_the_losses(in_tiny, script):
    """Stage 2 on top of the tiny teacher; both stages learn."""
    first, second = metric_rows(in_tiny / "teacher")
    assert second["reprojection x 1000"] < first["reprojection x 1000"]
    options = (
        *TINY,
        *SMALL_TEACHER,
        *SMALL_STUDENT,
        "-b",
        16,
        "-e",
        3,
        "--teacher_checkpoint",
        "teacher/ckpt_teacher.bin",
    )
    assert script("train_student.py", *options, "-c", "student").status == 0
    rows = metric_rows(in_tiny / "student")
    assert rows[-1]["depth x 1000"] < rows[0]["depth x 1000"]
    assert rows[-1]["total x 1000"] == pytest.approx(
        5 * rows[-1]["depth x 1000"] + rows[-1]["reconstruction x 1000"], rel=1e-5
    )


def test_learning_rate_halves_on_schedule_and_the_checkpoint_holds_the_next_rate(in_tiny, script):
    options = (*TINY, *SMALL_TEACHER, "-e", 3, "-decay", 2, "--no-eval", "-c", "decay")
    assert script("train_teacher.py", *options).status == 0
    assert [row["lr"] for row in metric_rows(in_tiny / "decay")] == [0.001, 0.001, 0.0005]
    assert checkpoint.load("decay/tea_model_epoch_2.bin")["lr"] == 0.0005


def test_same_seed_same_numbers_and_another_seed_others(in_tiny, script):
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        assert script("train_teacher.py", *TINY, *SMALL_TEACHER, "-e", 1, "--seed", seed, "-c", folder).status == 0
    assert_same_weights(in_tiny / "a/ckpt_teacher.bin", in_tiny / "b/ckpt_teacher.bin")
    assert metric_rows(in_tiny / "a") != metric_rows(in_tiny / "c")


VIRTUAL = ("--cameras", "virtual", "--vary_bones", 0.1, "--subset", 0.9)


@pytest.mark.parametrize(("stage", "more"), [("teacher", ()), ("student", ()), ("teacher", VIRTUAL)])
def test_interrupted_run_resumes_as_if_never_stopped(in_tiny, tiny, script, stage, more):
    """Ctrl-C in mid-epoch, then --resume: the same weights, bit for bit, and the same metrics."""
    batch = 2 if more else {"teacher": 4, "student": 8}[stage]  # a step of the student takes longer
    options = (*TINY, *SMALL_TEACHER, *SMALL_STUDENT, "-b", batch, "-e", 4, "-decay", 2, "--log_every", 7)
    options += ("--threads", 1, "--teacher_checkpoint", "teacher/ckpt_teacher.bin")
    options, name = (*options, *more), f"train_{stage}.py"
    whole, parts = (tiny / f"{name}_{stage}{len(more)}" for name in ("whole", "parts"))
    assert script(name, *options, "-c", whole).status == 0
    err = interrupt((name, *options, "-c", parts), tiny, "[2]")
    assert err.count("\n") == 1 and "--resume last.bin" in err
    stopped = checkpoint.load(parts / "last.bin")
    assert stopped["epoch"] in (2, 3) and stopped["step"] > 0
    done = script(name, *options, "-c", parts, "--resume", "last.bin")
    assert done.status == 0, done.err
    assert_same_weights(whole / f"ckpt_{stage}.bin", parts / f"ckpt_{stage}.bin")
    assert checkpoint.load(parts / "last.bin")["epoch"] == 4  # as of every finished epoch
    assert (whole / "metrics.csv").read_text() == (parts / "metrics.csv").read_text()


def test_resume_from_a_finished_epoch_is_exact(in_tiny, script):
    options = (*TINY, *SMALL_TEACHER, "-b", 16, "-c", "steps")
    assert script("train_teacher.py", *options, "-e", 3).status == 0
    os.rename("steps/ckpt_teacher.bin", "straight.bin")
    as_before_format_2(Path("steps/tea_model_epoch_1.bin"))
    assert script("train_teacher.py", *options, "-e", 3, "--resume", "tea_model_epoch_1.bin").status == 0
    assert_same_weights(Path("straight.bin"), Path("steps/ckpt_teacher.bin"))


@pytest.mark.parametrize("stage", ["teacher", "student"])
def test_two_processes_train_as_one(in_tiny, tiny, script, stage):
    """Two processes and the same global batch gives the same losses, and the same errors."""
    options = (
        *TINY,
        *SMALL_TEACHER,
        *SMALL_STUDENT,
        "-b",
        31,
        "-e",
        1,
        "--teacher_checkpoint",
        "teacher/ckpt_teacher.bin",
    )
    name = f"train_{stage}.py"
    assert script(name, *options, "-c", f"one_{stage}").status == 0
    done = run_as_two((name, *options, "-c", f"two_{stage}"), tiny)
    assert done.status == 0, done.err
    assert done.out.count("[1] time") == 1  # rank 0 alone speaks
    (one,), (two,) = metric_rows(tiny / f"one_{stage}"), metric_rows(tiny / f"two_{stage}")
    for column in one:
        # losses are x 1000; errors come after all steps, when rounding has grown
        tolerance = {"abs": 0.5} if "MPJPE" in column else {"rel": 1e-5, "abs": 1e-2}
        assert two[column] == pytest.approx(one[column], **tolerance), column


def test_bf16_training_stays_near_float32(in_tiny, script):
    for folder, extra in (("fp32", ()), ("bf16", ("--amp",))):
        assert script("train_teacher.py", *TINY, *SMALL_TEACHER, "-e", 2, "-c", folder, *extra).status == 0
    fp32, bf16 = metric_rows(in_tiny / "fp32")[-1], metric_rows(in_tiny / "bf16")[-1]
    assert bf16["reprojection x 1000"] == pytest.approx(fp32["reprojection x 1000"], rel=0.05)
    assert bf16 != fp32


def test_resume_finds_a_path_as_typed_and_refuses_what_is_finished(in_tiny, script):
    options = (*TINY, *SMALL_TEACHER, "-b", 64, "-c", "typed")
    assert script("train_teacher.py", *options, "-e", 1).status == 0
    assert script("train_teacher.py", *options, "-e", 2, "--resume", "typed/tea_model_epoch_1.bin").status == 0
    assert_refused(
        script("train_teacher.py", *options, "-e", 2, "-r", "ckpt_teacher.bin"), "2 finished epochs", "--epochs"
    )
    assert script("train_teacher.py", "--config", "typed/config.yaml", "-c", "again", "-e", 1).status == 0


def test_student_does_not_resume_with_another_teacher(in_tiny, script):
    shutil.copy("teacher/tea_model_epoch_1.bin", "swapped.bin")
    options = (*TINY, *SMALL_TEACHER, *SMALL_STUDENT, "-c", "swapped", "--teacher_checkpoint", "swapped.bin")
    assert script("train_student.py", *options, "-e", 1).status == 0
    shutil.copy("teacher/tea_model_epoch_2.bin", "swapped.bin")
    assert_refused(script("train_student.py", *options, "-e", 2, "-r", "ckpt_student.bin"), "another teacher")


@pytest.mark.parametrize(
    "damage", [{"epoch": "x"}, {"losses": {"a": 1}}, {"options": 5}, {"best": "x"}, {"step": None}]
)
def test_damaged_state_of_a_run_is_refused(in_tiny, script, damage):
    checkpoint.save("damaged.bin", checkpoint.load("teacher/ckpt_teacher.bin") | damage)
    options = (*TINY, *SMALL_TEACHER, "-b", 64, "-c", ".", "-e", 3, "-r", "damaged.bin")
    assert_refused(script("train_teacher.py", *options), "damaged")


@pytest.mark.gpu
@pytest.mark.parametrize("stage", ["teacher", "student"])
def test_cuda_graph_trains_as_the_plain_step_does(in_tiny, script, stage):
    options = (*TINY[:-1], "cuda", *SMALL_TEACHER, *SMALL_STUDENT, "-b", 16, "-e", 2)
    options += ("--teacher_checkpoint", "teacher/ckpt_teacher.bin")
    for folder, extra in (("graph", ()), ("plain", ("--no_cuda_graphs",)), ("bf16", ("--amp",))):
        assert script(f"train_{stage}.py", *options, *extra, "-c", f"{folder}_{stage}").status == 0
    for graph, plain in zip(
        metric_rows(in_tiny / f"graph_{stage}"), metric_rows(in_tiny / f"plain_{stage}"), strict=True
    ):
        assert graph == pytest.approx(plain, rel=1e-3)


# ------------------------------------------------------------------------------------------------------- bad input


def test_missing_files_say_which_where_and_what_else(tmp_path, monkeypatch, script):
    monkeypatch.chdir(tmp_path)
    outcome = script("train_teacher.py", "-k", "gt")
    assert_refused(outcome, "data_3d_h36m.npz", str(tmp_path / "data"), "-d synthetic")
    assert not (tmp_path / "checkpoint").exists()


def test_unknown_names_are_refused_with_what_there_is(in_tiny, script):
    base = ("--data-dir", ".", "-d", "tiny")
    assert_refused(script("train_teacher.py", *base, "-k", "hrnet"), "data_2d_tiny_hrnet.npz", "gt")
    assert_refused(script("train_teacher.py", *base, "-k", "gt", "-str", "S1,S4"), "S4", "S11")
    assert_refused(script("train_teacher.py", *base, "-k", "gt", "-a", "Dancing"), "Dancing", "Walking")
    assert_refused(script("train_teacher.py", "--keypoint", "gt"), "--keypoint", "--keypoints")
    Path("bad.yaml").write_text("learning_rat: 0.1\n")
    assert_refused(script("train_teacher.py", "--config", "bad.yaml"), "bad.yaml", "learning_rat", "learning_rate")


def test_config_file_sets_options_and_the_command_line_wins(in_tiny, script):
    Path("run.yaml").write_text(
        "dataset: tiny\nkeypoints: gt\ndata-dir: .\nepochs: 7\nn_fully_connected: 32\nn-layers: 1\n"
    )
    assert script("train_teacher.py", "--config", "run.yaml", "-e", "1", "-c", "configured").status == 0
    config = Path("configured/config.yaml").read_text()
    assert "epochs: 1\n" in config and "n_layers: 1\n" in config
    assert len(metric_rows(in_tiny / "configured")) == 1


@pytest.mark.parametrize("name", ["train_teacher.py", "train_student.py"])
def test_options_that_training_cannot_follow(in_tiny, script, name):
    assert_refused(script(name, "--evaluate"), "--evaluate", "test scripts")
    assert_refused(script(name, "--evaluate", "--resume", "x.bin"), "--resume", "--evaluate")


def test_wrong_checkpoints_are_refused(in_tiny, script):
    test = ("test_teacher.py", *TINY, *SMALL_TEACHER, "--evaluate", "-c")
    assert_refused(script(*test, "teacher/none.bin"), "none.bin")
    assert not Path("teacher/none.bin").exists()  # the original made a folder of that name
    assert_refused(script(*test, "teacher"), "teacher")
    whole = Path("teacher/ckpt_teacher.bin").read_bytes()
    Path("cut.bin").write_bytes(whole[: len(whole) // 2])
    assert_refused(script(*test, "cut.bin"), "cut.bin")
    torch.save({"weights": torch.ones(3)}, "other.bin")
    assert_refused(script(*test, "other.bin"), "model_pos", "weights")
    sizes = ("test_teacher.py", *TINY, "--n-fully-connected", 64, "--n-layers", 2, "-c", "teacher/ckpt_teacher.bin")
    assert_refused(script(*sizes), "ckpt_teacher.bin", "fe_net.0.conv1.weight", "32", "64")


def test_student_file_given_to_the_teacher_names_the_keys(in_tiny, script):
    options = (*TINY, *SMALL_TEACHER, *SMALL_STUDENT, "-e", 1, "--teacher_checkpoint", "teacher/ckpt_teacher.bin")
    assert script("train_student.py", *options, "-c", "for_mix_up").status == 0
    outcome = script("test_teacher.py", *TINY, *SMALL_TEACHER, "-c", "for_mix_up/ckpt_student.bin")
    assert_refused(outcome, "missing", "fe_net.0.conv1.weight", "unexpected", "gconv_input.0.gconv.W")
    resumed = ("-e", 2, "--hid_dim", 16, "--n_blocks", 1, "-c", "mixed", "-r", "for_mix_up/ckpt_student.bin")
    assert_refused(script("train_teacher.py", *TINY, *SMALL_TEACHER, *resumed), "missing", "fe_net.0.conv1.weight")


def test_malicious_checkpoint_runs_nothing(in_tiny, script):
    class Evil:
        def __reduce__(self):
            return os.system, ("touch ran_code",)

    torch.save({"model_pos": Evil()}, "evil.bin")
    assert_refused(script("test_teacher.py", *TINY, *SMALL_TEACHER, "-c", "evil.bin"), "evil.bin", "system")
    assert not Path("ran_code").exists()


def test_resume_with_other_options_names_them_and_changes_nothing(in_tiny, script):
    before = {path: path.read_bytes() for path in Path("teacher").iterdir()}
    options = (*TINY, *SMALL_TEACHER, "-e", 3, "-b", 32, "--momentum", 0.8, "-c", "teacher", "-r", "ckpt_teacher.bin")
    assert_refused(script("train_teacher.py", *options), "--batch_size 32 here, 64 in the checkpoint", "--momentum")
    assert {path: path.read_bytes() for path in Path("teacher").iterdir()} == before


def test_output_folder_that_cannot_be_written(in_tiny, script):
    Path("a_file").write_text("not a folder")
    assert_refused(script("train_teacher.py", *TINY, *SMALL_TEACHER, "-c", "a_file/run"), "a_file")
    assert_refused(script("train_teacher.py", *TINY, *SMALL_TEACHER, "-c", "a_file"), "a_file")
    done = script("test_teacher.py", *TINY, *SMALL_TEACHER, "-c", "teacher/ckpt_teacher.bin", "--output", "a_file/x")
    assert_refused(done, "a_file")
    assert "P-MPJPE: " in done.out  # what was scored is not lost
    assert Path("a_file").read_text() == "not a folder"


def test_non_finite_loss_names_step_term_and_the_last_good_checkpoint(in_tiny, script):
    options = (*TINY, *SMALL_TEACHER, "-b", 16, "-c", "blown_up", "--no-eval")
    assert script("train_teacher.py", *options, "-e", 1).status == 0
    good = Path("blown_up/ckpt_teacher.bin").read_bytes()
    saved = checkpoint.load("blown_up/ckpt_teacher.bin")
    saved["optimizer"]["param_groups"][0]["lr"] = 1e30
    checkpoint.save("blown_up/hot.bin", saved)
    outcome = script("train_teacher.py", *options, "-e", 3, "--resume", "hot.bin")
    assert_refused(outcome, "step", "epoch", "hot.bin")
    assert Path("blown_up/ckpt_teacher.bin").read_bytes() == good


def test_pictures_of_what_is_not_there(in_tiny, script):
    base = ("test_teacher.py", *TINY, *SMALL_TEACHER, "--vis", "-c", "teacher/ckpt_teacher.bin")
    assert_refused(script(*base, "--vis-subject", "S1"), "S1", "S9,S11")
    assert_refused(script(*base, "--vis-action", "Dancing"), "Dancing")
    assert_refused(script(*base, "--vis-camera", 9), "9", "0, 1, 2, 3")


PARSERS = {
    "train_teacher": ites_options.teacher_parser, "train_student": ites_options.student_parser,
    "test_teacher": lambda text: ites_options.testing_parser(text, "teacher"),
    "test_student": lambda text: ites_options.testing_parser(text, "student"),
}  # fmt: skip


@pytest.mark.parametrize("name", PARSERS)
def test_every_published_option_is_accepted(name):
    """Where it has no effect without a word, but not with any value."""
    published = """-d h36m -k gt -str S1 -ste S9 -a * -c there --teacher_checkpoint FILE -decay 3 -nw 2 -drop 0.1
        --reploss-weight 1 --momentum 0 --weight-decay 0 --subset 1 --downsample 1 --no-eval -lr 1 -lrd 1 -e 1 -b 2
        --n-fully-connected 8 --n-layers 2 --dict-basis-size 2 --weight-init-std 1 --n-blocks 1 --hid-dim 8
        --device cpu --seed 1 --amp --compile --log_every 3""".split()
    args = PARSERS[name]("").parse_args(published)
    assert args.checkpoint == Path("there") and not hasattr(args, "dropout")
    with pytest.raises(SystemExit):
        PARSERS[name]("").parse_args(["--n-blocks", "few"])
    testing = ["--evaluate", "--vis", "--vis-subject", "S9", "--output", "there"]
    if name.startswith("test"):
        assert PARSERS[name]("").parse_args(testing).evaluate


def test_help_shows_what_has_an_effect(script):
    shown = {name: script(f"{name}.py", "--help").out for name in PARSERS}
    for option in "-d -k -ste -a --subset --downsample -c --config --device --amp".split():
        assert all(f" {option}" in text for text in shown.values()), option
    for option in "-str -e -b -lr -decay --reploss-weight --no-eval -r --seed --compile --log_every".split():
        assert [name for name in shown if f" {option}" in shown[name]] == ["train_teacher", "train_student"], option
    for option in "--evaluate --vis --vis-html --output".split():
        assert [name for name in shown if f" {option} " in shown[name]] == ["test_teacher", "test_student"], option
    assert not any(" -nw" in text or " -drop" in text for text in shown.values())
    assert "(default: 128)" in shown["train_student"]
