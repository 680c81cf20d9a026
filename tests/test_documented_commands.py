"""Every command of the README, docs/ and the other guides, run on tiny data: the words as documented, all of them.

A story is a folder with the files that its commands look for, and the commands in an order in which each finds what it
needs. What stands for a placeholder (FILE, DIR, ...) is given by name; `*` in it finds the one file there is. Options
that make a command small are added behind its own words. `makes`: a file that the guides promise.
"""

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import models
from common.files.npz import load_npz, save_npz
from common.multiview.write import write_multiview
from common.run import checkpoint
from common.skeleton import H36M_17
from common.synthetic import cross, dataset
from methods.encoder_decoder import pictures
from models.encoder_decoder.network import EncoderDecoder
from tests import documented, test_demo_lifters
from tests.common.images import test_readers as readers
from tests.conftest import ROOT, Outcome
from tests.data import test_prepare_data_2d_h36m_sh as hourglass_detections
from tests.data import test_prepare_data_h36m as released
from tests.data.test_prepare_3dpw import sequence
from tests.data.test_prepare_3dpw import write as write_sequence
from tests.data.test_prepare_data_3dhp import spin_arrays
from tests.data.test_prepare_mpii import json_entries, people
from tests.methods.encoder_decoder import test_checkpoint as released_networks
from tests.motion_files import write_acclaim, write_clip, write_smpl_model
from tests.mpi_inf_files import write_testing, write_training
from tests.processes import fork_scripts, run_apart
from tests.test_poseaug_scripts import write_cross_data
from tests.tiny_dataset import tiny_keypoints, tiny_poses, write_tiny_dataset

pytestmark = pytest.mark.usefixtures("small")

# Not run by a test, and why.
ELSEWHERE = {
    "python3 -m venv .venv && .venv/bin/python -m pip install -q -r requirements.txt && .venv/bin/python quickstart.py":
        "installs packages and trains for minutes; tests/test_quickstart.py takes its steps, small",
    "python3 -m venv .venv && .venv/bin/python -m pip install -q -r requirements-dev.txt && .venv/bin/python -m pytest "
    "-q": "installs packages; .ci/run runs it, word for word",
    "python3 -m venv .venv && .venv/bin/python -m pip install -q -r requirements-video.txt": "installs packages",
    ".venv/bin/python demo.py --input VIDEO": "needs BlazePose's files: tests/test_demo_video.py has a stand-in",
    "python quickstart.py": "trains for minutes; tests/test_quickstart.py takes its steps, small",
    "python run_baseline.py --posenet_name linear --dataset synthetic --epochs 2 --checkpoint checkpoint/baseline":
        "needs the method that its page adds: tests/test_new_method.py runs it in a copy of the tree",
    "python run_evaluate.py --posenet_name linear --dataset synthetic --evaluate "
    "checkpoint/baseline/linear/gt/RUN/ckpt_best.pth.tar": "the same",
    "torchrun --standalone --nproc_per_node 2 run_baseline.py --dataset synthetic --posenet_name mlp --stages 2 "
    "--epochs 10": "tests/test_many_machines.py trains it so on tiny data, and goes on with it",
    "torchrun --nnodes 2 --nproc_per_node 4 --rdzv_backend c10d --rdzv_endpoint node1:29500 --max_restarts 3 "
    "run_baseline.py --dataset synthetic --posenet_name mlp --stages 2 --epochs 10 --resume checkpoint/job1":
        "takes two machines; tests/test_many_machines.py runs two on one",
    'srun torchrun --nnodes "$SLURM_NNODES" --nproc_per_node 4 --max_restarts 3 --rdzv_backend c10d '
    '--rdzv_id "$SLURM_JOB_ID" --rdzv_endpoint "$first:29500" run_baseline.py --dataset synthetic --posenet_name mlp '
    "--stages 2 --epochs 10 --resume checkpoint/job1": "takes SLURM; the same",
    "python benchmarks/train_step.py --methods hourglass encoder_decoder --batch-size 4 --rounds 3":
        "takes a minute; tests/benchmarks/test_step_of_images.py takes its steps one by one, small",
    "python -c 'import time, torch.distributed as d; store = d.TCPStore(\"0.0.0.0\", 29500, is_master=True, "
    "wait_for_workers=False); time.sleep(1e9)'": "waits; tests/test_many_machines.py keeps such a store",
    "python run_baseline.py -d mine -k gt --posenet_name mlp --stages 2 --epochs 1":
        "needs the file that its page makes: tests/data/test_readme.py runs both",
    "torchrun --nproc_per_node 2 SCRIPT ...": "tests/test_many_machines.py runs run_baseline.py so",
    "torchrun --nproc_per_node 2 train_teacher.py ...": "the same; tests/test_ites_scripts.py: its two processes",
    "train_hourglass.py --gpus 0,1": "becomes torchrun: tests/common/run/test_gpus.py; and test_hourglass_scripts.py",
    "train_hourglass.py --batch_size": "names an option",
    "python demo.py --input VIDEO --ckpt FILE": "needs BlazePose's files: tests/test_demo_video.py has a stand-in",
    "python benchmarks/mediapipe_pose.py VIDEO --python FILE": "needs mediapipe and BlazePose's files",
    "python benchmarks/real_people.py": "takes videos and BlazePose's files; tests/benchmarks/test_real_people.py",
    "run_baseline.py --config configs/mlp_pose.yaml": "trains for half an hour on real motion",
    "python run_baseline.py --config configs/pose_ablation.yaml --data-dir DIR": "the same recipe, for minutes",
    "run_baseline.py --config configs/videopose_pose.yaml": "the same, for a quarter of an hour",
    "train_gan.py --config configs/kudo_virtual.yaml": "the same, for ten minutes",
    "test_teacher.py --vis": "names an option",
    "python -m pytest -q -m slow": "takes hours; tests/test_killed_runs.py",
    "python run_summary.py --released": ".ci/run runs it; tests/methods/test_released.py, small",
    "python run_summary.py --released --data-dir DIR": "the same",
    "python benchmarks/fuzz.py --minutes 10": "tests/test_hostile_files.py runs it for seconds",
    "benchmarks/run_all.sh [LOG]": "runs all in full; tests/benchmarks/test_run_all.py has a stand-in do it",
}  # fmt: skip


