"""Starting, stepping and stopping a run: device, seeds, processes, batches, signals, losses.

A script's `main()` is run by `run_script`; `start` gives it a `Run`. Under `torchrun` every process runs the whole
script on its share of each batch, and the numbers are those of one process with the same global batch: draws for a
global batch come from `run.generator`, seeded alike everywhere; `run.shard` takes this process's rows; batch norm is
synchronised; gradients are averaged.

Determinism: the same seed on the same device (and number of threads) gives the same numbers. On CUDA, float32 stays
float32: TensorFloat32 is off, deterministic kernels are on; `--amp` is the way to trade precision for speed.
"""

import contextlib
import hashlib
import logging
import os
import random
import signal
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from common.errors import InputError, NonFiniteLoss
from common.run import accelerate, batch_norm, checkpoint, memory
from common.run.script import Interrupted, Signals, may_restart, part_processes, store_of_this_start, world
from common.threads import cores

log = logging.getLogger(__name__)


# ------------------------------------------------------------ starting


def start(args: Any) -> "Run":
    """Set up device, seeds, threads and processes as the options of `Parser.add_run_options` say."""
    seed = getattr(args, "seed", 0)  # a script that draws nothing has no seed, one that does not train no training step
    rank, local_rank, world_size = world()
    device = _device(args.device, local_rank if world_size > 1 else None)
    _deterministic(device)
    if args.amp and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise InputError(
            f"--amp computes in bfloat16, which {torch.cuda.get_device_name(device)} cannot: leave --amp out"
        )
    if device.type == "cuda":
        torch.cuda.set_device(device)
    _set_threads(args.threads, device)
    memory.keep_freed_memory()
    if world_size > 1:
        _join(device)
    random.seed(seed + rank)
    np.random.seed((seed + rank) % 2**32)
    torch.manual_seed(seed + rank)
    generator = torch.Generator(device).manual_seed(derived_seed(seed, "draws"))
    handler = signal.getsignal(signal.SIGTERM)
    return Run(
        device=device,
        generator=generator,
        seed=seed,
        rank=rank,
        world_size=world_size,
        amp=args.amp,
        compile=getattr(args, "compile", False),
        cuda_graphs=not getattr(args, "no_cuda_graphs", False),
        log_every=getattr(args, "log_every", 50),
        signals=handler if isinstance(handler, Signals) else Signals(),
    )


