"""Errors of predicted poses: MPJPE and its relatives, PCK, AUC, and the alignments behind them.

Conventions
    pred, target: (..., J, 3) poses of the same shape (2D where a function says so), row vectors: `points @ rotation`.
    Every function works on whole batches on any device and returns one number per pose, shape (...); the mean is the
    caller's (`summarise` takes it in both customary ways). 3D distances come back in the unit of the input, metres
    throughout the project. Results have the input's dtype, float32 at least; alignments are computed in float64.
    Only `mpjpe`, `n_mpjpe` and PCK are tied to the caller's frame: subtract the root joint first where the protocol
    says so. Degenerate poses (all joints equal, collinear, zero) give finite errors and finite gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from common.errors import InputError
from common.procrustes import best_rotation, centre, correlate, lengths, ratio, rotate
from common.threads import in_threads

# Poses handled at once: few enough for the caches of a CPU, enough to fill a GPU.
_CPU_CHUNK, _GPU_CHUNK = 1 << 13, 1 << 18


# --- Distances ------------------------------------------------------------------------------------------------------


def joint_errors(pred: Tensor, target: Tensor) -> Tensor:
    """Euclidean distance of every joint. pred, target: (..., J, D) -> (..., J)."""
    check_pair(pred, target)
    dtype = result_dtype(pred)
    return torch.linalg.vector_norm(pred.to(dtype) - target.to(dtype), dim=-1)


def mpjpe(pred: Tensor, target: Tensor) -> Tensor:
    """Mean per-joint position error ("protocol 1"). pred, target: (..., J, D) -> (...)."""
    return joint_errors(pred, target).mean(-1)


def n_mpjpe(pred: Tensor, target: Tensor) -> Tensor:
    """MPJPE after the best scale of each prediction about the origin: sum(p.t) / sum(p.p). (..., J, D) -> (...).

    Rhodin et al., "Unsupervised geometry-aware representation for 3D human pose estimation", 2018.
    """
    return mpjpe(at_best_scale(pred, target), target.double()).to(result_dtype(pred))


def at_best_scale(pred: Tensor, target: Tensor) -> Tensor:
    """Predictions at the scale of `n_mpjpe`, float64. (..., J, D) -> (..., J, D)."""
    check_pair(pred, target)
    p, t = pred.double(), target.double()
    return ratio((p * t).sum((-2, -1)), p.square().sum((-2, -1)))[..., None, None] * p


def p_mpjpe(pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """MPJPE after the best similarity transform, mirror images excluded ("protocol 2"). (..., J, 3) -> (...).

    mask: (..., J) weights of the joints in the mean; the alignment itself always uses all joints. A pose whose mask
    is empty has no error: NaN.
    """
    check_pair(pred, target, size=3)
    (errors,) = by_chunks(_aligned_joint_errors, pred, target)
    return errors.mean(-1) if mask is None else (errors * mask).sum(-1) / mask.sum(-1)


def mean_velocity_error(pred: Tensor, target: Tensor, sequence: Tensor | None = None) -> Tensor:
    """MPJPE of the frame-to-frame motion (MPJVE), metres per frame. (..., T, J, D) -> (..., T - 1).

    sequence: (T,) label of the sequence each frame belongs to; steps from one sequence into the next are left out,
    so that many clips can be scored in one tensor.
    """
    check_pair(pred, target)
    if pred.dim() < 3:
        raise InputError(f"velocity of poses of shape {tuple(pred.shape)}: expected (..., frames, joints, axes)")
    errors = mpjpe(pred.diff(dim=-3), target.diff(dim=-3))
    if sequence is None:
        return errors
    if sequence.shape != pred.shape[-3:-2]:
        raise InputError(f"{tuple(sequence.shape)} sequence labels for {pred.shape[-3]} frames: expected one per frame")
    return errors[..., sequence[1:] == sequence[:-1]]


def velocity_errors(pred: Tensor, target: Tensor, sequence: Tensor) -> Tensor | None:
    """MPJVE as errors of the frames: (N, J, D), sequence (N,) whole numbers, each one's frames on end -> (N,).

    A frame has the error of the step that leads to it, the first of a sequence the mean of its sequence's steps, so
    that a mean over frames weighs sequences by their frames (Pavllo et al., VideoPose3D, CVPR 2019). A frame that is
    alone has the mean of all steps; None where all are.
    """
    same = sequence[1:] == sequence[:-1]
    if not same.any():
        return None
    steps, labels = mean_velocity_error(pred, target, sequence), sequence[1:][same].long()
    totals = steps.new_zeros(int(sequence.max()) + 1, dtype=torch.float64).index_add_(0, labels, steps.double())
    counts = labels.bincount(minlength=len(totals))
    means = torch.where(counts > 0, totals / counts.clamp_min(1), totals.sum() / len(steps))
    errors = means[sequence.long()]
    errors[1:][same] = steps.double()
    return errors.to(steps.dtype)


# --- Fractions of correct joints ------------------------------------------------------------------------------------


def pck(pred: Tensor, target: Tensor, threshold: float = 0.150, joints: Sequence[int] | None = None) -> Tensor:
    """Fraction (0..1) of a pose's joints closer than `threshold`, strictly. (..., J, D) -> (...).

    Mehta et al., "Monocular 3D human pose estimation in the wild using improved CNN supervision", 2017: 150 mm.
    """
    return _fraction_within(joint_errors(pred.double(), target.double()), threshold, joints).to(result_dtype(pred))


def auc(pred: Tensor, target: Tensor, joints: Sequence[int] | None = None, thresholds: int = 31) -> Tensor:
    """Mean of a pose's PCK over `auc_thresholds`, 0..1 (30/31 at best: nothing is below 0). (..., J, D) -> (...)."""
    errors = _select(joint_errors(pred.double(), target.double()), joints)
    not_above = torch.bucketize(errors, auc_thresholds(errors.device, thresholds), right=True)  # thresholds <= error
    return (1 - not_above.double() / thresholds).mean(-1).to(result_dtype(pred))


