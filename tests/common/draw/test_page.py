"""The page for the browser: what the file holds, and, where a Chromium is at hand, how it behaves there."""

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from common.draw import page as vis_html
from common.draw.scene import FROM_ABOVE, camera_azimuth, to_z_up, turntable
from common.errors import InputError
from common.run.options import Parser
from common.skeleton import COCO_17, H36M_17
from tests import browser
from tests.tiny_dataset import tiny_poses

needs_browser = pytest.mark.skipif(browser.find() is None, reason="no Chromium on the PATH")
SIDE = {name: H36M_17.index(name) for name in ("left wrist", "right wrist", "left shoulder", "right shoulder")}


def walk(frames: int = 40) -> np.ndarray:
    """A body (T, 17, 3), z up, that faces y and walks 1 m along it."""
    pose = tiny_poses(frames, ("S1",), ("Walking",), H36M_17)["S1"]["Walking"].astype(float)
    facing = np.cross(pose[:, 11] - pose[:, 14], (0, 0, 1.0))[..., :2].mean(0)  # from right to left shoulder, x up
    angle = np.arctan2(*facing[::-1]) - np.pi / 2
    turn = np.array(((np.cos(angle), np.sin(angle), 0), (-np.sin(angle), np.cos(angle), 0), (0, 0, 1)))
    pose = (pose - pose[:, :1] * (1, 1, 0)) @ turn.T
    return pose - (0, 0.5, 0) + np.linspace(0, 1, frames)[:, None, None] * (0, 1, 0)


def contents(path) -> dict:
    """The data in a page."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text())[1])


def decoded(packed: dict, dims: int = 3, joints: int = 17) -> np.ndarray:
    """Positions as the page reads them."""
    codes = np.frombuffer(base64.b64decode(packed["codes"]), "<i2").reshape(-1, joints, dims).astype(float)
    return np.where(codes == vis_html.MISSING, np.nan, np.array(packed["centre"]) + packed["scale"] * codes)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A page of two methods and the truth, a thousand frames, 2D input, one image."""
    path = tmp_path_factory.mktemp("page") / "three.html"
    truth = walk(1000)
    noise = np.random.default_rng(0).normal(0, 0.02, truth.shape)
    poses = {"teacher": truth + noise, "student": truth + 2 * noise, "truth": truth}
    errors = {name: 1000 * np.linalg.norm(poses[name] - truth, axis=-1).mean(-1) for name in ("teacher", "student")}
    keypoints = np.stack((150 - 60 * truth[..., 0], 190 - 90 * truth[..., 2]), -1)
    image = Image.new("RGB", (300, 200), (20, 160, 60))
    return vis_html.write_page(path, poses, H36M_17, keypoints, image, 50, errors, "Three bodies", metric="N-MPJPE")


# ------------------------------------------------------------ the file


def test_a_thousand_frames_of_three_bodies_are_small_and_exact(three):
    assert three.stat().st_size < 1_000_000
    content = contents(three)
    truth = next(method for method in content["methods"] if method["truth"])
    found = decoded(truth["pose"])
    assert np.abs(found - walk(1000)).max() <= 0.5001 * truth["pose"]["scale"] < 0.00003
    assert "within 0.0" in content["precision"] and "mm" in content["precision"]
    assert content["frames"] == 1000 and content["fps"] == 50
    assert [method["name"] for method in content["methods"]] == ["teacher", "student", "truth", "2D input"]


def test_the_page_needs_no_network(three):
    text = three.read_text()
    assert "default-src 'none'" in text
    assert not re.search(r"https?://|@import|<link|<iframe|src=|fetch\(|XMLHttpRequest|import\(", text)


