"""2D poses for demo.py: by BlazePose, by rtmlib, or by an image network of this framework, chosen by options."""

import argparse
from argparse import Namespace
from functools import partial
from pathlib import Path

import models
from common.errors import InputError
from common.run import checkpoint
from common.run.run import Run
from common.video import detect, detector_files, find
from common.video.formats import RawKeypoints
from common.video.frames import Pictures
from methods.hourglass import checkpoint as hourglass_checkpoint
from methods.hourglass import evaluation

NAMES = ("blazepose", "rtmlib", "hourglass")


def people(text: str) -> int | None:
    """An option's type: a number of people, or all (None)."""
    if text != "all" and not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"found {text!r}; expected a number of people above 0, or all")
    return None if text == "all" else int(text)


OPTIONS = (
    ("--detector", NAMES, None,
     "finds the 2D poses in --input where there are no --keypoints; default: hourglass with --load_model, else "
     "blazepose"),
    ("--box", find.parse_box, None, "where to look: all that the person walks through, pixels; default: everywhere",
     "X,Y,W,H"),
    ("--people", people, 1, "how many are lifted, the largest first: a number, or all", "N"),
    ("--detector-dir", Path, detector_files.FOLDER, "BlazePose's files; fetched once where they are missing", "DIR"),
)  # fmt: skip


def find_poses(args: Namespace, run: Run, images: Pictures) -> RawKeypoints:
    """Everybody's keypoints (of the hourglass one person's) in the pictures of --input."""
    if args.detector == "hourglass":
        finder, _ = load_finder(args, run)
        return find.find_in_video(finder, images, args.thr, args.box, partial(run.progress, text="2D poses"))
    count = None if args.people is None else max(args.people, args.person)
    if args.detector == "rtmlib":
        if args.box:
            raise InputError("--box is for blazepose and hourglass: rtmlib looks everywhere; leave it out")
        detector = detect.rtmlib_detector(count)
    else:
        detector = detect.blazepose_detector(args.detector_dir, count, args.box)
    bar = partial(run.progress, text="2D poses", unit=" frames")
    return detect.find_in_video(detector, images, args.input, args.box, bar)


def load_finder(args: Namespace, run: Run) -> tuple[find.Finder, bool]:
    """The image network of --load_model, and whether it has depths."""
    path = hourglass_checkpoint.find_weights(args.load_model)
    saved = hourglass_checkpoint.load(path)
    model = checkpoint.build(lambda: models.create(saved.name, **saved.sizes), saved.state, path)
    hourglass_checkpoint.load_any_stage(model, saved.state, path)
    model = model.to(run.device, memory_format=evaluation.memory_format(run.device)).eval()
    predict = evaluation.network(model, run, hourglass_checkpoint.arch_of(saved))
    trained = checkpoint.saved_options(saved.file)
    size = tuple(trained.get(name, saved.sizes.get("size", 256)) for name in ("input_h", "input_w"))
    return find.Finder(predict, size, args.refine, run.device), saved.sizes["depth"]
