"""The options of `run_baseline.py`, `run_poseaug.py` and `run_evaluate.py`, as published by PoseAug (CVPR 2021)."""

import inspect
import logging
from pathlib import Path
from typing import Any

from common.h36m import TEST_LIST, TRAIN_LIST
from common.run.options import Parser, bool_string, number
from common.run.script import world
from models import lifters

log = logging.getLogger(__name__)

LIFTERS = tuple(sorted(name for name, lifter in lifters.LIFTERS.items() if lifter.sees == "place"))
SIZES = ("dropout", "stages", "architecture", "causal")  # options that a lifter's constructor may take


def parser(description: str, training: bool = True) -> Parser:
    """The published options that all three scripts have, plus those of `common.run.run`."""
    parser = Parser(description)
    data = parser.add_argument_group("Data")
    data.add_argument(
        "--dataset", "-d", default="h36m", metavar="NAME",
        help="reads data_3d_NAME.npz and data_2d_NAME_KEYPOINTS.npz; 'synthetic' is made on first use",
    )  # fmt: skip
    data.add_argument(
        "--keypoints", "-k", default="gt", metavar="NAME",
        help="2D input: gt, cpn_ft_h36m_dbb, detectron_ft_h36m, hr or another detector's name",
    )  # fmt: skip
    data.add_argument("--data-dir", type=Path, default=Path("data"), metavar="DIR", help="where the .npz files lie")
    data.add_argument(
        "--cross_data", default="auto", metavar="NAME",
        help="set of other people and cameras to score on: 3dhp, synthetic (made on first use), a file laid out as "
        "test_3dhp.npz, none; auto: synthetic for --dataset synthetic, else 3dhp where its file is there",
    )  # fmt: skip
    data.add_argument("--subjects-test", default=TEST_LIST, metavar="LIST", help="test subjects")
    data.add_argument("--actions", default="*", metavar="LIST", help="actions by their exact names, * for all")
    data.add_argument("--downsample", type=number(int, 1), default=1, help="use every n-th frame")
    if training:
        add_training_data(data)

    lifter = parser.add_argument_group("Lifter")
    lifter.add_argument("--posenet_name", default="videopose", choices=LIFTERS, help="network from 2D to 3D")
    lifter.add_argument("--stages", type=number(int, 1), default=4, help="residual stages of mlp, gcn, videopose")
    lifter.add_argument(
        "--dropout", type=number(float, high=1), default=0.25, help="rate; for stgcn -1 means its built-in rates"
    )
    lifter.add_argument(
        "--architecture", default="", metavar="WIDTHS",
        help="videopose over time: odd filter widths such as 3,3,3,3,3 (243 frames); sets the number of stages",
    )  # fmt: skip
    lifter.add_argument("--causal", action="store_true", help="videopose over time sees past frames only")
    lifter.add_argument(
        "--flip_test", action="store_true", help="average with the mirrored input's output on the test subjects, too"
    )

    files = parser.add_argument_group("Files")
    if training:
        add_run_folder(files)
    files.add_argument(
        "--evaluate", default="", metavar="FILE",
        help="refused here: run_evaluate.py scores checkpoints" if training else "checkpoint to score",
    )  # fmt: skip
    parser.add_run_options("--random_seed", "--seed")
    return parser


def baseline_parser(description: str) -> Parser:
    """The options of `run_baseline.py`."""
    options = parser(description)
    training = add_training_options(
        options, pretrain=False, pretrain_help="start from a FILE's weights, or True: from the one pretrained baseline"
    )
    training.add_argument("--lr", type=number(float, 0), default=1e-3, help="of Adam")
    training.add_argument("--lr_decay", type=number(int, 1), default=100000, help="steps between changes of the rate")
    training.add_argument("--lr_gamma", type=number(float, 0), default=0.96, help="factor on the rate at each change")
    training.add_argument("--snapshot", type=number(int, 1), default=25, help="epochs between numbered checkpoints")
    training.add_argument("--flip_train", action="store_true", help="mirror every other pose at random")
    training.add_argument(
        "--action-wise",
        type=bool_string,
        default=True,
        metavar="BOOL",
        help="print the errors by action at the end, too",
    )
    return options


