"""Pool of earlier made-up poses, from which the discriminators are fed (Shrivastava et al., "Learning from Simulated
and Unsupervised Images through Adversarial Training", CVPR 2017).

The rule, pose by pose: until the pool is full, a pose is stored and returned. Then, with probability one half, a
random stored pose is returned and the new one takes its place; else the new one is returned and forgotten. Here a whole
batch goes through at once, with the same result: where two poses of a batch meet in one place, the later one gets the
earlier.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from common.errors import InputError


class ReplayPool:
    """The pool, on the device. It never waits for the device, and a call can be part of a CUDA graph: shapes are fixed,
    and the number of stored poses is a tensor.

    With several processes, give each the batch of all of them and a generator of the same state: then the pools are
    equal and hold what one process's would, and each takes its rows of what is returned.

    Args:
        shape: of one pose, such as (16, 3).
        capacity: poses that fit (4096 published).
        device: where.
    """

    def __init__(self, shape: Sequence[int], capacity: int = 4096, device: torch.device | str | None = None):
        if capacity < 1:
            raise InputError(f"a replay pool of {capacity} poses: it must hold at least one")
        self.capacity = capacity
        # One row more than fits: what is not stored is written there, and never read.
        self.rows = torch.zeros(capacity + 1, *shape, device=device)
        self.count = torch.zeros((), dtype=torch.long, device=device)

    @torch.no_grad()
    def __call__(self, poses: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """poses: (B, *shape) -> (B, *shape), new or stored, detached. Always draws B numbers and B places."""
        size, device = len(poses), poses.device
        swap = torch.rand(size, generator=generator, device=device) > 0.5
        places = torch.randint(self.capacity, (size,), generator=generator, device=device)
        return self.exchange(poses, swap, places)

    @torch.no_grad()
    def exchange(self, poses: Tensor, swap: Tensor, places: Tensor) -> Tensor:
        """The rule with given draws: swap (B,) bool and places (B,) int64, which count where the pool is full."""
        if poses.shape[1:] != self.rows.shape[1:]:
            raise InputError(f"poses {tuple(poses.shape)} for a replay pool of poses {tuple(self.rows.shape[1:])}")
        size = len(poses)
        number = torch.arange(size, device=poses.device)
        position = self.count + number
        filling = position < self.capacity
        place = torch.where(filling, position, torch.where(swap, places, self.capacity))
        # Sorted by place and then by number, those who meet in a place stand side by side, the earlier one first.
        key = (place * size + number).sort().values
        place, order = key // size, key % size
        moved = poses.detach()[order].to(self.rows.dtype)
        follows = torch.nn.functional.pad(place[1:] == place[:-1], (1, 0))
        found = torch.where(_column(follows, moved), moved.roll(1, 0), self.rows[place])
        swapped = (place < self.capacity) & ~filling[order]
        returned = torch.where(_column(swapped, moved), found, moved)
        last = torch.nn.functional.pad(place[1:] != place[:-1], (0, 1), value=True)
        self.rows.index_copy_(0, torch.where(last, place, self.capacity), moved)
        self.count.add_(size).clamp_(max=self.capacity)
        return torch.empty_like(returned).index_copy_(0, order, returned)

    def state_dict(self) -> dict[str, Tensor]:
        """`poses` (capacity, *shape), of which the first `count` are stored, and `count`; copies."""
        return {"poses": self.rows[:-1].clone(), "count": self.count.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Goes on where `state_dict` was taken; in place, so that a captured graph stays valid."""
        poses, count = state["poses"], state["count"]
        if poses.shape != self.rows[:-1].shape:
            raise InputError(
                f"the checkpoint's replay pool is {tuple(poses.shape)}, this run's {tuple(self.rows[:-1].shape)}: "
                f"resume with the options that the run was started with"
            )
        self.rows[:-1].copy_(poses)
        self.count.copy_(count)


def _column(mask: Tensor, like: Tensor) -> Tensor:
    return mask.view(-1, *(1,) * (like.dim() - 1))
