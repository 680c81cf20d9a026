"""Faster training steps without other results: one CUDA graph per step, or torch.compile.

A step is a function from the item indices of a batch, (n,) on the device, to its detached loss terms; it does
everything in between (forward, backward, optimiser). To be captured it must not read device values on the CPU
(`.item()`, boolean masks, `nonzero`) nor make tensors from Python numbers on the device by copying.
"""

import types
import warnings
from collections.abc import Callable, Hashable

import torch

from common.errors import InputError

Step = Callable[[torch.Tensor], torch.Tensor]


class GraphedStep:
    """Replays `step` as one CUDA graph while the batch's shape and `key()` stay the same, and captures anew when they
    change.

    The calls before a capture are ordinary training steps on a side stream: they create the optimiser's state,
    kernels and workspaces, so there is no warm-up to undo. `generators` are those that `step` draws from, besides
    torch's default.
    """

    warm_up = 3

    def __init__(self, step: Step, key: Callable[[], Hashable], generators: tuple[torch.Generator, ...] = ()) -> None:
        self.step, self.key, self.generators = step, key, generators
        self.stream = torch.cuda.Stream()
        self.warm = on_stream(step, self.stream)
        self.current: Hashable = None
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, index: torch.Tensor) -> torch.Tensor:
        key = (index.shape, self.key())
        if key != self.current:
            self.graph, self.current, self.calls = None, key, 0
        if self.calls < self.warm_up:
            self.calls += 1
            return self.warm(index)
        if self.graph is None:
            self._capture(index)
        self.index.copy_(index)
        self.graph.replay()
        return self.losses.clone()  # the next replay overwrites the graph's own

    def _capture(self, index: torch.Tensor) -> None:
        self.index = index.clone()
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        torch.cuda.synchronize()
        try:
            with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                self.losses = self.step(self.index)
        except (
            RuntimeError
        ) as error:  # the generators and allocator may be left half captured: going on would not be certain
            reason = str(error).strip().split("\n")[0]
            raise InputError(
                f"the training step cannot be captured as a CUDA graph ({reason}); use --no_cuda_graphs"
            ) from error
        self.graph = graph


def on_stream(step: Step, stream: "torch.cuda.Stream") -> Step:
    """`step`, kernel by kernel, on `stream`. What a capture on that stream shares with it then knows no other stream,
    as autograd remembers where a parameter was first used.
    """

    def run(index: torch.Tensor) -> torch.Tensor:
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            losses = step(index)
        torch.cuda.current_stream().wait_stream(stream)
        return losses

    return run


class CompiledStep:
    """`step` through torch.compile; what the compiler cannot do becomes an InputError."""

    def __init__(self, step: Step) -> None:
        # What is cached here is a function of its arguments alone: tracing through the cache changes nothing.
        warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")
        self.step = torch.compile(step)

    def __call__(self, index: torch.Tensor) -> torch.Tensor:
        from torch._dynamo.exc import TorchDynamoException  # importing it takes a second

        try:
            return self.step(index)
        except TorchDynamoException as error:
            reason = (str(error).strip().split("\n") or [""])[0][:160]
            raise InputError(
                f"--compile failed ({type(error).__name__}: {reason}); it needs a C++ compiler on the CPU, Triton on "
                "CUDA: leave --compile out"
            ) from error


def hyper_parameters(optimizers: tuple[torch.optim.Optimizer, ...]) -> tuple:
    """The numbers of all parameter groups (learning rate, momentum, ...), which a captured step holds as constants."""
    return tuple(
        (name, value)
        for optimizer in optimizers
        for group in optimizer.param_groups
        for name, value in sorted(group.items())
        if name != "params" and isinstance(value, (bool, int, float, tuple, str, type(None)))
    )


def keep_uncompiled(optimizer: torch.optim.Optimizer) -> None:
    """Leave `optimizer.step` out of compiled steps: compiled, each new learning rate would compile it again."""
    function = torch.compiler.disable(type(optimizer).step)
    optimizer.step = types.MethodType(function, optimizer)  # a method still, as learning-rate schedulers expect


def make_capturable(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Let optimisers that count their steps (Adam and kin) count on `device`: on the CPU a CUDA graph would not see
    it.
    """
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = device.type == "cuda"
    for slots in optimizer.state.values():
        if isinstance(slots.get("step"), torch.Tensor):
            slots["step"] = slots["step"].to(device)
