"""Training steps of a script that a test runs in its own process, seen from outside: what each gives, how many CUDA
graphs were captured, and that none waits for the device.
"""

import contextlib
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from common.run.accelerate import GraphedStep
from common.run.losses import LossBuffer
from common.run.run import Run

aten = torch.ops.aten
# Operations whose result Python, or the size of a tensor, depends on, and tensors made of Python numbers: on CUDA they
# wait for everything before them.
WAITS = {
    aten._local_scalar_dense, aten.equal, aten.is_nonzero, aten.nonzero, aten.masked_select, aten._unique2,
    aten.unique_dim, aten.unique_consecutive, aten.repeat_interleave, aten.lift_fresh,
}  # fmt: skip
BY_INDEX = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}


class Steps(NamedTuple):
    """losses: (steps, terms), on the CPU; graphs: captured."""

    losses: torch.Tensor
    graphs: int


def steps_of(script, monkeypatch, name: str, *options, dropout: bool = True) -> Steps:
    """Run a training script, which must end with status 0, and note every step.

    dropout: False leaves it out, since each kind of device draws other numbers for it.
    """
    seen, graphs = [], []
    record, capture = LossBuffer.record, GraphedStep._capture

    def note_losses(buffer, i, values, rows=None):
        seen.append(values.detach().clone())
        record(buffer, i, values, rows)

    def note_graph(step, index):
        graphs.append(index.shape)
        capture(step, index)

    with monkeypatch.context() as patch:
        patch.setattr(LossBuffer, "record", note_losses)
        patch.setattr(GraphedStep, "_capture", note_graph)
        if not dropout:
            patch.setattr(torch.nn.functional, "dropout", lambda x, *_, **__: x)
        done = script(name, *options)
    assert done.status == 0, done.err
    return Steps(torch.stack(seen).cpu(), len(graphs))


def forbid_waiting(monkeypatch) -> list[int]:
    """From here on every training step of a script but the first, which fills caches, raises where it waits for the
    device -> numbers of the steps watched. CUDA graphs must be off: what is replayed is not seen.
    """
    accelerate, watched = Run.accelerate, []

    def watch(run, step, *optimizers, **more):
        fast, calls = accelerate(run, step, *optimizers, **more), []

        def call(index):
            calls.append(index)
            if len(calls) == 1:
                return fast(index)
            watched.append(len(calls))
            with no_waiting(run.device):
                return fast(index)

        return call

    monkeypatch.setattr(Run, "accelerate", watch)
    return watched


def no_waiting(device: torch.device) -> contextlib.AbstractContextManager:
    """Raises RuntimeError where something waits for CUDA; on the CPU, for operations that would wait on CUDA."""
    return _cuda_waits_are_errors() if device.type == "cuda" else _NoWaiting()


@contextlib.contextmanager
def _cuda_waits_are_errors():
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


class _NoWaiting(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        packet = function.overloadpacket
        if packet in WAITS or (packet in BY_INDEX and any(_is_mask(index) for index in args[1])):
            raise RuntimeError(f"{function} would wait for a CUDA device")
        return function(*args, **(kwargs or {}))


def _is_mask(index: Any) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)


def numbers(content: Any, name: str = "") -> dict[str, float]:
    """The numbers in nested dictionaries and lists, by dotted names: what `pytest.approx` compares."""
    if isinstance(content, dict):
        return {key: value for k, part in content.items() for key, value in numbers(part, f"{name}.{k}").items()}
    if isinstance(content, list):
        return numbers(dict(enumerate(content)), name)
    return {name: content} if isinstance(content, (int, float)) else {}
