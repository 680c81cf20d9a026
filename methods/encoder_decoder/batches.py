"""Batches of a training run of the encoder-decoder: which views they hold, and the place where a step finds them."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.multiview.batches import epoch_batches
from common.multiview.labels import normalise
from common.run.run import Run
from methods.encoder_decoder.data import Views


def epoch_rows(train: Views, args: Any, run: Run, epoch: int) -> np.ndarray:
    """Rows of the labels in each batch of an epoch, (steps, B): this process's share."""
    return epoch_batches(
        train.groups, args.batch_size, args.seed, epoch=epoch, every_nth_frame=args.every_nth_frame,
        subject_batches=args.use_subject_batches, rank=run.rank, world_size=run.world_size,
    )  # fmt: skip


class Feed:
    """One batch's images, normalised, at a fixed place in memory, where a captured training step finds every batch.

    images, backgrounds: (B, 3, S, S) float32, in memory channels last.
    """

    def __init__(self, count: int, views: Views, device: torch.device):
        size = views.images.resolution
        self.images, self.backgrounds = (
            torch.zeros(count, size, size, 3, device=device).movedim(-1, 1) for _ in range(2)
        )

    def put(self, images: Tensor, backgrounds: Tensor | None) -> None:
        """images, backgrounds: (B, S, S, 3) uint8."""
        self.images.copy_(normalise(images))
        if backgrounds is not None:
            self.backgrounds.copy_(normalise(backgrounds))
