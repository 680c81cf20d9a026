"""Options of the three encoder-decoder scripts (Rhodin et al., ECCV 2018)."""

from pathlib import Path
from typing import Any

from common.errors import InputError
from common.h36m import TRAIN_SUBJECTS
from common.run.options import Parser, bool_string, number

SYNTHETIC_TRAIN = ",".join(subject.removeprefix("S") for subject in TRAIN_SUBJECTS)


def add_data_options(parser: Parser, cameras: int = 2, subject_batches: bool = True) -> None:
    """Where the images are and how batches are made of them. cameras, subject_batches: the stage's published ones."""
    data = parser.add_argument_group("Data")
    data.add_argument(
        "-d", "--data_dir", "--train_folder", dest="data_dir", type=Path, default=None, metavar="DIR",
        help="multi-view folder with labels.h5; without one a synthetic folder is made, once",
    )  # fmt: skip
    data.add_argument("--test_folder", type=Path, default=None, metavar="DIR", help="to score on, if it is another one")
    data.add_argument(
        "--input_dimension", "--inputDimension", dest="input_dimension", type=number(int, 4), default=128,
        help="side of the images, pixels",
    )  # fmt: skip
    data.add_argument(
        "--actor_subset", metavar="LIST",
        help="subjects to train on, numbers, or all but those to score on (published: 1; the synthetic folder: "
        f"{SYNTHETIC_TRAIN})",
    )  # fmt: skip
    data.add_argument("--test_subjects", metavar="LIST", help="subjects to score on (9,11 as far as they are there)")
    data.add_argument("--active_cameras", default="all", metavar="LIST", help="cameras to use, numbers or all")
    data.add_argument(
        "--every_nth_frame", type=number(int, 1), metavar="N",
        help="take every n-th frame (published: 100; the synthetic folder, spread out already: 1)",
    )  # fmt: skip
    data.add_argument(
        "--use_cam_batches", "--useCamBatches", dest="use_cam_batches", type=number(int, cameras), default=cameras,
        help="views of a frame that go together" + ("" if cameras else "; 0: all"),
    )  # fmt: skip
    data.add_argument(
        "--use_subject_batches", "--useSubjectBatches", dest="use_subject_batches", type=bool_string,
        default=subject_batches, metavar="BOOL", help="with each frame another one of the same sequence",
    )  # fmt: skip
    data.add_argument("-b", "--batch_size", type=number(int, 2), default=32, help="images, of all processes together")
    data.add_argument("--batch_size_test", type=number(int, 1), default=8, help="images scored at once")
    data.add_argument("--num_workers", type=number(int, 0), default=4, help="processes that read images")
    data.add_argument(
        "--preload_gb", type=number(float, 0), default=4.0, metavar="GB",
        help="keep the images in the device's memory where they take no more than this; 0: always read the files",
    )  # fmt: skip
    data.add_argument("--synthetic_dir", type=Path, default=Path("data"), metavar="DIR", help="of the synthetic folder")
    data.add_argument(
        "--synthetic_frames", type=number(int, 4), default=200, help="its frames of each subject, in four cameras each"
    )


def add_network_options(parser: Parser) -> None:
    """Sizes of the network."""
    group = parser.add_argument_group("Network")
    group.add_argument(
        "--encoder_type", "--encoderType", dest="encoder_type", type=str.lower, choices=("resnet", "unet"),
        default="resnet",
    )  # fmt: skip
    group.add_argument("--feature_scale", type=number(int, 1), default=2, help="divides the numbers of channels")
    group.add_argument("--num_encoding_layers", type=number(int, 2, 6), default=4, help="resolutions of the UNet")
    group.add_argument("--latent_fg", type=number(int, 1), default=128, help="numbers of the appearance")
    group.add_argument("--latent_3d", type=number(int, 3), default=600, help="numbers of the geometry, three a point")
    group.add_argument("--upsampling", choices=("upper", "half"), default="upper", help="upper: bilinear")
    group.add_argument("--skip_background", type=bool_string, default=True, metavar="BOOL", help="show the background")
    group.add_argument(
        "--implicit_rotation", type=bool_string, default=False, metavar="BOOL",
        help="layers that see the rotation's numbers instead of turning the points",
    )  # fmt: skip


def add_training_options(parser: Parser, dropout: float, shuffle: bool, folder: str) -> None:
    """Length and pace of a run; the stage's published values."""
    training = parser.add_argument_group("Training")
    training.add_argument("--latent_dropout", type=number(float, 0, 1), default=dropout, help="rate at the latents")
    why = "turn views into each other at random" if shuffle else "published; the pose does not depend on it"
    training.add_argument("--shuffle_3d", type=bool_string, default=shuffle, metavar="BOOL", help=why)
    why = "exchange looks at random" if shuffle else "published; the pose does not depend on it"
    training.add_argument("--shuffle_fg", type=bool_string, default=shuffle, metavar="BOOL", help=why)
    training.add_argument("--learning_rate", "--lr", dest="learning_rate", type=number(float, 0), default=0.001)
    training.add_argument("-e", "--epochs", type=number(int, 1), default=40, help="number of epochs")
    training.add_argument(
        "--num_training_iterations", type=number(int, 1), default=600000, metavar="STEPS",
        help="end after so many steps, where that is sooner",
    )  # fmt: skip
    training.add_argument("--print_every", type=number(int, 1), default=100, metavar="STEPS", help="print the losses")
    training.add_argument("--plot_every", type=number(int, 1), default=5000, metavar="STEPS", help="example pictures")
    training.add_argument(
        "--test_every", type=number(int, 1), default=5000, metavar="STEPS", help="score; and at the end in any case"
    )
    training.add_argument(
        "--drift", action="store_true",
        help="as published, let batch-norm statistics of frozen layers drift",
    )  # fmt: skip
    files = parser.add_argument_group("Files")
    files.add_argument("-c", "--checkpoint", type=Path, default=Path(folder), metavar="DIR", help="the run")
    files.add_argument("-r", "--resume", default="", metavar="FILE", help="last.pth of the run, or its folder")


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
