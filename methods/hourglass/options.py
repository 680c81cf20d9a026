"""Options of `train_hourglass.py` and `test_hourglass.py`: the published ones with their defaults, and ours.

Zhou et al., "Towards 3D Human Pose Estimation in the Wild: a Weakly-supervised Approach", ICCV 2017, and the authors'
later code, whose names and defaults these are. An option that did nothing there works here, or is refused.
"""

from argparse import Namespace
from pathlib import Path

from common.datasets.contract import TEST_HELP, TRAIN_HELP, check_apart, settle_test, settle_train
from common.draw import page
from common.errors import InputError
from common.images.decode import REFINEMENTS
from common.images.people import CropOptions
from common.run.options import Parser, number
from methods.hourglass.checkpoint import parse_arch

DATASETS = ("mpii", "coco", "fusion_3d", "synthetic")
METRICS = ("acc", "mpjpe", "p_mpjpe", "loss")  # the first is the better the larger, of the others the smaller
# What the -1 of some options stands for: MPII's values, COCO's.
INPUT_SIZE = {"input_h": (256, 256), "input_w": (256, 192)}
AUGMENTATION = {"scale": (0.25, 0.3), "rotate": (30.0, 40.0)}
# May differ between a run and its resumption, besides `checkpoint.FREE_OPTIONS`.
FREE = (
    "cache", "debug", "exp_dir", "exp_id", "full_test", "gpus", "hide_data_time", "load_model", "backbone_weights",
    "num_epochs", "print_iter", "save_all_models", "val_intervals", "test", "no_cache", "refine", "flip_test",
    "synthetic_test", "disable_cudnn",
)  # fmt: skip


