"""Scores of the encoder-decoder: pixel errors of synthesised views beside trivial ones, errors of the pose head."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from common import metrics
from common.errors import InputError
from common.multiview.labels import DEVIATION, MEAN, normalise
from common.run.losses import LossBuffer
from common.run.run import Run
from methods.encoder_decoder.data import Views

# images and backgrounds (B, 3, S, S), world_to_camera (B, 3, 3), views of a frame -> (source (B,), synthesised)
OtherViews = Callable[[Tensor, Tensor, Tensor, int], Iterator[tuple[Tensor, Tensor]]]

ANSWERS = ("synthesis", "input view", "mean of the other views", "empty background")
POSE_ERRORS = ("MPJPE", "N-MPJPE", "P-MPJPE")
METRES = 10.0  # coordinates below it are metres, above it millimetres


class ImageScores(NamedTuple):
    """Mean absolute errors in grey levels, 0 to 255.

    cameras: (C,) their numbers; pairs: (4, C, C), of `ANSWERS`, from camera (row) to camera (column), NaN on the
    diagonal; overall: by name, the mean over all pairs of views.
    """

    cameras: list[int]
    pairs: Tensor
    overall: dict[str, float]

    def table(self) -> str:
        """The synthesis by view pair, and the answers side by side."""
        head = "from camera " + "".join(f"{f'to {camera}':>8}" for camera in self.cameras)
        lines = [head]
        for camera, row in zip(self.cameras, self.pairs[0].tolist(), strict=True):
            lines.append(f"{camera:<12}" + "".join(f"{value:8.2f}" if value == value else f"{'-':>8}" for value in row))
        width = max(map(len, self.overall))
        return "\n".join([*lines, "", *(f"{name:<{width}}  {value:6.2f}" for name, value in self.overall.items())])


@torch.no_grad()
def score_views(other_views: OtherViews, data: Views, run: Run, batch_size: int) -> ImageScores:
    """Every view of a frame from every other one, against: the input view as it is, the mean of the other views, the
    empty background (which is what a network paints that does not see the person).
    """
    table = torch.from_numpy(data.groups.rows)
    views = table.shape[1]
    cameras = data.labels.camera[table.to(run.device)].unique()
    count = len(cameras)
    sums = torch.zeros(len(ANSWERS) + 1, count * count, dtype=torch.float64, device=run.device)
    chunks = table.split(max(1, batch_size // views))
    for i in range(run.rank, len(chunks), run.world_size):
        rows = chunks[i].flatten().to(run.device)
        pictures = data.images[rows.cpu()]
        images, backgrounds = (part.to(run.device) for part in pictures)
        camera = torch.searchsorted(cameras, data.labels.camera[rows])
        truth = images.float()
        frames = truth.unflatten(0, (-1, views))
        others = ((frames.sum(1, keepdim=True) - frames) / (views - 1)).flatten(0, 1)
        with run.autocast():
            for source, pred in other_views(
                normalise(images), normalise(backgrounds), data.labels.world_to_camera[rows], views
            ):
                answers = (grey_levels(pred), truth[source], others, backgrounds.float())
                errors = [(answer - truth).abs().mean((1, 2, 3)) for answer in answers]
                errors.append(torch.ones_like(errors[0]))
                sums.index_add_(1, camera[source] * count + camera, torch.stack(errors).double())
    sums = run.world_size * run.average(sums)
    pairs = (sums[:-1] / sums[-1]).view(-1, count, count).cpu()
    overall = (sums[:-1].sum(1) / sums[-1].sum()).tolist()
    return ImageScores(cameras.tolist(), pairs, dict(zip(ANSWERS, overall, strict=True)))


def grey_levels(images: Tensor) -> Tensor:
    """Normalised (B, 3, S, S) -> (B, S, S, 3) in 0 to 255, not rounded."""
    channels = [
        (part.float() * deviation + mean) * 255
        for part, mean, deviation in zip(images.unbind(1), MEAN, DEVIATION, strict=True)
    ]
    return torch.stack(channels, -1).clamp(0, 255)


# ------------------------------------------------------------ poses


@torch.no_grad()
def geometry_table(model: nn.Module, data: Views, rows: np.ndarray, run: Run, batch_size: int) -> Tensor:
    """The encoder's geometry of the images in `rows`, for all rows of the labels (N, P, 3), zeros in the others.

    model: an `EncoderDecoder`, in evaluation mode. The work is shared between the processes.
    """
    rows = torch.from_numpy(np.unique(rows))
    table = None
    for mine in rows.split(batch_size)[run.rank :: run.world_size] or rows[:1].split(1):
        images = data.images[mine][0].to(run.device)
        with run.autocast():
            found = model.encode(normalise(images)).geometry.float()
        if table is None:
            table = found.new_zeros(len(data.labels), *found.shape[1:])
        table[mine.to(run.device)] = found
    if run.world_size > 1 and run.rank >= len(rows.split(batch_size)):
        table.zero_()
    return run.world_size * run.average(table) if run.world_size > 1 else table


def pose_errors(pose: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Errors of each pose (B, 17, 3) in millimetres, (B,): 17 joints, root-relative; N-MPJPE at the best scale (the
    published score is this times 17 / 16, which leaves the root out), P-MPJPE after Procrustes.
    """
    pose, target = (part - part[:, :1] for part in (pose, target))
    factor = millimetres(target)
    found = metrics.mpjpe(pose, target), metrics.n_mpjpe(pose, target), metrics.p_mpjpe(pose, target)
    return {name: factor * values for name, values in zip(POSE_ERRORS, found, strict=True)}