def small_product(_) -> tuple[Callable[[], object], float]:
    """Takes the place of the matrix product that finds the machine's peak."""
    a = torch.randn(256, 256)
    return lambda: a @ a, 2 * 256**3 / 1e9


# What no option makes small, by name in the script's module.
CONSTANTS = {
    "benchmarks/train_step.py": {"TRAIN_POSES": 64, "TEST_POSES": 4, "make_peak": small_product},
    "benchmarks/poseaug_epoch.py": {"BATCH": 64, "make_peak": small_product},
}
# In a process of its own: it changes what the library does.
ALONE = ("benchmarks/within_budget.py",)


class Command(NamedTuple):
    """As documented; `added` goes behind it, `values` stand for its placeholders, `makes` is there afterwards."""

    text: str
    added: str
    makes: str
    values: dict[str, str]

    @property
    def words(self) -> list[str]:
        """With patterns for the one file of the name."""
        words = [*documented.words_of(self.text, self.values), *self.added.split()]
        return [one(word) if "*" in word else word for word in words]


class Story(NamedTuple):
    """`prepare` writes into the current folder."""

    prepare: Callable[[pytest.MonkeyPatch], None]
    commands: list[Command]


def show(text: str, added: str = "", makes: str = "", **values: str) -> Command:
    """A documented command."""
    return Command(" ".join(text.split()), added, makes, values)


def one(pattern: str) -> str:
    """The path that a pattern finds."""
    (path,) = Path().glob(pattern)
    return str(path)


# ------------------------------------------------------------ ITES


TEACHER = "--device cpu --n-fully-connected 32 --n-layers 2"
STUDENT = "--device cpu --hid-dim 16 --n-blocks 1"
BOTH = f"{TEACHER} --hid-dim 16 --n-blocks 1"  # the student's script makes a teacher, too


def prepare_ites(_) -> None:
    write_tiny_dataset("data", "h36m", keypoints=("gt", "cpn_ft_h36m_dbb"), frames=4, actions=("Walking",))
    write_tiny_dataset("data", "cmu", frames=4, actions=("Walking",))


ITES = [
    show("python train_teacher.py -k gt -e 50 -c checkpoint/teacher", f"-e 1 {TEACHER}",
         "checkpoint/teacher/tea_model_epoch_1.bin"),
    show("python train_student.py -k gt -e 40 -c checkpoint/student "
         "--teacher_checkpoint checkpoint/teacher/ckpt_teacher.bin", f"-e 1 {BOTH}",
         "checkpoint/student/stu_model_epoch_1.bin"),
    show("python test_teacher.py -k gt --evaluate -c checkpoint/teacher/ckpt_teacher.bin", TEACHER),
    show("python test_teacher.py -k cpn_ft_h36m_dbb --evaluate -c checkpoint/teacher/ckpt_teacher.bin", TEACHER),
    show("python test_student.py -k gt --evaluate -c checkpoint/student/ckpt_student.bin", STUDENT,
         "checkpoint/student/**/results.json"),
    show("python test_student.py -k gt --vis -c checkpoint/student/ckpt_student.bin", f"{STUDENT} --vis-frames 2",
         "checkpoint/student/**/*.gif"),
    show("python train_teacher.py --data-dir DIR -d cmu -k gt -e 8 -c checkpoint/teacher", f"-e 1 {TEACHER}",
         DIR="data"),
    show("python train_student.py --data-dir DIR -d cmu -k gt -e 8 -c checkpoint/student", f"-e 1 {BOTH}",
         DIR="data"),
]  # fmt: skip


