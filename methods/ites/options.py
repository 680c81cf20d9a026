"""Options of the four ITES scripts, as published (Xu et al., AAAI 2021)."""

from argparse import Namespace
from pathlib import Path

from common.datasets.contract import TEST_HELP, TRAIN_HELP, check_apart, settle_test, settle_train
from common.datasets.projected import NOISE
from common.datasets.training_views import BONES, CAMERAS, check_views
from common.draw import page
from common.run.options import Parser, number, saved_file

DATA = (
    ("-d --dataset", str, "h36m",
     "reads data_3d_NAME.npz and data_2d_NAME_KEYPOINTS.npz; 'synthetic' is made on first use", "NAME"),
    ("-k --keypoints", str, "cpn_ft_h36m_dbb", "2D input: gt or a detector's name", "NAME"),
    ("--data-dir", Path, "data", "where the .npz files lie", "DIR"),
    ("-ste --subjects-test", str, "", TEST_HELP, "LIST"),
    ("-a --actions", str, "*", "actions by name or beginning, * for all", "LIST"),
    ("--subset", number(float, 0, 1), 1.0, "share of each sequence"),
    ("--downsample", number(int, 1), 1, "use every n-th frame"),
    *NOISE,
)  # fmt: skip
TRAINING_DATA = (("-str --subjects-train", str, "", TRAIN_HELP, "LIST"),)
RUN_FOLDER = (
    ("-c --checkpoint", Path, "checkpoint", "the run's folder", "DIR"),
    ("-r --resume", str, "",
     "continue a run exactly; last.bin or another checkpoint of the run, or its folder", "FILE"),
)  # fmt: skip
SAVED_NETWORK = (
    ("-c --checkpoint", saved_file, "checkpoint", "the checkpoint to test; released/NAME for ours", "FILE"),
)  # fmt: skip
SAVED_TEACHER = (
    ("--teacher_checkpoint", saved_file, "checkpoint/teacher/ckpt_teacher.bin", "trained teacher", "FILE"),
)  # fmt: skip
TEACHER = (
    ("--n-fully-connected", number(int, 4), 1024, "teacher: width"),
    ("--n-layers", number(int, 0), 6, "teacher: residual blocks"),
    ("--dict-basis-size", number(int, 1), 12, "teacher: dictionary atoms"),
)  # fmt: skip
NEW_TEACHER = (("--weight-init-std", number(float, 0), 0.01, "teacher: of the initial weights"),)
STUDENT = (
    ("--n-blocks", number(int, 1), 4, "student: residual blocks"),
    ("--hid-dim", number(int, 2), 128, "student: channels"),
)  # fmt: skip
TRAINING = (
    ("-e --epochs", number(int, 1), 50, "number of epochs"),
    ("-b --batch-size", number(int, 2), 128, "of all processes together"),
    ("-lr --learning-rate", number(float, 0), 0.001, "of SGD"),
    ("-lrd --lr-decay", number(float, 0), 0.5, "factor on the rate at each decay"),
    ("-decay --epoch-lr-decay", number(int, 1), 15, "epochs between decays"),
    ("--momentum", number(float, 0, 1), 0.9, "of SGD"),
    ("--weight-decay", number(float, 0), 0.0005, "of SGD, on all parameters"),
    ("--reploss-weight", number(float, 0), 5.0, "weight of the teacher's reprojection, the student's depth loss"),
    ("--no-eval", bool, False, "do not score the test subjects after each epoch"),
)  # fmt: skip
TESTS = (
    ("--evaluate", bool, False, "score the checkpoint; also without --vis and --vis-html"),
    ("--vis", bool, False, "write GIFs of input, prediction and truth"),
    page.VIS_HTML,
)  # fmt: skip
PICTURES = (
    ("--vis-subject", str, "", "subjects to draw; default: the first", "LIST"),
    ("--vis-action", str, "", "actions to draw; default: the first", "LIST"),
    ("--vis-camera", number(int, 0), 0, "camera to draw", "N"),
    ("--vis-frames", number(int, 1), 100, "length of a GIF, in pictures", "N"),
    ("--output", Path, None,
     "for results.json and GIFs; default: a folder beside the checkpoint, named by data and 2D input", "DIR"),
)  # fmt: skip
# The data lies on the device, no worker reads it; the published student has no dropout.
WITHOUT_EFFECT = (
    ("-nw --num_workers", number(int, 0), 8, ""),
    ("-drop --dropout", number(float, 0, 1), 0.25, ""),
)  # fmt: skip


def teacher_parser(description: str) -> Parser:
    """Options of `train_teacher.py`."""
    parser = _training_parser(description, (), (*TEACHER, *NEW_TEACHER))
    parser.accept(SAVED_TEACHER, STUDENT)
    return parser


def student_parser(description: str) -> Parser:
    """Options of `train_student.py`."""
    parser = _training_parser(description, SAVED_TEACHER, (*TEACHER, *STUDENT))
    parser.accept(NEW_TEACHER)
    return parser


def _training_parser(description: str, files: tuple, network: tuple) -> Parser:
    parser = Parser(description)
    parser.add_table("Data", DATA, TRAINING_DATA)
    parser.add_table("Files", RUN_FOLDER, files)
    parser.add_table("Network", network)
    parser.add_table("Training", TRAINING)
    parser.add_table("Cameras of the training poses", CAMERAS, BONES)
    parser.add_run_options()
    parser.accept(PICTURES, WITHOUT_EFFECT)
    parser.refuse("the test scripts score and draw; training, with --resume or without, scores every epoch", TESTS)
    parser.then(_settle_subjects)
    parser.then(lambda args: check_views(parser, args))
    return parser


def _settle_subjects(args: Namespace) -> None:
    settle_train(args, args.dataset)
    settle_test(args, args.dataset)
    if not args.no_eval:
        check_apart(args)


def testing_parser(description: str, network: str) -> Parser:
    """Options of `test_teacher.py` and `test_student.py`; network: teacher or student."""
    sizes, others = (TEACHER, STUDENT) if network == "teacher" else (STUDENT, TEACHER)
    parser = Parser(description)
    parser.add_table("Data", DATA)
    parser.add_table("Files", SAVED_NETWORK)
    parser.add_table("Network", sizes)
    parser.add_table("Testing", TESTS, PICTURES)
    parser.add_run_options(training=False, draws=False)
    parser.accept(TRAINING_DATA, SAVED_TEACHER, others, NEW_TEACHER, TRAINING, CAMERAS, BONES, WITHOUT_EFFECT)
    parser.refuse("the training scripts go on with a run; this one scores a checkpoint (--evaluate)", RUN_FOLDER[1:])
    parser.then(lambda args: settle_test(args, args.dataset))
    return parser
