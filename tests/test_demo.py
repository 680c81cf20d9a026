"""demo.py on small networks: the files it writes, what it lifts, refused options and bad input."""

import numpy as np
import pytest
import torch
from PIL import Image

import models
from common.skeleton import COCO_17
from models.adversarial.geometry import normalise_2d
from tests.common.draw.test_turntable import pixels
from tests.common.video.test_read import BODY_25, body, expected, listed, openpose, write
from tests.conftest import assert_refused

VIEWS = {f"rot_{angle:03d}_degree.png" for angle in range(0, 360, 15)}


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder to run in: a picture, a 2D pose and a Lightning file of a small lifter."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (400, 500), (90, 120, 90)).save("photo.png")
    np.save("pose.npy", pixels())
    torch.manual_seed(0)
    state = models.create("gan_lifter", width=32).state_dict()
    torch.save({"state_dict": {f"gen.{name}": value for name, value in state.items()}}, "lifter.ckpt")
    return tmp_path


@pytest.fixture
def demo(work, script):
    def run(*options, ckpt="lifter.ckpt", keypoints="pose.npy"):
        given = (("--ckpt", ckpt), ("--keypoints", keypoints))
        words = [word for name, value in given if value for word in (name, value)]
        return script("demo.py", "--device", "cpu", *words, *options)

    return run


def test_the_published_command(demo, work):
    done = demo("--input", "photo.png", "--method", "gan", "--thr", 0.1, "--width", 368, "--height", 368)
    assert done.status == 0, done.err
    folder = work / "demo_out"
    assert {file.name for file in folder.iterdir()} == VIEWS | {"openpose_detect.jpg", "turning.gif", "pose_3d.npz"}
    assert Image.open(folder / "openpose_detect.jpg").size == (400, 500)
    assert "1 frame in the layout h36m17" in done.out and "27 files in demo_out" in done.out


def test_what_is_lifted(demo, work):
    assert demo("--output", "out").status == 0
    found = np.load(work / "out" / "pose_3d.npz")
    flat = normalise_2d(torch.from_numpy(pixels()).float())
    model = models.create("gan_lifter", width=32).eval()
    state = torch.load("lifter.ckpt", weights_only=True)["state_dict"]
    model.load_state_dict({name.removeprefix("gen."): value for name, value in state.items()})
    with torch.no_grad():
        depth = model(flat[None])[0]
    assert np.allclose(found["poses"][0, :, :2], flat, atol=1e-5)
    assert np.allclose(found["poses"][0, :, 2], depth - depth[0], atol=1e-5) and depth.abs().max() > 0.01
    assert np.linalg.norm(found["poses"][0, 1:, :2], axis=-1).mean() == pytest.approx(1, abs=1e-5)


