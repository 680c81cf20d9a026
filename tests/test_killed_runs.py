"""Training scripts, killed with -9 at random moments and resumed, end bit for bit as those that were never stopped.

    python -m pytest -q -m slow     100 kills for each script; fewer with KILLS=5 in front

Each kill hits a process of its own (`tests.processes`), at a moment drawn from the time that a whole run takes; what is
resumed is killed again, until one comes to its end. Where a run has left no state yet, it begins anew.
"""

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from common.multiview.write import write_multiview
from common.run import checkpoint
from common.skeleton import H36M_17
from tests.conftest import same
from tests.processes import run_apart, start
from tests.tiny_dataset import tiny_poses, write_tiny_dataset

KILLS = int(os.environ.get("KILLS", 100))
WEIGHTS = (".bin", ".ckpt", ".pth", ".tar")

ITES = "-d tiny -k gt --n-fully-connected 32 --n-layers 2 -b 32 -e 3 -decay 2"
POSEAUG = "--posenet_name mlp --stages 1 --dropout 0.25 --batch_size 32 --cross_data none --note t --epochs 3"
VIEWS = "-d views --actor_subset 1 --every_nth_frame 1 --num_workers 0 -b 4 --test_every 3 -e 3"
IMAGES = "--dataset synthetic --motion tiny --synthetic_images 2 --synthetic_test 1 --subjects-train S1"
SMALL_VIEWS = "--encoder_type unet --feature_scale 16 --latent_fg 8 --latent_3d 30 --input_dimension 16"
EVERY_LOSS = "--task human3d --ratio_3d 1 --weight_3d 0.1 --weight_var 0.01"


class Script(NamedTuple):
    """A training script: its options, the one that names a run, what it saves for --resume, and where a run lies."""

    options: str
    name: str
    state: str
    place: str = "{}"


SCRIPTS = {
    "train_teacher.py": Script(ITES, "-c", "last.bin"),
    "train_student.py": Script(
        f"{ITES} --hid-dim 16 --n-blocks 1 --teacher_checkpoint teacher/ckpt_teacher.bin", "-c", "last.bin"
    ),
    "run_baseline.py": Script(f"{POSEAUG} --snapshot 2 --lr_decay 5", "--checkpoint", "last.pth.tar", "{}/mlp/gt/*"),
    "run_poseaug.py": Script(
        f"{POSEAUG} --pretrain False --warmup 1 --snapshot 1 --viz_every 0",
        "--checkpoint", "last.pth.tar", "{}/mlp/gt/*",
    ),
    "train_gan.py": Script("--dataset tiny --batch_size 40 --use_heuristic_loss -e 3", "--checkpoint", "last.ckpt"),
    "train_hourglass.py": Script(
        f"{IMAGES} --subjects-test S9 --input_h 32 --input_w 32 --arch msra_18 --batch_size 2 --backbone_weights none "
        f"--num_workers 0 {EVERY_LOSS} --num_epochs 3 --lr_step 1 --val_intervals 2",
        "--exp_id", "model_last.pth", "exp/{}",
    ),
    "train_encoder_decoder.py": Script(f"{VIEWS} {SMALL_VIEWS} --imagenet_weights none", "-c", "last.pth"),
    "train_encoder_decoder_pose.py": Script(f"{VIEWS} --pretrained network/last.pth", "-c", "last.pth"),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Tiny data of every kind in `data` and `views`, a teacher, and an encoder-decoder's network."""
    folder = tmp_path_factory.mktemp("killed")
    for name in ("tiny", "h36m"):
        write_tiny_dataset(folder / "data", name, frames=4, actions=("Walking",))
    write_multiview(folder / "views", tiny_poses(4, ("S1", "S9"), ("Walking",), H36M_17), size=16, frames=4)
    for name, run in (("train_teacher.py", "teacher"), ("train_encoder_decoder.py", "network")):
        done = run_apart((*words_of(name, run), "-e", 1), folder)
        assert done.status == 0, done.err
    return folder


def words_of(name: str, run: str) -> tuple[str, ...]:
    """The command line of a run."""
    return name, *SCRIPTS[name].options.split(), "--device", "cpu", "--threads", "1", SCRIPTS[name].name, run


def state_of(folder: Path, name: str, run: str) -> Path | None:
    """What a run has left to go on from, if it has."""
    return next(folder.glob(f"{SCRIPTS[name].place.format(run)}/{SCRIPTS[name].state}"), None)


def kept(run: Path) -> dict[str, Path]:
    """What a run has written, but for what tells its name or the time."""
    told = ("config.yaml", "log.txt", "curves.png")
    files = (path for path in run.rglob("*") if path.is_file() and path.name not in told)
    return {str(path.relative_to(run)): path for path in files if "tfevents" not in path.name}


def assert_same_run(one: Path, other: Path) -> None:
    """Every file the same, none left over; of checkpoints, all but the options, which name the folder."""
    first, second = kept(one), kept(other)
    assert first.keys() == second.keys()
    for name, path in first.items():
        if path.suffix in WEIGHTS:
            a, b = checkpoint.load(path), checkpoint.load(second[name])
            assert a.keys() == b.keys(), name
            assert not [key for key in a.keys() - {"options"} if not same(a[key], b[key])], name
        else:
            assert path.read_bytes() == second[name].read_bytes(), name


def run_to_its_end(folder: Path, name: str, run: str, moment: Callable[[], float]) -> int:
    """Start a run, kill it after `moment()` seconds and go on, until it is done before that; -> how often killed."""
    kills = 0
    while True:
        state = state_of(folder, name, run)
        resume = () if state is None else ("--resume",) if name == "train_hourglass.py" else ("--resume", state)
        script = start((*words_of(name, run), *resume), folder)
        script.process.join(moment())
        if script.process.exitcode is None:
            script.process.kill()
            script.process.join()
            kills += 1
            continue
        done = script.wait()
        only_curves_lack = kills and done.status == 2 and "finished" in done.err  # killed behind its last save
        assert done.status == 0 or only_curves_lack, done
        return kills


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_killed_at_random_moments(folder, name):
    for run in (f"first_{name}", f"whole_{name}"):  # the first makes, too, what is made once
        began = time.monotonic()
        assert run_to_its_end(folder, name, run, lambda: 600) == 0
        length = time.monotonic() - began
    whole, draw = state_of(folder, name, f"whole_{name}").parent, random.Random(name)
    kills, runs = 0, 0
    while kills < KILLS:
        left = iter(range(KILLS - kills))
        kills += run_to_its_end(
            folder, name, "run", lambda left=left: 600 if next(left, None) is None else draw.uniform(0, length)
        )
        runs += 1
        assert_same_run(state_of(folder, name, "run").parent, whole)
        shutil.rmtree(folder / SCRIPTS[name].place.format("run").removesuffix("/mlp/gt/*"))
    print(f"{name}: killed {kills} times in {runs} runs of {length:.1f} s")
