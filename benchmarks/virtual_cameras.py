"""Random virtual cameras' share of a lifter's training step.

    python benchmarks/virtual_cameras.py [--posenet_name mlp] [--architecture 3,3,3] [--batch-size 1024] [--steps 20]

In one run, in turns: the step of run_baseline.py on keypoints that lie ready, and the same by `--cameras virtual`, bare
and with all that may vary (other builds, detectors' joints and errors). Medians, and what the views alone take. The
poses have human bones in random directions.
"""

import sys
import time
from argparse import Namespace
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import models  # noqa: E402
from common.bones import length_templates, pose_from_bones  # noqa: E402
from common.camera import h36m_cameras, project  # noqa: E402
from common.datasets.training_views import INPUT, VIEWS, training_views  # noqa: E402
from common.pose_set import PoseSet, Sequence, sequence_index  # noqa: E402
from common.run.options import Parser, number  # noqa: E402
from common.run.run import Run, start  # noqa: E402
from common.run.script import run_script  # noqa: E402
from common.skeleton import H36M_16  # noqa: E402

POSES = 20_000
VARIED = ("--cameras", "virtual", "--detector_noise", "1", "--detectors_joints", "--vary_bones", "0.1")
OPTIONS = (
    ("--posenet_name", ("gcn", "mlp", "stgcn", "videopose"), "mlp", "network"),
    ("--architecture", str, "", "videopose over time: filter widths", "WIDTHS"),
    ("-b --batch-size", number(int, 2), 1024, "poses of a step"),
    ("--steps", number(int, 1), 20, "of each kind"),
)  # fmt: skip


def people(run: Run) -> tuple[PoseSet, PoseSet]:
    """The same poses in the world, and seen by a camera of Human3.6M."""
    lengths = length_templates()
    bones = F.normalize(torch.randn(POSES, 15, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    world = pose_from_bones(bones * lengths[torch.arange(POSES) % len(lengths), :, None])
    camera = h36m_cameras()["S1"][0]
    seen = world + torch.tensor((0.0, 0.0, 5.0))
    sequences = tuple(Sequence("S1", "Walking", 0, i, 1000, camera) for i in range(0, POSES, 1000))
    number_of, frame = sequence_index(sequences), torch.arange(POSES, dtype=torch.int32)
    motion = PoseSet(world[..., :0], H36M_16, sequences, number_of, frame, world)
    return motion.to(run.device), PoseSet(
        project(seen, camera.intrinsics()), H36M_16, sequences, number_of, frame, seen
    ).to(run.device)


def main() -> None:
    parser = Parser(__doc__)
    parser.add_table("Step", OPTIONS)
    parser.add_run_options()
    args = parser.parse_args()
    run = start(args)
    sizes = {"architecture": args.architecture} if args.architecture else {}
    model = models.create(args.posenet_name, **sizes).to(run.device).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    views = Parser()
    views.add_table("", INPUT, VIEWS)
    motion, rig = people(run)
    frames = getattr(model, "receptive_field", 1)

    def see(data: PoseSet, *words: str):
        chosen: Namespace = views.parse_args(list(words))
        return training_views(chosen, data, run, frames, flip=True)

    kinds = {
        "keypoints that lie ready": see(rig),
        "virtual cameras": see(motion, "--cameras", "virtual"),
        "virtual cameras, all varied": see(motion, *VARIED),
    }
    times = {name: ([], []) for name in kinds}
    for index in torch.randint(POSES, (args.steps + 2, args.batch_size), device=run.device):
        for name, made in kinds.items():
            began = time.perf_counter()
            inputs, target = made(index)
            seen = wait(run)
            with run.autocast():
                pose = model(inputs)
            loss = F.mse_loss(pose.float(), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for part, end in zip(times[name], (seen, wait(run)), strict=True):
                part.append(1000 * (end - began))
    name = f"{args.posenet_name} {args.architecture}".strip()
    print(f"{name}, batch {args.batch_size}, {run.device}, {torch.get_num_threads()} threads")
    for name, (views_ms, step_ms) in times.items():
        views_ms, step_ms = median(views_ms[2:]), median(step_ms[2:])
        print(f"{name}: views {views_ms:.1f} ms of a step of {step_ms:.1f} ms, {100 * views_ms / step_ms:.1f} %")


def wait(run: Run) -> float:
    """The time when the device has done what it was told."""
    if run.device.type == "cuda":
        torch.cuda.synchronize(run.device)
    return time.perf_counter()


if __name__ == "__main__":
    run_script(main)
