"""Train every method on one data set under one budget, score all the same way, and write the table of them.

    python benchmarks/compare_methods.py                               synthetic people; 3 minutes for each method
    python benchmarks/compare_methods.py --minutes 10 --methods mlp gcn student --output checkpoint/ten_minutes
    python benchmarks/compare_methods.py --threads 1 -d cmu --data-dir DIR --cross_data synthetic
    python benchmarks/compare_methods.py --steps 2 --downsample 64     does everything once, quickly

The published scripts do the training, each with its published recipe, and are stopped at the budget, which counts from
the first step on (`benchmarks.within_budget`; stages: `benchmarks.compare_plan`). Their last states are scored by one
protocol (`benchmarks.compare_scores`): 16 joints, relative to the hip, on the same test subjects; image methods on
rendered images of those. What takes something from the truth is marked. A method that is done is not done again (see
--again). Writes compare.md, compare.csv and compare.png, and METHOD/result.json, METHOD/log.txt and states.
"""

import functools
import json
import shlex
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import compare_plan as plan  # noqa: E402
from benchmarks import compare_scores as scores  # noqa: E402
from benchmarks import compare_table, machine, within_budget  # noqa: E402
from common.draw.tables import write_json  # noqa: E402
from common.errors import InputError  # noqa: E402
from common.h36m import TEST_LIST, TRAIN_LIST  # noqa: E402
from common.run.options import Parser, number  # noqa: E402
from common.run.run import Run, start  # noqa: E402
from common.run.script import run_script  # noqa: E402
from methods.poseaug.options import LIFTERS  # noqa: E402

# What a method's result depends on, besides its own further options.
SETTINGS = (
    "dataset", "keypoints", "cross_data", "subjects_train", "subjects_test", "downsample", "minutes", "steps", "seed",
    "amp",
)  # fmt: skip
IMAGE_SETTINGS = {"hourglass": ("images",), "encoder_decoder": ("frames",)}


def options() -> Parser:
    parser = Parser(__doc__)
    data = parser.add_argument_group("Data")
    data.add_argument(
        "-d", "--dataset", default="synthetic", metavar="NAME",
        help="data_3d_NAME.npz and data_2d_NAME_KEYPOINTS.npz; image methods see its motion, rendered",
    )  # fmt: skip
    data.add_argument("-k", "--keypoints", default="gt", metavar="NAME", help="2D input: gt or a detector's name")
    data.add_argument("--data-dir", type=Path, default=Path("data"), metavar="DIR", help="where the files lie")
    data.add_argument(
        "--cross_data", default="auto", metavar="NAME", help="as of run_baseline.py: 3dhp, synthetic, ..."
    )
    data.add_argument("--subjects-train", default=TRAIN_LIST, metavar="LIST", help="training subjects")
    data.add_argument("--subjects-test", default=TEST_LIST, metavar="LIST", help="test subjects")
    data.add_argument("--downsample", type=number(int, 1), default=1, help="use every n-th frame (lifters)")
    data.add_argument("--images", type=number(int, 10), default=1000, help="hourglass: in 3D, and as many in 2D")
    data.add_argument(
        "--frames", type=number(int, 4), default=200, help="encoder-decoder: of a subject, in four cameras each"
    )
    group = parser.add_argument_group("Methods")
    group.add_argument("--methods", nargs="+", metavar="NAME", help="default: all")
    group.add_argument("--poseaug", nargs="+", choices=LIFTERS, default=["mlp"], help="lifters that PoseAug trains")
    group.add_argument("--minutes", type=number(float, 0), default=3.0, help="of training, for each method")
    group.add_argument("--steps", type=number(int, 1), metavar="N", help="training steps instead of minutes")
    group.add_argument(
        "--more", action="append", default=[], metavar="'NAME: OPTIONS'",
        help="further options of a method's training scripts, in every stage",
    )  # fmt: skip
    group.add_argument("--again", action="store_true", help="do --methods anew, also those that are done")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("checkpoint/compare"), metavar="DIR", help="results, states, table"
    )
    parser.add_run_options()
    return parser


def main() -> None:
    parser = options()
    args = parser.parse_args()
    known = plan.methods(args.poseaug)
    more = further_options(args.more, known)
    chosen = list(known) if args.methods is None else list(dict.fromkeys(args.methods))
    unknown = [name for name in chosen if name not in known]
    if unknown:
        parser.error(f"--methods {' '.join(unknown)}: no such method; there are: {', '.join(known)}")
    run = start(args)
    print(f"{machine.describe(run.device)}; {budget_text(args)} for each method; {data_text(args)}", flush=True)

    states = {name: find_result(args, name, known[name], more[name]) for name in known}
    failed: dict[str, InputError] = {}
    load_once = functools.cache(lambda: (scores.load_test(args, run.device), scores.load_cross(args, run.device)))
    for name in chosen:
        if states[name] and not args.again:
            print(f"{name}: done before", flush=True)
            continue
        try:
            states[name] = do(args, name, known[name], more[name], run, load_once)
            print(line_of(states[name]), flush=True)
        except InputError as error:  # the others do not depend on it
            failed[name] = error
            print(f"{name}: failed", flush=True)
        write_table(args, [state for state in states.values() if state])
    results = [state for state in states.values() if state]
    if results:
        paths = write_table(args, results)
        print(f"\n{compare_table.markdown(results, title(args))}\nresults in {', '.join(map(str, paths))}")
    for name, error in failed.items():
        print(f"failed: {name}: {error}")
    if failed:
        raise SystemExit(1)


# ------------------------------------------------------------ one method


