"""The options of `run_baseline.py`, `run_poseaug.py` and `run_evaluate.py`, as published by PoseAug (CVPR 2021)."""

import inspect
import logging
from pathlib import Path
from typing import Any

from common.datasets.contract import TEST_HELP, TRAIN_HELP, check_apart, settle_test, settle_train
from common.datasets.projected import NOISE
from common.datasets.training_views import CAMERAS, INPUT, VIEWS, check_views, form_of
from common.draw import page
from common.errors import InputError
from common.run.options import Parser, Table, bool_string, number, saved_file
from common.run.script import world
from models import lifters

log = logging.getLogger(__name__)

LIFTERS = tuple(sorted(name for name, lifter in lifters.LIFTERS.items() if lifter.sees == "place"))
SIZES = ("dropout", "stages", "architecture", "causal")  # options that a lifter's constructor may take
WIDTHS = ("width", "hidden", "channels")  # what constructors call --width


def _pretrain(text: str) -> bool | str:
    """An option type: True, False or a file."""
    return bool_string(text) if text.lower() in ("true", "false") else str(saved_file(text))


DATA = (
    ("--dataset -d", str, "h36m",
     "reads data_3d_NAME.npz and data_2d_NAME_KEYPOINTS.npz; 'synthetic' is made on first use", "NAME"),
    ("--keypoints -k", str, "gt",
     "2D input: gt, cpn_ft_h36m_dbb, detectron_ft_h36m, hr or another detector's name", "NAME"),
    ("--data-dir", Path, "data", "where the .npz files lie", "DIR"),
    ("--cross_data", str, "auto",
     "sets of other people and cameras to score on, with commas: 3dhp, synthetic (made on first use), the test "
     "subjects of any set, a file laid out as test_3dhp.npz, none; auto: synthetic for --dataset synthetic, else 3dhp "
     "where its file is there", "NAME"),
    ("--subjects-test", str, "", TEST_HELP, "LIST"),
    ("--actions", str, "*", "actions by their exact names, * for all", "LIST"),
    ("--downsample", number(int, 1), 1, "use every n-th frame"),
    *NOISE,
)  # fmt: skip
TRAINING_DATA = (
    ("--subjects-train", str, "", TRAIN_HELP, "LIST"),
    ("--s1only", bool_string, False, "train on subject S1 only", "BOOL"),
)  # fmt: skip
LIFTER = (
    ("--posenet_name", LIFTERS, "videopose", "network from 2D to 3D"),
    ("--stages", number(int, 1), 4, "residual stages of mlp, gcn, videopose"),
    ("--width", number(int, 0), 0, "channels of mlp, gcn, videopose; 0: as published, 1024, 128, 1024"),
    ("--architecture", str, "",
     "videopose over time: odd filter widths such as 3,3,3,3,3 (243 frames); sets the number of stages", "WIDTHS"),
    ("--causal", bool, False, "videopose over time sees past frames only"),
    ("--flip_test", bool, False, "average with the mirrored input's output on the test subjects, too"),
)  # fmt: skip
DROPOUT = (("--dropout", number(float, high=1), 0.25, "rate; for stgcn -1 means its built-in rates"),)
RUN_FOLDER = (
    ("--checkpoint", Path, "checkpoint/debug", "runs go to DIR/LIFTER/KEYPOINTS/TIME_NOTE", "DIR"),
    ("--note", str, "debug", "name of the run"),
)  # fmt: skip
RESUME = (
    ("--resume -r", str, "", "continue a run exactly, in its folder: the last.pth.tar in it, or the folder", "FILE"),
)  # fmt: skip
TRAINING = (
    ("--batch_size -b", number(int, 2), 1024, "of all processes together"),
    ("--epochs -e", number(int, 1), 50, "number of epochs"),
    ("--no_max", bool, True, "do not clip the norm of the gradients to 1", None, {"dest": "max_norm"}),
)  # fmt: skip
BASELINE = (
    ("--pretrain", _pretrain, False,
     "start from a FILE's weights, or True: from the one pretrained baseline", "BOOL|FILE"),
    ("--lr", number(float, 0), 1e-3, "of Adam"),
    ("--lr_decay", number(int, 1), 100000, "steps between changes of the rate"),
    ("--lr_gamma", number(float, 0), 0.96, "factor on the rate at each change"),
    ("--lr_schedule", ("exponential", "cosine"), "exponential",
     "exponential: as --lr_decay and --lr_gamma say; cosine: from --lr down to 0 over all epochs, changed with each"),
    ("--average_weights", number(float, 0, 1), 0.0,
     "score and save an exponential average of the weights, of which each step keeps this share; 0: the last weights"),
    ("--snapshot", number(int, 1), 25, "epochs between numbered checkpoints"),
)  # fmt: skip
BASELINE_ALONE = (
    ("--flip_train", bool, False, "mirror every other pose at random"),
    ("--action-wise", bool_string, True, "print the errors by action at the end, too", "BOOL"),
)  # fmt: skip
POSEAUG = (
    ("--pretrain", _pretrain, True,
     "start from the one pretrained baseline of this lifter and 2D input, from nothing, or from FILE", "BOOL|FILE"),
    ("--lr_p", number(float, 0), 1e-4, "of the lifter's Adam"),
    ("--lr_g", number(float, 0), 1e-4, "of the augmentor's Adam"),
    ("--lr_d", number(float, 0), 1e-4, "of each discriminator's Adam"),
    ("--decay_epoch", number(int, 0), 0, "epochs before the rates begin to fall, linearly, to zero"),
    ("--warmup", number(int, 0), 2, "epochs in which the augmentor alone learns"),
    ("--df", number(int, 1), 2, "steps between updates of the discriminators"),
    ("--snapshot", number(int, 1), 2, "epochs between writes of last.pth.tar, to resume from"),
    ("--viz_every", number(int, 0), 400, "steps between pictures; 0: none"),
    ("--bone_lengths", Path, None,
     ".npy of (people, 15) lengths in metres to swap in; default: those of Human3.6M's training subjects", "FILE"),
)  # fmt: skip
AUGMENTOR = (
    ("--ba_range_m", number(float, 0), 0.205, "bone angle: middle of the free range of 1 - cos, mean over the bones"),
    ("--ba_range_w", number(float, 0), 0.165, "bone angle: half the width of the free range"),
    ("--blr_tanhlimit", number(float, 0), 0.2, "bone length: largest relative change"),
    ("--blr_limit", number(float, 0), 0.1, "bone length: relative change that is free"),
)  # fmt: skip
FEEDBACK = (
    ("--hardratio_ba_s", number(float, 0), 3.0, "bone angle: ratio of the errors aimed at, at the start"),
    ("--hardratio_ba", number(float, 0), 5.0, "bone angle: the same, at the end"),
    ("--hardratio_std_ba", number(float, 0), 2.0, "bone angle: deviation from it that is free"),
    ("--hardratio_rt_s", number(float, 0), 17.0, "rigid motion: ratio of the errors aimed at, at the start"),
    ("--hardratio_rt", number(float, 0), 17.0, "rigid motion: the same, at the end"),
    ("--hardratio_std_rt", number(float, 0), 15.0, "rigid motion: deviation from it that is free"),
)  # fmt: skip
WEIGHTS = (
    ("--gloss_factord2d", number(float, 0), 1.0, "2D discriminator"),
    ("--gloss_factord3d", number(float, 0), 6.0, "3D discriminator"),
    ("--gloss_factordiff", number(float, 0), 3.0, "range of the changes"),
    ("--gloss_factorblr", number(float, 0), 1.0, "of the bone lengths' part within that (the published code has it 1)"),
    ("--gloss_factorfeedback_ba", number(float, 0), 0.1, "feedback on bone angles"),
    ("--gloss_factordiv_ba", number(float, 0), 0.0, "spread of the ratios, bone angles"),
    ("--gloss_factorfeedback_rt", number(float, 0), 0.01, "feedback on rigid motion"),
    ("--gloss_factordiv_rt", number(float, 0), 0.0, "spread of the ratios, rigid motion"),
)  # fmt: skip
TESTING = (
    ("--evaluate", saved_file, None, "checkpoint to score; released/NAME for our own weights", "FILE"),
    ("--action-wise", bool_string, True, "print a table by action", "BOOL"),
    ("--output", Path, None, "for results_*.json; default: the checkpoint's folder", "DIR"),
    page.VIS_HTML,
)  # fmt: skip
WITHOUT_EFFECT = (("--num_workers", number(int, 0), 2, "the data lies on the device, no worker reads it"),)