def test_kudos_generator(demo, work):
    rng, shapes = np.random.default_rng(0), {"l1": (24, 34), "l2": (24, 24), "l3": (24, 24), "l4": (17, 24)}
    arrays = {f"{name}/W": rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    np.savez("gen.npz", **arrays, **{f"{name}/b": np.zeros(shape[0], np.float32) for name, shape in shapes.items()})
    assert demo(ckpt="gen.npz").status == 0
    x = normalise_2d(torch.from_numpy(pixels())).numpy().ravel()

    def leaky(h):
        return np.where(h > 0, h, 0.2 * h)

    first = leaky(arrays["l1/W"] @ x)
    depth = arrays["l4/W"] @ leaky(arrays["l3/W"] @ leaky(arrays["l2/W"] @ first) + first)
    assert np.allclose(np.load("demo_out/pose_3d.npz")["poses"][0, :, 2], depth - depth[0], atol=1e-4)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_checkpoint_of_train_gan(demo, work, device):
    """Chen's lifter: its own scale of the input, and rays of a perspective camera 10 units away."""
    lifter = models.create("gan_lifter", width=32).eval()
    state = {f"gen.{name}": value for name, value in lifter.state_dict().items()}
    saved = {"method": "chen", "network": "gan_lifter", "sizes": {"width": 32}, "factor": 0.07, "state_dict": state}
    torch.save(saved, "best-model.ckpt")
    done = demo("--device", device, ckpt="best-model.ckpt")
    assert done.status == 0, done.err
    flat = 0.07 * normalise_2d(torch.from_numpy(pixels()).float())
    with torch.no_grad():
        away = 10 + lifter(flat[None])[0]
    away += 10 - away[0].item()
    pose = torch.cat((flat * away[:, None], away[:, None] - 10), -1)
    assert np.allclose(np.load("demo_out/pose_3d.npz")["poses"][0], pose, atol=1e-4)


def test_a_sequence_over_its_frames(demo, work):
    at, frames = body(3), work / "frames"
    frames.mkdir()
    for t in range(3):
        write(work / "frames" / f"{t}.json", openpose(listed(at, BODY_25, t)))
        Image.new("RGB", (1000, 900), (80 * t, 0, 0)).save(frames / f"{t}.jpg")
    done = demo("--input", "frames", "--fps", 5, "--frame", 2, keypoints="frames")
    assert done.status == 0, done.err
    with Image.open("demo_out/film.gif") as film:
        assert film.n_frames == 3 and film.info["duration"] == 200
    found = np.load("demo_out/pose_3d.npz")
    assert np.allclose(found["keypoints"], expected(at), atol=1e-2) and found["frames"].tolist() == ["0", "1", "2"]
    assert Image.open("demo_out/openpose_detect.jpg").getpixel((3, 3))[0] > 140  # the third picture
    assert_refused(demo("--input", "photo.png", "--frame", 3, keypoints="frames"), "--frame 3", "frames 0 to 2")
    (frames / "2.jpg").unlink()
    assert_refused(demo("--input", "frames", keypoints="frames"), "2 pictures", "3 frames")


def test_a_missing_wrist_is_named(demo, work, caplog):
    at = {name: place for name, place in body().items() if name != "left wrist"}
    entries = [{"image_id": 1, "keypoints": listed(at, COCO_17.joints).ravel().tolist(), "score": 1}]
    done = demo(keypoints=write(work / "coco.json", entries))
    assert done.status == 0 and "filled in from the joints around: left wrist" in caplog.text
    without = {name: place for name, place in at.items() if name != "left hip"}
    entries[0]["keypoints"] = listed(without, COCO_17.joints).ravel().tolist()
    assert_refused(demo(keypoints=write(work / "coco.json", entries)), "left hip missing in every frame")


def test_refused_options(demo, script, work):
    assert_refused(demo("--proto2d", "a.prototxt", "--model2d", "b.caffemodel"), "--proto2d", "no Caffe")
    assert_refused(demo("--dataset", "COCO"), "--dataset", "--keypoints FILE")
    assert_refused(demo("--detector", "blazepose", keypoints=None), "--input VIDEO")
    assert_refused(demo("--method", "martinez"), "invalid choice")
    assert_refused(demo("--layout", "coco18"), "unknown joint layout 'coco18'", "openpose18")
    assert not (work / "demo_out").exists()


def test_bad_input(demo, work):
    assert_refused(demo("--input", "no.png"), "no.png does not exist")
    assert_refused(demo(keypoints="no.json"), "no.json does not exist")
    assert_refused(demo(ckpt="no.ckpt"), "no.ckpt is missing")
    (work / "text.ckpt").write_text("text")
    assert_refused(demo(ckpt="text.ckpt"), "cannot load text.ckpt")
    state = models.create("gan_lifter", joints=16, width=8).state_dict()
    torch.save({"state_dict": {f"gen.{name}": value for name, value in state.items()}}, "small.ckpt")
    assert_refused(demo(ckpt="small.ckpt"), "lifts 16 joints; expected 17")
    np.save("point.npy", np.full((17, 2), 5.0))
    assert_refused(demo("--layout", "h36m17", keypoints="point.npy"), "all joints in one place")
    np.save("far.npy", pixels() + 5000)
    assert_refused(demo("--input", "photo.png", keypoints="far.npy"), "outside the picture of 400 x 500")
    assert not (work / "demo_out").exists()
