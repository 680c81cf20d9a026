"""Train a lifter together with a network that makes its training poses harder: PoseAug (CVPR 2021).

    python run_poseaug.py --note poseaug --posenet_name 'videopose' --lr_p 1e-4 --checkpoint ./checkpoint/poseaug --keypoints gt
    python run_poseaug.py --note poseaug --dataset synthetic --posenet_name mlp --stages 2 --pretrain FILE     needs no other files
    python run_poseaug.py --note poseaug --posenet_name mlp --stages 2 --resume FOLDER      goes on exactly where a run stopped

Starts from the baseline that run_baseline.py trained (--pretrain). Each epoch: swap bone lengths; train the augmentor
against two discriminators, with the lifter's feedback; train the lifter on the augmented poses, then on the real ones.
Writes ckpt_best_h36m_p1.pth.tar, ckpt_best_dhp_p1.pth.tar (the lifter), last.pth.tar (everything, for --resume),
log.txt, config.yaml, metrics.csv, TensorBoard events and pictures into CHECKPOINT/LIFTER/KEYPOINTS/TIME_NOTE.
"""  # noqa: E501

from common.run.entry import run_script

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import models
from common.bones import length_templates
from common.datasets.training_views import ranges_of, seen_by, virtual_views
from common.run.log import RunLog
from common.run.losses import LossBuffer
from common.run.run import Run, start
from common.run.script import resume_command
from common.run.state import Progress
from methods.poseaug import evaluation, options, run_folder, tags
from methods.poseaug.augmented_data import AugmentedData
from methods.poseaug.collapse import enough_in_view, warn_of_collapse
from methods.poseaug.pictures import save_stages
from models.poseaug.augmentor import Augmentor, draw_noise
from models.poseaug.discriminators import Discriminator2D, Discriminator3D
from models.poseaug.losses import (
    accuracy,
    augment,
    decay_factor,
    diff_loss,
    discriminator_loss,
    feedback_loss,
    hard_ratio,
)

COLUMNS = ("epoch", "lr", "error_h36m_p1", "error_h36m_p2", "error_3dhp_p1", "error_3dhp_p2")
Step = Callable[[Tensor], Tensor]


class Networks(NamedTuple):
    """The four networks. The lifter's optimiser, the augmentor's, ... are in the same places of a second one."""

    lifter: Any
    augmentor: Any
    disc_3d: Any
    disc_2d: Any


@dataclass
class Feedback:
    """How the lifter's errors guide the augmentor in an epoch; captured steps find `ratios` where they are.

    ratios: (2,), how much larger the errors should be on BA's and on RT's poses; counts: whether they are in the loss.
    """

    ratios: Tensor
    counts: bool = False


