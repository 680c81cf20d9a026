"""Scoring of a trained image-to-3D network: the file of `--load_model`, its scores, and the files made of them."""

from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import models
from common.draw.tables import write_json
from common.errors import InputError
from common.images import pckh
from common.images.decode import REFINEMENTS
from common.images.loader import evaluation_loader
from common.images.people import Crops
from common.run.checkpoint import build, options_json, saved_options
from common.run.gpus import start_on_gpus
from common.run.options import Parser
from common.skeleton import layout
from methods.hourglass import checkpoint, evaluation, options
from methods.hourglass.pictures import save_sheet, save_test_page

PROTOCOL = (
    "acc: PCK within a tenth of the map's height / 2, percent, mean over samples; MPJPE: 17 joints, mm, root-relative, "
    "15 bones' sum 4000 mm, no alignment (published); P-MPJPE: Procrustes; asymmetry: |left - right| / mean, percent"
)


def score(
    parser: Parser, args: Namespace, argv: Sequence[str], pckh_truth: Path | None = None, vis_html: Path | None = None
) -> Iterator[str]:
    """Score the network of `--load_model` and write the files; the report comes in parts as they are known, in the
    first process only.

    Args:
        args: of `options.training_parser` or `testing_parser`, before `options.settle`.
        argv: this process's command line, for `start_on_gpus`.
        pckh_truth: the file of MPII's head sizes, if it is not where it is by default.
        vis_html: where the page for the browser goes.
    """
    if not args.load_model:
        parser.error("which network? give --load_model FILE")
    path = checkpoint.find_weights(args.load_model, args.exp_dir)
    saved = checkpoint.load(path)
    take_size(args, saved)
    args.arch = checkpoint.arch_of(saved)
    options.settle(parser, args)
    run = start_on_gpus(args, argv)
    test = evaluation.load_crops(args, run, train=False)
    model = load_network(args, saved, path, test.sets[0].layout)
    model = model.to(run.device, memory_format=evaluation.memory_format(run.device)).eval()
    loader = evaluation_loader(test, run, args.batch_size, args.num_workers)
    network = evaluation.network(model, run, args.arch)
    table = evaluation.evaluate(network, loader, run, args, refinements=REFINEMENTS)
    if run.is_main:
        points = evaluation.image_points(table, test, args.refine)
        yield from report(args, path, test, table)
        if args.dataset == "mpii":
            yield evaluation.pckh_table(points, pckh_truth or truth_file(args))
        yield from save(args, path, test, table, points, vis_html)


def truth_file(args: Namespace) -> Path:
    """Where the head sizes for PCKh lie by default."""
    return args.data_dir / "mpii" / "detections_our_format.mat"


def pckh_of_file(predictions: Path, truth: Path) -> str:
    """PCKh of a preds.mat on MPII's validation set: the published tool."""
    return pckh.table(pckh.scores(pckh.read_predictions(predictions), pckh.read_truth(truth)))


def take_size(args: Namespace, saved: checkpoint.SavedImageNetwork) -> None:
    """The input's size of the file's network, where the command line has none.

    Raises:
        InputError: it has one, of another size than the only one that the network takes.
    """
    only = saved.sizes.get("size")  # depths of a stacked hourglass are for one size
    trained = {"input_h": only, "input_w": only} if only else saved_options(saved.file)
    for name in ("input_h", "input_w", "output_h", "output_w"):
        if getattr(args, name) < 0 and isinstance(trained.get(name), int):
            setattr(args, name, trained[name])
        if only and name in trained and getattr(args, name) != only:
            raise InputError(f"--{name} {getattr(args, name)}: this network takes images of {only} x {only}")


def load_network(args: Namespace, saved: checkpoint.SavedImageNetwork, path: Path, joints: str) -> torch.nn.Module:
    """The file's network; it must have depths for `--task human3d`, and the joints of the set (`skeleton.LAYOUTS`).

    Raises:
        InputError: it has not.
    """
    if args.task == "human3d" and not saved.sizes["depth"]:
        raise InputError(f"{path} has no depths: it is of stage 1; score it with --task human2d")
    if saved.sizes["joints"] != layout(joints).num_joints:
        raise InputError(f"{path} finds {saved.sizes['joints']} joints, --dataset {args.dataset} has {joints}")
    model = build(lambda: models.create(saved.name, **saved.sizes), saved.state, path)
    checkpoint.load_any_stage(model, saved.state, path)
    return model


def report(args: Namespace, path: Path, test: Crops, table: Mapping[str, Tensor]) -> Iterator[str]:
    """The scores of a table (`evaluation.evaluate`) in lines."""
    flip = "mean with the mirrored image" if args.flip_test else "the image only"
    size = f"{args.input_h} x {args.input_w}"
    yield f"{path} on {evaluation.summary(test)}; {size}; {flip}; --refine {args.refine}"
    yield PROTOCOL
    units = {"acc": "%", "asymmetry": "%", "mpjpe": "mm", "p_mpjpe": "mm"}
    scores = evaluation.means(table).items()
    yield ", ".join(f"{name} {value:.2f} {units.get(name, '')}".strip() for name, value in scores)
    yield evaluation.refinement_table(table, test, REFINEMENTS)


def save(
    args: Namespace, path: Path, test: Crops, table: Mapping[str, Tensor], points: np.ndarray, vis_html: Path | None
) -> Iterator[str]:
    """Write preds.npz, preds.mat, results.json and predictions.png, and the page if it is asked for; -> what was
    written. points: (N, J, 2), image pixels.
    """
    folder, what = args.exp_dir / f"{args.exp_id}TEST", evaluation.summary(test)  # as published
    evaluation.save_predictions(folder, table, points)
    content = {
        "checkpoint": str(path), "data": what, "protocol": PROTOCOL, "flip_test": args.flip_test, "refine": args.refine,
        "options": options_json(args), "results": evaluation.means(table),
    }  # fmt: skip
    write_json(folder / "results.json", content)
    save_sheet(folder / "predictions.png", test, table, args.refine)
    if vis_html:
        yield f"page: {save_test_page(vis_html, test, table, points, what)}"
    yield f"preds.npz, preds.mat, results.json, predictions.png in {folder}"
