"""docs/new_method.md is followed to the letter in a copy of the tree: the new lifter trains, is scored and lifts."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.processes import run_apart
from tests.tiny_dataset import tiny_keypoints, tiny_poses, write_tiny_dataset

GUIDE = ROOT / "docs/new_method.md"


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git to apply the guide's changes")
def test_the_guide_is_true(tmp_path):
    tree = tmp_path / "tree"
    for folder in ("common", "models", "methods"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for script in ("run_baseline.py", "run_evaluate.py", "demo.py"):
        shutil.copy(ROOT / script, tree)
    (tree / "data").mkdir()
    changes = re.findall(r"^```diff\n(.*?)^```", GUIDE.read_text(), re.M | re.S)
    assert len(changes) == 2  # the network, and its row
    for change in changes:
        subprocess.run(["git", "apply", "--unidiff-zero", "-"], input=change, text=True, cwd=tree, check=True)

    write_tiny_dataset(tmp_path, frames=6, actions=("Walking",))
    options = ("--posenet_name", "linear", "--data-dir", tmp_path, "--dataset", "tiny", "--cross_data", "none")
    options = [*options, "--device", "cpu"]

    def run(script: str, *more) -> str:
        done = run_apart((tree / script, *more), tree)
        assert done.status == 0, done.err
        return done.out

    run("run_baseline.py", *options, "--epochs", 2, "--checkpoint", "runs", "--batch_size", 16)
    (checkpoint,) = tree.glob("runs/linear/gt/*/ckpt_best.pth.tar")
    assert "MPJPE" in run("run_evaluate.py", *options, "--evaluate", checkpoint)
    pixels = tiny_keypoints(tiny_poses(4, ("S9",), ("Walking",)))["S9"]["Walking"][0]
    np.savez(tmp_path / "video.npz", keypoints=pixels, layout="h36m17", image_size=(1000, 1002))
    assert "linear" in run("demo.py", "--ckpt", checkpoint, "--keypoints", tmp_path / "video.npz", "--device", "cpu")
    assert (Path(tree) / "demo_out/poses.bvh").is_file()
