"""PoseAug's scripts on tiny data: published commands, resume, several processes, bad input."""

import json
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common.files.npz import load_npz, save_npz
from common.run import checkpoint
from methods.poseaug import run_folder
from tests.conftest import as_before_format_2, assert_refused, metric_rows, same
from tests.mpi_inf_files import write_testing, write_training
from tests.processes import interrupt, run_apart
from tests.tiny_dataset import tiny_keypoints, tiny_poses, write_tiny_dataset

pytestmark = pytest.mark.usefixtures("small")

KEYPOINTS = ("gt", "cpn_ft_h36m_dbb", "detectron_ft_h36m", "hr")
BASELINE = {  # the published recipes
    "gcn": "--dropout 0 --lr 2e-2 --epochs 100 --posenet_name 'gcn'",
    "videopose": "--lr 1e-3 --posenet_name 'videopose'",
    "mlp": "--lr 1e-3 --stages 2 --posenet_name 'mlp'",
    "stgcn": "--dropout -1 --lr 1e-3 --posenet_name 'stgcn'",
}
POSEAUG = {
    "gcn": "--dropout 0 --posenet_name 'gcn' --lr_p 1e-3",
    "videopose": "--posenet_name 'videopose' --lr_p 1e-4",
    "mlp": "--posenet_name 'mlp' --lr_p 1e-4 --stages 2",
    "stgcn": "--dropout 0 --posenet_name 'stgcn' --lr_p 1e-4",
}
TINY = ("--device", "cpu", "--batch_size", 64, "--note", "t")
MLP = (*TINY, "--posenet_name", "mlp", "--stages", 1, "--dropout", 0)


