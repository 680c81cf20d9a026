"""demo.py with every trained lifter on keypoints of a video: what it is shown, what it writes, refusals."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import models
from common.camera import h36m_cameras, normalise_screen, unproject, world_to_camera
from common.errors import InputError
from common.files.npz import load_npz
from common.mocap.bvh import read_bvh
from common.pose_set import windows
from common.rotation import quaternion_to_matrix
from common.skeleton import H36M_16, H36M_17, convert
from common.video import upright
from methods import lifters
from methods.adversarial.checkpoint import SavedNetwork
from methods.hourglass.checkpoint import parse_arch
from methods.ites.scaling import normalise
from tests.common.draw.test_page import contents
from tests.common.video.test_read import BODY_25, body, listed, openpose, write
from tests.conftest import assert_refused, command, run_command
from tests.tiny_dataset import tiny_keypoints, tiny_poses

DEMO = "demo.py"
FRAMES = 12
SIZES = {
    "teacher": {"width": 16, "layers": 2, "basis": 4}, "student": {"hidden": 8, "blocks": 1},
    "mlp": {"width": 16, "stages": 2}, "gcn": {"hidden": 8, "stages": 2},
    "videopose": {"channels": 8, "architecture": "3,1,3"}, "stgcn": {}, "gan": {"width": 16},
}  # fmt: skip


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder to run in: keypoints of one of the tiny data set's people, with the picture's size."""
    monkeypatch.chdir(tmp_path)
    np.savez("video.npz", keypoints=video(), layout="h36m17", image_size=(1000, 1002), fps=10)
    return tmp_path


def video() -> np.ndarray:
    """(T, 17, 2)"""
    return tiny_keypoints(tiny_poses(FRAMES, ("S9",), ("Walking",)))["S9"]["Walking"][0]


def network(method: str, **more):
    """A network with weights that are not the first ones, in evaluation mode."""
    torch.manual_seed(0)
    model = models.create({"gan": "gan_lifter"}.get(method, method), **SIZES[method] | more)
    model.train()
    joints = 17 if method in ("teacher", "student", "gan") else 16
    frames = getattr(model, "receptive_field", 1)
    with torch.no_grad():
        model(torch.rand(32, *[frames] * (frames > 1), joints, 2))
    return model.eval()


def checkpoint(method: str, model, **more) -> str:
    """As the method's training script saves it."""
    state = model.state_dict()
    if method == "gan":
        content = {"state_dict": {f"gen.{name}": value for name, value in state.items()}, "sizes": SIZES["gan"],
                   "method": "kudo", "network": "gan_lifter", "factor": 1.0}  # fmt: skip
    elif method in ("teacher", "student"):
        content = {"model_pos": state, "epoch": 1}
    else:
        content = {"state_dict": state, "epoch": 1}
    torch.save(content | more, f"{method}.bin")
    return f"{method}.bin"


def expected(method: str, model) -> torch.Tensor:
    """What the method's own scoring script makes of the video: (T, J, 3)."""
    pixels = torch.from_numpy(video())
    with torch.no_grad():
        if method in ("teacher", "student"):
            keypoints = normalise(pixels, torch.tensor((1145.0, 1145.0)))
            pose = model(keypoints).pose
            return pose if method == "student" else unproject(keypoints, pose[..., 2:], nearest=None)
        if method == "gan":
            flat = pixels - pixels[:, :1]
            flat = flat / flat[:, 1:].norm(dim=-1).mean(-1)[:, None, None]
            return torch.cat((flat, model(flat).unsqueeze(-1)), -1)
        keypoints = convert(normalise_screen(pixels, 1000, 1002), H36M_17, H36M_16)
        if method == "videopose":
            rows = torch.arange(FRAMES)
            keypoints = keypoints[windows(rows, 0 * rows, 0 * rows + FRAMES - 1, 9, model.causal)]
        return model(keypoints)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("method", SIZES)
