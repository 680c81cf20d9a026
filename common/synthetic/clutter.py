"""Clutter around a synthetic person: rooms full of things behind, and things in the way (NumPy and Pillow)."""

import colorsys

import numpy as np
from numpy import ndarray as Array
from PIL import Image, ImageDraw

from common.synthetic.capsules import Capsules

FLOOR_LINE = (0.45, 0.75)  # where wall and floor meet, share of the height
THINGS = (10, 24)  # in a room
NOISE = 7.0  # standard deviation, of 255
GRAIN = 48  # pixels of the coarse stains


def make_room(height: int, width: int, *seed: int) -> Array:
    """A cluttered room (height, width, 3) uint8; the same seed (numbers, 0 or more) gives the same room."""
    rng = np.random.default_rng(seed)
    line = int(height * rng.uniform(*FLOOR_LINE))
    room = np.concatenate((_gradient(rng, line, width), _gradient(rng, height - line, width)))
    image = Image.fromarray(room.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    kinds = (_panel, _box, _polygon, _lamp, _stick)
    for _ in range(rng.integers(*THINGS)):
        rng.choice(kinds, p=(0.25, 0.35, 0.15, 0.1, 0.15))(draw, rng, height, width, line)
    stains = rng.normal(0, 1.5 * NOISE, (height // GRAIN + 2, width // GRAIN + 2)).astype(np.float32)
    stains = np.asarray(Image.fromarray(stains).resize((width, height), Image.Resampling.BILINEAR))
    grain = rng.normal(0, NOISE, (height, width)).astype(np.float32)
    return (np.asarray(image) + (stains + grain)[..., None]).clip(0, 255).astype(np.uint8)


def _gradient(rng: np.random.Generator, height: int, width: int) -> Array:
    """A plane (height, width, 3) whose colour changes across it."""
    corners = np.array(_colour(rng, 0.35, (70, 220)))[None, None] + rng.uniform(-35, 35, (2, 2, 1))
    down, right = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
    top, bottom = (row[0] * (1 - right) + row[1] * right for row in corners)
    return top * (1 - down) + bottom * down


def _colour(rng: np.random.Generator, saturation: float = 0.8, value: tuple[float, float] = (25, 235)) -> tuple:
    return tuple(int(c) for c in colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, saturation), rng.uniform(*value)))


def _darker(colour: tuple, share: float) -> tuple:
    return tuple(int(channel * share) for channel in colour)


def _panel(draw: ImageDraw.ImageDraw, rng: np.random.Generator, height: int, width: int, line: int) -> None:
    """A picture, window or door on the wall."""
    w, h = width * rng.uniform(0.06, 0.25), height * rng.uniform(0.08, 0.4)
    x, y = rng.uniform(0, width - w), max(0.0, rng.uniform(0, line) - h / 2)
    frame = max(1, int(0.01 * width))
    draw.rectangle((x, y, x + w, min(y + h, line)), fill=_colour(rng), outline=_colour(rng), width=frame)


def _box(draw: ImageDraw.ImageDraw, rng: np.random.Generator, height: int, width: int, line: int) -> None:
    """Furniture: front, top and one side of a box that stands on the floor."""
    w, h = width * rng.uniform(0.08, 0.3), height * rng.uniform(0.06, 0.32)
    x, foot = rng.uniform(-0.1 * width, width), rng.uniform(line + 0.02 * height, height * 1.02)
    back, up, colour = 0.3 * w * rng.uniform(-1, 1), 0.25 * h * rng.uniform(0.3, 1), _colour(rng)
    top = foot - h
    draw.polygon([(x, top), (x + w, top), (x + w + back, top - up), (x + back, top - up)], fill=colour)
    side = x + w if back > 0 else x
    draw.polygon(
        [(side, top), (side, foot), (side + back, foot - up), (side + back, top - up)], fill=_darker(colour, 0.55)
    )
    draw.rectangle((x, top, x + w, foot), fill=_darker(colour, 0.8))
    for share in np.linspace(0, 1, rng.integers(2, 5))[1:-1]:  # drawers or shelves
        draw.line((x, top + share * h, x + w, top + share * h), fill=_darker(colour, 0.5), width=max(1, width // 200))


def _polygon(draw: ImageDraw.ImageDraw, rng: np.random.Generator, height: int, width: int, line: int) -> None:
    """Anything: a shape with three to six corners."""
    corners = rng.integers(3, 7)
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radius = rng.uniform(0.03, 0.13) * width * rng.uniform(0.5, 1.2, corners)
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    draw.polygon([*zip(x + radius * np.cos(angles), y + radius * np.sin(angles), strict=True)], fill=_colour(rng))


def _lamp(draw: ImageDraw.ImageDraw, rng: np.random.Generator, height: int, width: int, line: int) -> None:
    """A round thing, about as large as a head."""
    radius = rng.uniform(0.02, 0.07) * width
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_colour(rng))


def _stick(draw: ImageDraw.ImageDraw, rng: np.random.Generator, height: int, width: int, line: int) -> None:
    """A long thing, about as thick as a limb."""
    x, y, angle = rng.uniform(0, width), rng.uniform(0, height), rng.choice((0.0, 0.5, rng.random())) * np.pi
    reach = rng.uniform(0.1, 0.35) * width
    dx, dy = reach * np.cos(angle), reach * np.sin(angle)
    draw.line((x - dx, y - dy, x + dx, y + dy), fill=_colour(rng), width=int(rng.uniform(0.008, 0.04) * width) + 1)


def obstacles(rng: np.random.Generator, middle: Array, height: float, share: float = 0.5) -> Capsules | None:
    """Things in front of a person `height` pixels high around `middle` (2,), pixels; None in 1 - `share` of the calls.

    A pole, a ball, a beam, or a bench of parallel beams, each half a body or more before the person.
    """
    if rng.random() >= share:
        return None
    x, y = middle + height * rng.uniform(-0.35, 0.35, 2)
    depth = -height * rng.uniform(0.6, 1.2)
    kind = rng.choice(4, p=(0.3, 0.25, 0.2, 0.25))
    if kind == 0:
        tilt = height * rng.uniform(-0.15, 0.15)
        lines, radius = [(x - tilt, y - 2 * height, x + tilt, y + 2 * height)], rng.uniform(0.015, 0.04)
    elif kind == 1:
        lines, radius = [(x, y, x + 1, y)], rng.uniform(0.05, 0.13)
    elif kind == 2:
        reach, tilt = height * rng.uniform(0.2, 1.5), height * rng.uniform(-0.1, 0.1)
        lines, radius = [(x - reach, y - tilt, x + reach, y + tilt)], rng.uniform(0.02, 0.05)
    else:
        reach, radius, y = height * rng.uniform(0.15, 0.4), rng.uniform(0.03, 0.05), y + 0.25 * height
        lines = [
            (x - reach, y + step * 1.9 * radius * height, x + reach, y + step * 1.9 * radius * height)
            for step in range(4)
        ]
    ends = np.array([[(x0, y0, depth), (x1, y1, depth)] for x0, y0, x1, y1 in lines], np.float32)
    colours = np.array((_colour(rng), _colour(rng)), np.float32) / 255
    count, stripes = len(lines), rng.choice((0.0, 8.0))
    return Capsules(
        ends,
        np.full((count, 2), radius * height, np.float32),
        ends,
        np.broadcast_to(colours, (count, 2, 3)),
        np.full(count, 9.0, np.float32),
        np.full(count, stripes, np.float32),
    )
