"""Loss terms of a training run: kept on the device, read and checked for NaN and infinity every few steps."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from common.errors import InputError, NonFiniteLoss


class Processes(Protocol):
    """The part of a `Run` that a `LossBuffer` asks: its place among the processes, and what to say of a bad loss."""

    rank: int
    world_size: int
    device: torch.device
    log_every: int

    def average(self, values: torch.Tensor) -> torch.Tensor:
        """The mean over the processes."""

    def way_back(self) -> str:
        """Where the last good checkpoint lies."""


class LossBuffer:
    """The loss terms of an epoch's steps, kept on the device and read every `run.log_every` steps.

    Then they are averaged over the processes, checked (NonFiniteLoss names step and term), summed up, and their mean
    goes to TensorBoard through `log`, at global step `epoch * steps + i`. `state` is an earlier `state_dict()`, for
    resuming in mid-epoch.
    """

    def __init__(
        self,
        names: Sequence[str],
        run: Processes,
        log: Any = None,
        epoch: int = 0,
        steps: int = 0,
        state: dict[str, Any] | None = None,
    ) -> None:
        self.names, self.run, self.log, self.epoch, self.steps = tuple(names), run, log, epoch, steps
        self.window = torch.zeros(min(run.log_every, steps or run.log_every), len(self.names), device=run.device)
        self.waiting: list[tuple[int, int | None]] = []
        self.sums = torch.zeros(len(self.names), dtype=torch.float64)
        self.rows = 0
        if state is not None:
            if state["sums"].shape != self.sums.shape:
                raise InputError(f"the state has losses of {len(state['sums'])} terms, this run has {len(names)}")
            self.sums, self.rows = state["sums"].cpu().clone(), int(state["rows"])

    def record(self, i: int, values: torch.Tensor, rows: int | None = None) -> None:
        """Note step i's terms, (terms,) on the device: means over this process's part of a global batch of `rows`
        items.

        Epoch means weigh each step by its rows; without `rows`, all steps and processes count alike.
        """
        self.window[len(self.waiting)] = values.detach()
        self.waiting.append((i, rows))
        if len(self.waiting) == len(self.window):
            self.flush()

    def flush(self) -> None:
        """Read and check the steps since the last time. Do so before saving: a checkpoint is good if its losses were
        finite.
        """
        if not self.waiting:
            return
        run, waiting = self.run, self.waiting
        mine = [
            1.0 if rows is None else len(range(run.rank, rows, run.world_size)) * run.world_size / rows
            for _, rows in waiting
        ]
        window = self.window[: len(waiting)]
        if run.world_size > 1:
            window = run.average(window * torch.tensor(mine, device=run.device).unsqueeze(1))
        values = window.double().cpu()
        self.waiting = []
        self._check(values, [i for i, _ in waiting])
        weights = torch.tensor([1 if rows is None else rows for _, rows in waiting], dtype=torch.float64)
        self.sums += weights @ values
        self.rows += int(weights.sum())
        if self.log is not None:
            step = self.epoch * self.steps + waiting[-1][0]
            self.log.scalars(step, dict(zip(self.names, values.mean(0).tolist(), strict=True)))

    def means(self) -> dict[str, float]:
        """The means over the epoch so far, by term; nothing where there was no step."""
        self.flush()
        return dict(zip(self.names, (self.sums / self.rows).tolist(), strict=True)) if self.rows else {}

    def state_dict(self) -> dict[str, Any]:
        """The partial sums, for a checkpoint in mid-epoch."""
        self.flush()
        return {"sums": self.sums.clone(), "rows": self.rows}

    def _check(self, values: torch.Tensor, steps: list[int]) -> None:
        bad = (~torch.isfinite(values)).nonzero()
        if len(bad):
            row, term = bad[0].tolist()
            raise NonFiniteLoss(
                f"the loss is not finite: {self.names[term]} is {values[row, term].item()} in step {steps[row] + 1} of "
                f"epoch {self.epoch + 1}; {self.run.way_back()}"
            )
