"""Reference vectors of the image-to-3D networks: both networks, decoding, scores and losses.

Crops, heat-map targets and the data sets' samples are in `hourglass_data`.
"""

import zlib

import numpy as np
import torch
from torch import Tensor

import models
from common.images import decode, heatmap, scores
from models.hourglass import losses
from tests.golden import heatmap_2017, hourglass_data
from tests.golden.rule import EXACT, FORWARD, GRADIENT, Golden, Tolerance, filled_state, load_filled

METRIC_MM = Tolerance(absolute=1e-3)
SMALL = Tolerance(absolute=1e-8, relative=1e-3)
PIXELS = Tolerance(absolute=1e-5)
# The filled second stack reaches 1500 and cancels down to 0: this network in float64 is 1.8e-3 from the file as well.
DEEP = Tolerance(absolute=1e-4, relative=1e-4, of_largest=2e-6)

OPS_INPUTS = (
    "acc_centers", "acc_pred_centers", "acc_missing", "gt_3d", "reg_mask", "var_depth", "var_gt2d", "var_visible",
    "var_mask", "varz_depth", "varz_gt2d", "fusion_target", *hourglass_data.OPS_INPUTS,
)  # fmt: skip
# The 2017 input pipeline (its crops, transforms and Gaussians) is not built: its networks run on the later one.
BRANCH_INPUTS = (
    "gt3d16", "final_center", "final_scale", "t_*", "t3d", "g_*", "crop_*", "fc_target", "fc_target_after_forward",
    "fc_grad_as_run",
)  # fmt: skip


def _input(golden: Golden, name: str, shape: tuple[int, ...], scale: float = 1.0) -> Tensor:
    """An array that `meta` names instead of storing it."""
    draws = np.random.default_rng(zlib.crc32(f"{golden.salt}/input/{name}".encode()))
    return torch.from_numpy((scale * draws.normal(0.0, 1.0, shape)).astype(np.float32))


def _check_maps(golden: Golden, name: str, found: Tensor, tolerance: Tolerance) -> None:
    """Every second pixel, and [mean, standard deviation, least, largest] of all."""
    golden.check(name, found[..., ::2, ::2], tolerance)
    full = found.double()
    golden.check(f"{name}_stats", torch.stack((full.mean(), full.std(correction=0), full.min(), full.max())))


@torch.no_grad()
def check_resnet(golden: Golden) -> None:
    """Every array of hg3d_resnet.npz."""
    images = _input(golden, "image", (2, 3, 128, 128))
    for layers in golden.meta["construct"]["layers"]:
        weights = filled_state(golden.layout[str(layers)], golden.salt)
        model = load_filled(models.create("pose_resnet", layers=layers, depth=True), weights)
        assert list(model.state_dict()) == list(weights), "other names or another order"
        for name, found in model(images).items():
            _check_maps(golden, f"r{layers}_{name}", found, FORWARD)


@torch.no_grad()
def check_hourglass(golden: Golden) -> None:
    """Every array of hg3d_hourglass.npz."""
    images = _input(golden, "image", (1, 3, 256, 256))
    for layout, name, depth in (("hg3d", "hm", True), ("2D", "hm2d_", False)):
        weights = filled_state(golden.layout[layout], golden.salt)
        model = load_filled(models.create("hourglass", depth=depth), weights)
        output = model(images)
        for i, maps in enumerate(output["hm_stacks"]):
            _check_maps(golden, f"{name}{i}", maps, DEEP)
        if depth:  # up to 4,000: whether float32 keeps the tolerance depends on how the CPU's convolutions round
            exact = model.double()(images.double())["depth"]
            golden.check("reg", 2 * exact)  # here in fractions of the crop, there from -1 to 1
            assert DEEP.worst(output["depth"].numpy(), exact.numpy())[1], "float32 is not near float64"


# ------------------------------------------------------------ decoding, scores and losses


def check_ops(golden: Golden) -> None:
    """Every array of hg3d_ops.npz."""
    hourglass_data.check_ops(golden)  # crops and targets
    _check_decoding(golden)
    _check_accuracy(golden)
    _check_mpjpe(golden)
    _check_depth_loss(golden)
    _check_bone_loss(golden)
    _check_fusion(golden)