# ------------------------------------------------------------ PoseAug


BASELINE = "--epochs 1 --device cpu"
POSEAUG = "--epochs 1 --device cpu --warmup 0 --viz_every 0"
PRETRAIN = "--checkpoint './checkpoint/pretrain_baseline' --keypoints gt"
AUGMENTED = "--checkpoint './checkpoint/poseaug' --keypoints gt"
PLAIN = "checkpoint/pretrain_baseline/mlp/gt/RUN/ckpt_best.pth.tar"


def prepare_poseaug(_) -> None:
    """The grid is the published one, of one lifter on exact 2D poses: its baseline is the command before."""
    write_tiny_dataset("data", "h36m", frames=4, actions=("Walking",))
    write_cross_data(Path("data_extra/test_set/test_3dhp.npz"))
    write_video()
    grid = yaml.safe_load(Path("configs/poseaug_grid.yaml").read_text()) | {"keypoints": ["gt"]}
    mlp = grid["lifters"]["mlp"]
    mlp["common"] |= {"epochs": 1, "device": "cpu"}
    mlp["poseaug"] |= {"warmup": 0, "viz_every": 0}
    grid["lifters"] = {"mlp": mlp}
    Path("configs/poseaug_grid.yaml").write_text(json.dumps(grid))  # JSON is YAML, too


def write_video() -> None:
    """Keypoints of a video as one file."""
    np.savez("video.npz", keypoints=test_demo_lifters.video(), layout="h36m17", image_size=(1000, 1002), fps=10)


POSEAUG_STORY = [
    show(f"python run_baseline.py --note pretrain --dropout 0 --lr 2e-2 --epochs 100 --posenet_name 'gcn' {PRETRAIN}",
         BASELINE),
    show(f"python run_baseline.py --note pretrain --lr 1e-3 --posenet_name 'videopose' {PRETRAIN}", BASELINE),
    show(f"python run_baseline.py --note pretrain --lr 1e-3 --stages 2 --posenet_name 'mlp' {PRETRAIN}", BASELINE,
         "checkpoint/pretrain_baseline/mlp/gt/*_pretrain/ckpt_best.pth.tar"),
    show(f"python run_baseline.py --note pretrain --dropout -1 --lr 1e-3 --posenet_name 'stgcn' {PRETRAIN}", BASELINE),
    show(f"python run_poseaug.py --note poseaug --dropout 0 --posenet_name 'gcn' --lr_p 1e-3 {AUGMENTED}", POSEAUG),
    show(f"python run_poseaug.py --note poseaug --posenet_name 'videopose' --lr_p 1e-4 {AUGMENTED}", POSEAUG,
         "checkpoint/poseaug/videopose/gt/*_poseaug/ckpt_best_dhp_p1.pth.tar"),
    show(f"python run_poseaug.py --note poseaug --dropout 0 --posenet_name 'stgcn' --lr_p 1e-4 {AUGMENTED}", POSEAUG),
    show("python run_evaluate.py --posenet_name 'videopose' --keypoints gt --evaluate FILE", "--device cpu",
         FILE="checkpoint/poseaug/videopose/gt/*/ckpt_best_h36m_p1.pth.tar"),
    show("python run_summary.py checkpoint --output checkpoint/summary", makes="checkpoint/summary/summary.md"),
    show("python run_summary.py --grid configs/poseaug_grid.yaml --run",
         makes="checkpoint/poseaug/mlp/gt/*/ckpt_best_h36m_p1.pth.tar"),
    show(f"python run_poseaug.py --note poseaug --posenet_name 'mlp' --lr_p 1e-4 --stages 2 {AUGMENTED}", POSEAUG),
    show("run_baseline.py --posenet_name videopose --architecture 3,3,3 --flip_train --flip_test", BASELINE),
    show(f"python demo.py --keypoints FOLDER_OR_FILE --ckpt {PLAIN} --image-size 1000x1002",
         "--device cpu --vis-frames 1", "demo_out/poses.bvh", FOLDER_OR_FILE="video.npz", RUN="*"),
    show("demo.py --keypoints DETECTIONS --ckpt FILE", "--device cpu --vis-frames 1", DETECTIONS="video.npz",
         FILE="checkpoint/poseaug/gcn/gt/*/ckpt_best_h36m_p1.pth.tar"),
]  # fmt: skip


def prepare_cmu(_) -> None:
    write_tiny_dataset("motion", "cmu", frames=4, actions=("Walking",))
    write_twin("motion")


def write_twin(folder: str) -> None:
    """A few poses that are taken for the synthetic set's cross-data twin."""
    stamp = f"{cross.NAME} version {cross.VERSION} seed 0"
    write_cross_data(Path("twin.npz"))
    save_npz(f"{folder}/{cross.FILE}", stamp=np.array(stamp), **load_npz("twin.npz"))