def test_camera_frames_are_turned_upright_not_mirrored(tmp_path):
    """The world's pose comes back from what a tilted camera sees; a level camera needs no orientation."""
    orientation = torch.tensor((0.1407056450843811, -0.1500701755285263, -0.755240797996521, 0.6223280429840088))
    axes = to_z_up(np.eye(3), orientation)  # rows: the camera's axes in the world
    assert np.linalg.det(axes) == pytest.approx(1)
    world = walk(3)
    seen = world @ axes.T
    path = vis_html.write_page(
        tmp_path / "a.html", {"a": seen}, H36M_17, frame="camera", orientation=orientation, errors=np.ones(3)
    )
    content = contents(path)
    np.testing.assert_allclose(decoded(content["methods"][0]["pose"]), world, atol=1e-4)
    assert content["azimuth"] == camera_azimuth(orientation)
    level = np.stack((world[..., 0], -world[..., 2], world[..., 1]), -1)
    path = vis_html.write_page(tmp_path / "b.html", {"a": level}, H36M_17, frame="camera")
    np.testing.assert_allclose(decoded(contents(path)["methods"][0]["pose"]), world, atol=1e-4)


def test_missing_joints_and_names_that_look_like_html(tmp_path):
    pose = walk(4)
    pose[2, 5, 1] = np.nan
    name = "</script><b>&__DATA__"
    path = vis_html.write_page(tmp_path / "x.html", {name: pose}, H36M_17, title="<i>__DATA__ & more")
    content = contents(path)
    assert content["methods"][0]["name"] == name
    found = decoded(content["methods"][0]["pose"])
    assert np.isnan(found[2, 5]).all() and np.isfinite(np.delete(found.reshape(-1, 3), 2 * 17 + 5, 0)).all()
    text = path.read_text()
    assert "<title>&lt;i&gt;__DATA__ &amp; more</title>" in text and "<b>" not in text


def test_pictures_of_a_video_are_few_and_small_but_keep_their_true_size(tmp_path):
    images = [np.full((300, 800, 3), t % 255, np.uint8) for t in range(300)]
    points = np.zeros((300, 17, 2))
    content = contents(vis_html.write_page(tmp_path / "v.html", {}, H36M_17, points, images))
    assert len(content["pictures"]) == 100 and content["every"] == 3
    third = content["pictures"][2]
    assert (third["width"], third["height"]) == (800, 300)
    with Image.open(io.BytesIO(base64.b64decode(third["url"].split(",")[1]))) as picture:
        assert picture.size == (400, 150) and abs(picture.getpixel((5, 5))[0] - 6) < 3


def test_bad_input_is_refused_in_one_line(tmp_path):
    pose, page = walk(4), tmp_path / "page.html"
    for arguments, options, words in (
        ((tmp_path / "page.txt", {"a": pose}, H36M_17), {}, "ends in .html"),
        ((page, {"a": pose[:, :16]}, H36M_17), {}, r"\(4, 16, 3\)"),
        ((page, {"a": pose, "b": pose[:3]}, H36M_17), {}, "'a' 4, 'b' 3"),
        ((page, {"a": pose}, H36M_17), {"errors": {"b": np.ones(4)}}, "errors of 'b'"),
        ((page, {"a": pose}, H36M_17), {"errors": np.ones(5)}, r"\(5,\)"),
        ((page, {"a": pose}, H36M_17), {"keypoints": np.zeros((3, 17, 2))}, "2D 2D input' 3"),
        ((page, {"a": pose}, H36M_17), {"frame": "screen"}, "'screen'"),
        ((page, {"a": pose}, H36M_17), {"place": "bed"}, "'bed'"),
        ((page, {"a": pose}, H36M_17), {"fps": 0}, "fps 0"),
        ((page, {"a": pose}, H36M_17), {"image": [np.zeros((2, 2, 3), np.uint8)] * 2}, "2 images for 4 frames"),
        ((page, {"a": pose}, H36M_17), {"image": np.zeros((2, 2, 3))}, "uint8"),
        ((page, {}, H36M_17), {}, "neither poses nor keypoints"),
    ):
        with pytest.raises(InputError, match=words):
            vis_html.write_page(*arguments, **options)
    assert not list(tmp_path.iterdir())


def test_the_option():
    parser = Parser()
    parser.add_table("Testing", [vis_html.VIS_HTML])
    assert parser.parse_args([]).vis_html is None
    assert parser.parse_args(["--vis-html", "a.html"]).vis_html.name == "a.html"


