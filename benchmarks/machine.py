"""The name of the machine that figures are of: device, threads, PyTorch.

python benchmarks/machine.py [--device cuda]
"""

import argparse
import platform
from pathlib import Path

import torch


def device_name(device: torch.device) -> str:
    """The model of the GPU or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names or [platform.processor() or platform.machine()])[0]


def describe(device: torch.device) -> str:
    """One line."""
    where = "" if device.type == "cuda" else " (CPU)"
    return f"{device_name(device)}{where}, {torch.get_num_threads()} CPU threads, PyTorch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    print(describe(torch.device(parser.parse_args().device)))


if __name__ == "__main__":
    main()
