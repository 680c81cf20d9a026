"""Learn 3D poses from 2D poses alone, against a discriminator: Chen et al. (CVPR 2019) and Kudo et al. (2018).

    python train_gan.py --gpus 1 --batch_size 256                                  on MPII's 2D poses, as published
    python train_gan.py --dataset mpii,cmu --checkpoint checkpoint/gan             both sets, scored on cmu's S9, S11
    python train_gan.py --dataset synthetic --method kudo --use_heuristic_loss     needs no files
    python train_gan.py --dataset synthetic --mode supervised                      learns depths from 3D, to compare
    python train_gan.py --dataset mpii --resume checkpoint/gan                     goes on exactly where a run stopped

Writes best-model.ckpt (by val_mpjpe; without 3D by the self-consistency), last.ckpt (for --resume), config.yaml,
metrics.csv, curves.png and TensorBoard events into the folder of --checkpoint.
"""

import math
import time

import torch
from torch import Tensor

import models
from common.datasets import poses_2d
from common.datasets.projected import noise_of
from common.errors import InputError
from common.run import checkpoint
from common.run.log import RunLog
from common.run.losses import LossBuffer
from common.run.run import start
from common.run.script import resume_command, run_script
from common.synthetic.dataset import ensure_named
from methods.adversarial import evaluation, options
from models.adversarial import losses, step
from models.adversarial.predict import lifter_input, predictor

TERMS = ("gen_loss", "adversarial", "loss_2d", "loss_3d", "temporal", "heuristic", "supervised", "dis_loss", "accuracy")


