"""demo.py on pictures alone: the detector and the lifter that it takes by itself, and what it says where that fails."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.draw import animation
from common.files.npz import load_npz
from common.video import detect, detector_files
from common.video.frames import Pictures
from methods import released
from tests.common.draw.test_page import contents
from tests.common.video.test_frames import film
from tests.conftest import ROOT, assert_refused
from tests.test_demo_lifters import DEMO, checkpoint, network, video

FRAMES = 6


@pytest.fixture
def work(tmp_path, monkeypatch):
    """Pictures, a lifter, and a detector that finds two people in each picture."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "frames").mkdir()
    for t in range(FRAMES):
        Image.new("RGB", (1000, 1002), (9 * t, 0, 0)).save(f"frames/{t}.png")
    checkpoint("mlp", network("mlp"))
    points = video()[:FRAMES]
    small = 0.5 * points + (400, 300)
    people = [[np.concatenate((p, np.ones((17, 1))), -1) for p in pair] for pair in zip(points, small, strict=True)]
    asked = []

    def detector(folder, count, box):
        left = iter(people)
        asked.append((folder, count, box))
        return detect.Detector(lambda _: next(left)[:count], "h36m17")

    monkeypatch.setattr(detect, "blazepose_detector", detector)
    return asked


def test_an_input_and_nothing_else(work, script, monkeypatch, tmp_path):
    monkeypatch.setattr(released, "RELEASED", tmp_path / "released")
    (tmp_path / "released").mkdir()
    refused = script(DEMO, "--input", "frames")
    assert_refused(refused, str(tmp_path / "released"), "--ckpt FILE")
    best = tmp_path / f"released/{released.BEST}.pth"
    (tmp_path / "mlp.bin").rename(best)
    done = script(DEMO, "--input", "frames")
    assert done.status == 0, done.err
    assert work == [(detector_files.FOLDER, 1, None)] and detector_files.FOLDER == ROOT / "checkpoint/detectors"
    poses = load_npz("demo_out/poses.npz")
    assert poses["poses"].shape == (FRAMES, 17, 3) and str(poses["checkpoint"]).endswith(best.name)
    assert "layout h36m17" in done.out and "1000 x 1002 pixels" in done.out


def test_where_to_look_and_for_whom(work, script):
    more = ("--input", "frames", "--ckpt", "mlp.bin", "--detector-dir", "here")
    done = script(DEMO, *more, "--box", "1,2,30,40", "--person", "2")
    assert done.status == 0 and work == [(Path("here"), 2, (1, 2, 30, 40))], done.err
    np.testing.assert_allclose(
        load_npz("demo_out/poses.npz")["keypoints"], 0.5 * video()[:FRAMES] + (400, 300), atol=1e-3
    )
    assert_refused(script(DEMO, *more, "--people", "0"), "a number of people above 0, or all")
    assert_refused(script(DEMO, *more, "--people", "2", "--person", "2"), "--person 2", "--people")


def test_several_people_in_one_world(work, script, tmp_path):
    """The second, half as large, 300 pixels to the right of where it would be: lifted alike, and further away."""
    done = script(DEMO, "--input", "frames", "--ckpt", "mlp.bin", "--people", "all", "--vis-html", "page.html")
    assert done.status == 0, done.err
    assert "2 people of 6 frames (1: 6 frames, 2: 6 frames)" in done.out and "person_2/poses.bvh" in done.out
    one, two = (load_npz(f"demo_out/person_{n}/poses.npz") for n in (1, 2))
    assert one["poses"].shape == two["poses"].shape == (FRAMES, 17, 3)
    assert np.abs(one["poses"].mean(1) - two["poses"].mean(1))[:, 1].min() > 0.1
    np.testing.assert_allclose(two["keypoints"], 0.5 * one["keypoints"] + (400, 300), atol=1e-3)
    content = contents(tmp_path / "page.html")
    assert [method["name"] for method in content["methods"]] == ["person 1", "person 2"]
    assert len(Pictures(tmp_path / "demo_out/film.gif")) == FRAMES
    assert (tmp_path / "demo_out/people.glb").read_bytes()[:4] == b"glTF"
    assert not animation.writes_mp4() or (tmp_path / "demo_out/film.mp4").stat().st_size > 1000
    done = script(DEMO, "--input", "frames", "--ckpt", "mlp.bin", "--people", "3", "--output", "three")
    assert "2 people of 6 frames" in done.out, done.err


def test_several_people_of_a_file(work, script):
    """Who is seen in few frames only is left out."""
    points = np.concatenate((video(), np.ones((12, 17, 1))), -1).tolist()
    results = [
        {"image_id": t, "category_id": 1, "score": 1, "keypoints": np.ravel(np.array(pose) * scale + shift).tolist()}
        for t, pose in enumerate(points)
        for scale, shift in ((1, 0), ((0.5, 0.5, 1), (400, 300, 0)), ((0.2, 0.2, 1), (0, 0, 0)))
        if scale == 1 or scale[0] > 0.4 or t == 3
    ]
    Path("people.json").write_text(json.dumps(results))
    more = ("--keypoints", "people.json", "--ckpt", "mlp.bin", "--people", "all", "--layout", "h36m17")
    assert_refused(script(DEMO, *more), "--image-size WIDTHxHEIGHT")
    done = script(DEMO, *more, "--image-size", "1000x1002")
    assert done.status == 0 and "2 people of 12 frames" in done.out, done


def test_a_damaged_video_and_one_without_pictures(work, script, tmp_path, caplog):
    """What was readable is written, and said; nothing at all is one line."""
    content = film(tmp_path / "film.mp4", size=(1000, 1002), count=9).read_bytes()
    Path("film.mp4").write_bytes(content[: content.index(b"mdat") + (len(content) - content.index(b"mdat")) // 2])
    done = script(DEMO, "--input", "film.mp4", "--ckpt", "mlp.bin", "--detector-dir", "here")
    assert done.status == 0 and "of 9 frames are there" in caplog.text, done.err
    assert 1 <= len(load_npz("demo_out/poses.npz")["poses"]) < FRAMES
    Path("empty.mp4").write_bytes(content[:200])
    assert_refused(script(DEMO, "--input", "empty.mp4", "--ckpt", "mlp.bin", "--output", "none"), "empty.mp4")
    assert not Path("none").exists()


def test_options_that_do_not_go_together(work, script):
    ckpt = ("--ckpt", "mlp.bin")
    np.savez("video.npz", keypoints=video(), layout="h36m17", image_size=(1000, 1002))
    assert_refused(script(DEMO, *ckpt), "--input VIDEO")
    assert_refused(script(DEMO, *ckpt, "--input", "frames", "--detector", "hourglass"), "--load_model FILE")
    assert_refused(
        script(DEMO, *ckpt, "--input", "frames", "--detector", "blazepose", "--load_model", "x.pth"), "go together"
    )
    assert_refused(
        script(DEMO, *ckpt, "--keypoints", "video.npz", "--detector", "blazepose"), "--keypoints and --detector"
    )
    both = ("--detector", "rtmlib", "--box", "1,2,30,40")
    assert_refused(script(DEMO, *ckpt, "--input", "frames", *both), "rtmlib looks everywhere")