PLACE = (
    ("--exp_id", str, "default", "its results go to exp/NAME", "NAME"),
    ("--exp_dir", Path, "exp", "the folder of all runs", "DIR"),
    ("--load_model", str, "", "weights to start from, or to test", "FILE"),
    ("--debug", number(int, 0), 0, "1: one worker; 2: also pictures when validating"),
    ("--gpus", str, "", "0: that GPU; 0,1: a process on each; -1: the CPU; default: a GPU if there is one", "LIST"),
    ("--disable_cudnn", bool, False, "as published, for old drivers"),
)  # fmt: skip
TRAINING_RUN = (
    ("--resume", str, False, "go on exactly where model_last.pth of exp/NAME (or FILE) was saved", "FILE",
     {"nargs": "?", "const": True}),
    ("--test", bool, False, "score only: test_hourglass.py, results in exp/NAMETEST"),
    ("--save_all_models", bool, False, "keep model_EPOCH.pth of every validation"),
    ("--print_iter", number(int, -1), -1, "a line every N steps", "N"),
    ("--hide_data_time", bool, False, "do not print the wait for data"),
)  # fmt: skip
DATA = (
    ("--task", ("human2d", "human3d"), "human2d", "human3d: depths too"),
    ("--dataset", DATASETS, "mpii", "fusion_3d: Human3.6M and MPII"),
    ("--data-dir", Path, "data", "where the files lie", "DIR"),
    ("--full_test", bool, False, "score all of Human3.6M, not every tenth image"),
    ("--num_workers", number(int, 0), 4, "that make samples, in each process"),
    ("--fit_short_side", bool, False, "narrow windows to the input's shape"),
    ("--input_h", number(int, -1), -1, "pixels; -1: 256"),
    ("--input_w", number(int, -1), -1, "pixels; -1: 256, COCO 192"),
    ("--output_h", number(int, -1), -1, "of the heat maps; -1: a quarter of the input"),
    ("--output_w", number(int, -1), -1, "of the heat maps; -1: a quarter of the input"),
)  # fmt: skip
TRAINING_DATA = (
    ("--ratio_3d", number(float, 0), 0.0, "3D images an epoch, at most, for each 2D image"),
    ("--flip", number(float, 0, 1), 0.5, "share of mirrored samples"),
    ("--scale", number(float, -1), -1, "of the window's size; -1: 0.25, COCO 0.3"),
    ("--rotate", number(float, -1), -1, "degrees; -1: 30, COCO 40"),
)  # fmt: skip
SYNTHETIC = (
    ("--motion", str, "synthetic", "poses: a set in Human3.6M's layout", "NAME"),
    ("--subjects-test", str, "", TEST_HELP, "LIST"),
    ("--actions", str, "*", "its actions, all takes of them; * for all", "LIST"),
    ("--facing", number(float, 0, 180), 180.0,
     "only people whose chest is turned so far away from the camera, at most", "DEGREES"),
    ("--synthetic_test", number(int, 1), 1000, "of the test subjects"),
    ("--cache", Path, None, "drawn once; default: synthetic_images in --data-dir", "DIR"),
    ("--no_cache", bool, False, "draw each image anew whenever it is needed"),
)  # fmt: skip
SYNTHETIC_TRAINING = (
    ("--subjects-train", str, "", TRAIN_HELP, "LIST"),
    ("--synthetic_images", number(int, 2), 6000, "in 3D, and as many in 2D"),
)  # fmt: skip
BATCH = (("--batch_size", number(int, 1), 32, "of each GPU or process"),)
TRAINING = (
    ("--arch", str, "msra_50", "msra_18, 34, 50, 101, 152, or hg", "NAME"),
    ("--backbone_weights", str, "auto", "ImageNet weights; auto: torch's download; none: random", "FILE"),
    ("--weight_3d", number(float, 0), 0.0, "of the depths (paper: 0.1)"),
    ("--weight_var", number(float, 0), 0.0, "of bone-length ratios (0.01)"),
    ("--lr", number(float, 0), 0.001, "of Adam"),
    ("--lr_step", str, "90,120", "epochs after which it falls to a tenth", "LIST"),
    ("--num_epochs --num_epoch", number(int, 1), 140, "number of epochs"),
    ("--weight_decay", number(float, 0), 0.0, "of Adam"),
)  # fmt: skip
VALIDATION = (
    ("--val_intervals", number(int, 0), 5, "epochs between; 0: none"),
    ("--metric", METRICS, "acc", "by which model_best.pth is chosen"),
)  # fmt: skip
SCORING = (
    ("--flip_test", bool, True, "mean with the mirrored image", None, {"action": "store_true"}),
    ("--no_flip_test", bool, True, "the image only", None, {"dest": "flip_test"}),
    ("--refine", REFINEMENTS, "published", "where on the heat map a joint is"),
)  # fmt: skip
TESTING = (
    ("--pckh", Path, None, "only score this preds.mat on MPII's validation set", "FILE"),
    ("--pckh_truth", Path, None, "default: mpii/detections_our_format.mat in --data-dir", "FILE"),
    page.VIS_HTML,
)  # fmt: skip
NO_EFFECT = (("--all_pts", bool, False, "in the published code: none"), ("--multi_person", bool, False, "none, too"))
DEMO = (("--demo", str, "", "the published demo", "IMAGE"),)


def training_parser(description: str) -> Parser:
    """Options of `train_hourglass.py`, as published."""
    parser = Parser(description)
    parser.add_table("The run", PLACE, TRAINING_RUN)
    parser.add_table("Data", DATA, TRAINING_DATA)
    parser.add_table("Synthetic images (--dataset synthetic)", SYNTHETIC, SYNTHETIC_TRAINING)
    parser.add_table("Network and training", TRAINING, BATCH)
    parser.add_table("Validation and testing", VALIDATION, SCORING)
    parser.add_run_options()
    _refuse_published(parser)
    return parser


def testing_parser(description: str) -> Parser:
    """Options of `test_hourglass.py`; all of the training's are accepted, as the published code has one set."""
    parser = Parser(description)
    parser.add_table("The run", PLACE)
    parser.add_table("Data", DATA, BATCH)
    parser.add_table("Synthetic images (--dataset synthetic)", SYNTHETIC)
    parser.add_table("Testing", SCORING, TESTING)
    parser.add_run_options(training=False, draws=False)
    parser.accept(TRAINING_RUN, TRAINING_DATA, SYNTHETIC_TRAINING, TRAINING, VALIDATION)
    _refuse_published(parser)
    return parser