def derived_seed(seed: int, *purpose: Hashable) -> int:
    """A seed for one purpose (words, numbers), so that no two streams of draws of a run are the same."""
    digest = hashlib.blake2b(repr((seed, *purpose)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _device(name: str, local_rank: int | None) -> torch.device:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not count):
        return torch.device("cpu")
    if not count:
        reason = "this PyTorch is built without CUDA" if torch.version.cuda is None else "no GPU or driver was found"
        raise InputError(f"--device {name}: {reason} (PyTorch {torch.__version__}); use --device cpu")
    if local_rank is not None and ":" in name:
        raise InputError(f"--device {name}: torchrun gives each process its own device; use --device cuda")
    index = local_rank if local_rank is not None else torch.device(name).index if ":" in name else 0
    if index >= count:
        what = f"process {index} of this machine needs cuda:{index}" if local_rank is not None else f"--device {name}"
        raise InputError(f"{what}: this machine has {count} CUDA device{'s' * (count > 1)}, cuda:0 to cuda:{count - 1}")
    return torch.device("cuda", index)


def _deterministic(device: torch.device) -> None:
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # else every torch.empty is written to


def _set_threads(threads: int, device: torch.device) -> None:
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if world()[2] > 1 else 1
    if not threads and processes > 1 and device.type == "cpu":
        threads = max(1, cores() // processes)
    if threads:
        torch.set_num_threads(threads)


def _join(device: torch.device) -> None:
    rank, _, world_size = world()
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        store = store_of_this_start() if may_restart() else None
        place = {"store": store, "rank": rank, "world_size": world_size} if store else {}
        dist.init_process_group(backend, **place)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"the processes cannot join: {str(error).splitlines()[0]}; start them with torchrun"
        ) from error


# ------------------------------------------------------------ run


@dataclass
class Run:
    """One process's view of a run.

    `generator` is on `device` and seeded alike on every rank; torch's default generator is seeded by rank.
    """

    device: torch.device
    generator: torch.Generator
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    amp: bool = False
    compile: bool = False
    cuda_graphs: bool = True
    log_every: int = 50
    signals: Signals = field(default_factory=Signals)
    last_checkpoint: Path | None = None
    batch_size: int | None = None  # of the `batches` under way

    @property
    def is_main(self) -> bool:
        """Whether this is the one process that writes files and prints."""
        return self.rank == 0

    def say(self, line: str) -> None:
        """Write one line to stdout, at once; from rank 0 alone."""
        if self.is_main:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    # ---- the model and its gradients

    def prepare(self, model: nn.Module) -> nn.Module:
        """`model` on the device; with several processes, with rank 0's weights and synchronised batch norm."""
        model = model.to(self.device)
        if self.world_size > 1:
            model = batch_norm.synchronise(model)
            for tensor in [*model.parameters(), *model.buffers()]:
                dist.broadcast(tensor.detach(), src=0)
        return model

    def autocast(self) -> contextlib.AbstractContextManager:
        """bfloat16 where it is safe, with --amp; else nothing."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.amp else contextlib.nullcontext()

    def shard(self, rows: torch.Tensor) -> torch.Tensor:
        """This process's rows of a tensor over the global batch."""
        return rows[self.rank :: self.world_size] if self.world_size > 1 else rows

    def weight(self, mine: Sequence | torch.Tensor, whole: Sequence | torch.Tensor) -> float:
        """The factor that makes the mean over processes of means over their rows the mean over all rows."""
        return len(mine) * self.world_size / len(whole)

    def reduce_gradients(self, *modules: nn.Module) -> None:
        """Average the gradients over the processes, in one message."""
        if self.world_size == 1:
            return
        gradients = [p.grad for module in modules for p in module.parameters() if p.grad is not None]
        mean = self.average(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        for gradient, values in zip(gradients, mean.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(values.view_as(gradient))

    def average(self, values: torch.Tensor) -> torch.Tensor:
        """The mean of `values` over the processes."""
        if self.world_size > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.world_size
        return values

    def gather(self, rows: torch.Tensor, whole: torch.Tensor) -> None:
        """Fill `whole`, over a global batch, with every process's `shard` of it: the opposite of `shard`."""
        if self.world_size == 1:
            whole.copy_(rows)
            return
        whole.zero_()
        whole[self.rank :: self.world_size] = rows
        dist.all_reduce(whole)

    def accelerate(
        self, step: accelerate.Step, *optimizers: torch.optim.Optimizer, key: Callable[[], Hashable] = tuple
    ) -> accelerate.Step:
        """`step` compiled (--compile) and, in one process on CUDA, replayed as a CUDA graph; see
        `common.run.accelerate`.

        Only batches of the full size are sped up. `optimizers` are those that the step uses: their hyper-parameters,
        and `key()` for any other Python value that the step reads and that changes (a schedule's flag), are watched,
        and the graph is captured anew when they change. Call it after the optimisers' states are loaded.
        """
        for optimizer in optimizers:
            accelerate.make_capturable(optimizer, self.device)
            if self.compile:
                accelerate.keep_uncompiled(optimizer)
        fast = accelerate.CompiledStep(step) if self.compile else step
        slow = step
        if self.device.type == "cuda" and self.cuda_graphs and self.world_size == 1:
            if not optimizers:
                log.warning(
                    "no CUDA graph: accelerate() was not given the optimisers whose learning rates it must watch"
                )
            else:
                fast = accelerate.GraphedStep(
                    fast, lambda: (accelerate.hyper_parameters(optimizers), key()), (self.generator,)
                )
                slow = accelerate.on_stream(step, fast.stream)
        if fast is step:
            return step
        return lambda index: (fast if self.batch_size in (None, len(index)) else slow)(index)

    def uncompiled(self, function: Callable) -> Callable:
        """`function`, left out of compiled steps: what changes an optimiser, say."""
        return torch.compiler.disable(function) if self.compile else function

    # ---- batches

    def batches(
        self, count: int, batch_size: int, epoch: int, start: int = 0, purpose: str = "order"
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield (i, item indices (n,) on the device) of each global batch of an epoch, from batch `start` on.

        The order depends on seed and epoch alone, the same on every device and rank, so that resuming in mid-epoch
        needs no state. A last batch that would leave a process fewer than 2 rows (batch norm needs them) joins the
        batch before it.
        """
        steps = self.steps(count, batch_size)
        if start > steps:
            raise InputError(
                f"cannot resume at step {start} of epoch {epoch}: {count} items in batches of {batch_size} give {steps}"
                " steps; were other data or options used?"
            )
        self.batch_size = min(batch_size, count)
        self.signals.patient = True
        order = self.order(count, epoch, purpose).to(self.device)
        for i in range(start, steps):
            yield i, order[i * batch_size : (i + 1) * batch_size if i < steps - 1 else count]

    def steps(self, count: int, batch_size: int) -> int:
        """The number of batches in an epoch."""
        least = 2 * self.world_size
        if min(count, batch_size) < least:
            raise InputError(
                f"{count} training items in batches of {batch_size}: {self.world_size} process(es) need batches of "
                f"{least} or more"
            )
        full, rest = divmod(count, batch_size)
        return full + (rest >= least)

    def order(self, count: int, epoch: int, purpose: str = "order") -> torch.Tensor:
        """The shuffled item indices (count,) of an epoch, int64, on the CPU; each `purpose` has its own shuffle."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, purpose, epoch))
        return torch.randperm(count, generator=generator)

    # ---- stopping, saving, resuming

    @property
    def stop_requested(self) -> bool:
        """Whether SIGINT or SIGTERM came to any process. With several, every process must ask, once a step."""
        if self.world_size > 1:
            flag = torch.tensor(self.signals.received)
            dist.all_reduce(flag, dist.ReduceOp.MAX)
            self.signals.note(int(flag))
        return self.signals.received != 0

    def leave(self, message: str) -> NoReturn:
        """Leave the script as the signal asked: `message` is its last line (from rank 0), its status 130 or 143."""
        part_processes()
        raise Interrupted(self.signals.received or signal.SIGTERM, message if self.is_main else "")

    def settle_resume(self, args: Any, state: Path) -> None:
        """Begin or go on, in a job that a launcher may start again with the same command line; in others, nothing.

        `torchrun --max-restarts N` starts all processes anew when one has died. There `--resume` means: from `state`,
        the file that the run saves for it, or, while that is not there, from the beginning; `args.resume` becomes the
        one or "". What any process sees counts.

        Raises:
            InputError: such a job without `--resume`, or with another run's: a restart would lose what was done.
        """
        if not may_restart():
            return
        given = state if args.resume in (True, state.name) else Path(args.resume or "")
        if not args.resume or given.resolve() not in (state.resolve(), state.parent.resolve()):
            raise InputError(
                f"torchrun --max-restarts starts this same command line again when a process dies: give --resume "
                f"{state.parent}, which begins the run where there is nothing yet, or leave --max-restarts out"
            )
        there = torch.tensor(int(state.is_file()))
        if self.world_size > 1:
            dist.all_reduce(there, dist.ReduceOp.MAX)
        args.resume = str(state) if there else ""
        log.info("going on from %s" if there else "there is no %s yet: the run begins", state)

    def save(self, path: str | Path, state: dict[str, Any]) -> None:
        """Save a checkpoint from rank 0, atomically. One that holds NaN or infinities is refused: it is no way back."""
        bad = next(checkpoint.nonfinite(state), None)  # alike in all processes: all stop
        if bad is not None:
            raise NonFiniteLoss(f"{bad} holds NaN or infinite numbers, so {path} was not saved; {self.way_back()}")
        if self.is_main:
            checkpoint.save(path, state)
        self.last_checkpoint = Path(path)

    def way_back(self) -> str:
        """What to say of the last good checkpoint when the numbers have gone bad."""
        if self.last_checkpoint is None:
            return "there is no good checkpoint yet; look at the options, or try a lower learning rate"
        return f"the last good checkpoint is {self.last_checkpoint}; try a lower learning rate in a new run"

    def progress(self, items: Iterable, total: int | None = None, text: str = "", unit: str = "it") -> Iterable:
        """`items` behind a progress bar on stderr, with units a second: only on rank 0, and only on a terminal."""
        from tqdm import tqdm

        hidden = not self.is_main or not sys.stderr.isatty()
        return tqdm(items, desc=text, total=total, unit=unit, leave=False, disable=hidden)
