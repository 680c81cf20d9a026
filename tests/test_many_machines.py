"""Training on several machines, here processes of one: the same losses, rank 0 alone writes, a death is survived.

The other scripts have a test each in which two processes of one machine train as one.
"""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch.distributed as dist
import torch.distributed.run

from common.multiview.write import write_multiview
from common.run import checkpoint
from common.skeleton import H36M_17
from methods.hourglass import evaluation
from tests.conftest import ROOT, Outcome, assert_refused, metric_rows, same
from tests.processes import run_apart, run_as_two, start
from tests.tiny_dataset import tiny_poses, write_tiny_dataset

pytestmark = pytest.mark.usefixtures("small")

TORCHRUN, DYING = Path(torch.distributed.run.__file__), ROOT / "tests/dying.py"
POSES = ("--data-dir", "data", "-d", "tiny", "--subjects-train", "S1", "--subjects-test", "S9", "--device", "cpu")
LIFTER = (*POSES, "--batch_size", 31, "--posenet_name", "mlp", "--stages", 1, "--dropout", 0, "--note", "t")
IMAGES = (
    "--dataset", "synthetic", "--motion", "tiny", "--synthetic_images", 4, "--synthetic_test", 2, "--no_cache",
    *POSES[4:], "--arch", "msra_18", "--backbone_weights", "none", "--num_workers", 0, "--val_intervals", 0,
    "--task", "human3d", "--ratio_3d", 1, "--weight_3d", 0.1, "--weight_var", 0.01, "--lr", 1e-5,
)  # fmt: skip
VIEWS = (
    "-d", "views", "--actor_subset", 1, "--every_nth_frame", 1, "--device", "cpu", "--num_workers", 0, "-b", 8,
    "--encoder_type", "unet", "--feature_scale", 16, "--latent_fg", 8, "--latent_3d", 30, "--input_dimension", 16,
    "--imagenet_weights", "none", "--latent_dropout", 0,
)  # fmt: skip
BASELINE = ("run_baseline.py", *LIFTER, "--flip_train", "--epochs", 3)
POSEAUG = ("run_poseaug.py", *LIFTER, "--pretrain", "False", "--warmup", 0, "--viz_every", 0, "--snapshot", 1,
           "--epochs", 2)  # fmt: skip
HOURGLASS = ("train_hourglass.py", *IMAGES, "--input_h", 64, "--input_w", 64, "--num_epochs", 1)
ENCODER_DECODER = ("train_encoder_decoder.py", *VIEWS, "-e", 1)
TEACHER = ("train_teacher.py", *POSES, "-k", "gt", "--n-fully-connected", 16, "--n-layers", 1, "-b", 32)
GAN = ("train_gan.py", *POSES, "-b", 32, "--method", "kudo")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """What every test begins with; none writes into it."""
    folder = tmp_path_factory.mktemp("data")
    write_tiny_dataset(folder / "data", frames=12, subjects=("S1", "S9"))
    write_multiview(folder / "views", tiny_poses(4, ("S1", "S9"), ("Walking",), H36M_17), size=16, frames=4)
    return folder


@pytest.fixture
def folder(data, tmp_path) -> Path:
    """One folder for all processes: a disk that machines share."""
    return Path(shutil.copytree(data, tmp_path / "shared"))


@pytest.fixture(scope="module")
def train_on_both(data, tmp_path_factory, small) -> Callable[[tuple, str], Path]:
    """-> a function: the folder of a script's run as two processes, each on a machine with its own disk; made once.

    The data lie on both; rank 0 alone writes and speaks.
    """

    @cache
    def train(words: tuple, where: str) -> Path:
        machines = [Path(shutil.copytree(data, tmp_path_factory.mktemp("machine") / "disk")) for _ in range(2)]
        before = [set(machine.rglob("*")) for machine in machines]
        done = run_as_two((*words, where, "run"), *machines)
        assert done.status == 0, done.err
        written = [machine for machine, old in zip(machines, before, strict=True) if set(machine.rglob("*")) != old]
        assert written == machines[:1] and done.out and not done.outs[1]
        return run_of(machines[0] / "run")

    return train


