"""Learn 3D from two views without labels: the geometry-aware encoder-decoder of Rhodin et al. (ECCV 2018), stage 1.

    python train_encoder_decoder.py                                             a synthetic folder, made once
    python train_encoder_decoder.py --config configs/encoder_decoder_small.yaml     64 x 64 pixels, UNet: for a CPU
    python train_encoder_decoder.py --config configs/encoder_decoder.yaml --data_dir FOLDER         as published
    python train_encoder_decoder.py --config FILE --resume checkpoint/encoder_decoder   goes on exactly where it stopped

The network sees a person in one camera and makes the view of another: its latent points must be 3D to turn with the
rotation between the two. Scored on held-out subjects, every view from every other one, beside trivial answers. Writes
best-model.pth (by pixel error; without held-out subjects the last), last.pth (for --resume), config.yaml, metrics.csv,
curves.png, examples/*.png and TensorBoard events into the folder of --checkpoint. Then: train_encoder_decoder_pose.py.
"""

from common.run.entry import run_script

import time
from functools import partial

import torch
from torch import Tensor

import models
from common.draw.gif import save_picture
from common.multiview.batches import load_batches
from common.multiview.labels import NORMALISED_POSE, denormalise, normalise
from common.run.log import RunLog
from common.run.losses import LossBuffer
from common.run.run import Run, start
from common.run.state import Progress
from methods.encoder_decoder import checkpoint, data, options, pictures, scores
from methods.encoder_decoder.batches import Feed, epoch_rows
from models.encoder_decoder import losses, views
from models.encoder_decoder.views import other_views

TERMS = ("loss", "rgb", "gradient", "imagenet", "pose")


