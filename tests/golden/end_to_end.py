"""Reference vectors end to end: what the test scripts print for the stored data and rule-filled checkpoints."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import models
from common.files import npz
from tests.golden.rule import PRINTED_MM, Golden, filled_state

INPUTS = ("world_m/*", "pixels/*", "cross_pose3d", "cross_pose2d")
ROOT = Path(__file__).parents[2]
LIFTERS = {"mlp": ("state_dict", 2), "gcn": ("model_pos", 4), "videopose": ("state_dict", 4), "stgcn": ("model_pos", 4)}


def check(golden: Golden) -> None:
    """The ITES scripts and PoseAug's evaluation, run as a user would."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        _write_data(golden, data)
        _check_ites(golden, data)
        _check_poseaug(golden, data)


def _check_ites(golden: Golden, data: Path) -> None:
    for name in ("teacher", "student"):
        weights = {"epoch": 1, "lr": 1e-3, "model_pos": _weights(golden, name)}
        torch.save(weights, data / f"{name}.bin")
        for case, options in (("all", ()), ("walking_only", ("-a", "Walking")), ("s9_only", ("-ste", "S9"))):
            command = [f"test_{name}.py", "-k", "gt", "--evaluate", "-c", data / f"{name}.bin"]
            lines = _run(*command, "--data-dir", data, "--output", data / case, *options)
            found = np.array([float(lines["MPJPE"]), float(lines["P-MPJPE"])])
            golden.check(f"result/ites_{name}_{case}", found, PRINTED_MM)


def _check_poseaug(golden: Golden, data: Path) -> None:
    for name, (key, stages) in LIFTERS.items():
        file = data / f"{name}.pth.tar"
        torch.save({"epoch": 1, key: _weights(golden, name, **({} if name == "stgcn" else {"stages": stages}))}, file)
        command = ["run_evaluate.py", "--posenet_name", name, "--stages", stages, "--keypoints", "gt"]
        lines = _run(*command, "--evaluate", file, "--data-dir", data)
        protocols = ("Protocol #1   (MPJPE) overall average", "Protocol #2 (P-MPJPE) overall average")
        found = [lines[f"{part}: {text}"].removesuffix(" (mm)") for part in ("H36M", "3DHP") for text in protocols]
        golden.check(f"result/poseaug_{name}", np.array(found, float), PRINTED_MM)


def _weights(golden: Golden, name: str, **sizes) -> dict[str, torch.Tensor]:
    layout = [[key, value.shape, str(value.dtype)] for key, value in models.create(name, **sizes).state_dict().items()]
    return filled_state(layout, golden.salt)


def _run(*words) -> dict[str, str]:
    """The printed lines "name: value" of a script."""
    command = [sys.executable, *map(str, words), "--device", "cpu"]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return dict(line.rsplit(": ", 1) for line in printed.splitlines() if ": " in line)


def _write_data(golden: Golden, folder: Path) -> None:
    """The stored arrays as the Human3.6M files that the scripts read."""
    positions: dict[str, dict] = {}
    pixels: dict[str, dict] = {}
    for name, array in golden.arrays.items():
        kind, *place = name.split("/")
        if kind == "world_m":
            positions.setdefault(place[0], {})[place[1]] = array
        elif kind == "pixels":  # views come in order
            pixels.setdefault(place[0], {}).setdefault(place[1], []).append(array)
    metadata = {
        "layout_name": "h36m", "num_joints": 17,
        "keypoints_symmetry": [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]],
    }  # fmt: skip
    npz.save_npz(folder / "data_3d_h36m.npz", positions_3d=positions)
    npz.save_npz(folder / "data_2d_h36m_gt.npz", positions_2d=pixels, metadata=metadata)
    cross = {"pose3d": golden.arrays["cross_pose3d"], "pose2d": golden.arrays["cross_pose2d"]}
    npz.save_npz(folder / "test_3dhp.npz", **cross)
