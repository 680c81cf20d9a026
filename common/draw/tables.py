"""Tables of results: errors by action with both kinds of mean, as text for the console and as `results.json`."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from common.files.atomic import write_atomic
from common.metrics import Summary, summarise
from common.pose_set import PoseSet

FRAME_MEAN, ACTION_MEAN = "mean over frames", "mean over actions"


def summaries(errors: Mapping[str, Tensor], pose_set: PoseSet) -> dict[str, Summary]:
    """Averages of per-pose errors {name: (N,)} over the actions of a split; the unit stays."""
    actions = pose_set.action_of_item.cpu()
    return {name: summarise(values.cpu(), actions, pose_set.actions) for name, values in errors.items()}


def action_table(results: Mapping[str, Summary], digits: int = 1) -> str:
    """A table with a row per action, then the frame-wise and the action-wise mean; a column per metric."""
    first = next(iter(results.values()))
    rows = [(name, [r.by_action[name] for r in results.values()]) for name in first.by_action]
    means = [
        (FRAME_MEAN, [r.frame_wise for r in results.values()]),
        (ACTION_MEAN, [r.action_wise for r in results.values()]),
    ]
    left = max(len(name) for name, _ in rows + means)
    widths = [max(len(name), 7) for name in results]

    def line(name: str, cells: list[str]) -> str:
        return f"{name:<{left}}  " + "  ".join(f"{cell:>{w}}" for cell, w in zip(cells, widths, strict=True))

    rule = "-" * (left + sum(widths) + 2 * len(widths))
    body = [[line(name, [f"{v:.{digits}f}" for v in values]) for name, values in part] for part in (rows, means)]
    return "\n".join([line("action", list(results)), rule, *body[0], rule, *body[1]])


def results_dictionary(results: Mapping[str, Summary]) -> dict[str, Any]:
    """The same numbers for `results.json`: overall means, and by action with the number of poses."""
    first = next(iter(results.values()))
    return {
        "overall": {
            FRAME_MEAN: {name: r.frame_wise for name, r in results.items()},
            ACTION_MEAN: {name: r.action_wise for name, r in results.items()},
        },
        "actions": {
            action: {"poses": count, **{name: r.by_action[action] for name, r in results.items()}}
            for action, count in first.frames.items()
        },
        "poses": sum(first.frames.values()),
    }


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file in one piece; numbers that are none (of no item) become null."""
    text = json.dumps(_strict(content), indent=2, allow_nan=False)
    write_atomic(path, lambda file: file.write(f"{text}\n".encode()))


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