POSEAUG_CMU = [
    show("python run_baseline.py --data-dir DIR --dataset cmu --cross_data synthetic --note pretrain --epochs 20 "
         "--lr 1e-3 --stages 2 --posenet_name mlp --checkpoint checkpoint/pretrain_baseline", BASELINE, DIR="motion"),
    show("python run_poseaug.py --data-dir DIR --dataset cmu --cross_data synthetic --note poseaug --epochs 20 "
         "--lr_p 1e-4 --stages 2 --posenet_name mlp --checkpoint checkpoint/poseaug", POSEAUG, DIR="motion"),
]  # fmt: skip


def prepare_onnx(_) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    path = Path(PLAIN.replace("RUN", "run"))
    path.parent.mkdir(parents=True)
    checkpoint.save(path, {"state_dict": models.create("mlp", width=32, stages=1).state_dict()})


ONNX = [show(f"python export_onnx.py --ckpt {PLAIN}", RUN="*")]


# ------------------------------------------------------------ adversarial lifter


def write_synthetic(frames: int = 4, actions: tuple[str, ...] = ("Walking",)) -> None:
    """A tiny set that is taken for the synthetic one."""
    poses = tiny_poses(frames, actions=actions)
    views = {"positions_2d": tiny_keypoints(poses), "metadata": dataset.metadata()}
    stamp = np.array(f"{dataset.NAME} version {dataset.VERSION} seed 0")
    for name, arrays in zip(dataset.FILES, ({"positions_3d": poses}, views, views), strict=True):
        save_npz(Path("data") / name, stamp=stamp, **arrays)


def prepare_gan(_) -> None:
    for name in ("h36m", "cmu"):
        write_tiny_dataset("data", name, frames=4, actions=("Walking",))
    write_synthetic()
    strangers = np.random.default_rng(0).normal(0, 60, (60, 34)).cumsum(1) + 300
    np.save("data/mpii_poses.npy", strangers.astype(np.float32))
    Image.new("RGB", (1000, 1002), (90, 120, 90)).save("photo.png")
    np.save("pose.npy", test_demo_lifters.video()[0])


ONE_EPOCH = "-e 1 --device cpu"
GAN = [
    show("python train_gan.py --gpus 1 --batch_size 256", ONE_EPOCH, "checkpoint/gan/last.ckpt"),
    show("python train_gan.py --config configs/gan_kudo.yaml --dataset mpii,h36m --checkpoint checkpoint/gan",
         ONE_EPOCH, "checkpoint/gan/best-model.ckpt"),
    show("python train_gan.py --config configs/gan_chen.yaml --dataset mpii,h36m --checkpoint checkpoint/chen",
         ONE_EPOCH),
    show("python train_gan.py --config configs/gan_kudo.yaml --dataset synthetic --checkpoint checkpoint/kudo",
         ONE_EPOCH),
    show("python test_gan.py --dataset h36m --ckpt checkpoint/gan/best-model.ckpt", "--device cpu"),
    show("python demo.py --input IMAGE --method gan --ckpt checkpoint/gan/best-model.ckpt --keypoints FILE",
         "--device cpu", "demo_out/pose_3d.npz", IMAGE="photo.png", FILE="pose.npy"),
    show("python train_gan.py --config configs/gan_kudo.yaml --dataset mpii,cmu --data-dir DIR --epochs 12 "
         "--checkpoint checkpoint/kudo", ONE_EPOCH, DIR="data"),
    show("python train_gan.py --config configs/gan_chen.yaml --dataset mpii,cmu --data-dir DIR --epochs 4 "
         "--checkpoint checkpoint/chen", ONE_EPOCH, DIR="data"),
    show("python test_gan.py --dataset mpii,cmu --data-dir DIR --ckpt checkpoint/kudo/best-model.ckpt",
         "--device cpu", DIR="data"),
]  # fmt: skip


# ------------------------------------------------------------ images


IMAGES = "--arch msra_18 --input_h 64 --input_w 64 --batch_size 2 --num_epochs 1 --num_workers 0 --device cpu"


def prepare_hourglass(_) -> None:
    """MPII and the Human3.6M challenge, four people each; a set that is taken for the synthetic one; a video."""
    data = Path("data").absolute()
    for name in ("train.json", "valid.json"):
        readers.make_mpii(data, [readers.mpii_entry()] * 4, name)
    for split in ("Train", "Val"):
        readers.make_h36m(data, [readers.h36m_entry(i) for i in range(4)], split)
    recipe = yaml.safe_load(Path("configs/hourglass_synthetic_1.yaml").read_text())
    write_synthetic(2, tuple(recipe["actions"].split(",")))
    write_frames()
    test_demo_lifters.save_finder()  # sure of every joint, as a trained one is
    Path("exp/hourglass_synthetic_3").mkdir(parents=True)
    shutil.move("finder.pth", "exp/hourglass_synthetic_3/model_last.pth")
    test_demo_lifters.checkpoint("mlp", test_demo_lifters.network("mlp"))