def _check_decoding(golden: Golden) -> None:
    maps, depth = _input(golden, "hm", (3, 16, 64, 64)), _input(golden, "depth", (3, 16, 64, 64), 0.2)
    rect, rect_depth = _input(golden, "hm_rect", (2, 16, 64, 48)), _input(golden, "depth_rect", (2, 16, 64, 48), 0.2)
    pixels, height = decode.decode(maps)
    golden.check("preds_true_division", pixels, PIXELS)
    golden.check("preds_conf", height.unsqueeze(-1), EXACT)
    golden.check("preds_floor", decode.decode(maps, "integer")[0], EXACT)
    golden.check("preds_rect_true_division", decode.decode(rect)[0], PIXELS)
    golden.check("preds_3d", decode.decode_3d(maps, depth))
    golden.check("preds_3d_rect", decode.decode_3d(rect, rect_depth))
    alone = _input(golden, "depth_1ch", (3, 1, 64, 64), 0.2)
    golden.check("preds_3d_depth1", decode.decode_3d(maps, alone))


def _check_accuracy(golden: Golden) -> None:
    drawn = torch.ones(3, 16, dtype=torch.bool)
    maps = heatmap.draw_heatmaps(golden["acc_pred_centers"], drawn, (64, 64))
    drawn[tuple(golden["acc_missing"].T)] = False
    target = heatmap.draw_heatmaps(golden["acc_centers"], drawn, (64, 64))
    distances = scores.heatmap_distances(maps, target)
    golden.check("acc_dists", distances.nan_to_num(-1).T)
    golden.check("accuracy", scores.accuracy(distances))
    whole = scores.heatmap_distances(maps, target, "integer")
    golden.check("accuracy_integer_decode", scores.accuracy(whole))
    nothing = scores.heatmap_distances(maps, torch.zeros_like(target))
    golden.check("accuracy_all_missing", scores.accuracy(nothing), EXACT)


def _check_mpjpe(golden: Golden) -> None:
    pose, target = golden["preds_3d"], golden["gt_3d"]
    errors = scores.hg3d_mpjpe(pose, target)
    golden.check("mpjpe", errors.nanmean(), METRIC_MM)
    golden.check("mpjpe_count", errors.isfinite().sum(), EXACT)
    converted = scores.at_published_size(decode.mpii_to_h36m(pose))
    golden.check("converted_h36m", converted, METRIC_MM)
    first, second = zip(*scores.H36M_EDGES, strict=True)
    exact = converted.double()
    lengths = torch.linalg.vector_norm(exact[:, list(first)] - exact[:, list(second)], dim=-1)
    golden.check("bone_length_sum", lengths.sum(1), METRIC_MM)


def _check_depth_loss(golden: Golden) -> None:
    depth = losses.joint_depth(_input(golden, "reg_output", (4, 16, 64, 64), 0.7), golden["reg_ind"])
    golden.check("reg_gathered", depth.unsqueeze(-1), EXACT)
    depth.requires_grad_(True)
    target, mask = _input(golden, "reg_target", (4, 16, 1), 0.7).squeeze(-1), golden["reg_mask"]
    loss = losses.depth_loss(depth, target, mask)
    golden.check("reg_loss", loss)
    golden.check("reg_loss_masked_rows", losses.depth_loss(depth, torch.where(mask.bool(), target, torch.nan), mask))
    (gradient,) = torch.autograd.grad(loss, depth)
    golden.check("reg_grad_gathered", gradient.unsqueeze(-1), GRADIENT)


def _bone_loss(
    golden: Golden, name: str, visible: Tensor, weakly: Tensor, upstream: float = 1
) -> tuple[Tensor, Tensor]:
    """0.01 times the loss, and its gradient with respect to the depths, times `upstream`."""
    depth = golden[f"{name}_depth"].squeeze(-1).requires_grad_(True)
    loss = 0.01 * losses.bone_ratio_loss(depth, golden[f"{name}_gt2d"], visible, weakly)
    (gradient,) = torch.autograd.grad(upstream * loss, depth)
    return loss, gradient.unsqueeze(-1)


