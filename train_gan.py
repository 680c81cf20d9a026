"""Learn 3D poses from 2D poses alone, against a discriminator: Chen et al. (CVPR 2019) and Kudo et al. (2018).

    python train_gan.py --gpus 1 --batch_size 256                                  on MPII's 2D poses, as published
    python train_gan.py --dataset mpii,cmu --checkpoint checkpoint/gan             both sets, scored on cmu's S9, S11
    python train_gan.py --dataset synthetic --method kudo --use_heuristic_loss     needs no files
    python train_gan.py --dataset synthetic --mode supervised                      learns depths from 3D, to compare
    python train_gan.py --dataset mpii --resume checkpoint/gan                     goes on exactly where a run stopped

Writes best-model.ckpt (by val_mpjpe; without 3D by the self-consistency), last.ckpt (for --resume), config.yaml,
metrics.csv, curves.png and TensorBoard events into the folder of --checkpoint.
"""

from common.run.entry import run_script

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

import models
from common.datasets import poses_2d
from common.datasets.projected import noise_of
from common.datasets.training_views import first_look, ranges_of, virtual_views
from common.pose_set import PoseSet
from common.run.log import RunLog, numbers_line
from common.run.losses import LossBuffer
from common.run.run import Run, start
from common.run.state import Progress, State
from common.synthetic.dataset import ensure_named
from methods.adversarial import evaluation, options
from models.adversarial import geometry, losses, networks, step
from models.adversarial.geometry import lifter_input, predictor

TERMS = ("gen_loss", "adversarial", "loss_2d", "loss_3d", "temporal", "heuristic", "supervised", "dis_loss", "accuracy")
SCORES = ("MPJPE", "N-MPJPE", "P-MPJPE")  # columns val_mpjpe, ...


class Seen(NamedTuple):
    """keypoints: (B, ..., 17, 2), hip at the origin, each pose at one size. depths: (B, ..., 17), true ones in their
    unit, to supervise.
    """

    keypoints: Tensor
    depths: Tensor | None


class TrainingPoses(NamedTuple):
    """N poses as the networks see them.

    keypoints: (N, 17, 2), as in `Seen`; of virtual cameras: a first look.
    see: how a step sees rows of the global batch (B,), or pairs of frames (B, 2): this process's part of them.
    moving: rows that the next frame of their sequence follows, for the temporal discriminator; None: without it.
    factor: of the keypoints (`head_factor`). pose_scale, motion_scale: of what chen's discriminators see, so that
    numbers are of ordinary size.
    """

    keypoints: Tensor
    see: Callable[[Tensor], Seen]
    moving: Tensor | None
    factor: float
    pose_scale: Tensor
    motion_scale: Tensor | float


class Forward(NamedTuple):
    """total: the lifter's loss; depth: (B, 17), lifted; adversarial: for each discriminator; terms: for the log."""

    total: Tensor
    depth: Tensor
    adversarial: list[step.Adversarial]
    terms: dict[str, Tensor]


