"""Keypoints made of poses and cameras, where a data set has no 2D file: `-k gt`, exact, and `-k noisy`, as detected."""

import zlib
from argparse import Namespace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.camera import Camera, project
from common.run.options import number

MADE = ("gt", "noisy")
NEAREST = 0.1  # metres: who comes nearer to a camera, or behind it, is not in its picture
FAR_OFF = 10.0  # deviation of an outlier, over that of a joint


class Noise(NamedTuple):
    """Errors of made keypoints: deviation in pixels, share of joints `FAR_OFF` times as far off, seed."""

    pixels: float = 5.0
    outliers: float = 0.01
    seed: int = 0


NOISE = (
    ("--noise_pixels", number(float, 0), Noise().pixels, "-k noisy without a file: deviation of a joint, pixels"),
    ("--noise_outliers", number(float, 0, 1), Noise().outliers, "-k noisy without a file: share of joints far off"),
    ("--noise_seed", number(int, 0), Noise().seed, "-k noisy without a file: the same seed, the same keypoints"),
)


def noise_of(args: Namespace) -> Noise:
    """What the options `NOISE` say."""
    return Noise(args.noise_pixels, args.noise_outliers, args.noise_seed)


def see(poses: Tensor, camera: Camera) -> tuple[Tensor, np.ndarray]:
    """Poses (T, J, 3), camera frame -> keypoints (T, J, 2) in pixels, lens distortion included, and the frames (T,) in
    which somebody is not in front of the camera.
    """
    return project(poses, camera.intrinsics(), clamped=False), (poses[..., 2] < NEAREST).any(-1).numpy()


def disturb(keypoints: Tensor, frames: range, length: int, noise: Noise, name: str) -> Tensor:
    """Keypoints (T, J, 2), those of `frames` of a sequence of `length`, with errors that depend on the sequence's name,
    the frame and the noise alone.
    """
    random = np.random.default_rng((noise.seed, zlib.crc32(name.encode())))
    shape = (length, *keypoints.shape[1:])
    errors = noise.pixels * random.standard_normal(shape, np.float32)
    errors[random.random(shape[:2], np.float32) < noise.outliers] *= FAR_OFF
    return keypoints + torch.from_numpy(errors[frames.start : frames.stop : frames.step])
