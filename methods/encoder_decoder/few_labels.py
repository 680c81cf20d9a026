"""Few labels: what self-supervised features are worth where only a part of the training labels is there."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

import models
from common.errors import InputError
from common.multiview.labels import normalise
from common.run.run import Run, derived_seed
from methods.encoder_decoder import scores
from methods.encoder_decoder.data import Views
from models.encoder_decoder import losses, views
from models.encoder_decoder.views import pose_predictor

CURVES = ("self-supervised features", "from scratch")


class Features(NamedTuple):
    """Geometry (N, P, 3) of a frozen encoder for all labels (`scores.geometry_table`) of the training and test sets."""

    train: Tensor
    test: Tensor


def fractions(text: str) -> list[float]:
    """`0.01,0.1` as numbers, ascending.

    Raises:
        InputError: no numbers above 0 and up to 1.
    """
    try:
        values = sorted({float(part) for part in text.split(",") if part.strip()})
    except ValueError:
        values = [math.nan]
    if not all(0 < value <= 1 for value in values):
        raise InputError(f"--label_fraction {text}: expected numbers above 0 and up to 1, with commas between")
    return values


def score(
    args: Any, run: Run, sizes: dict[str, Any], train: Views, test: Views, features: Features, parts: list[float]
) -> Iterator[tuple[float, int, dict[str, dict[str, float]]]]:
    """For each part of the training labels: part, number of images, and errors (`scores.score_poses`) by `CURVES`: of
    a pose head on the frozen features, and of the same encoder and head from scratch.

    sizes: of the network; the options are `--label_steps`, `--learning_rate`, `--batch_size`, `--every_nth_frame`.
    """
    rows = torch.from_numpy(train.rows(args.every_nth_frame))
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(derived_seed(args.seed, "labels")))
    for part in parts:
        count = max(2 * run.world_size, round(part * len(rows)))
        chosen = rows[order[:count]].to(run.device)
        found = {}
        for name, points in zip(CURVES, (features.train, None), strict=True):
            torch.manual_seed(args.seed)
            model = run.prepare(models.create("encoder_decoder", **sizes))
            learn(args, run, model, train, chosen, points)
            seen = features.test
            if points is None:
                seen = scores.geometry_table(model, test, test.rows(), run, args.batch_size)
            found[name] = scores.score_poses(pose_predictor(model, seen, test.labels), test, test.rows(), run)
        yield part, count, found


def learn(args: Any, run: Run, model, train: Views, chosen: Tensor, points: Tensor | None) -> None:
    """Train the pose head on frozen features (N, P, 3), or without them the encoder with it, on the rows `chosen`."""
    labels = train.labels
    parameters = model.parameters() if points is None else model.to_pose.parameters()
    optimizer = torch.optim.Adam(parameters, args.learning_rate, fused=True)
    views.training_mode(model, [])
    step, epoch = 0, 0
    while step < args.label_steps:
        for _, index in run.batches(len(chosen), args.batch_size, epoch, purpose="few labels"):
            rows = chosen[run.shard(index)]
            with run.autocast():
                if points is None:
                    (images,) = train.images[rows.cpu()]
                    geometry = model.encode(normalise(images.to(run.device))).geometry
                else:
                    geometry = points[rows]
                pose = model.pose(geometry)
            loss = losses.pose_loss(pose, labels.pose[rows], labels.mean[rows], labels.std[rows])
            optimizer.zero_grad()
            (loss * run.weight(rows, index)).backward()
            run.reduce_gradients(model)
            optimizer.step()
            step += 1
            if run.stop_requested:
                run.leave("stopped; few-label runs are short and do not resume")
            if step == args.label_steps:
                break
        epoch += 1
    model.eval()
