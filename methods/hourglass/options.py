"""Options of `train_hourglass.py` and `test_hourglass.py`: the published ones with their defaults, and ours.

Zhou et al., "Towards 3D Human Pose Estimation in the Wild: a Weakly-supervised Approach", ICCV 2017, and the authors'
later code, whose names and defaults these are. An option that did nothing there works here, or is refused.
"""

from argparse import Namespace
from pathlib import Path

from common.errors import InputError
from common.h36m import TEST_LIST, TRAIN_LIST
from common.images.decode import REFINEMENTS
from common.images.people import CropOptions
from common.run.options import Parser, number
from methods.hourglass.checkpoint import parse_arch

DATASETS = ("mpii", "coco", "fusion_3d", "synthetic")
METRICS = ("acc", "mpjpe", "p_mpjpe", "loss")  # the first is the better the larger, of the others the smaller
# What the -1 of some options stands for: MPII's values, COCO's.
DEFAULTS = {"scale": (0.25, 0.3), "rotate": (30.0, 40.0), "input_h": (256, 256), "input_w": (256, 192)}
# May differ between a run and its resumption, besides `checkpoint.FREE_OPTIONS`.
FREE = (
    "cache", "debug", "exp_dir", "exp_id", "full_test", "gpus", "hide_data_time", "load_model", "backbone_weights",
    "num_epochs", "print_iter", "save_all_models", "val_intervals", "test", "no_cache", "refine", "flip_test",
    "synthetic_test", "disable_cudnn",
)  # fmt: skip


def parser(description: str) -> Parser:
    """All options of both scripts, as published: one set."""
    parser = Parser(description)
    _add_run(parser)
    _add_data(parser)
    _add_training(parser)
    parser.add_run_options()
    return parser


def _add_run(parser: Parser) -> None:
    group = parser.add_argument_group("The run")
    group.add_argument("--exp_id", default="default", metavar="NAME", help="its results go to exp/NAME")
    group.add_argument("--exp_dir", type=Path, default=Path("exp"), metavar="DIR", help="the folder of all runs")
    group.add_argument(
        "--resume", nargs="?", const=True, default=False, metavar="FILE",
        help="go on exactly where model_last.pth of exp/NAME (or FILE) was saved",
    )  # fmt: skip
    group.add_argument("--load_model", default="", metavar="FILE", help="weights to start from, or to test")
    group.add_argument("--test", action="store_true", help="score only: test_hourglass.py, results in exp/NAMETEST")
    group.add_argument("--save_all_models", action="store_true", help="keep model_EPOCH.pth of every validation")
    group.add_argument(
        "--debug", type=number(int, 0), default=0, help="1: one worker; 2: also pictures when validating"
    )
    group.add_argument("--print_iter", type=number(int, -1), default=-1, metavar="N", help="a line every N steps")
    group.add_argument("--hide_data_time", action="store_true", help="do not print the wait for data")
    group.add_argument("--demo", default="", metavar="IMAGE", help="refused: demo.py does that")
    group.add_argument(
        "--gpus", default="", metavar="LIST",
        help="0: that GPU; 0,1: a process on each; -1: the CPU; default: a GPU if there is one",
    )  # fmt: skip
    group.add_argument("--disable_cudnn", action="store_true", help="as published, for old drivers")


def _add_data(parser: Parser) -> None:
    group = parser.add_argument_group("Data")
    group.add_argument("--task", choices=("human2d", "human3d"), default="human2d", help="human3d: depths too")
    group.add_argument("--dataset", choices=DATASETS, default="mpii", help="fusion_3d: Human3.6M and MPII")
    group.add_argument("--data_dir", type=Path, default=Path("data"), metavar="DIR", help="where the files lie")
    group.add_argument(
        "--ratio_3d", type=number(float, 0), default=0.0, help="3D images an epoch, at most, for each 2D image"
    )
    group.add_argument("--full_test", action="store_true", help="score all of Human3.6M, not every tenth image")
    group.add_argument("--num_workers", type=number(int, 0), default=4, help="that make samples, in each process")
    group.add_argument("--flip", type=number(float, 0, 1), default=0.5, help="share of mirrored samples")
    group.add_argument("--scale", type=number(float, -1), default=-1, help="of the window's size; -1: 0.25, COCO 0.3")
    group.add_argument("--rotate", type=number(float, -1), default=-1, help="degrees; -1: 30, COCO 40")
    group.add_argument("--fit_short_side", action="store_true", help="narrow windows to the input's shape")
    group.add_argument("--all_pts", action="store_true", help="refused: has no effect in the published code")
    group.add_argument("--multi_person", action="store_true", help="refused: has no effect in the published code")
    for name, default in (("input_h", "256"), ("input_w", "256, COCO 192"), ("output_h", ""), ("output_w", "")):
        text = f"pixels; -1: {default}" if name.startswith("input") else "of the heat maps; -1: a quarter of the input"
        group.add_argument(f"--{name}", type=number(int, -1), default=-1, help=text)
    made = parser.add_argument_group("Synthetic images (--dataset synthetic)")
    made.add_argument("--motion", default="synthetic", metavar="NAME", help="poses: a set in Human3.6M's layout")
    made.add_argument("--subjects-train", default=TRAIN_LIST, metavar="LIST", help="training subjects")
    made.add_argument("--subjects-test", default=TEST_LIST, metavar="LIST", help="test subjects")
    made.add_argument("--actions", default="*", metavar="LIST", help="its actions, all takes of them; * for all")
    made.add_argument(
        "--facing", type=number(float, 0, 180), default=180.0, metavar="DEGREES",
        help="only people whose chest is turned so far away from the camera, at most",
    )  # fmt: skip
    made.add_argument("--synthetic_images", type=number(int, 2), default=6000, help="in 3D, and as many in 2D")
    made.add_argument("--synthetic_test", type=number(int, 1), default=1000, help="of the test subjects")
    made.add_argument("--cache", type=Path, metavar="DIR", help="drawn once; default: synthetic_images in --data_dir")
    made.add_argument("--no_cache", action="store_true", help="draw each image anew whenever it is needed")


