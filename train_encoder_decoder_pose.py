"""Read 3D poses off the frozen geometry-aware encoder: Rhodin et al. (ECCV 2018), stage 2.

    python train_encoder_decoder_pose.py --pretrained checkpoint/encoder_decoder/best-model.pth
    python train_encoder_decoder_pose.py --config configs/encoder_decoder_pose.yaml --data_dir FOLDER      as published
    python train_encoder_decoder_pose.py --resume checkpoint/encoder_decoder_pose     goes on exactly where it stopped

Only the pose head learns; the sizes of the network are those of the file. The encoder being frozen, each image is
encoded once, at the start (with --drift, as published, in every step). Writes best-model.pth (by the published error
on held-out subjects; without any the last), last.pth (for --resume), config.yaml, metrics.csv, curves.png,
examples/*.png and TensorBoard events into the folder of --checkpoint. Then: test_encoder_decoder.py.
"""

import time
from functools import partial

import torch
from torch import Tensor

import models
from common.draw.gif import save_picture
from common.errors import InputError
from common.multiview.batches import epoch_batches, load_batches
from common.multiview.labels import NORMALISED_POSE, denormalise, normalise
from common.run import checkpoint
from common.run.log import RunLog
from common.run.losses import LossBuffer
from common.run.run import Run, start
from common.run.script import resume_command, run_script
from methods.encoder_decoder import checkpoint as encoder_decoder_checkpoint
from methods.encoder_decoder import data as shared
from methods.encoder_decoder import options, pictures
from methods.encoder_decoder import scores as scoring
from models.encoder_decoder import losses, views
from models.encoder_decoder.predict import other_views, pose_predictor

EXAMPLES = 4


