"""Time and memory to read a training set of Human3.6M's size.

    python benchmarks/loading.py [--data-dir DIR] [--frames 2504] [--rounds 3]

Makes such a set once, `data_3d_sized.npz` and `data_2d_sized_gt.npz` in DIR (7 subjects, 30 takes each, 4 views,
525,840 frames by default: half a GB), and reads the five subjects to train on, each time in a process of its own, up
to the first step's input: as train_teacher.py, which keeps no true poses, and as run_baseline.py, by the rig and by
virtual cameras. Seconds are the processor's (user and system), so that other load on the machine counts little; memory
is what the process needs at most, and what it keeps, above what it had before (Linux).
"""

import multiprocessing
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.camera import h36m_cameras  # noqa: E402
from common.datasets.projected import NOISE  # noqa: E402
from common.datasets.training_views import INPUT, VIEWS, training_views  # noqa: E402
from common.files.npz import save_npz  # noqa: E402
from common.h36m import TRAIN_LIST  # noqa: E402
from common.run.options import Parser, number  # noqa: E402
from common.run.run import Run  # noqa: E402
from common.run.script import run_script  # noqa: E402
from common.synthetic.dataset import JOINTS_32, make_poses, metadata, project_views  # noqa: E402
from methods.ites import protocol  # noqa: E402
from methods.poseaug import evaluation  # noqa: E402

LOADERS = {
    "teacher": (protocol.load_training, protocol.training_input),
    "baseline": (evaluation.load_training, training_views),
}
KINDS = [(script, cameras) for script in LOADERS for cameras in ("rig", "virtual")]
OPTIONS = (
    ("--data-dir", Path, Path("data"), "where the set lies", "DIR"),
    ("--frames", number(int, 1), 2504, "of a take; Human3.6M's are so long on average"),
    ("--rounds", number(int, 1), 3, "of each kind, in turns"),
)  # fmt: skip


def make(folder: Path, frames: int) -> None:
    """The two files, unless they are there: short takes, repeated, every number a little different."""
    files = [folder / name for name in ("data_3d_sized.npz", "data_2d_sized_gt.npz")]
    if all(file.exists() for file in files):
        return
    random, poses, keypoints = np.random.default_rng(0), {}, {}
    for subject, takes in make_poses(seconds=1).items():
        poses[subject], keypoints[subject] = {}, {}
        for name, take in takes.items():
            take = take[np.arange(frames) % len(take)]
            take = take + 1e-3 * random.standard_normal(take.shape, np.float32)
            poses[subject][name] = take[:, JOINTS_32]
            keypoints[subject][name] = project_views(take, h36m_cameras()[subject])
    save_npz(files[0], positions_3d=poses)
    save_npz(files[1], positions_2d=keypoints, metadata=metadata())


def read(script: str, cameras: str, folder: Path) -> tuple[float, float, float, int]:
    """-> seconds, MB at most, MB kept, poses."""
    torch.set_num_threads(1)
    parser = Parser()
    parser.add_table("", INPUT, VIEWS, NOISE)
    args = parser.parse_args(["--cameras", cameras])
    vars(args).update(data_dir=folder, dataset="sized", keypoints="gt", subjects_train=TRAIN_LIST, actions="*")
    vars(args).update(subset=1.0, downsample=1)
    run, (load, see) = Run(torch.device("cpu"), torch.Generator()), LOADERS[script]
    Path("/proc/self/clear_refs").write_text("5")  # the most is counted from here on
    before, began = memory("VmRSS"), time.process_time()
    data = load(args, run.device)
    step = see(args, data, run)
    step(torch.arange(64))
    return time.process_time() - began, memory("VmHWM") - before, memory("VmRSS") - before, len(data)


def memory(name: str) -> float:
    """A line of the system's about this process, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1e3


def main() -> None:
    parser = Parser(__doc__)
    parser.add_table("Set", OPTIONS)
    args = parser.parse_args()
    make(args.data_dir, args.frames)
    found = {kind: [] for kind in KINDS}
    for _ in range(args.rounds):
        for kind, rows in found.items():
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                rows.append(pool.apply(read, (*kind, args.data_dir)))
    for (script, cameras), rows in found.items():
        seconds, most, kept, poses = zip(*rows, strict=True)
        times = " ".join(f"{value:.1f}" for value in seconds)
        print(f"{script}, {cameras}: {poses[0]:,} poses, {times} s, ", end="")
        print(f"{median(most):.0f} MB at most, {median(kept):.0f} MB kept")


if __name__ == "__main__":
    run_script(main)
