"""The lifters that this repository brings with it, and the one that demo.py takes where none is named."""

from pathlib import Path

from common.errors import InputError

FOLDER = Path(__file__).resolve().parents[1] / "checkpoint/released"
BEST = ("videopose", "mlp")  # names of files, without their endings, the best on real people first
_CARDS = (".md", ".json", ".yaml")  # what stands beside weights


def best() -> Path:
    """The best of the released lifters that are there.

    Raises:
        InputError: there is none.
    """
    for name in BEST:
        for file in sorted(FOLDER.glob(f"{name}.*")):
            if file.suffix not in _CARDS:
                return file
    raise InputError(f"which lifter? {FOLDER} holds none of {', '.join(BEST)}: give --ckpt FILE, a trained lifter")