def main() -> None:
    args = options.synthesis_parser(__doc__).parse_args()
    run = start(args)
    run.settle_resume(args, args.checkpoint / "last.pth")
    folder = data.find_folder(args, run)
    train = data.load_train(folder, args, run, NORMALISED_POSE if args.loss_weight_3d else ())
    test = data.load_test(folder, args, run)
    steps = len(epoch_rows(train, args, run, 0))
    total = min(args.epochs * steps, args.num_training_iterations)

    sizes = options.network_sizes(args)
    model = models.create("encoder_decoder", **sizes)
    features = feature_network(args, run)
    if model.encoder is not None:
        start_encoder(args, model.encoder, run)
    frozen = views.frozen_parts(model, "synthesis") if args.encoder_weights != "none" else []
    views.freeze(frozen)
    model = run.prepare(model).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), args.learning_rate, fused=True)
    state = checkpoint.run_state(args, run, "synthesis", model, optimizer, sizes)
    progress = checkpoint.resume(state, steps, total)
    log = RunLog(args.checkpoint, args, resume=bool(args.resume))
    scored = f"{len(test.groups):,} to score on" if test else "none to score on"
    run.say(
        f"train on {len(train.groups.rows[:: args.every_nth_frame]):,} frames of {folder}, {scored}; "
        f"{args.encoder_type}, {args.input_dimension} pixels; {total:,} steps; perceptual loss "
        f"{'on' if features else 'off'}; device {run.device}"
    )
    feed, labels = Feed(args.batch_size // run.world_size, train, run.device), train.labels
    weights = losses.ImageWeights(args.loss_weight_rgb, args.loss_weight_gradient, args.loss_weight_imagenet)

    def train_step(rows: Tensor) -> Tensor:
        """One Adam step on the images in `feed`, which are those of `rows`: this process's share of the batch."""
        partners = views.shuffled_partners(
            len(rows), max(1, args.use_cam_batches), run.generator, args.shuffle_3d, args.shuffle_fg,
            args.use_subject_batches, run.rank, run.world_size,
        )  # fmt: skip
        rotation = views.view_rotation(labels.world_to_camera[rows], partners.geometry)
        with run.autocast():
            latent = model.encode(feed.images)
            pred = model.synthesise(latent, feed.backgrounds, rotation, partners)
            image = losses.image_loss(pred, feed.images, features, weights, args.mae)
            loss, pose = image.total, None
            if args.loss_weight_3d:
                found = model.pose(latent.geometry)
                pose = losses.pose_loss(found, labels.pose[rows], labels.mean[rows], labels.std[rows])
                loss = loss + args.loss_weight_3d * pose
        optimizer.zero_grad()
        loss.backward()
        run.reduce_gradients(model)
        optimizer.step()
        zero = torch.zeros_like(loss)
        return torch.stack([zero if term is None else term.detach() for term in (loss, *image[1:], pose)])

    train_step = run.accelerate(train_step, optimizer)
    views.training_mode(model, frozen, args.drift)
    run.signals.patient, began = True, time.perf_counter()
    best, row = progress.best, progress.more.get("scores") or {}
    for epoch in range(progress.epoch, -(-total // steps)):
        record = LossBuffer(TERMS, run, log, epoch, steps, progress.losses)
        batches = epoch_rows(train, args, run, epoch)[: total - epoch * steps]
        loaded = load_batches(train.images, batches, run.device, args.num_workers, progress.step)
        bar = run.progress(loaded, len(batches) - progress.step, f"epoch {epoch + 1}")
        for i, batch in enumerate(bar, progress.step):
            feed.put(batch.images, batch.backgrounds)
            record.record(i, train_step(batch.rows))
            done = epoch * steps + i + 1
            if done % args.print_every == 0:
                run.say(scores.losses_line(record, epoch, done, time.perf_counter() - began))
            if done in (1, 100, total) or done % args.plot_every == 0:
                plot(model, test or train, run, args, log, done)
                views.training_mode(model, frozen, args.drift)
            improved = False
            if test and (done == total or done % args.test_every == 0):
                row = score(model, test, run, args, log, done)
                views.training_mode(model, frozen, args.drift)
                improved = best is None or row["val_synthesis"] < best
                best = row["val_synthesis"] if improved else best
            now = Progress(epoch, i + 1, best=best, more={"scores": row})
            checkpoint.save_or_stop(state, now, record, done, improved)
        log.epoch(epoch + 1, {k: v for k, v in record.means().items() if v} | row, step=epoch * steps + len(batches))
        now = Progress(epoch, len(batches), best=best, more={"scores": row})
        progress, row = checkpoint.save_epoch(state, now, record, steps, scored=bool(test)), {}
    log.close()
    log.plot(args.checkpoint / "curves.png")
    found = f"best pixel error of held-out subjects {best:.2f} grey levels; " if test else ""
    run.say(f"{found}results in {args.checkpoint}")


def feature_network(args, run: Run) -> torch.nn.Module | None:
    """The perceptual loss's network; None where the term is off or its weights cannot be had."""
    if not args.loss_weight_imagenet:
        return None
    path = checkpoint.imagenet_file("resnet18", args.imagenet_weights, run)
    if path is None:
        args.imagenet_weights = "none"  # said in config.yaml; a run that had them does not go on without
        return None
    features = losses.FeatureNet(pool=args.do_maxpooling)
    checkpoint.load_imagenet(features, "resnet18", path)
    return run.prepare(features)


def start_encoder(args, encoder: torch.nn.Module, run: Run) -> None:
    """Put ImageNet's weights into the ResNet; where they cannot be had it is trained from scratch, no part frozen."""
    if args.resume:
        args.encoder_weights = checkpoint.saved_option(args.resume, "encoder_weights")
        return
    path = checkpoint.imagenet_file("resnet50", args.encoder_weights, run)
    if path is None:
        args.encoder_weights = "none"
    else:
        checkpoint.load_imagenet(encoder, "resnet50", path)


def score(model, test: data.Views, run: Run, args, log: RunLog, step: int) -> dict[str, float]:
    """Pixel errors on held-out subjects, printed and noted; -> the row of metrics.csv."""
    model.eval()
    found = scores.score_views(partial(other_views, model), test, run, args.batch_size_test).overall
    shown = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
    run.say(f"step {step}, held-out subjects, pixel error in grey levels: {shown}")
    row = scores.row_of(found)
    log.scalars(step, {f"test/{name}": value for name, value in row.items()})
    return row


def plot(model, shown: data.Views, run: Run, args, log: RunLog, step: int) -> None:
    """Example pictures, of held-out subjects where there are some."""
    if run.is_main:
        model.eval()
        picture = example_picture(model, shown, run)
        save_picture(args.checkpoint / f"examples/step_{step:06d}.png", picture)
        log.picture(step, "examples", picture)


@torch.no_grad()
def example_picture(model, shown: data.Views, run: Run, count: int = 4):
    """Input, what another camera sees, and what the network makes of it, for some frames spread over the data."""
    rows = shown.examples(count)
    images, backgrounds = (part.to(run.device) for part in shown.images[rows])
    rotations = shown.labels.world_to_camera[rows.to(run.device)]
    with run.autocast():
        source, pred = next(other_views(model, normalise(images), normalise(backgrounds), rotations, 2))
    columns = {"input": images[source], "target": images, "synthesis": denormalise(pred)}
    return pictures.examples({k: v[::2].cpu().numpy() for k, v in columns.items()}, {})


if __name__ == "__main__":
    run_script(main)