def write_frames() -> None:
    """Two pictures in `frames`, and video.mp4; without ffmpeg that is a folder, too."""
    Path("frames").mkdir()
    for t in range(2):
        noise = np.random.default_rng(t).integers(0, 255, (48, 80, 3), np.uint8)
        Image.fromarray(noise).save(f"frames/{t}.png")
    if shutil.which("ffmpeg") is None:
        shutil.copytree("frames", "video.mp4")
    else:
        subprocess.run(["ffmpeg", "-loglevel", "error", "-i", "frames/%d.png", "video.mp4"], check=True)


STAGE_3D = "--task human3d --dataset fusion_3d --ratio_3d 1 --weight_3d 0.1"
FOUND = "--device cpu --vis-frames 1"
HOURGLASS = [
    show("python train_hourglass.py --exp_id mpii", f"{IMAGES} --backbone_weights none", "exp/mpii/model_best.pth"),
    show(f"python train_hourglass.py --exp_id fusion_3d {STAGE_3D} --load_model ../exp/mpii/model_last.pth "
         "--num_epoch 60 --lr_step 45", IMAGES),
    show(f"python train_hourglass.py --exp_id fusion_3d_var {STAGE_3D} --weight_var 0.01 "
         "--load_model ../models/fusion_3d.pth --num_epoch 10 --lr 1e-4", IMAGES),
    show("python test_hourglass.py --exp_id test --task human3d --dataset fusion_3d --load_model FILE --full_test",
         "--num_workers 0 --device cpu", "exp/testTEST/preds.mat", FILE="exp/fusion_3d_var/model_last.pth"),
    show("python train_hourglass.py --config configs/hourglass_synthetic_1.yaml",
         f"{IMAGES} --synthetic_images 4 --synthetic_test 2", "exp/hourglass_synthetic_1/model_last.pth"),
    show("python test_hourglass.py --config configs/hourglass_synthetic_3.yaml --load_model "
         "exp/hourglass_synthetic_3/model_last.pth --synthetic_test 1000",
         "--task human2d --weight_3d 0 --weight_var 0 --metric acc --synthetic_test 2 --num_workers 0 --device cpu",
         "exp/hourglass_synthetic_3TEST/predictions.png"),
    show("python demo.py --demo IMAGE_OR_FOLDER --load_model FILE", "--device cpu", "demo_out/0_pose.png",
         IMAGE_OR_FOLDER="frames", FILE="exp/fusion_3d/model_last.pth"),
    show("demo.py --demo IMAGE_OR_FOLDER --load_model FILE", "--device cpu", IMAGE_OR_FOLDER="frames/0.png",
         FILE="exp/mpii/model_last.pth"),
    show("python demo.py --input VIDEO_OR_FOLDER --load_model exp/hourglass_synthetic_3/model_last.pth --ckpt FILE",
         FOUND, "demo_out/poses.npz", VIDEO_OR_FOLDER="frames", FILE="mlp.bin"),
    show("demo.py --input VIDEO --load_model FILE --ckpt LIFTER", FOUND, VIDEO="video.mp4",
         FILE="exp/hourglass_synthetic_3/model_last.pth", LIFTER="mlp.bin"),
]  # fmt: skip


# ------------------------------------------------------------ encoder-decoder


