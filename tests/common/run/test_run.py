"""A run on one process: device, seeds, batches, losses, signals; a run on two gives the same numbers."""

import argparse
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch
from torch import nn

from common.errors import InputError, NonFiniteLoss
from common.run import accelerate, checkpoint
from common.run.losses import LossBuffer
from common.run.options import Parser
from common.run.run import Signals, start
from common.run.script import resume_command, run_script
from common.run.state import random_states, set_random_states
from tests.conftest import ROOT
from tests.processes import run_as_two

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.fixture(autouse=True)
def one_thread():
    """Threads are of no use to tests this small, and wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def options(*words: str) -> argparse.Namespace:
    parser = Parser()
    parser.add_run_options()
    return parser.parse_args(["--device", "cpu", *words])


# ---- starting


def test_same_seed_same_numbers():
    def numbers(seed):
        run = start(options("--seed", str(seed)))
        return torch.rand(3).tolist() + torch.rand(3, generator=run.generator).tolist()

    assert numbers(3) == numbers(3) != numbers(4)
    assert numbers(3)[:3] != numbers(3)[3:]  # the two generators are not twins


def test_device_errors():
    if not torch.cuda.is_available():
        for name in ("cuda", "cuda:1"):
            with pytest.raises(InputError, match="use --device cpu"):
                start(options("--device", name))
    assert start(options("--device", "auto")).device.type in ("cpu", "cuda")


def test_device_index_out_of_range(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match="2 CUDA devices, cuda:0 to cuda:1"):
        start(options("--device", "cuda:2"))


def test_threads():
    start(options("--threads", "3"))
    assert torch.get_num_threads() == 3
    start(options())
    assert torch.get_num_threads() == 3  # 0 leaves a lone process as it is


def test_autocast():
    a = torch.ones(2, 2)
    with start(options("--amp")).autocast():
        assert (a @ a).dtype == torch.bfloat16
    with start(options()).autocast():
        assert (a @ a).dtype == torch.float32


# ---- batches


@pytest.mark.parametrize(
    "count, batch_size, sizes",
    [(10, 4, [4, 4, 2]), (9, 4, [4, 5]), (8, 4, [4, 4]), (3, 4, [3]), (5, 4, [5]), (2, 2, [2])],
)
def test_batches_partition_the_items(count, batch_size, sizes):
    run = start(options())
    batches = list(run.batches(count, batch_size, epoch=0))
    assert [i for i, _ in batches] == list(range(run.steps(count, batch_size)))
    assert [len(index) for _, index in batches] == sizes
    assert sorted(torch.cat([index for _, index in batches]).tolist()) == list(range(count))


def test_batches_depend_on_seed_and_epoch_alone():
    run = start(options())
    whole = [index.tolist() for _, index in run.batches(50, 8, epoch=3)]
    torch.rand(7), torch.rand(7, generator=run.generator)
    again = [index.tolist() for _, index in start(options()).batches(50, 8, epoch=3, start=2)]
    assert again == whole[2:]
    assert [index.tolist() for _, index in run.batches(50, 8, epoch=4)] != whole
    assert [index.tolist() for _, index in start(options("--seed", "1")).batches(50, 8, epoch=3)] != whole


def test_batches_refuse_what_cannot_be():
    run = start(options())
    for count, batch_size, first in ((1, 8, 0), (8, 1, 0), (8, 4, 3)):
        with pytest.raises(InputError):
            list(run.batches(count, batch_size, epoch=0, start=first))
    assert list(run.batches(8, 4, epoch=0, start=2)) == []


def test_two_ranks_never_get_fewer_than_two_rows():
    run = start(options())
    run.world_size = 2
    for count in range(4, 40):
        sizes = [len(index) for _, index in run.batches(count, 8, epoch=0)]
        assert sum(sizes) == count and all(len(range(1, size, 2)) >= 2 for size in sizes)
    run.rank = 1
    rows = torch.arange(5)
    assert run.shard(rows).tolist() == [1, 3] and run.weight(run.shard(rows), rows) == pytest.approx(0.8)


# ---- losses


class Recorder:
    def __init__(self):
        self.seen = []

    def scalars(self, step, values):
        self.seen.append((step, values))


def test_losses_are_averaged_and_logged():
    run, log = start(options("--log_every", "2")), Recorder()
    losses = LossBuffer(("a", "b"), run, log, epoch=3, steps=10)
    for i in range(3):
        losses.record(i, torch.tensor([i, 10.0 * i], requires_grad=True))
    assert log.seen == [(31, {"a": 0.5, "b": 5.0})]
    assert losses.means() == {"a": 1.0, "b": 10.0}
    assert log.seen[-1] == (32, {"a": 2.0, "b": 20.0})


def test_losses_weigh_by_rows_and_resume():
    run = start(options())
    losses = LossBuffer(("a",), run)
    losses.record(0, torch.tensor([1.0]), rows=4)
    state = checkpoint_round_trip({"losses": losses.state_dict()})["losses"]
    losses = LossBuffer(("a",), run, state=state)
    losses.record(1, torch.tensor([6.0]), rows=1)
    assert losses.means() == {"a": 2.0}
    assert LossBuffer(("a",), run).means() == {}
    run.log_every = 10**12  # as good as never
    assert len(LossBuffer(("a",), run, steps=7).window) == 7


def checkpoint_round_trip(state):
    import io

    memory = io.BytesIO()
    torch.save(state, memory)
    memory.seek(0)
    return torch.load(memory, weights_only=True)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_loss_names_step_term_and_way_back(tmp_path, bad):
    run = start(options("--log_every", "3"))
    losses = LossBuffer(("reprojection", "cycle"), run, epoch=7)
    losses.record(0, torch.tensor([1.0, 1.0]))
    losses.record(1, torch.tensor([1.0, bad]))
    with pytest.raises(NonFiniteLoss) as error:
        losses.record(2, torch.tensor([bad, bad]))
    assert f"cycle is {bad} in step 2 of epoch 8" in str(error.value) and "no good checkpoint yet" in str(error.value)
    run.save(tmp_path / "good.bin", {"epoch": 6, "model_pos": {"w": torch.ones(1)}})
    losses.record(3, torch.tensor([bad, 1.0]))
    with pytest.raises(NonFiniteLoss, match="reprojection.*step 4.*last good checkpoint is .*good.bin; try a lower"):
        losses.means()
    with pytest.raises(NonFiniteLoss, match="model_pos.w holds NaN"):
        run.save(tmp_path / "bad.bin", {"epoch": 7, "model_pos": {"w": torch.full((1,), bad)}})
    assert os.listdir(tmp_path) == ["good.bin"]


# ---- exact resume


def train(run, epochs, stop=None, state=None):
    """A toy training run with dropout, shuffling and momentum; returns its losses and, when stopped, its state."""
    data = torch.linspace(0, 1, 22).unsqueeze(1)
    model = run.prepare(nn.Sequential(nn.Linear(1, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    first, step, seen = 0, 0, []
    if state is not None:
        checkpoint.load_weights(model, state["model_pos"], "state")
        checkpoint.load_optimizer(optimizer, state["optimizer"], "state")
        first, step = state["epoch"], state["step"]
        set_random_states(run, state["rng"])
    for epoch in range(first, epochs):
        for i, index in run.batches(len(data), 4, epoch, start=step):
            noise = torch.randn(len(index), 1, generator=run.generator)
            loss = ((model(data[index]) - data[index] + 0.1 * noise) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen.append(loss.item())
            if stop == (epoch, i):
                return seen, {
                    "model_pos": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "epoch": epoch,
                    "step": i + 1,
                    "rng": random_states(run),
                }
        step = 0
    return seen, None


def test_resumed_run_is_the_same_run(tmp_path):
    whole, _ = train(start(options()), 3)
    first, state = train(start(options()), 3, stop=(1, 2))
    checkpoint.save(tmp_path / "a.bin", state)
    rest, _ = train(start(options("--seed", "0")), 3, state=checkpoint.load(tmp_path / "a.bin"))
    assert first + rest == whole and max(whole) < 10


# ---- scripts and signals


def test_resume_command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train_teacher.py", "-k", "gt", "-r", "old.bin", "--resume=older.bin"])
    assert resume_command("a b.bin") == "python train_teacher.py -k gt --resume 'a b.bin'"


def test_resume_command_after_a_bare_resume(monkeypatch):
    """train_hourglass.py takes --resume without a file: the next option's name is none."""
    words = ["train_hourglass.py", "--resume", "--exp_id", "a"]
    for argv in (words, [*words, "--resume"]):
        monkeypatch.setattr(sys, "argv", argv)
        assert resume_command("exp/a") == "python train_hourglass.py --exp_id a --resume exp/a"