def test_every_lifter_sees_what_it_was_trained_on(method, device, work, script):
    """On CUDA to 0.1 mm, where the unit is the metre."""
    model = network(method)
    file = checkpoint(method, model)
    done = script(DEMO, "--device", device, "--ckpt", file, "--keypoints", "video.npz", "--vis-frames", 2,
                  "--filter", 0)  # fmt: skip
    assert done.status == 0, done.err
    found = np.load("demo_out/poses.npz")
    want = expected(method, model)
    want = (want - want[:, :1]).numpy()
    pose = found["poses_camera"]
    pose = pose if want.shape[1] == 17 else convert(pose, H36M_17, H36M_16)
    assert pose.shape == want.shape and np.allclose(pose, want, atol=1e-4) and np.abs(want).max() > 0.01
    assert str(found["method"]) == method and found["poses"].shape == (FRAMES, 17, 3)
    assert np.allclose(found["poses"][..., 2].min(1), 0, atol=1e-5)
    written = {"poses.npz", "poses.json", "poses.bvh", "poses.csv", "poses.trc", "poses.glb", "film.gif"}
    assert written <= {path.name for path in (work / "demo_out").iterdir()}
    with Image.open("demo_out/film.gif") as film:
        assert film.n_frames == (2 if method != "gan" else FRAMES) and film.info["duration"] == 100


def test_json_and_bvh_hold_the_same_poses(work, script):
    done = script(DEMO, "--device", "cpu", "--ckpt", checkpoint("student", network("student")), "--keypoints",
                  "video.npz", "--output", "out", "--vis-frames", 1)  # fmt: skip
    assert done.status == 0, done.err
    poses = np.load("out/poses.npz")["poses"]
    content = json.loads((work / "out" / "poses.json").read_text())
    assert content["joints"] == list(H36M_17.joints) and content["fps"] == 10 and content["method"] == "student"
    assert np.allclose([frame["pose"] for frame in content["frames"]], poses, atol=1e-4)
    motion = read_bvh(work / "out" / "poses.bvh")
    hips = motion.positions[:, motion.joints.index("Hips")]
    assert len(hips) == FRAMES and motion.fps == pytest.approx(10)
    assert np.allclose(np.stack((hips[:, 0], -hips[:, 2], hips[:, 1]), -1), poses[:, 0], atol=1e-4)
    total = np.linalg.norm(np.array([poses[:, c] - poses[:, p] for p, c in H36M_17.bones]), axis=-1).sum(0).mean()
    assert 3 < total < 6  # a person's bones, in metres


def test_a_real_folder_of_openpose_with_gaps(work, script, caplog):
    at = {name: place + (0, 200) for name, place in body(6).items()}
    (work / "frames").mkdir()
    for t in range(6):
        seen = {name: place for name, place in at.items() if (t, name) != (3, "left wrist")}
        other = {name: 0.3 * place for name, place in at.items()}
        people = [listed(other, BODY_25, t), listed(seen, BODY_25, t)] if t != 2 else []
        write(work / "frames" / f"a_{t:012d}_keypoints.json", openpose(*people))
    options = ("--keypoints", "frames", "--ckpt", checkpoint("mlp", network("mlp")), "--vis-frames", 1)
    assert_refused(script(DEMO, *options), "mlp needs the size of the picture", "--image-size")
    done = script(DEMO, *options, "--image-size", "1000x1000", "--smooth", 1, "--camera-pitch", 10, "--fps", 12)
    assert done.status == 0, done.err
    rows = {line[:15].strip(): line[15:].split() for line in done.out.splitlines()}
    assert rows["left wrist"][:3] == ["4", "2", "0"] and rows["right wrist"][:3] == ["5", "1", "0"]
    assert "people: 2 (1: 5 frames" in done.out and "camera 10.0 degrees down (as given)" in done.out
    assert "2 people, one followed" in caplog.text
    assert_refused(script(DEMO, *options, "--person", 3), "--person 3", "2 people")
    small = script(DEMO, *options, "--image-size", "1000x1000", "--person", 2)
    assert small.status == 0 and "the body's height is" in caplog.text


