"""The whole of ITES in a few minutes on a laptop, without any download.

    python quickstart.py [--folder checkpoint/quickstart]

Trains the teacher on the synthetic set, distils the student, scores both, prints one table and writes a GIF of each.
Every step is one of the README's commands; each is shown before it runs.
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
COLUMNS = ("MPJPE", "P-MPJPE", "plain N-MPJPE", "plain P-MPJPE")
OPTIONS = (
    ("--folder", Path, "checkpoint/quickstart", "where the runs go", "DIR"),
    ("--data-dir", Path, "data", "where the synthetic set is kept", "DIR"),
    ("--downsample", number(int, 1), 25, "use every n-th frame"),
    ("--teacher-epochs", number(int, 1), 4, "epochs of the teacher"),
    ("--student-epochs", number(int, 1), 3, "epochs of the student"),
)


def main() -> None:
    parser = Parser(__doc__)
    parser.add_table("Quick start", OPTIONS)
    args = parser.parse_args()

    began = time.perf_counter()
    teacher, student = args.folder / "teacher" / "ckpt_teacher.bin", args.folder / "student" / "ckpt_student.bin"
    data = ["-d", "synthetic", "-k", "gt", "--data-dir", args.data_dir, "--downsample", args.downsample]
    step("train_teacher.py", *data, "-e", args.teacher_epochs, "-c", teacher.parent)
    step("train_student.py", *data, "-e", args.student_epochs, "-c", student.parent, "--teacher_checkpoint", teacher)
    for name, file in (("teacher", teacher), ("student", student)):
        out = ("-c", file, "--output", args.folder / f"{name}_test")
        step(f"test_{name}.py", *data, "--evaluate", *out)
        step(f"test_{name}.py", *data[:6], "-ste", "S9", "-a", "Walking", "--vis", *out)  # every frame: smooth

    print(f"\nITES on the synthetic test subjects S9, S11, 17 joints, 2D input gt, every {args.downsample}th frame; mm")
    print("MPJPE, P-MPJPE: scale from the truth, better of the two depth mirrors; plain: no such choice")
    print(f"{'':<10}" + "".join(f"{column:>16}" for column in COLUMNS))
    for name in ("teacher", "student"):
        scores = json.loads((args.folder / f"{name}_test" / "results.json").read_text())["overall"]["mean over frames"]
        print(f"{name:<10}" + "".join(f"{scores[column]:>16.1f}" for column in COLUMNS))
    pictures = ", ".join(str(path) for path in sorted(args.folder.glob("*_test/*.gif")))
    print(f"{time.perf_counter() - began:.0f} s; look at {pictures}; results in {args.folder}")


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
