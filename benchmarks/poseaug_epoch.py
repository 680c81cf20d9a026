"""One PoseAug epoch against the machine's peak, and against a straightforward implementation, in one run.

    python benchmarks/poseaug_epoch.py [--posenet_name mlp --stages 2] [--poses 20000] [--device cuda] [--amp]

Runs run_poseaug.py itself on the synthetic set, past the warm-up, and takes the training time that it prints:
bone-length swap, augmentor, discriminators every second step, the lifter on the augmented poses in view and on the
real ones; not scoring. Its work is counted twice, from the multiply-adds of our own steps and from those of the
networks as published, of which ours save some. The baseline does the same passes as one would write them down:
DataLoaders over single items, Python pools, made poses carried to NumPy, `.item()` for every log. Peak and baseline are
measured right after, on the same threads.
"""

import json
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import models  # noqa: E402
from benchmarks.published import Published  # noqa: E402
from benchmarks.train_step import Stopwatch, make_peak  # noqa: E402
from common.bones import bone_vectors, unit_bones  # noqa: E402
from common.camera import h36m_cameras, project  # noqa: E402
from common.errors import InputError  # noqa: E402
from common.run.options import Parser, number  # noqa: E402
from common.run.run import start  # noqa: E402
from common.run.script import run_script  # noqa: E402
from methods.poseaug import options  # noqa: E402
from models.poseaug.augmentor import Augmentor, draw_noise  # noqa: E402
from models.poseaug.discriminators import PARTS, Discriminator2D, Discriminator3D  # noqa: E402
from models.poseaug.losses import augment, diff_loss, discriminator_loss, feedback_loss, in_view  # noqa: E402

SYNTHETIC_POSES = 300_000
BATCH = 1024


class Published3D(nn.Module):
    """The 3D discriminator with its five KCS matrices written out."""

    def __init__(self, published: Discriminator3D):
        super().__init__()
        self.paths = nn.ModuleList(getattr(published, f"kcs_path_{i}") for i in range(1, 6))

    def forward(self, poses: Tensor) -> Tensor:
        bones, scores = unit_bones(bone_vectors(poses)), []
        for path, part in zip(self.paths, PARTS.values(), strict=True):
            inside = torch.zeros(bones.shape[1], 1, device=bones.device)
            inside[list(part)] = 1
            psi = (bones * inside) @ (bones * inside).mT
            a = F.leaky_relu(path.kcs_layer_1(psi.flatten(1)))
            b = path.kcs_layer_3(F.leaky_relu(path.kcs_layer_2(a))) + a
            scores.append(path.layer_pred(F.leaky_relu(path.layer_last(b))))
        return torch.cat(scores, dim=1)


class ListPool:
    """The replay pool, one pose at a time."""

    def __init__(self, capacity: int = 4096):
        self.capacity, self.poses = capacity, []

    def __call__(self, batch: Tensor) -> Tensor:
        returned = []
        for pose in batch:
            if len(self.poses) < self.capacity:
                self.poses.append(pose)
            elif random.random() > 0.5:
                place = random.randrange(self.capacity)
                pose, self.poses[place] = self.poses[place], pose
            returned.append(pose)
        return torch.stack(returned)


class Networks:
    """The four networks of a run, their optimisers, and the losses of one batch, as published."""

    def __init__(self, lifter: nn.Module, disc_3d: nn.Module, device: torch.device, fused: bool):
        self.all = {"lifter": lifter, "augmentor": Augmentor(), "disc_3d": disc_3d, "disc_2d": Discriminator2D()}
        self.all = {name: network.to(device).train() for name, network in self.all.items()}
        self.adam = {n: torch.optim.Adam(net.parameters(), 1e-4, fused=fused or None) for n, net in self.all.items()}

    def freeze(self, *free: str) -> None:
        for name, network in self.all.items():
            network.requires_grad_(name in free)

    def step(self, name: str, loss: Tensor) -> None:
        self.adam[name].zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.all[name].parameters(), 1.0)
        self.adam[name].step()

    def augmented(self, poses: Tensor, keypoints: Tensor, camera: Tensor):
        """Terms and total loss of the augmentor."""
        net = self.all
        noise = draw_noise(len(poses), device=poses.device)
        others = net["lifter"], net["disc_3d"], net["disc_2d"]
        terms = augment(net["augmentor"], *others, keypoints, poses, camera, noise)
        errors = terms.errors
        adversarial = terms.terms["adversarial_2d"] + 6 * terms.terms["adversarial_3d"]
        loss = adversarial + 3 * sum(diff_loss(terms.made.ba_diff, terms.made.blr))
        loss = loss + feedback_loss(errors.ba, errors.original, 4.0, 2.0, 0.1).loss
        return terms, loss + feedback_loss(errors.rt, errors.original, 17.0, 15.0, 0.01).loss

    def judge(self, name: str, real: Tensor, fake: Tensor) -> Tensor:
        return discriminator_loss(self.all[name](real), self.all[name](fake))

    def lift(self, keypoints: Tensor, poses: Tensor) -> Tensor:
        return F.mse_loss(self.all["lifter"](keypoints), poses)