def test_pictures_and_a_person_who_comes_later(work, script):
    points = np.concatenate((np.zeros((2, 17, 2)), video()[:4]))
    np.savez("late.npz", keypoints=points, layout="h36m17")
    (work / "frames").mkdir()
    for t in range(6):
        Image.new("RGB", (1000, 1002), (40 * t, 0, 0)).save(work / "frames" / f"{t}.png")
    ckpt = checkpoint("gcn", network("gcn"))
    done = script(DEMO, "--ckpt", ckpt, "--keypoints", "late.npz", "--input", "frames", "--method", "gcn")
    assert done.status == 0, done.err  # the pictures tell the size
    assert "4 frames in the layout h36m17 (of 6: 2 to 5" in done.out and "1000 x 1002 pixels" in done.out
    with Image.open("demo_out/film.gif") as film:
        assert film.n_frames == 4 and film.convert("RGB").getpixel((60, 60))[0] in range(50, 110)  # the third picture


def test_bare_weights_and_other_words_for_them(work, script):
    state = network("mlp").state_dict()
    for name, content in (("raw", state), ("net", {"net": state}), ("model", {"model": state, "epoch": 3})):
        torch.save(content, f"{name}.pth")
        options = ("--ckpt", f"{name}.pth", "--keypoints", "video.npz", "--image-size", "1000x1002", "--output", name)
        done = script(DEMO, "--device", "cpu", *options, "--vis-frames", 1)
        assert done.status == 0 and "one unit of mlp is 1 m" in done.out, done.err
    poses = [np.load(f"{name}/poses.npz")["poses"] for name in ("raw", "net", "model")]
    assert np.array_equal(poses[0], poses[1]) and np.array_equal(poses[0], poses[2])


def test_frames_that_come_unevenly_are_shown_at_their_times(work, script):
    """A pause of half a second: npz and JSON say when, BVH, film and page wait."""
    times = np.array([0, 0.1, 0.2, 0.3, 0.8, 0.9, 1.0])
    np.savez("uneven.npz", keypoints=video()[:7], layout="h36m17", times=times, fps=7.0, image_size=(1000, 1002))
    ckpt = checkpoint("mlp", network("mlp"))
    done = script(DEMO, "--device", "cpu", "--ckpt", ckpt, "--keypoints", "uneven.npz", "--vis-html", "page.html")
    assert done.status == 0 and "10 frames per second, unevenly, from 0.00 to 1.00 s" in done.out, done.err
    with np.load("demo_out/poses.npz") as found:
        poses = found["poses"]
        assert found["times"] == pytest.approx(times) and found["fps"] == 10 and len(poses) == 7
    content = json.loads((work / "demo_out" / "poses.json").read_text())
    assert [frame["time"] for frame in content["frames"]] == pytest.approx(times) and content["fps"] == 10
    motion = read_bvh(work / "demo_out" / "poses.bvh")
    hips = motion.positions[:, motion.joints.index("Hips")][:, [0, 2, 1]] * (1, -1, 1)
    assert motion.fps == pytest.approx(10) and len(hips) == 11
    assert np.allclose(hips[[0, 3, 8, 10]], poses[[0, 3, 4, 6], 0], atol=1e-4)
    assert np.allclose(hips[5], 0.6 * poses[3, 0] + 0.4 * poses[4, 0], atol=1e-4)
    assert seconds_of("demo_out/film.gif") == pytest.approx(1.1)
    assert '"frames":11,"fps":10' in (work / "page.html").read_text()
    even = script(DEMO, "--device", "cpu", "--ckpt", ckpt, "--keypoints", "uneven.npz", "--fps", 5, "--output", "even")
    assert even.status == 0 and "5 frames per second\n" in even.out
    assert np.load("even/poses.npz")["times"] == pytest.approx(np.arange(7) / 5)


