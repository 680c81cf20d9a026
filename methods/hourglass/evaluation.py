"""Evaluation of the image-to-3D networks: sets of images, batches on the device, scores, result files.

Zhou et al., "Towards 3D Human Pose Estimation in the Wild: a Weakly-supervised Approach", ICCV 2017, and the authors'
later code. Options are in `methods.hourglass.options`, pictures in `methods.hourglass.pictures`.
"""

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from common.errors import InputError
from common.files.mat import save_mat
from common.files.npz import save_npz
from common.images import heatmap, pckh
from common.images.decode import decode, decode_3d, flip_merge, mpii_to_h36m, pixel_shift
from common.images.loader import one_line_errors, to_device
from common.images.people import Crops, People, bgr_input
from common.images.readers import load_coco_images, load_h36m_images, load_mpii_images
from common.images.scores import ACCURACY_JOINTS, at_published_size, bone_asymmetry, heatmap_distances, hg3d_mpjpe
from common.metrics import p_mpjpe
from common.run.run import Run
from common.skeleton import COCO_17, layout
from common.synthetic.images import load_synthetic_images
from methods.hourglass.options import crop_options

Network = Callable[[Tensor], Mapping[str, Any]]  # images (B, H, W, 3) uint8 -> heat maps "hm" and maybe "depth"
Loss = Callable[[Mapping[str, Any], Tensor, Mapping[str, Tensor]], Tensor]  # output, target maps, sample -> scalar
HALVES = {"3D": (0, "subject"), "2D": (1, "sequence"), "test": (2, "subject")}  # synthetic: seed, looks


# ------------------------------------------------------------ data


def load_crops(args: Namespace, run: Run, train: bool) -> Crops:
    """The training set, or the one to score on, as `--dataset` says."""
    load = {"mpii": _mpii, "coco": _coco, "fusion_3d": _fusion, "synthetic": _synthetic}[args.dataset]
    return Crops(load(args, run, train), crop_options(args, train), train, args.seed if train else 0)


def _mpii(args: Namespace, run: Run, train: bool) -> list[People]:
    return [load_mpii_images(args.data_dir, "train" if train else "val")]


def _coco(args: Namespace, run: Run, train: bool) -> list[People]:
    return [load_coco_images(args.data_dir, "train" if train else "val")]


def _fusion(args: Namespace, run: Run, train: bool) -> list[People]:
    """Human3.6M and MPII; to score on, Human3.6M alone, every tenth image unless `--full_test`."""
    if train:
        return [load_h36m_images(args.data_dir, "train"), load_mpii_images(args.data_dir, "train")]
    return [load_h36m_images(args.data_dir, "val", every=1 if args.full_test else None)]


def _synthetic(args: Namespace, run: Run, train: bool) -> list[People]:
    """As the fusion: people with depths, of a few looks, and others without depths, of many. Other people to score."""
    halves = (["3D"] if args.task == "human3d" else []) + ["2D"] if train else ["test"]
    return [_drawn(args, run, half) for half in halves]


def _drawn(args: Namespace, run: Run, half: str) -> People:
    seed, looks = HALVES[half]
    subjects, count = (
        (args.subjects_test, args.synthetic_test) if half == "test" else (args.subjects_train, args.synthetic_images)
    )
    images = load_synthetic_images(
        args.data_dir,
        subjects,
        args.motion,
        window=args.input_w,
        seed=seed,
        limit=count,
        looks=looks,
        actions=args.actions,
        facing=args.facing,
    )
    if not args.no_cache:
        if run.is_main:  # the others wait, and then find the file
            images.cache(args.cache, lambda items: run.progress(items, len(items), f"drawing {half}"))
        run.average(torch.zeros(1, device=run.device))
        if not run.is_main:
            images.cache(args.cache)
    return images.people(f"synthetic {half}", with_3d=half != "2D")


def summary(crops: Crops) -> str:
    """What is in it, for the log."""
    return ", ".join(f"{people.name} {len(people):,}" for people in crops.sets)


class DeviceBatch:
    """The batch under way, every step at the same place on the device: what a CUDA graph reads again and again.

    `rows`: of the largest batch that comes.
    """

    def __init__(self, device: torch.device, rows: int):
        self.device, self.capacity, self.rows = device, rows, 0
        self.whole: dict[str, Tensor] = {}

    def put(self, batch: Mapping[str, Tensor]) -> None:
        """Copy a batch of the loader there, without waiting."""
        for name, values in batch.items():
            if name not in self.whole:
                size = (self.capacity, *values.shape[1:])
                self.whole[name] = torch.zeros(size, dtype=values.dtype, device=self.device)
            self.whole[name][: len(values)].copy_(values, non_blocking=True)
            self.rows = len(values)

    def sample(self) -> dict[str, Tensor]:
        """Its tensors by name (`common.images.people`)."""
        return {name: values[: self.rows] for name, values in self.whole.items()}


