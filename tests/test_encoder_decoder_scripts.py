"""train_encoder_decoder.py, train_encoder_decoder_pose.py and test_encoder_decoder.py on a tiny multi-view folder."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import models
from common.draw.tables import write_json
from common.errors import InputError
from common.files.npz import save_npz
from common.multiview.write import write_multiview
from common.run import checkpoint  # fmt: skip
from common.run.run import Run  # fmt: skip
from common.skeleton import H36M_17
from methods.encoder_decoder import checkpoint as encoder_decoder_checkpoint
from methods.encoder_decoder import data as encoder_decoder  # fmt: skip
from methods.encoder_decoder import options as encoder_decoder_options
from methods.encoder_decoder import pictures
from methods.encoder_decoder import scores as encoder_decoder_scores
from models.encoder_decoder.losses import FeatureNet
from models.encoder_decoder.views import other_views, turned
from tests.common.draw.test_page import contents
from tests.conftest import ROOT, assert_refused, metric_rows
from tests.processes import interrupt, run_apart
from tests.steps import forbid_waiting, numbers, steps_of
from tests.tiny_dataset import tiny_poses

pytestmark = pytest.mark.usefixtures("small")

NETWORK = ("--encoder_type", "unet", "--feature_scale", 16, "--latent_fg", 8, "--latent_3d", 30)
DATA = ("-d", "views", "--actor_subset", 1, "--every_nth_frame", 1, "--device", "cpu", "--num_workers", 0)
TRAIN = (*DATA, *NETWORK, "--input_dimension", 16, "-b", 4, "--imagenet_weights", "none", "--threads", 1)
POSE = (*DATA, "-b", 4, "--pretrained", "trained/best-model.pth", "--threads", 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """16 x 16 pixels, subjects 1 and 9, four frames each in four cameras; a network trained for two epochs."""
    folder = tmp_path_factory.mktemp("views")
    write_multiview(folder / "views", tiny_poses(4, ("S1", "S9"), ("Walking",), H36M_17), size=16, frames=4)
    done = run_apart(("train_encoder_decoder.py", *TRAIN, "-e", 2, "-c", "trained"), folder)
    assert done.status == 0, done.err
    return folder


def test_training_is_recorded(here):
    first, second = metric_rows("trained")
    assert first["loss"] > 0 and "val_synthesis" not in first
    named = ("synthesis", "input_view", "mean_of_the_other_views", "empty_background")
    assert all(0 < second[f"val_{name}"] < 255 for name in named)
    picture = Image.open("trained/examples/step_000008.png")
    assert picture.size == (3 * 206 + 6, 4 * 206 + 32)
    events = b"".join(path.read_bytes() for path in here.glob("trained/events*"))
    assert b"examples" in events and b"PNG" in events and b"test/val_synthesis" in events


def test_pose_head_trains_on_the_frozen_encoder_and_is_scored(here, script):
    done = script("train_encoder_decoder_pose.py", *POSE, "-b", 8, "-e", 10, "-c", "pose")
    assert done.status == 0, done.err
    rows = metric_rows("pose")
    assert rows[-1]["loss"] < rows[0]["loss"] and rows[-1]["val_p_mpjpe"] <= rows[-1]["val_n_mpjpe"]
    before, after = (checkpoint.load(f"{run}/best-model.pth")["state_dict"] for run in ("trained", "pose"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith("to_pose.") for name in changed)
    assert Image.open("pose/examples/step_000001.png").width == 5 * 206 + 6

    done = script(
        "test_encoder_decoder.py", *DATA[:-2], "-b", 4, "-c", "pose/best-model.pth", "--label_fraction", "0.5,1",
        "--label_steps", 2, "--gif", "--angles", 8, "--threads", 1, "--vis-html", "page.html",
    )  # fmt: skip
    assert done.status == 0, done.err
    page = contents(here / "page.html")
    assert [method["name"] for method in page["methods"]] == ["pose head", "truth"]
    errors = np.frombuffer(base64.b64decode(page["methods"][0]["errors"]), "<f4")
    results = json.loads((here / "pose/best-model_test/results.json").read_text())
    assert results["poses"]["pose head"]["N-MPJPE"] == pytest.approx(rows[-1]["val_n_mpjpe"], rel=1e-4)
    assert errors.mean() == pytest.approx(results["poses"]["pose head"]["MPJPE"], rel=1e-4)
    assert results["pixel_error"]["synthesis"] == pytest.approx(metric_rows("trained")[-1]["val_synthesis"], rel=1e-4)
    assert set(results["label_fraction"]) == {"0.5", "1.0"}
    gif = Image.open(here / "pose/best-model_test/sweep.gif")
    assert gif.n_frames == 8 and len(list(here.glob("pose/best-model_test/yaw_*.png"))) == 8
    assert (here / "pose/best-model_test/label_fraction.png").is_file()


def test_drift_changes_batch_norm_of_frozen_layers_only(here, script):
    done = script("train_encoder_decoder_pose.py", *POSE, "-e", 1, "--drift", "-c", "drift")
    assert done.status == 0, done.err
    before, after = (checkpoint.load(f"{run}/last.pth")["state_dict"] for run in ("trained", "drift"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    others = {name for name in changed if not name.startswith("to_pose.")}
    assert others and all(name.endswith(("running_mean", "running_var", "num_batches_tracked")) for name in others)


def test_interrupted_run_resumes_as_if_never_stopped(here, folder, script, monkeypatch):
    options = (*TRAIN, "-e", 3, "--print_every", 3, "--test_every", 2, "--threads", 1)
    watched = forbid_waiting(monkeypatch)
    assert script("train_encoder_decoder.py", *options, "-c", "whole").status == 0 and len(watched) == 11
    interrupt(("train_encoder_decoder.py", *options, "-c", "parts"), folder, "[1]")
    done = script("train_encoder_decoder.py", *options, "-c", "parts", "-r", "parts")
    assert done.status == 0, done.err
    assert_same(folder, "whole", "parts")


def test_fewer_steps_and_then_more_are_the_same_as_all(here, script, monkeypatch):
    """For the pose head, whose run ends in mid-epoch first."""
    watched = forbid_waiting(monkeypatch)
    for run, length in (("whole_pose", ()), ("parts_pose", ("--num_training_iterations", 5))):
        assert script("train_encoder_decoder_pose.py", *POSE, "-e", 3, *length, "-c", run).status == 0
    done = script("train_encoder_decoder_pose.py", *POSE, "-e", 3, "-c", "parts_pose", "-r", "parts_pose")
    assert done.status == 0, done.err
    first, second = (checkpoint.load(f"{run}/last.pth")["state_dict"] for run in ("whole_pose", "parts_pose"))
    assert all(torch.equal(first[name], second[name]) for name in first | second)
    assert len(watched) == 11 + 4 + 6
    assert_refused(
        script("train_encoder_decoder_pose.py", *POSE, "-e", 3, "-c", "parts_pose", "-r", "parts_pose"), "finished"
    )


def test_a_signal_in_the_last_step_loses_no_row(here, script, monkeypatch):
    options = ("train_encoder_decoder_pose.py", *POSE, "-e", 1)
    asked = []
    monkeypatch.setattr(Run, "stop_requested", property(lambda run: asked.append(0)))
    assert script(*options, "-c", "whole_last").status == 0
    steps = len(asked)
    monkeypatch.setattr(Run, "stop_requested", property(lambda run: asked.append(0) or len(asked) == 2 * steps))
    done = script(*options, "-c", "stopped_last")
    assert done.status == 143 and not (here / "stopped_last/metrics.csv").exists(), done
    done = script(*options, "-c", "stopped_last", "-r", "stopped_last")
    assert done.status == 0, done.err
    assert metric_rows("stopped_last") == metric_rows("whole_last") and (here / "stopped_last/curves.png").exists()
    assert_refused(script(*options, "-c", "stopped_last", "-r", "stopped_last"), "finished")


STAGES = {
    "train_encoder_decoder.py": (*TRAIN, "--imagenet_weights", "features.pth", "--loss_weight_gradient", 0.1),
    "train_encoder_decoder_pose.py": POSE,
}


@pytest.fixture
def features(here) -> None:
    """A file of the perceptual loss's network, with weights that nobody has trained."""
    torch.manual_seed(0)
    torch.save(FeatureNet().state_dict(), "features.pth")