def millimetres(poses: Tensor) -> float:
    """How many there are in the labels' unit, metres or millimetres, by the size of the poses."""
    return 1000.0 if poses.abs().max() < METRES else 1.0


@torch.no_grad()
def score_poses(predict: Callable[[Tensor], Tensor], data: Views, rows: np.ndarray, run: Run) -> dict[str, float]:
    """Mean errors over the rows. predict: rows (B,) -> poses (B, 17, 3) in the labels' unit."""
    if data.labels.pose is None:
        raise InputError("these labels hold no poses to compare with")
    rows = torch.from_numpy(rows).to(run.device)
    with run.autocast():
        poses = torch.cat([predict(part).float() for part in rows.split(1024)])
    errors = pose_errors(poses, data.labels.pose[rows].unflatten(-1, (-1, 3)))
    return {name: values.mean().item() for name, values in errors.items()}


def mean_pose(data: Views) -> Callable[[Tensor], Tensor]:
    """Predicts the mean pose that the labels hold, whatever it sees."""
    return lambda rows: data.labels.mean[rows].unflatten(-1, (-1, 3))


def pose_table(results: dict[str, dict[str, float]]) -> str:
    """A row for each method, millimetres."""
    left = max(map(len, results))
    lines = [" " * left + "".join(f"{name:>10}" for name in POSE_ERRORS)]
    return "\n".join(
        lines + [f"{m:<{left}}" + "".join(f"{values[n]:10.1f}" for n in POSE_ERRORS) for m, values in results.items()]
    )


def row_of(scores: dict[str, Any], prefix: str = "val_") -> dict[str, float]:
    """Scores by names for metrics.csv: `val_mean_of_the_other_views` ..."""
    return {prefix + name.lower().replace(" ", "_").replace("-", "_"): value for name, value in scores.items()}


def losses_line(record: LossBuffer, epoch: int, step: int, seconds: float) -> str:
    """The means over the epoch so far, for the log. Every process must call it."""
    shown = "  ".join(f"{name} {value:.4f}" for name, value in record.means().items() if value)
    return f"[{epoch + 1}] step {step}  {shown}  {seconds:.0f} s"