# ------------------------------------------------------------ the network on batches


def memory_format(device: torch.device) -> torch.memory_format:
    """The fast layout: channels last on CUDA; on the CPU contiguous, whose gradients take two thirds of the time
    (benchmarks/hourglass_step.py).
    """
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def network_input(images: Tensor, arch: str) -> Tensor:
    """Images (B, H, W, 3) uint8 -> (B, 3, H, W) float32. Of arch "hg" they are not standardised, as published."""
    pixels = bgr_input(images, standardise=arch != "hg")
    return pixels.contiguous(memory_format=memory_format(images.device))


def same_layout(optimizer: torch.optim.Optimizer) -> None:
    """Lay a loaded state out as the parameters are: fused steps take that for granted, other devices save otherwise."""
    for parameter, slots in optimizer.state.items():
        for name, values in slots.items():
            if isinstance(values, Tensor) and values.shape == parameter.shape:
                slots[name] = torch.empty_like(parameter).copy_(values)


def network(model: torch.nn.Module, run: Run, arch: str) -> Network:
    """The model on images as the loader gives them."""

    def predict(images: Tensor) -> Mapping[str, Any]:
        with run.autocast():
            return model(network_input(images, arch))

    return predict


def target_maps(sample: Mapping[str, Tensor], size: heatmap.Size) -> Tensor:
    """The heat maps to learn, (B, J, h, w)."""
    return heatmap.draw_heatmaps(sample["pts_crop"], sample["drawn"], size)


def accuracy_joints(joints: int) -> tuple[int, ...]:
    """Those that the PCK accuracy is over: MPII's ten, all of COCO's."""
    return tuple(range(joints)) if joints == COCO_17.num_joints else ACCURACY_JOINTS


def sample_accuracy(distances: Tensor, threshold: float = 0.5) -> Tensor:
    """Published validation, a sample a batch: share of right joints among those there, 0 if none. (B, J) -> (B,)."""
    joints = accuracy_joints(distances.shape[-1])
    chosen = torch.stack([distances[:, joint] for joint in joints], 1)
    right, there = (chosen < threshold).sum(1), chosen.isfinite().sum(1)
    return right / there.clamp_min(1)


# ------------------------------------------------------------ scores


@torch.no_grad()
def evaluate(
    network: Network, loader: DataLoader, run: Run, args: Namespace, loss: Loss | None = None,
    refinements: Sequence[str] = (),
) -> dict[str, Tensor]:  # fmt: skip
    """Everything about every sample, on the CPU, N rows in the order of the set, also with several processes.

    acc (N,) share; with a loss, loss (N,), before the mean with the mirrored image, of the batch; points (N, J, 2) map
    pixels and peak (N, J) height, by `--refine`; center (N, 2), scale (N, 2) of the window. With depths also poses
    (N, 17, 3), Human3.6M, millimetres at the published size, mpjpe, p_mpjpe (N,), NaN without truth, asymmetry (N,),
    gt_3d (N, 17, 3). For each of `refinements` "points NAME" and with depths "mpjpe NAME".
    """
    crops: Crops = loader.dataset
    table: dict[str, Tensor] = {}
    skeleton = layout(crops.sets[0].layout)
    if len(crops) < run.world_size:
        raise InputError(f"{len(crops)} samples to score are fewer than the {run.world_size} processes: start fewer")
    for batch in run.progress(one_line_errors(loader), len(loader), "scoring"):
        sample = to_device(batch, run.device)
        output, maps = network(sample["image"]), target_maps(sample, crops.options.map_size)
        rows: dict[str, Tensor] = {} if loss is None else {"loss": loss(output, maps, sample).expand(len(maps))}
        if args.flip_test:
            output = flip_merge(output, network(sample["image"].flip(2)), skeleton)
        rows["acc"] = sample_accuracy(heatmap_distances(output["hm"], maps))
        rows["points"], rows["peak"] = decode(output["hm"], args.refine)
        rows |= {name: sample[name] for name in ("center", "scale")}
        rows |= {f"points {name}": decode(output["hm"], name)[0] for name in refinements}
        if "depth" in output and args.task == "human3d":
            rows |= _scores_3d(output, sample["gt_3d"], args.refine)
            for name in refinements:
                pose = decode_3d(output["hm"], output["depth"], name)
                rows[f"mpjpe {name}"] = hg3d_mpjpe(pose, sample["gt_3d"])
        for name, values in rows.items():
            if name not in table:
                table[name] = values.new_zeros(len(crops), *values.shape[1:])
            table[name][sample["index"]] = values
    if run.world_size > 1:
        table = {name: run.world_size * run.average(values) for name, values in table.items()}  # others' rows are zero
    return {name: values.cpu() for name, values in table.items()}


