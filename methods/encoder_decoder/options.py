"""Options of the three encoder-decoder scripts (Rhodin et al., ECCV 2018)."""

from pathlib import Path
from typing import Any

from common.draw import page
from common.errors import InputError
from common.h36m import TRAIN_SUBJECTS
from common.run.options import Parser, Table, bool_string, number

SYNTHETIC_TRAIN = ",".join(subject.removeprefix("S") for subject in TRAIN_SUBJECTS)


FOLDER = (
    ("-d --data-dir --train_folder", Path, None,
     "multi-view folder with labels.h5; without one a synthetic folder is made, once", "DIR"),
    ("--test_folder", Path, None, "to score on, if it is another one", "DIR"),
    ("--input_dimension --inputDimension", number(int, 4), 128, "side of the images, pixels"),
    ("--actor_subset", str, None,
     "subjects to train on, numbers, or all but those to score on (published: 1; the synthetic folder: "
     f"{SYNTHETIC_TRAIN})", "LIST"),
    ("--test_subjects", str, None, "subjects to score on (9,11 as far as they are there)", "LIST"),
    ("--active_cameras", str, "all", "cameras to use, numbers or all", "LIST"),
    ("--every_nth_frame", number(int, 1), None,
     "take every n-th frame (published: 100; the synthetic folder, spread out already: 1)", "N"),
    ("--preload_gb", number(float, 0), 4.0,
     "keep the images in the device's memory where they take no more than this; 0: always read the files", "GB"),
    ("--synthetic_dir", Path, "data", "of the synthetic folder", "DIR"),
    ("--synthetic_frames", number(int, 4), 200, "its frames of each subject, in four cameras each"),
)  # fmt: skip
SCORED = (("--batch_size_test", number(int, 1), 8, "images scored at once"),)
WORKERS = (("--num_workers", number(int, 0), 4, "processes that read images"),)

NETWORK = (
    ("--encoder_type --encoderType", ("resnet", "unet"), "resnet", "ResNet-50, or a UNet", None, {"type": str.lower}),
    ("--feature_scale", number(int, 1), 2, "divides the numbers of channels"),
    ("--num_encoding_layers", number(int, 2, 6), 4, "resolutions of the UNet"),
    ("--latent_fg", number(int, 1), 128, "numbers of the appearance"),
    ("--latent_3d", number(int, 3), 600, "numbers of the geometry, three a point"),
    ("--upsampling", ("upper", "half"), "upper", "upper: bilinear"),
    ("--skip_background", bool_string, True, "show the background", "BOOL"),
    ("--implicit_rotation", bool_string, False,
     "layers that see the rotation's numbers instead of turning the points", "BOOL"),
)  # fmt: skip
LOSSES = (
    ("--mae --MAE", bool_string, True, "absolute, else squared", "BOOL"),
    ("--loss_weight_rgb", number(float, 0), 1, "of the pixels"),
    ("--loss_weight_gradient", number(float, 0), 0, "of their derivatives"),
    ("--loss_weight_imagenet", number(float, 0), 2, "of ResNet-18's features"),
    ("--loss_weight_3d", number(float, 0), 0, "of the pose, which needs labels"),
    ("--do_maxpooling", bool_string, True, "pool in the feature network, too", "BOOL"),
    ("--imagenet_weights", str, "download",
     "of the feature network: resnet18-f37072fd.pth, download, or none: without that term", "FILE"),
    ("--encoder_weights", str, "download",
     "the ResNet encoder starts from: resnet50-0676ba61.pth, download, or none: all of it is trained", "FILE"),
)  # fmt: skip
PRETRAINED = (
    ("--pretrained", Path, "checkpoint/encoder_decoder/best-model.pth",
     "file of train_encoder_decoder.py, or a released one (network_best_val_t1.pth)", "FILE"),
)  # fmt: skip
LATENT_DROPOUT = (("--latent_dropout", number(float, 0, 1), 0.3, "rate at the latents"),)
SHUFFLE = (
    ("--shuffle_3d", bool_string, True, "turn views into each other at random", "BOOL"),
    ("--shuffle_fg", bool_string, True, "exchange looks at random", "BOOL"),
)  # fmt: skip
RATE = (("--learning_rate --lr", number(float, 0), 0.001, "of Adam"),)
LENGTH = (
    ("-e --epochs", number(int, 1), 40, "number of epochs"),
    ("--num_training_iterations", number(int, 1), 600000, "end after so many steps, where that is sooner", "STEPS"),
    ("--print_every", number(int, 1), 100, "print the losses", "STEPS"),
    ("--plot_every", number(int, 1), 5000, "example pictures", "STEPS"),
    ("--test_every", number(int, 1), 5000, "score; and at the end in any case", "STEPS"),
    ("--drift", bool, False, "as published, let batch-norm statistics of frozen layers drift"),
)  # fmt: skip
RUN_FOLDER = (
    ("-c --checkpoint", Path, "checkpoint/encoder_decoder", "the run", "DIR"),
    ("-r --resume", str, "", "last.pth of the run, or its folder", "FILE"),
)  # fmt: skip
TESTING = (
    ("-c --ckpt", Path, ..., "trained network", "FILE"),
    ("--output", Path, None, "default: a folder beside the file", "DIR"),
    ("--viewer", bool, False, "open the viewer, which needs a display"),
    ("--gif", bool, False, "write the sweep of the yaw"),
    ("--image", number(int, 0), 0, "which held-out image to turn", "N"),
    ("--angles", number(int, 8), 36, "views of the sweep", "N"),
    page.VIS_HTML,
)  # fmt: skip
FEW_LABELS = (
    ("--label_fraction", str, "", "parts of the training labels, 0 to 1, with commas between", "LIST"),
    ("--label_steps", number(int, 1), 1000, "training steps for each"),
)  # fmt: skip
# Of the pose stage: there is one scale of the poses to choose from.
ONE_SCALE = (("--train_scale_normalized", ("mean_std",), "mean_std", "of the poses"),)


