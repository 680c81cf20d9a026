"""train_hourglass.py, test_hourglass.py and demo.py's images, tiny: the three stages, resume, processes, odd images."""

import base64
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import InputError
from common.files.mat import load_mat, save_mat
from common.files.npz import load_npz
from common.run import checkpoint
from methods.hourglass import evaluation, options, scoring
from tests.common.draw.test_page import contents
from tests.common.images import test_readers as readers
from tests.conftest import ROOT, assert_refused, metric_rows
from tests.processes import interrupt, run_as_two
from tests.steps import forbid_waiting, steps_of
from tests.tiny_dataset import write_tiny_dataset

pytestmark = pytest.mark.usefixtures("small")

SUBJECTS = ("--subjects-train", "S1", "--subjects-test", "S9")
DATA = ("--dataset", "synthetic", "--motion", "tiny", "--synthetic_images", 4, "--synthetic_test", 3, *SUBJECTS)
SIZE = ("--input_h", 64, "--input_w", 64, "--arch", "msra_18", "--batch_size", 2, "--backbone_weights", "none")
TINY = (*DATA, *SIZE, "--num_workers", 0, "--device", "cpu", "--val_intervals", 1)
SMALLER = ("--input_h", 32, "--input_w", 32)  # behind the others, where nobody looks at the images
EVERY_LOSS = ("--task", "human3d", "--ratio_3d", 1, "--weight_3d", 0.1, "--weight_var", 0.01)
# The three published training commands, as in the README.
STAGE_1 = "--exp_id mpii".split()
STAGE_2 = (
    "--exp_id fusion_3d --task human3d --dataset fusion_3d --ratio_3d 1 --weight_3d 0.1 "
    "--load_model ../exp/mpii/model_last.pth --num_epoch 60 --lr_step 45"
).split()
STAGE_3 = (
    "--exp_id fusion_3d_var --task human3d --dataset fusion_3d --ratio_3d 1 --weight_3d 0.1 --weight_var 0.01 "
    "--load_model ../models/fusion_3d.pth --num_epoch 10 --lr 1e-4"
).split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A tiny set of poses; nothing trained yet."""
    folder = tmp_path_factory.mktemp("hourglass")
    write_tiny_dataset(folder / "data", frames=5, actions=("Walking",), subjects=("S1", "S9"))
    return folder


@pytest.fixture
def trained(here, script, monkeypatch) -> Path:
    """All three stages, by the published commands on synthetic images, and one epoch each; made once."""
    if not Path("exp/fusion_3d_var").exists():
        watched = forbid_waiting(monkeypatch)
        for stage in (STAGE_1, STAGE_2, STAGE_3):
            metric = "mpjpe" if "human3d" in stage else "acc"
            more = ("--num_epoch", 1, "--metric", metric, "--save_all_models")
            done = script("train_hourglass.py", *stage, *TINY, *more)
            assert done.status == 0, done.err
            assert "waiting for images" in done.out and done.out.splitlines()[-1].endswith(f"exp/{stage[1]}")
        assert len(watched) == 7  # of two steps and twice four, all but the first
    return here


def test_three_stages_follow_one_another(trained):
    rows = [metric_rows(trained / "exp" / name)[0] for name in ("mpii", "fusion_3d", "fusion_3d_var")]
    assert rows[0]["heatmap"] > 0 and rows[0]["depth"] == 0 and "val_mpjpe" not in rows[0]
    assert rows[1]["depth"] > 0 and rows[1]["bones"] == 0 and rows[1]["val_mpjpe"] > rows[1]["val_p_mpjpe"] > 0
    assert rows[2]["bones"] > 0 and rows[2]["val_asymmetry"] > 0 and rows[2]["lr"] == 1e-4
    expected = rows[2]["heatmap"] + 0.1 * rows[2]["depth"] + 0.01 * rows[2]["bones"]
    assert rows[2]["loss"] == pytest.approx(expected, rel=1e-5)
    for name in ("mpii", "fusion_3d"):
        files = {file.name for file in (trained / "exp" / name).iterdir()}
        assert {"model_last.pth", "model_best.pth", "model_1.pth", "config.yaml", "metrics.csv", "curves.png"} <= files
    best, last = (checkpoint.load(trained / f"exp/fusion_3d/model_{name}.pth") for name in ("best", "last"))
    assert best["epoch"] == 1 and "optimizer" not in best and {"optimizer", "state_dict"} <= last.keys()


def test_published_data_by_the_published_commands(tmp_path, monkeypatch, script):
    """MPII and Human3.6M in their own formats, four people; the commands with a smaller network appended."""
    monkeypatch.chdir(tmp_path)
    for name in ("train.json", "valid.json"):
        readers.make_mpii(tmp_path / "data", [readers.mpii_entry()] * 4, name)
    for split in ("Train", "Val"):
        readers.make_h36m(tmp_path / "data", [readers.h36m_entry(i) for i in range(4)], split)
    small = (*SIZE, "--num_workers", 0, "--device", "cpu", "--num_epochs", 1)
    for stage, images in ((STAGE_1, "MPII train 4"), (STAGE_2, "Human3.6M train 4, MPII train 4")):
        done = script("train_hourglass.py", *stage, *small)
        assert done.status == 0, done.err
        assert f"train {images};" in done.out
    words = "--exp_id test --task human3d --dataset fusion_3d --load_model ../models/fusion_3d.pth --full_test".split()
    for more, count in (((), 4), (("--no_flip_test", "--refine", "taylor"), 4)):
        done = script("train_hourglass.py", *words, "--test", "--num_workers", 0, "--device", "cpu", *more)
        assert done.status == 0, done.err
        assert f"Human3.6M val {count};" in done.out and "mpjpe" in done.out


def test_scores_and_predictions_are_saved(trained, script):
    """In batches larger than one, as a sample at a time."""
    for batch in (3, 1):
        done = script(
            "test_hourglass.py", "--exp_id", "test", *DATA, "--task", "human3d", "--full_test", "--batch_size", batch,
            "--load_model", "exp/fusion_3d_var/model_best.pth", "--num_workers", 0, "--vis-html", "test.html",
        )  # fmt: skip
        assert done.status == 0, done.err
        assert "64 x 64" in done.out and "taylor" in done.out  # the size is the checkpoint's
        found = json.loads(Path("exp/testTEST/results.json").read_text())["results"]
        preds, mat = load_npz("exp/testTEST/preds.npz"), load_mat("exp/testTEST/preds.mat")
        assert preds["preds"].shape == (3, 16, 2) and preds["preds_3d"].shape == (3, 17, 3)
        assert (mat["preds"] == preds["preds"]).all()
        error = np.linalg.norm(preds["preds_3d"] - preds["gt_3d"], axis=-1).mean()
        assert found["mpjpe"] == pytest.approx(error, rel=1e-5)
        page = contents(Path("test.html"))
        assert [method["name"] for method in page["methods"]] == ["hourglass", "truth"] and len(page["pictures"]) == 3
        errors = np.frombuffer(base64.b64decode(page["methods"][0]["errors"]), "<f4")
        assert errors.mean() == pytest.approx(found["mpjpe"], rel=1e-4)
        if batch == 3:
            whole = found
    assert found == pytest.approx(whole, rel=1e-4)
    row = metric_rows("exp/fusion_3d_var")[0]
    assert row["val_mpjpe"] == pytest.approx(whole["mpjpe"], rel=1e-4)


@pytest.mark.gpu
def test_steps_on_cuda_are_those_of_the_cpu(here, script, monkeypatch):
    """Two epochs of four steps; the losses, without the accuracy, in which one pixel may be a joint. Before Adam has
    divided by small gradients float32 (TensorFloat32 is off) agrees to 1e-4, afterwards to 2e-3 (of two ways to
    convolve on one CPU: 1e-6 and 5e-5); bfloat16 comes near.
    """
    runs = {"cpu": ("cpu",), "graph": ("cuda",), "plain": ("cuda", "--no_cuda_graphs"), "amp": ("cuda", "--amp")}
    words = (*TINY, *EVERY_LOSS, "--num_epochs", 2, "--lr", 1e-5)
    steps = {
        name: steps_of(
            script, monkeypatch, "train_hourglass.py", *words, "--exp_id", f"steps_{name}", "--device", *more
        )
        for name, more in runs.items()
    }
    assert {name: run.graphs for name, run in steps.items()} == {"cpu": 0, "graph": 1, "plain": 0, "amp": 1}
    losses = {name: run.losses[:, :4] for name, run in steps.items()}
    torch.testing.assert_close(losses["graph"], losses["plain"], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(losses["graph"][0], losses["cpu"][0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(losses["graph"], losses["cpu"], rtol=2e-3, atol=1e-5)
    torch.testing.assert_close(losses["amp"], losses["cpu"], rtol=0.1, atol=1e-3)


@pytest.mark.gpu
def test_no_step_waits_for_cuda(here, script, monkeypatch):
    watched = forbid_waiting(monkeypatch)
    words = (*TINY, *EVERY_LOSS, "--num_epochs", 2, "--device", "cuda", "--no_cuda_graphs")
    done = script("train_hourglass.py", "--exp_id", "watched", *words)
    assert done.status == 0 and watched == list(range(2, 9)), done.err


@pytest.mark.gpu
@pytest.mark.parametrize("more", [(), ("--amp",), ("--arch", "hg")])
def test_trains_on_cuda_and_resumes_on_either_device(here, script, more):
    """With a worker, pinned memory and a learning rate that falls: the graph is captured anew."""
    name = "_".join(("cuda", *more)).replace("-", "")
    words = (*TINY, *EVERY_LOSS, "--num_workers", 1, "--lr_step", 1, "--exp_id", name, *more)
    for epochs, device in enumerate(("cuda", "cuda", "cpu", "cuda"), 1):
        resume = ("--resume",) if epochs > 1 else ()
        done = script("train_hourglass.py", *words, *resume, "--device", device, "--num_epochs", epochs)
        assert done.status == 0, done.err
    rows = metric_rows(f"exp/{name}")
    assert len(rows) == 4 and all(row["val_mpjpe"] > 0 for row in rows) and rows[1]["lr"] < rows[0]["lr"]


@pytest.mark.gpu
def test_cuda_scores_as_the_cpu(trained, script):
    """In millimetres and percent; at whole pixels, since a network that has learnt little has no clear peaks."""
    found = {}
    for device in ("cpu", "cuda"):
        done = script(
            "test_hourglass.py", "--exp_id", device, *DATA, "--task", "human3d", "--full_test", "--refine", "published",
            "--load_model", "exp/fusion_3d_var/model_best.pth", "--num_workers", 0, "--device", device,
            "--vis-html", f"{device}.html",
        )  # fmt: skip
        assert done.status == 0, done.err
        found[device] = json.loads(Path(f"exp/{device}TEST/results.json").read_text())["results"]
    assert found["cuda"] == pytest.approx(found["cpu"], abs=0.1)


@pytest.mark.gpu
def test_demo_on_cuda_finds_what_it_finds_on_the_cpu(trained, script):
    picture = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(picture).save("one.png")
    words = ("--demo", "one.png", "--load_model", "exp/fusion_3d_var/model_best.pth", "--refine", "published")
    for device in ("cpu", "cuda"):
        done = script("demo.py", *words, "--device", device, "--output", f"demo_{device}")
        assert done.status == 0, done.err
    cpu, cuda = (load_npz(f"demo_{device}/poses.npz") for device in ("cpu", "cuda"))
    assert cpu["poses"].shape == (1, 16, 3) and np.allclose(cpu["poses"], cuda["poses"], atol=1e-4)


def test_interrupted_run_resumes_as_if_never_stopped(here, folder, script):
    """Stopped in mid-epoch, with workers, and bit for bit."""
    words = (*TINY, *SMALLER, *EVERY_LOSS, "--num_epochs", 3)  # so that the signal comes before the end
    words += ("--num_workers", 1, "--lr_step", 1, "--print_iter", 1, "--threads", 1, "--val_intervals", 2)
    assert script("train_hourglass.py", "--exp_id", "whole", *words).status == 0
    err = interrupt(("train_hourglass.py", "--exp_id", "parts", *words), folder, "epoch 2 step 1/")
    assert "stopped in epoch" in err
    done = script("train_hourglass.py", "--exp_id", "parts", "--resume", *words)
    assert done.status == 0, done.err
    rows = metric_rows(folder / "exp/whole")
    assert metric_rows(folder / "exp/parts") == rows and [row["lr"] for row in rows][:2] == [1e-3, 1e-4]
    first, second = (checkpoint.load(folder / f"exp/{name}/model_last.pth") for name in ("whole", "parts"))
    assert all(torch.equal(first["state_dict"][name], second["state_dict"][name]) for name in first["state_dict"])


def test_the_processes_of_gpus_train_as_one(here, folder, script):
    """On the CPU; the batch is of each process. tests/common/run/test_gpus.py: which processes `--gpus` begins."""
    words = (*TINY, *SMALLER, *EVERY_LOSS, "--num_epochs", 1, "--lr", 1e-5)
    two = run_as_two(("train_hourglass.py", *words, "--exp_id", "two", "--gpus", "0,1"), folder)
    one = script("train_hourglass.py", *words, "--exp_id", "one", "--batch_size", 4)
    assert (one.status, two.status) == (0, 0), one.err + two.err
    (one,), (two,) = metric_rows(folder / "exp/one"), metric_rows(folder / "exp/two")
    for name in ("loss", "heatmap", "bones", "val_loss"):
        assert two[name] == pytest.approx(one[name], rel=2e-2), name


def test_demo_takes_any_image_and_names_what_is_none(trained, script, caplog):
    images = Path("images")
    images.mkdir(exist_ok=True)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))
    picture.convert("L").save("images/grey.png")
    picture.convert("P").save("images/palette.gif")
    picture.convert("RGBA").save("images/alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save("images/turned.jpg", exif=exif)
    Path("images/cut.jpg").write_bytes(Path("images/turned.jpg").read_bytes()[:-400])
    Path("images/notes.txt").write_text("no image")
    done = script(
        "demo.py",
        "--demo",
        "images",
        "--load_model",
        "exp/fusion_3d/model_best.pth",
        "--gpus",
        -1,
        "--vis-html",
        "demo.html",
    )
    page = contents(Path("demo.html"))
    assert page["frames"] == 4 and {(p["width"], p["height"]) for p in page["pictures"]} == {(60, 40), (40, 60)}
    assert done.status == 0, done.err
    assert "cut.jpg" in caplog.text and "notes.txt" in caplog.text and "4 of 6" in done.out
    for name in ("grey", "palette", "alpha", "turned"):
        assert Image.open(f"demo_out/{name}_turning.gif").n_frames == 72
        assert Image.open(f"demo_out/{name}_pose.png").width > 900
    assert load_npz("demo_out/poses.npz")["poses"].shape == (4, 16, 3)
    assert_refused(
        script("demo.py", "--demo", "images/notes.txt", "--load_model", "exp/fusion_3d/model_best.pth"), "notes.txt"
    )
    Path("empty").mkdir(exist_ok=True)
    assert_refused(script("demo.py", "--demo", "empty", "--load_model", "exp/fusion_3d/model_best.pth"), "empty")
    assert_refused(script("demo.py", "--demo", "none.jpg", "--load_model", "exp/fusion_3d/model_best.pth"), "none.jpg")


def test_published_options_and_defaults():
    parser = options.training_parser("")
    args = parser.parse_args([])
    options.settle_training(parser, args)
    published = {
        "exp_id": "default", "num_workers": 4, "debug": 0, "task": "human2d", "ratio_3d": 0, "weight_3d": 0,
        "weight_var": 0, "metric": "acc", "load_model": "", "scale": 0.25, "rotate": 30, "flip": 0.5, "dataset": "mpii",
        "lr": 0.001, "lr_step": "90,120", "num_epochs": 140, "val_intervals": 5, "batch_size": 32, "arch": "msra_50",
        "print_iter": -1, "input_h": 256, "input_w": 256, "output_h": 64, "output_w": 64,
    }  # fmt: skip
    assert {name: getattr(args, name) for name in published} == published
    for stage, epochs in ((STAGE_1, 140), (STAGE_2, 60), (STAGE_3, 10)):
        args = parser.parse_args(stage)
        options.settle_training(parser, args)
        assert args.num_epochs == epochs
    args = parser.parse_args(STAGE_2)
    assert [options.learning_rate(args, epoch) for epoch in (0, 44, 45)] == pytest.approx([1e-3, 1e-3, 1e-4])
    coco = parser.parse_args(["--dataset", "coco"])
    options.settle_training(parser, coco)
    assert (coco.input_h, coco.input_w, coco.output_h, coco.output_w, coco.scale, coco.rotate) == (
        256, 192, 64, 48, 0.3, 40,
    )  # fmt: skip


def test_files_of_options_are_three_stages():
    for stage in (1, 2, 3):
        parser = options.training_parser("")
        args = parser.parse_args(["--config", str(ROOT / f"configs/hourglass_synthetic_{stage}.yaml")])
        options.settle_training(parser, args)
        assert args.exp_id.endswith(str(stage)) and args.output_w == 32
        assert (bool(args.load_model), args.weight_3d > 0, args.weight_var > 0) == (stage > 1, stage > 1, stage > 2)


def test_the_better_of_two_validations():
    assert evaluation.better("acc", 2.0, 1.0) and not evaluation.better("acc", 1.0, 2.0)
    assert evaluation.better("mpjpe", 1.0, 2.0) and not evaluation.better("mpjpe", 2.0, 1.0)
    assert evaluation.better("mpjpe", 5.0, None)


def test_pckh_of_a_file_of_predictions(here, script):
    truth = np.random.default_rng(0).uniform(0, 200, (16, 2, 5))
    boxes = np.zeros((2, 2, 5))
    boxes[1] = 30.0
    Path("data/mpii").mkdir(exist_ok=True)
    save_mat(
        "data/mpii/detections_our_format.mat", pos_gt_src=truth, jnt_missing=np.zeros((16, 5)), headboxes_src=boxes
    )
    found = torch.from_numpy(truth).permute(2, 0, 1).clone()
    found[:, 10] += 100  # right wrist
    save_mat("preds.mat", preds=found.numpy())
    done = script("test_hourglass.py", "--pckh", "preds.mat")
    assert done.status == 0, done.err
    names, scores = (line.split() for line in done.out.splitlines())
    assert dict(zip(names, map(float, scores), strict=True)) == {
        "head": 100, "shoulder": 100, "elbow": 100, "wrist": 50, "hip": 100, "knee": 100, "ankle": 100,
        "mean": pytest.approx(100 * 13 / 14, abs=0.01),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--lr_stp", 3), ("--lr_stp", "--lr_step")),
        (("--exp_id", "x"), ("mpii/annot/train.json", "--dataset synthetic")),
        (("--arch", "msra_51"), ("msra_51", "msra_50", "hg")),
        (("--task", "human3d"), ("mpii", "fusion_3d")),
        (("--weight_var", 0.01), ("--weight_var", "human3d")),
        (("--all_pts",), ("--all_pts", "no effect")),
        (("--demo", "x.jpg"), ("demo.py",)),
        (("--input_h", 100), ("--input_h 100", "32")),
        (("--lr_step", "a,b"), ("--lr_step", "90,120")),
        (("--gpus", "x"), ("--gpus", "0,1")),
        ((*TINY, "--resume"), ("model_last.pth", "exp/default")),
        ((*TINY, "--load_model", "none.pth"), ("none.pth",)),
        ((*DATA, *SIZE[:-1], "none.pth", "--device", "cpu"), ("none.pth",)),
        (("--dataset", "synthetic", "--motion", "other", *SIZE), ("other",)),
    ],
)
def test_bad_input(here, script, words, parts):
    assert_refused(script("train_hourglass.py", *words), *parts)


def test_bad_networks_to_test(trained, script):
    words = (*DATA, "--num_workers", 0, "--device", "cpu")
    assert_refused(script("test_hourglass.py", *words), "--load_model")
    assert_refused(
        script("test_hourglass.py", *words, "--task", "human3d", "--load_model", "exp/mpii/model_best.pth"),
        "exp/mpii/model_best.pth", "no depths",
    )  # fmt: skip
    torch.save({"weights": torch.ones(2)}, "other.pth")
    assert_refused(script("test_hourglass.py", *words, "--load_model", "other.pth"), "other.pth")
    more = ("--exp_id", "fusion_3d", "--resume", "exp/fusion_3d/model_best.pth", "--num_epochs", 2)
    assert_refused(script("train_hourglass.py", *TINY, *more), "model_best.pth", "--load_model")


def test_depths_of_a_stacked_hourglass_are_for_one_size():
    saved = SimpleNamespace(sizes={"depth": True, "size": 256}, file={})  # as the released ones: without options
    args = SimpleNamespace(input_h=-1, input_w=-1, output_h=-1, output_w=-1)
    scoring.take_size(args, saved)
    assert (args.input_h, args.input_w) == (256, 256)
    args.input_w = 128
    with pytest.raises(InputError, match="--input_w 128: this network takes images of 256 x 256"):
        scoring.take_size(args, saved)
