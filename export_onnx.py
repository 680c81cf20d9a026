"""Write a trained lifter as an ONNX file, and check it against PyTorch.

    python export_onnx.py --ckpt checkpoint/teacher/ckpt_teacher.bin
    python export_onnx.py --ckpt FILE --output lifter.onnx [--method mlp]

Takes a checkpoint of any lifting method: teacher, student, mlp, gcn, videopose, stgcn, gan. The file has one input,
keypoints: (B, J, 2 or more), as the lifter was trained (VideoPose3D over time: (B, frames, J, 2); gan: pixels), and
one output, pose: (B, J, 3), in the axes of the camera. B is free. Needs the packages onnx, onnxscript and onnxruntime.
"""

from common.run.entry import run_script

import importlib.util
import logging
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from common.errors import InputError
from common.files.atomic import write_atomic
from common.run.options import Parser, saved_file
from methods import lifters

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
POSES = (5, 64)  # batches of the check; neither is the size that the graph was traced with
TOLERANCE = 1e-4  # of the largest coordinate
OPTIONS = (
    ("-c --ckpt", saved_file, ..., "checkpoint of a lifter; released/NAME for ours", "FILE"),
    ("--method", lifters.METHODS, None, "default: as the file says"),
    ("--causal", bool, None, "videopose was trained with --causal"),
    ("--output", Path, None, "default: beside the checkpoint, .onnx", "FILE"),
)  # fmt: skip


class Lifter(nn.Module):
    """A network with the last steps of its method around it: keypoints -> pose."""

    def __init__(self, network: nn.Module, saved: lifters.SavedLifter):
        super().__init__()
        self.network = network
        self.lift = lifters.forward_of(saved, network)

    def forward(self, keypoints: Tensor) -> Tensor:
        pose = self.lift(keypoints).float()
        return pose.squeeze(1) if pose.dim() == 4 else pose


def main() -> None:
    parser = Parser(__doc__)
    parser.add_table("Export", OPTIONS)
    args = parser.parse_args()
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"export needs {', '.join(missing)}: pip install {' '.join(missing)}")

    saved = lifters.load(args.ckpt, args.method, args.causal)
    network = lifters.network_of(saved, args.ckpt)
    lifter = Lifter(network, saved).eval()
    target = args.output or args.ckpt.with_suffix(".onnx")
    content = export(lifter, example(saved, network, 3))
    difference = compare(lifter, content, saved, network)
    write_atomic(target, lambda file: file.write(content))
    print(f"{saved.method}: ONNX and PyTorch differ by {difference:.1e} of the largest coordinate at most")
    print(f"{len(content) / 1e6:.1f} MB in {target}")


def example(saved: lifters.SavedLifter, network: nn.Module, count: int) -> Tensor:
    """Made-up keypoints of `count` poses, of the network's shape."""
    joints = 16 if saved.method in lifters.POSEAUG else 17
    frames = getattr(network, "receptive_field", 1)
    keypoints = torch.randn(
        count,
        *([frames] if frames > 1 else []),
        joints,
        saved.form.features,
        generator=torch.Generator().manual_seed(0),
    )
    return 500 + 100 * keypoints if saved.method == "gan" else 0.2 * keypoints


def export(lifter: nn.Module, keypoints: Tensor) -> bytes:
    """The ONNX file."""
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        path = Path(folder) / "lifter.onnx"
        torch.onnx.export(
            lifter, (keypoints,), path, input_names=["keypoints"], output_names=["pose"], dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},), external_data=False, verbose=False,
        )  # fmt: skip
        return path.read_bytes()


def compare(lifter: nn.Module, content: bytes, saved: lifters.SavedLifter, network: nn.Module) -> float:
    """Largest difference between ONNX Runtime and PyTorch, as a share of the largest coordinate.

    Raises:
        InputError: they disagree.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    worst = 0.0
    for count in POSES:
        keypoints = example(saved, network, count)
        with torch.no_grad():
            expected = lifter(keypoints).numpy()
        (found,) = session.run(None, {"keypoints": keypoints.numpy()})
        if found.shape != expected.shape:
            raise InputError(f"the exported network gives {found.shape} for {count} poses; expected {expected.shape}")
        worst = np.fmax(worst, np.abs(found - expected).max() / np.abs(expected).max())
        if not (np.isfinite(expected).all() and np.isfinite(found).all()):
            raise InputError("the network gives numbers that are not finite: is the checkpoint of a diverged run?")
    if worst > TOLERANCE:
        raise InputError(
            f"the exported network differs from PyTorch by {worst:.1e} of the largest coordinate: not saved"
        )
    return float(worst)


if __name__ == "__main__":
    run_script(main)