def main() -> None:
    args = options.training_parser(__doc__).parse_args()
    args.keypoints = "sh_detect" if args.use_sh_detection else args.keypoints
    run = start(args)
    run.settle_resume(args, args.checkpoint / "last.ckpt")
    supervised = args.mode == "supervised"
    train = load_training(args, run.device)
    test = evaluation.load_test(args, run.device)
    poses = training_poses(train, args, run)
    distance = geometry.CHEN_DISTANCE if args.method == "chen" else 1.0  # lengths in the unit of depths per keypoints'

    named = named_networks(args, 1 + (poses.moving is not None))
    lifter, *discriminators = (run.prepare(models.create(name, **sizes)) for name, sizes in named)
    adam = [
        torch.optim.Adam(net.parameters(), lr, (args.beta1, 0.999), eps, weight_decay=args.weight_decay, fused=True)
        for net, lr, eps in (
            (lifter, args.gen_lr, args.gen_eps), *((d, args.dis_lr, args.dis_eps) for d in discriminators)
        )
    ]  # fmt: skip
    if args.method == "chen" and not args.resume:
        networks.start_flat(lifter.w2)
    # the reproduction's names of the networks
    weights = dict(zip(("gen.", "dis.", "dis_temporal."), (lifter, *discriminators), strict=False))
    fixed = {"method": args.method, "factor": poses.factor, "network": named[0][0], "sizes": named[0][1]}
    state = State(run, args, {"state_dict": weights, "adam": adam}, args.checkpoint / "last.ckpt", fixed)
    progress = state.resume(args.epochs)
    log = RunLog(args.checkpoint, args, resume=bool(args.resume))
    parts = ", ".join(f"{name} {count:,}" for name, count in train.counts().items())
    run.say(f"train {len(train):,} 2D poses ({parts}); {args.method}, {args.mode}; device {run.device}")

    forward = supervised_forward if supervised else {"chen": chen_forward, "kudo": kudo_forward}[args.method]
    capped_steps = run.uncompiled(step.capped_steps)

    def train_step(index: Tensor) -> Tensor:
        """One step of lifter and discriminators on the poses `index` of the global batch."""
        seen = poses.see(index)
        weight = run.weight(seen.keypoints, index)
        with run.autocast():
            total, depth, adversarial, terms = forward(lifter, discriminators, poses, seen, index, run, args)
            if args.use_heuristic_loss:
                terms["heuristic"] = losses.heuristic_loss(distance * seen.keypoints, depth)
                total = total + args.heuristic_loss_weight * terms["heuristic"]
        for optimizer in adam:
            optimizer.zero_grad()
        own = [part.discriminator_loss * weight for part in adversarial]
        step.backward(total * weight, lifter, own, discriminators)
        run.reduce_gradients(lifter, *discriminators[: len(adversarial)])
        if adversarial:
            capped_steps(adam, [run.average(part.accuracy * weight) for part in adversarial], args.gan_accuracy_cap)
            terms["adversarial"], terms["dis_loss"], terms["accuracy"] = adversarial[0]
        else:
            adam[0].step()
        terms["gen_loss"], zero = total, total.new_zeros(())
        return torch.stack([terms.get(term, zero).detach() for term in TERMS])

    train_step = run.accelerate(train_step, *adam)
    steps, best = run.steps(len(train), args.batch_size), progress.best
    for epoch in range(progress.epoch, args.epochs):
        began = time.perf_counter()
        for network in (lifter, *discriminators):
            network.train()
        record = LossBuffer(TERMS, run, log, epoch, steps, progress.losses)
        batches = run.batches(len(train), args.batch_size, epoch, progress.step)
        for i, index in run.progress(batches, steps, f"epoch {epoch + 1}"):
            record.record(i, train_step(index), len(index))
            if run.stop_requested:
                state.stop(Progress(epoch, i + 1, record.state_dict(), best))
        row = record.means()
        lifter.eval()
        if test is not None:
            errors = evaluation.score(predictor(lifter, args.method, poses.factor), test, run)
            row |= {f"val_{name.lower().replace('-', '_')}": errors[name].mean().item() for name in SCORES}
            value = row["val_mpjpe"]
        else:
            value = row["loss_2d"] if args.method == "chen" else step.kudo_consistency(lifter, poses.keypoints)
        run.say(f"[{epoch + 1}] {time.perf_counter() - began:.1f} s  {numbers_line(row)}")
        log.epoch(epoch + 1, row, step=(epoch + 1) * steps)
        improved = best is None or value < best
        progress = Progress(epoch + 1, best=value if improved else best)
        best = progress.best
        state.save(progress, *["best-model.ckpt"] * improved)
    log.close()
    log.plot(args.checkpoint / "curves.png")
    what = "self-consistency" if test is None else f"val_mpjpe on {evaluation.test_name(args)} {test.summary()}, mm"
    run.say(f"best {best:.4g} ({what}); results in {args.checkpoint}")


def load_training(args: Any, device: torch.device) -> PoseSet:
    """The training subjects' 2D poses, with 3D only to supervise; for virtual cameras their motion in the world."""
    ensure_named(args.data_dir, args.dataset)
    people = args.subjects_train, args.actions, args.downsample, device
    if args.cameras == "virtual":
        return poses_2d.load_motions(args.dataset, args.data_dir, *people)
    return poses_2d.load_poses_2d(
        args.dataset, args.data_dir, args.keypoints, *people, with_poses=args.mode == "supervised", middle_spine=True,
        noise=noise_of(args),
    )  # fmt: skip