def prepare_encoder_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two folders of views, a file as released, and a stand-in for the window that turns the first image once."""
    poses = tiny_poses(2, ("S1", "S9"), ("Walking",), H36M_17)
    write_multiview("views", poses, size=64, frames=2)
    write_multiview("data/multiview_16x4", tiny_poses(2, dataset.SUBJECTS, ("Walking",), H36M_17), 16, 2)
    Path("checkpoint").mkdir()
    state = released_networks.released(EncoderDecoder(**released_networks.RESNET), "resnet")
    torch.save(state, "checkpoint/network_best_val_t1.pth")
    monkeypatch.setattr(pictures, "show_viewer", lambda count, look: print(count, look(0, 0.5)))


NETWORK = "--feature_scale 16 --latent_fg 8 --latent_3d 30"
SHORT = "--num_workers 0 --batch_size 4 --num_training_iterations 2 --device cpu"
NO_DOWNLOAD = "--imagenet_weights none --encoder_weights none"
MADE = "--synthetic_frames 4 --device cpu --num_workers 0"
LABELS = "--label_steps 2 --batch_size 4"
POSE_FILE = "checkpoint/encoder_decoder_small_pose/best-model.pth"
ENCODER_DECODER = [
    show("python train_encoder_decoder.py --config configs/encoder_decoder.yaml --data_dir FOLDER",
         f"--input_dimension 64 --every_nth_frame 1 {NETWORK} {NO_DOWNLOAD} {SHORT}",
         "checkpoint/encoder_decoder/best-model.pth", FOLDER="views"),
    show("python train_encoder_decoder_pose.py --config configs/encoder_decoder_pose.yaml --data_dir FOLDER",
         f"--input_dimension 64 --every_nth_frame 1 {SHORT}",
         "checkpoint/encoder_decoder_pose/best-model.pth", FOLDER="views"),
    show("python train_encoder_decoder.py --config configs/encoder_decoder_small.yaml",
         f"--input_dimension 16 --synthetic_frames 4 {NETWORK} {SHORT}"),
    show("python train_encoder_decoder_pose.py --pretrained checkpoint/encoder_decoder_small/best-model.pth "
         "--epochs 20 -c checkpoint/encoder_decoder_small_pose", f"{SHORT} --synthetic_frames 4", POSE_FILE),
    show(f"python test_encoder_decoder.py --ckpt {POSE_FILE} --gif --label_fraction 0.01,0.1,1",
         f"{MADE} {LABELS} --angles 8", "checkpoint/encoder_decoder_small_pose/best-model_test/sweep.gif"),
    show("test_encoder_decoder.py --label_fraction 0.01,0.1,1", f"--ckpt {POSE_FILE} {MADE} {LABELS}",
         "checkpoint/encoder_decoder_small_pose/best-model_test/label_fraction.png"),
    show("test_encoder_decoder.py --ckpt FILE --viewer", MADE, FILE=POSE_FILE),
]  # fmt: skip


# ------------------------------------------------------------ data


HERE = "--data-dir data"  # the default is the repository's own
PART = f"{HERE} --partial --force"  # S1 alone, and what the command before made is there


def prepare_h36m(monkeypatch: pytest.MonkeyPatch) -> None:
    """S1 in every form of the release, and detections of it; cdflib is optional, and has a stand-in."""
    tree = {"S1": released.released_takes(2)["S1"]}
    released.write_mat(Path("mat"), tree)
    released.write_cdf(Path("cdf"), tree)
    monkeypatch.setitem(sys.modules, "cdflib", SimpleNamespace(CDF=StandInCDF))
    released.write_zip("h36m.zip", tree)
    views = tiny_keypoints(tree)
    order = [H36M_17.index(name) for name in hourglass_detections.HOURGLASS]
    found = {
        ("S1", f"{take.replace(' ', '_')}.{camera}.h5"): hourglass_detections.h5_bytes(view[:, order].astype(float))
        for take, cameras in views["S1"].items()
        for camera, view in zip(hourglass_detections.CAMERAS, cameras, strict=True)
    }
    with zipfile.ZipFile("h36m.zip", "a") as archive:
        for (subject, name), content in found.items():
            archive.writestr(f"h36m/{subject}/StackedHourglass/{name}", content)
    hourglass_detections.write_tar("stacked.tgz", found)
    save_npz("hr.npz", positions_2d=views, metadata={"layout_name": "h36m", "num_joints": 17})


class StandInCDF:
    """cdflib's reader, as far as it is used, of what `write_cdf` writes."""

    def __init__(self, path: str) -> None:
        self.path = path

    def varget(self, name: str) -> np.ndarray:
        return {"Pose": np.load(self.path)}[name]


H36M = [
    show("python data/prepare_data_h36m.py --from-source-cdf DIR", PART, "data/data_3d_h36m.npz", DIR="cdf"),
    show("python data/prepare_data_h36m.py --from-source DIR", PART, "data/data_2d_h36m_gt.npz", DIR="mat"),
    show("python data/prepare_data_h36m.py --from-archive h36m.zip", PART),
    show("python data/prepare_data_2d_h36m_sh.py -pt h36m.zip -ft FILE.tgz", PART, "data/data_2d_h36m_sh_ft_h36m.npz",
         FILE="stacked"),
    show("python data/prepare_data_2d_h36m_generic.py -i PATH -o NAME [--joints 16]", PART, "data/data_2d_h36m_hr.npz",
         PATH="hr.npz", NAME="hr"),
]  # fmt: skip


def prepare_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Motion files of three kinds, SPIN's and MPII's annotations, a video's detections, and a shorter synthetic set."""
    write_clip(Path("clips/anna/walk.bvh"))
    write_acclaim(Path("subjects/02"), frames=60)
    Path("AMASS/person").mkdir(parents=True)
    write_smpl_model(Path("model.npz"))
    poses = np.zeros((60, 156))
    poses[:, 0] = np.pi / 2  # AMASS has z up
    still = {"trans": np.zeros((60, 3)), "betas": np.zeros(16), "mocap_framerate": np.array(60.0)}
    np.savez("AMASS/person/walk_poses.npz", poses=poses, **still)
    np.savez("mpi_inf_3dhp_valid.npz", **spin_arrays())
    write_training(Path("release/S1/Seq1"))
    write_testing(Path("tests/TS1"), "0111", "1111")
    write_sequence(Path("sequenceFiles"), sequence()[0])
    Path("annot").mkdir()
    for name in ("train", "valid"):
        Path(f"annot/{name}.json").write_text(json.dumps(json_entries(people())))
    write_video()
    whole, few = dataset.make_dataset, ("S1", "S9")
    monkeypatch.setattr(dataset, "make_dataset", lambda seed: whole(seed, seconds=0.4, subjects=few))


