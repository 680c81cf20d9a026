"""One way to score every method for `benchmarks.compare_methods`: 16 joints, relative to the hip, metres.

The 16 joints are PoseAug's, which every method has: Human3.6M's 17 without the neck. Rows of a method differ in their
protocol; those marked take something from the truth:

    as it is     the pose as predicted. Methods that do not know the size of a body have neither an MPJPE nor what
                 counts millimetres; N-MPJPE and P-MPJPE, which fit every pose to the truth, they have
    scale        the truth's scale for every pose (`methods.ites.metrics.calibrate_by_scale`)
    mirror       besides, the better of the pose and its mirror image in depth (`ites_evaluation`)
"""

from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.train_step import Stopwatch
from common import metrics
from common.datasets.h36m_layout import load_pose_set
from common.images.loader import evaluation_loader
from common.multiview.labels import NORMALISED_POSE, normalise
from common.pose_set import PoseSet, seen
from common.run import checkpoint
from common.run.run import Run
from common.skeleton import H36M_16, H36M_17, Skeleton, convert
from common.synthetic.dataset import ensure_named
from methods import lifters
from methods.encoder_decoder import checkpoint as views_checkpoint
from methods.encoder_decoder import data as views_data
from methods.encoder_decoder import options as views_options
from methods.encoder_decoder import scores as views_scores
from methods.hourglass import checkpoint as hourglass_checkpoint
from methods.hourglass import evaluation, options
from methods.hourglass import scoring as hourglass_scoring
from methods.ites.metrics import calibrate_by_scale, depth_flip, ites_evaluation
from methods.ites.scaling import network_input
from methods.lifters import POSEAUG, SavedLifter
from methods.poseaug import evaluation as poseaug
from models.encoder_decoder.views import pose_predictor

AS_IT_IS, SCALE, MIRROR = "as it is", "scale", "mirror"
BATCH = {"lifter": 4096, "hourglass": 16, "encoder_decoder": 32}  # poses or images at once where speed is measured
ROUNDS = 3  # of it; the best counts


class Cost(NamedTuple):
    """Of a network: parameters, multiply-adds for a pose, poses a second."""

    parameters: int
    multiply_adds: float
    poses_per_s: float


# ------------------------------------------------------------ errors


def errors(pose: Tensor, target: Tensor, sequence: Tensor | None = None) -> dict[str, float | None]:
    """Means over poses. pose, target: (N, J, 3) metres, root-relative; sequence: (N,), None for poses without motion.

    Millimetres; velocity in millimetres a frame; PCK at 150 mm and AUC in percent.
    """
    velocity = None
    if sequence is not None and len(pose) > 1:
        steps = metrics.mean_velocity_error(pose, target, sequence)
        velocity = 1000 * _mean(steps) if len(steps) else None
    return {
        "MPJPE": 1000 * _mean(metrics.mpjpe(pose, target)),
        "N-MPJPE": 1000 * _mean(metrics.n_mpjpe(pose, target)),
        "P-MPJPE": 1000 * _mean(metrics.p_mpjpe(pose, target)),
        "velocity": velocity,
        "PCK": 100 * _mean(metrics.pck(pose, target)),
        "AUC": 100 * _mean(metrics.auc(pose, target)),
    }


def protocols(pose: Tensor, target: Tensor, knows_size: bool, sequence: Tensor | None = None) -> dict[str, dict]:
    """Scores by protocol, one for methods that know the size of a body, three for the others. (N, J, 3) each."""
    pose, target = (part - part[:, :1] for part in (pose, target))
    plain = errors(pose, target, sequence)
    if knows_size:
        return {AS_IT_IS: plain}
    fits = {name: plain[name] if name in ("N-MPJPE", "P-MPJPE") else None for name in plain}
    scaled = calibrate_by_scale(pose, target)
    both = ites_evaluation(pose, target)
    better = torch.where((both.mpjpe_flip < both.mpjpe_pose)[:, None, None], depth_flip(scaled), scaled)
    mirrored = errors(better, target) | {"P-MPJPE": 1000 * _mean(both.p_mpjpe)}  # the better by this metric
    return {AS_IT_IS: fits, SCALE: errors(scaled, target, sequence), MIRROR: mirrored}


