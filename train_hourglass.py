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

import logging
import time
from argparse import Namespace
from pathlib import Path

import torch
from torch import Tensor

import models
from common.errors import InputError
from common.images.loader import epoch_batches, evaluation_loader, training_loader
from common.images.people import Crops
from common.images.scores import accuracy, heatmap_distances
from common.run import checkpoint
from common.run.log import RunLog
from common.run.losses import LossBuffer
from common.run.run import Run
from common.run.script import run_script
from methods.hourglass import checkpoint as hourglass_checkpoint
from methods.hourglass import evaluation, options
from methods.hourglass.pictures import save_sheet
from models.hourglass.losses import losses

TERMS = ("loss", "heatmap", "depth", "bones", "acc")


def main() -> None:
    parser = options.training_parser(__doc__)
    args = parser.parse_args()
    options.settle_training(parser, args)
    if args.test:
        import test_hourglass

        return test_hourglass.main()
    run = options.start_on_gpus(args)
    folder = args.exp_dir / args.exp_id
    run.settle_resume(args, folder / "model_last.pth")
    train, test = (evaluation.load_crops(args, run, train) for train in (True, False))
    size = train.options.map_size

    model = run.prepare(build(args, train).to(memory_format=evaluation.memory_format(run.device)))
    optimizer = torch.optim.Adam(model.parameters(), args.lr, weight_decay=args.weight_decay, fused=True)
    saved = evaluation.load_state(args, run, folder) if args.resume else {}
    if saved:
        checkpoint.load_weights(model, saved["state_dict"], run.last_checkpoint)
        checkpoint.load_optimizer(optimizer, saved["optimizer"], run.last_checkpoint)
        evaluation.same_layout(optimizer)
        run.set_rng_state(saved["rng"])
    finished, first_step, partial, best = (saved.get(key) for key in ("epoch", "step", "losses", "best"))

    count = args.batch_size * run.world_size  # published: of each GPU
    loader = training_loader(train, run, count, args.ratio_3d, args.num_workers)
    scored = evaluation_loader(test, run, args.batch_size, args.num_workers)
    batch = evaluation.DeviceBatch(run.device, args.batch_size + 2)
    predict = evaluation.network(model, run, args.arch)
    log = RunLog(folder, args, resume=bool(args.resume))
    if run.is_main:
        what = f"{args.arch}, {args.input_h} x {args.input_w}, {sum(p.numel() for p in model.parameters()):,} weights"
        print(f"train {evaluation.summary(train)}; score {evaluation.summary(test)}", flush=True)
        print(f"{what}; {len(loader.batch_sampler.crops):,} images; device {run.device}", flush=True)

    def train_step(index: Tensor) -> Tensor:
        """One Adam step on the batch under way; `index` has a row for each item of the global batch."""
        sample, mine = batch.sample(), run.shard(index)
        maps = evaluation.target_maps(sample, size)
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
    steps = loader.batch_sampler.steps
    for epoch in range(finished or 0, args.num_epochs):
        began, waited = time.perf_counter(), 0.0
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate(args, epoch)
        record = LossBuffer(TERMS, run, log, epoch, steps, partial)
        ready = time.perf_counter()
        for i, images in run.progress(epoch_batches(loader, epoch, first_step or 0), steps, f"epoch {epoch + 1}"):
            waited += time.perf_counter() - ready
            batch.put(images)
            index = torch.arange(rows_of(i, steps, count, loader.batch_sampler.count), device=run.device)
            record.record(i, train_step(index), len(index))
            if args.print_iter > 0 and (i + 1) % args.print_iter == 0:
                say(run, f"epoch {epoch + 1} step {i + 1}/{steps}: {text(record.means())}")
            if run.stop_requested:
                run.save(
                    folder / "model_last.pth",
                    training_state(args, run, model, optimizer, best, epoch)
                    | {"step": i + 1, "losses": record.state_dict()},
                )
                run.leave(f"stopped in epoch {epoch + 1}; go on with: {options.resume_line(folder)}")
            ready = time.perf_counter()
        first_step, partial, trained = 0, None, time.perf_counter() - began
        row = record.means() | {"lr": optimizer.param_groups[0]["lr"]}
        if validates(args, epoch + 1):
            # As published saved before validating: a run that ends in between has only to validate.
            state = training_state(args, run, model, optimizer, best, epoch)
            run.save(folder / "model_last.pth", state | {"step": steps, "losses": record.state_dict()})
            model.eval()
            table = evaluation.evaluate(predict, scored, run, args, validation_loss(args))
            scores = evaluation.means(table)
            row |= {f"val_{name}": value for name, value in scores.items()}
            if args.debug > 1 and run.is_main:
                save_sheet(folder / f"predictions_{epoch + 1}.png", test, table, args.refine)
            if evaluation.better(args.metric, scores[args.metric], best):
                best = scores[args.metric]
                run.save(folder / "model_best.pth", weights(args, model, epoch + 1))
        wait = "" if args.hide_data_time else f", {100 * waited / trained:.0f} % waiting for images"
        say(run, f"[{epoch + 1}] {time.perf_counter() - began:.1f} s{wait}: {text(row)}")
        log.epoch(epoch + 1, row, step=(epoch + 1) * steps)
        state = training_state(args, run, model, optimizer, best, epoch + 1)
        run.save(folder / "model_last.pth", state)
        if args.save_all_models and validates(args, epoch + 1):
            run.save(folder / f"model_{epoch + 1}.pth", state)
    log.close()
    if run.is_main:
        log.plot(folder / "curves.png")
        what = "nothing was scored" if best is None else f"best {args.metric} {best:.4g} on {evaluation.summary(test)}"
        print(f"{what}; results in {folder}")


def build(args: Namespace, train: Crops) -> torch.nn.Module:
    """The network, from ImageNet's weights, a file's, or random ones."""
    joints = train.sets[0].joints.shape[1]
    name, sizes = hourglass_checkpoint.parse_arch(args.arch, joints, args.task == "human3d", args.input_h)
    model = models.create(name, **sizes)
    if args.load_model and not args.resume:
        path = options.find_weights(args.load_model, args.exp_dir)
        found = hourglass_checkpoint.load(path)
        hourglass_checkpoint.load_weights(model, found.state, path)
    elif name == "pose_resnet" and args.backbone_weights != "none" and not args.resume:
        file = None if args.backbone_weights == "auto" else Path(args.backbone_weights)
        try:
            hourglass_checkpoint.load_backbone(model, sizes["layers"], file)
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
    """The training loss, for `hourglass.evaluate`."""
    return lambda output, maps, sample: losses(output, maps, sample, args.weight_3d, args.weight_var).total


def weights(args: Namespace, model: torch.nn.Module, epoch: int) -> dict:
    """The published keys; our options tell a test the input's size."""
    return {"epoch": epoch, "state_dict": model.state_dict(), "options": checkpoint.options_json(args)}


def training_state(args: Namespace, run: Run, model, optimizer, best: float | None, epoch: int) -> dict:
    """A checkpoint between epochs: the published keys, and what an exact resume needs."""
    more = {"optimizer": optimizer.state_dict(), "rng": run.rng_state(), "best": best, "step": 0, "losses": None}
    return weights(args, model, epoch) | more


def text(row: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in row.items() if value or name.startswith("val"))


def say(run: Run, line: str) -> None:
    if run.is_main:
        print(line, flush=True)


if __name__ == "__main__":
    run_script(main)