OTHERS = [
    show("python data/make_synthetic.py", HERE, "data/data_2d_synthetic_noisy.npz"),
    show("python data/make_synthetic.py --multiview DIR [--dataset NAME]",
         f"{HERE} --subjects S1,S9 --size 16 --frames 2", "views/labels.h5", DIR="views", NAME="synthetic"),
    show("python data/inspect_data.py -d NAME -k KEYPOINTS [--data-dir DIR] [--output DIR]", "",
         "data/synthetic_noisy_cameras.png", NAME="synthetic", KEYPOINTS="noisy", DIR="data"),
    show("python data/prepare_mocap.py --source FOLDER -d NAME", HERE, "data/mine_sheet.png", FOLDER="clips",
         NAME="mine"),
    show("python data/prepare_mocap.py --source subjects -d cmu", HERE, "data/data_3d_cmu.npz"),
    show("python data/prepare_mocap.py --source AMASS -d amass --smpl-model model.npz", HERE,
         "data/data_2d_amass_gt.npz", AMASS="AMASS"),
    show("python data/prepare_data_3dhp.py --source mpi_inf_3dhp_valid.npz", HERE,
         "data/data_extra/test_set/test_3dhp.npz"),
    show("python data/prepare_data_3dhp.py --training FOLDER --test DIR", HERE, "data/data_3d_3dhp.npz",
         FOLDER="release", DIR="tests"),
    show("python data/prepare_3dpw.py --source sequenceFiles", HERE, "data/data_2d_3dpw_detected.npz"),
    show("python data/prepare_mpii.py --source annot/train.json annot/valid.json", HERE, "data/mpii_poses.npy"),
    show("python data/prepare_data_2d_custom.py -i DETECTIONS -o NAME --image-size WIDTHxHEIGHT", HERE,
         "data/data_2d_custom_mine.npz", DETECTIONS="video.npz", NAME="mine", WIDTH="1000", HEIGHT="1002"),
    # reference vectors are not ours to ship: .ci/run compares them where they lie beside the checkout
    show("python -m tests.golden DIR [--salt dev] [--only NAME ...]", DIR=".", NAME="video", **{"...": "model"}),
]  # fmt: skip


# ------------------------------------------------------------ benchmarks


def prepare_benchmarks(_) -> None:
    write_synthetic(frames=10)
    write_tiny_dataset("motion", "cmu", frames=4, actions=("Walking",))


STEP = "--rounds 1 --batch-size 4 --device cpu"
BENCHMARKS = [
    show("python benchmarks/train_step.py --methods teacher student --rounds 6", STEP),
    show("python benchmarks/train_step.py --methods student gcn --rounds 8", f"{STEP} --no-baseline"),
    show("python benchmarks/train_step.py --methods mlp videopose gcn stgcn --rounds 4", STEP),
    show("python benchmarks/train_step.py --methods gcn stgcn --rounds 4", f"{STEP} --no-baseline"),
    show("python benchmarks/train_step.py --methods mlp videopose gcn stgcn student --rounds 2",
         f"{STEP} --no-baseline --amp"),
    show("python benchmarks/train_step.py --methods gan_lifter --rounds 2", f"{STEP} --batch-size 8"),
    show("python benchmarks/poseaug_epoch.py", f"--poses 300000 --baseline-steps 0 --stages 1 --device cpu {HERE}"),
    show("python benchmarks/image_pipeline.py", "--samples 4 --side 200"),
    show("python benchmarks/metrics.py", "--poses 100 --repeats 1"),
    show("python benchmarks/virtual_cameras.py", "--steps 1 --batch-size 4 --device cpu"),
    show("python benchmarks/loading.py", "--frames 2 --rounds 1"),
    show("python benchmarks/draw.py", "--frames 2 --width 200 --baseline-frames 1"),
    show("python benchmarks/synthetic_worth.py --data-dir data --real DIR --epochs 10 --every 4 --batch 128",
         "--epochs 1 --width 16 --batch 16 --device cpu", DIR="motion"),
]  # fmt: skip


def prepare_compare(_) -> None:
    """Both sets and their twins, the synthetic one where the commands look for it."""
    write_synthetic()
    write_tiny_dataset("motion", "cmu", frames=4, actions=("Walking",))
    write_twin("data")
    write_twin("motion")