def training_poses(train: PoseSet, args: Any, run: Run) -> TrainingPoses:
    """Every pose at one size; for Chen such that the head is 1 / 10 from the root on average."""
    chen, supervised = args.method == "chen", args.mode == "supervised"
    look = virtual_views(ranges_of(args), train, run, args.vary_bones) if args.cameras == "virtual" else None
    rows, moving, motion_scale = torch.arange(len(train), device=run.device), None, 1.0
    keypoints = lifter_input((first_look(look, rows, run) if look else train).keypoints)
    factor = geometry.head_factor(keypoints).item() if chen else 1.0
    keypoints *= factor
    if chen and not supervised and args.weight_temporal > 0:
        rows = rows[train.last > rows]
        moving = rows if len(rows) else None
    if moving is not None:
        pairs = torch.stack((moving, moving + 1), 1)
        frames = factor * lifter_input(first_look(look, pairs, run).keypoints) if look else keypoints[pairs]
        motion_scale = 1 / (frames[:, 1] - frames[:, 0]).std()

    def true_depths(poses: Tensor) -> Tensor:
        return (geometry.CHEN_DISTANCE if chen else 1.0) * factor * geometry.normalise_3d(poses).pose[..., 2]

    depths = true_depths(train.poses) if supervised and not look else None

    def see(rows: Tensor) -> Seen:
        if look:
            views = look(rows)
            points = factor * lifter_input(run.shard(views.keypoints))
            return Seen(points, true_depths(run.shard(views.poses)) if supervised else None)
        mine = run.shard(rows)
        return Seen(keypoints[mine], depths[mine] if supervised else None)

    return TrainingPoses(keypoints, see, moving, factor, 1 / keypoints.std(), motion_scale)


# ------------------------------------------------------------ forward passes, of a process's part of a global batch


def supervised_forward(lifter, _, __, seen: Seen, index: Tensor, run: Run, args: Any) -> Forward:
    """Squared error of the depths."""
    depth = lifter(seen.keypoints).float()
    loss = (depth - seen.depths).square().mean()
    return Forward(loss, depth, [], {"supervised": loss})


def kudo_forward(lifter, discriminators, _, seen: Seen, index: Tensor, run: Run, args: Any) -> Forward:
    """A random turn about y, orthographically projected, must look real."""
    points = seen.keypoints
    theta = 2 * math.pi * torch.rand(len(index), generator=run.generator, device=run.device)
    depth = lifter(points).float()
    projected = geometry.kudo_projection(points, depth, run.shard(theta))
    adversarial = step.adversarial(discriminators[0], projected, points)
    return Forward(adversarial.generator_loss, depth, [adversarial], {})


def chen_forward(
    lifter, discriminators, poses: TrainingPoses, seen: Seen, index: Tensor, run: Run, args: Any
) -> Forward:
    """A random turn, projected in perspective, must look real; lifted again and turned back, be the pose of before."""
    points = seen.keypoints
    turns = run.shard(geometry.chen_rotations(len(index), generator=run.generator, device=run.device))
    cycle = losses.chen_cycle(lambda x: lifter(x).float(), points, turns)
    adversarial = [step.adversarial(discriminators[0], cycle.projected, points, poses.pose_scale)]
    terms = {"loss_2d": losses.consistency_2d(points, cycle), "loss_3d": losses.consistency_3d(cycle)}
    total = adversarial[0].generator_loss + args.weight_2d * terms["loss_2d"] + args.weight_3d * terms["loss_3d"]
    if poses.moving is not None:
        adversarial.append(temporal_forward(lifter, discriminators[1], poses, index, run))
        terms["temporal"] = adversarial[1].generator_loss
        total = total + args.weight_temporal * terms["temporal"]
    return Forward(total, cycle.pose[..., 2], adversarial, terms)


def temporal_forward(lifter, discriminator, poses: TrainingPoses, index: Tensor, run: Run) -> step.Adversarial:
    """The temporal discriminator on differences of consecutive frames, a quarter as many as the batch has poses; as
    this process's share of the frames counts where its share of the poses does.
    """
    pairs = max(4, run.world_size, len(index) // 4)  # at least one for each process
    chosen = torch.randint(len(poses.moving), (pairs,), generator=run.generator, device=run.device)
    rows = poses.moving[chosen]
    frames = poses.see(torch.stack((rows, rows + 1), 1)).keypoints
    turns = run.shard(geometry.chen_rotations(len(chosen), generator=run.generator, device=run.device))
    terms = step.temporal(lambda x: lifter(x).float(), discriminator, frames.flatten(0, 1), turns, poses.motion_scale)
    share = run.weight(frames, chosen) / run.weight(run.shard(index), index)
    return step.Adversarial(*(value * share for value in terms))


def named_networks(args: Any, discriminators: int) -> list[tuple[str, dict]]:
    """Names and sizes of the lifter and of the discriminators."""
    if args.method == "kudo":
        sizes = {"batch_norm": args.use_bn, "slope": 0.2 if args.activate_func == "leaky_relu" else 0.0}
        return [("kudo_generator", sizes)] + discriminators * [("kudo_discriminator", sizes)]
    sizes = {"dropout": args.dropout, "batch_norm": not args.no_dis_bn}
    return [("gan_lifter", {"dropout": args.dropout})] + discriminators * [("gan_discriminator", sizes)]


if __name__ == "__main__":
    run_script(main)