def auc_thresholds(device: torch.device | str | None = None, count: int = 31) -> Tensor:
    """Thresholds every 5 mm from 0 on, in metres, float64: 31 end at 150 mm, the published ones; 41 at 200 mm."""
    return torch.linspace(0, 0.005 * (count - 1), count, dtype=torch.float64, device=device)


def mehta_joints(names: Sequence[str]) -> list[int]:
    """The places of the 14 joints of MPI-INF-3DHP's protocol (Mehta et al. 2017) in a layout of Human3.6M's names:
    head, base of the neck, limbs; no pelvis, spine and face.
    """
    return [place for place, name in enumerate(names) if name not in ("hip", "spine", "neck")]


def pckh(
    pred: Tensor, target: Tensor, head_size: Tensor, visible: Tensor | None = None, threshold: float = 0.5
) -> Tensor:
    """Correct 2D joints relative to the head's size: 1 or 0 per joint, NaN where it is not visible.

    pred, target: (..., J, 2) pixels; head_size: (...) pixels (MPII: 0.6 of the head box's diagonal); visible: (..., J)
    -> (..., J). `.nanmean(0)` is MPII's score of every joint, `.nanmean()` that of all.
    Andriluka et al., "2D human pose estimation: new benchmark and state of the art analysis", 2014.
    """
    errors = joint_errors(pred.double(), target.double())
    correct = (errors < threshold * head_size.double()[..., None]).to(result_dtype(pred))
    return correct if visible is None else correct.masked_fill(visible == 0, torch.nan)


def _fraction_within(errors: Tensor, threshold: float, joints: Sequence[int] | None) -> Tensor:
    return (_select(errors, joints) < threshold).double().mean(-1)


def _select(errors: Tensor, joints: Sequence[int] | None) -> Tensor:
    return errors if joints is None else errors[..., list(joints)]


# --- Averages -------------------------------------------------------------------------------------------------------


class Summary(NamedTuple):
    """Averages of per-pose errors. The two overall means differ when actions have unequal numbers of frames."""

    frame_wise: float  # mean over all poses
    action_wise: float  # mean of the actions' means
    by_action: dict[str, float]
    frames: dict[str, int]  # number of poses of each action


def summarise(errors: Tensor, actions: Tensor, names: Sequence[str]) -> Summary:
    """Average errors (N,) over all frames and by action. actions: (N,) index into names; absent actions are left out.

    The unit stays the caller's.
    """
    if errors.dim() != 1 or errors.shape != actions.shape:
        raise InputError(f"errors {tuple(errors.shape)} and actions {tuple(actions.shape)}: expected (N,) each")
    actions = actions.long()
    totals = errors.new_zeros(len(names), dtype=torch.float64).index_add_(0, actions, errors.detach().double())
    totals, counts = totals.tolist(), torch.bincount(actions, minlength=len(names)).tolist()
    by_action = {name: total / n for name, total, n in zip(names, totals, counts, strict=True) if n}
    frames = {name: n for name, n in zip(names, counts, strict=True) if n}
    if not frames:
        raise InputError("no poses to average: expected at least one")
    return Summary(sum(totals) / sum(counts), sum(by_action.values()) / len(by_action), by_action, frames)


