"""Batches of several views at once: which rows of a multi-view set go together, and their images from a DataLoader.

Rules of Rhodin et al. (ECCV 2018), as published: a group is what the cameras see of one subject, sequence and frame; a
block is some views of a group and, with subject batches, as many of another frame of the same sequence, so that a
person's look can be told from the pose. A batch is a row of blocks:

    s0 camera a, s0 camera b, t0 camera c, t0 camera d, s1 camera a, ...        two cameras, subject batches

The batches of an epoch depend on (seed, epoch) alone, not on workers or processes; a resumed run leaves out those done.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from common.errors import InputError
from common.multiview.labels import Labels, MultiviewImages
from common.run.script import start_worker
from common.threads import cores

# ------------------------------------------------------------ groups


@dataclass(frozen=True)
class Groups:
    """G groups in the order of (subject, sequence, frame), which is fixed (the published order is that of a hash).

    rows: (G, C) rows of the labels, cameras in the order in which the file has them first, -1 where a group has fewer
    than C; count: (G,) cameras; first, last: (G,) the range of groups of the same subject and sequence.
    cameras: views of a group in a block, 0 for all of them.
    """

    rows: np.ndarray
    count: np.ndarray
    first: np.ndarray
    last: np.ndarray
    cameras: int

    def __len__(self) -> int:
        return len(self.rows)


def view_groups(
    labels: Labels, cameras: int = 2, actors: Sequence[int] | None = None, active_cameras: Sequence[int] | None = None
) -> Groups:
    """Find the groups with `cameras` views or more (0: any) of the subjects `actors` (None: all).

    Of a view that the file has twice the last row counts. active_cameras: the cameras to look at, None for all.

    Raises:
        InputError: an unknown subject; no group has so many cameras.
    """
    index = torch.stack((labels.subject, labels.sequence, labels.frame, labels.camera), 1).cpu().numpy()
    known = np.unique(index[:, 0])
    unknown = [actor for actor in actors or () if actor not in known]
    if unknown:
        raise InputError(f"no samples of subject {unknown[0]}; the labels have subjects {', '.join(map(str, known))}")
    kept = np.isin(index[:, 0], known if actors is None else actors)
    if active_cameras is not None:
        kept &= np.isin(index[:, 3], active_cameras)
    kept = np.flatnonzero(kept)
    views, first_seen, inverse = np.unique(index[kept], axis=0, return_index=True, return_inverse=True)
    row = np.zeros(len(views), np.int64)
    np.maximum.at(row, inverse.reshape(-1), kept)
    keys, key, count = np.unique(views[:, :3], axis=0, return_inverse=True, return_counts=True)
    order = np.lexsort((first_seen, key.reshape(-1)))
    most = int(count.max(initial=0))
    enough = count >= max(1, cameras)
    if not enough.any():
        raise InputError(
            f"no frame of the labels is seen by {cameras} cameras, the most is {most}; expected views of one subj, seq "
            f"and frame by different cam: take --use_cam_batches {most} or less, or a set with more cameras"
        )
    table = np.full((len(keys), most), -1, np.int64)
    table[np.arange(most) < count[:, None]] = row[order]
    keys, table, count = keys[enough], table[enough], count[enough]
    # by subject and sequence: published by the sequence's number alone, which mixes people who share one
    _, start, which, size = np.unique(keys[:, :2], axis=0, return_index=True, return_inverse=True, return_counts=True)
    first = start[which.reshape(-1)]
    return Groups(table, count, first, first + size[which.reshape(-1)], cameras)


# ------------------------------------------------------------ batches


def epoch_batches(
    groups: Groups,
    batch_size: int,
    seed: int = 0,
    epoch: int = 0,
    every_nth_frame: int = 1,
    subject_batches: bool = False,
    randomize: bool = True,
    rank: int = 0,
    world_size: int = 1,
) -> np.ndarray:
    """Rows of every batch of an epoch, (batches, batch_size / world_size) int64; what fills no whole batch is left out.

    Args:
        batch_size: of all processes together.
        every_nth_frame: take every n-th group.
        subject_batches: add as many views of another group, drawn from those of the same subject and sequence (it may
            be the same).
        randomize: shuffle a group's cameras before they are chosen, and the blocks; without, the order of the file.
        rank, world_size: this process's share of the blocks of each batch.

    Raises:
        InputError: a batch holds no whole blocks, or the processes cannot share it; too few groups for one batch.
    """
    block = max(1, groups.cameras) * (2 if subject_batches else 1)
    if batch_size % (block * world_size):
        raise InputError(
            f"batches of {batch_size}: expected a multiple of {block * world_size}, {block} views that go together"
            + (f" for each of {world_size} processes" if world_size > 1 else "")
        )
    draws = np.random.default_rng((seed, epoch))
    chosen = np.arange(0, len(groups), every_nth_frame)
    views = _choose_views(groups, chosen, draws, randomize)
    if subject_batches:
        span = groups.last[chosen] - groups.first[chosen]
        other = groups.first[chosen] + (draws.random(len(chosen)) * span).astype(np.int64)
        others = _choose_views(groups, other, draws, randomize)
        views = np.concatenate((views, others), 1)
    flat = views[views >= 0]
    flat = flat[: len(flat) // block * block].reshape(-1, block)
    if randomize:
        flat = flat[draws.permutation(len(flat))]
    count = flat.size // batch_size
    if not count:
        raise InputError(
            f"{len(chosen)} groups of views make {flat.size} rows, no whole batch of {batch_size}: take a smaller "
            f"batch or a smaller --every_nth_frame than {every_nth_frame}"
        )
    blocks = flat.reshape(-1, block)[: count * batch_size // block].reshape(count, -1, block)
    return np.ascontiguousarray(blocks[:, rank::world_size].reshape(count, -1))


def _choose_views(groups: Groups, index: np.ndarray, draws: np.random.Generator, randomize: bool) -> np.ndarray:
    """(n, cameras) rows of groups (n,), -1 where there is none; cameras in their order or shuffled."""
    rows = groups.rows[index]
    if randomize:
        key = np.where(rows < 0, 2.0, draws.random(rows.shape))
        rows = np.take_along_axis(rows, key.argsort(1), 1)
    return rows[:, : groups.cameras or None]


@dataclass(frozen=True)
class ViewBatch:
    """rows: (B,) of the labels; images: (B, S, S, 3) uint8; backgrounds: the same, None if they are not read."""

    rows: Tensor
    images: Tensor
    backgrounds: Tensor | None


def load_batches(
    images: MultiviewImages, batches: np.ndarray, device: torch.device | str = "cpu", workers: int = 0, start: int = 0
) -> Iterator[ViewBatch]:
    """Yield the batches from number `start` on, on the device; the same whatever the number of workers.

    images: of the keys `img_crop` and, optionally, `bg_crop`; preloaded ones need no workers.

    Raises:
        InputError: an image went missing or cannot be read.
    """
    device, batches = torch.device(device), torch.from_numpy(batches[start:])
    every_row = batches.to(device)  # at once: a copy for each batch would make the device wait
    if images.memory:
        for rows in every_row:
            yield ViewBatch(rows, *_two(images[rows]))
        return
    loader = DataLoader(
        images,
        batch_sampler=batches.tolist(),
        num_workers=min(workers, cores()),
        collate_fn=_as_it_is,
        worker_init_fn=start_worker,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # for the workers' seeds, which nothing uses: torch's own generator stays as it is
    )
    for rows, pictures in zip(every_row, loader, strict=True):
        if isinstance(pictures, InputError):
            raise pictures
        yield ViewBatch(rows, *_two([picture.to(device, non_blocking=True) for picture in pictures]))


def _two(pictures: list[Tensor]) -> tuple[Tensor, Tensor | None]:
    return pictures[0], pictures[1] if len(pictures) > 1 else None


def _as_it_is(batch: list[Tensor] | InputError) -> list[Tensor] | InputError:
    return batch