# ------------------------------------------------------------ in the browser


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser.Page(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(chromium, three):
    """The page of three bodies, freshly loaded."""
    chromium.log.clear()
    chromium.requests.clear()
    chromium.size(1100, 760)
    chromium.open(three)
    yield chromium
    assert not chromium.log  # no error, no warning
    assert all(url.startswith(("file://", "data:image/jpeg")) for url in chromium.requests)


def state(page, name: str):
    return page.run(f"poseView.state.{name}")


def joints(page, method: int) -> np.ndarray:
    """Where the joints of a method are drawn, (J, 2), CSS pixels of the window."""
    return np.array(
        page.run(f"""(() => {{
        const box = document.getElementById("scene").getBoundingClientRect();
        return poseView.methods[{method}].screen.map((point) => [box.x + point[0], box.y + point[1]]);
    }})()""")
    )


def pixels(page, tmp_path) -> np.ndarray:
    with Image.open(page.screenshot(tmp_path / "shot.png")) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def middle(page, selector: str) -> tuple[float, float]:
    return tuple(page.run(f"({browser.MIDDLE})({json.dumps(selector)})"))


def count(shot: np.ndarray, colour: str, box: slice | tuple = ...) -> int:
    """Pixels of just this colour."""
    return int((shot[box] == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(-1).sum())


@needs_browser
def test_it_draws_what_the_turntable_sees(page, tmp_path):
    """The page's joints are those of `scene.turntable` but for scale and place; the sides have their colours."""
    for azimuth in (0, 130):
        page.run(f"poseView.state.azimuth = {azimuth}, poseView.state.frame = 100, poseView.draw()")
        floor = page.run("poseView.floor()")
        pose = walk(1000)
        placed = pose - pose[:, :1]
        placed = placed[100] - (0, 0, placed[..., 2].min())
        distance = 5 * max(floor["radius"], floor["height"])
        expected, _ = turntable(placed - (0, 0, floor["height"] / 2), azimuth, FROM_ABOVE, distance)
        found = joints(page, 2) * (1, -1)
        expected, found = expected - expected.mean(0), found - found.mean(0)
        scale = (expected * found).sum() / (expected**2).sum()
        assert scale > 50 and np.abs(found - scale * expected).max() < 0.2
    shot = pixels(page, tmp_path)
    assert min(count(shot, colour) for colour in vis_html.COLOURS.values()) > 100


@needs_browser
def test_left_is_left(page):
    """Seen from behind, the left hand is on the left; from the front, on the right."""
    assert state(page, "azimuth") == 0
    for azimuth, sign in ((0, 1), (180, -1)):
        page.run(f"poseView.state.azimuth = {azimuth}, poseView.draw()")
        at = joints(page, 2)
        assert sign * (at[SIDE["right shoulder"], 0] - at[SIDE["left shoulder"], 0]) > 10
        assert at[H36M_17.index("head"), 1] < at[H36M_17.index("left foot"), 1]


@needs_browser
def test_the_mouse_turns_zooms_and_moves(page, tmp_path):
    before, (x, y) = pixels(page, tmp_path), middle(page, "#scene")
    page.drag((x, y), (x + 100, y + 50))
    assert state(page, "azimuth") == pytest.approx(-50) and state(page, "elevation") == pytest.approx(34)
    assert (pixels(page, tmp_path) != before).any(-1).mean() > 0.01
    size = np.ptp(joints(page, 2), 0)
    page.mouse("Wheel", x, y, deltaX=0, deltaY=-300)
    page.settle()
    assert state(page, "zoom") > 1.3 and (np.ptp(joints(page, 2), 0) > 1.3 * size).all()
    page.mouse("Pressed", x, y, button="left", buttons=1, clickCount=1, modifiers=8)
    page.mouse("Moved", x + 30, y, button="left", buttons=1, modifiers=8)
    page.mouse("Released", x + 30, y, button="left", clickCount=1)
    assert state(page, "panX") == pytest.approx(30)
    page.mouse("Moved", 5, 5)  # no joint under the mouse
    page.key("r")
    assert [state(page, name) for name in ("azimuth", "elevation", "zoom", "panX")] == [0, 14, 1, 0]
    page.run("document.activeElement.blur()")  # no frame around the canvas
    page.settle()
    assert (pixels(page, tmp_path) != before).any(-1).mean() < 0.001


@needs_browser
def test_touch_turns_and_pinches(page):
    page.size(420, 900, mobile=True)
    page.settle()
    x, y = middle(page, "#scene")

    def touch(kind, *points):
        points = [{"x": a, "y": b, "id": i} for i, (a, b) in enumerate(points)]
        page.send("Input.dispatchTouchEvent", type=f"touch{kind}", touchPoints=points)

    touch("Start", (x, y))
    touch("Move", (x - 40, y))
    touch("End")
    assert state(page, "azimuth") == pytest.approx(20)
    touch("Start", (x - 20, y), (x + 20, y))
    touch("Move", (x - 40, y), (x + 40, y))
    touch("End")
    assert state(page, "zoom") == pytest.approx(2, rel=0.01) and state(page, "azimuth") == pytest.approx(20)
    boxes = page.run("""[...document.querySelectorAll("#flat, #solid, aside, #plot, #controls, footer")]
        .map((part) => part.getBoundingClientRect()).map((box) => [box.top, box.bottom])""")
    ordered = sorted(boxes)
    assert all(lower[0] >= upper[1] - 1 for upper, lower in zip(ordered, ordered[1:], strict=False))  # nothing overlaps


@needs_browser
def test_it_is_stepped_scrubbed_and_played(page):
    for key, modifiers, frame in (
        ("ArrowRight", 0, 1), ("ArrowRight", 8, 11), ("ArrowLeft", 0, 10), ("End", 0, 999), ("ArrowRight", 0, 999),
        ("Home", 0, 0),
    ):  # fmt: skip
        page.key(key, modifiers)
        assert state(page, "frame") == frame
    page.click("#next")
    page.click("#next")
    page.click("#back")
    assert state(page, "frame") == 1
    page.click("#time")
    assert abs(state(page, "frame") - 500) < 15
    page.key("ArrowRight")  # the slider does not step a second time by itself
    frame = state(page, "frame")
    assert page.run("document.getElementById('time').valueAsNumber") == frame
    assert f"frame {frame + 1}/1000, {frame / 50:.2f} s" == page.run("document.getElementById('value').textContent")
    x, y = middle(page, "#curves")
    page.drag((x, y), (x + 200, y))
    assert 600 < state(page, "frame") < 750
    page.key("Home")
    page.key(" ")
    assert state(page, "playing")
    page.run("new Promise((done) => setTimeout(done, 400))")
    page.key(" ")
    assert not state(page, "playing") and 5 < state(page, "frame") < 60  # 50 frames a second
    stopped = state(page, "frame")
    page.settle()
    assert state(page, "frame") == stopped
    page.run("document.getElementById('speed').value = '4'")
    page.run("document.getElementById('speed').dispatchEvent(new Event('change'))")
    page.click("#play")
    assert state(page, "playing") and state(page, "speed") == 4


@needs_browser
def test_errors_and_joint_names_are_told(page):
    page.key("End")
    text = page.run("document.getElementById('methods').innerText")
    error = contents_errors(page, 0)
    assert f"N-MPJPE {error[-1]:.1f} mm, mean {error.mean():.1f} mm" in text.replace("\n", " ")
    x, y = joints(page, 0)[SIDE["left wrist"]]
    page.mouse("Moved", x, y)
    page.settle()
    tip = page.run("document.getElementById('tip').innerText").splitlines()
    assert tip[0] == "left wrist" and tip[1] in ("teacher", "student") and "from the truth" in tip[3]
    page.mouse("Moved", 5, 5)
    page.settle()
    assert page.run("document.getElementById('tip').hidden")


def contents_errors(page, method: int) -> np.ndarray:
    return np.array(page.run(f"[...poseView.methods[{method}].errors]"))


@needs_browser
def test_methods_are_shown_hidden_and_set_side_by_side(page, tmp_path):
    page.key("2")
    assert page.run("poseView.methods.map((method) => method.on)") == [True, False, True, True]
    assert page.run("poseView.methods[1].screen") is None
    page.key("2")
    together = joints(page, 0).mean(0)[0], joints(page, 2).mean(0)[0]
    assert abs(together[0] - together[1]) < 5
    page.click("#beside")
    apart = [joints(page, method).mean(0)[0] for method in range(3)]
    assert apart[1] - apart[0] == pytest.approx(apart[2] - apart[1], abs=3) and apart[1] - apart[0] > 100
    page.run("for (const method of poseView.methods) if (method.on) method.box.click()")
    page.settle()
    assert count(pixels(page, tmp_path)[100:500, 360:840], vis_html.COLOURS["left"]) == 0


@needs_browser
def test_places(page):
    """Held by the root it stays; as it moves, it walks."""

    def hip(frame):
        page.run(f"poseView.state.frame = {frame}, poseView.draw()")
        return joints(page, 2)[0]

    assert np.abs(hip(0) - hip(999)).max() < 0.01
    page.run("(place => { place.value = 'world'; place.dispatchEvent(new Event('change')) })"
             "(document.getElementById('place'))")  # fmt: skip
    page.run("poseView.state.azimuth = 90")
    assert np.abs(hip(0) - hip(999)).max() > 60


@needs_browser
def test_dark_and_light_and_the_picture(page, tmp_path):
    assert count(pixels(page, tmp_path), "#ffffff") > 200_000
    page.click("#theme")
    shot = pixels(page, tmp_path)
    assert count(shot, vis_html.PALETTES["dark"]["paper"]) > 200_000
    x, y = map(int, middle(page, "#picture"))
    assert np.abs(shot[y - 80, x - 120] - (20, 160, 60)).max() < 6  # the image behind the keypoints
    for theme in ("dark", "light"):
        page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        page.settle()
        assert state(page, "theme") == theme


@needs_browser
def test_the_keyboard_reaches_everything(page):
    reached = []
    for _ in range(22):
        page.key("Tab")
        reached.append(page.run("document.activeElement.id || document.activeElement.type"))
    assert {"picture", "scene", "checkbox", "names", "beside", "place", "reset", "theme", "play", "back", "next",
            "time", "speed"} <= set(reached)  # fmt: skip
    names = page.run("""[...document.querySelectorAll("button, input, select, canvas")].map((part) =>
        (part.getAttribute("aria-label") || part.innerText || part.parentElement.innerText).trim())""")
    assert all(names)


@needs_browser
def test_three_bodies_stay_smooth(page):
    """A picture takes a few milliseconds; 16 are allowed at 60 a second."""
    each = page.run("""(() => { const begin = performance.now();
        for (let t = 0; t < 100; t++) { poseView.state.frame = t; poseView.draw(); }
        return (performance.now() - begin) / 100; })()""")
    assert each < 16


@needs_browser
def test_another_skeleton_missing_joints_and_2d_only(chromium, tmp_path):
    pose = walk(5)
    pose[1] = np.nan
    pose[2, 0] = np.nan
    other = np.random.default_rng(1).normal(0, 0.3, (5, 17, 3))
    points = {"found": np.random.default_rng(2).uniform(0, 90, (5, 17, 2)), "truth": np.ones((5, 17, 2))}
    both = {"h36m": H36M_17, "coco": COCO_17}
    pages = (
        vis_html.write_page(tmp_path / "a.html", {"h36m": pose, "coco": other}, both, unit=None, place="floor"),
        vis_html.write_page(tmp_path / "b.html", {}, COCO_17, points),
        vis_html.write_page(tmp_path / "c.html", {"one": pose[1:2]}, H36M_17),
    )
    chromium.log.clear()
    for i, path in enumerate(pages):
        chromium.open(path)
        for _ in range(4):
            chromium.key("ArrowRight")
        assert chromium.run("getComputedStyle(document.getElementById('solid')).display") == (
            "none" if i == 1 else "flex"
        )
        assert chromium.run("getComputedStyle(document.getElementById('flat')).display") == (
            "flex" if i == 1 else "none"
        )
    assert not chromium.log
