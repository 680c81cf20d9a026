"""ITES, stage 2: distil the teacher into a graph network that lifts 2D to 3D by itself (AAAI 2021).

    python train_student.py -k gt -e 40 -c checkpoint/student --teacher_checkpoint checkpoint/teacher/ckpt_teacher.bin
    python train_student.py -d synthetic -k gt -e 2 -c checkpoint/student       needs no files but the teacher
    python train_student.py -k gt -e 40 -c checkpoint/student -r last.bin       goes on exactly where a run stopped
    torchrun --nproc_per_node 2 train_student.py -k gt -c checkpoint/student  one global batch, shared by two processes

Writes stu_model_epoch_N.bin after every epoch, ckpt_student.bin (the newest), last.bin (for --resume, also at
Ctrl-C), config.yaml, metrics.csv and TensorBoard events into the folder of -c.
"""

from common.run.entry import run_script

import time
from functools import partial

import torch

import models
from common.datasets.training_views import seen_by
from common.rotation import ITES_PI, random_rotations
from common.run import checkpoint
from common.run.log import RunLog
from common.run.losses import LossBuffer
from common.run.run import start
from common.run.script import resume_command
from common.run.state import Progress
from methods.ites import options, protocol
from models.student import student_losses

REPLICAS = 4  # random turns of each predicted pose in the reconstruction loss
VERTICAL = (0.0, 1.0, 0.0)
FULL_CIRCLE = 2 * ITES_PI


def main() -> None:
    args = options.student_parser(__doc__).parse_args()
    run = start(args)
    run.settle_resume(args, args.checkpoint / "last.bin")
    teacher = models.create(
        "teacher", width=args.n_fully_connected, layers=args.n_layers, basis=args.dict_basis_size
    ).to(run.device)  # fmt: skip
    saved = checkpoint.load(args.teacher_checkpoint, run.device)
    checkpoint.load_weights(teacher, protocol.weights(saved, args.teacher_checkpoint), args.teacher_checkpoint)
    teacher_digest = protocol.digest(teacher)

    train = protocol.load_training(args, run.device)
    test = None if args.no_eval else protocol.load(args, args.subjects_test, run.device)
    model = run.prepare(models.create("student", hidden=args.hid_dim, blocks=args.n_blocks))
    optimizer = torch.optim.SGD(
        model.parameters(), args.learning_rate, momentum=args.momentum, weight_decay=args.weight_decay, fused=True
    )
    see = protocol.training_input(args, train, run)
    state = protocol.run_state(args, model, optimizer, run, teacher_digest)
    same_teacher = partial(protocol.check_teacher, teacher=teacher_digest, args=args)
    progress = state.resume(args.epochs, folder=args.checkpoint, check=same_teacher)
    log = RunLog(args.checkpoint, args, resume=bool(args.resume))
    run.say(f"train {train.summary()}; {seen_by(args)}; device {run.device}")

    @torch.no_grad()
    def teach(keypoints: torch.Tensor) -> torch.Tensor:
        """The teacher's depths, all that is learned from it."""
        return teacher(keypoints).pose[..., 2:]

    teacher.eval()
    depths = None
    if args.cameras == "rig":  # every pose looks alike in every epoch: once for the whole run
        chunks = run.progress(train.inputs.split(protocol.CHUNK), text="teacher")
        depths = torch.cat([teach(keypoints) for keypoints in chunks])

    def train_step(index: torch.Tensor) -> torch.Tensor:
        """One SGD step on the poses `index` of the global batch."""
        keypoints = see(index)
        depth = teach(keypoints) if depths is None else depths[run.shard(index)]
        rotations = random_rotations(REPLICAS * len(index), VERTICAL, FULL_CIRCLE, run.generator, run.device)
        rotations = run.shard(rotations.unflatten(0, (-1, REPLICAS))).transpose(0, 1).flatten(0, 1)
        with run.autocast():
            losses = student_losses(model, keypoints, depth, rotations)
        total = args.reploss_weight * losses["depth"] + losses["reconstruction"]
        optimizer.zero_grad()
        (total * run.weight(keypoints, index)).backward()
        run.reduce_gradients(model)
        optimizer.step()
        return torch.stack((losses["depth"], losses["reconstruction"], total)).detach()

    train_step = run.accelerate(train_step, optimizer)
    steps, best = run.steps(len(train), args.batch_size), progress.best
    for epoch in range(progress.epoch, args.epochs):
        began = time.perf_counter()
        lr = optimizer.param_groups[0]["lr"]
        model.train()
        losses = LossBuffer(("depth", "reconstruction", "total"), run, log, epoch, steps, progress.losses)
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
            row |= protocol.mean_errors(lambda keypoints: model(keypoints).pose, test, run)
            best = row["MPJPE"] if best is None else min(best, row["MPJPE"])
        run.say(protocol.epoch_line(epoch + 1, time.perf_counter() - began, lr, row))
        log.epoch(epoch + 1, row | {"lr": lr}, step=(epoch + 1) * steps)
        progress = Progress(epoch + 1, best=best)
        state.save(progress, f"stu_model_epoch_{epoch + 1}.bin", "ckpt_student.bin")
    log.close()
    log.plot(args.checkpoint / "curves.png", "losses x 1000, errors in mm")
    run.say(protocol.final_line(row, best, test, args))


if __name__ == "__main__":
    run_script(main)