def main() -> None:
    args = options.training_parser(__doc__).parse_args()
    args.keypoints = "sh_detect" if args.use_sh_detection else args.keypoints
    run = start(args)
    run.settle_resume(args, args.checkpoint / "last.ckpt")
    supervised = args.mode == "supervised"
    ensure_named(args.data_dir, args.dataset)
    train = poses_2d.load_poses_2d(
        args.dataset, args.data_dir, args.keypoints, args.subjects_train, args.actions, args.downsample, run.device,
        with_poses=supervised, middle_spine=True, noise=noise_of(args),
    )  # fmt: skip
    test = evaluation.load_test(args, run.device)

    # every pose at one size; for Chen such that the head is 1 / 10 from the root on average
    keypoints = lifter_input(train.keypoints)
    factor = losses.head_factor(keypoints).item() if args.method == "chen" else 1.0
    keypoints *= factor
    distance = losses.CHEN_DISTANCE if args.method == "chen" else 1.0  # lengths in the unit of depths per keypoints'
    depths = distance * factor * losses.normalise_3d(train.poses).pose[..., 2] if supervised else None
    moving = (train.last > torch.arange(len(keypoints), device=run.device)).nonzero().squeeze(1)
    temporal = args.method == "chen" and not supervised and args.weight_temporal > 0 and len(moving) > 0

    pose_scale, motion_scale = 1 / keypoints.std(), 1.0  # chen: discriminators see numbers of ordinary size
    if temporal:
        motion_scale = 1 / (keypoints[moving + 1] - keypoints[moving]).std()
    lifter, *judges = (run.prepare(models.create(name, **sizes)) for name, sizes in networks(args, 1 + temporal))
    adam = [
        torch.optim.Adam(m.parameters(), lr, (args.beta1, 0.999), eps, weight_decay=args.weight_decay, fused=True)
        for m, lr, eps in ((lifter, args.gen_lr, args.gen_eps), *((j, args.dis_lr, args.dis_eps) for j in judges))
    ]
    if args.method == "chen" and not args.resume:
        losses.start_flat(lifter.w2)
    saved = resume(args, run, lifter, judges, adam) if args.resume else {}
    finished, first_step, partial, best = (saved.get(key) for key in ("epoch", "step", "losses", "best"))
    log = RunLog(args.checkpoint, args, resume=bool(args.resume))
    if run.is_main:
        parts = ", ".join(f"{name} {count:,}" for name, count in train.counts().items())
        print(f"train {len(train):,} 2D poses ({parts}); {args.method}, {args.mode}; device {run.device}", flush=True)

    def train_step(index: Tensor) -> Tensor:
        """One step of lifter and discriminators on the poses `index` of the global batch."""
        mine = run.shard(index)
        points, terms = keypoints[mine], dict.fromkeys(TERMS, torch.zeros((), device=run.device))
        with run.autocast():
            if supervised:
                depth = lifter(points).float()
                terms["supervised"] = (depth - depths[mine]).square().mean()
                total, rivals = terms["supervised"], []
            elif args.method == "kudo":
                theta = 2 * math.pi * torch.rand(len(index), generator=run.generator, device=run.device)
                depth = lifter(points).float()
                rivals = [step.judged(judges[0], losses.kudo_projection(points, depth, run.shard(theta)), points)]
                total = rivals[0].generator_loss
            else:
                turns = run.shard(losses.chen_rotations(len(index), generator=run.generator, device=run.device))
                cycle = losses.chen_cycle(lambda x: lifter(x).float(), points, turns)
                depth = cycle.pose[..., 2]
                rivals = [step.judged(judges[0], cycle.projected, points, pose_scale)]
                terms["loss_2d"], terms["loss_3d"] = losses.consistency_2d(points, cycle), losses.consistency_3d(cycle)
                total = rivals[0].generator_loss + args.weight_2d * terms["loss_2d"] + args.weight_3d * terms["loss_3d"]
                if temporal:
                    rivals.append(frames_judged(len(index), run.weight(mine, index)))
                    terms["temporal"] = rivals[1].generator_loss
                    total = total + args.weight_temporal * terms["temporal"]
            if args.use_heuristic_loss:
                terms["heuristic"] = losses.heuristic_loss(distance * points, depth)
                total = total + args.heuristic_loss_weight * terms["heuristic"]
        weight = run.weight(mine, index)
        for optimizer in adam:
            optimizer.zero_grad()
        scaled = [rival._replace(loss=rival.loss * weight) for rival in rivals]
        step.backward(total * weight, lifter, scaled, judges)
        run.reduce_gradients(lifter, *judges[: len(rivals)])
        terms["gen_loss"] = total
        if not rivals:
            adam[0].step()
        else:
            capped_steps(adam, [run.average(rival.accuracy * weight) for rival in rivals], args.gan_accuracy_cap)
            terms["adversarial"], terms["dis_loss"], terms["accuracy"] = rivals[0]
        return torch.stack([terms[term].detach() for term in TERMS])

    def frames_judged(count: int, weight: float) -> step.Rival:
        """The temporal discriminator on differences of consecutive frames, a quarter as many as the batch has poses;
        as this process's share of the frames counts where its share of the poses counts `weight`.
        """
        pairs = max(4, run.world_size, count // 4)  # at least one for each process
        chosen = torch.randint(len(moving), (pairs,), generator=run.generator, device=run.device)
        rows = run.shard(moving[chosen])
        points = keypoints[torch.stack((rows, rows + 1), 1).flatten()]
        turns = run.shard(losses.chen_rotations(len(chosen), generator=run.generator, device=run.device))
        rival = step.frames_judged(lambda x: lifter(x).float(), judges[1], points, turns, motion_scale)
        return step.Rival(*(value * (run.weight(rows, chosen) / weight) for value in rival))

    capped_steps = torch.compiler.disable(step.capped_steps) if args.compile else step.capped_steps
    train_step = run.accelerate(train_step, *adam)
    steps = run.steps(len(keypoints), args.batch_size)
    for epoch in range(finished or 0, args.epochs):
        began = time.perf_counter()
        for module in (lifter, *judges):
            module.train()
        record = LossBuffer(TERMS, run, log, epoch, steps, partial)
        batches = run.batches(len(keypoints), args.batch_size, epoch, first_step or 0)
        for i, index in run.progress(batches, steps, f"epoch {epoch + 1}"):
            record.record(i, train_step(index), len(index))
            if run.stop_requested:
                state = training_state(args, run, lifter, judges, adam, factor)
                state |= {"epoch": epoch, "step": i + 1, "losses": record.state_dict(), "best": best}
                run.save(args.checkpoint / "last.ckpt", state)
                run.leave(f"stopped in epoch {epoch + 1}; go on with: {resume_command(args.checkpoint)}")
        first_step, partial = 0, None
        row = record.means()
        lifter.eval()
        if test is not None:
            errors = evaluation.score(predictor(lifter, args.method, factor), test, run)
            row |= {"val_mpjpe": errors["MPJPE"].mean().item(), "val_n_mpjpe": errors["N-MPJPE"].mean().item()}
            row |= {"val_p_mpjpe": errors["P-MPJPE"].mean().item()}
            value = row["val_mpjpe"]
        else:
            value = row["loss_2d"] if args.method == "chen" else step.kudo_consistency(lifter, keypoints)
        if run.is_main:
            shown = "  ".join(f"{key} {row[key]:.4g}" for key in row if row[key] or key.startswith("val"))
            print(f"[{epoch + 1}] {time.perf_counter() - began:.1f} s  {shown}", flush=True)
        log.epoch(epoch + 1, row, step=(epoch + 1) * steps)
        state = training_state(args, run, lifter, judges, adam, factor) | {
            "epoch": epoch + 1,
            "step": 0,
            "losses": None,
        }
        if best is None or value < best:
            best = value
            run.save(args.checkpoint / "best-model.ckpt", state | {"best": best})
        run.save(args.checkpoint / "last.ckpt", state | {"best": best})
    log.close()
    if run.is_main:
        log.plot(args.checkpoint / "curves.png")
        what = "self-consistency" if test is None else f"val_mpjpe on {evaluation.test_name(args)} {test.summary()}, mm"
        print(f"best {best:.4g} ({what}); results in {args.checkpoint}")


def networks(args, judges: int = 0) -> list[tuple[str, dict]]:
    """Names and sizes of the lifter and of the discriminators."""
    if args.method == "kudo":
        sizes = {"batch_norm": args.use_bn, "slope": 0.2 if args.activate_func == "leaky_relu" else 0.0}
        return [("kudo_generator", sizes)] + judges * [("kudo_discriminator", sizes)]
    judge = {"dropout": args.dropout, "batch_norm": not args.no_dis_bn}
    return [("gan_lifter", {"dropout": args.dropout})] + judges * [("gan_discriminator", judge)]


def training_state(args, run, lifter, judges, adam, factor: float) -> dict:
    """A checkpoint: the reproduction's names for both networks, and what an exact resume needs."""
    ((name, sizes),) = networks(args)
    parts = {"gen.": lifter, **{f"dis{'_temporal' * i}.": judge for i, judge in enumerate(judges)}}
    weights = {prefix + key: value for prefix, part in parts.items() for key, value in part.state_dict().items()}
    return {
        "state_dict": weights, "method": args.method, "factor": factor, "network": name, "sizes": sizes,
        "adam": [optimizer.state_dict() for optimizer in adam], "rng": run.rng_state(),
        "options": checkpoint.options_json(args),
    }  # fmt: skip


def resume(args, run, lifter, judges, adam) -> dict:
    """Put a run back where its last.ckpt was saved."""
    path = checkpoint.state_file(args.resume, "last.ckpt")
    saved = checkpoint.load(path, run.device)
    if not {"rng", "adam", "state_dict", "options"} <= saved.keys():
        raise InputError(f"{path} is no state to resume from: give the last.ckpt of a run of train_gan.py")
    checkpoint.check_options(saved["options"], args)
    for prefix, part in {"gen.": lifter, **{f"dis{'_temporal' * i}.": j for i, j in enumerate(judges)}}.items():
        weights = {k.removeprefix(prefix): v for k, v in saved["state_dict"].items() if k.startswith(prefix)}
        checkpoint.load_weights(part, weights, path)
    for optimizer, state in zip(adam, saved["adam"], strict=True):
        checkpoint.load_optimizer(optimizer, state, path)
    run.set_rng_state(saved["rng"])
    run.last_checkpoint = path
    checkpoint.check_epochs(path, saved["epoch"], args.epochs)
    return saved


if __name__ == "__main__":
    run_script(main)