def _check_bone_loss(golden: Golden) -> None:
    visible, weakly = golden["var_visible"].squeeze(-1), golden["var_mask"].sum(1) == 0
    value, gradient = _bone_loss(golden, "var", visible, weakly)
    golden.check("var_value", value.view(1), SMALL)
    golden.check("var_value_autograd64", value, SMALL)
    golden.check("var_grad_handwritten", gradient, SMALL)
    golden.check("var_grad_autograd64", gradient, SMALL)
    # the published gradient forgets the incoming one, 3 here: corrected, so a third of ours is its
    golden.check("var_grad_handwritten_upstream3", _bone_loss(golden, "var", visible, weakly, 3)[1] / 3, SMALL)
    value, gradient = _bone_loss(golden, "varz", torch.ones(1, 16), torch.ones(1, dtype=torch.bool))
    golden.check("varz_value", value.view(1), SMALL)
    golden.check("varz_value_autograd64", value, SMALL)
    golden.check("varz_grad_autograd64", gradient, SMALL)
    _check_handwritten_zero_bone(golden, gradient)


def _check_handwritten_zero_bone(golden: Golden, gradient: Tensor) -> None:
    """The published gradient where a bone has no length lacks the mean's: corrected, so that is taken from ours."""
    depth = golden["varz_depth"].squeeze(-1).requires_grad_(True)
    legs, xy = losses.GROUPS[0], golden["varz_gt2d"]
    lengths = [
        w * ((xy[0, a] - xy[0, b]).square().sum() + (depth[0, a] - depth[0, b]).square()).sqrt() for a, b, w in legs
    ]
    mean = sum(length for length in lengths[1:]) / 4  # bone 0-1 has no length
    forgotten = -0.01 * sum((length - mean).detach() for length in lengths[1:]) / 4 * mean
    (of_mean,) = torch.autograd.grad(forgotten, depth)
    golden.check("varz_grad_handwritten", gradient - of_mean.unsqueeze(-1), SMALL)


def _check_fusion(golden: Golden) -> None:
    nothing = torch.zeros(4, 16, 64, 64)
    output = {"hm": nothing, "depth": _input(golden, "reg_output", (4, 16, 64, 64), 0.7)}
    sample = {"annotated": torch.ones(4, 16, dtype=torch.bool), "pts_crop": 64 * golden["var_gt2d"]}
    sample |= {"reg_ind": golden["reg_ind"], "reg_mask": golden["reg_mask"], "reg_target": golden["fusion_target"]}
    alone = losses.losses(output, nothing, sample | {"reg_target": _input(golden, "reg_target", (4, 16, 1), 0.7)}, 0.1)
    golden.check("fusion_reg_only_w0.1", alone.total, SMALL)
    both = losses.losses(output, nothing, sample, 0.1, 0.01)
    golden.check("fusion_total_w0.1_w0.01", both.total, SMALL)
    golden.check("fusion_var_part", 0.01 * both.bones.view(1), SMALL)


# ------------------------------------------------------------ the first code


def check_branch_ops(golden: Golden) -> None:
    """The arrays of hg3d_branch_ops.npz about decoding, scores and the loss."""
    maps, reg, target = _input(golden, "hm", (3, 16, 64, 64)), _input(golden, "reg", (3, 16), 0.3), golden["gt3d16"]
    golden.check("preds", decode.decode(maps, "integer")[0], EXACT)
    errors = heatmap_2017.mpjpe_2017(maps, reg / 2, target)
    golden.check("mpjpe", errors.nanmean(), METRIC_MM)
    golden.check("mpjpe_count", errors.isfinite().sum(), EXACT)
    refined = heatmap_2017.decode_refined(maps)
    found = heatmap_2017.image_pixels(refined, golden["final_center"], golden["final_scale"])
    golden.check("final_preds", found, EXACT)
    depth = _input(golden, "fc_in", (4, 16), 0.3).requires_grad_(True)
    loss = heatmap_2017.fusion_loss_2017(depth, golden["fc_target"])
    golden.check("fc_value", loss.view(1), SMALL)
    golden.check("fc_grad_intended", torch.autograd.grad(loss, depth)[0], SMALL)
