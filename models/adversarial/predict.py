"""From 2D poses in pixels to 3D poses by a trained adversarial lifter (see `models.adversarial.losses`)."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from models.adversarial.losses import chen_lift, normalise_2d


class Predicted(NamedTuple):
    """pose, mirror: (B, 17, 3), camera axes, in the lifter's unit; the mirror has the opposite depths."""

    pose: Tensor
    mirror: Tensor


def lifter_input(pixels: Tensor, factor: float | Tensor = 1.0) -> Tensor:
    """What the lifter sees of (B, 17, 2) pixels: hip at the origin, every pose at one size, times `factor`.

    factor: 1 for Kudo; for Chen that of `gan_losses.head_factor` on the training set.
    """
    return normalise_2d(pixels) * factor


def predictor(lifter: Callable[[Tensor], Tensor], method: str, factor: float = 1.0) -> Callable[[Tensor], Predicted]:
    """-> a function, (B, 17, 2) pixels -> `Predicted`. method: "chen" (perspective) or "kudo" (orthographic)."""

    def predict(pixels: Tensor) -> Predicted:
        keypoints = lifter_input(pixels, factor)
        depth = lifter(keypoints).to(keypoints.dtype)
        if method == "chen":
            return Predicted(chen_lift(keypoints, depth), chen_lift(keypoints, -depth))
        return Predicted(*(torch.cat((keypoints, z.unsqueeze(-1)), -1) for z in (depth, -depth)))

    return predict
