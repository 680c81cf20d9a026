"""How `benchmarks.compare_methods` trains each method: its published scripts, their options, stages and files.

A method of several stages (a teacher before its student, a baseline before PoseAug, view synthesis before its pose
head, three stages of the hourglass) shares its budget out among them in equal parts. What is scored is the last state
of the last stage: no epoch is chosen on the test subjects.
"""

from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import InputError
from methods.poseaug.options import LIFTERS

ROOT = Path(__file__).resolve().parent.parent
MANY = "1000000"  # epochs, steps: the budget ends a run
IMAGE_SIZE = {"hourglass": 128, "encoder_decoder": 64}  # pixels, of the small recipes in configs/

# PoseAug's published recipes: of the lifter, of its baseline's training, of its own.
SIZES = {
    "gcn": ("--stages", "4", "--dropout", "0"),
    "mlp": ("--stages", "2"),
    "stgcn": ("--dropout", "-1"),
    "videopose": ("--stages", "4"),
}
BASELINE_RATE = {"gcn": "2e-2", "mlp": "1e-3", "stgcn": "1e-3", "videopose": "1e-3"}
POSEAUG_RATE = {"gcn": "1e-3", "mlp": "1e-4", "stgcn": "1e-4", "videopose": "1e-4"}


@dataclass(frozen=True)
class Stage:
    """One training run. options: (args, its folder, checkpoint of the stage before, if any) -> words."""

    script: str
    options: Callable[[Namespace, Path, Path | None], Sequence[str]]
    checkpoints: tuple[str, ...]  # patterns, in the run's folder, of its newest state


@dataclass(frozen=True)
class Method:
    """kind: how it is scored; "lifter", "hourglass", "encoder_decoder"; "trivial" is not trained."""

    kind: str
    supervision: str
    stages: tuple[Stage, ...] = ()


def methods(poseaug: Sequence[str] = ("mlp",)) -> dict[str, Method]:
    """All that there are, by name. poseaug: the lifters that PoseAug trains."""
    teacher = Stage("train_teacher.py", _ites, ("last.bin", "ckpt_teacher.bin"))
    student = Stage("train_student.py", _student, ("last.bin", "ckpt_student.bin"))
    found = {
        "no_depth": Method("trivial", "none"),
        "teacher": Method("lifter", "2D only", (teacher,)),
        "student": Method("lifter", "2D only", (teacher, student)),
    }
    baseline = {name: Stage("run_baseline.py", _baseline(name), ("**/last.pth.tar",)) for name in LIFTERS}
    found |= {name: Method("lifter", "3D", (baseline[name],)) for name in ("mlp", "gcn", "videopose", "stgcn")}
    for name in poseaug:
        stage = Stage("run_poseaug.py", _poseaug(name), ("**/last.pth.tar",))
        found[f"poseaug_{name}"] = Method("lifter", "3D", (baseline[name], stage))
    for name in ("kudo", "chen"):
        found[name] = Method("lifter", "2D only", (Stage("train_gan.py", _gan(name), ("last.ckpt",)),))
    images = (Stage("train_hourglass.py", _hourglass(i), ("**/model_last.pth",)) for i in (1, 2, 3))
    found["hourglass"] = Method("hourglass", "3D and 2D", tuple(images))
    views = Stage("train_encoder_decoder.py", _views, ("last.pth",))
    head = Stage("train_encoder_decoder_pose.py", _head, ("last.pth",))
    found["encoder_decoder"] = Method("encoder_decoder", "multi-view, 3D for its head", (views, head))
    return found


def newest(folder: Path, patterns: Sequence[str]) -> Path:
    """The newest state in a run's folder; the states of single epochs, which would fill a disk, are removed."""
    for path in folder.glob("*_model_epoch_*.bin"):
        path.unlink()
    files = [path for pattern in patterns for path in folder.glob(pattern)]
    if not files:
        raise InputError(f"no state ({', '.join(patterns)}) in {folder}: give the methods more --minutes or --steps")
    return max(files, key=lambda path: path.stat().st_mtime)


def run_words(args: Namespace) -> list[str]:
    """The options of "Running" that every script has."""
    words = ["--device", args.device, "--seed", str(args.seed), "--threads", str(args.threads)]
    return words + [f"--{name}" for name in ("amp", "compile", "no_cuda_graphs") if getattr(args, name)]