def _mean(values: Tensor) -> float:
    return values.double().mean().item()


# ------------------------------------------------------------ lifters


def load_test(args: Namespace, device: torch.device) -> PoseSet:
    """The test subjects, 17 joints."""
    ensure_named(args.data_dir, args.dataset)
    return load_pose_set(
        args.data_dir, args.dataset, args.keypoints, args.subjects_test, downsample=args.downsample, device=device
    )


def load_lifter(path: Path, device: torch.device) -> tuple[SavedLifter, nn.Module]:
    """A lifter's checkpoint and its network, in evaluation mode."""
    saved = lifters.load(path)
    return saved, lifters.network_of(saved, path).to(device)


def lifter_inputs(saved: SavedLifter, test: PoseSet) -> Tensor:
    """The 2D input (N, 17 or 16, 2 or more) of a split as the method's own scripts make it."""
    if saved.method in POSEAUG:
        small = replace(test, keypoints=convert(test.keypoints, H36M_17, H36M_16), skeleton=H36M_16)
        return seen(small, saved.form).inputs
    return test.keypoints if saved.method == "gan" else network_input(test)


def lift(saved: SavedLifter, network: nn.Module, points: Tensor, rows: Iterable[slice], run: Run) -> Tensor:
    """Poses (N, 17, 3) of inputs (N, J, 2). rows: the sequences, which lifters over time see one by one."""
    rows = rows if getattr(network, "receptive_field", 1) > 1 else (slice(None),)
    with run.autocast():
        parts = [lifters.camera_poses(saved, network, points[part]) for part in rows]
    return torch.cat(parts)


def score_lifter(
    saved: SavedLifter, network: nn.Module, test: PoseSet, run: Run, skeleton: Skeleton = H36M_16
) -> dict[str, dict]:
    """Scores by protocol on a split."""
    rows = (slice(s.start, s.start + s.length) for s in test.sequences)
    pose = lift(saved, network, lifter_inputs(saved, test), rows, run)
    pose, target = (convert(part, H36M_17, skeleton) for part in (pose, test.poses))
    return protocols(pose, target, saved.method in POSEAUG, test.sequence)


def warm_up_note(path: Path) -> str:
    """What to say of a state of PoseAug from before it trained its lifter; of others nothing."""
    state = checkpoint.load(path)
    warming = state.get("epoch", 0) <= checkpoint.saved_options(state).get("warmup", -1)
    return "; stopped in its warm-up, which only moves the norms' statistics: it takes more --minutes" * warming


def load_cross(args: Namespace, device: torch.device) -> PoseSet | None:
    """Other people and cameras, as `run_baseline.py --cross_data` has them; single poses of 16 joints."""
    return next(iter(poseaug.load_cross_data(args, device)), None)


def score_cross(saved: SavedLifter, network: nn.Module, cross: PoseSet, run: Run) -> dict[str, dict]:
    """Scores by protocol on a cross-data set, without the published flip average.

    For lifters of 17 joints the neck is put halfway from thorax to head; for teacher and student one scale is set for
    the whole set, as for any split.
    """
    points = cross.inputs
    if saved.method not in POSEAUG:
        points = lifters.input_of(saved, convert(points, H36M_16, H36M_17), None)
    rows = (slice(i, i + 1) for i in range(len(points)))
    pose = convert(lift(saved, network, points, rows, run), H36M_17, H36M_16)
    return protocols(pose, cross.poses, saved.method in POSEAUG)


def lifter_cost(saved: SavedLifter, network: nn.Module, test: PoseSet, run: Run) -> Cost:
    points = lifter_inputs(saved, test)[: BATCH["lifter"]]
    return cost(network, lifters.forward_of(saved, network), points, run)


