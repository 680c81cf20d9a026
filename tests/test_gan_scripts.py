"""train_gan.py and test_gan.py on tiny data: both methods, supervised, resume, several processes, published files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import models
from common.files.npz import save_npz
from common.run import checkpoint
from methods.adversarial import evaluation
from models.adversarial import geometry, losses
from tests.conftest import as_before_format_2, assert_refused, metric_rows
from tests.processes import interrupt, run_apart, run_as_two
from tests.steps import forbid_waiting, numbers, steps_of
from tests.tiny_dataset import write_tiny_dataset

pytestmark = pytest.mark.usefixtures("small")

TINY = ("--data-dir", ".", "--dataset", "tiny", "--device", "cpu", "--batch_size", 32)
CUDA = (*TINY[:4], "--device", "cuda", "--batch_size", 16, "--use_heuristic_loss", "-e", 2)  # ten steps


VIRTUAL = ("--cameras", "virtual", "--vary_bones", 0.1, "--batch_size", 8)  # a quarter of the rows: each motion once


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A tiny set, a made-up MPII file, and a lifter trained for one epoch in `trained`."""
    folder = tmp_path_factory.mktemp("gan")
    write_tiny_dataset(folder, frames=4, actions=("Walking",))
    people = np.random.default_rng(0).normal(0, 60, (60, 34)).cumsum(1) + 300
    np.save(folder / "mpii_poses.npy", people.astype(np.float32))
    done = run_apart(("train_gan.py", *TINY, "-e", 1, "-c", "trained"), folder)
    assert done.status == 0, done.err
    return folder


@pytest.mark.parametrize(
    ("options", "column"),
    [
        (("--method", "kudo", "--use_heuristic_loss", "--use_bn"), "heuristic"),
        (("--method", "kudo", "--mode", "supervised"), "supervised"),
        (("--mode", "supervised"), "supervised"),
        (("--weight_temporal", 0, "--weight_2d", 1000), "loss_2d"),
        (("--mode", "supervised", *VIRTUAL), "supervised"),
    ],
)
def test_methods_train_and_score(here, script, monkeypatch, options, column):
    watched = forbid_waiting(monkeypatch)
    name = "_".join(map(str, options)).replace("-", "")
    done = script("train_gan.py", *TINY, *options, "-e", 2, "-c", name)
    assert done.status == 0 and len(watched) == 5, done.err
    first, second = metric_rows(name)
    assert second[column] < first[column]
    assert second["val_p_mpjpe"] <= second["val_n_mpjpe"] + 1e-6
    results = scores_of(script, f"{name}/best-model.ckpt", "cpu")
    best = min(row["val_mpjpe"] for row in metric_rows(name))
    (network,) = results.keys() - {"all depths zero", "mean training pose"}
    overall = results[network]["overall"]["mean over frames"]
    assert overall["MPJPE"] == pytest.approx(best, rel=1e-5)
    assert {"MPJVE", "PCK14", "AUC14", "PCK14 mirror"} < overall.keys()
    assert overall["MPJPE mirror"] <= overall["MPJPE"] and overall["PCK mirror"] >= overall["PCK"]


def scores_of(script, ckpt: str, device: str, *options) -> dict:
    """The results of test_gan.py."""
    folder = Path(f"scores_{device}")
    done = script("test_gan.py", *TINY[:4], "--device", device, "--ckpt", ckpt, "--output", folder, *options)
    assert done.status == 0, done.err
    return json.loads((folder / "results.json").read_text())["results"]


@pytest.mark.gpu
def test_cuda_scores_as_the_cpu(here, script):
    """In millimetres and percent; the pictures are drawn, too."""
    pictures = ("--vis", "--vis-frames", 2, "--vis-html", "page.html")
    cpu, cuda = (scores_of(script, "trained/best-model.ckpt", device, *pictures) for device in ("cpu", "cuda"))
    assert numbers(cuda) == pytest.approx(numbers(cpu), abs=0.1)


@pytest.mark.gpu
@pytest.mark.parametrize("cap", [0.9, 0.5])
@pytest.mark.parametrize("method", ["chen", "kudo"])
def test_cuda_graph_gives_the_losses_of_the_plain_step(here, script, monkeypatch, method, cap):
    """With a cap of 0.5 the discriminator or the lifter waits in every step of another accuracy, by the masked step."""
    options = (*CUDA, "--method", method, "--gan_accuracy_cap", cap, "-c")
    graph = steps_of(script, monkeypatch, "train_gan.py", *options, f"graph_{method}_{cap}")
    plain = steps_of(script, monkeypatch, "train_gan.py", *options, f"plain_{method}_{cap}", "--no_cuda_graphs")
    assert graph.graphs == 1 and plain.graphs == 0 and graph.losses.shape == (10, 9)
    assert cap == 0.9 or (plain.losses[:, -1] != cap).any()
    torch.testing.assert_close(graph.losses, plain.losses, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["chen", "kudo"])