def _scores_3d(output: Mapping[str, Any], target: Tensor, refine: str) -> dict[str, Tensor]:
    pose = decode_3d(output["hm"], output["depth"], refine)
    sized = at_published_size(mpii_to_h36m(pose))
    error = hg3d_mpjpe(pose, target)
    aligned = torch.where(error.isfinite(), p_mpjpe(sized, target), torch.nan)
    values = {"mpjpe": error, "p_mpjpe": aligned, "asymmetry": bone_asymmetry(pose)}
    return values | {"poses": sized, "gt_3d": target}


def means(table: Mapping[str, Tensor]) -> dict[str, float]:
    """The scores of a set: acc and asymmetry in percent, errors in millimetres."""
    percent = {"acc": 100.0, "asymmetry": 100.0}
    names = [name for name in ("loss", "acc", "mpjpe", "p_mpjpe", "asymmetry") if name in table]
    return {name: percent.get(name, 1.0) * table[name].double().nanmean().item() for name in names}


def better(metric: str, value: float, best: float | None) -> bool:
    """Whether a validation is the best so far: accuracy is to grow, errors and losses are to fall."""
    if best is None:
        return True
    return value > best if metric == "acc" else value < best


def image_points(table: Mapping[str, Tensor], crops: Crops, refine: str, name: str = "points") -> np.ndarray:
    """Joints found, (N, J, 2) image pixels, float64."""
    points = table[name].double().numpy() + pixel_shift(refine)
    return heatmap.to_image(points, table["center"].numpy(), table["scale"][:, 0].numpy(), crops.options.map_size)


def refinement_table(table: Mapping[str, Tensor], crops: Crops, refinements: Sequence[str]) -> str:
    """Mean 2D error, in pixels of the heat map from where the joint is exactly, and MPJPE, by decoding."""
    truth = np.concatenate([people.joints for people in crops.sets])
    there = np.concatenate([people.annotated for people in crops.sets])
    unit = crops.options.map_size[1] / table["scale"][:, :1].numpy()
    lines = []
    for refine in refinements:
        distance = np.linalg.norm(image_points(table, crops, refine, f"points {refine}") - truth, axis=-1) * unit
        text = f"  {refine:<10} 2D error, median {np.median(distance[there]):5.2f}, mean {distance[there].mean():5.2f}"
        error = table.get(f"mpjpe {refine}")
        lines.append(text + " map pixels" + ("" if error is None else f", MPJPE {error.double().nanmean():6.1f} mm"))
    return "\n".join(["decoding of the heat maps (--refine):", *lines])


def pckh_table(points: np.ndarray, path: Path) -> str:
    """MPII's PCKh of its validation set, where the file with the head sizes is at `path`. points: (N, 16, 2)."""
    if not path.is_file():
        return f"no PCKh: {path} is not there (it comes with the published code's evaluation)"
    truth = pckh.read_truth(path)
    if len(truth.joints) != len(points):
        return f"no PCKh: {path} has {len(truth.joints)} people, this set {len(points)}"
    return "PCKh, percent\n" + pckh.table(pckh.scores(torch.from_numpy(points), truth))


# ------------------------------------------------------------ files


def save_predictions(folder: Path, table: Mapping[str, Tensor], points: np.ndarray) -> None:
    """`preds.npz` and `preds.mat`: preds (N, J, 2) image pixels, peak (N, J), and of a 3D test preds_3d and gt_3d
    (N, 17, 3), millimetres, Human3.6M's order, root-relative, and mpjpe (N,).
    """
    arrays = {"preds": points, "peak": table["peak"].float().numpy()}
    if "poses" in table:
        arrays |= {"preds_3d": table["poses"].numpy(), "gt_3d": table["gt_3d"].numpy(), "mpjpe": table["mpjpe"].numpy()}
    save_npz(folder / "preds.npz", **arrays)
    save_mat(folder / "preds.mat", **arrays)
