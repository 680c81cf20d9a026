"""2D poses by a trained image network of this framework: in single images, and through the frames of a video."""

import argparse
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.images import heatmap
from common.images.crop import crop_image
from common.images.decode import decode, decode_3d, pixel_shift
from common.skeleton import COCO_17
from common.video.raw import RawKeypoints

Box = tuple[int, int, int, int]  # x, y of the top left corner, width, height: pixels
WINDOW = 1.35  # side of the window around a person, of the longer side of the box around its joints
_PASSES = 3  # over a video: each looks where the one before found the person
_STEADY = 9  # frames, over which the window's place and size are medians
_ENOUGH = 4  # joints, that a person was found
_BATCH = 32


class Finder(NamedTuple):
    """A network in evaluation mode, and how to ask it."""

    predict: Callable[[Tensor], Any]  # images (B, H, W, 3) uint8 -> {"hm": ..., "depth": ... if it has them}
    size: heatmap.Size  # of its input
    refine: str  # of `common.images.decode.REFINEMENTS`
    device: torch.device


class Found(NamedTuple):
    """The people in B windows, NumPy."""

    points: np.ndarray  # (B, J, 2), image pixels
    peak: np.ndarray  # (B, J), of the heat maps: about 1 where the network is sure
    poses: np.ndarray | None  # (B, J, 3), camera axes, fractions of the window's width; None without depths


@torch.inference_mode()
def find(finder: Finder, images: Sequence[Image.Image], windows: np.ndarray) -> Found:
    """The pose in a window (x, y of its middle, width; (B, 3)) of each of B images."""
    crops = [
        crop_image(image, heatmap.crop_affine(window[:2], window[2], 0.0, finder.size, inverse=True), finder.size)
        for image, window in zip(images, windows, strict=True)
    ]
    output = finder.predict(torch.stack(crops).to(finder.device))
    points, peak = decode(output["hm"], finder.refine)
    points = points.double().cpu().numpy() + pixel_shift(finder.refine)
    pixels = heatmap.to_image(points, windows[:, :2], windows[:, 2], output["hm"].shape[-2:])
    poses = decode_3d(output["hm"], output["depth"], finder.refine).cpu().numpy() if "depth" in output else None
    return Found(pixels, peak.float().cpu().numpy(), poses)


def parse_box(text: str) -> Box:
    """An option's type: 640,200,300,700 is X,Y,WIDTH,HEIGHT in pixels."""
    parts = text.replace(" ", "").split(",")
    if len(parts) != 4 or not all(re.fullmatch(r"-?\d{1,6}", part) for part in parts):
        raise argparse.ArgumentTypeError(
            f"found {text!r}; expected X,Y,WIDTH,HEIGHT in pixels, such as 640,200,300,700"
        )
    x, y, width, height = map(int, parts)
    if width < 1 or height < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; expected a width and a height of a pixel or more")
    return x, y, width, height


def whole_picture(size: tuple[int, int], finder: Finder, box: Box | None = None) -> np.ndarray:
    """The window (3,) that holds a picture of `size` (width, height), or a box of it."""
    x, y, width, height = box or (0, 0, *size)
    side = float(max(width, height))
    return np.array((x + width / 2, y + height / 2, heatmap.fit_aspect(side, side, _aspect(finder))[0]))


def find_in_video(
    finder: Finder, images: Sequence[Image.Image], threshold: float, box: Box | None = None,
    progress: Callable[[Iterable, int], Iterable] = lambda items, total: items,
) -> RawKeypoints:  # fmt: skip
    """One person's keypoints through T frames.

    The first pass looks at the whole pictures (or at `box` in each), the next ones where the person was found; that
    makes up for a person who is small in the picture. All frames of a pass are independent of each other.

    Args:
        threshold: height of a heat map's peak from which a joint counts as found.
        box: all that the person walks through, pixels.
        progress: (the batches of a pass, their number) -> the same, for a bar.
    """
    windows = np.stack([whole_picture(images[0].size, finder, box)] * len(images))
    parts = np.array_split(np.arange(len(images)), -(-len(images) // _BATCH))
    joints = None
    for _ in range(_PASSES):
        if joints is not None:
            windows = _next_windows(joints, windows, threshold, finder)
        found = [find(finder, [images[i] for i in part], windows[part]) for part in progress(parts, len(parts))]
        joints = np.concatenate([np.concatenate((one.points, one.peak[..., None]), -1) for one in found])
    people = [[pose] for pose in joints]
    layout = "coco17" if people[0][0].shape[0] == COCO_17.num_joints else "mpii16"
    return RawKeypoints(people, [str(i) for i in range(len(images))], layout, images[0].size)


def _next_windows(joints: np.ndarray, windows: np.ndarray, threshold: float, finder: Finder) -> np.ndarray:
    """Windows (T, 3) around joints (T, J, 3: x, y, peak); where too few are sure, between the frames around."""
    seen = joints[..., 2] >= threshold
    there = seen.sum(1) >= _ENOUGH
    if not there.any():
        return windows
    low = np.where(seen[..., None], joints[..., :2], np.inf)[there].min(1)
    high = np.where(seen[..., None], joints[..., :2], -np.inf)[there].max(1)
    side = WINDOW * (high - low).max(1)
    width = np.array([heatmap.fit_aspect(length, length, _aspect(finder))[0] for length in side])
    rows, known = np.arange(len(joints)), np.flatnonzero(there)
    filled = np.column_stack([np.interp(rows, known, values) for values in (*((low + high) / 2).T, width)])
    edge = _STEADY // 2
    padded = np.pad(filled, ((edge, edge), (0, 0)), mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, _STEADY, axis=0), -1)


def _aspect(finder: Finder) -> float:
    return finder.size[1] / finder.size[0]