def test_no_step_waits_for_cuda(here, script, monkeypatch, method):
    watched = forbid_waiting(monkeypatch)
    done = script("train_gan.py", *CUDA, "--method", method, "--no_cuda_graphs", "-c", f"watched_{method}")
    assert done.status == 0 and watched == list(range(2, 11)), done.err


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["chen", "kudo"])
def test_resumes_on_cuda(here, script, method):
    """Graphs are captured anew after a resume; the numbers go on."""
    for run, *more in (("whole",), ("parts", "-e", 1), ("parts", "-r", f"cuda_parts_{method}")):
        done = script("train_gan.py", *CUDA, "--method", method, *more, "-c", f"cuda_{run}_{method}")
        assert done.status == 0, done.err
    for parts, whole in zip(*(metric_rows(f"cuda_{run}_{method}") for run in ("parts", "whole")), strict=True):
        assert parts == pytest.approx(whole, rel=1e-2, abs=1e-4)


@pytest.mark.gpu
def test_amp_and_supervision_on_cuda(here, script):
    for i, more in enumerate((("--amp",), ("--amp", "--method", "kudo", "--use_bn"), ("--mode", "supervised"))):
        done = script("train_gan.py", *CUDA, *more, "-c", f"cuda_{i}")
        assert done.status == 0 and metric_rows(f"cuda_{i}")[-1]["val_mpjpe"] > 0, done.err


def test_chen_uses_frames_and_cycle(here):
    (row,) = metric_rows("trained")
    assert row["temporal"] > 0 and row["loss_2d"] > 0 and row["loss_3d"] > 0 and 0 <= row["accuracy"] <= 1
    saved = checkpoint.load("trained/best-model.ckpt")
    assert any(name.startswith("dis_temporal.") for name in saved["state_dict"])


@pytest.mark.parametrize("options", [("--method", "kudo"), (), ("--mode", "supervised")])
def test_faces_are_judged_at_the_size_of_their_depths(here, script, monkeypatch, options):
    """Kudo's unit is the joints' mean distance from the hip, Chen's the head's."""
    sizes, judge = [], losses.heuristic_loss

    def look(keypoints, depth):
        joints = keypoints if options[1:2] == ("kudo",) else keypoints[:, [geometry.HEAD]]
        sizes.append(joints.norm(dim=-1).sum(1).mean() / (joints.shape[1] - 1 or 1))
        return judge(keypoints, depth)

    monkeypatch.setattr(losses, "heuristic_loss", look)
    done = script("train_gan.py", *TINY, *options, "--use_heuristic_loss", "-e", 1, "-c", "faces")
    assert done.status == 0 and sizes, done.err
    assert torch.stack(sizes).tolist() == pytest.approx([1.0] * len(sizes), rel=0.1)


@pytest.mark.parametrize("method", ["chen", "kudo"])
def test_without_3d_the_self_consistency_is_the_score(here, script, method):
    options = ("--data-dir", ".", "--device", "cpu", "--batch_size", 32, "-e", 1, "--gpus", 1, "--method", method)
    done = script("train_gan.py", *options, "-c", f"mpii_{method}")
    assert done.status == 0, done.err
    (row,) = metric_rows(f"mpii_{method}")
    last = done.out.splitlines()[-1]
    assert "val_mpjpe" not in row and "self-consistency" in last
    assert (f"best {row['loss_2d']:.4g} (" in last) == (method == "chen")  # kudo's is no term of the loss
    assert f"best {row['gen_loss']:.4g} (" not in last
    assert "mpii 54" in done.out  # the published 90 %
    options = (*options, "-e", 2, "--gpus", "")  # which changes nothing
    assert script("train_gan.py", *options, "-c", f"mpii_{method}", "--resume", f"mpii_{method}").status == 0


def test_joined_sets_are_scored_on_the_one_with_3d(here, script):
    done = script("train_gan.py", *TINY[:2], "--dataset", "mpii,tiny", *TINY[4:], "-e", 1, "-c", "joined")
    assert done.status == 0, done.err
    assert "mpii 54, tiny 80" in done.out and metric_rows("joined")[0]["val_mpjpe"] > 0


