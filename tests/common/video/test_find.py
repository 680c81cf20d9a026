"""2D poses in images and through videos, by a "network" that knows each joint by its colour."""

import argparse

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch.nn import functional

from common.skeleton import MPII_16
from common.video import find

COLOURS = np.array([(r, g, b) for r in (80, 160, 250) for g in (80, 160, 250) for b in (80, 250)][:16], float)
BODY = np.stack([np.cos(np.arange(16) * 2.4) * 0.35, np.sin(np.arange(16) * 1.7) * 0.5], -1)  # 1 high, no two alike
SIZE = (64, 64)


def predict(images: torch.Tensor) -> dict[str, torch.Tensor]:
    """(B, 64, 64, 3) -> maps (B, 16, 16, 16) that are 1 where a joint's colour is."""
    away = (images[:, None].float() - torch.tensor(COLOURS, dtype=torch.float32)[:, None, None]).abs().amax(-1)
    return {"hm": functional.avg_pool2d((away < 30).float(), 5, 4, 2)}


FINDER = find.Finder(predict, SIZE, "published", torch.device("cpu"))


def picture(center: np.ndarray, height: float, size=(640, 360), dot: float = 0.03) -> tuple[Image.Image, np.ndarray]:
    """A body of coloured dots, and where they are."""
    image, joints = Image.new("RGB", size), center + height * BODY
    pen = ImageDraw.Draw(image)
    for (x, y), colour in zip(joints, COLOURS.astype(int), strict=True):
        r = dot * height
        pen.ellipse((x - r, y - r, x + r, y + r), fill=tuple(colour))
    return image, joints


def test_one_image():
    image, joints = picture(np.array((320, 180)), 300)
    window = find.whole_picture(image.size, FINDER)
    np.testing.assert_allclose(window, (320, 180, 640))
    found = find.find(FINDER, [image, image], np.stack([window, window]))
    assert found.points.shape == (2, 16, 2) and found.poses is None and (found.peak > 0.03).all()
    assert np.linalg.norm(found.points[0] - joints, axis=-1).max() < 1.6 * 640 / 16  # of the map's pixels


def test_a_walk_is_followed_and_looked_at_closely():
    """A person of a fifth of the picture's width: in the whole picture a map's pixel is 40 wide, in the end 11."""
    centers = np.stack([np.linspace(150, 500, 40), np.full(40, 200)], -1)
    images, joints = zip(*(picture(center, 150, dot=0.045) for center in centers), strict=True)
    raw = find.find_in_video(FINDER, images, 0.04)
    assert (raw.layout, raw.size, len(raw.frames)) == ("mpii16", (640, 360), 40)
    points = np.stack([people[0] for people in raw.people])
    assert points.shape == (40, MPII_16.num_joints, 3)
    errors = np.linalg.norm(points[..., :2] - np.stack(joints), axis=-1)
    window = 1.35 * 150
    assert errors.max() < 1.6 * window / 16
    first = find.find(FINDER, images[:1], find.whole_picture((640, 360), FINDER)[None])
    assert errors[0].mean() < 0.6 * np.linalg.norm(first.points[0] - joints[0], axis=-1).mean()


def test_frames_without_a_person_are_unsure():
    image, _ = picture(np.array((320, 180)), 250)
    images = [image] * 5 + [Image.new("RGB", image.size)] * 2 + [image] * 5
    points = np.stack([people[0] for people in find.find_in_video(FINDER, images, 0.03).people])
    assert (points[5:7, :, 2] == 0).all() and (points[:5, :, 2] > 0.03).all()
    assert np.isfinite(points).all()
    nobody = find.find_in_video(FINDER, images[5:7], 0.03)
    assert (np.stack([people[0] for people in nobody.people])[..., 2] == 0).all()


def test_a_box_says_where_to_look():
    """Two people: without it the colours of both are one body."""
    image, left = picture(np.array((120, 180)), 150)
    other, _ = picture(np.array((520, 180)), 300)
    both = Image.fromarray(np.maximum(np.asarray(image), np.asarray(other)))
    raw = find.find_in_video(FINDER, [both] * 3, 0.03, box=(40, 90, 160, 180))
    assert np.linalg.norm(raw.people[0][0][:, :2] - left, axis=-1).max() < 25


def test_box_option():
    assert find.parse_box("640, 200,300,700") == (640, 200, 300, 700)
    for text in ("1,2,3", "a,b,c,d", "0,0,0,5", "1;2;3;4"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected"):
            find.parse_box(text)
