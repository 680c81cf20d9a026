"""Batches of image samples: torch's DataLoader with an order that seed and epoch alone decide.

The order of an epoch, the choice of 3D people in it and every draw of augmentation follow from seed, epoch and row.
They are the same with any number of workers, after any `--resume`, and under torchrun, where each process makes its
share of every global batch.
"""

import traceback
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from common.errors import InputError
from common.images.people import Crops
from common.run.run import Run, derived_seed
from common.run.script import start_worker
from common.threads import cores

Batch = dict[str, Tensor]
_PREFETCH = 2  # batches for each worker


def epoch_rows(crops: Crops, ratio_3d: float, seed: int, epoch: int) -> np.ndarray:
    """The rows of one epoch, unordered: all 2D people, and at most `ratio_3d` times as many 3D people, drawn anew.

    Without 2D people: all 3D people. (Published, the ratio is fixed to 1, and all workers but one keep to the same
    first 3D people for good; both are bugs.)
    """
    rows_2d, rows_3d = crops.rows(with_3d=False), crops.rows(with_3d=True)
    if not len(rows_2d):
        return rows_3d
    count = min(len(rows_3d), int(len(rows_2d) * ratio_3d))
    drawn = np.random.default_rng(derived_seed(seed, "3d people", epoch)).permutation(rows_3d)[:count]
    return np.concatenate((drawn, rows_2d))


class EpochBatches(Sampler):
    """Yields one process's share of each global batch of `epoch`, from batch `start` on, as lists of (epoch, row).

    The epoch travels with each row, so that workers which live on from epoch to epoch need not be told.
    """

    def __init__(self, crops: Crops, run: Run, batch_size: int, ratio_3d: float):
        self.crops, self.run, self.batch_size, self.ratio_3d = crops, run, batch_size, ratio_3d
        self.epoch = self.start = 0
        self.count = len(epoch_rows(crops, ratio_3d, run.seed, 0))  # the same in all epochs
        self.steps = run.steps(self.count, batch_size)

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        rows = epoch_rows(self.crops, self.ratio_3d, self.run.seed, self.epoch)
        rows = rows[self.run.order(self.count, self.epoch, "images").numpy()]
        for i in range(self.start, self.steps):
            batch = rows[i * self.batch_size : (i + 1) * self.batch_size if i < self.steps - 1 else self.count]
            yield [(self.epoch, row) for row in self.run.shard(torch.from_numpy(batch)).tolist()]


class Shares(Sampler):
    """Yields one process's rows in batches, in order: for evaluation, where each row must come once."""

    def __init__(self, rows: np.ndarray, run: Run, batch_size: int):
        self.rows, self.batch_size = rows[run.rank :: run.world_size].tolist(), batch_size

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, len(self.rows), self.batch_size):
            yield self.rows[start : start + self.batch_size]


def training_loader(crops: Crops, run: Run, batch_size: int, ratio_3d: float = 1.0, workers: int = 4) -> DataLoader:
    """A loader for `epoch_batches`. `batch_size` is global; `workers` are per process, and live on between epochs."""
    if ratio_3d < 0:
        raise InputError(f"--ratio_3d is {ratio_3d}; expected 0 or more")
    return _loader(crops, EpochBatches(crops, run, batch_size, ratio_3d), run, workers)


def evaluation_loader(
    crops: Crops, run: Run, batch_size: int, workers: int = 1, rows: np.ndarray | None = None
) -> DataLoader:
    """A loader over `rows` (default all), in order; with several processes each has every n-th. See `index` there."""
    rows = np.arange(len(crops)) if rows is None else np.asarray(rows)
    return _loader(crops, Shares(rows, run, batch_size), run, workers)


def _loader(crops: Crops, batches: Sampler, run: Run, workers: int) -> DataLoader:
    if workers < 0:
        raise InputError(f"--num_workers is {workers}; expected 0 or more")
    workers = min(workers, cores())  # more would only take turns, and torch warns
    return DataLoader(
        crops,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=run.device.type == "cuda",
        persistent_workers=workers > 0,
        prefetch_factor=_PREFETCH if workers else None,
        worker_init_fn=start_worker,
        generator=torch.Generator(),  # else torch's own would be drawn from, once an epoch
    )


def epoch_batches(loader: DataLoader, epoch: int, start: int = 0) -> Iterator[tuple[int, Batch]]:
    """Yield (i, batch on the CPU) of a training epoch, from global batch `start` on. See `to_device`.

    Raises:
        InputError: a bad image, named; or `start` is no step of this epoch.
    """
    batches: EpochBatches = loader.batch_sampler
    if start > batches.steps:
        raise InputError(
            f"cannot resume at step {start} of epoch {epoch}: {batches.count} images in batches of "
            f"{batches.batch_size} give {batches.steps} steps; were other data or options used?"
        )
    batches.epoch, batches.start = epoch, start
    batches.run.batch_size = min(batches.batch_size, batches.count)
    batches.run.signals.patient = True
    yield from enumerate(one_line_errors(loader), start)


def one_line_errors(loader: DataLoader) -> Iterator[Batch]:
    """The loader's batches; an InputError of a worker comes without the traceback that torch writes into it."""
    try:
        yield from loader
        return
    except InputError as error:
        message = str(error).rstrip().rsplit("InputError: ", 1)[-1]
        traceback.clear_frames(error.__traceback__)  # they hold on to the workers, which then take seconds to end
    raise InputError(message)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on the device, without waiting for the copies (the loader has pinned it on CUDA)."""
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}