@pytest.mark.parametrize(
    ("environment", "launcher"),
    [
        ({"RANK": "0", "WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "none"}, "python"),
        (
            {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "1",
             "TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"},
            "torchrun --nproc_per_node=2",
        ),
        (
            {"RANK": "0", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "3", "GROUP_WORLD_SIZE": "2", "GROUP_RANK": "0",
             "TORCHELASTIC_RUN_ID": "7", "MASTER_ADDR": "node1", "MASTER_PORT": "29511"},
            "torchrun --nproc_per_node=3 --nnodes=2 --node_rank=0 --master_addr=node1 --master_port=29511",
        ),
        ({"RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": "node1", "MASTER_PORT": "29511"}, "python"),
    ],
    ids=["one process", "one machine", "two machines", "another launcher"],
)  # fmt: skip
def test_resume_command_repeats_the_launcher(monkeypatch, environment, launcher):
    for name in [name for name in os.environ if name.startswith(("MASTER_", "TORCHELASTIC_", "GROUP_"))]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["train_teacher.py", "-k", "gt"])
    assert resume_command("a.bin") == f"{launcher} train_teacher.py -k gt --resume a.bin"


def status_of(main, capsys) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stop:
        run_script(main)
    return stop.value.code, capsys.readouterr().err


def test_run_script_statuses(capsys):
    def bad_input():
        raise InputError("no such\nfile")

    def interrupted():
        os.kill(os.getpid(), signal.SIGINT)

    def memory():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried ...")

    before = signal.getsignal(signal.SIGINT)
    assert status_of(lambda: None, capsys) == (0, "")
    assert status_of(bad_input, capsys) == (2, "error: no such file\n")
    assert status_of(interrupted, capsys) == (130, "interrupted by SIGINT\n")
    assert status_of(memory, capsys)[0] == 2
    with pytest.raises(ZeroDivisionError):  # a bug keeps its traceback
        run_script(lambda: 1 / 0)
    assert signal.getsignal(signal.SIGINT) is before


def test_scripts_take_denormal_numbers_for_zero(capsys):
    """Some CPUs multiply them many times slower: see docs/measured.md for what that does to training."""
    product = []
    torch.set_flush_denormal(False)
    tiny = torch.tensor([1e-39])
    assert tiny.mul(0.5).item() > 0  # the machine has them
    assert status_of(lambda: product.append(tiny.mul(0.5).item()), capsys) == (0, "")
    assert product == [0]


def test_a_failed_process_parts_from_its_gloo_group(tmp_path, capsys):
    """Else the group's threads may abort the process at its end: status 134 for 2, now and then."""

    def main():
        store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        raise InputError("no")

    assert status_of(main, capsys) == (2, "error: no\n")
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_finishes_the_step(capsys, signum):
    done = []

    def main():
        run = start(options())
        for i, _ in run.batches(20, 2, epoch=0):
            if i == 3:
                os.kill(os.getpid(), signum)
                os.kill(os.getpid(), signum)  # its echo
            done.append(i)
            if run.stop_requested:
                run.leave("resume with: x")

    assert status_of(main, capsys) == (128 + signum, "resume with: x\n")
    assert done == [0, 1, 2, 3]


def test_second_signal_leaves_at_once(capsys, monkeypatch):
    monkeypatch.setattr(Signals, "echo", 0.0)
    done = []

    def main():
        run = start(options())
        for i, _ in run.batches(20, 2, epoch=0):
            os.kill(os.getpid(), signal.SIGTERM)
            done.append(i)

    assert status_of(main, capsys) == (143, "interrupted by SIGTERM\n")
    assert done == [0]


def forked_script(main, *words: str):
    """The process that runs `main` as a script, and its stdout and stderr to read from."""
    out, err = os.pipe(), os.pipe()
    child = os.fork()
    if child:
        os.close(out[1]), os.close(err[1])
        return child, open(out[0]), open(err[0])
    status = 99
    try:
        os.dup2(out[1], 1), os.dup2(err[1], 2)
        os.close(out[0]), os.close(err[0])
        sys.stdout, sys.stderr, sys.argv = open(1, "w"), open(2, "w"), ["script.py", *words]
        logging.getLogger().handlers.clear()
        run_script(main)
    except SystemExit as stop:
        status = stop.code
    finally:
        sys.stderr.flush()
        os._exit(status)


def test_script_in_a_process_of_its_own():
    """A signal from outside, a closed pipe, a warning, a progress bar: what a shell sees."""

    def main():
        run = start(options(*sys.argv[1:]))
        logging.getLogger("common").warning("mind the gap")
        if run.seed == 7:
            for _ in range(100000):
                print("a line of a table that nobody reads to its end")
            return
        for i, _ in run.progress(run.batches(5000, 2, 0)):
            if i == 0:
                print("training", flush=True)
            time.sleep(0.01)
            if run.stop_requested:
                run.leave(f"stopped; resume with: {resume_command('a.bin')}")

    child, out, err = forked_script(main, "--seed", "3")
    assert out.readline() == "training\n"
    os.kill(child, signal.SIGTERM)
    errors = err.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 143
    assert errors == "warning: mind the gap\nstopped; resume with: python script.py --seed 3 --resume a.bin\n"

    child, out, err = forked_script(main, "--seed", "7")
    out.readline()
    out.close()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 141
    assert err.read() == "warning: mind the gap\n"


# ---- several processes


def two_processes(tmp_path, body: str) -> list[dict]:
    """Run `body` (which fills `result`) as one process and as two; return their results: one, rank 0, rank 1."""
    body = textwrap.dedent("""
        import torch
        from torch import nn
        from common.run.losses import LossBuffer
        from common.run.options import Parser
        from common.run.run import start
        from common.run.state import random_states, set_random_states
        parser = Parser()
        parser.add_run_options()
        run = start(parser.parse_args(["--device", "cpu"]))
        result = {}
    """) + textwrap.dedent(body)
    ends = """
        from common.run.script import part_processes
        torch.save(result, f"{run.rank}.pt")
        part_processes()
    """
    program = tmp_path / "processes.py"
    program.write_text(body + textwrap.dedent(ends))
    one: dict = {}
    exec(compile(body, str(program), "exec"), one)
    done = run_as_two([program], tmp_path)
    assert done.status == 0, done.err
    return [one["result"], *(torch.load(tmp_path / f"{rank}.pt") for rank in range(2))]


def test_two_processes_equal_one(tmp_path):
    """Batch norm (2, 3 and 4 dimensions, a mean far from zero, uneven shards) and SGD, evaluated and stepped."""
    one, *two = two_processes(
        tmp_path,
        """
        generator = torch.Generator().manual_seed(5)
        for name, shape, layer in (("2d", (7, 3), nn.BatchNorm1d(3)),
                                   ("3d", (5, 3, 4), nn.BatchNorm1d(3, momentum=None)),
                                   ("4d", (6, 3, 2, 2), nn.BatchNorm2d(3, eps=1e-3, momentum=0.3))):
            whole = torch.randn(shape, generator=generator) + torch.tensor([0.0, 1.0, 3000.0]).view(
                [1, 3] + [1] * (len(shape) - 2))
            weights = torch.randn(shape, generator=generator)
            nn.init.normal_(layer.weight, generator=generator)
            names = list(layer.state_dict())
            layer = run.prepare(layer)
            assert list(layer.state_dict()) == names
            for _ in range(2):
                mine = run.shard(whole).clone().requires_grad_()
                out = layer(mine)
                layer.zero_grad()
                (out * run.shard(weights)).sum().backward()
            run.reduce_gradients(layer)
            result[name] = {"out": out.detach(), "grad": mine.grad, "state": dict(layer.state_dict()),
                            "parameters": torch.cat([p.grad for p in layer.parameters()]) * run.world_size}
            result[name]["eval"] = layer.eval()(run.shard(whole)).detach()

        torch.manual_seed(9 + run.rank)  # rank 0's weights are what counts
        model = run.prepare(nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2)))
        velocity = [torch.zeros_like(p) for p in model.parameters()]  # importing torch.optim's machinery takes seconds
        data, target = torch.randn(29, 4, generator=generator), torch.randn(29, 2, generator=generator)
        losses = LossBuffer(("loss",), run)
        for epoch in range(3):
            for i, index in run.batches(len(data), 8, epoch):
                noise = torch.randn(len(index), 2, generator=run.generator)
                mine = run.shard(index)
                loss = ((model(data[mine]) - target[mine] + run.shard(noise)) ** 2).mean()
                model.zero_grad()
                (loss * run.weight(mine, index)).backward()
                run.reduce_gradients(model)
                for p, v in zip(model.parameters(), velocity, strict=True):
                    v.mul_(0.9).add_(p.grad)
                    p.data.sub_(0.05 * v)
                losses.record(i, loss.detach().reshape(1), len(index))
                assert not run.stop_requested
        result["sgd"] = {"state": dict(model.state_dict()), "loss": losses.means()["loss"]}

        before = random_states(run)
        draws = torch.rand(3)
        set_random_states(run, before)
        assert torch.equal(torch.rand(3), draws) and len(before["ranks"]) == run.world_size
        result["draws"] = draws

        if run.rank == run.world_size - 1:
            run.signals.note(15)  # a signal that reaches one process stops all
        result["stop"] = run.stop_requested and run.signals.received
        run.signals(15, None)  # the launcher's own signal, a moment later, is the same wish: it does not raise
    """,
    )
    for name in ("2d", "3d", "4d"):
        for key in ("out", "grad", "eval"):
            merged = torch.empty_like(one[name][key])
            merged[0::2], merged[1::2] = two[0][name][key], two[1][name][key]
            torch.testing.assert_close(merged[:, :2], one[name][key][:, :2], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(merged, one[name][key], rtol=5e-6, atol=2e-3)  # 3000 itself is good to 2e-4
        for rank in two:
            torch.testing.assert_close(rank[name]["state"], one[name]["state"], rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(rank[name]["parameters"], one[name]["parameters"], rtol=0, atol=2e-3)
    for rank in two:
        torch.testing.assert_close(rank["sgd"]["state"], one["sgd"]["state"], rtol=0, atol=1e-6)
        assert rank["sgd"]["loss"] == pytest.approx(one["sgd"]["loss"], abs=1e-6)
        assert rank["stop"] == 15
    assert torch.equal(two[0]["draws"], one["draws"]) or not torch.equal(two[0]["draws"], two[1]["draws"])


# ---- faster steps


def toy_step(run, drop=0.5, kind=torch.optim.SGD):
    torch.manual_seed(0)
    data = torch.randn(100, 4, device=run.device)
    model = run.prepare(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(drop), nn.Linear(8, 1)))
    optimizer = kind(model.parameters(), lr=0.1)

    def step(index):
        with run.autocast():
            noise = torch.randn(len(index), 1, generator=run.generator, device=run.device)
            loss = ((model(data[index]).float() - noise) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach().reshape(1)

    return step, model, optimizer


def test_accelerate_leaves_the_cpu_alone():
    run = start(options())
    step, _, optimizer = toy_step(run)
    assert run.accelerate(step, optimizer) is step


def test_compile_errors_are_one_line(monkeypatch):
    def broken(step, **_):
        def call(index):
            from torch._dynamo.exc import TorchDynamoException

            raise TorchDynamoException("no C++ compiler\nlong story")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    run = start(options("--compile"))
    step, _, optimizer = toy_step(run)
    fast = run.accelerate(step, optimizer)
    run.batch_size = 8
    assert torch.isfinite(fast(torch.arange(5)))  # a batch of another size is not compiled for
    with pytest.raises(InputError, match="--compile failed .*no C.. compiler"):
        fast(torch.arange(8))


def test_hyper_parameters_are_watched():
    _, model, optimizer = toy_step(start(options()))
    before = accelerate.hyper_parameters((optimizer,))
    assert accelerate.hyper_parameters((optimizer,)) == before and hash(before) is not None
    optimizer.param_groups[0]["lr"] *= 0.5
    assert accelerate.hyper_parameters((optimizer,)) != before
    adam = torch.optim.Adam(model.parameters())
    accelerate.make_capturable(adam, torch.device("cuda"))
    assert adam.param_groups[0]["capturable"]
    accelerate.make_capturable(adam, torch.device("cpu"))
    assert not adam.param_groups[0]["capturable"]


@pytest.mark.gpu
@cuda
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_cuda_graph_gives_the_eager_numbers(kind):
    def losses(*words):
        run = start(options("--device", "cuda", *words))
        step, _, optimizer = toy_step(run, kind=kind)
        step = run.accelerate(step, optimizer)
        seen = []
        for epoch in range(4):
            for _, index in run.batches(100, 16, epoch):  # the last batch has 4 rows
                seen.append(step(index))
            optimizer.param_groups[0]["lr"] *= 0.5
        draws = torch.rand(1, device=run.device), torch.rand(1, device=run.device, generator=run.generator)
        return torch.cat(seen), *draws

    for graphed, eager in zip(losses(), losses("--no_cuda_graphs"), strict=True):
        torch.testing.assert_close(graphed, eager, rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
@cuda
def test_cuda_graph_follows_the_key_and_resumes():
    run = start(options("--device", "cuda"))
    step, model, optimizer = toy_step(run, drop=0.0)
    factor = [1.0]
    fast = run.accelerate(lambda index: step(index) * factor[0], optimizer, key=lambda: factor[0])
    index = torch.arange(16, device=run.device)
    for _ in range(5):
        assert fast(index) > 0
    factor[0] = -1.0
    for _ in range(5):
        assert fast(index) < 0
    state = random_states(run)
    first = torch.rand(3, device=run.device, generator=run.generator)
    set_random_states(run, state)
    assert torch.equal(torch.rand(3, device=run.device, generator=run.generator), first)


@pytest.mark.gpu
@cuda
def test_uncapturable_step_is_one_line():
    run = start(options("--device", "cuda"))
    step, _, optimizer = toy_step(run)
    fast = run.accelerate(lambda index: step(index) * step(index).item(), optimizer)
    with pytest.raises(InputError, match="--no_cuda_graphs"):
        for _ in range(5):
            fast(torch.arange(16, device=run.device))


def say(script_words: str, **streams) -> tuple[int, str]:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from common.run.script import run_script\n{script_words}"
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, **streams)
    return done.returncode, done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_output_that_cannot_be_written():
    words = "run_script(lambda: print('x' * 100_000))"
    with open("/dev/full", "w") as full:
        status, err = say(words, stdout=full)
    assert status == 2 and err.startswith("error: cannot write: No space left") and err.count("\n") == 1
    assert say(words, preexec_fn=lambda: os.close(1)) == (0, "")


@pytest.mark.parametrize("error", ["MemoryError()", "RuntimeError('DefaultCPUAllocator: not enough memory')"])
def test_full_memory_is_one_line(error, capfd):
    def main() -> None:
        raise eval(error)

    with pytest.raises(SystemExit) as left:
        run_script(main)
    assert left.value.code == 2 and "lower the batch size" in capfd.readouterr().err
