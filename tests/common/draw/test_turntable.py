"""Pictures of a lifted pose: what is drawn where and in which colour, files and their sizes, bad input."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor

from common.draw import turntable
from common.draw.colours import COLOURS
from common.errors import InputError
from common.skeleton import H36M_17
from common.video.frames import Pictures
from tests.golden.adversarial_oracles import turn_about_y

BLUE, ORANGE, GREY = (np.array(ImageColor.getrgb(COLOURS[side])) for side in ("left", "right", "centre"))


def upright() -> np.ndarray:
    """A person (17, 3) who faces the camera: x right, y down, z forward; the left side is at the right of the image."""
    places = {
        "hip": (0, 0, 0), "spine": (0, -0.25, 0), "thorax": (0, -0.5, 0), "neck": (0, -0.6, -0.1),
        "head": (0, -0.75, -0.05), "left hip": (0.15, 0, 0), "left knee": (0.17, 0.45, -0.05),
        "left foot": (0.17, 0.9, 0), "left shoulder": (0.2, -0.48, 0), "left elbow": (0.35, -0.2, 0.05),
        "left wrist": (0.4, 0.05, -0.1),
    }  # fmt: skip
    places |= {n.replace("left", "right"): (-x, y, z) for n, (x, y, z) in places.items() if n.startswith("left")}
    return np.array([places[name] for name in H36M_17.joints], float)


def pixels() -> np.ndarray:
    """The same person in a picture of 400 x 500."""
    return upright()[:, :2] * 230 + (200, 240)


def where(picture: Image.Image, colour: np.ndarray, top: float = 0.0, bottom: float = 0.9) -> np.ndarray:
    """(N, 2) x and y of the pixels of a colour, above the legend."""
    array = np.asarray(picture.convert("RGB"), int)
    rows, columns = np.nonzero((np.abs(array - colour) < 12).all(-1))
    inside = (rows > top * picture.height) & (rows < bottom * picture.height)
    return np.stack((columns[inside], rows[inside]), -1)


def colour_at(picture: Image.Image, joint: str, points: np.ndarray) -> np.ndarray:
    x, y = points[H36M_17.index(joint)].round().astype(int).tolist()
    return np.array(picture.getpixel((x, y)))


def test_overlay_keeps_the_picture_and_colours_the_sides():
    image = Image.new("RGB", (400, 500), (40, 90, 60))
    picture = turntable.overlay(pixels(), image)
    assert picture.size == image.size
    for side, colour in (("left", BLUE), ("right", ORANGE)):
        for joint in ("foot", "knee", "wrist", "elbow", "shoulder"):
            assert np.abs(colour_at(picture, f"{side} {joint}", pixels()) - colour).max() < 12
    assert np.abs(colour_at(picture, "head", pixels()) - GREY).max() < 12
    assert picture.getpixel((5, 5)) == (40, 90, 60) and image.getpixel((200, 240)) == (40, 90, 60)


def test_overlay_on_paper_fits_any_unit():
    for factor, shift in ((1, 0), (1e-3, -5), (900, 1e5)):
        picture = turntable.overlay(factor * upright()[:, :2] + shift)
        assert max(picture.size) == turntable.CANVAS
        left, right = (where(picture, colour) for colour in (BLUE, ORANGE))
        assert left[:, 0].mean() > picture.width / 2 > right[:, 0].mean()
        assert np.ptp(left[:, 1]) > 0.6 * picture.height


def test_missing_joints_are_left_out():
    points = pixels()
    points[H36M_17.index("left wrist")] = np.nan
    full, without = (where(turntable.overlay(p, Image.new("RGB", (400, 500))), BLUE) for p in (pixels(), points))
    assert 0.5 * len(full) < len(without) < len(full)


def test_views(tmp_path):
    files = turntable.save_views(tmp_path / "out", upright())
    assert [file.name for file in files] == [f"rot_{angle:03d}_degree.png" for angle in range(0, 360, 15)]
    pictures = {int(file.name[4:7]): Image.open(file) for file in files}
    assert len({picture.size for picture in pictures.values()}) == 1
    front, back = pictures[0], pictures[180]
    middle = front.width / 2
    assert where(front, BLUE)[:, 0].mean() > middle + 20 and where(front, ORANGE)[:, 0].mean() < middle - 20
    assert where(back, BLUE)[:, 0].mean() < middle - 20 and where(back, ORANGE)[:, 0].mean() > middle + 20
    head, feet = where(front, GREY, 0.06), where(front, BLUE)
    assert head[:, 1].min() < feet[:, 1].min() and feet[:, 1].max() > 0.75 * front.height  # upright


def test_the_angle_turns_as_the_lifter_does():
    """At 90 degrees x on the picture is depth: a nose before the body lies to the left."""
    for angle in (90.0, 37.0, 250.0):
        (picture,) = turntable.turned(upright(), [angle])
        pose = torch.from_numpy(upright())[None]
        turned = turn_about_y(pose, torch.tensor([np.deg2rad(angle)], dtype=pose.dtype))[0].numpy()
        for side, colour in (("left", BLUE), ("right", ORANGE)):
            joints = [j for j, name in enumerate(H36M_17.joints) if name.startswith(side)]
            shift = where(picture, colour)[:, 0].mean() - picture.width / 2
            if abs(turned[joints, 0].mean()) > 0.05:
                assert np.sign(shift) == np.sign(turned[joints, 0].mean()), (angle, side)


def test_turning_gif(tmp_path):
    file = turntable.save_turning_gif(tmp_path / "turning.gif", upright(), step=30, seconds=3.0)
    with Image.open(file) as film:
        assert film.n_frames == 12 and film.info["duration"] == 250 and film.info["loop"] == 0
        assert len(where(film, BLUE)) > 100 and len(where(film, ORANGE)) > 100  # the palette has them


def sequence(frames: int) -> tuple[np.ndarray, np.ndarray]:
    shift = 0.2 * np.sin(np.arange(frames))[:, None, None]
    return pixels() + 50 * shift, upright() * (1 + shift)


@pytest.mark.parametrize("count", [None, 1, 4])
def test_film(tmp_path, count):
    images = None if count is None else [Image.new("RGB", (400, 500), (10, 20 * i, 90)) for i in range(count)]
    file = turntable.save_film(tmp_path / "film.gif", *sequence(4), images, fps=10)
    with Image.open(file) as film:
        assert film.n_frames == 4 and film.info["duration"] == 100
        assert film.width == 3 * turntable.PANEL[0]
        for panel in range(3):
            box = (panel * turntable.PANEL[0], 0, (panel + 1) * turntable.PANEL[0], film.height)
            part = film.convert("RGB").crop(box)
            assert min(len(where(part, BLUE)), len(where(part, ORANGE))) > 50, panel


def test_a_fast_film_leaves_frames_out(tmp_path):
    file = turntable.save_film(tmp_path / "film.gif", *sequence(10), fps=100)
    with Image.open(file) as film:
        assert film.n_frames == 5 and film.info["duration"] == 20


def test_pictures(tmp_path):
    frames = [Image.new("RGB", (30, 20), (60 * i, 0, 0)) for i in range(3)]
    for i, frame in enumerate(frames):
        frame.save(tmp_path / f"{i}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    assert len(Pictures(tmp_path / "film.gif")) == 3 and len(Pictures(tmp_path / "1.png")) == 1
    (tmp_path / "film.gif").unlink()
    found = Pictures(tmp_path)
    assert [picture.getpixel((0, 0))[0] for picture in (found[i] for i in range(len(found)))] == [0, 60, 120]


def test_bad_input(tmp_path):
    image = Image.new("RGB", (100, 100))
    with pytest.raises(InputError, match="every joint lies outside the picture of 100 x 100 pixels"):
        turntable.overlay(pixels() + 1000, image)
    with pytest.raises(InputError, match=r"expected \(T, 17, 3\)"):
        turntable.save_views(tmp_path, upright()[:16])
    with pytest.raises(InputError, match="every 7 degrees"):
        turntable.save_views(tmp_path, upright(), step=7)
    with pytest.raises(InputError, match="unknown format '.bmp'"):
        turntable.save_overlay(tmp_path / "a.bmp", pixels())
    with pytest.raises(InputError, match="unknown format '.mp4'; use .gif"):
        turntable.save_turning_gif(tmp_path / "a.mp4", upright())
    with pytest.raises(InputError, match="4 2D poses, 4 3D poses and 3 images"):
        turntable.save_film(tmp_path / "a.gif", *sequence(4), [image] * 3)
    with pytest.raises(InputError, match="0 frames per second"):
        turntable.save_film(tmp_path / "a.gif", *sequence(4), fps=0)
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="no.png does not exist"):
        Pictures(tmp_path / "no.png")
    with pytest.raises(InputError, match="holds no pictures"):
        Pictures(tmp_path)
    (tmp_path / "video.mp4").write_bytes(b"video")
    with pytest.raises(InputError, match="cannot be read as a picture .*; choose another file"):
        Pictures(tmp_path / "video.mp4")