def do(
    args: Namespace, name: str, method: plan.Method, more: list[str], run: Run, load: Callable[[], tuple]
) -> dict[str, Any]:
    """Train a method, score it, and keep its result."""
    folder = args.output / name
    shutil.rmtree(folder, ignore_errors=True)  # what an earlier run left, or a stopped one
    if method.kind == "encoder_decoder":
        command = [sys.executable, str(plan.ROOT / plan.views_command(args)[0]), *plan.views_command(args)[1:]]
        within_budget.run_logged(command, folder / "log.txt")
    state, reports = None, []
    for i, stage in enumerate(method.stages, 1):
        here = folder / f"stage_{i}"
        words = [stage.script, *stage.options(args, here, state), *plan.run_words(args), *more]
        budget = share(args, len(method.stages))
        reports.append(within_budget.train(words, budget, folder / f"stage_{i}.json", folder / "log.txt"))
        state = plan.newest(here, stage.checkpoints)
    found = score(args, method, state, run, load)
    result = {"method": name, "supervision": method.supervision, "settings": settings(args, name, more), **found}
    result |= {"training": reports, "state": str(state or "")}
    write_json(folder / "result.json", result)
    return result


def score(args: Namespace, method: plan.Method, state: Path | None, run: Run, load: Callable) -> dict[str, Any]:
    """Rows of the table, what they were scored on, and the cost of the network."""
    image_methods = {
        "hourglass": (scores.score_hourglass, plan.hourglass_data),
        "encoder_decoder": (scores.score_encoder_decoder, plan.views_data),
    }
    cost, cross_found = None, None
    if method.kind in image_methods:
        function, data = image_methods[method.kind]
        found, cost, count = function(state, data(args), run)
        size = plan.IMAGE_SIZE[method.kind]
        body = ", body at the average size" if method.kind == "hourglass" else ""
        inputs = f"{count:,} images of {size} pixels, rendered, of {args.dataset}'s {args.subjects_test}{body}"
    else:
        test, cross = load()
        inputs = f"{args.dataset} {test.summary()}, 2D input {args.keypoints}"
        if method.kind == "trivial":
            found = scores.score_no_depth(test)
        else:
            saved, network = scores.load_lifter(state, run.device)
            found = scores.score_lifter(saved, network, test, run)
            cost = scores.lifter_cost(saved, network, test, run)
            if cross is not None:
                cross_found = scores.score_cross(saved, network, cross, run)
                inputs += f"; cross: {cross.name}, {cross.summary()}"
            inputs += scores.warm_up_note(state)
    rows = scores.rows_of(found, cross_found)
    images = method.kind in image_methods
    return {"inputs": inputs, "images": images, "joints": 16, "rows": rows, "cost": cost._asdict() if cost else {}}


def find_result(args: Namespace, name: str, method: plan.Method, more: list[str]) -> dict[str, Any] | None:
    """The result of an earlier run with the same settings; None where there is none, or --again drops it."""
    path = args.output / name / "result.json"
    if not path.is_file() or (args.again and (args.methods is None or name in args.methods)):
        return None
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        before, _ = result["settings"], [result[key] for key in compare_table.KEYS]
    except (ValueError, TypeError, KeyError):
        raise InputError(f"{path} is damaged: do {name} again with --again --methods {name}") from None
    now = json.loads(json.dumps(settings(args, name, more)))
    differ = [key for key in now if before.get(key) != now[key]]
    if differ:
        what = ", ".join(f"{key} {before.get(key)}, now {now[key]}" for key in differ)
        raise InputError(f"{path} was made with {what}: take another --output, or --again --methods {name}")
    return result


def settings(args: Namespace, name: str, more: list[str]) -> dict[str, Any]:
    """What the result depends on."""
    names = (*SETTINGS, *IMAGE_SETTINGS.get(name, ()))
    values = {key: getattr(args, key) for key in names} | {"data_dir": str(args.data_dir), "more": more}
    return values | ({"minutes": None} if args.steps else {})


def share(args: Namespace, stages: int) -> Mapping[str, float]:
    """The budget of one of a method's stages."""
    return {"steps": max(1, args.steps // stages)} if args.steps else {"seconds": 60 * args.minutes / stages}


def further_options(texts: list[str], known: Mapping[str, Any]) -> dict[str, list[str]]:
    """`--more` by method."""
    found: dict[str, list[str]] = {name: [] for name in known}
    for text in texts:
        name, colon, words = text.partition(":")
        if not colon or name.strip() not in known:
            raise InputError(f"--more {text!r}: expected 'NAME: OPTIONS' with a NAME of {', '.join(known)}")
        found[name.strip()] += shlex.split(words)
    return found


# ------------------------------------------------------------ text


def write_table(args: Namespace, results: list[dict[str, Any]]) -> list[Path]:
    return compare_table.write(args.output, results, title(args)) if results else []


def title(args: Namespace) -> str:
    return f"Every method: {data_text(args)}, {budget_text(args)} each"


def data_text(args: Namespace) -> str:
    return f"{args.dataset}, 2D input {args.keypoints}, tested on {args.subjects_test}, 16 joints"


def budget_text(args: Namespace) -> str:
    return f"{args.steps:,} steps" if args.steps else f"{args.minutes:g} minutes of training"


def line_of(result: Mapping[str, Any]) -> str:
    row = result["rows"][0]
    shown = ", ".join(f"{key} {row[key]:.1f}" for key in ("MPJPE", "N-MPJPE", "P-MPJPE") if row[key] is not None)
    return f"{result['method']}: {shown} mm"


if __name__ == "__main__":
    run_script(main)