def seconds_of(path) -> float:
    """The delays of an animation, summed."""
    with Image.open(path) as film:
        total = 0
        for i in range(film.n_frames):
            film.seek(i)
            assert film.info["duration"] >= 20  # viewers slow shorter ones down
            total += film.info["duration"]
    return total / 1000


@pytest.mark.parametrize("fps", [24, 30, 60, 120])
def test_the_film_is_as_long_as_the_clip(work, script, fps):
    np.savez("clip.npz", keypoints=np.concatenate([video()] * 2)[:13], layout="h36m17", image_size=(1000, 1002))
    done = script(DEMO, "--device", "cpu", "--ckpt", checkpoint("mlp", network("mlp")), "--keypoints", "clip.npz",
                  "--fps", fps)  # fmt: skip
    assert done.status == 0 and seconds_of("demo_out/film.gif") == pytest.approx(13 / fps, abs=0.0151), done.err
    assert read_bvh(work / "demo_out" / "poses.bvh").fps == pytest.approx(fps, rel=1e-6)


@pytest.mark.parametrize("form", ["{}.jpg", "clip_{:012d}_keypoints"])
def test_more_pictures_than_keypoints(work, script, caplog, form):
    """The names say which picture a frame of keypoints is of; the others are filled in."""
    (work / "frames").mkdir()
    for t in range(8):
        Image.new("RGB", (1000, 1002), (30 * t, 0, 0)).save(work / "frames" / f"{t:03d}.png")
    keep = [2, 3, 6]
    np.savez("some.npz", keypoints=video()[keep], layout="h36m17", frames=[form.format(t) for t in keep])
    done = script(DEMO, "--device", "cpu", "--ckpt", checkpoint("mlp", network("mlp")), "--keypoints", "some.npz",
                  "--input", "frames")  # fmt: skip
    assert done.status == 0 and "5 frames in the layout h36m17 (of 8: 2 to 6" in done.out, done.err
    with np.load("demo_out/poses.npz") as found:
        assert np.allclose(found["keypoints"][[0, 1, 4]], video()[keep], atol=1e-3)
        assert found["times"] == pytest.approx(np.arange(2, 7) / 25)
        assert (found["status"][[2, 3]] == 1).all() and found["frames"][2] == "4 (not in the file)"
    with Image.open("demo_out/film.gif") as film:
        assert film.n_frames == 5 and film.convert("RGB").getpixel((60, 60))[0] in range(40, 80)  # the third picture
    np.savez("some.npz", keypoints=video()[keep], layout="h36m17", frames=["left", "right", "both"])
    refused = script(DEMO, "--ckpt", checkpoint("mlp", network("mlp")), "--keypoints", "some.npz", "--input", "frames")
    assert_refused(refused, "frames has 8 pictures, some.npz 3 frames; expected as many")


def test_refusals(work, script):
    mlp = checkpoint("mlp", network("mlp"))
    shared = ("--keypoints", "video.npz")
    assert_refused(script(DEMO, *shared, "--ckpt", mlp, "--method", "gcn"), "--method gcn", "holds a mlp")
    assert_refused(script(DEMO, "--ckpt", mlp), "--keypoints")
    torch.save({"state_dict": {"fc.weight": torch.ones(2)}}, "other.bin")
    assert_refused(script(DEMO, *shared, "--ckpt", "other.bin"), "no lifter of teacher, student")
    torch.save({"epoch": 3}, "empty.bin")
    assert_refused(script(DEMO, *shared, "--ckpt", "empty.bin"), "it holds epoch; expected state_dict or model_pos")
    state = network("teacher").state_dict()
    del state["fe_net.0.conv1.weight"]
    torch.save({"model_pos": state}, "cut.bin")
    assert_refused(script(DEMO, *shared, "--ckpt", "cut.bin"), "the weights of its teacher are incomplete")
    assert not (work / "demo_out").exists()


