"""Tables and a chart of many runs of run_baseline.py and run_poseaug.py, as PoseAug publishes them; and a grid of runs.

    python run_summary.py checkpoint/pretrain_baseline checkpoint/poseaug      tables of all runs in these folders
    python run_summary.py checkpoint --epoch last --output DIR                 of the last epoch, written into DIR
    python run_summary.py --grid configs/poseaug_grid.yaml                     what of the grid is done, what is missing
    python run_summary.py --grid configs/poseaug_grid.yaml --run --jobs 2      do the rest, two at a time, then tables
    python run_summary.py --grid configs/poseaug_synthetic.yaml --run          a small grid that needs no files
    python run_summary.py --released --data-dir DIR                            score the weights in checkpoint/released

Tables: lifters by 2D input, test subjects and cross data, MPJPE and P-MPJPE; baseline, PoseAug and the gain. Writes
summary.md, summary.csv and summary_DATASET.png. A grid that was stopped (Ctrl-C) or broke goes on where it was.
"""

from common.run.entry import run_script

import signal
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from common.errors import InputError
from common.run.options import RUN, Parser, number
from common.run.run import start
from common.run.script import Interrupted, Signals
from methods import released
from methods.poseaug import grid as grids
from methods.poseaug import options as lifter_options
from methods.poseaug import summary

SCRIPTS = Path(__file__).resolve().parent


OPTIONS = (
    ("folders", Path, None, "run folders, or folders above them", None, {"nargs": "*"}),
    ("--epoch", summary.CHOICES, "min",
     "a run's number: its lowest test error, as published (it chooses the epoch on the test set), or its last"),
    ("--output -o", Path, None,
     "where tables and chart go (default: checkpoint/summary; with --grid the grid's folder)", "DIR"),
)  # fmt: skip
GRID = (
    ("--grid", Path, None, "list the runs of a grid", "FILE.yaml"),
    ("--run", bool, False, "start those that are missing, then write the tables"),
    ("--jobs", number(int, 1), 1, "runs at a time", "N"),
)
RELEASED = (
    ("--released", bool, False, "score the weights that come with this repository, each through what demo.py does"),
    ("--data-dir", Path, "data", "where data_3d_cmu.npz and data_3d_cmu2.npz may lie", "DIR"),
    ("--keypoints -k", str, "gt", "2D input of the sets with cameras: gt, noisy", "NAME"),
    ("--check", bool, False, "fail where a score is more than 0.1 mm off what the weight's card says"),
    ("--ckpt", Path, None, "score these lifters, too", "FILE", {"nargs": "*", "default": []}),
    *RUN,
)  # fmt: skip


def options() -> Parser:
    parser = Parser(__doc__)
    parser.add_table("Tables", OPTIONS)
    parser.add_table("Grid", GRID)
    parser.add_table("Released weights", RELEASED)
    return parser


def main() -> None:
    parser = options()
    args = parser.parse_args()
    if bool(args.folders) + bool(args.grid) + args.released != 1:
        parser.error("give either run folders (or folders above them), or --grid FILE, or --released")
    if (args.run or args.jobs > 1) and not (args.grid and args.run):
        parser.error("--run needs --grid FILE, and --jobs needs --run")
    if args.check and (args.keypoints != "gt" or not args.released):
        parser.error("--check needs --released and the cards' 2D input, --keypoints gt")
    if args.released:
        return score_released(args)
    if not args.grid:
        write_tables(summary.find_runs(args.folders), args.output or Path("checkpoint/summary"), args.epoch)
        return
    grid = grids.read_grid(args.grid, read_options)
    if not args.run:
        print(grids.listing(grid, grids.find_states(grid)))
        return
    failed = run_grid(grid, args.jobs)
    runs = [state.run for state in grids.find_states(grid).values() if state.run and state.run.rows]
    if runs:
        write_tables(runs, args.output or grid.folder, args.epoch)
    for name, reason in failed.items():
        print(f"failed: {name}: {reason}")
    if failed:
        raise SystemExit(1)


def write_tables(runs: Sequence[summary.RunRecord], folder: Path, choice: str) -> None:
    """Print the tables and write them, and the charts, into `folder`."""
    groups = summary.group_runs(runs)
    paths = summary.write_summary(folder, groups, choice)
    print(summary.markdown(groups, choice))
    print(f"results in {', '.join(map(str, paths))}")


def score_released(args: Namespace) -> None:
    """Print the table of the released weights, checked by their cards, and of the trivial lifter."""
    run = start(args)
    sets = released.test_sets(args.data_dir, args.keypoints, run)
    files = {name: released.RELEASED / f"{name}.pth" for name in released.names()}
    cards = {name: released.card(name) for name in files}
    files |= {str(path): path for path in args.ckpt}
    scores = {"no depth at all": {name: released.no_depth(test) for name, test in sets.items()}}
    for name, path in run.progress(files.items(), text="weights"):
        scores[name] = {title: released.score(path, test, run) for title, test in sets.items()}
    print(released.table(scores))
    print(
        f"MPJPE / N-MPJPE / P-MPJPE, mm, 16 joints, relative to the hip, mean over frames; 2D input {args.keypoints}; "
        f"test subjects, {released.SUBSET:.0%} of each sequence, lifted as demo.py lifts a video"
    )
    if args.check:
        off = [released.differences(name, card, scores[name]) for name, card in cards.items()]
        for line in (line for lines in off for line in lines):
            print(line)
        if any(off):
            raise SystemExit(1)


def run_grid(grid: grids.Grid, jobs: int) -> Mapping[str, str]:
    """Do what is missing; at a first Ctrl-C (or SIGTERM) the runs save and end, and the script leaves."""
    handler = signal.getsignal(signal.SIGTERM)
    signals = handler if isinstance(handler, Signals) else Signals()
    signals.patient = True
    states = grids.find_states(grid)
    done = sum(state.word == "finished" for state in states.values())
    print(f"{grid.path}: {len(states)} runs, {done} finished, {len(states) - done} to do", flush=True)
    failed = grids.run_missing(
        grid, SCRIPTS, jobs, lambda line: print(line, flush=True), stopped=lambda: signals.received
    )
    if signals.received:
        left = sum(state.word != "finished" for state in grids.find_states(grid).values())
        message = f"stopped with {left} runs to do; go on with: python run_summary.py --grid {grid.path} --run"
        raise Interrupted(signals.received, message)
    return failed


def read_options(kind: str, words: Sequence[str]) -> Mapping[str, Any]:
    """The options that a training script would have in force with these words, or what it would say against them."""

    def refuse(message: str) -> NoReturn:
        raise InputError(message)

    if kind == "baseline":
        parser, check = lifter_options.baseline_parser(""), lifter_options.check_options
    else:
        parser, check = lifter_options.poseaug_parser(""), lifter_options.check_poseaug
    parser.error = refuse
    args = parser.parse_args(words)
    check(parser, args)
    return vars(args)


if __name__ == "__main__":
    run_script(main)