UNTRAINED = "--methods no_depth --device cpu"  # tests/benchmarks/test_compare_methods.py trains some
COMPARE = [
    show("python benchmarks/compare_methods.py", UNTRAINED, "checkpoint/compare/compare.md"),
    show("python benchmarks/compare_methods.py --minutes 10 --methods mlp gcn student "
         "--output checkpoint/ten_minutes", UNTRAINED, "checkpoint/ten_minutes/no_depth/result.json"),
    show("python benchmarks/compare_methods.py --threads 1", UNTRAINED, "checkpoint/compare/compare.md"),
    show("python benchmarks/compare_methods.py --threads 1 -d cmu --data-dir DIR --cross_data synthetic",
         f"{UNTRAINED} --output checkpoint/cmu", "checkpoint/cmu/compare.png", DIR="motion"),
    show("python benchmarks/within_budget.py --seconds 60 --report FILE -- train_teacher.py -d synthetic -k gt "
         "-c checkpoint/teacher", f"-e 1 {TEACHER}", "report.json", FILE="report.json"),
]  # fmt: skip


# ------------------------------------------------------------ the tests


STORIES = {
    "ites": Story(prepare_ites, ITES),
    "poseaug": Story(prepare_poseaug, POSEAUG_STORY),
    "poseaug_cmu": Story(prepare_cmu, POSEAUG_CMU),
    "onnx": Story(prepare_onnx, ONNX),
    "gan": Story(prepare_gan, GAN),
    "hourglass": Story(prepare_hourglass, HOURGLASS),
    "encoder_decoder": Story(prepare_encoder_decoder, ENCODER_DECODER),
    "h36m": Story(prepare_h36m, H36M),
    "others": Story(prepare_others, OTHERS),
    "benchmarks": Story(prepare_benchmarks, BENCHMARKS),
    "compare": Story(prepare_compare, COMPARE),
}


def test_every_command_is_run_and_is_documented():
    shown = documented.commands()
    run = [each.text for story in STORIES.values() for each in story.commands] + list(ELSEWHERE)
    assert len(run) == len(set(run))
    nowhere_run = {text: pages for text, pages in shown.items() if text not in run}
    assert not nowhere_run
    nowhere_shown = set(run) - set(shown)
    assert not nowhere_shown


def test_commands_are_found_in_blocks_and_prose():
    page = "A `python a.py\n-x` and `b.py --y Z`, `c.py`, `--d 1`.\n```bash\n# why\npython e.py \\\n  1\n```\n"
    page += "```yaml\npython: f\n```\nand `torchrun g.py ...`\n```\nsrun h.py\nnothing\n```\n"
    assert documented.commands_of(page) == [
        "python e.py 1",
        "srun h.py",
        "python a.py -x",
        "b.py --y Z",
        "torchrun g.py ...",
    ]
    values = {"WIDTH": "1", "HEIGHT": "2", "DIR": "d", "...": "e f"}
    words = documented.words_of("a.py -i WIDTHxHEIGHT [-d 'DIR' ...]", values)
    assert words == ["a.py", "-i", "1x2", "-d", "d", "e", "f"]
    with pytest.raises(ValueError, match="FILE has no value"):
        documented.words_of("a.py FILE", {})
    with pytest.raises(ValueError, match="nothing stands for DIR"):
        documented.words_of("a.py FILE", {"FILE": "a", "DIR": "b"})


@pytest.mark.parametrize("name", STORIES)
def test_documented_commands_work(name, tmp_path, monkeypatch, script):
    monkeypatch.chdir(tmp_path)
    fork_scripts(monkeypatch)
    shutil.copytree(ROOT / "configs", "configs")
    STORIES[name].prepare(monkeypatch)
    done: dict[tuple, Outcome] = {}
    for shown in STORIES[name].commands:
        words = tuple(shown.words)
        if words not in done:  # two pages may show the same
            done[words] = execute(words, script, monkeypatch)
        assert done[words].status == 0, f"{shown.text}\n{done[words].err}"
        assert done[words].out.strip(), shown.text
        assert not shown.makes or list(Path().glob(shown.makes)), f"{shown.text}: no {shown.makes}"


def execute(words: tuple[str, ...], script, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """Run a command in the current folder."""
    words = words[words[0] == "python" :]
    if words[0] in ALONE:
        return run_apart(words, Path.cwd())
    if words[0] == "-m":
        words = (f"{words[1].replace('.', '/')}/__main__.py", *words[2:])
    assert not words[0].startswith("data/") or "--data-dir" in words, "it would write into the repository"
    if words[0] not in CONSTANTS:
        return script(*words)
    module = import_module(words[0].removesuffix(".py").replace("/", "."))
    for constant, value in CONSTANTS[words[0]].items():
        monkeypatch.setattr(module, constant, value)
    stand_in = Path("small.py")
    stand_in.write_text(
        f"from common.run.script import run_script\nfrom {module.__name__} import main\nrun_script(main)\n"
    )
    return script(str(stand_in.absolute()), *words[1:])
