"""ITES, stage 1: train the teacher, a pose dictionary that learns 3D from single 2D poses (AAAI 2021).

    python train_teacher.py -k gt -e 50 -c checkpoint/teacher                 as published; Human3.6M files in data/
    python train_teacher.py -d synthetic -k gt -e 5 -c checkpoint/teacher     needs no files
    python train_teacher.py -k gt -e 50 -c checkpoint/teacher -r last.bin     goes on exactly where a run stopped
    torchrun --nproc_per_node 2 train_teacher.py -k gt -c checkpoint/teacher  one global batch, shared by two processes

Writes tea_model_epoch_N.bin after every epoch, ckpt_teacher.bin (the newest), last.bin (for --resume, also at
Ctrl-C), config.yaml, metrics.csv and TensorBoard events into the folder of -c.
"""

from common.run.entry import run_script

import time
from functools import partial

import torch

import models
from common.datasets.training_views import seen_by
from common.rotation import random_rotations
from common.run.log import RunLog
from common.run.losses import LossBuffer
from common.run.run import start
from common.run.script import resume_command
from common.run.state import Progress
from methods.ites import options, protocol
from models.teacher import published_pose, teacher_losses

REPLICAS = 4  # random views of each canonical shape in the cycle loss
ALIGNED_EPOCHS = 15  # the cycle loss moves the root to the origin in these first epochs, whatever the decay is


def main() -> None:
    args = options.teacher_parser(__doc__).parse_args()
    run = start(args)
    run.settle_resume(args, args.checkpoint / "last.bin")
    train = protocol.load_training(args, run.device)
    test = None if args.no_eval else protocol.load(args, args.subjects_test, run.device)
    model = run.prepare(
        models.create(
            "teacher", width=args.n_fully_connected, layers=args.n_layers, basis=args.dict_basis_size,
            init_std=args.weight_init_std,
        )
    )  # fmt: skip
    optimizer = torch.optim.SGD(
        model.parameters(), args.learning_rate, momentum=args.momentum, weight_decay=args.weight_decay, fused=True
    )
    see = protocol.training_input(args, train, run)
    state = protocol.run_state(args, model, optimizer, run)
    progress = state.resume(args.epochs, folder=args.checkpoint)
    log = RunLog(args.checkpoint, args, resume=bool(args.resume))
    run.say(f"train {train.summary()}; {seen_by(args)}; device {run.device}")

    def train_step(index: torch.Tensor) -> torch.Tensor:
        """One SGD step on the poses `index` of the global batch."""
        keypoints = see(index)
        rotations = random_rotations(REPLICAS * len(index), generator=run.generator, device=run.device)
        rotations = run.shard(rotations.unflatten(0, (-1, REPLICAS))).transpose(0, 1).flatten(0, 1)
        with run.autocast():
            losses = teacher_losses(model, keypoints, rotations, align_root=aligned)
        total = args.reploss_weight * losses["reprojection"] + losses["cycle"]
        optimizer.zero_grad()
        (total * run.weight(keypoints, index)).backward()
        run.reduce_gradients(model)
        optimizer.step()
        return torch.stack((losses["reprojection"], losses["cycle"])).detach()

    train_step = run.accelerate(train_step, optimizer, key=lambda: aligned)
    steps, best = run.steps(len(train), args.batch_size), progress.best
    for epoch in range(progress.epoch, args.epochs):
        aligned, began = epoch < ALIGNED_EPOCHS, time.perf_counter()
        lr = optimizer.param_groups[0]["lr"]
        model.train()
        losses = LossBuffer(("reprojection", "cycle"), run, log, epoch, steps, progress.losses)
        batches = run.batches(len(train), args.batch_size, epoch, progress.step)
        for i, index in run.progress(batches, steps, f"epoch {epoch + 1}"):
            losses.record(i, train_step(index), len(index))
            if run.stop_requested:
                state.stop(Progress(epoch, i + 1, losses.state_dict(), best), resume_command("last.bin"))
        if (epoch + 1) % args.epoch_lr_decay == 0:
            optimizer.param_groups[0]["lr"] *= args.lr_decay

        row = {f"{name} x 1000": 1000 * value for name, value in losses.means().items()}
        if test is not None:
            model.eval()
            row |= protocol.mean_errors(partial(published_pose, model), test, run)
            best = row["MPJPE"] if best is None else min(best, row["MPJPE"])
        run.say(protocol.epoch_line(epoch + 1, time.perf_counter() - began, lr, row))
        log.epoch(epoch + 1, row | {"lr": lr}, step=(epoch + 1) * steps)
        progress = Progress(epoch + 1, best=best)
        state.save(progress, f"tea_model_epoch_{epoch + 1}.bin", "ckpt_teacher.bin")
    log.close()
    log.plot(args.checkpoint / "curves.png", "losses x 1000, errors in mm")
    run.say(protocol.final_line(row, best, test, args))


if __name__ == "__main__":
    run_script(main)