def score_no_depth(test: PoseSet) -> dict[str, dict]:
    """Scores by protocol of the trivial pose, whose depths are all zero."""
    flat = nn.functional.pad(test.keypoints - test.keypoints[:, :1], (0, 1))
    pose, target = (convert(part, H36M_17, H36M_16) for part in (flat, test.poses))
    return protocols(pose, target, False, test.sequence)


# ------------------------------------------------------------ image networks


def score_hourglass(path: Path, words: Sequence[str], run: Run) -> tuple[dict[str, dict], Cost, int]:
    """Scores by protocol, cost, and how many images of the test subjects; `words`: of `compare_plan.hourglass_data`.

    As test_hourglass.py: the mean with the mirrored image, poses at the average size of a body.
    """
    parser = options.testing_parser("")
    args = parser.parse_args(["--task", "human3d", "--num_workers", "0", *words, "--load_model", str(path)])
    saved = hourglass_checkpoint.load(path)
    args.arch = hourglass_checkpoint.arch_of(saved)
    options.settle(parser, args)
    crops = evaluation.load_crops(args, run, train=False)
    model = hourglass_scoring.load_network(args, saved, path, crops.sets[0].layout)
    model = model.to(run.device, memory_format=evaluation.memory_format(run.device)).eval()
    predict = evaluation.network(model, run, args.arch)
    loader = evaluation_loader(crops, run, args.batch_size, args.num_workers)
    table = evaluation.evaluate(predict, loader, run, args)
    known = table["mpjpe"].isfinite()
    pose, target = (convert(table[name][known] / 1000, H36M_17, H36M_16) for name in ("poses", "gt_3d"))
    images = next(iter(loader))["image"][: BATCH["hourglass"]].to(run.device)
    return protocols(pose, target, True), cost(model, predict, images, run), len(pose)


def score_encoder_decoder(path: Path, words: Sequence[str], run: Run) -> tuple[dict[str, dict], Cost, int]:
    """The same of encoder and pose head, as test_encoder_decoder.py; `words`: of `compare_plan.views_data`."""
    args = views_options.testing_parser("").parse_args(["--ckpt", str(path), *words])
    model, _ = views_checkpoint.load_network(path, args)
    model = run.prepare(model).eval()
    test = views_data.load_test(views_data.find_folder(args, run), args, run, NORMALISED_POSE)
    points = views_scores.geometry_table(model, test, test.rows(), run, args.batch_size)
    rows = torch.from_numpy(test.rows()).to(run.device)
    with torch.no_grad():
        pose = pose_predictor(model, points, test.labels)(rows).float()
    target = test.labels.pose[rows].unflatten(-1, (-1, 3))
    unit = views_scores.millimetres(target) / 1000
    images = normalise(test.images[rows[: BATCH["encoder_decoder"]].cpu()][0].to(run.device))
    speed = cost(model, lambda images: model.pose(model.encode(images).geometry), images, run)
    pose, target = (convert(unit * part, H36M_17, H36M_16) for part in (pose, target))
    return protocols(pose, target, True), speed, len(pose)


# ------------------------------------------------------------ cost


@torch.no_grad()
def cost(network: nn.Module, forward: Callable[[Tensor], Any], batch: Tensor, run: Run) -> Cost:
    """Parameters, multiply-adds and speed of `forward` on a batch that lies on the device."""
    with FlopCounterMode(display=False) as counter:
        forward(batch)
    clock = Stopwatch(run.device)
    with run.autocast():
        repeats = max(1, int(0.1 / clock(lambda: forward(batch))))
        seconds = min(clock(lambda: forward(batch), repeats) for _ in range(ROUNDS))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Cost(parameters, counter.get_total_flops() / 2 / len(batch), len(batch) / seconds)


def rows_of(scores: Mapping[str, Mapping], cross: Mapping[str, Mapping] | None) -> list[dict[str, Any]]:
    """Rows for the table: protocol, errors, and those on the cross-data set, "cross MPJPE" and so on."""
    rows = []
    for protocol, values in scores.items():
        other = {} if cross is None else {f"cross {name}": value for name, value in cross[protocol].items()}
        rows.append({"protocol": protocol, **values, **other})
    return rows
