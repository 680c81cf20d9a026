"""Learn 3D poses from images, weakly supervised: Zhou et al. (ICCV 2017), by its three stages.

    python train_hourglass.py --exp_id mpii                                                             2D, on MPII
    python train_hourglass.py --exp_id fusion_3d --task human3d --dataset fusion_3d --ratio_3d 1 --weight_3d 0.1 \\
        --load_model ../exp/mpii/model_last.pth --num_epoch 60 --lr_step 45                             and depths
    python train_hourglass.py --exp_id fusion_3d_var --task human3d --dataset fusion_3d --ratio_3d 1 --weight_3d 0.1 \\
        --weight_var 0.01 --load_model ../models/fusion_3d.pth --num_epoch 10 --lr 1e-4                 and bone ratios
    python train_hourglass.py --dataset synthetic --arch msra_18 --input_h 128 --input_w 128            needs no files
    python train_hourglass.py --exp_id mpii --resume                           goes on exactly where the run stopped

Writes model_last.pth (with the optimiser), model_best.pth (by --metric, of the test subjects), config.yaml,
metrics.csv, curves.png and TensorBoard events into exp/EXP_ID. Heat maps, depth maps and losses are the published ones.
"""

from common.run.entry import run_script

import logging
import sys
import time
from argparse import Namespace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

import models
from common.errors import InputError
from common.images.loader import epoch_batches, evaluation_loader, training_loader
from common.images.people import Crops
from common.images.scores import accuracy, heatmap_distances
from common.run.checkpoint import options_json
from common.run.gpus import start_on_gpus
from common.run.log import RunLog, numbers_line
from common.run.losses import LossBuffer
from common.run.run import Run
from common.run.state import Progress, State
from methods.hourglass import checkpoint, evaluation, options, scoring
from methods.hourglass.pictures import save_sheet
from models.hourglass.losses import losses

TERMS = ("loss", "heatmap", "depth", "bones", "acc")


def main() -> None:
    parser = options.training_parser(__doc__)
    args = parser.parse_args()
    if args.test:
        for line in scoring.score(parser, args, sys.argv):
            print(line, flush=True)
        return
    options.settle_training(parser, args)
    run = start_on_gpus(args, sys.argv)
    folder = args.exp_dir / args.exp_id
    run.settle_resume(args, folder / "model_last.pth")
    train, test = (evaluation.load_crops(args, run, train) for train in (True, False))

    model = run.prepare(build(args, train).to(memory_format=evaluation.memory_format(run.device)))
    optimizer = torch.optim.Adam(model.parameters(), args.lr, weight_decay=args.weight_decay, fused=True)
    parts = {"state_dict": model, "optimizer": optimizer}  # published keys
    state = State(run, args, parts, folder / "model_last.pth", free=options.FREE)
    progress = state.resume(
        args.num_epochs, option="--num_epochs", check=partial(check_processes, run),
        hint="start from its weights with --load_model",
    )  # fmt: skip
    evaluation.same_layout(optimizer)

    count = args.batch_size * run.world_size  # published: of each GPU
    loader = training_loader(train, run, count, args.ratio_3d, args.num_workers)
    scored = evaluation_loader(test, run, args.batch_size, args.num_workers)
    batch = evaluation.DeviceBatch(run.device, args.batch_size + 2)
    log = RunLog(folder, args, resume=bool(args.resume))
    what = f"{args.arch}, {args.input_h} x {args.input_w}, {sum(p.numel() for p in model.parameters()):,} weights"
    run.say(f"train {evaluation.summary(train)}; score {evaluation.summary(test)}")
    run.say(f"{what}; {len(train):,} images; device {run.device}")

    def train_step(index: Tensor) -> Tensor:
        """One Adam step on the batch under way; `index` has a row for each item of the global batch."""
        sample, mine = batch.sample(), run.shard(index)
        maps = evaluation.target_maps(sample, train.options.map_size)
        with run.autocast():
            output = model(evaluation.network_input(sample["image"], args.arch))
        terms = losses(output, maps, sample, args.weight_3d, args.weight_var)
        total = run.weight(mine, index) * terms.total
        if run.world_size > 1 and args.weight_3d:  # the mean over joints with a depth is over all processes'
            counts = sample["reg_mask"].count_nonzero() + 1e-4 / run.world_size
            part = (sample["reg_mask"].count_nonzero() + 1e-4) / run.average(counts)
            total = total + (part - run.weight(mine, index)) * args.weight_3d * terms.depth
        optimizer.zero_grad()
        total.backward()
        run.reduce_gradients(model)
        optimizer.step()
        distances = heatmap_distances(output["hm"].detach(), maps)
        right = 100 * accuracy(distances, evaluation.accuracy_joints(distances.shape[1]))
        return torch.stack((*(term.detach() for term in terms), right))

    train_step = run.accelerate(train_step, optimizer)
    steps, best = loader.batch_sampler.steps, progress.best
    for epoch in range(progress.epoch, args.num_epochs):
        began, waited = time.perf_counter(), 0.0
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate(args, epoch)
        record = LossBuffer(TERMS, run, log, epoch, steps, progress.losses)
        ready = time.perf_counter()
        for i, images in run.progress(epoch_batches(loader, epoch, progress.step), steps, f"epoch {epoch + 1}"):
            waited += time.perf_counter() - ready
            batch.put(images)
            index = torch.arange(rows_of(i, steps, count, loader.batch_sampler.count), device=run.device)
            record.record(i, train_step(index), len(index))
            if args.print_iter > 0 and (i + 1) % args.print_iter == 0:
                run.say(f"epoch {epoch + 1} step {i + 1}/{steps}: {numbers_line(record.means())}")
            if run.stop_requested:
                state.stop(Progress(epoch, i + 1, record.state_dict(), best))
            ready = time.perf_counter()
        trained = time.perf_counter() - began
        row = record.means() | {"lr": optimizer.param_groups[0]["lr"]}
        if validates(args, epoch + 1):
            # As published saved before validating: a run that ends in between has only to validate.
            state.save(Progress(epoch, steps, record.state_dict(), best))
            row |= validate(model, scored, run, args, epoch + 1)
            if evaluation.better(args.metric, row[f"val_{args.metric}"], best):
                best = row[f"val_{args.metric}"]
                weights = {"epoch": epoch + 1, "state_dict": model.state_dict(), "options": options_json(args)}
                run.save(folder / "model_best.pth", weights)
        wait = "" if args.hide_data_time else f", {100 * waited / trained:.0f} % waiting for images"
        run.say(f"[{epoch + 1}] {time.perf_counter() - began:.1f} s{wait}: {numbers_line(row)}")
        log.epoch(epoch + 1, row, step=(epoch + 1) * steps)
        progress = Progress(epoch + 1, best=best)
        kept = args.save_all_models and validates(args, epoch + 1)
        state.save(progress, *[f"model_{epoch + 1}.pth"] * kept)
    log.close()
    log.plot(folder / "curves.png")
    what = "nothing was scored" if best is None else f"best {args.metric} {best:.4g} on {evaluation.summary(test)}"
    run.say(f"{what}; results in {folder}")