def hourglass_data(args: Namespace) -> list[str]:
    """The rendered images that the hourglass learns from and is scored on."""
    size = str(IMAGE_SIZE["hourglass"])
    return [
        "--dataset", "synthetic", "--motion", args.dataset, "--data_dir", str(args.data_dir),
        "--subjects-train", args.subjects_train, "--subjects-test", args.subjects_test,
        "--actions", "*", "--facing", "180",  # everybody, where the recipes choose
        "--synthetic_images", str(args.images), "--synthetic_test", str(max(1, args.images // 5)),
        "--input_h", size, "--input_w", size,
    ]  # fmt: skip


def views_data(args: Namespace) -> list[str]:
    """The multi-view images that the encoder-decoder learns from and is scored on."""
    train, test = (
        ",".join(name.strip().removeprefix("S") for name in text.split(","))
        for text in (args.subjects_train, args.subjects_test)
    )
    folder = str(views_folder(args))
    return ["-d", folder, "--actor_subset", train, "--test_subjects", test, "--every_nth_frame", "1"]


def views_folder(args: Namespace) -> Path:
    return args.output / f"multiview_{args.dataset}_{IMAGE_SIZE['encoder_decoder']}_{args.frames}"


def views_command(args: Namespace) -> list[str]:
    """The script and its options that write this folder, or find it finished; one of other subjects is replaced."""
    return [
        "data/make_synthetic.py", "--multiview", str(views_folder(args)), "--force", "--dataset", args.dataset,
        "--data-dir", str(args.data_dir), "--subjects", f"{args.subjects_train},{args.subjects_test}",
        "--size", str(IMAGE_SIZE["encoder_decoder"]), "--frames", str(args.frames),
    ]  # fmt: skip


# ------------------------------------------------------------ options of the scripts


def _data(args: Namespace) -> list[str]:
    return [
        "-d", args.dataset, "-k", args.keypoints, "--data-dir", str(args.data_dir),
        "--subjects-train", args.subjects_train, "--subjects-test", args.subjects_test,
        "--downsample", str(args.downsample),
    ]  # fmt: skip


def _ites(args: Namespace, folder: Path, before: Path | None) -> list[str]:
    return [*_data(args), "-c", str(folder), "--no-eval", "-e", MANY]


def _student(args: Namespace, folder: Path, before: Path | None) -> list[str]:
    return [*_ites(args, folder, before), "--teacher_checkpoint", str(before)]


def _lifter(args: Namespace, folder: Path, name: str) -> list[str]:
    words = ["--posenet_name", name, "--checkpoint", str(folder), "--note", "compare", "--cross_data", "none"]
    return [*_data(args), *SIZES[name], *words]


def _baseline(name: str) -> Callable[..., list[str]]:
    more = ["--lr", BASELINE_RATE[name], "--epochs", MANY, "--snapshot", MANY, "--action-wise", "False"]
    return lambda args, folder, before: [*_lifter(args, folder, name), *more]


def _poseaug(name: str) -> Callable[..., list[str]]:
    # Its rates and its feedback change over the published 50 epochs, which therefore stay. It saves finished epochs.
    more = ["--lr_p", POSEAUG_RATE[name], "--snapshot", "1", "--viz_every", "0"]
    more += ["--dropout", "0"] * (name == "stgcn")  # published: the built-in rates in the baseline only
    return lambda args, folder, before: [*_lifter(args, folder, name), *more, "--pretrain", str(before)]


def _gan(name: str) -> Callable[..., list[str]]:
    more = ["--config", str(ROOT / "configs" / f"gan_{name}.yaml"), "--epochs", MANY]
    return lambda args, folder, before: [*more, *_data(args), "--checkpoint", str(folder)]


def _hourglass(stage: int) -> Callable[..., list[str]]:
    more = ["--config", str(ROOT / "configs" / f"hourglass_synthetic_{stage}.yaml"), "--exp_id", f"stage_{stage}"]
    more += ["--num_epochs", MANY, "--lr_step", "", "--val_intervals", "0"]

    def words(args: Namespace, folder: Path, before: Path | None) -> list[str]:
        start = ["--load_model", str(before)] if before else []
        return [*more, *hourglass_data(args), "--exp_dir", str(folder), *start]

    return words


def _views(args: Namespace, folder: Path, before: Path | None) -> list[str]:
    words = ["--config", str(ROOT / "configs" / "encoder_decoder_small.yaml"), *_until_stopped()]
    return [*words, *views_data(args), "-c", str(folder)]


def _head(args: Namespace, folder: Path, before: Path | None) -> list[str]:
    words = ["--pretrained", str(before), "--num_workers", "0", *_until_stopped()]
    return [*words, *views_data(args), "-c", str(folder)]


def _until_stopped() -> list[str]:
    steps = ("--num_training_iterations", "--test_every", "--plot_every")
    return ["--epochs", MANY, *(word for name in steps for word in (name, "1000000000"))]
