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

import time
from functools import partial

import torch
from torch import Tensor

import models
from common.draw.gif import save_picture
from common.multiview.batches import epoch_batches, load_batches
from common.multiview.labels import NORMALISED_POSE, denormalise, normalise
from common.run.log import RunLog
from common.run.losses import LossBuffer
from common.run.run import Run, start
from common.run.script import resume_command, run_script
from methods.encoder_decoder import checkpoint, options, pictures
from methods.encoder_decoder import data as shared
from methods.encoder_decoder import scores as encoder_decoder_scores
from models.encoder_decoder import losses, views
from models.encoder_decoder.predict import other_views

TERMS = ("loss", "rgb", "gradient", "imagenet", "pose")


def main() -> None:
    args = options.synthesis_parser(__doc__).parse_args()
    run = start(args)
    run.settle_resume(args, args.checkpoint / "last.pth")
    folder = shared.find_folder(args, run)
    train = shared.load_train(folder, args, run, NORMALISED_POSE if args.loss_weight_3d else ())
    test = shared.load_test(folder, args, run)
    cameras = max(1, args.use_cam_batches)
    batches_of = partial(
        epoch_batches, train.groups, args.batch_size, args.seed, every_nth_frame=args.every_nth_frame,
        subject_batches=args.use_subject_batches, rank=run.rank, world_size=run.world_size,
    )  # fmt: skip
    steps = len(batches_of(epoch=0))
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
    saved = shared.resume(args, run, "synthesis", model, optimizer) if args.resume else {"epoch": 0, "step": 0}
    if args.resume:
        shared.check_unfinished(args.resume, saved, steps, total)
    log = RunLog(args.checkpoint, args, resume=bool(args.resume))
    if run.is_main:
        count = len(train.groups.rows[:: args.every_nth_frame])
        scored = f"{len(test.groups):,} to score on" if test else "none to score on"
        print(
            f"train on {count:,} frames of {folder}, {scored}; {args.encoder_type}, {args.input_dimension} pixels; "
            f"{total:,} steps; perceptual loss {'on' if features else 'off'}; device {run.device}", flush=True,
        )  # fmt: skip

    feed = shared.Feed(args.batch_size // run.world_size, train, run.device)
    labels, weights = train.labels, losses.ImageWeights(
        args.loss_weight_rgb, args.loss_weight_gradient, args.loss_weight_imagenet
    )  # fmt: skip

    def train_step(rows: Tensor) -> Tensor:
        """One Adam step on the images in `feed`, which are those of `rows`: this process's share of the batch."""
        images, backgrounds = feed.images, feed.backgrounds
        partners = views.shuffled_partners(
            len(rows), cameras, run.generator, args.shuffle_3d, args.shuffle_fg, args.use_subject_batches, run.rank,
            run.world_size,
        )  # fmt: skip
        rotation = views.view_rotation(labels.world_to_camera[rows], partners.geometry)
        with run.autocast():
            latent = model.encode(images)
            pred = model.synthesise(latent, backgrounds, rotation, partners)
            image = losses.image_loss(pred, images, features, weights, args.mae)
            terms = [image.total, *image[1:], None]
            if args.loss_weight_3d:
                pose = model.pose(latent.geometry)
                terms[-1] = losses.pose_loss(pose, labels.pose[rows], labels.mean[rows], labels.std[rows])
                terms[0] = terms[0] + args.loss_weight_3d * terms[-1]
        optimizer.zero_grad()
        terms[0].backward()
        run.reduce_gradients(model)
        optimizer.step()
        zero = torch.zeros_like(terms[0])
        return torch.stack([zero if term is None else term.detach() for term in terms])

    def test_step(step: int) -> dict[str, float]:
        """Score; -> the row of metrics.csv."""
        model.eval()
        scores = encoder_decoder_scores.score_views(partial(other_views, model), test, run, args.batch_size_test)
        views.training_mode(model, frozen, args.drift)
        if run.is_main:
            shown = ", ".join(f"{name} {value:.2f}" for name, value in scores.overall.items())
            print(f"step {step}, held-out subjects, pixel error in grey levels: {shown}", flush=True)
        row = encoder_decoder_scores.row_of(scores.overall)
        log.scalars(step, {f"test/{name}": value for name, value in row.items()})
        return row

    def plot_step(step: int) -> None:
        """Example pictures, of held-out subjects where there are some."""
        if run.is_main:
            model.eval()
            picture = example_picture(model, test or train, run)
            views.training_mode(model, frozen, args.drift)
            save_picture(args.checkpoint / f"examples/step_{step:06d}.png", picture)
            log.picture(step, "examples", picture)

    train_step = run.accelerate(train_step, optimizer)
    views.training_mode(model, frozen, args.drift)
    best, row, began = saved.get("best"), saved.get("scores") or {}, time.perf_counter()
    done, run.signals.patient = saved["epoch"] * steps + saved["step"], True
    first_step, kept = saved["step"], saved.get("losses")
    for epoch in range(saved["epoch"], -(-total // steps)):
        record = LossBuffer(TERMS, run, log, epoch, steps, kept)
        batches = batches_of(epoch=epoch)[: total - epoch * steps]
        loaded = load_batches(train.images, batches, run.device, args.num_workers, first_step)
        bar = run.progress(loaded, len(batches) - first_step, f"epoch {epoch + 1}")
        for i, batch in enumerate(bar, first_step):
            feed.put(batch.images, batch.backgrounds)
            record.record(i, train_step(batch.rows))
            done += 1
            if done % args.print_every == 0:
                print_losses(run, record, epoch, done, began)
            if done in (1, 100, total) or done % args.plot_every == 0:
                plot_step(done)
            improved = False
            if test and (done == total or done % args.test_every == 0):
                row = test_step(done)
                improved = best is None or row["val_synthesis"] < best
                best = row["val_synthesis"] if improved else best
            stop = run.stop_requested
            state = {"epoch": epoch, "step": i + 1, "best": best, "scores": row}
            if improved:
                run.save(
                    args.checkpoint / "best-model.pth", save_state(args, run, model, optimizer, sizes, record, state)
                )
            if stop:
                run.save(args.checkpoint / "last.pth", save_state(args, run, model, optimizer, sizes, record, state))
                run.leave(f"stopped at step {done}; go on with: {resume_command(args.checkpoint)}")
        log.epoch(epoch + 1, {k: v for k, v in record.means().items() if v} | row, step=done)
        state = {"epoch": epoch + 1, "step": 0, "best": best, "scores": {}}
        if len(batches) < steps:  # the end of the run, in mid-epoch: more iterations may be asked for
            state |= {"epoch": epoch, "step": len(batches), "scores": row}
        state = save_state(args, run, model, optimizer, sizes, record if state["step"] else None, state)
        run.save(args.checkpoint / "last.pth", state)
        if not test:
            run.save(args.checkpoint / "best-model.pth", state)
        first_step, kept, row = 0, None, {}
    log.close()
    if run.is_main:
        log.plot(args.checkpoint / "curves.png")
        print(f"best pixel error of held-out subjects {best:.2f} grey levels; " if test else "", end="")
        print(f"results in {args.checkpoint}")


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
        args.encoder_weights = shared.saved_option(args.resume, "encoder_weights")
        return
    path = checkpoint.imagenet_file("resnet50", args.encoder_weights, run)
    if path is None:
        args.encoder_weights = "none"
    else:
        checkpoint.load_imagenet(encoder, "resnet50", path)


def save_state(args, run, model, optimizer, sizes, record, state) -> dict:
    """A checkpoint in mid-epoch or, without `record`, at an epoch's end."""
    kept = record.state_dict() if record else None
    return shared.training_state(args, run, "synthesis", model, optimizer, sizes, losses=kept, **state)


def print_losses(run, record, epoch: int, done: int, began: float) -> None:
    """One line: the means over the epoch so far."""
    means = record.means()
    if run.is_main:
        shown = "  ".join(f"{name} {value:.4f}" for name, value in means.items() if value)
        print(f"[{epoch + 1}] step {done}  {shown}  {time.perf_counter() - began:.0f} s", flush=True)


@torch.no_grad()
def example_picture(model, data, run: Run, count: int = 4):
    """Input, what another camera sees, and what the network makes of it, for some frames spread over the data."""
    rows = data.examples(count)
    images, backgrounds = (part.to(run.device) for part in data.images[rows])
    rotations = data.labels.world_to_camera[rows.to(run.device)]
    with run.autocast():
        source, pred = next(other_views(model, normalise(images), normalise(backgrounds), rotations, 2))
    columns = {"input": images[source], "target": images, "synthesis": denormalise(pred)}
    return pictures.examples({k: v[::2].cpu().numpy() for k, v in columns.items()}, {})


if __name__ == "__main__":
    run_script(main)
