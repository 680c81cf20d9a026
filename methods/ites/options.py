"""Options of the four ITES scripts, as published (Xu et al., AAAI 2021)."""

from pathlib import Path
from typing import Any

from common.draw import page
from common.h36m import TEST_LIST, TRAIN_LIST
from common.run.options import Parser, number


def parser(description: str) -> Parser:
    """The published options, one set for all four scripts, plus those of `common.run.run`."""
    parser = Parser(description)
    data = parser.add_argument_group("Data")
    data.add_argument(
        "-d",
        "--dataset",
        default="h36m",
        metavar="NAME",
        help="reads data_3d_NAME.npz and data_2d_NAME_KEYPOINTS.npz; 'synthetic' is made on first use",
    )
    data.add_argument(
        "-k", "--keypoints", default="cpn_ft_h36m_dbb", metavar="NAME", help="2D input: gt or a detector's name"
    )
    data.add_argument("--data-dir", type=Path, default=Path("data"), metavar="DIR", help="where the .npz files lie")
    data.add_argument("-str", "--subjects-train", default=TRAIN_LIST, metavar="LIST", help="training subjects")
    data.add_argument("-ste", "--subjects-test", default=TEST_LIST, metavar="LIST", help="test subjects")
    data.add_argument("-a", "--actions", default="*", metavar="LIST", help="actions by name or beginning, * for all")
    data.add_argument("--subset", type=number(float, 0, 1), default=1.0, help="share of each sequence")
    data.add_argument("--downsample", type=number(int, 1), default=1, help="use every n-th frame")
    data.add_argument(
        "-nw",
        "--num_workers",
        type=number(int, 0),
        default=8,
        help="accepted as published; nothing to do, since the data lies on the device",
    )

    paths = parser.add_argument_group("Files")
    paths.add_argument(
        "-c",
        "--checkpoint",
        type=Path,
        default=Path("checkpoint"),
        metavar="PATH",
        help="training: the run's folder; testing: the checkpoint file",
    )
    paths.add_argument(
        "--teacher_checkpoint",
        type=Path,
        default=Path("checkpoint/teacher/ckpt_teacher.bin"),
        metavar="FILE",
        help="trained teacher (student training)",
    )
    paths.add_argument(
        "-r",
        "--resume",
        default="",
        metavar="FILE",
        help="continue a run exactly; last.bin or another checkpoint of the run, or its folder",
    )

    network = parser.add_argument_group("Network")
    network.add_argument("--n-fully-connected", type=number(int, 4), default=1024, help="teacher: width")
    network.add_argument("--n-layers", type=number(int, 0), default=6, help="teacher: residual blocks")
    network.add_argument("--dict-basis-size", type=number(int, 1), default=12, help="teacher: dictionary atoms")
    network.add_argument(
        "--weight-init-std", type=number(float, 0), default=0.01, help="teacher: of the initial weights"
    )
    network.add_argument("--n-blocks", type=number(int, 1), default=4, help="student: residual blocks")
    network.add_argument("--hid-dim", type=number(int, 2), default=128, help="student: channels")
    network.add_argument(
        "-drop",
        "--dropout",
        type=number(float, 0, 1),
        default=0.25,
        help="accepted as published, and ignored as published: the student trains without dropout",
    )

    training = parser.add_argument_group("Training")
    training.add_argument("-e", "--epochs", type=number(int, 1), default=50, help="number of epochs")
    training.add_argument("-b", "--batch-size", type=number(int, 2), default=128, help="of all processes together")
    training.add_argument("-lr", "--learning-rate", type=number(float, 0), default=0.001, help="of SGD")
    training.add_argument(
        "-lrd", "--lr-decay", type=number(float, 0), default=0.5, help="factor on the rate at each decay"
    )
    training.add_argument("-decay", "--epoch-lr-decay", type=number(int, 1), default=15, help="epochs between decays")
    training.add_argument("--momentum", type=number(float, 0, 1), default=0.9, help="of SGD")
    training.add_argument("--weight-decay", type=number(float, 0), default=0.0005, help="of SGD, on all parameters")
    training.add_argument(
        "--reploss-weight",
        type=number(float, 0),
        default=5.0,
        help="weight of the teacher's reprojection, the student's depth loss",
    )
    training.add_argument("--no-eval", action="store_true", help="do not score the test subjects after each epoch")

    testing = parser.add_argument_group("Testing")
    testing.add_argument(
        "--evaluate", action="store_true", help="score the checkpoint (test scripts; also without --vis and --vis-html)"
    )
    testing.add_argument("--vis", action="store_true", help="write GIFs of input, prediction and truth (test scripts)")
    testing.add_argument("--vis-subject", default="", metavar="LIST", help="subjects to draw; default: the first")
    testing.add_argument("--vis-action", default="", metavar="LIST", help="actions to draw; default: the first")
    testing.add_argument("--vis-camera", type=number(int, 0), default=0, metavar="N", help="camera to draw")
    testing.add_argument(
        "--vis-frames", type=number(int, 1), default=100, metavar="N", help="length of a GIF, in pictures"
    )
    page.add_option(testing)
    testing.add_argument(
        "--output",
        type=Path,
        default=None,
        metavar="DIR",
        help="for results.json and GIFs; default: a folder beside the checkpoint, named by data and 2D input",
    )
    parser.add_run_options()
    return parser


def check_options(parser: Parser, args: Any, training: bool) -> None:
    """Refuse what a script cannot do."""
    if args.resume and (args.evaluate or not training):
        parser.error("--resume and --evaluate exclude each other: --resume trains on, the test scripts evaluate")
    if training and (args.evaluate or args.vis or args.vis_html):
        parser.error(
            "--evaluate, --vis and --vis-html belong to the test scripts; training scores every epoch by itself"
        )