def test_a_film_by_ffmpeg(work, script, monkeypatch):
    """With a program of that name on the PATH: an MP4 besides, of as many pictures."""
    (work / "bin").mkdir()
    program = work / "bin" / "ffmpeg"
    program.write_text('#!/bin/sh\nfor last; do :; done\nwc -c > "$last"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{work / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # no PyAV
    done = script(DEMO, "--device", "cpu", "--ckpt", checkpoint("gan", network("gan")), "--keypoints", "video.npz",
                  "--vis-frames", 3)  # fmt: skip
    assert done.status == 0 and "film.mp4" in done.out, done.err
    assert int((work / "demo_out" / "film.mp4").read_text()) % 9 == 0  # three pictures of three bytes a point


def test_the_shell(work):
    """Once as a user runs it: in a process of its own."""
    words = command(DEMO, "--device", "cpu", "--ckpt", checkpoint("mlp", network("mlp")), "--keypoints", "video.npz",
                    "--vis-frames", 1)  # fmt: skip
    done = run_command(words, work)
    assert done.status == 0 and "7 files in demo_out" in done.out, done.err


# ------------------------------------------------------------ parts


@pytest.mark.parametrize("method", [name for name in SIZES if name != "gan"])
def test_sizes_are_found(method, work):
    """With the names of DataParallel, too; what is found makes a network that takes the weights."""
    model = network(method)
    torch.save({"model_pos": {f"module.{k}": v for k, v in model.state_dict().items()}}, "a.bin")
    saved = lifters.load("a.bin")
    assert saved.method == method
    made = models.create(saved.network.name, **saved.network.sizes)
    assert {k: v.shape for k, v in made.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}


def test_a_causal_lifter_over_time(work):
    model = network("videopose", causal=True)
    options = json.dumps({"causal": True})
    checkpoint("videopose", model, options=options)
    saved = lifters.load("videopose.bin")
    assert saved.network.sizes["causal"] is True and lifters.load("videopose.bin", causal=False)
    keypoints = lifters.input_of(saved, torch.from_numpy(video()), (1000, 1002))
    pose = convert(lifters.camera_poses(saved, model, keypoints), H36M_17, H36M_16)
    want = expected("videopose", model)
    assert torch.allclose(pose, want - want[:, :1], atol=1e-5)


def test_long_videos_go_in_parts():
    model = network("videopose")
    saved = lifters.SavedLifter("videopose", SavedNetwork("videopose", {}, {}))
    keypoints = torch.rand(lifters.BATCH + 30, 16, 2)
    pose = lifters.camera_poses(saved, model, keypoints)
    tail = lifters.camera_poses(saved, model, keypoints[-200:])
    assert len(pose) == lifters.BATCH + 30 and torch.allclose(pose[-190:], tail[-190:], atol=1e-5)


def test_upright():
    """The camera's pitch is found again from people who stand, and their feet are on the floor."""
    for camera, (clip, pitch) in zip(h36m_cameras()["S9"], _seen_people(), strict=True):
        assert upright.estimate_pitch(clip) == pytest.approx(pitch, abs=4), camera.id
        world = upright.on_floor(upright.to_world(clip, pitch))
        up = world[:, H36M_17.index("head")] - world[:, H36M_17.index("left foot")]
        assert (up[:, 2] > 0.9 * np.linalg.norm(up, axis=-1)).all() and np.allclose(world[..., 2].min(1), 0)
        assert upright.human_scale(0.3 * clip) == pytest.approx(1 / 0.3, rel=0.25)
        assert np.allclose(upright.to_world(clip, 0), np.stack((clip[..., 0], clip[..., 2], -clip[..., 1]), -1))
    assert upright.estimate_pitch(clip @ np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])) == 0  # lies towards the camera