def work_per_pose(lifter: nn.Module, disc_3d: nn.Module, share_in_view: float) -> float:
    """Floating-point operations of an epoch's steps, for each training pose; two for a multiply-add."""
    networks = Networks(lifter, disc_3d, torch.device("cpu"), fused=False)
    poses, keypoints, camera = made_up(BATCH, torch.device("cpu"))

    def count(free: str, loss) -> int:
        networks.freeze(free)
        with FlopCounterMode(display=False) as counter:
            loss().backward()
        return counter.get_total_flops() / BATCH

    augmentor = count("augmentor", lambda: networks.augmented(poses, keypoints, camera)[1])
    judges = count("disc_3d", lambda: networks.judge("disc_3d", poses, poses))
    judges += count("disc_2d", lambda: networks.judge("disc_2d", keypoints, keypoints))
    return augmentor + judges / 2 + (1 + share_in_view) * count("lifter", lambda: networks.lift(keypoints, poses))


def made_up(count: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Poses (N, 16, 3) in front of a camera, their projections, and the cameras (N, 9)."""
    camera = h36m_cameras()["S1"][0].intrinsics("screen").expand(count, 9).to(device)
    poses = torch.randn(count, 16, 3, device=device) * 0.4 + torch.tensor((0.0, 0.0, 5.0), device=device)
    return poses, project(poses, camera.unsqueeze(1)), camera


def sizes_of(name: str, stages: int) -> dict:
    return {} if name == "stgcn" else {"stages": stages, "dropout": 0.0 if name == "gcn" else 0.25}


def published(name: str, stages: int) -> tuple[nn.Module, nn.Module]:
    """Lifter and 3D discriminator in the published layout."""
    return Published(name, **sizes_of(name, stages)), Published3D(Discriminator3D())


def straightforward_epoch(name: str, stages: int, device: torch.device, steps: int) -> float:
    """Seconds for each training pose of the epoch as one would write it down, from `steps` batches of each pass."""
    networks = Networks(*published(name, stages), device, fused=False)
    poses, keypoints, camera = (x.cpu() for x in made_up(steps * BATCH, torch.device("cpu")))

    def loader(*tensors: Tensor) -> DataLoader:
        return DataLoader(TensorDataset(*tensors), BATCH, shuffle=True, num_workers=2, pin_memory=device.type == "cuda")

    pools, kept, began = (ListPool(), ListPool()), [], time.perf_counter()
    batches = zip(loader(poses, keypoints, camera), loader(poses), loader(keypoints), strict=True)
    for i, (batch, (real_3d,), (real_2d,)) in enumerate(batches):
        networks.freeze("augmentor")
        terms, loss = networks.augmented(*(x.to(device) for x in batch))
        networks.step("augmentor", loss)
        log = [loss.item(), *terms.logged.tolist()]
        if i % 2 == 0:
            networks.freeze("disc_3d", "disc_2d")
            for what, pool, real, fake in (
                ("disc_3d", pools[0], real_3d, terms.made.pose_ba),
                ("disc_2d", pools[1], real_2d, terms.keypoints_rt),
            ):
                judged = networks.judge(what, real.to(device), pool(fake.detach()))
                networks.step(what, judged)
                log.append(judged.item())
        good = in_view(terms.keypoints_rt)
        kept.append([x[good].detach().cpu().numpy() for x in (terms.made.pose_rt, terms.keypoints_rt)])
    made_3d, made_2d = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*kept, strict=True))
    networks.freeze("lifter")
    for points, targets in ((made_2d, made_3d), (keypoints, poses)):
        for batch_2d, batch_3d in loader(points, targets) if len(points) > 1 else ():
            loss = networks.lift(batch_2d.to(device), (batch_3d - batch_3d[:, :1]).to(device))
            networks.step("lifter", loss)
            loss.item()
    return (time.perf_counter() - began) / len(poses)


def our_epoch(args, downsample: int, folder: Path) -> tuple[float, int, float]:
    """Training seconds of the second epoch of run_poseaug.py, its poses, and the share of augmented ones in view."""
    words = ["--dataset", "synthetic", "--data-dir", args.data_dir, "--cross_data", "none", "--downsample", downsample]
    words += ["--posenet_name", args.posenet_name, "--stages", args.stages, "--pretrain", "False", "--note", "bench"]
    words += ["--dropout", {"gcn": 0, "stgcn": -1}.get(args.posenet_name, 0.25), "--epochs", 2, "--warmup", 0]
    words += ["--viz_every", 0, "--checkpoint", folder, "--device", args.device, "--threads", args.threads]
    words += ["--amp"] * args.amp + ["--compile"] * args.compile + ["--no_cuda_graphs"] * args.no_cuda_graphs
    command = [sys.executable, ROOT / "run_poseaug.py", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        raise InputError(f"run_poseaug.py ended with status {done.returncode}: {done.stderr.strip()[-500:]}")
    printed = done.stdout
    count = int(re.search(r"([\d,]+) poses", printed)[1].replace(",", ""))
    last = re.search(r"^\[2\] .*\((.*) s training\).*in_view ([\d.]+)", printed, re.MULTILINE)
    return float(last[1]), count, float(last[2])


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--posenet_name", choices=options.LIFTERS, default="mlp", help="lifter")
    parser.add_argument("--stages", type=number(int, 1), default=2, help="of mlp, gcn, videopose")
    parser.add_argument("--poses", type=number(int, 2048), default=20_000, help="about as many of the synthetic set")
    parser.add_argument("--baseline-steps", type=number(int, 0), default=10, help="batches; 0: no baseline")
    parser.add_argument("--data-dir", type=Path, default=ROOT / "data", help="of the synthetic set")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here, too")
    parser.add_run_options()
    args = parser.parse_args()
    args.data_dir = args.data_dir.absolute()
    with tempfile.TemporaryDirectory() as folder:
        seconds, count, share = our_epoch(args, max(1, round(SYNTHETIC_POSES / args.poses)), Path(folder))
    run = start(args)
    multiply, gflop = make_peak(run)
    watch = Stopwatch(run.device)
    peak = gflop / min(watch(multiply, 5) for _ in range(5))
    work = work_per_pose(
        models.create(args.posenet_name, **sizes_of(args.posenet_name, args.stages)), Discriminator3D(), share
    )
    published_work = work_per_pose(*published(args.posenet_name, args.stages), share)
    total = work * count / 1e9
    result = {
        "lifter": args.posenet_name, "poses": count, "seconds": seconds, "in_view": share, "gflop": total,
        "peak_gflop_per_s": peak, "share_of_peak": total / seconds / peak,
        "published_share_of_peak": published_work * count / 1e9 / seconds / peak,
    }  # fmt: skip
    print(f"{run.device}, {torch.get_num_threads()} CPU threads, PyTorch {torch.__version__}, peak {peak:.0f} GFLOP/s")
    sizes = ", ".join(f"{size * seconds / count:.0f} s for {size:,} poses" for size in (110_968, 1_559_752))
    print(
        f"{args.posenet_name}: {count:,} poses, {100 * share:.0f} % of the made in view: {seconds:.1f} s ({sizes}); "
        f"{work / 1e6:.0f} MFLOP a pose, {100 * result['share_of_peak']:.0f} % of peak; as published "
        f"{published_work / 1e6:.0f} MFLOP a pose, {100 * result['published_share_of_peak']:.0f} % in that time"
    )
    if args.baseline_steps:
        slow = straightforward_epoch(args.posenet_name, args.stages, run.device, args.baseline_steps)
        result["straightforward_s"] = slow * count
        print(f"straightforward: {slow * count:.1f} s for as many poses; {slow * count / seconds:.1f} times ours")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    run_script(main)