def _refuse_published(parser: Parser) -> None:
    parser.refuse("it has no effect in the published code: leave it out", NO_EFFECT)
    parser.refuse("python demo.py --demo IMAGE --load_model FILE draws the poses of images", DEMO)


# ------------------------------------------------------------ checking


def settle_training(parser: Parser, args: Namespace) -> None:
    """As `settle`, for the training's options, too."""
    settle(parser, args)
    settle_train(args, args.motion)
    if args.dataset == "synthetic":
        check_apart(args)
    for name, values in AUGMENTATION.items():
        if getattr(args, name) < 0:
            setattr(args, name, values[args.dataset == "coco"])
    _check_losses(parser, args)
    lr_steps(args.lr_step)


def settle(parser: Parser, args: Namespace) -> None:
    """Put values for the -1s, and refuse what does not go together; in place."""
    if args.gpus.strip() == "-1":
        args.device = "cpu"
    for name, values in INPUT_SIZE.items():
        if getattr(args, name) < 0:
            setattr(args, name, values[args.dataset == "coco"])
    for side in ("h", "w"):
        if getattr(args, f"output_{side}") < 0:
            setattr(args, f"output_{side}", getattr(args, f"input_{side}") // 4)
    if args.cache is None:
        args.cache = args.data_dir / "synthetic_images"
    if args.debug:
        args.num_workers = 1
    settle_test(args, args.motion)
    parse_arch(args.arch)
    _check_sizes(parser, args)
    _check_task(parser, args)


def _check_sizes(parser: Parser, args: Namespace) -> None:
    multiple = 64 if args.arch == "hg" else 32
    for side in ("h", "w"):
        size, out = getattr(args, f"input_{side}"), getattr(args, f"output_{side}")
        if size < multiple or size % multiple:
            parser.error(f"--input_{side} {size}: expected a multiple of {multiple} for {args.arch}")
        if 4 * out != size:
            parser.error(f"--output_{side} {out}: the heat maps are a quarter of the input, {size // 4} of {size}")
    if args.arch == "hg" and args.input_h != args.input_w:
        parser.error(f"--arch hg takes square images; found {args.input_h} x {args.input_w}")


def _check_task(parser: Parser, args: Namespace) -> None:
    if args.task == "human3d" and args.input_h > args.input_w:  # published: depths by the width, x and y by the height
        parser.error(
            f"--task human3d: upright images, {args.input_h} x {args.input_w}, have no common unit; use square"
        )
    if args.task == "human3d" and args.dataset in ("mpii", "coco"):
        parser.error(f"--task human3d: {args.dataset} has no depths; use --dataset fusion_3d or synthetic")


def _check_losses(parser: Parser, args: Namespace) -> None:
    for name in ("weight_3d", "weight_var"):
        if args.task == "human2d" and getattr(args, name):
            parser.error(f"--{name} {getattr(args, name):g} needs depths: --task human3d")
    if args.task == "human2d" and args.metric in ("mpjpe", "p_mpjpe"):
        parser.error(f"--metric {args.metric} needs depths: --task human3d")
    if args.weight_3d and not args.ratio_3d:
        parser.error(f"--weight_3d {args.weight_3d:g} has nothing to weigh: --ratio_3d 0 leaves no 3D images (use 1)")


def lr_steps(text: str) -> tuple[int, ...]:
    """`--lr_step` as epochs."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not all(word.isdecimal() for word in words):
        raise InputError(f"--lr_step {text!r}: expected epochs joined by commas, as in 90,120")
    return tuple(sorted(map(int, words)))


def learning_rate(args: Namespace, epoch: int) -> float:
    """In epoch `epoch`, counted from 0: a tenth after the first of `--lr_step`, and so on."""
    return args.lr * 0.1 ** sum(epoch >= step for step in lr_steps(args.lr_step))


def crop_options(args: Namespace, train: bool) -> CropOptions:
    """Sizes, and the augmentation of the training set."""
    augmentation = {name: getattr(args, name) for name in ("scale", "rotate", "flip")} if train else {}
    sizes = (args.input_h, args.input_w), (args.output_h, args.output_w)
    return CropOptions(*sizes, fit_short_side=args.fit_short_side, **augmentation)