def main() -> None:
    parser = options.poseaug_parser(__doc__)
    args = parser.parse_args()
    options.check_poseaug(parser, args)
    run = start(args)
    train = evaluation.load_training(args, run.device)
    test = evaluation.load_split(args, args.subjects_test, run.device)
    cross = evaluation.load_cross_data(args, run.device)
    steps = run.steps(len(train.poses), args.batch_size)
    folder = run_folder.run_folder(args, run_folder.time_of_day(iso=True))
    run.settle_resume(args, folder / "last.pth.tar")

    nets = build(args, run)
    rates = Networks(args.lr_p, args.lr_g, args.lr_d, args.lr_d)
    adam = Networks(
        *(torch.optim.Adam(net.parameters(), rate, fused=True) for net, rate in zip(nets, rates, strict=True))
    )
    look = virtual_views(ranges_of(args), train, run) if args.cameras == "virtual" else None
    data = AugmentedData(train, length_templates(args.bone_lengths), run, args.batch_size, look)
    feedback = Feedback(torch.zeros(2, device=run.device))

    folder = run_folder.claim(folder, args, run)
    parts = {"model_pos": nets.lifter, "augmentor": nets.augmentor, "disc_3d": nets.disc_3d, "disc_2d": nets.disc_2d}
    parts |= {"pool_3d": data.pool_3d, "pool_2d": data.pool_2d}
    parts |= {f"adam_{name}": optimizer for name, optimizer in adam._asdict().items()}
    state = run_folder.run_state(args, run, parts, folder, scores=("error_h36m_p1",))
    progress = state.resume(args.epochs)
    row, best = progress.more.get("row"), progress.best or {}
    log = RunLog(folder, args, resume=bool(args.resume))
    text = run_folder.TextLog(folder / "log.txt", args, COLUMNS, progress.epoch, run.is_main)
    origin = f"{args.posenet_name} starts from {args.resume or args.pretrain or 'nothing'}"
    run.say(f"train {train.summary()}; {seen_by(args)}; {origin}; device {run.device}")

    augmentor = run.accelerate(
        lambda index: augmentor_step(index, nets, adam, data, feedback, run, args),
        adam.augmentor, key=lambda: (feedback.counts,),
    )  # fmt: skip
    discriminators = run.accelerate(
        lambda index: discriminator_step(index, nets, adam, data, run, args), adam.disc_3d, adam.disc_2d
    )
    lift = run.accelerate(lambda index: lifter_step(index, nets, adam, data, run, args), adam.lifter)

    def score(step: int, *kinds: str) -> dict[str, float]:
        row = evaluation.row_of(evaluation.evaluate_all(nets.lifter, test, cross, run, args.flip_test))
        for kind in kinds:
            log.scalars(step, tags.evaluation(row, kind))
        return row

    if row is None:
        row = score(0, "_real", "_fake")  # the same lifter still
        best = save_best(nets.lifter, 0, row, best, run, log)
        log.epoch(0, row)
        state.save(Progress(0, best=best, more={"row": row}))
        run.say(f"[0] {evaluation.row_text(row, test, cross)}")
    for epoch in range(progress.epoch + 1, args.epochs + 1):
        began = time.perf_counter()
        for optimizer, rate in zip(adam, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * decay_factor(epoch - 1, args.epochs, args.decay_epoch)
        feedback.counts = epoch > args.warmup
        ba_ratio = hard_ratio(epoch, args.epochs, args.hardratio_ba_s, args.hardratio_ba)
        rt_ratio = hard_ratio(epoch, args.epochs, args.hardratio_rt_s, args.hardratio_rt)
        feedback.ratios.copy_(torch.tensor((ba_ratio, rt_ratio)))
        data.swap_bone_lengths(epoch)
        means = train_augmentor(epoch, augmentor, discriminators, nets, data, run, log, args)
        log.scalars((epoch - 1) * steps, {"train_G_iter/lr_now": adam.augmentor.param_groups[0]["lr"]})
        losses = {"gen_loss": means[tags.AUGMENTOR["loss"]]}
        trained = time.perf_counter() - began
        if feedback.counts:
            made = data.made_rows()
            losses["in_view"] = len(made) / data.count
            if enough_in_view(epoch, len(made), run):
                losses["loss_made"] = train_lifter(epoch, "made", made, lift, steps, run, log, args)
            trained = time.perf_counter() - began
            score(epoch * steps, "_fake")
            scored = time.perf_counter()
            losses["loss_real"] = train_lifter(epoch, "real", data.real_rows(), lift, steps, run, log, args)
            trained += time.perf_counter() - scored
            row = score(epoch * steps, "_real")
            best = save_best(nets.lifter, epoch, row, best, run, log)
        if epoch > 1:  # a fresh augmentor starts far out
            warn_of_collapse(epoch, means, args)
        shown = evaluation.row_text(row, test, cross) + " (warm-up: the start's)" * (not feedback.counts)
        run.say(evaluation.epoch_line(epoch, time.perf_counter() - began, trained, losses, shown))
        next_lr = args.lr_p * decay_factor(epoch, args.epochs, args.decay_epoch)
        text.row(row | {"epoch": epoch, "lr": next_lr})
        log.epoch(epoch, row | losses | {"lr": next_lr}, step=epoch * steps)
        if epoch % args.snapshot == 0 or epoch == args.epochs:
            state.save(Progress(epoch, best=best, more={"row": row}))
    log.close()
    log.plot(folder / "curves.png")
    run.say(evaluation.best_line(args, best["error_h36m_p1"], test, cross))
    run.say(f"results in {folder}")


def build(args: Any, run: Run) -> Networks:
    """The networks; the lifter with the weights of its baseline, if there is one."""
    lifter = models.create(args.posenet_name, **options.lifter_sizes(args))
    pretrained = None if args.resume else run_folder.find_pretrained(args)
    if pretrained:
        run_folder.load_lifter(lifter, pretrained, torch.device("cpu"), options.form_of(args))
        args.pretrain = str(pretrained)  # config.yaml says which
    nets = lifter, Augmentor(tanh_limit=args.blr_tanhlimit), Discriminator3D(), Discriminator2D()
    return Networks(*(run.prepare(network).train() for network in nets))


# ------------------------------------------------------------ steps


def augmentor_step(
    index: Tensor, nets: Networks, adam: Networks, data: AugmentedData, feedback: Feedback, run: Run, args: Any
) -> Tensor:
    """One step of the augmentor on the poses `index` (B, 2): which to augment, the place for the result -> the terms of
    `tags.AUGMENTOR`.
    """
    noise = tuple(run.shard(part) for part in draw_noise(len(index), run.generator, run.device))
    mine, place = run.shard(index).unbind(1)
    camera, keypoints, poses = data.camera(mine), data.source_2d[mine], data.source_3d[mine]
    with run.autocast():
        made, keypoints_rt, errors, terms = augment(
            nets.augmentor, nets.lifter, nets.disc_3d, nets.disc_2d, keypoints, poses, camera, noise
        )
    angle, length = diff_loss(made.ba_diff, made.blr, args.ba_range_m, args.ba_range_w, args.blr_limit)
    loss = args.gloss_factord2d * terms["adversarial_2d"] + args.gloss_factord3d * terms["adversarial_3d"]
    loss = loss + args.gloss_factordiff * (angle + args.gloss_factorblr * length)
    ba = feedback_loss(
        errors.ba, errors.original, feedback.ratios[0], args.hardratio_std_ba, args.gloss_factorfeedback_ba,
        args.gloss_factordiv_ba,
    )  # fmt: skip
    rt = feedback_loss(
        errors.rt, errors.original, feedback.ratios[1], args.hardratio_std_rt, args.gloss_factorfeedback_rt,
        args.gloss_factordiv_rt,
    )  # fmt: skip
    if feedback.counts:
        loss = loss + ba.loss + rt.loss
    update(nets.augmentor, adam.augmentor, loss, run.weight(mine, index), run, args.max_norm)
    data.store(place, made, keypoints_rt, len(index))
    data.show(poses, made, camera)
    terms |= {"loss": loss, "angle": angle, "length": length}
    terms |= {f"{part}_{name}": v for part, f in (("ba", ba), ("rt", rt)) for name, v in f._asdict().items()}
    return torch.stack([terms[name].detach() for name in tags.AUGMENTOR])


def discriminator_step(
    index: Tensor, nets: Networks, adam: Networks, data: AugmentedData, run: Run, args: Any
) -> Tensor:
    """One step of both discriminators; index (B, 2): poses, and other poses' 2D, that are taken for real -> the terms
    of `tags.DISCRIMINATORS`.
    """
    terms = []
    for network, optimizer, pool, rows, real, fake in (
        (nets.disc_3d, adam.disc_3d, data.pool_3d, index[:, 0], data.source_3d, data.fake_3d),
        (nets.disc_2d, adam.disc_2d, data.pool_2d, index[:, 1], data.source_2d, data.fake_2d),
    ):
        real, fake = real[run.shard(rows)], run.shard(pool(fake[: len(index)], run.generator))
        with run.autocast():
            real_scores, fake_scores = network(torch.cat((real, fake))).split(len(real))
        loss = discriminator_loss(real_scores, fake_scores)
        update(network, optimizer, loss, run.weight(real, index), run, args.max_norm)
        terms += [accuracy(real_scores, 1.0), accuracy(fake_scores, 0.0), loss.detach()]
    return torch.stack(terms)


def lifter_step(index: Tensor, nets: Networks, adam: Networks, data: AugmentedData, run: Run, args: Any) -> Tensor:
    """One step of the lifter on the rows `index` of the pairs -> its loss (1,)."""
    mine = run.shard(index)
    with run.autocast():
        pose = nets.lifter(data.keypoints[mine])
    loss = F.mse_loss(pose.float(), data.poses[mine])
    update(nets.lifter, adam.lifter, loss, run.weight(mine, index), run, args.max_norm)
    return loss.detach().view(1)


def update(network: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, weight: float, run: Run, clip: bool):
    """One step of a network down its loss, of which this process's part counts `weight`."""
    optimizer.zero_grad()
    (loss * weight).backward()
    run.reduce_gradients(network)
    if clip:
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()


# ------------------------------------------------------------ passes over the poses


def train_augmentor(
    epoch: int, augmentor: Step, discriminators: Step, nets: Networks, data: AugmentedData, run: Run, log: RunLog,
    args: Any,
) -> dict[str, float]:  # fmt: skip
    """One pass: the augmentor in every step, the discriminators in every --df-th -> means of all terms, by tag."""
    for network in (nets.lifter, nets.disc_3d, nets.disc_2d):
        network.requires_grad_(False)
    steps, places = run.steps(data.count, args.batch_size), data.real_rows()
    others = [run.order(data.count, epoch, name).to(run.device) for name in ("real 3D", "real 2D")]
    losses = LossBuffer(tags.AUGMENTOR.values(), run, log, epoch - 1, steps)
    scores = LossBuffer(tags.DISCRIMINATORS.values(), run, log, epoch - 1, steps)
    batches, done = run.batches(data.count, args.batch_size, epoch, purpose="augmentor"), 0
    for i, index in run.progress(batches, steps, f"epoch {epoch}, augmentor"):
        here = slice(done, done := done + len(index))
        losses.record(i, augmentor(torch.stack((index, places[here]), 1)), len(index))
        iteration = (epoch - 1) * steps + i
        if iteration % args.df == 0:
            for network in (nets.disc_3d, nets.disc_2d):
                network.requires_grad_(True)
            scores.record(i, discriminators(torch.stack([order[here] for order in others], 1)), len(index))
            for network in (nets.disc_3d, nets.disc_2d):
                network.requires_grad_(False)
        if args.viz_every and iteration % args.viz_every == 0 and run.is_main:
            path = log.folder / "poseaug_viz" / f"epoch_{epoch:04d}_iter_{i:04d}.png"
            save_stages(path, data.shown_2d, data.shown_3d)
        stop_if_asked(epoch, run, log)
    nets.lifter.requires_grad_(True)
    return losses.means() | scores.means()


def train_lifter(
    epoch: int, name: str, rows: Tensor, step: Step, steps: int, run: Run, log: RunLog, args: Any
) -> float:
    """One pass over the rows of the pairs, the "made" or the "real" ones -> mean loss. steps: of an epoch."""
    losses = LossBuffer((f"train_P_iter/{name}",), run, log, epoch - 1, steps)
    batches = run.batches(len(rows), args.batch_size, epoch, purpose=name)
    for i, index in run.progress(batches, run.steps(len(rows), args.batch_size), f"epoch {epoch}, {name} poses"):
        losses.record(i, step(rows[index]), len(index))
        stop_if_asked(epoch, run, log)
    return losses.means()[f"train_P_iter/{name}"]


def stop_if_asked(epoch: int, run: Run, log: RunLog) -> None:
    """Leave where a signal came; an epoch is not resumed in its midst."""
    if run.stop_requested:
        run.leave(f"stopped in epoch {epoch}; go on from what was saved last: {resume_command(log.folder)}")


def save_best(
    lifter: nn.Module, epoch: int, row: dict[str, float], best: dict[str, float], run: Run, log: RunLog
) -> dict[str, float]:
    """Save the lifter under its published names, where it is better than in any epoch before -> the best scores."""
    for name, file in (("error_3dhp_p1", "ckpt_best_dhp_p1"), ("error_h36m_p1", "ckpt_best_h36m_p1")):
        if name in row and row[name] < best.get(name, float("inf")):
            best = best | {name: row[name]}
            run.save(log.folder / f"{file}.pth.tar", {"epoch": epoch, "model_pos": lifter.state_dict()})
    return best


if __name__ == "__main__":
    run_script(main)