def _seen_people():
    world = tiny_poses(20, ("S9",), ("Walking",), H36M_17)["S9"]["Walking"]
    for camera in h36m_cameras()["S9"]:
        orientation = torch.tensor(camera.orientation)
        points = world_to_camera(torch.from_numpy(world), orientation, torch.tensor(camera.translation)).numpy()
        forward = quaternion_to_matrix(orientation) @ torch.tensor((0.0, 0.0, 1.0))
        yield points - points[:, :1], float(torch.rad2deg(torch.asin(-forward[2])))


def test_poses_without_size():
    with pytest.raises(InputError, match="all joints in one place"):
        lifters.check_size(torch.ones(3, 17, 2), "a.npz")


def save_finder(joints: int = 16, sure: float = 1.0) -> None:
    """An untrained image network of train_hourglass.py that is sure of every joint."""
    torch.manual_seed(0)
    name, sizes = parse_arch("msra_18", joints)
    model = models.create(name, **sizes)
    with torch.no_grad():
        model.hm.bias.fill_(sure)
    torch.save(
        {"state_dict": model.state_dict(), "arch": "msra_18", "options": json.dumps({"input_h": 64, "input_w": 64})},
        "finder.pth",
    )


@pytest.mark.parametrize(
    ("joints", "device"), [(16, "cpu"), (17, "cpu"), pytest.param(16, "cuda", marks=pytest.mark.gpu)]
)
def test_a_2d_model_of_ours_in_front_of_a_lifter(work, script, joints, device):
    """A folder of frames: 2D by the image network, lifted, and the page for the browser."""
    save_finder(joints)
    checkpoint("mlp", network("mlp"))
    (work / "frames").mkdir()
    for t in range(3):
        noise = np.random.default_rng(t).integers(0, 255, (48, 80, 3), np.uint8)
        Image.fromarray(noise).save(f"frames/{t}.png")
    files = ("--input", "frames", "--load_model", "finder.pth", "--ckpt", "mlp.bin", "--vis-html", "page.html")
    done = script(DEMO, *files, "--device", device)
    assert done.status == 0, done.err
    assert f"3 frames in the layout {'coco17' if joints == 17 else 'mpii16'}" in done.out
    assert "80 x 48 pixels" in done.out
    poses = load_npz("demo_out/poses.npz")
    assert poses["poses"].shape == (3, 17, 3) and np.isfinite(poses["poses"]).all()
    content = contents(work / "page.html")
    assert [method["name"] for method in content["methods"]] == ["mlp", "2D input"]
    assert content["frames"] == 3 and len(content["pictures"]) == 3
    assert (content["pictures"][0]["width"], content["pictures"][0]["height"]) == (80, 48)


def test_2d_poses_from_nowhere_or_from_two_sides(work, script):
    save_finder(sure=0.0)
    checkpoint("mlp", network("mlp"))
    Image.new("RGB", (64, 64)).save("black.png")
    lifter = ("--ckpt", "mlp.bin")
    both = ("--input", "black.png", "--load_model", "finder.pth", "--keypoints", "video.npz")
    assert_refused(script(DEMO, *lifter, *both), "--keypoints and --load_model")
    assert_refused(script(DEMO, *lifter, "--load_model", "finder.pth"), "--input VIDEO")
    assert_refused(script(DEMO, *lifter, "--input", "none.mp4", "--load_model", "finder.pth"), "none.mp4")
    assert_refused(script(DEMO, *lifter, *both[:2], "--load_model", "none.pth"), "none.pth")
    assert_refused(script(DEMO, *lifter, *both[:4]), "black.png", "missing in every frame")
    assert_refused(script(DEMO, *lifter, *both[:4], "--box", "1,2,3"), "X,Y,WIDTH,HEIGHT")
    assert not (work / "demo_out").exists()
