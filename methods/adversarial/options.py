"""Options of `train_gan.py` and `test_gan.py`."""

from pathlib import Path

from common.h36m import TEST_LIST, TRAIN_LIST
from common.run.options import Parser, number

METHODS = ("chen", "kudo")


def parser(description: str) -> Parser:
    """The options that both scripts have."""
    parser = Parser(description)
    data = parser.add_argument_group("Data")
    data.add_argument(
        "-d", "--dataset", default="mpii", metavar="LIST",
        help="2D poses to train on, joined: mpii, 3dhp, synthetic, and any NAME of data_2d_NAME_KEYPOINTS.npz",
    )  # fmt: skip
    data.add_argument(
        "--test_dataset", default="", metavar="NAME",
        help="set with 3D poses to score on; default: the last such of --dataset",
    )  # fmt: skip
    data.add_argument("-k", "--keypoints", default="gt", metavar="NAME", help="2D input of Human3.6M-layout sets")
    data.add_argument("--use_sh_detection", action="store_true", help="as --keypoints sh_detect")
    data.add_argument("--data-dir", type=Path, default=Path("data"), metavar="DIR", help="where the files lie")
    data.add_argument("-str", "--subjects-train", default=TRAIN_LIST, metavar="LIST", help="training subjects")
    data.add_argument("-ste", "--subjects-test", default=TEST_LIST, metavar="LIST", help="test subjects")
    data.add_argument("-a", "--actions", default="*", metavar="LIST", help="actions by name or beginning, * for all")
    data.add_argument("--downsample", type=number(int, 1), default=1, help="use every n-th frame")
    parser.add_run_options("--seed")
    return parser
