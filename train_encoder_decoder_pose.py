"""Read 3D poses off the frozen geometry-aware encoder: Rhodin et al. (ECCV 2018), stage 2.

    python train_encoder_decoder_pose.py --pretrained checkpoint/encoder_decoder/best-model.pth
    python train_encoder_decoder_pose.py --config configs/encoder_decoder_pose.yaml --data_dir FOLDER      as published
    python train_encoder_decoder_pose.py --resume checkpoint/encoder_decoder_pose     goes on exactly where it stopped

Only the pose head learns; the sizes of the network are those of the file. The encoder being frozen, each image is
encoded once, at the start (with --drift, as published, in every step). Writes best-model.pth (by the published error
on held-out subjects; without any the last), last.pth (for --resume), config.yaml, metrics.csv, curves.png,
examples/*.png and TensorBoard events into the folder of --checkpoint. Then: test_encoder_decoder.py.
"""

from common.run.entry import run_script

import time

import torch
from torch import Tensor

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
from models.encoder_decoder.views import other_views, pose_predictor

EXAMPLES = 4


def main() -> None:
    args = options.pose_parser(__doc__).parse_args()
    run = start(args)
    run.settle_resume(args, args.checkpoint / "last.pth")
    model, found = checkpoint.load_network(args.pretrained, args, dropout=args.latent_dropout)
    folder = data.find_folder(args, run)
    train = data.load_train(folder, args, run, NORMALISED_POSE, ("img_crop",))
    test = data.load_test(folder, args, run, NORMALISED_POSE)
    steps = len(epoch_rows(train, args, run, 0))
    total = min(args.epochs * steps, args.num_training_iterations)

    frozen = views.frozen_parts(model, "pose")
    views.freeze(frozen)
    model = run.prepare(model)
    optimizer = torch.optim.Adam(model.to_pose.parameters(), args.learning_rate, fused=True)
    state = checkpoint.run_state(args, run, "pose", model, optimizer, found.sizes)
    progress = checkpoint.resume(state, steps, total)
    log = RunLog(args.checkpoint, args, resume=bool(args.resume))
    scored = f"{len(test.groups) * test.groups.rows.shape[1]:,} to score on" if test else "none to score on"
    run.say(
        f"train on {len(train.rows(args.every_nth_frame)):,} images of {folder}, {scored}; pose head on the frozen "
        f"encoder of {args.pretrained}; {total:,} steps; device {run.device}"
    )
    model.eval()
    geometry = test_geometry = None
    if not args.drift:  # the encoder is the same in every step
        rows = train.rows(1 if args.use_subject_batches else args.every_nth_frame)
        geometry = scores.geometry_table(model, train, rows, run, args.batch_size)
        test_geometry = test and scores.geometry_table(model, test, test.rows(), run, args.batch_size)
    feed, labels = Feed(args.batch_size // run.world_size, train, run.device), train.labels

    def train_step(rows: Tensor) -> Tensor:
        """One Adam step of the pose head on the images of `rows`: this process's share of the batch."""
        with run.autocast():
            if geometry is None:
                with torch.no_grad():
                    points = model.encode(feed.images).geometry
            else:
                points = geometry[rows]
            pose = model.pose(points)
        loss = losses.pose_loss(pose, labels.pose[rows], labels.mean[rows], labels.std[rows])
        optimizer.zero_grad()
        loss.backward()
        run.reduce_gradients(model)
        optimizer.step()
        return loss.detach().view(1)

    train_step = run.accelerate(train_step, optimizer)
    views.training_mode(model, frozen, args.drift)
    run.signals.patient, began = True, time.perf_counter()
    best, row = progress.best, progress.more.get("scores") or {}
    for epoch in range(progress.epoch, -(-total // steps)):
        record = LossBuffer(("loss",), run, log, epoch, steps, progress.losses)
        batches = epoch_rows(train, args, run, epoch)[: total - epoch * steps]
        fed = step_rows(train, batches, feed, run, args, progress.step)
        bar = run.progress(fed, len(batches) - progress.step, f"epoch {epoch + 1}")
        for i, rows in enumerate(bar, progress.step):
            record.record(i, train_step(rows))
            done = epoch * steps + i + 1
            if done % args.print_every == 0:
                run.say(scores.losses_line(record, epoch, done, time.perf_counter() - began))
            if test and (done in (1, 100, total) or done % args.plot_every == 0):
                plot(model, test, run, args, log, done)
                views.training_mode(model, frozen, args.drift)
            improved = False
            if test and (done == total or done % args.test_every == 0):
                row = score(model, test, test_geometry, run, args, log, done)
                views.training_mode(model, frozen, args.drift)
                improved = best is None or row["val_n_mpjpe"] < best
                best = row["val_n_mpjpe"] if improved else best
            now = Progress(epoch, i + 1, best=best, more={"scores": row})
            checkpoint.save_or_stop(state, now, record, done, improved)
        log.epoch(epoch + 1, record.means() | row, step=epoch * steps + len(batches))
        now = Progress(epoch, len(batches), best=best, more={"scores": row})
        progress, row = checkpoint.save_epoch(state, now, record, steps, scored=bool(test)), {}
    log.close()
    log.plot(args.checkpoint / "curves.png")
    what = f"best N-MPJPE {best:.1f} mm, published error {best * 17 / 16:.1f} mm; " if test else ""
    run.say(f"{what}results in {args.checkpoint}")


def step_rows(train: data.Views, batches, feed: Feed, run: Run, args, start: int):
    """Rows of every batch from `start` on; with --drift, which looks at them, their images are put into `feed`."""
    if not args.drift:
        yield from torch.from_numpy(batches[start:]).to(run.device)
        return
    for batch in load_batches(train.images, batches, run.device, args.num_workers, start):
        feed.put(batch.images, None)
        yield batch.rows


def score(model, test: data.Views, geometry: Tensor | None, run: Run, args, log: RunLog, step: int) -> dict[str, float]:
    """Errors of the pose head on held-out subjects, printed and noted; -> the row of metrics.csv.

    geometry: of the test images, (N, P, 3); None: the encoder's statistics drift, they are encoded anew.
    """
    model.eval()
    if geometry is None:
        geometry = scores.geometry_table(model, test, test.rows(), run, args.batch_size)
    found = {"pose head": pose_predictor(model, geometry, test.labels), "mean pose": scores.mean_pose(test)}
    found = {name: scores.score_poses(predict, test, test.rows(), run) for name, predict in found.items()}
    run.say(f"step {step}, held-out subjects, mm:\n{scores.pose_table(found)}")
    row = scores.row_of(found["pose head"])
    log.scalars(step, {f"test/{name}": value for name, value in row.items()})
    return row


def plot(model, test: data.Views, run: Run, args, log: RunLog, step: int) -> None:
    """Example pictures, of held-out subjects."""
    if run.is_main:
        model.eval()
        picture = example_picture(model, test, run)
        save_picture(args.checkpoint / f"examples/step_{step:06d}.png", picture)
        log.picture(step, "examples", picture)


@torch.no_grad()
def example_picture(model, test: data.Views, run: Run):
    """Input, what another camera sees, what the network makes of it, and the input's pose, predicted and true."""
    rows = test.examples(EXAMPLES)
    images, backgrounds = (part.to(run.device) for part in test.images[rows])
    labels = test.labels[rows.to(run.device)]
    with run.autocast():
        source, pred = next(
            other_views(model, normalise(images), normalise(backgrounds), labels.world_to_camera, 2)
        )  # fmt: skip
        pose = losses.restore_pose(model.pose(model.encode(normalise(images)).geometry), labels.mean, labels.std)
    shown = {"input": images[source], "target": images, "synthesis": denormalise(pred)}
    poses = {"predicted pose": pose[source], "true pose": labels.pose.unflatten(-1, (-1, 3))[source]}
    every_second = [{name: part[::2].cpu().numpy() for name, part in half.items()} for half in (shown, poses)]
    return pictures.examples(*every_second)


if __name__ == "__main__":
    run_script(main)