def on_two_machines(folder: Path, words: tuple, *options) -> list[Outcome]:
    """A script and its options under two torchruns in one folder.

    They meet at a store of this process, which outlives both. A torchrun that held it would take it along when its
    processes fail, and the other would fail for want of it (docs/cluster.md).
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    meeting = ("--nnodes", 2, "--nproc_per_node", 1, "--rdzv_backend", "c10d", "--rdzv_conf", "is_host=0",
               "--rdzv_endpoint", f"127.0.0.1:{store.port}")  # fmt: skip
    jobs = [start((TORCHRUN, *meeting, *options, *words), folder) for _ in range(2)]
    try:
        return [job.wait() for job in jobs]
    finally:
        for job in jobs:
            job.end()


def run_of(folder: Path) -> Path:
    """The one run under a folder."""
    (table,) = Path(folder).rglob("metrics.csv")
    return table.parent


def assert_same_run(first: Path, second: Path) -> None:
    """The same rows and the same networks, optimisers and random states, bit for bit."""
    assert (first / "metrics.csv").read_text() == (second / "metrics.csv").read_text()
    assert (first / "log.txt").read_text().splitlines()[1:] == (second / "log.txt").read_text().splitlines()[1:]
    states = [checkpoint.load(run / "last.pth.tar") for run in (first, second)]
    for name in states[0].keys() - {"options"}:
        assert same(*(state[name] for state in states)), name


# ------------------------------------------------------------ the same losses


@pytest.mark.parametrize(
    ("words", "where", "tolerance"),
    [(BASELINE, "--checkpoint", 2e-3), (POSEAUG, "--checkpoint", 1e-2), (ENCODER_DECODER, "-c", 2e-3)],
    ids=["baseline", "poseaug", "encoder_decoder"],
)
def test_two_machines_train_as_one_process(folder, train_on_both, script, monkeypatch, words, where, tolerance):
    run = train_on_both(words, where)
    monkeypatch.chdir(folder)
    done = script(*words, where, "one")
    assert done.status == 0, done.err
    for one, two in zip(metric_rows(run_of(folder / "one")), metric_rows(run), strict=True):
        assert two == pytest.approx(one, rel=tolerance)


# ------------------------------------------------------------ deaths


def test_a_death_ends_the_job_and_resume_goes_on_exactly(folder, train_on_both):
    """Rank 1 of two processes of one machine, in the second epoch; rank 0, which writes, has to notice."""
    name, *options = BASELINE
    whole = train_on_both(BASELINE, "--checkpoint")
    dying = (DYING, "died", 1, 1, 1, ROOT / name, *options, "--checkpoint", "killed")
    done = run_apart((TORCHRUN, "--standalone", "--nproc_per_node", 2, *dying), folder)
    assert done.status == 1
    (line,) = (line for line in done.err.splitlines() if line.startswith("error: "))
    assert "another process" in line and "--resume" in line and "[rank0]" not in done.err
    run = run_of(folder / "killed")
    assert not [path for path in run.iterdir() if ".tmp" in path.name] and len(metric_rows(run)) == 1
    assert checkpoint.load(run / "last.pth.tar")["epoch"] == 1

    done = run_as_two((*BASELINE, "--resume", run), folder)
    assert done.status == 0, done.err
    assert_same_run(run, whole)


def test_a_job_begun_anew_by_torchrun_goes_on_exactly(folder, train_on_both):
    """Rank 0 of two machines dies; the same command lines, which began the run, go on with it."""
    name, *options = POSEAUG
    whole = train_on_both(POSEAUG, "--checkpoint")
    dying = (DYING, "died", 0, 1, 1, ROOT / name, *options, "--resume", "job")
    outcomes = on_two_machines(folder, dying, "--max_restarts", 1)
    said = "".join(outcome.err for outcome in outcomes)
    assert [outcome.status for outcome in outcomes] == [0, 0], said
    assert (folder / "died").exists() and "the run begins" in said and "going on from job/last.pth.tar" in said
    assert_same_run(folder / "job", whole)


@pytest.fixture
def may_restart(folder, monkeypatch):
    """The current folder, in a job of one process that torchrun may start again."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "1")


@pytest.mark.parametrize(
    ("words", "epochs", "run", "resume"),
    [
        (BASELINE, "--epochs", "again/baseline", ()),
        ((*ENCODER_DECODER, "-c", "again/views"), "-e", "again/views", ()),
        ((*GAN, "-c", "again/gan"), "-e", "again/gan", ()),
        ((*TEACHER, "-c", "again/teacher"), "-e", "again/teacher", ("last.bin",)),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) and value else "",
)
def test_the_same_command_line_begins_and_goes_on(may_restart, script, words, epochs, run, resume):
    resume = ("--resume", *(resume or (run,)))
    for count in (1, 2):
        done = script(*words, epochs, count, *resume)
        assert done.status == 0, done.err
    assert [row["epoch"] for row in metric_rows(run) if row["epoch"]] == [1, 2]


def leave(*_) -> None:
    raise KeyboardInterrupt


def test_a_death_while_validating_loses_nothing(may_restart, script, monkeypatch):
    """The hourglass saves before it validates; from there a restart goes on."""
    words = (*HOURGLASS, "--input_h", 32, "--input_w", 32, "--synthetic_images", 2, "--batch_size", 4)
    words += ("--val_intervals", 1, "--exp_dir", "again")
    assert script(*words, "--exp_id", "whole", "--resume").status == 0
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "evaluate", leave)
        assert script(*words, "--exp_id", "parts", "--resume").status == 130
    assert not Path("again/parts/metrics.csv").exists()
    assert script(*words, "--exp_id", "parts", "--resume").status == 0
    assert metric_rows("again/parts") == metric_rows("again/whole")


def test_a_job_that_may_be_begun_anew_needs_to_know_where_to_go_on(may_restart, script):
    for wrong in ((), ("--resume", "again/other"), ("--resume", "again/gan/best-model.ckpt")):
        assert_refused(script(*GAN, "-c", "again/gan", *wrong), "--max-restarts", "--resume again/gan")
    assert_refused(script(*HOURGLASS, "--exp_id", "new"), "--max-restarts", "--resume exp/new")
