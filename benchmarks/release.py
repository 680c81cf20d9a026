"""A trained lifter made a released weight: its network alone, in half precision, and its card.

    python benchmarks/release.py CHECKPOINT NAME --command "python run_baseline.py ..." --data-dir DIR

Writes checkpoint/released/NAME.pth and NAME.yaml, and scores it as `run_summary.py --released` does. Half precision is
refused where it costs 0.1 mm or more on any set (then: --full).
"""

import hashlib
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402
import yaml  # noqa: E402

from common.errors import InputError  # noqa: E402
from common.files.atomic import write_atomic  # noqa: E402
from common.run import checkpoint  # noqa: E402
from common.run.options import RELEASED, RUN, Parser  # noqa: E402
from common.run.run import start  # noqa: E402
from common.run.script import run_script  # noqa: E402
from methods import released  # noqa: E402

MOST = 0.1  # mm that half precision may cost
LICENCE = "CMU Graphics Lab motion capture (free for all uses, mocap.cs.cmu.edu) and motion that this repository makes"
KEPT = ("epoch", "options", "method", "factor", "network", "sizes")
OPTIONS = (
    ("checkpoint", Path, None, "file of a trained lifter"),
    ("name", str, None, "of the weight"),
    ("--command", str, ..., "what trained it", "TEXT"),
    ("--time", str, "", "how long that took, and on what", "TEXT"),
    ("--licence", str, LICENCE, "of the data that it was trained on", "TEXT"),
    ("--full", bool, False, "single precision"),
    ("--data-dir", Path, "data", "where data_3d_cmu.npz and data_3d_cmu2.npz may lie", "DIR"),
    *RUN,
)  # fmt: skip


def main() -> None:
    parser = Parser(__doc__)
    parser.add_table("Release", OPTIONS)
    args = parser.parse_args()
    run = start(args)
    file = checkpoint.load(args.checkpoint)
    key = "state_dict" if "state_dict" in file else "model_pos"
    kept = {name: file[name] for name in KEPT if name in file}
    weights = {
        name: value if args.full or not value.is_floating_point() else value.half() for name, value in file[key].items()
    }
    path = RELEASED / f"{args.name}.pth"
    write_atomic(path, lambda out: torch.save(kept | {key: weights}, out))

    sets = released.test_sets(args.data_dir, "gt", run)
    scores = {name: released.score(path, test, run) for name, test in sets.items()}
    before = {name: released.score(args.checkpoint, test, run) for name, test in sets.items()}
    costs = {n: scores[n].p_mpjpe - before[n].p_mpjpe for n in sets if scores[n] is not None}
    if max(map(abs, costs.values())) >= MOST:
        path.unlink()
        raise InputError(f"{args.checkpoint}: half precision changes {costs} mm of P-MPJPE; release it with --full")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    card = {
        "command": args.command, "commit": commit, "time": args.time, "data": args.licence,
        "protocol": "MPJPE, N-MPJPE, P-MPJPE, mm, 16 joints, hip at the origin, 2D input gt; run_summary.py --released",
        "scores": {name: rounded(found) for name, found in scores.items()},
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }  # fmt: skip
    text = yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=120)
    write_atomic(path.with_suffix(".yaml"), lambda out: out.write(text.encode()))
    print(text)
    print(f"{path.stat().st_size / 1e6:.1f} MB in {path}")


def rounded(score: released.Score | None) -> list[float | None] | None:
    """A score as it is written, to 0.1 mm."""
    return None if score is None else [None if value is None else round(value, 1) for value in score]


if __name__ == "__main__":
    run_script(main)
