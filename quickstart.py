"""A lifter trained, scored beside a released one, and a real person lifted, in three minutes on a laptop, no download.

    python quickstart.py [--folder checkpoint/quickstart]

Trains a small lifter on made motion seen by random virtual cameras, scores it beside released/mlp_pose on the synthetic
test subjects, and lifts the keypoints of a man in a real video with the latter. Every step is a command that is shown
before it runs.
"""

from common.run.entry import run_script

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from common.errors import InputError
from common.run.options import Parser, number

ROOT = Path(__file__).parent
RELEASED = "released/mlp_pose"
PERSON = ROOT / "docs" / "pictures" / "real_person.npz"
OPTIONS = (
    ("--folder", Path, "checkpoint/quickstart", "where the runs go", "DIR"),
    ("--data-dir", Path, "data", "where the synthetic set is kept", "DIR"),
    ("--epochs", number(int, 1), 12, "of the training"),
    ("--downsample", number(int, 1), 10, "score every n-th frame"),
)


def main() -> None:
    parser = Parser(__doc__)
    parser.add_table("Quick start", OPTIONS)
    args = parser.parse_args()

    began = time.perf_counter()
    recipe = ROOT / "configs" / "quickstart.yaml"
    step(
        "run_baseline.py",
        "--config",
        recipe,
        "--data-dir",
        args.data_dir,
        "-e",
        args.epochs,
        "--checkpoint",
        args.folder,
    )
    trained = newest(args.folder.glob("mlp/gt/*_quickstart/ckpt_best.pth.tar"))
    data = ["-d", "synthetic", "--data-dir", args.data_dir, "--cross_data", "none", "--downsample", args.downsample]
    table = {}
    for name, file, width in (("trained now", trained, 256), (RELEASED, RELEASED, 1024)):
        out = args.folder / Path(file).name.split(".")[0]
        lifter = ["--posenet_name", "mlp", "--stages", 2, "--width", width, "--flip_test", "--action-wise", False]
        step("run_evaluate.py", *data, *lifter, "--evaluate", file, "--output", out)
        results = json.loads(newest(out.glob("results_*_synthetic_gt.json")).read_text())["results"]
        table[name] = results["SYNTHETIC"]["overall"]["mean over frames"]
    person = args.folder / "person"
    step("demo.py", "--keypoints", PERSON, "--ckpt", RELEASED, "--output", person)

    print(f"\nsynthetic S9, S11, every {args.downsample}th frame, 16 joints, 2D input gt, flip average; mm")
    print(f"{'':<20}{'MPJPE':>8}{'P-MPJPE':>10}")
    for name, scores in table.items():
        print(f"{name:<20}{scores['MPJPE']:>8.1f}{scores['P-MPJPE']:>10.1f}")
    print(f"{time.perf_counter() - began:.0f} s; look at {person / 'film.gif'}; results in {args.folder}")


def newest(files) -> Path:
    return max(files, key=lambda file: file.stat().st_mtime)


def step(script: str, *options) -> None:
    """Run one script of the project, its command shown first."""
    words = [script, *map(str, options)]
    print(f"\n$ python {shlex.join(words)}", flush=True)
    with subprocess.Popen([sys.executable, ROOT / script, *words[1:]]) as process:
        try:
            status = process.wait()
        except BaseException:  # Ctrl-C: let the script finish its step and save
            process.send_signal(signal.SIGTERM)
            process.wait()
            raise
    if status:
        raise InputError(f"{script} ended with status {status}; its last line above says why")


if __name__ == "__main__":
    run_script(main)