@pytest.mark.parametrize("more", [(), VIRTUAL], ids=("published", "virtual"))
def test_interrupted_run_resumes_as_if_never_stopped(here, folder, script, more):
    """Of the method with more state: two discriminators."""
    options = (*TINY[:-1], 16, "-e", 2, "--use_heuristic_loss", "--threads", 1, *more)
    whole, parts = (f"{name}{len(more)}" for name in ("whole", "parts"))
    assert script("train_gan.py", *options, "-c", whole).status == 0
    interrupt(("train_gan.py", *options, "-c", parts), folder, "[1]")
    if not more:
        as_before_format_2(folder / parts / "last.ckpt")
    done = script("train_gan.py", *options, "-c", parts, "-r", parts)
    assert done.status == 0, done.err
    assert metric_rows(folder / parts) == metric_rows(folder / whole)
    first, second = (checkpoint.load(folder / run / "last.ckpt")["state_dict"] for run in (parts, whole))
    assert all(torch.equal(first[name], second[name]) for name in first | second)


def test_two_processes_train_as_one(here, folder, script):
    """On unequal shares: 3 and 2 pairs of frames beside 11 poses each. No dropout: its draws differ by process."""
    options = (*TINY[:-1], 22, "-e", 1, "--dropout", 0, "--gen_lr", 1e-6, "--dis_lr", 1e-6)
    assert script("train_gan.py", *options, "-c", "one").status == 0
    done = run_as_two(("train_gan.py", *options, "-c", "two"), folder)
    assert done.status == 0, done.err
    (one,), (two,) = metric_rows(folder / "one"), metric_rows(folder / "two")
    assert two == pytest.approx(one, rel=2e-3)


def test_published_files_are_scored(here, script):
    """Kudo's chainer generator and the reproduction's Lightning file, by the published error."""
    kudo = models.create("kudo_generator")
    save_npz("gen_epoch_1.npz", **{
        f"l{i}/{short}": getattr(getattr(kudo, f"l{i}"), long).detach().numpy()
        for i in range(1, 5) for short, long in (("W", "weight"), ("b", "bias"))
    })  # fmt: skip
    torch.save({"state_dict": {f"gen.{k}": v for k, v in models.create("gan_lifter").state_dict().items()}}, "pl.ckpt")
    for file in ("gen_epoch_1.npz", "pl.ckpt"):
        plain = script("test_gan.py", *TINY[:6], "--ckpt", file)
        assert plain.status == 0, plain.err
        better = script("test_gan.py", *TINY[:6], "--ckpt", file, "--allow_inversion", "--vis", "--vis-frames", 2)
        assert better.status == 0, better.err
        values = [float(done.out.splitlines()[0].split(": ")[1].split()[0]) for done in (plain, better)]
        assert 0 < values[1] <= values[0]
    assert len(list(here.glob("pl_tiny_gt/*.gif"))) == 1


def test_published_error_is_kudos_formula():
    torch.manual_seed(0)
    pixels, target, depth = torch.rand(5, 17, 2) * 500, torch.randn(5, 17, 3), torch.randn(5, 17)
    target = target - target[:, :1]
    keypoints = geometry.normalise_2d(pixels)
    found = evaluation.errors(torch.cat((keypoints, depth[..., None]), -1), pixels, target)[:, 0]
    torch.testing.assert_close(found, losses.kudo_error(keypoints, depth, geometry.normalise_3d(target)))


def test_scores_without_training_subjects(here, script, caplog):
    done = script(
        "test_gan.py", *TINY[:6], "--ckpt", "trained/best-model.ckpt", "--subjects-train", "S77", "--output", "no77"
    )
    assert done.status == 0, done.err
    assert "no mean training pose to compare with: " in caplog.text and "S77" in caplog.text
    assert "mean training pose" not in json.loads(Path("no77/results.json").read_text())["results"]


def test_bad_input(here, script):
    assert_refused(script("test_gan.py", *TINY[:6], "--ckpt", "none.ckpt"), "none.ckpt")
    assert_refused(
        script("test_gan.py", "--data-dir", ".", "--ckpt", "trained/best-model.ckpt"), "mpii", "--test_dataset"
    )
    assert_refused(script("train_gan.py", *TINY, "--gan_accuracy_cp", 0.8), "--gan_accuracy_cap")
    assert_refused(script("train_gan.py", *TINY, "--mode", "supervised", "--dataset", "mpii"), "mpii", "3D")
    assert_refused(
        script("train_gan.py", *TINY, *VIRTUAL, "--dataset", "mpii,tiny"), "mpii: no 3D", "--cameras virtual"
    )
    assert_refused(script("train_gan.py", *TINY, "--camera_roll=0,1"), "--camera_roll: only with --cameras virtual")
    assert_refused(script("train_gan.py", *TINY, "-r", "trained/none.ckpt"), "none.ckpt")
    assert_refused(script("train_gan.py", *TINY, "-r", "trained", "-e", 3, "--gen_lr", 0.1), "--gen_lr")
    torch.save({"weights": torch.ones(2)}, "other.ckpt")
    assert_refused(script("test_gan.py", *TINY[:6], "--ckpt", "other.ckpt"), "other.ckpt", "state_dict")