def poseaug_parser(description: str) -> Parser:
    """The options of `run_poseaug.py`."""
    options = parser(description)
    training = add_training_options(
        options, True, "start from the one pretrained baseline of this lifter and 2D input, from nothing, or from FILE"
    )
    add_poseaug_options(options, training)
    return options


def add_training_data(group: Any) -> None:
    """The options of the data that is trained on."""
    group.add_argument("--subjects-train", default=TRAIN_LIST, metavar="LIST", help="training subjects")
    group.add_argument("--s1only", type=bool_string, default=False, metavar="BOOL", help="train on subject S1 only")
    group.add_argument(
        "--num_workers", type=number(int, 0), default=2,
        help="accepted as published; nothing to do, since the data lies on the device",
    )  # fmt: skip


def add_run_folder(group: Any) -> None:
    """The options that name a run's folder."""
    group.add_argument(
        "--checkpoint", type=Path, default=Path("checkpoint/debug"), metavar="DIR",
        help="runs go to DIR/LIFTER/KEYPOINTS/TIME_NOTE",
    )  # fmt: skip
    group.add_argument("--note", default="debug", help="name of the run")


def add_training_options(parser: Parser, pretrain: bool, pretrain_help: str) -> Any:
    """The options of both training scripts; returns the group."""
    training = parser.add_argument_group("Training")
    training.add_argument("--batch_size", "-b", type=number(int, 2), default=1024, help="of all processes together")
    training.add_argument("--epochs", "-e", type=number(int, 1), default=50, help="number of epochs")
    training.add_argument(
        "--no_max", dest="max_norm", action="store_false", help="do not clip the norm of the gradients to 1"
    )
    training.add_argument("--pretrain", type=_pretrain, default=pretrain, metavar="BOOL|FILE", help=pretrain_help)
    training.add_argument(
        "--resume", "-r", default="", metavar="FILE",
        help="continue a run exactly, in its folder: the last.pth.tar in it, or the folder",
    )  # fmt: skip
    return training


def check_options(parser: Parser, args: Any) -> None:
    """Refuse what the training scripts cannot do, level the rest."""
    if args.evaluate:
        parser.error(
            f"--evaluate {args.evaluate}: training does not evaluate a file; use run_evaluate.py --posenet_name "
            f"{args.posenet_name} --keypoints {args.keypoints} --evaluate FILE"
        )
    check_lifter(parser, args)
    if args.s1only:
        args.subjects_train = "S1"


def check_lifter(parser: Parser, args: Any) -> None:
    """Refuse options that do not fit the lifter."""
    if (args.architecture or args.causal) and args.posenet_name != "videopose":
        parser.error(f"--architecture and --causal are for videopose; {args.posenet_name} sees one frame at a time")
    if args.dropout < 0 and args.posenet_name != "stgcn":
        parser.error(f"--dropout {args.dropout}: only stgcn has built-in rates; expected a number from 0 to 1")


def lifter_sizes(args: Any) -> dict[str, Any]:
    """The constructor's arguments of the lifter that the options ask for."""
    taken = inspect.signature(lifters.LIFTERS[args.posenet_name].network).parameters
    sizes = {name: getattr(args, name) for name in SIZES if name in taken}
    return {name: value or None if name == "architecture" else value for name, value in sizes.items()}


def _pretrain(text: str) -> bool | str:
    """An option type: True, False or a file."""
    return bool_string(text) if text.lower() in ("true", "false") else text


