"""Score and show the geometry-aware encoder-decoder (Rhodin et al., ECCV 2018): synthesised views and poses.

    python test_encoder_decoder.py --ckpt checkpoint/encoder_decoder_pose/best-model.pth
    python test_encoder_decoder.py --ckpt FILE --data_dir FOLDER --viewer       turn the person by hand, in a window
    python test_encoder_decoder.py --ckpt FILE --gif                            the same without a display: files
    python test_encoder_decoder.py --ckpt FILE --label_fraction 0.01,0.1,1      what features are worth with few labels

Prints the pixel error of every view made from every other one, and the errors of the pose head (of a file of
train_encoder_decoder_pose.py, or a released one), both beside trivial answers. --label_fraction trains, for each part
of the labels, a pose head on the frozen self-supervised features, and the same encoder and head from scratch. Writes
results.json and the pictures beside the file, or into --output.
"""

import math
from functools import partial

import torch
from torch import Tensor

import models
from common.draw.tables import write_json
from common.errors import InputError
from common.multiview.labels import NORMALISED_POSE, denormalise, normalise
from common.run import checkpoint
from common.run.run import Run, derived_seed, start
from common.run.script import run_script
from methods.encoder_decoder import checkpoint as encoder_decoder_checkpoint
from methods.encoder_decoder import data as shared
from methods.encoder_decoder import options, pictures
from methods.encoder_decoder import scores as scoring
from models.encoder_decoder import losses, views
from models.encoder_decoder.predict import other_views, pose_predictor, turned

CURVES = ("self-supervised features", "from scratch")


def main() -> None:
    args = options.testing_parser(__doc__).parse_args()
    run = start(args)
    fractions = label_fractions(args.label_fraction)
    found = encoder_decoder_checkpoint.load(args.ckpt)
    if args.input_dimension not in (None, found.sizes["resolution"]):
        raise InputError(
            f"{args.ckpt} is for images of {found.sizes['resolution']} pixels: leave --input_dimension out"
        )
    args.input_dimension = found.sizes["resolution"]
    model = models.create("encoder_decoder", **found.sizes)
    checkpoint.load_weights(model, found.state, args.ckpt)
    model = run.prepare(model).eval()
    folder = shared.find_folder(args, run)
    test = shared.load_test(folder, args, run, NORMALISED_POSE)
    if test is None:
        raise InputError(f"{folder} has no subject 9 or 11: say with --test_subjects whom to score on")
    has_pose = found.source == "published" or found.file.get("stage") == "pose"
    output = args.output or args.ckpt.parent / f"{args.ckpt.stem}_test"
    if run.is_main:
        count = f"{len(test.groups):,} frames in {test.groups.rows.shape[1]} cameras"
        print(f"{args.ckpt}; {folder}, subjects {subjects(test)}: {count}; device {run.device}", flush=True)
    if args.viewer:
        show(model, test, run, has_pose)
        return

    images = scoring.score_views(partial(other_views, model), test, run, args.batch_size_test)
    say(run, f"pixel error of synthesised views, grey levels of 255\n{images.table()}")
    geometry = partial(scoring.geometry_table, lambda pictures: model.encode(pictures).geometry, run=run)
    points = geometry(test, test.rows(), batch_size=args.batch_size)
    results = {}
    if has_pose:
        results["pose head"] = scoring.score_poses(pose_predictor(model, points, test.labels), test, test.rows(), run)
    results["mean pose"] = scoring.score_poses(scoring.mean_pose(test), test, test.rows(), run)
    say(run, f"\nposes, mm; 17 joints, root-relative\n{scoring.pose_table(results)}")
    if has_pose:
        say(run, f"published error (N-MPJPE without the root): {results['pose head']['N-MPJPE'] * 17 / 16:.1f} mm")
    content = {"pixel_error": images.overall, "cameras": images.cameras, "pairs": images.pairs[0].tolist()}
    content |= {"poses": results, "checkpoint": str(args.ckpt), "options": checkpoint.options_json(args)}

    if fractions:
        table = few_labels(args, run, model, found.sizes, folder, test, points, geometry, fractions)
        content["label_fraction"] = {str(fraction): scores for fraction, scores in table.items()}
        if run.is_main:
            curves = {name: [scores[name]["N-MPJPE"] for scores in table.values()] for name in CURVES}
            path = pictures.save_label_curve(
                output / "label_fraction.png", list(table), curves, results["mean pose"]["N-MPJPE"]
            )
            print(f"curve: {path}")
    if run.is_main:
        write_json(output / "results.json", content)
        if args.gif:
            image, sweep, angles = sweep_of(model, test, run, args.image, args.angles, has_pose)
            print(f"picture: {pictures.save_sweep(output, image, sweep, angles)}")
        if args.vis_html:
            head = pose_predictor(model, points, test.labels) if has_pose else None
            print(f"page: {pictures.save_page(args.vis_html, test, head)}")
        print(f"results in {output}")


def say(run: Run, text: str) -> None:
    """Print from one process."""
    if run.is_main:
        print(text, flush=True)


def subjects(data: shared.Views) -> str:
    """The numbers of the people scored."""
    return ", ".join(
        map(str, data.labels.subject[torch.from_numpy(data.rows()).to(data.labels.subject.device)].unique().tolist())
    )