# --- Alignment ------------------------------------------------------------------------------------------------------


class Alignment(NamedTuple):
    """A prediction carried onto its target: `aligned = scale * pred @ rotation + translation`."""

    aligned: Tensor  # (..., J, 3)
    rotation: Tensor  # (..., 3, 3)
    scale: Tensor  # (...)
    translation: Tensor  # (..., 3)


def procrustes_align(pred: Tensor, target: Tensor, reflection: str = "corrected") -> Alignment:
    """Carry each prediction onto its target by the similarity of least squares. (..., J, 3) -> Alignment.

    reflection: "corrected" allows rotations only (the pose metric); "allowed" also mirror images where they fit
    better; "forced" mirror images only. A prediction that is a single point lands on the target's centroid.
    """
    check_pair(pred, target, size=3)

    def align(pred: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        p, _, p_mean, t_mean, rotation, scale = _fit(pred, target, reflection)
        aligned = rotate(p, scale * rotation) + t_mean
        translation = t_mean - rotate(p_mean, scale * rotation)
        return batch_first(aligned, rotation, scale, translation, result_dtype(pred))

    return Alignment(*by_chunks(align, pred, target))


def _aligned_joint_errors(pred: Tensor, target: Tensor) -> tuple[Tensor]:
    """Distances (n, J) after alignment; the centroids, which then coincide, are left out."""
    p, t, _, _, rotation, scale = _fit(pred, target, "corrected")
    errors = lengths(rotate(p, scale * rotation).sub_(t))
    return (errors.T.to(result_dtype(pred)),)


def _fit(pred: Tensor, target: Tensor, reflection: str) -> tuple[Tensor, ...]:
    """Similarity between poses (n, J, 3), float64, batch last as in `common.procrustes`.

    -> centred poses (3, J, n) twice, their centroids (3, 1, n) twice, rotation (3, 3, n), scale (n,)
    """
    p, p_mean = centre(pred)
    t, t_mean = centre(target)
    rotation, sigma = best_rotation(correlate(p, t), reflection)
    return p, t, p_mean, t_mean, rotation, ratio(sigma.sum(0), p.square().sum((0, 1)))


def batch_first(aligned: Tensor, rotation: Tensor, scale: Tensor, translation: Tensor, dtype: torch.dtype) -> tuple:
    """The fields of an Alignment from (3, J, n), (3, 3, n), (n,), (3, 1, n)."""
    parts = aligned.permute(2, 1, 0), rotation.permute(2, 0, 1), scale, translation.squeeze(1).T
    return tuple(part.to(dtype) for part in parts)


# --- Helpers --------------------------------------------------------------------------------------------------------


def by_chunks(function: Callable[..., tuple[Tensor, ...]], pred: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """Apply function((n, J, 3), (n, J, 3)) -> tuple of (n, ...) to poses (..., J, 3), so many at a time."""
    batch, pose = pred.shape[:-2], pred.shape[-2:]
    on_cpu = pred.device.type == "cpu"
    chunk = _CPU_CHUNK if on_cpu else _GPU_CHUNK
    pairs = list(zip(pred.reshape(-1, *pose).split(chunk), target.reshape(-1, *pose).split(chunk), strict=True))
    needs_grad = torch.is_grad_enabled() and (pred.requires_grad or target.requires_grad)
    if len(pairs) > 1 and on_cpu and not needs_grad:
        results = in_threads(lambda pair: function(*pair), pairs)
    else:
        results = [function(p, t) for p, t in pairs]
    return tuple(torch.cat(parts).reshape((*batch, *parts[0].shape[1:])) for parts in zip(*results, strict=True))


def check_pair(pred: Tensor, target: Tensor, size: int | None = None) -> None:
    """Different shapes would broadcast into a number that looks like a result."""
    if pred.shape != target.shape or pred.dim() < 2 or (size is not None and pred.shape[-1] != size):
        axes = "2 or 3" if size is None else size
        found = f"predicted poses {tuple(pred.shape)}, targets {tuple(target.shape)}"
        raise InputError(f"{found}: expected the same shape (..., joints, {axes}) for both")


def result_dtype(tensor: Tensor) -> torch.dtype:
    """The input's, float32 at least."""
    return torch.promote_types(tensor.dtype, torch.float32)