def _add_training(parser: Parser) -> None:
    group = parser.add_argument_group("Network and training")
    group.add_argument("--arch", default="msra_50", metavar="NAME", help="msra_18, 34, 50, 101, 152, or hg")
    group.add_argument(
        "--backbone_weights", default="auto", metavar="FILE",
        help="ImageNet weights; auto: torch's download; none: random",
    )  # fmt: skip
    group.add_argument("--weight_3d", type=number(float, 0), default=0.0, help="of the depths (paper: 0.1)")
    group.add_argument("--weight_var", type=number(float, 0), default=0.0, help="of bone-length ratios (0.01)")
    group.add_argument("--lr", type=number(float, 0), default=0.001, help="of Adam")
    group.add_argument("--lr_step", default="90,120", metavar="LIST", help="epochs after which it falls to a tenth")
    group.add_argument("--num_epochs", "--num_epoch", type=number(int, 1), default=140, help="number of epochs")
    group.add_argument("--batch_size", type=number(int, 1), default=32, help="of each GPU or process")
    group.add_argument("--weight_decay", type=number(float, 0), default=0.0, help="of Adam")
    testing = parser.add_argument_group("Validation and testing")
    testing.add_argument("--val_intervals", type=number(int, 0), default=5, help="epochs between; 0: none")
    testing.add_argument("--metric", choices=METRICS, default="acc", help="by which model_best.pth is chosen")
    testing.add_argument("--flip_test", action="store_true", default=True, help="mean with the mirrored image")
    testing.add_argument("--no_flip_test", dest="flip_test", action="store_false", help="the image only")
    testing.add_argument("--refine", choices=REFINEMENTS, default="published", help="where on the heat map a joint is")


# ------------------------------------------------------------ checking


def settle(parser: Parser, args: Namespace) -> None:
    """Put values for the -1s, and refuse what does not go together; in place."""
    for name in ("all_pts", "multi_person"):
        if getattr(args, name):
            parser.error(f"--{name} has no effect in the published code: leave it out")
    if args.demo:
        parser.error(f"--demo: python demo.py --demo {args.demo} --load_model FILE draws the poses of images")
    if args.gpus.strip() == "-1":
        args.device = "cpu"
    for name, values in DEFAULTS.items():
        if getattr(args, name) < 0:
            setattr(args, name, values[args.dataset == "coco"])
    for side in ("h", "w"):
        if getattr(args, f"output_{side}") < 0:
            setattr(args, f"output_{side}", getattr(args, f"input_{side}") // 4)
    if args.cache is None:
        args.cache = args.data_dir / "synthetic_images"
    if args.debug:
        args.num_workers = 1
    parse_arch(args.arch)
    _check_sizes(parser, args)
    _check_task(parser, args)
    lr_steps(args.lr_step)


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
    for name in ("weight_3d", "weight_var"):
        if args.task == "human2d" and getattr(args, name):
            parser.error(f"--{name} {getattr(args, name):g} needs depths: --task human3d")
    if args.task == "human2d" and args.metric in ("mpjpe", "p_mpjpe"):
        parser.error(f"--metric {args.metric} needs depths: --task human3d")
    if args.weight_3d and not args.ratio_3d and not args.test:
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


def crop_options(args: Namespace) -> CropOptions:
    """Sizes and augmentation."""
    return CropOptions(
        (args.input_h, args.input_w), (args.output_h, args.output_w), args.scale, args.rotate, args.flip,
        args.fit_short_side,
    )  # fmt: skip
