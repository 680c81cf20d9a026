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

from common.run.entry import run_script

import math
from functools import partial

import torch
from torch import Tensor

from common.draw.tables import write_json
from common.errors import InputError
from common.multiview.labels import NORMALISED_POSE, denormalise, normalise
from common.run.checkpoint import options_json
from common.run.run import Run, start
from methods.encoder_decoder import checkpoint, data, few_labels, options, pictures, scores
from models.encoder_decoder import losses
from models.encoder_decoder.views import other_views, pose_predictor, turned


def main() -> None:
    args = options.testing_parser(__doc__).parse_args()
    run = start(args)
    fractions = few_labels.fractions(args.label_fraction)
    model, saved = checkpoint.load_network(args.ckpt, args)
    model = run.prepare(model).eval()
    folder = data.find_folder(args, run)
    test = data.load_test(folder, args, run, NORMALISED_POSE)
    if test is None:
        raise InputError(f"{folder} has no subject 9 or 11: say with --test_subjects whom to score on")
    has_pose = saved.source == "published" or saved.file.get("stage") == "pose"
    output = args.output or args.ckpt.parent / f"{args.ckpt.stem}_test"
    count = f"{len(test.groups):,} frames in {test.groups.rows.shape[1]} cameras"
    say(run, f"{args.ckpt}; {folder}, subjects {subjects(test)}: {count}; device {run.device}")
    if args.viewer:
        show(model, test, run, has_pose)
        return

    images = scores.score_views(partial(other_views, model), test, run, args.batch_size_test)
    say(run, f"pixel error of synthesised views, grey levels of 255\n{images.table()}")
    points = scores.geometry_table(model, test, test.rows(), run, args.batch_size)
    head = pose_predictor(model, points, test.labels) if has_pose else None
    results = {"pose head": head, "mean pose": scores.mean_pose(test)}
    results = {name: scores.score_poses(find, test, test.rows(), run) for name, find in results.items() if find}
    say(run, f"\nposes, mm; 17 joints, root-relative\n{scores.pose_table(results)}")
    if has_pose:
        say(run, f"published error (N-MPJPE without the root): {results['pose head']['N-MPJPE'] * 17 / 16:.1f} mm")
    content = {"pixel_error": images.overall, "cameras": images.cameras, "pairs": images.pairs[0].tolist()}
    content |= {"poses": results, "checkpoint": str(args.ckpt), "options": options_json(args)}

    if fractions:
        train = data.load_train(folder, args, run, NORMALISED_POSE, ("img_crop",))
        rows = train.rows(args.every_nth_frame)
        features = few_labels.Features(scores.geometry_table(model, train, rows, run, args.batch_size), points)
        say(run, f"\nfew labels: {args.label_steps} steps for each; mm on held-out subjects")
        content["label_fraction"] = table = {}
        for part, count, found in few_labels.score(args, run, saved.sizes, train, test, features, fractions):
            table[str(part)] = found
            say(run, f"{100 * part:g} % of the labels, {count:,} images\n{scores.pose_table(found)}")
        if run.is_main:
            curves = {name: [found[name]["N-MPJPE"] for found in table.values()] for name in few_labels.CURVES}
            path = output / "label_fraction.png"
            print(f"curve: {pictures.save_label_curve(path, fractions, curves, results['mean pose']['N-MPJPE'])}")
    if run.is_main:
        write_json(output / "results.json", content)
        if args.gif:
            image, sweep, angles = sweep_of(model, test, run, args.image, args.angles, has_pose)
            print(f"picture: {pictures.save_sweep(output, image, sweep, angles)}")
        if args.vis_html:
            print(f"page: {pictures.save_page(args.vis_html, test, head)}")
        print(f"results in {output}")


def say(run: Run, text: str) -> None:
    """Print from one process."""
    if run.is_main:
        print(text, flush=True)


def subjects(test: data.Views) -> str:
    """The numbers of the people scored."""
    found = test.labels.subject.cpu()[torch.from_numpy(test.rows())]
    return ", ".join(map(str, found.unique().tolist()))


# ------------------------------------------------------------ turning


@torch.no_grad()
def turn(model, test: data.Views, run: Run, row: int, angles: Tensor, has_pose: bool):
    """Input image (S, S, 3) and what is seen of it turned by `angles`, radians."""
    rows = torch.tensor([row])
    image, background = (part.to(run.device) for part in test.images[rows])
    labels = test.labels[rows.to(run.device)]
    with run.autocast():
        seen, rotation = turned(
            model, normalise(image)[0], normalise(background)[0], labels.world_to_camera[0], angles.to(run.device)
        )
        pose = model.pose(model.encode(normalise(image)).geometry)
    true = (labels.pose.unflatten(-1, (-1, 3)) @ rotation.mT).cpu().numpy()
    predicted = (losses.restore_pose(pose, labels.mean, labels.std) @ rotation.mT).cpu().numpy() if has_pose else None
    return image[0].cpu().numpy(), pictures.Turned(denormalise(seen).cpu().numpy(), predicted, true)


def sweep_of(model, test: data.Views, run: Run, number: int, count: int, has_pose: bool):
    """Image number `number` of those scored, turned once around."""
    rows = test.rows()
    if number >= len(rows):
        raise InputError(f"--image {number}: there are {len(rows)} held-out images, 0 to {len(rows) - 1}")
    angles = torch.arange(count) * (2 * math.pi / count)
    return *turn(model, test, run, int(rows[number]), angles, has_pose), angles.numpy()


def show(model, test: data.Views, run: Run, has_pose: bool) -> None:
    """The viewer over all held-out images."""
    rows = test.rows()
    pictures.show_viewer(
        len(rows), lambda number, yaw: turn(model, test, run, int(rows[number]), torch.tensor([yaw]), has_pose)
    )


if __name__ == "__main__":
    run_script(main)
