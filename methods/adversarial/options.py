"""Options of `train_gan.py` and `test_gan.py`."""

from argparse import Namespace
from pathlib import Path

from common.datasets.contract import TEST_HELP, TRAIN_HELP, check_apart, settle_test, settle_train
from common.datasets.projected import NOISE
from common.datasets.training_views import BONES, CAMERAS, check_views
from common.draw import page
from common.run.options import Parser, number, saved_file
from methods.adversarial.evaluation import test_name
from models.adversarial import losses

METHODS = ("chen", "kudo")
DATA = (
    ("-d --dataset", str, "mpii",
     "2D poses to train on, joined: mpii, 3dhp, synthetic, and any NAME of data_2d_NAME_KEYPOINTS.npz", "LIST"),
    ("--test_dataset", str, "", "set with 3D poses to score on; default: the last such of --dataset", "NAME"),
    ("-k --keypoints", str, "gt", "2D input of Human3.6M-layout sets", "NAME"),
    ("--use_sh_detection", bool, False, "as --keypoints sh_detect"),
    ("--data-dir", Path, "data", "where the files lie", "DIR"),
    ("-str --subjects-train", str, "", TRAIN_HELP, "LIST"),
    ("-ste --subjects-test", str, "", TEST_HELP, "LIST"),
    ("-a --actions", str, "*", "actions by name or beginning, * for all", "LIST"),
    ("--downsample", number(int, 1), 1, "use every n-th frame"),
    *NOISE,
)  # fmt: skip
METHOD = (
    ("--method", METHODS, "chen", "see the head of this page"),
    ("--mode", ("unsupervised", "supervised"), "unsupervised", "supervised: 3D"),
    ("--weight_2d", number(float, 0), losses.CHEN_WEIGHT_2D, "chen: L_2D"),
    ("--weight_3d", number(float, 0), losses.CHEN_WEIGHT_3D, "chen: L_3D"),
    ("--weight_temporal", number(float, 0), 1.0,
     "chen: discriminator of frame differences, where the data has sequences; 0: none"),
    ("--use_heuristic_loss", bool, False, "faces look forward (Kudo)"),
    ("--heuristic_loss_weight", number(float, 0), 1.0, "its weight"),
    ("--dropout", number(float, 0, 1), 0.5, "chen: rate in every network"),
    ("--no_dis_bn", bool, False, "chen: discriminators without batch norm"),
    ("--use_bn", bool, False, "kudo: batch norm"),
    ("--activate_func", ("leaky_relu", "relu"), "leaky_relu", "kudo"),
)  # fmt: skip
TRAINING = (
    ("-e --epochs --max_epochs", number(int, 1), 100, "number of epochs"),
    ("-b --batch_size", number(int, 4), 256, "of all processes together"),
    ("--gen_lr", number(float, 0), 0.001, "of the lifter's Adam"),
    ("--dis_lr", number(float, 0), 0.001, "of the discriminator's Adam"),
    ("--gen_eps", number(float, 0), 1e-8, "eps of the lifter's Adam"),
    ("--dis_eps", number(float, 0), 1e-8, "eps of the discriminator's Adam"),
    ("--beta1", number(float, 0, 1), 0.9, "of both Adams (Kudo: 0.5)"),
    ("--weight_decay", number(float, 0), 0.0, "of both Adams (Kudo: 1e-5)"),
    ("--gan_accuracy_cap", number(float, 0.5, 1), 0.9,
     "above it the discriminator waits, below 1 minus it the lifter"),
)  # fmt: skip
RUN_FOLDER = (
    ("-c --checkpoint", Path, "checkpoint/gan", "the run", "DIR"),
    ("-r --resume", str, "", "last.ckpt of the run, or its folder", "FILE"),
)  # fmt: skip
TESTING = (
    ("-c --ckpt", saved_file, ..., "trained lifter; released/NAME for our own", "FILE"),
    ("--allow_inversion", bool, False, "print the published error of the better of pose and depth mirror"),
    ("--output", Path, None, "default: a folder beside the file", "DIR"),
    ("--vis", bool, False, "write a GIF of the first test sequence"),
    ("--vis-frames", number(int, 1), 100, "its length, in pictures", "N"),
    page.VIS_HTML,
)  # fmt: skip
WITHOUT_EFFECT = (("--gpus", str, "", "--device chooses, and torchrun starts several"),)


def training_parser(description: str) -> Parser:
    """Options of `train_gan.py`: the published ones of both methods, and ours."""
    parser = Parser(description)
    parser.add_table("Data", DATA)
    parser.add_run_options()
    parser.add_table("Method", METHOD)
    parser.add_table("Training", TRAINING)
    parser.add_table("Cameras of the training poses", CAMERAS, BONES)
    parser.add_table("Files", RUN_FOLDER)
    parser.accept(WITHOUT_EFFECT)
    parser.then(_settle_subjects)
    parser.then(lambda args: check_views(parser, args))
    parser.then(lambda args: check_apart(args) if test_name(args) in args.dataset.split(",") else None)
    return parser


def _settle_subjects(args: Namespace) -> None:
    settle_train(args, args.dataset)
    settle_test(args, test_name(args) or args.dataset)


def testing_parser(description: str) -> Parser:
    """Options of `test_gan.py`."""
    parser = Parser(description)
    parser.add_table("Data", DATA)
    parser.add_run_options(training=False, draws=False)
    parser.add_table("Testing", TESTING)
    parser.then(_settle_subjects)
    return parser