def write_cross_data(path: Path, count: int = 12) -> None:
    """A file of the form of MPI-INF-3DHP's test arrays."""
    rng = np.random.default_rng(1)
    poses = rng.normal(0, 0.4, (count, 16, 3)).astype(np.float32)
    save_npz(path, pose3d=poses, pose2d=rng.uniform(-0.5, 0.5, (count, 16, 2)).astype(np.float32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with Human3.6M-like files, cross data, and one pretrained mlp of one stage as `base.pth.tar`."""
    folder = tmp_path_factory.mktemp("poseaug")
    write_tiny_dataset(folder / "data", "h36m", keypoints=KEYPOINTS, frames=4, actions=("Sitting", "SittingDown"))
    write_cross_data(folder / "data_extra/test_set/test_3dhp.npz")
    done = run_apart(("run_baseline.py", *MLP, "--epochs", 2, "--checkpoint", "start"), folder)
    assert done.status == 0, done.err
    shutil.copy(run_of(folder / "start") / "ckpt_best.pth.tar", folder / "base.pth.tar")
    return folder


def run_of(folder: Path, lifter: str = "mlp", keypoints: str = "gt") -> Path:
    (run,) = (Path(folder) / lifter / keypoints).iterdir()
    return run


# ---------------------------------------------------------------------------------------------------- as published


@pytest.mark.parametrize(("lifter", "keypoints"), list(zip(BASELINE, KEYPOINTS, strict=True)))
def test_published_commands(tmp_path, script, monkeypatch, folder, lifter, keypoints):
    """Word for word but for the number of epochs: the baseline, PoseAug from it, and the score of its best file."""
    monkeypatch.chdir(tmp_path)
    for name in ("data", "data_extra"):
        (tmp_path / name).symlink_to(folder / name)
    lines = {
        "run_baseline.py": f"--note pretrain {BASELINE[lifter]} --checkpoint './checkpoint/pretrain_baseline'",
        "run_poseaug.py": f"--note poseaug {POSEAUG[lifter]} --checkpoint './checkpoint/poseaug'",
    }
    for name, line in lines.items():
        few = ("--epochs", 1, *(("--warmup", 0) if "poseaug" in name else ()))
        done = script(name, *shlex.split(line), "--keypoints", keypoints, *few)
        assert done.status == 0, done.err
    baseline = run_of("checkpoint/pretrain_baseline", lifter, keypoints)
    assert baseline.name.endswith("_pretrain")
    assert checkpoint.load(baseline / "ckpt_best.pth.tar").keys() == {"state_dict", "epoch", "options"}
    evaluation = run_of("checkpoint/poseaug", lifter, keypoints)
    assert checkpoint.load(evaluation / "ckpt_best_dhp_p1.pth.tar").keys() == {"model_pos", "epoch"}
    options = yaml.safe_load((evaluation / "config.yaml").read_text())
    assert options["pretrain"] == str(baseline / "ckpt_best.pth.tar")  # a grid knows the run by it
    start, end = metric_rows(evaluation)
    (trained,) = metric_rows(baseline)
    assert start["error_h36m_p1"] == pytest.approx(trained["error_h36m_p1"], abs=1e-3)  # it begins where that ended
    assert end["error_h36m_p1"] != start["error_h36m_p1"]
    options = [f"--posenet_name {lifter}", f"--keypoints {keypoints}", "--stages 2" if lifter == "mlp" else ""]
    done = script("run_evaluate.py", *shlex.split(" ".join(options)), "--evaluate", baseline / "ckpt_best.pth.tar")
    assert done.status == 0, done.err
    found = done.out.splitlines()[:4]
    for line, what, name in zip(
        found,
        (
            "H36M: Protocol #1   (MPJPE)",
            "H36M: Protocol #2 (P-MPJPE)",
            "3DHP: Protocol #1   (MPJPE)",
            "3DHP: Protocol #2 (P-MPJPE)",
        ),
        ("error_h36m_p1", "error_h36m_p2", "error_3dhp_p1", "error_3dhp_p2"),
        strict=True,
    ):
        assert line == f"{what} overall average: {trained[name]:.2f} (mm)"
    results = json.loads((baseline / f"results_ckpt_best_h36m_{keypoints}.json").read_text())
    assert results["results"]["H36M"]["poses"] == 2 * 2 * 4 * 4


def test_log_has_the_published_columns(folder):
    run = run_of(folder / "start")
    options, header, first, second = (run / "log.txt").read_text().splitlines()
    assert options.startswith("Namespace(")
    assert header == "epoch\tlr\tloss_train\terror_h36m_p1\terror_h36m_p2\terror_3dhp_p1\terror_3dhp_p2"
    values = [float(cell) for cell in second.split("\t")]
    assert values[0] == 2 and values[2] == pytest.approx(metric_rows(run)[1]["loss_train"], abs=1e-6)
    assert float(first.split("\t")[2]) > values[2]  # it learns
    for name in ("config.yaml", "last.pth.tar"):
        assert (run / name).stat().st_size > 0
    assert (run / "curves.png").exists()
    assert list(run.glob("events.out.tfevents.*"))


def test_poseaug_draws_its_stages(here, script):
    options = (
        *MLP,
        "--pretrain",
        "base.pth.tar",
        "--epochs",
        1,
        "--warmup",
        0,
        "--viz_every",
        2,
        "--checkpoint",
        "drawn",
    )
    assert script("run_poseaug.py", *options).status == 0
    pictures = sorted((run_of("drawn") / "poseaug_viz").iterdir())
    assert [path.name for path in pictures][:2] == ["epoch_0001_iter_0000.png", "epoch_0001_iter_0002.png"]
    with Image.open(pictures[0]) as picture:
        assert picture.width > 600 and len(picture.convert("RGB").getcolors(1 << 24)) > 20


def test_warm_up_keeps_the_start_and_trains_the_augmentor_alone(here, script):
    options = (
        *MLP,
        "--pretrain",
        "base.pth.tar",
        "--epochs",
        2,
        "--warmup",
        1,
        "--snapshot",
        1,
        "--checkpoint",
        "warm",
    )
    assert script("run_poseaug.py", *options).status == 0
    start, warm, trained = metric_rows(run_of("warm"))
    assert warm["error_h36m_p1"] == start["error_h36m_p1"] and "loss_real" not in warm
    assert trained["error_h36m_p1"] != start["error_h36m_p1"] and trained["loss_made"] > 0
    assert [row["lr"] for row in (warm, trained)] == pytest.approx([1e-4 * 2 / 3, 1e-4 / 3])
    base = checkpoint.load("base.pth.tar")["state_dict"]
    last = checkpoint.load(run_of("warm") / "last.pth.tar")
    assert not same(last["model_pos"]["w2.weight"], base["w2.weight"])
    assert last["pool_3d"]["count"] > 0 and last["pool_3d"]["poses"].shape == (4096, 16, 3)
    events = EventAccumulator(str(run_of("warm")))
    events.Reload()
    rates = [event.value for event in events.Scalars("train_G_iter/lr_now")]
    assert rates == pytest.approx([1e-4, 1e-4 * 2 / 3])
    real, fake = (events.Scalars(f"posenet_H36M_test/p1score_{tag}") for tag in ("real", "fake"))
    assert real[0].value == fake[0].value == pytest.approx(start["error_h36m_p1"]) and fake[1].value != real[1].value


def test_nothing_in_view_and_no_step_of_the_discriminators(here, script, monkeypatch, caplog):
    """Then the lifter trains on the real poses alone, and nothing is said of the discriminators."""
    monkeypatch.setattr("methods.poseaug.augmented_data.in_view", lambda keypoints: keypoints.flatten(1).amax(1) > 1e9)
    options = (*MLP, "--batch_size", 999, "--epochs", 2, "--warmup", 0, "--pretrain", "base.pth.tar")
    done = script("run_poseaug.py", *options, "--viz_every", 0, "--checkpoint", "unseen")
    assert done.status == 0, done.err
    assert "epoch 2: 0 augmented poses are in view, too few" in caplog.text and "try a longer --warmup" in caplog.text
    _, *rows = metric_rows(run_of("unseen"))
    assert all(row["in_view"] == 0 and row["loss_real"] > 0 and not row.get("loss_made") for row in rows)
    assert "epoch 2: the 3D discriminator" not in caplog.text  # its step is in every other epoch


@pytest.mark.parametrize("causal", [(), ("--causal",)])
def test_temporal_videopose_trains_and_scores(here, script, causal):
    lifter = ("--posenet_name", "videopose", "--architecture", "3,1", "--flip_test", *causal)
    folder = "temporal" + "_causal" * bool(causal)
    done = script("run_baseline.py", *TINY, *lifter, "--flip_train", "--epochs", 1, "--checkpoint", folder)
    assert done.status == 0, done.err
    run = run_of(folder, "videopose")
    done = script("run_evaluate.py", *lifter, "--evaluate", run / "ckpt_best.pth.tar")
    assert done.status == 0, done.err
    assert f"average: {metric_rows(run)[0]['error_h36m_p1']:.2f} (mm)" in done.out.splitlines()[0]
    other = lifter[:-1] if causal else (*lifter, "--causal")
    done = script("run_evaluate.py", *other, "--evaluate", run / "ckpt_best.pth.tar")
    assert_refused(done, "ckpt_best.pth.tar", "with --causal: give it" if causal else "without --causal: leave it out")


def test_actions_are_exact_and_frames_can_be_left_out(here, script):
    options = (*MLP, "--epochs", 1, "--actions", "Sitting", "--downsample", 2, "--checkpoint", "few")
    done = script("run_baseline.py", *options)
    assert done.status == 0, done.err
    assert "1 actions, 4 views, 40 poses" in done.out  # 5 subjects, 4 views, 2 of 4 frames; no SittingDown


def test_released_sets_and_several_cross_sets(here, script, tmp_path):
    """MPI-INF-3DHP as released, by its own split; other sets beside it, each by its own."""
    write_training(tmp_path / "S1" / "Seq1")
    write_testing(tmp_path / "TS1", "01110111", "11112222")
    done = script("data/prepare_data_3dhp.py", "--training", tmp_path, "--test", tmp_path, "--data-dir", tmp_path)
    assert done.status == 0, done.err
    write_tiny_dataset(tmp_path, "other", frames=3)
    write_tiny_dataset(tmp_path, "more", frames=2)
    own = (*MLP, "-d", "3dhp", "--data-dir", tmp_path, "--cross_data", "other,more")
    done = script("run_baseline.py", *own, "--epochs", 1, "--checkpoint", tmp_path / "runs")
    assert done.status == 0, done.err
    run = run_of(tmp_path / "runs")
    (row,) = metric_rows(run)
    for column in ("error_h36m", "error_3dhp", "cross_more"):
        assert {f"{column}_p1", f"{column}_p2"} < row.keys()
    assert "3DHP MPJPE" in done.out and "MORE MPJPE" in done.out and "Standing or walking" in done.out
    done = script("run_evaluate.py", *own, "--evaluate", run / "ckpt_best.pth.tar")
    assert done.status == 0, done.err
    assert f"MORE: Protocol #1   (MPJPE) overall average: {row['cross_more_p1']:.2f} (mm)" in done.out
    results = json.loads((run / "results_ckpt_best_3dhp_gt.json").read_text())
    assert "31 thresholds" in results["PCK, AUC"] and list(results["results"]) == ["3DHP", "OTHER", "MORE"]
    for part in results["results"].values():
        assert {"MPJVE", "PCK14", "AUC14"} < part["overall"]["mean over frames"].keys()
    assert results["results"]["3DHP"]["poses"] == 6 and results["results"]["OTHER"]["poses"] == 2 * 3 * 4 * 3
    done = script(
        "run_poseaug.py", *own, "--pretrain", "False", "--epochs", 1, "--warmup", 0, "--checkpoint", tmp_path / "a"
    )
    assert done.status == 0 and "cross_more_p1" in metric_rows(run_of(tmp_path / "a"))[-1], done.err


def test_without_cross_data_it_goes_on_and_says_so(tmp_path, folder, monkeypatch, script, caplog):
    monkeypatch.chdir(tmp_path)
    options = (*MLP, "--data-dir", folder / "data", "--epochs", 1)
    done = script("run_baseline.py", *options, "--checkpoint", "alone")
    assert done.status == 0 and "no cross-data scores" in caplog.text
    assert "error_3dhp_p1" not in metric_rows(run_of("alone"))[0]
    done = script(
        "run_poseaug.py", *options, "--pretrain", folder / "base.pth.tar", "--warmup", 0, "--checkpoint", "aug"
    )
    assert done.status == 0, done.err
    assert not (run_of("aug") / "ckpt_best_dhp_p1.pth.tar").exists()


# ---------------------------------------------------------------------------------------------------- running


VIRTUAL = ("--cameras", "virtual", "--sees", "direction", "--confidences", "--detector_noise", 1, "--vary_bones", 0.1)
VIRTUAL += ("--detectors_joints", "--flip_train", "--lr_schedule", "cosine", "--average_weights", 0.9)


@pytest.mark.parametrize("more", [(), VIRTUAL], ids=("published", "virtual"))
def test_interrupted_baseline_resumes_as_if_never_stopped(here, folder, script, more):
    options = (*MLP[:-4], "--stages", 1, "--dropout", 0.25, "--batch_size", 4, "--epochs", 6, "--lr_decay", 50)
    options, name = (*options, "--threads", 1, *more), "virtual_" * bool(more)
    if more:
        options += ("--batch_size", 2, "--cross_data", "none")  # a quarter of the rows: each motion once
    assert script("run_baseline.py", *options, "--checkpoint", f"{name}whole").status == 0
    interrupt(("run_baseline.py", *options, "--checkpoint", f"{name}parts"), folder, "[2]")
    parts, whole = run_of(folder / f"{name}parts"), run_of(folder / f"{name}whole")
    assert checkpoint.load(parts / "last.pth.tar")["step"] > 0
    if not more:
        as_before_format_2(parts / "last.pth.tar")
    done = script("run_baseline.py", *options, "--resume", parts)
    assert done.status == 0, done.err
    assert (parts / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    assert (parts / "log.txt").read_text().splitlines()[1:] == (whole / "log.txt").read_text().splitlines()[1:]
    first, second = (checkpoint.load(run / "last.pth.tar") for run in (parts, whole))
    for part in ("state_dict", "optimizer", *(("averaged",) if more else ())):
        assert same(first[part], second[part])


def test_a_lifter_is_fed_what_it_was_trained_on(here, folder, script, tmp_path):
    """run_evaluate.py, demo.py and export_onnx.py take the form of the input from the file; others are refused."""
    write_tiny_dataset(tmp_path, "other", frames=3)
    shutil.copy(folder / "data" / "data_3d_h36m.npz", tmp_path)
    own = (*MLP, "--dataset", "h36m,other", "--data-dir", tmp_path, "--cross_data", "none", *VIRTUAL)
    done = script("run_baseline.py", *own, "--epochs", 1, "--checkpoint", tmp_path / "runs")
    assert done.status == 0, done.err
    run = run_of(tmp_path / "runs")
    file = run / "ckpt_best.pth.tar"
    (row,) = metric_rows(run)
    evaluate = (*MLP[:2], *MLP[-6:-2], "--data-dir", tmp_path, "--cross_data", "none", "--evaluate", file)
    done = script("run_evaluate.py", *evaluate)
    assert f"H36M: Protocol #1   (MPJPE) overall average: {row['error_h36m_p1']:.2f} (mm)" in done.out, done.err
    tiny = tiny_keypoints(tiny_poses(4, ("S9",), ("Walking",)))["S9"]["Walking"][0]
    np.savez(tmp_path / "video.npz", keypoints=tiny, layout="h36m17", image_size=(1000, 1002))
    demo = (
        "demo.py",
        "--ckpt",
        file,
        "--keypoints",
        tmp_path / "video.npz",
        "--device",
        "cpu",
        "--output",
        tmp_path / "o",
    )
    done = script(*demo)
    assert done.status == 0 and "mlp" in done.out, done.err
    for name in ("run_baseline.py", "run_poseaug.py"):
        refused = script(name, *MLP, "--epochs", 1, "--pretrain", file, "--checkpoint", tmp_path / "no")
        assert_refused(refused, "sees direction and confidences", "--sees")


@pytest.mark.parametrize("more", [(), ("--cameras", "virtual", "--batch_size", 4)], ids=("published", "virtual"))
def test_interrupted_poseaug_resumes_as_if_never_stopped(here, folder, script, more):
    options = (*MLP[:-4], "--stages", 1, "--dropout", 0.25, "--batch_size", 16, "--epochs", 5, "--warmup", 1)
    options += ("--pretrain", "base.pth.tar", "--viz_every", 0, "--threads", 1, *more)
    assert script("run_poseaug.py", *options, "--checkpoint", f"whole_p{len(more)}").status == 0
    interrupt(("run_poseaug.py", *options, "--checkpoint", f"parts_p{len(more)}"), folder, "[3]")
    parts, whole = (run_of(folder / f"{name}_p{len(more)}") for name in ("parts", "whole"))
    assert checkpoint.load(parts / "last.pth.tar")["epoch"] in (2, 4)
    if not more:
        as_before_format_2(parts / "last.pth.tar", "step", "losses")
    done = script("run_poseaug.py", *options, "--resume", parts, "--pretrain", "True", "--note", "debug")
    assert done.status == 0, done.err
    kept = yaml.safe_load((parts / "config.yaml").read_text())  # run_summary.py goes by it
    assert (kept["pretrain"], kept["note"]) == ("base.pth.tar", "t")
    assert (parts / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    first, second = (checkpoint.load(run / "last.pth.tar") for run in (parts, whole))
    for name in first.keys() - {"options"}:
        assert same(first[name], second[name]), name


def test_runs_of_the_same_second_have_a_folder_each(tmp_path):
    args = SimpleNamespace(resume="", checkpoint=tmp_path, posenet_name="mlp", keypoints="gt", note="a_b")
    main, other = SimpleNamespace(is_main=True), SimpleNamespace(is_main=False)
    folder = run_folder.run_folder(args, "1121")
    names = [run_folder.claim(folder, args, run).name for run in (main, other, main, main)]
    assert names == ["1121_a_b", "1121_a_b", "1121-2_a_b", "1121-3_a_b"]
    assert len(list(folder.parent.iterdir())) == 3
    args.resume = str(folder)
    assert run_folder.claim(run_folder.run_folder(args, "1122"), args, main) == folder


def test_same_seed_same_numbers(here, script):
    for run, seed in (("a", 3), ("b", 3), ("c", 4)):
        options = (*MLP, "--pretrain", "base.pth.tar", "--epochs", 1, "--warmup", 0, "--random_seed", seed)
        assert script("run_poseaug.py", *options, "--viz_every", 0, "--checkpoint", run).status == 0
    assert metric_rows(run_of("a")) == metric_rows(run_of("b")) != metric_rows(run_of("c"))


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["run_baseline.py", "run_poseaug.py"])
def test_cuda_graph_trains_as_the_plain_step_does(here, script, name):
    options = ("--device", "cuda", *MLP[2:], "--epochs", 2, "--batch_size", 16, "--pretrain", "base.pth.tar")
    options = options if name == "run_baseline.py" else (*options, "--warmup", 0)
    for run, extra in (("graph", ()), ("plain", ("--no_cuda_graphs",))):
        assert script(name, *options, *extra, "--checkpoint", f"{run}_{name}").status == 0
    for graph, plain in zip(*(metric_rows(run_of(f"{run}_{name}")) for run in ("graph", "plain")), strict=True):
        assert graph == pytest.approx(plain, rel=1e-2)


# ---------------------------------------------------------------------------------------------------- bad input


def test_pretrained_baseline_none_and_several(tmp_path, folder, monkeypatch, script):
    monkeypatch.chdir(tmp_path)
    options = ("--data-dir", folder / "data", *MLP[:-2], "--epochs", 1)
    done = script("run_poseaug.py", *options)
    assert_refused(done, "checkpoint/pretrain_baseline/mlp/gt/*/ckpt_best.pth.tar", "run_baseline.py", "--pretrain")
    for run in ("1", "2"):
        path = tmp_path / "checkpoint/pretrain_baseline/mlp/gt" / run / "ckpt_best.pth.tar"
        path.parent.mkdir(parents=True)
        shutil.copy(folder / "base.pth.tar", path)
    assert_refused(script("run_poseaug.py", *options), "2 pretrained", "gt/1/", "gt/2/", "--pretrain FILE")


def test_checkpoints_that_do_not_fit(here, script):
    evaluate = ("run_evaluate.py", "--device", "cpu", "--evaluate", "base.pth.tar", "--posenet_name")
    assert_refused(script(*evaluate, "mlp", "--stages", 2), "base.pth.tar", "missing", "--stages")
    assert_refused(script(*evaluate, "gcn"), "base.pth.tar", "GCN", "unexpected")
    torch.save({"weights": torch.ones(3)}, "other.pth.tar")
    assert_refused(script(*evaluate[:3], "--evaluate", "other.pth.tar"), "other.pth.tar", "state_dict or model_pos")
    assert_refused(script(*evaluate[:3], "--evaluate", "none.pth.tar"), "none.pth.tar", "missing")
    assert_refused(script("run_evaluate.py"), "--evaluate FILE")
    done = script("run_baseline.py", *MLP, "--resume", "base.pth.tar", "--epochs", 3)
    assert_refused(done, "base.pth.tar", "last.pth.tar")


def test_options_that_cannot_be_followed(here, script, monkeypatch):
    assert_refused(script("run_baseline.py", *MLP, "--evaluate", "x"), "run_evaluate.py")
    assert_refused(script("run_poseaug.py", *MLP, "--evaluate", "x"), "run_evaluate.py")
    assert_refused(script("run_baseline.py", *MLP, "--architecture", "3,3"), "videopose")
    assert_refused(script("run_baseline.py", *TINY, "--posenet_name", "gcn", "--dropout", -1), "stgcn")
    assert_refused(script("run_baseline.py", *TINY, "--architecture", "3,2"), "odd")
    assert_refused(script("run_poseaug.py", *TINY, "--architecture", "3,3"), "single poses")
    assert_refused(script("run_baseline.py", "--posenet", "mlp"), "--posenet_name")
    assert_refused(script("run_baseline.py", *MLP, "--actions", "Sit"), "Sit", "SittingDown")
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)  # as one of two processes
    assert_refused(script("run_poseaug.py", *MLP, "--gloss_factordiv_rt", 1), "--gloss_factordiv_rt", "one process")


def test_damaged_arrays_are_refused(here, script):
    arrays = load_npz("data_extra/test_set/test_3dhp.npz")
    save_npz("short.npz", pose3d=arrays["pose3d"], pose2d=arrays["pose2d"][:-1])
    done = script("run_baseline.py", *MLP, "--cross_data", "short.npz")
    assert_refused(done, "short.npz", "12", "11")
    np.save("templates.npy", np.ones((5, 14), np.float32))
    done = script("run_poseaug.py", *MLP, "--pretrain", "base.pth.tar", "--bone_lengths", "templates.npy")
    assert_refused(done, "templates.npy", "(5, 14)", "15")
    assert not list(Path().glob("checkpoint/debug/**/*_t"))  # refused before anything was written


def test_a_last_batch_of_one_pose_joins_the_one_before(here, script):
    """160 training poses in batches of 53: three, and one pose over."""
    options = (
        *MLP,
        "--batch_size",
        53,
        "--epochs",
        1,
        "--warmup",
        0,
        "--pretrain",
        "base.pth.tar",
        "--checkpoint",
        "rest",
    )
    done = script("run_poseaug.py", *options, "--viz_every", 0)
    assert done.status == 0, done.err
    assert len(metric_rows(run_of("rest"))) == 2