def add_poseaug_options(parser: Parser, training: Any) -> None:
    """The options of `run_poseaug.py` alone."""
    training.add_argument("--lr_p", type=number(float, 0), default=1e-4, help="of the lifter's Adam")
    training.add_argument("--lr_g", type=number(float, 0), default=1e-4, help="of the augmentor's Adam")
    training.add_argument("--lr_d", type=number(float, 0), default=1e-4, help="of each discriminator's Adam")
    training.add_argument(
        "--decay_epoch", type=number(int, 0), default=0, help="epochs before the rates begin to fall, linearly, to zero"
    )
    training.add_argument("--warmup", type=number(int, 0), default=2, help="epochs in which the augmentor alone learns")
    training.add_argument("--df", type=number(int, 1), default=2, help="steps between updates of the discriminators")
    training.add_argument(
        "--snapshot", type=number(int, 1), default=2, help="epochs between writes of last.pth.tar, to resume from"
    )
    training.add_argument("--viz_every", type=number(int, 0), default=400, help="steps between pictures; 0: none")
    training.add_argument(
        "--bone_lengths", type=Path, default=None, metavar="FILE",
        help=".npy of (people, 15) lengths in metres to swap in; default: those of Human3.6M's training subjects",
    )  # fmt: skip

    range_ = parser.add_argument_group("Augmentor: how far it may go")
    for name, default, text in (
        ("ba_range_m", 0.205, "bone angle: middle of the free range of 1 - cos, mean over the bones"),
        ("ba_range_w", 0.165, "bone angle: half the width of the free range"),
        ("blr_tanhlimit", 0.2, "bone length: largest relative change"),
        ("blr_limit", 0.1, "bone length: relative change that is free"),
    ):
        range_.add_argument(f"--{name}", type=number(float, 0), default=default, help=text)

    feedback = parser.add_argument_group("Feedback: how much harder the lifter should find the augmented poses")
    for name, default, text in (
        ("hardratio_ba_s", 3.0, "bone angle: ratio of the errors aimed at, at the start"),
        ("hardratio_ba", 5.0, "bone angle: the same, at the end"),
        ("hardratio_std_ba", 2.0, "bone angle: deviation from it that is free"),
        ("hardratio_rt_s", 17.0, "rigid motion: ratio of the errors aimed at, at the start"),
        ("hardratio_rt", 17.0, "rigid motion: the same, at the end"),
        ("hardratio_std_rt", 15.0, "rigid motion: deviation from it that is free"),
    ):
        feedback.add_argument(f"--{name}", type=number(float, 0), default=default, help=text)

    weights = parser.add_argument_group("Weights of the augmentor's losses")
    for name, default, text in (
        ("gloss_factord2d", 1.0, "2D discriminator"),
        ("gloss_factord3d", 6.0, "3D discriminator"),
        ("gloss_factordiff", 3.0, "range of the changes"),
        ("gloss_factorblr", 1.0, "of the bone lengths' part within that (the published code has it 1)"),
        ("gloss_factorfeedback_ba", 0.1, "feedback on bone angles"),
        ("gloss_factordiv_ba", 0.0, "spread of the ratios, bone angles"),
        ("gloss_factorfeedback_rt", 0.01, "feedback on rigid motion"),
        ("gloss_factordiv_rt", 0.0, "spread of the ratios, rigid motion"),
    ):
        weights.add_argument(f"--{name}", type=number(float, 0), default=default, help=text)


def check_poseaug(parser: Parser, args: Any) -> None:
    """As `check_options`; a run named debug does not start from a baseline, as published, unless a file is named."""
    check_options(parser, args)
    if args.architecture and args.architecture.replace("1", "").strip(","):
        parser.error(f"--architecture {args.architecture}: PoseAug augments single poses; leave it out")
    if args.decay_epoch > args.epochs:
        parser.error(f"--decay_epoch {args.decay_epoch} is after the last epoch, {args.epochs}")
    if world()[2] > 1 and (args.gloss_factordiv_ba or args.gloss_factordiv_rt):
        parser.error(
            "--gloss_factordiv_ba and --gloss_factordiv_rt are of the spread over a whole batch, of which each process "
            "sees its share: use one process, or leave them at 0"
        )
    if args.note == "debug" and args.pretrain is True and not args.resume:
        args.pretrain = False
        log.warning("--note debug starts from nothing, as published; give the run another --note to use the baseline")
