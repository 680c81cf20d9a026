"""Score an image-to-3D network, ours or released (Zhou et al., ICCV 2017), and save what it finds.

    python test_hourglass.py --exp_id test --task human3d --dataset fusion_3d --load_model FILE --full_test
    python test_hourglass.py --dataset mpii --load_model FILE                    2D: PCK accuracy, and PCKh
    python test_hourglass.py --task human3d --dataset synthetic --load_model FILE --input_h 128 --input_w 128
    python test_hourglass.py --pckh preds.mat                                    PCKh of a file of predictions

Prints PCK accuracy, MPJPE (published: at an average person's size), P-MPJPE, the asymmetry of left and right bones, and
what decoding between pixels gains. Writes preds.npz, preds.mat, results.json and predictions.png into exp/EXP_IDTEST.
"""

from argparse import Namespace
from pathlib import Path

import torch

import models
from common.draw import tables
from common.errors import InputError
from common.images import pckh
from common.images.decode import REFINEMENTS
from common.images.loader import evaluation_loader
from common.run import checkpoint
from common.run.script import run_script
from common.skeleton import layout
from methods.hourglass import checkpoint as hourglass_checkpoint
from methods.hourglass import evaluation, options
from methods.hourglass.pictures import save_sheet, save_test_page

PROTOCOL = (
    "acc: PCK within a tenth of the map's height / 2, percent, mean over samples; MPJPE: 17 joints, mm, root-relative, "
    "15 bones' sum 4000 mm, no alignment (published); P-MPJPE: Procrustes; asymmetry: |left - right| / mean, percent"
)


def main() -> None:
    parser = options.testing_parser(__doc__)
    args = parser.parse_args()
    if args.pckh:
        return print(pckh_of_file(args))
    if not args.load_model:
        parser.error("which network? give --load_model FILE")
    path = options.find_weights(args.load_model, args.exp_dir)
    saved = hourglass_checkpoint.load(path)
    take_size(args, saved)
    args.arch = hourglass_checkpoint.arch_of(saved)
    options.settle(parser, args)
    run = options.start_on_gpus(args)
    test = evaluation.load_crops(args, run, train=False)
    model = load_network(args, saved, path, test.sets[0].layout)
    model = model.to(run.device, memory_format=evaluation.memory_format(run.device)).eval()
    loader = evaluation_loader(test, run, args.batch_size, args.num_workers)
    network = evaluation.network(model, run, args.arch)
    table = evaluation.evaluate(network, loader, run, args, refinements=REFINEMENTS)
    if run.is_main:
        report(args, path, test, table)


def pckh_of_file(args: Namespace) -> str:
    """The published tool."""
    truth = pckh.read_truth(args.pckh_truth or args.data_dir / "mpii" / "detections_our_format.mat")
    return pckh.table(pckh.scores(pckh.read_predictions(args.pckh), truth))


def take_size(args: Namespace, saved: hourglass_checkpoint.SavedImageNetwork) -> None:
    """The input's size of the file's network, where the command line has none.

    Raises:
        InputError: it has one, of another size than the only one that the network takes.
    """
    only = saved.sizes.get("size")  # depths of a stacked hourglass are for one size
    trained = {"input_h": only, "input_w": only} if only else checkpoint.saved_options(saved.file)
    for name in ("input_h", "input_w", "output_h", "output_w"):
        if getattr(args, name) < 0 and isinstance(trained.get(name), int):
            setattr(args, name, trained[name])
        if only and name in trained and getattr(args, name) != only:
            raise InputError(f"--{name} {getattr(args, name)}: this network takes images of {only} x {only}")


def load_network(
    args: Namespace, saved: hourglass_checkpoint.SavedImageNetwork, path: Path, joints: str
) -> torch.nn.Module:
    """The file's network; it must have depths for `--task human3d`, and the joints of the set."""
    if args.task == "human3d" and not saved.sizes["depth"]:
        raise InputError(f"{path} has no depths: it is of stage 1; score it with --task human2d")
    if saved.sizes["joints"] != layout(joints).num_joints:
        raise InputError(f"{path} finds {saved.sizes['joints']} joints, --dataset {args.dataset} has {joints}")
    model = models.create(saved.name, **saved.sizes)
    hourglass_checkpoint.load_weights(model, saved.state, path)
    return model


def report(args: Namespace, path: Path, test, table) -> None:
    """Print the scores and write the files."""
    folder = args.exp_dir / f"{args.exp_id}TEST"  # as published
    points = evaluation.image_points(table, test, args.refine)
    scores, what = evaluation.means(table), evaluation.summary(test)
    flip = "mean with the mirrored image" if args.flip_test else "the image only"
    print(f"{path} on {what}; {args.input_h} x {args.input_w}; {flip}; --refine {args.refine}")
    print(PROTOCOL)
    units = {"acc": "%", "asymmetry": "%", "mpjpe": "mm", "p_mpjpe": "mm"}
    print(", ".join(f"{name} {value:.2f} {units.get(name, '')}".strip() for name, value in scores.items()))
    print(evaluation.refinement_table(table, test, REFINEMENTS))
    if args.dataset == "mpii":
        print(evaluation.pckh_table(points, args))
    evaluation.save_predictions(folder, table, points)
    content = {
        "checkpoint": str(path), "data": what, "protocol": PROTOCOL, "flip_test": args.flip_test, "refine": args.refine,
        "options": checkpoint.options_json(args), "results": scores,
    }  # fmt: skip
    tables.write_json(folder / "results.json", content)
    save_sheet(folder / "predictions.png", test, table, args.refine)
    if args.vis_html:
        print(f"page: {save_test_page(args.vis_html, test, table, points, what)}")
    print(f"preds.npz, preds.mat, results.json, predictions.png in {folder}")


if __name__ == "__main__":
    run_script(main)