def build(args: Namespace, train: Crops) -> torch.nn.Module:
    """The network, from ImageNet's weights, a file's, or random ones."""
    joints = train.sets[0].joints.shape[1]
    name, sizes = checkpoint.parse_arch(args.arch, joints, args.task == "human3d", args.input_h)
    model = models.create(name, **sizes)
    if args.load_model and not args.resume:
        path = checkpoint.find_weights(args.load_model, args.exp_dir)
        found = checkpoint.load(path)
        checkpoint.load_any_stage(model, found.state, path)
    elif name == "pose_resnet" and args.backbone_weights != "none" and not args.resume:
        file = None if args.backbone_weights == "auto" else Path(args.backbone_weights)
        try:
            checkpoint.load_backbone(model, sizes["layers"], file)
        except InputError as error:
            if file is not None or args.dataset != "synthetic":
                raise
            logging.warning("random weights to begin with: %s", error)
    return model


def rows_of(i: int, steps: int, batch_size: int, count: int) -> int:
    """Rows of global batch i; the last one has what is left."""
    return batch_size if i < steps - 1 else count - i * batch_size


def validates(args: Namespace, epoch: int) -> bool:
    """After epoch `epoch`, counted from 1: every `--val_intervals`, and the last."""
    return args.val_intervals > 0 and (epoch % args.val_intervals == 0 or epoch == args.num_epochs)


def validation_loss(args: Namespace) -> evaluation.Loss:
    """The training loss, for `evaluation.evaluate`."""
    return lambda output, maps, sample: losses(output, maps, sample, args.weight_3d, args.weight_var).total


def validate(model: torch.nn.Module, scored: DataLoader, run: Run, args: Namespace, epoch: int) -> dict[str, float]:
    """Score; -> the columns `val_...` of metrics.csv. With `--debug 2` also predictions_EPOCH.png."""
    model.eval()
    table = evaluation.evaluate(evaluation.network(model, run, args.arch), scored, run, args, validation_loss(args))
    if args.debug > 1 and run.is_main:
        save_sheet(args.exp_dir / args.exp_id / f"predictions_{epoch}.png", scored.dataset, table, args.refine)
    return {f"val_{name}": value for name, value in evaluation.means(table).items()}


def check_processes(run: Run, saved: dict, path: Path) -> None:
    """Refuse to go on in mid-epoch with other processes: the batch is of each, so steps would count other images."""
    processes = len(saved["rng"]["ranks"])
    if saved.get("step") and processes != run.world_size:
        raise InputError(
            f"{path} was saved in mid-epoch by {processes} processes; go on with as many, there are {run.world_size}"
        )


if __name__ == "__main__":
    run_script(main)