def label_fractions(text: str) -> list[float]:
    """`0.01,0.1` as numbers, ascending."""
    try:
        values = sorted({float(part) for part in text.split(",") if part.strip()})
    except ValueError:
        values = [math.nan]
    if not all(0 < value <= 1 for value in values):
        raise InputError(f"--label_fraction {text}: expected numbers above 0 and up to 1, with commas between")
    return values


# ------------------------------------------------------------ few labels


def few_labels(args, run, model, sizes, folder, test, points, geometry, fractions) -> dict[float, dict]:
    """Errors by fraction and kind of features; a line for each as it comes."""
    train = shared.load_train(folder, args, run, NORMALISED_POSE, ("img_crop",))
    rows = torch.from_numpy(train.rows(args.every_nth_frame))
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(derived_seed(args.seed, "labels")))
    train_points = geometry(train, rows.numpy(), batch_size=args.batch_size)
    say(run, f"\nfew labels: {args.label_steps} steps for each; mm on held-out subjects")
    table = {}
    for fraction in fractions:
        count = max(2 * run.world_size, round(fraction * len(rows)))
        chosen = rows[order[:count]].to(run.device)
        torch.manual_seed(args.seed)
        fresh = run.prepare(models.create("encoder_decoder", **sizes))
        learn(args, run, fresh, train, chosen, train_points)
        heads = {CURVES[0]: scoring.score_poses(pose_predictor(fresh, points, test.labels), test, test.rows(), run)}
        torch.manual_seed(args.seed)
        fresh = run.prepare(models.create("encoder_decoder", **sizes))
        learn(args, run, fresh, train, chosen, None)
        own = scoring.geometry_table(
            lambda images, fresh=fresh: fresh.encode(images).geometry, test, test.rows(), run, args.batch_size
        )
        heads[CURVES[1]] = scoring.score_poses(pose_predictor(fresh, own, test.labels), test, test.rows(), run)
        table[fraction] = heads
        say(run, f"{100 * fraction:g} % of the labels, {count:,} images\n{scoring.pose_table(heads)}")
    return table


def learn(args, run, model, train: shared.Views, chosen: Tensor, points: Tensor | None) -> None:
    """Train the pose head on frozen features (N, P, 3), or without them the encoder with it, on the rows `chosen`."""
    labels = train.labels
    parameters = model.parameters() if points is None else model.to_pose.parameters()
    optimizer = torch.optim.Adam(parameters, args.learning_rate, fused=True)
    views.training_mode(model, [])
    step, epoch = 0, 0
    while step < args.label_steps:
        for _, index in run.batches(len(chosen), args.batch_size, epoch, purpose="few labels"):
            rows = chosen[run.shard(index)]
            with run.autocast():
                if points is None:
                    (images,) = train.images[rows.cpu()]
                    found = model.encode(normalise(images.to(run.device))).geometry
                else:
                    found = points[rows]
                pose = model.pose(found)
            loss = losses.pose_loss(pose, labels.pose[rows], labels.mean[rows], labels.std[rows])
            optimizer.zero_grad()
            (loss * run.weight(rows, index)).backward()
            run.reduce_gradients(model)
            optimizer.step()
            step += 1
            if run.stop_requested:
                run.leave("stopped; few-label runs are short and do not resume")
            if step == args.label_steps:
                break
        epoch += 1
    model.eval()


# ------------------------------------------------------------ turning


@torch.no_grad()
def turn(model, data: shared.Views, run: Run, row: int, angles: Tensor, has_pose: bool):
    """Input image (S, S, 3) and what is seen of it turned by `angles`, radians."""
    rows = torch.tensor([row])
    pictures_of = [part.to(run.device) for part in data.images[rows]]
    labels = data.labels[rows.to(run.device)]
    image, background = (normalise(part)[0] for part in pictures_of)
    with run.autocast():
        seen, rotation = turned(model, image, background, labels.world_to_camera[0], angles.to(run.device))
        pose = model.pose(model.encode(image[None]).geometry)
    true = (labels.pose.unflatten(-1, (-1, 3)) @ rotation.mT).cpu().numpy()
    predicted = (losses.restore_pose(pose, labels.mean, labels.std) @ rotation.mT).cpu().numpy() if has_pose else None
    return pictures_of[0][0].cpu().numpy(), pictures.Turned(denormalise(seen).cpu().numpy(), predicted, true)


def sweep_of(model, data: shared.Views, run: Run, number: int, count: int, has_pose: bool):
    """Image number `number` of those scored, turned once around."""
    rows = data.rows()
    if number >= len(rows):
        raise InputError(f"--image {number}: there are {len(rows)} held-out images, 0 to {len(rows) - 1}")
    angles = torch.arange(count) * (2 * math.pi / count)
    return *turn(model, data, run, int(rows[number]), angles, has_pose), angles.numpy()


def show(model, data: shared.Views, run: Run, has_pose: bool) -> None:
    """The viewer over all held-out images."""
    rows = data.rows()
    pictures.show_viewer(
        len(rows), lambda number, yaw: turn(model, data, run, int(rows[number]), torch.tensor([yaw]), has_pose)
    )


if __name__ == "__main__":
    run_script(main)