@pytest.mark.gpu
@pytest.mark.parametrize("name", STAGES)
def test_cuda_graph_gives_the_losses_of_the_plain_step(features, script, monkeypatch, name):
    """Two epochs of four steps, with dropout and shuffled views."""
    options = (*STAGES[name], "--device", "cuda", "-e", 2, "-c")
    more = ("--loss_weight_3d", 0.1) if name == "train_encoder_decoder.py" else ("--drift",)
    for i, extra in enumerate(((), more)):
        graph = steps_of(script, monkeypatch, name, *options, f"graph_{i}_{name}", *extra)
        plain = steps_of(script, monkeypatch, name, *options, f"plain_{i}_{name}", *extra, "--no_cuda_graphs")
        assert graph.graphs == 1 and plain.graphs == 0 and len(graph.losses) == 8
        torch.testing.assert_close(graph.losses, plain.losses, rtol=1e-3, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("name", STAGES)
def test_steps_on_cuda_are_those_of_the_cpu(features, script, monkeypatch, name):
    """Without what each device draws for itself. Before Adam has divided by small gradients float32 (TensorFloat32 is
    off) agrees to 1e-4, afterwards to 2e-3 (of two ways to convolve on one CPU: 1e-6, 1e-5); bfloat16 comes near.
    """
    options = (*STAGES[name], "--shuffle_3d", "False", "--shuffle_fg", "False", "--lr", 1e-5, "-e", 2)
    losses = {}
    for run, *more in (("cpu", "cpu"), ("cuda", "cuda"), ("amp", "cuda", "--amp")):
        options_of_run = (*options, "-c", f"{run}_{name}", "--device", *more)
        losses[run] = steps_of(script, monkeypatch, name, *options_of_run, dropout=False).losses
    torch.testing.assert_close(losses["cuda"][0], losses["cpu"][0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(losses["cuda"], losses["cpu"], rtol=2e-3, atol=1e-5)
    torch.testing.assert_close(losses["amp"], losses["cpu"], rtol=0.25, atol=1e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("preload", [4, 0])
@pytest.mark.parametrize("name", STAGES)
def test_no_step_waits_for_cuda(features, script, monkeypatch, name, preload):
    """With images on the device, and from files by a worker and pinned memory."""
    watched = forbid_waiting(monkeypatch)
    more = ("--device", "cuda", "--no_cuda_graphs", "--preload_gb", preload, "--num_workers", 1, "-e", 2)
    done = script(name, *STAGES[name], *more, "-c", f"watched_{preload}_{name}")
    assert done.status == 0 and watched == list(range(2, 9)), done.err


@pytest.mark.gpu
@pytest.mark.parametrize("name", STAGES)
def test_trains_on_cuda_and_resumes_on_either_device(features, script, name):
    for epochs, device in enumerate(("cuda", "cuda", "cpu", "cuda"), 1):
        resume = ("-r", f"resumed_{name}") if epochs > 1 else ()
        options = (*STAGES[name], "--device", device, "--test_every", 3, "-c", f"resumed_{name}", "-e", epochs)
        done = script(name, *options, *resume)
        assert done.status == 0, done.err
    assert len(metric_rows(f"resumed_{name}")) == 4


@pytest.mark.gpu
def test_cuda_scores_as_the_cpu(here, script):
    """In millimetres and grey levels. The head is not trained: --amp has nothing to be better at."""
    saved = checkpoint.load("trained/best-model.pth") | {"stage": "pose"}
    torch.save(saved, "head.pth")
    found = {}
    for run, *more in (("cpu", "cpu"), ("cuda", "cuda"), ("amp", "cuda", "--amp", "--label_fraction", 1)):
        options = ("-b", 4, "-c", "head.pth", "--output", f"scores_{run}", "--label_steps", 2, "--gif", "--angles", 8)
        done = script("test_encoder_decoder.py", *DATA[:-4], *options, "--vis-html", f"{run}.html", "--device", *more)
        assert done.status == 0, done.err
        results = json.loads(Path(f"scores_{run}/results.json").read_text())
        found[run] = numbers({name: results[name] for name in ("poses", "pixel_error")})
    assert len(found["cpu"]) == 10 and found["cuda"] == pytest.approx(found["cpu"], abs=0.1)
    assert found["amp"] == pytest.approx(found["cpu"], rel=0.1)


def assert_same(folder: Path, *runs: str) -> None:
    assert metric_rows(folder / runs[0]) == metric_rows(folder / runs[1])
    first, second = (checkpoint.load(folder / run / "last.pth")["state_dict"] for run in runs)
    assert all(torch.equal(first[name], second[name]) for name in first | second)


def test_without_imagenet_no_part_of_the_resnet_is_frozen(here, script):
    """Two epochs, the second by --resume. The images are too small for a ResNet; larger ones are made."""
    write_multiview("large", tiny_poses(1, ("S1",), ("Walking",), H36M_17), size=64, frames=1)
    options = ("-d", "large", *TRAIN[2:8], "--feature_scale", 16, "--latent_fg", 8, "--latent_3d", 30, "-b", 4)
    options += ("--input_dimension", 64, "--imagenet_weights", "none", "--encoder_weights", "none", "-c", "resnet")
    states = []
    for length in ((), ("-e", 2, "-r", "resnet")):
        done = script("train_encoder_decoder.py", *options, "-e", 1, *length)
        assert done.status == 0, done.err
        states.append(checkpoint.load("resnet/last.pth")["state_dict"])
    assert not torch.equal(states[0]["encoder.conv1.weight"], states[1]["encoder.conv1.weight"])


def test_without_a_folder_a_synthetic_one_is_made_once(here, script, monkeypatch, caplog):
    caplog.set_level("INFO")
    poses = tiny_poses(4, ("S1", "S9"), ("Walking",))
    save_npz("motion/data_3d_synthetic.npz", positions_3d=poses)
    monkeypatch.setattr(encoder_decoder, "ensure", lambda *_: [])
    monkeypatch.setattr(encoder_decoder, "SUBJECTS", ("S1", "S9"))
    options = (*TRAIN[2:4], *TRAIN[6:], "--synthetic_dir", "motion", "--synthetic_frames", 4, "-e", 1, "-c", "made")
    done = script("train_encoder_decoder.py", *options)
    assert done.status == 0, done.err
    assert "making a synthetic multi-view folder" in caplog.text and "motion/multiview_16x4" in done.out
    caplog.clear()
    assert script("train_encoder_decoder.py", *options).status == 0
    assert "making" not in caplog.text


@pytest.mark.parametrize("stage", ["", "_pose"])
def test_published_configuration_is_the_default(here, script, stage):
    """Every key of the file is an option, and its value the default, or what a given folder makes of it."""
    name, config = f"train_encoder_decoder{stage}.py", ROOT / f"configs/encoder_decoder{stage}.yaml"
    parser = encoder_decoder_options.pose_parser if stage else encoder_decoder_options.synthesis_parser
    default, published = (parser("").parse_args(["-d", "views", *more]) for more in ([], ["--config", str(config)]))
    encoder_decoder.find_folder(default, encoder_decoder.Run(torch.device("cpu"), torch.Generator()))
    differing = {key for key, value in vars(published).items() if vars(default)[key] != value}
    assert differing <= {"config", *(("pretrained", "input_dimension") if stage else ())}
    Path("bad.yaml").write_text(config.read_text() + "latent_dropuot: 2\n")
    assert_refused(script(name, "--config", "bad.yaml"), "latent_dropuot", "latent_dropout")


def test_bad_input(here, script):
    assert_refused(script("train_encoder_decoder.py", *TRAIN, "--latent_3dd", 3), "--latent_3d")
    assert_refused(script("train_encoder_decoder.py", *TRAIN[2:], "-d", "nowhere"), "nowhere")
    assert_refused(script("train_encoder_decoder.py", *TRAIN, "--use_cam_batches", 5), "--use_cam_batches")
    assert_refused(script("train_encoder_decoder.py", *TRAIN, "-r", "trained", "-e", 3, "--lr", 0.1), "--learning_rate")
    assert_refused(script("train_encoder_decoder.py", *TRAIN, "--test_subjects", 7), "subject 7")
    assert_refused(script("train_encoder_decoder_pose.py", *POSE[:-4], "--pretrained", "none.pth"), "none.pth")
    assert_refused(script("train_encoder_decoder_pose.py", *POSE, "--input_dimension", 32), "16 pixels")
    assert_refused(script("train_encoder_decoder_pose.py", *POSE, "-r", "trained", "-e", 9), "no state to resume from")
    ckpt = ("-c", "trained/best-model.pth")
    assert_refused(script("test_encoder_decoder.py", *DATA, *ckpt, "--label_fraction", "2"), "--label_fraction")
    assert_refused(script("test_encoder_decoder.py", *DATA, *ckpt, "--gif", "--image", 99), "--image 99")


def test_viewer_without_display_says_what_to_do(here, script, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert_refused(script("test_encoder_decoder.py", *DATA, "-c", "trained/best-model.pth", "--viewer"), "--gif")


def test_viewer_keeps_the_rotation_when_the_image_changes():
    seen = []

    def look(number, yaw):
        seen.append((number, yaw))
        image, pose = np.full((8, 8, 3), 40 * number, np.uint8), np.random.default_rng(0).normal(size=(1, 17, 3))
        return image, pictures.Turned(image[None], pose, pose)

    figure = Figure(figsize=(10, 3.75))
    FigureCanvasAgg(figure)
    viewer = pictures.make_viewer(figure, 2, look)
    viewer.slider.set_val(1.5)
    for _ in range(2):
        viewer.button._observers.process("clicked", None)
    assert seen == [(0, 0), (0, 1.5), (1, 1.5), (0, 1.5)]


def test_trivial_answers_are_what_they_are_called():
    """Against sums over single pairs of views."""
    generator = np.random.default_rng(0)
    images, backgrounds = (torch.from_numpy(generator.integers(0, 256, (6, 4, 4, 3), np.uint8)) for _ in range(2))

    class Memory:
        def __getitem__(self, rows):
            return [images[rows], backgrounds[rows]]

    class Data:
        groups = type("Groups", (), {"rows": np.arange(6).reshape(2, 3)})
        labels = type("Labels", (), {"camera": torch.tensor([0, 2, 3] * 2), "world_to_camera": torch.eye(3)[None]})
        labels.world_to_camera = torch.eye(3).expand(6, 3, 3)

    Data.images = Memory()
    torch.manual_seed(0)
    model = models.create("encoder_decoder", resolution=8, encoder="unet", feature_scale=16, latent_fg=8, latent_3d=6)
    run = encoder_decoder.Run(torch.device("cpu"), torch.Generator())

    def paint_target(_, backgrounds, __, count):
        index = torch.arange(len(backgrounds)).view(-1, count)
        for shift in range(1, count):
            yield index.roll(-shift, 1).flatten(), backgrounds

    scores = encoder_decoder_scores.score_views(paint_target, Data, run, 3)
    pixels, back = images.double(), backgrounds.double()
    pairs = [(i, j) for g in (0, 3) for i in range(g, g + 3) for j in range(g, g + 3) if i != j]

    def error(answer) -> float:
        return float(np.mean([(answer(i, j) - pixels[j]).abs().mean() for i, j in pairs]))

    def mean_of_others(i, j):
        return (pixels[j // 3 * 3 : j // 3 * 3 + 3].sum(0) - pixels[j]) / 2

    expected = [error(f) for f in (lambda i, j: back[j], lambda i, j: pixels[i], mean_of_others, lambda i, j: back[j])]
    assert list(scores.overall.values()) == pytest.approx(expected, rel=1e-5)
    assert scores.cameras == [0, 2, 3] and scores.pairs[1, 0, 2] == pytest.approx(
        np.mean([(pixels[i] - pixels[j]).abs().mean() for i, j in ((0, 2), (3, 5))]), rel=1e-5
    )
    assert model.latent_3d == 6


def test_views_are_turned_by_the_rotation_between_the_cameras():
    """Turning by hand by the yaw between two cameras gives what the other camera's view is made of."""
    torch.manual_seed(0)
    model = models.create("encoder_decoder", resolution=8, encoder="unet", feature_scale=16, latent_fg=8, latent_3d=6)
    model.eval()
    images, background = torch.randn(2, 3, 8, 8), torch.randn(3, 8, 8)
    first = torch.linalg.qr(torch.randn(3, 3))[0]
    first = first * first.det()
    angle = torch.tensor([0.7])
    c, s = angle.cos(), angle.sin()
    about_z = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    cameras = torch.stack((first, first @ about_z))
    with torch.no_grad():
        source, pred = next(other_views(model, images, background.expand(2, -1, -1, -1), cameras, 2))
        by_hand, rotation = turned(model, images[0], background, first, angle)
    assert source.tolist() == [1, 0]
    torch.testing.assert_close(by_hand[0], pred[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rotation[0], first @ about_z @ first.T)


def test_subjects_to_score_on_are_not_trained_on(here, script):
    assert_refused(script("train_encoder_decoder.py", *TRAIN, "--actor_subset", "1,9"), "--actor_subset 1,9", ": 9;")
    assert_refused(script("train_encoder_decoder.py", *TRAIN, "--test_subjects", "all"), ": 1;", "--test_subjects")
    args = SimpleNamespace(actor_subset="all", test_subjects=None, test_folder=None)
    labels = SimpleNamespace(subject=torch.tensor([1, 5, 9, 9]))
    assert encoder_decoder._training_subjects(args, labels) == (1, 5)
    labels.subject = torch.tensor([1, 5])  # nobody to score on
    assert encoder_decoder._training_subjects(args, labels) == (1, 5)


def test_example_pictures_are_of_images_that_are_read():
    rows = np.arange(24).reshape(12, 2)
    read = SimpleNamespace(rows=rows[::3].flatten())
    data = encoder_decoder.Views(None, read, SimpleNamespace(rows=rows))
    assert data.examples(3).tolist() == [0, 1, 12, 13, 18, 19]


def test_a_matrix_with_nothing_on_its_diagonal_is_strict_json(tmp_path):
    write_json(tmp_path / "a.json", {"pairs": [[float("nan"), 1.0]], "n": 2})
    assert json.loads((tmp_path / "a.json").read_text()) == {"pairs": [[None, 1.0]], "n": 2}


def test_imagenet_weights_are_for_all_processes_or_none(monkeypatch):
    run = SimpleNamespace(average=lambda values: values / 2)  # this one has them, the other not
    with pytest.raises(InputError, match="resnet18 are there for some processes only.*resnet18-f37072fd"):
        encoder_decoder_checkpoint.imagenet_file("resnet18", __file__, run)
    assert encoder_decoder_checkpoint.imagenet_file("resnet18", "none", run) is None


def test_two_processes_make_a_folder_at_once(tmp_path):
    """Threads here: file locks are of open files."""
    poses = tiny_poses(2, ("S1",), ("Walking",), H36M_17)
    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(write_multiview, tmp_path / "v", poses, size=16, frames=2) for _ in range(2)]
        assert {future.result() for future in done} == {tmp_path / "v" / "labels.h5"}
    assert len(list((tmp_path / "v").rglob("*.png"))) == 2 * 2 * 4