def main() -> None:
    args = options.pose_parser(__doc__).parse_args()
    run = start(args)
    run.settle_resume(args, args.checkpoint / "last.pth")
    model, sizes = pretrained(args)
    folder = shared.find_folder(args, run)
    train = shared.load_train(folder, args, run, NORMALISED_POSE, ("img_crop",))
    test = shared.load_test(folder, args, run, NORMALISED_POSE)
    batches_of = partial(
        epoch_batches, train.groups, args.batch_size, args.seed, every_nth_frame=args.every_nth_frame,
        subject_batches=args.use_subject_batches, rank=run.rank, world_size=run.world_size,
    )  # fmt: skip
    steps = len(batches_of(epoch=0))
    total = min(args.epochs * steps, args.num_training_iterations)

    frozen = views.frozen_parts(model, "pose")
    views.freeze(frozen)
    model = run.prepare(model)
    optimizer = torch.optim.Adam(model.to_pose.parameters(), args.learning_rate, fused=True)
    saved = shared.resume(args, run, "pose", model, optimizer) if args.resume else {"epoch": 0, "step": 0}
    if args.resume:
        shared.check_unfinished(args.resume, saved, steps, total)
    log = RunLog(args.checkpoint, args, resume=bool(args.resume))
    if run.is_main:
        scored = f"{len(test.groups) * test.groups.rows.shape[1]:,} to score on" if test else "none to score on"
        print(
            f"train on {len(train.rows(args.every_nth_frame)):,} images of {folder}, {scored}; pose head on the frozen "
            f"encoder of {args.pretrained}; {total:,} steps; device {run.device}", flush=True,
        )  # fmt: skip

    def encode(images: Tensor) -> Tensor:
        """Geometry (B, P, 3) of the frozen encoder."""
        with torch.no_grad():
            return model.encode(images).geometry

    def encoded(data: shared.Views, every_nth: int) -> Tensor:
        rows = data.groups.rows if args.use_subject_batches else data.groups.rows[::every_nth]
        return scoring.geometry_table(encode, data, rows[rows >= 0], run, args.batch_size)

    model.eval()
    geometry = None if args.drift else encoded(train, args.every_nth_frame)
    test_geometry = None if args.drift or not test else encoded(test, 1)
    feed = shared.Feed(args.batch_size // run.world_size, train, run.device)
    labels = train.labels

    def train_step(rows: Tensor) -> Tensor:
        """One Adam step of the pose head on the images of `rows`: this process's share of the batch."""
        with run.autocast():
            points = encode(feed.images) if geometry is None else geometry[rows]
            pose = model.pose(points)
        loss = losses.pose_loss(pose, labels.pose[rows], labels.mean[rows], labels.std[rows])
        optimizer.zero_grad()
        loss.backward()
        run.reduce_gradients(model)
        optimizer.step()
        return loss.detach().view(1)

    def test_step(step: int) -> dict[str, float]:
        """Score; -> the row of metrics.csv."""
        model.eval()
        table = encoded(test, 1) if test_geometry is None else test_geometry
        predict = pose_predictor(model, table, test.labels)
        results = {"pose head": scoring.score_poses(predict, test, test.rows(), run)}
        results["mean pose"] = scoring.score_poses(scoring.mean_pose(test), test, test.rows(), run)
        views.training_mode(model, frozen, args.drift)
        if run.is_main:
            print(f"step {step}, held-out subjects, mm:\n{scoring.pose_table(results)}", flush=True)
        row = scoring.row_of(results["pose head"])
        log.scalars(step, {f"test/{name}": value for name, value in row.items()})
        return row

    def plot_step(step: int) -> None:
        """Example pictures, of held-out subjects."""
        if run.is_main and test:
            model.eval()
            picture = example_picture(model, test, run)
            views.training_mode(model, frozen, args.drift)
            save_picture(args.checkpoint / f"examples/step_{step:06d}.png", picture)
            log.picture(step, "examples", picture)

    def state_of(record: LossBuffer | None, state: dict) -> dict:
        kept = record.state_dict() if record else None
        return shared.training_state(args, run, "pose", model, optimizer, sizes, losses=kept, **state)

    train_step = run.accelerate(train_step, optimizer)
    views.training_mode(model, frozen, args.drift)
    best, row, began = saved.get("best"), saved.get("scores") or {}, time.perf_counter()
    done, run.signals.patient = saved["epoch"] * steps + saved["step"], True
    first_step, kept = saved["step"], saved.get("losses")
    for epoch in range(saved["epoch"], -(-total // steps)):
        record = LossBuffer(("loss",), run, log, epoch, steps, kept)
        batches = batches_of(epoch=epoch)[: total - epoch * steps]
        for i, rows in enumerate(
            run.progress(
                step_rows(train, batches, feed, run, args, first_step), len(batches) - first_step, f"epoch {epoch + 1}"
            ),
            first_step,
        ):
            record.record(i, train_step(rows))
            done += 1
            if done % args.print_every == 0:
                mean = record.means()["loss"]
                if run.is_main:
                    print(
                        f"[{epoch + 1}] step {done}  loss {mean:.4f}  {time.perf_counter() - began:.0f} s", flush=True
                    )
            if done in (1, 100, total) or done % args.plot_every == 0:
                plot_step(done)
            improved = False
            if test and (done == total or done % args.test_every == 0):
                row = test_step(done)
                improved = best is None or row["val_n_mpjpe"] < best
                best = row["val_n_mpjpe"] if improved else best
            stop = run.stop_requested
            state = {"epoch": epoch, "step": i + 1, "best": best, "scores": row}
            if improved:
                run.save(args.checkpoint / "best-model.pth", state_of(record, state))
            if stop:
                run.save(args.checkpoint / "last.pth", state_of(record, state))
                run.leave(f"stopped at step {done}; go on with: {resume_command(args.checkpoint)}")
        log.epoch(epoch + 1, record.means() | row, step=done)
        state = {"epoch": epoch + 1, "step": 0, "best": best, "scores": {}}
        if len(batches) < steps:  # the end of the run, in mid-epoch: more iterations may be asked for
            state |= {"epoch": epoch, "step": len(batches), "scores": row}
        state = state_of(record if state["step"] else None, state)
        run.save(args.checkpoint / "last.pth", state)
        if not test:
            run.save(args.checkpoint / "best-model.pth", state)
        first_step, kept, row = 0, None, {}
    log.close()
    if run.is_main:
        log.plot(args.checkpoint / "curves.png")
        what = f"best N-MPJPE {best:.1f} mm, published error {best * 17 / 16:.1f} mm; " if test else ""
        print(f"{what}results in {args.checkpoint}")


def pretrained(args) -> tuple[torch.nn.Module, dict]:
    """The network of the file, and its sizes; fills in the images' size."""
    found = encoder_decoder_checkpoint.load(args.pretrained)
    sizes = found.sizes | {"dropout": args.latent_dropout}
    if args.input_dimension not in (None, sizes["resolution"]):
        raise InputError(
            f"{args.pretrained} is for images of {sizes['resolution']} pixels, --input_dimension is "
            f"{args.input_dimension}; leave that out"
        )
    args.input_dimension = sizes["resolution"]
    model = models.create("encoder_decoder", **sizes)
    checkpoint.load_weights(model, found.state, args.pretrained)
    return model, sizes


def step_rows(train: shared.Views, batches, feed: shared.Feed, run: Run, args, start: int):
    """Rows of every batch from `start` on; with --drift, which looks at them, their images are put into `feed`."""
    if not args.drift:
        yield from torch.from_numpy(batches[start:]).to(run.device)
        return
    for batch in load_batches(train.images, batches, run.device, args.num_workers, start):
        feed.put(batch.images, None)
        yield batch.rows


@torch.no_grad()
def example_picture(model, data: shared.Views, run: Run):
    """Input, what another camera sees, what the network makes of it, and the input's pose, predicted and true."""
    rows = data.examples(EXAMPLES)
    images, backgrounds = (part.to(run.device) for part in data.images[rows])
    labels = data.labels[rows.to(run.device)]
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
