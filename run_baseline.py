"""Train a lifter from 2D to 3D pose on the data as it is: PoseAug's baselines (CVPR 2021).

    python run_baseline.py --note pretrain --lr 1e-3 --posenet_name videopose --checkpoint ./checkpoint/pretrain_baseline --keypoints gt
    python run_baseline.py --dataset synthetic --posenet_name mlp --stages 2 --epochs 10      needs no files
    python run_baseline.py --posenet_name videopose --architecture 3,3,3 --flip_train --flip_test     27 frames
    python run_baseline.py --posenet_name mlp --stages 2 --resume FOLDER                  goes on exactly where a run stopped

Scores the test subjects, and the cross-data set (MPI-INF-3DHP) where it is there, after every epoch. Writes
ckpt_best.pth.tar (by protocol #1 on the test subjects), numbered snapshots, last.pth.tar (for --resume), log.txt,
config.yaml, metrics.csv, curves.png and TensorBoard events into CHECKPOINT/LIFTER/KEYPOINTS/TIME_NOTE.
"""  # noqa: E501

from common.run.entry import run_script

import math
import time

import torch
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import models
from common.datasets.training_views import form_of, seen_by, training_views
from common.run import checkpoint
from common.run.log import RunLog
from common.run.losses import LossBuffer
from common.run.run import start
from common.run.state import Progress
from methods.poseaug import evaluation, options, run_folder

COLUMNS = ("epoch", "lr", "loss_train", "error_h36m_p1", "error_h36m_p2", "error_3dhp_p1", "error_3dhp_p2")


def main() -> None:
    parser = options.baseline_parser(__doc__)
    args = parser.parse_args()
    options.check_options(parser, args)
    run = start(args)
    form = form_of(args)
    train = evaluation.load_training(args, run.device)
    test = evaluation.load_split(args, args.subjects_test, run.device, form=form)
    cross = evaluation.load_cross_data(args, run.device, form)
    folder = run_folder.run_folder(args, run_folder.time_of_day(iso=False))
    run.settle_resume(args, folder / "last.pth.tar")

    model = models.create(args.posenet_name, **options.lifter_sizes(args))
    pretrained = None if args.resume else run_folder.find_pretrained(args)
    if pretrained:
        run_folder.load_lifter(model, pretrained, torch.device("cpu"), form)
    model = run.prepare(model)
    optimizer = torch.optim.Adam(model.parameters(), args.lr, fused=True)
    see = training_views(args, train, run, getattr(model, "receptive_field", 1), args.causal, args.flip_train)
    folder = run_folder.claim(folder, args, run)
    parts = {"state_dict": model, "optimizer": optimizer}
    averaged = averaging(model, args.average_weights) if args.average_weights else None
    state = run_folder.run_state(args, run, parts | ({"averaged": averaged} if averaged else {}), folder)
    progress = state.resume(args.epochs)
    log = RunLog(folder, args, resume=bool(args.resume))
    text = run_folder.TextLog(folder / "log.txt", args, COLUMNS, progress.epoch, run.is_main)
    run.say(f"train {train.summary()}; {seen_by(args)}; {args.posenet_name}; device {run.device}")

    def train_step(index: torch.Tensor) -> torch.Tensor:
        """One Adam step on the poses `index` of the global batch."""
        inputs, target = see(index)
        with run.autocast():
            pose = model(inputs)
        loss = F.mse_loss(pose.float(), target)  # gcn and stgcn place the root themselves: nothing is subtracted
        optimizer.zero_grad()
        (loss * run.weight(target, index)).backward()
        run.reduce_gradients(model)
        if args.max_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.detach().view(1)

    train_step = run.accelerate(train_step, optimizer)
    steps, best = run.steps(len(train), args.batch_size), progress.best
    scored_model, cosine = averaged.module if averaged else model, args.lr_schedule == "cosine"
    for epoch in range(progress.epoch, args.epochs):
        began = time.perf_counter()
        if cosine:
            optimizer.param_groups[0]["lr"] = args.lr * (1 + math.cos(math.pi * epoch / args.epochs)) / 2
        model.train()
        losses = LossBuffer(("loss_train",), run, log, epoch, steps, progress.losses)
        batches = run.batches(len(train), args.batch_size, epoch, progress.step)
        for i, index in run.progress(batches, steps, f"epoch {epoch + 1}"):
            step = epoch * steps + i + 1
            if not cosine and (step == 1 or step % args.lr_decay == 0):  # as published: the rate stays between
                optimizer.param_groups[0]["lr"] = evaluation.learning_rate(step, args.lr, args.lr_decay, args.lr_gamma)
            losses.record(i, train_step(index), len(index))
            if averaged:
                averaged.update_parameters(model)
            if run.stop_requested:
                state.stop(Progress(epoch, i + 1, losses.state_dict(), best))

        row, trained = losses.means(), time.perf_counter() - began
        scored = evaluation.evaluate_all(scored_model, test, cross, run, args.flip_test, more=epoch + 1 == args.epochs)
        errors = evaluation.row_of(scored)
        shown = evaluation.row_text(errors, test, cross)
        run.say(evaluation.epoch_line(epoch + 1, time.perf_counter() - began, trained, row, shown))
        row |= errors
        lr = optimizer.param_groups[0]["lr"]
        log.epoch(epoch + 1, row | {"lr": lr}, step=(epoch + 1) * steps)
        text.row(row | {"epoch": epoch + 1, "lr": lr})
        published = {
            "state_dict": scored_model.state_dict(),
            "epoch": epoch + 1,
            "options": checkpoint.options_json(args),
        }
        if best is None or row["error_h36m_p1"] < best:
            best = row["error_h36m_p1"]
            run.save(folder / "ckpt_best.pth.tar", published)
        if (epoch + 1) % args.snapshot == 0:
            run.save(folder / f"ckpt_epoch_{epoch + 1:04d}.pth.tar", published)
        progress = Progress(epoch + 1, best=best)
        state.save(progress)
    log.close()
    log.plot(folder / "curves.png")
    if args.action_wise:
        run.say(evaluation.action_table(scored[0]))
    run.say(evaluation.best_line(args, best, test, cross))
    run.say(f"results in {folder}")


def averaging(model: torch.nn.Module, decay: float) -> AveragedModel:
    """The exponential average of a network's weights and statistics (Polyak and Juditsky 1992)."""
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


if __name__ == "__main__":
    run_script(main)