def baseline_parser(description: str) -> Parser:
    """Options of `run_baseline.py`."""
    parser = _training_parser(description, (*TRAINING, *BASELINE, *BASELINE_ALONE))
    parser.add_table("What the lifter sees", INPUT, VIEWS)
    return parser


def poseaug_parser(description: str) -> Parser:
    """Options of `run_poseaug.py`."""
    parser = _training_parser(description, (*TRAINING, *POSEAUG))
    parser.add_table("Augmentor: how far it may go", AUGMENTOR)
    parser.add_table("Feedback: how much harder the lifter should find the augmented poses", FEEDBACK)
    parser.add_table("Weights of the augmentor's losses", WEIGHTS)
    parser.add_table("Cameras of the training poses; a pose's is drawn anew in every epoch", CAMERAS)
    return parser


def _training_parser(description: str, training: Table) -> Parser:
    parser = Parser(description)
    parser.add_table("Data", DATA, TRAINING_DATA)
    parser.add_table("Lifter", LIFTER, DROPOUT)
    parser.add_table("Files", RUN_FOLDER, RESUME)
    parser.add_run_options("--random_seed", "--seed")
    parser.add_table("Training", training)
    parser.accept(WITHOUT_EFFECT)
    parser.refuse("run_evaluate.py scores checkpoints, with this --posenet_name and --keypoints", TESTING[:1])
    parser.then(_settle_subjects)
    parser.then(lambda args: check_views(parser, args))
    return parser