def _batches(cameras: int, subject_batches: bool) -> Table:
    """How batches are made; a stage's published cameras of a frame (0: all) and pairs of frames."""
    text = "views of a frame that go together" + ("" if cameras else "; 0: all")
    return (
        ("--use_cam_batches --useCamBatches", number(int, cameras), cameras, text),
        ("--use_subject_batches --useSubjectBatches", bool_string, subject_batches,
         "with each frame another one of the same sequence", "BOOL"),
        ("-b --batch_size", number(int, 2), 32, "images, of all processes together"),
    )  # fmt: skip


def synthesis_parser(description: str) -> Parser:
    """Options of `train_encoder_decoder.py`: the published ones and ours."""
    parser = Parser(description)
    parser.add_table("Data", FOLDER, _batches(2, True), SCORED, WORKERS)
    parser.add_table("Network", NETWORK)
    parser.add_table("Losses", LOSSES)
    parser.add_table("Training", LATENT_DROPOUT, SHUFFLE, RATE, LENGTH)
    parser.add_table("Files", RUN_FOLDER)
    parser.add_run_options()
    return parser


def pose_parser(description: str) -> Parser:
    """Options of `train_encoder_decoder_pose.py`, with the stage's published defaults."""
    parser = Parser(description)
    parser.add_table("Data", FOLDER, _batches(0, False), WORKERS)
    parser.add_table("Network", PRETRAINED)
    parser.add_table("Training", LATENT_DROPOUT, RATE, LENGTH)
    parser.add_table("Files", RUN_FOLDER)
    parser.add_run_options()
    parser.accept(SCORED, SHUFFLE, ONE_SCALE)  # images are scored by their points; the pose depends on no shuffling
    parser.set_defaults(input_dimension=None, latent_dropout=0.0, checkpoint=Path("checkpoint/encoder_decoder_pose"))
    return parser


def testing_parser(description: str) -> Parser:
    """Options of `test_encoder_decoder.py`: ours; the data's are those of the training."""
    parser = Parser(description)
    parser.add_table("Data", FOLDER, _batches(0, False), SCORED)
    parser.add_table("Testing", TESTING)
    parser.add_table("Few labels", FEW_LABELS, RATE)
    parser.add_run_options(training=False)
    parser.accept(WORKERS)
    parser.set_defaults(input_dimension=None)
    return parser


def network_sizes(args: Any) -> dict[str, Any]:
    """The arguments of `EncoderDecoder` that the options ask for."""
    return {
        "resolution": args.input_dimension, "encoder": args.encoder_type, "feature_scale": args.feature_scale,
        "layers": args.num_encoding_layers, "latent_fg": args.latent_fg, "latent_3d": args.latent_3d,
        "dropout": args.latent_dropout, "upsampling": args.upsampling, "skip_background": args.skip_background,
        "implicit_rotation": args.implicit_rotation,
    }  # fmt: skip


def numbers(text: str | None, name: str) -> tuple[int, ...] | None:
    """`1,5,6` as numbers; None for all."""
    if text is None or text == "all":
        return None
    parts = [part.strip() for part in str(text).split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts):
        raise InputError(f"--{name} {text}: expected whole numbers with commas between, or all")
    return tuple(map(int, parts))