def _settle_subjects(args: Any) -> None:
    settle_train(args, args.dataset)
    settle_test(args, args.dataset.split(",")[0])
    check_apart(args)


def evaluation_parser(description: str) -> Parser:
    """Options of `run_evaluate.py`."""
    parser = Parser(description)
    parser.add_table("Data", DATA)
    parser.add_table("Lifter", LIFTER)
    parser.add_table("Testing", TESTING)
    parser.add_run_options("--random_seed", "--seed", training=False, draws=False)
    parser.accept(TRAINING_DATA, DROPOUT, RUN_FOLDER, TRAINING, BASELINE, WITHOUT_EFFECT)
    parser.then(lambda args: settle_test(args, args.dataset))
    return parser


def check_options(parser: Parser, args: Any) -> None:
    """Refuse what the training scripts cannot do, level the rest."""
    check_lifter(parser, args)
    if args.dropout < 0 and args.posenet_name != "stgcn":
        parser.error(f"--dropout {args.dropout}: only stgcn has built-in rates; expected a number from 0 to 1")
    if args.s1only:
        args.subjects_train = "S1"


def check_lifter(parser: Parser, args: Any) -> None:
    """Refuse options that do not fit the lifter."""
    if (args.architecture or args.causal) and args.posenet_name != "videopose":
        parser.error(f"--architecture and --causal are for videopose; {args.posenet_name} sees one frame at a time")


def lifter_sizes(args: Any) -> dict[str, Any]:
    """The constructor's arguments of the lifter that the options ask for."""
    taken = inspect.signature(lifters.LIFTERS[args.posenet_name].network).parameters
    sizes = {name: getattr(args, name) for name in SIZES if name in taken and name in vars(args)}
    if getattr(args, "width", 0):
        sizes |= {name: args.width for name in WIDTHS if name in taken}
    form = form_of(args)
    if form.features > 2 and "features" not in taken:
        raise InputError(
            f"{args.posenet_name} takes x and y of a joint alone: leave out --sees {form.sees} and --confidences"
        )
    sizes |= {"features": form.features} if form.features > 2 else {}
    return {name: value or None if name == "architecture" else value for name, value in sizes.items()}


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
