"""Reference vectors of PoseAug: augmentor, discriminators, the small operations, and one step of all four networks."""

from typing import NamedTuple

import numpy as np
import torch

import models
from common import bones, metrics
from common.camera import project
from methods.poseaug.evaluation import learning_rate
from models.poseaug import losses
from models.poseaug.augmentor import AugmentedPoses, Augmentor, move, spread_ratios
from models.poseaug.discriminators import PARTS, Discriminator2D, Discriminator3D, part_pairs
from models.poseaug.replay_pool import ReplayPool
from tests.golden.rule import EXACT, FORWARD, GRADIENT, METRIC_M, ROTATION, Golden, Tolerance, filled_state, load_filled

AUGMENTOR_INPUTS = ("input_3d", "noise_*", "angle_axis", "cam_param")
DISC2D_INPUTS = ("input_2d",)
DISC3D_INPUTS = ("input_3d",)
OPS_INPUTS = (
    "input_3d", "bones_in", "blr", "blaugment_lengths", "dr_a", "dr_b", "scores", "fake_scores", "metric_target",
    "metric_pred", "weights_w", "fb_*", "cam_param", "diff_ba_diff", "diff_blr", "bl_index", "pool_feed", "filter_2d",
)  # fmt: skip
GANSTEP_INPUTS = ("inputs_3d", "cam_param", "target_d3d", "noise_*")
PERCENT = Tolerance(absolute=1e-5)
PATHS = {"lh": "left arm", "rh": "right arm", "ll": "left leg", "rl": "right leg", "hb": "torso"}


def _noise(golden: Golden) -> tuple[torch.Tensor, ...]:
    return tuple(golden[f"noise_{name}"] for name in ("ba", "bl", "r", "t"))


def _project(poses: torch.Tensor, cameras: torch.Tensor) -> torch.Tensor:
    return project(poses, cameras.unsqueeze(1))


@torch.no_grad()
def check_augmentor(golden: Golden) -> None:
    """Evaluation mode, with no noise and with the stored one; projections; the axis-angle map."""
    model = load_filled(Augmentor(), filled_state(golden.layout, golden.salt))
    poses, cameras, noise = golden["input_3d"], golden["cam_param"], _noise(golden)
    golden.check("bone_vectors", bones.bone_vectors(poses))
    golden.check("root", poses[:, :1])
    _check_matrix(golden, "angle_axis_matrix", golden["angle_axis"])
    still = model(poses, [torch.zeros_like(some) for some in noise])
    _check_augmented(golden, "", still)
    _check_augmented(golden, "noisy_", model(poses, noise))
    _check_matrix(golden, "rotation_matrix", still.rotation)
    golden.check("project_input", _project(poses, cameras))
    golden.check("project_pose_ba", _project(still.pose_ba, cameras))
    golden.check("project_pose_rt", _project(still.pose_rt, cameras))
    golden.check("valid_rt_mask", losses.in_view(_project(still.pose_rt, cameras)), EXACT)


def _check_matrix(golden: Golden, name: str, rotation: torch.Tensor) -> None:
    """The matrix as seen from its effect: the three axes, turned."""
    axes = torch.eye(3).expand(len(rotation), 3, 3)
    turned = move(axes, rotation, torch.zeros_like(rotation))
    golden.check(name, turned.transpose(1, 2), ROTATION)


def _check_augmented(golden: Golden, prefix: str, found: AugmentedPoses) -> None:
    for name in ("pose_ba", "ba_diff", "pose_bl", "blr", "pose_rt"):
        golden.check(prefix + name, getattr(found, name))
    golden.check(f"{prefix}rt_r", found.rotation)
    golden.check(f"{prefix}rt_t", found.translation.unsqueeze(1))


@torch.no_grad()
def check_disc2d(golden: Golden) -> None:
    """Scores of 2D poses."""
    model = load_filled(Discriminator2D(), filled_state(golden.layout, golden.salt))
    golden.check("output", model(golden["input_2d"]))


@torch.no_grad()
def check_disc3d(golden: Golden) -> None:
    """Scores of 3D poses."""
    model = load_filled(Discriminator3D(), filled_state(golden.layout, golden.salt))
    golden.check("output", model(golden["input_3d"]))


def check_ops(golden: Golden) -> None:
    """Bones, KCS, losses, metrics, pool and schedules."""
    _check_bones(golden)
    _check_kcs(golden)
    _check_losses(golden)
    _check_feedback(golden)
    _check_metrics(golden)
    _check_pool(golden)
    golden.check("filter_keep", losses.in_view(golden["filter_2d"]), EXACT)
    rates = [1e-4 * losses.decay_factor(epoch, 50) for epoch in range(50)]
    golden.check("lambda_lr_50_epochs", np.array(rates), Tolerance(relative=1e-12))
    steps = golden.arrays["baseline_lr_steps"][:, 0]
    found = [[step, learning_rate(step, 1e-3, 100_000, 0.96)] for step in steps]
    golden.check("baseline_lr_steps", np.array(found), Tolerance(relative=1e-12))


def _check_bones(golden: Golden) -> None:
    poses, given, ratios = golden["input_3d"], golden["bones_in"], 1 + spread_ratios(golden["blr"].squeeze(-1))
    vectors, root = bones.bone_vectors(poses), poses[:, 0]
    golden.check("bone_vectors", vectors)
    golden.check("bone_lengths", bones.bone_lengths(vectors).unsqueeze(-1))
    golden.check("unit_vectors", bones.unit_bones(vectors))
    golden.check("pose_from_bones", bones.pose_from_bones(given))
    golden.check("unit_pose", bones.pose_from_bones(bones.unit_bones(vectors)))
    golden.check("blaugment9to15", bones.pose_from_bones(given * ratios.unsqueeze(-1), root))
    lengths = golden["blaugment_lengths"].squeeze(-1) * ratios
    rebuilt = bones.with_lengths(bones.pose_from_bones(given, root), lengths)
    golden.check("blaugment9to15_given_lengths", rebuilt)
    templates = bones.length_templates()
    golden.check("bl_templates", templates, EXACT)
    swapped = bones.with_lengths(poses, templates[golden["bl_index"]])
    golden.check("random_bl_aug", swapped)
    golden.check("random_bl_aug_lengths", bones.bone_lengths(bones.bone_vectors(swapped)).unsqueeze(-1))


def _check_kcs(golden: Golden) -> None:
    """What the discriminator's paths see, put back into the full matrices."""
    vectors, model = bones.bone_vectors(golden["input_3d"]), Discriminator3D()
    for prefix, some in (("kcs", bones.unit_bones(vectors)), ("kcs_raw", vectors)):
        for (name, part), products in zip(PARTS.items(), model.products(some), strict=True):
            matrix = torch.zeros(len(some), 15, 15)
            for (i, j), product in zip(part_pairs(part), products.unbind(1), strict=True):
                matrix[:, i, j] = matrix[:, j, i] = product
            short = next(short for short, long in PATHS.items() if long == name)
            golden.check(f"{prefix}_{short}", matrix)


def _check_losses(golden: Golden) -> None:
    a, scores, fakes = golden["dr_a"], golden["scores"], golden["fake_scores"]
    golden.check("diff_range_loss_std_0.3", losses.range_loss(a, golden["dr_b"], 0.3))
    golden.check("diff_range_loss_scalar_target", losses.range_loss(a, 0.205, 0.165))
    golden.check("rectifiedL2loss_0.1", losses.range_loss(a, 0.0, 0.1))
    golden.check("diff_loss", sum(losses.diff_loss(golden["diff_ba_diff"], golden["diff_blr"])))
    golden.check("adv_loss", losses.adversarial_generator_loss(scores, fakes))
    golden.check("dis_loss", losses.discriminator_loss(scores, fakes))
    golden.check("disc_accuracy_real", losses.accuracy(scores, 1))
    golden.check("disc_accuracy_fake", losses.accuracy(scores, 0))


def _check_feedback(golden: Golden) -> None:
    """With a lifter that returns the stored predictions."""
    names = ("origin", "ba", "rt")
    cameras, three = golden["cam_param"], ("fb_inputs_3d", "fb_ba_3d", "fb_rt_3d")
    pairs = [losses.PosePair(_project(golden[name], cameras), golden[name]) for name in three]
    stored = iter([golden[f"fb_pred_{name}"] for name in names])
    errors = losses.feedback_errors(lambda keypoints: next(stored), *pairs)
    for name, found in zip(names, errors, strict=True):
        golden.check(f"posenet_loss_{name}", found)
    golden.check("feedback_ratio_ba", errors.ba / errors.original)
    golden.check("feedback_ratio_rt", errors.rt / errors.original)
    for epoch in (1, 10, 40):
        golden.check(f"feedback_loss_epoch{epoch}", _feedback(errors, epoch))


def _feedback(errors: losses.FeedbackErrors, epoch: int) -> torch.Tensor:
    """Both terms with the published numbers, at an epoch of 50."""
    ba = losses.feedback_loss(errors.ba, errors.original, losses.hard_ratio(epoch, 50, 3, 5), 2, 0.1)
    rt = losses.feedback_loss(errors.rt, errors.original, losses.hard_ratio(epoch, 50, 17, 17), 15, 0.01)
    return ba.loss + rt.loss


def _check_metrics(golden: Golden) -> None:
    pred, target = golden["metric_pred"], golden["metric_target"]
    errors = metrics.joint_errors(pred, target)
    golden.check("PCK", 100 * metrics.pck(pred, target).double().mean(), PERCENT)
    some = metrics.pck(pred, target, joints=(1, 5, 9)).double().mean()
    golden.check("PCK_joints_1_5_9", 100 * some, PERCENT)
    golden.check("AUC", 100 * metrics.auc(pred, target).double().mean(), PERCENT)
    golden.check("mpjpe", errors.mean(), METRIC_M)
    golden.check("mpjpe_byjoint", errors.mean(0), METRIC_M)
    golden.check("p_mpjpe", metrics.p_mpjpe(pred, target).mean(), METRIC_M)
    golden.check("weighted_mpjpe", (golden["weights_w"] * errors).mean(), METRIC_M)
    golden.check("n_mpjpe_4d", metrics.n_mpjpe(pred, target).mean(), METRIC_M)
    golden.check("mean_velocity_error", metrics.mean_velocity_error(pred, target).mean(), METRIC_M)
    mirrored = [metrics.p_mpjpe(pred * torch.tensor(sign), target).mean() for sign in ((-1, 1, 1), (1, -1, 1))]
    assert torch.allclose(*mirrored), "a mirror image is the same whichever axis is negated"
    golden.check("p_mpjpe_mirrored", mirrored[0], METRIC_M)
    fit = metrics.procrustes_align(pred[0], target[0])
    golden.check("procrustes_Z", fit.aligned)
    golden.check("procrustes_rotation", fit.rotation)
    golden.check("procrustes_scale", fit.scale.squeeze())
    golden.check("procrustes_translation", fit.translation.squeeze())
    spread = (target[0] - target[0].mean(0)).square().sum()
    golden.check("procrustes_d", (target[0] - fit.aligned).square().sum() / spread)


def _check_pool(golden: Golden) -> None:
    """A pool of 6 fed by fours, with the published draws: one number a pose once full, and a place if above 0.5."""
    feed, capacity = golden["pool_feed"], 6
    draws, pool, fed, out = np.random.RandomState(123), ReplayPool((1,), capacity), 0, []
    for batch in feed:
        swap, places = torch.zeros(len(batch), dtype=torch.bool), torch.zeros(len(batch), dtype=torch.long)
        for number in range(len(batch)):
            if fed >= capacity and draws.uniform() > 0.5:
                swap[number], places[number] = True, int(draws.randint(0, capacity))
            fed += 1
        out.append(pool.exchange(batch, swap, places))
    golden.check("pool_out", torch.stack(out), EXACT)
    golden.check("pool_final", pool.state_dict()["poses"], EXACT)


# ------------------------------------------------------------ one step


def check_ganstep(golden: Golden, trials: int = 12) -> None:
    """One update of the augmentor, of both discriminators, and of the lifter, with the published losses and rates.

    The filled networks stand on an activation's edge, on either side of which the augmentor's gradient differs by 1e-4
    of its largest entry: input noise of the size of rounding (1e-7) decides, in float64 too. So the augmentor's step is
    tried with such noise until one is on the reference's side; the tolerance stays what it is.
    """
    for trial in range(trials):
        step = _generator_step(golden, trial)
        gradients = [name for name in step.values if name.startswith("gen_grad")]
        if all(GRADIENT.worst(step.values[name].numpy(), golden.arrays[name])[1] for name in gradients):
            break
    for name, value in step.values.items():
        exact = value.dtype in (torch.bool, torch.int64)
        tolerance = GRADIENT if name.startswith(("gen_grad", "gen_after")) else FORWARD
        golden.check(name, value, EXACT if exact else tolerance)
    target_2d = _project(golden["target_d3d"], golden["cam_param"])
    golden.check("target_d2d", target_2d)
    disc3d, disc2d = _filled(Discriminator3D(), golden.salt), _filled(Discriminator2D(), golden.salt)
    _discriminator_step(golden, "d3d", disc3d, golden["target_d3d"], step.values["pose_ba"])
    _discriminator_step(golden, "d2d", disc2d, target_2d, step.values["proj_rt"])
    _lifter_step(golden, step.lifter, step.values["inputs_2d"], golden["inputs_3d"])


def _filled(model: torch.nn.Module, salt: str, boost: bool = False) -> torch.nn.Module:
    """Filled by the rule, in training mode."""
    layout = [[key, value.shape, str(value.dtype)] for key, value in model.state_dict().items()]
    state = filled_state(layout, salt)
    if boost:
        for name, value in state.items():
            last = name.rsplit(".", 1)[-1]
            state[name] = value * value.shape[{"W": 2, "e": 1}[last]] ** 0.5 if last in ("W", "e") else value
    return load_filled(model, state).train()


def _filled_gcn(salt: str) -> torch.nn.Module:
    return _filled(models.create("gcn", stages=4, dropout=0.0), salt, boost=True)


class GeneratorStep(NamedTuple):
    """Arrays by their stored names, and the lifter after its three passes."""

    values: dict[str, torch.Tensor]
    lifter: torch.nn.Module


def _generator_step(golden: Golden, trial: int) -> GeneratorStep:
    """The augmentor's update; trial 0 is without noise."""
    augmentor, lifter = _filled(Augmentor(), golden.salt), _filled_gcn(golden.salt)
    with torch.no_grad():
        augmentor.RTprocess.w2_T.bias[2] = 2.0
    disc3d, disc2d = _filled(Discriminator3D(), golden.salt), _filled(Discriminator2D(), golden.salt)
    poses, cameras = golden["inputs_3d"], golden["cam_param"]
    noise = torch.randn(poses.shape, generator=torch.Generator().manual_seed(trial)) if trial else 0
    poses = poses * (1 + 1e-7 * noise)
    for model in (lifter, disc3d, disc2d):
        model.requires_grad_(False)

    found = augmentor(poses, _noise(golden))
    keypoints, proj_ba, proj_rt = (_project(some, cameras) for some in (poses, found.pose_ba, found.pose_rt))
    adv3d = losses.adversarial_generator_loss(disc3d(poses), disc3d(found.pose_ba))
    adv2d = losses.adversarial_generator_loss(disc2d(keypoints), disc2d(proj_rt))
    diff = sum(losses.diff_loss(found.ba_diff, found.blr))
    pairs = ((keypoints, poses), (proj_ba, found.pose_ba), (proj_rt, found.pose_rt))
    feedback = _feedback(losses.feedback_errors(lifter, *(losses.PosePair(*pair) for pair in pairs)), 5)
    warm_up = adv2d + 6 * adv3d + 3 * diff
    optimizer = torch.optim.Adam(augmentor.parameters(), lr=1e-4)
    (warm_up + feedback).backward()
    gradients = {name: p.grad.clone() for name, p in augmentor.named_parameters()}
    norm = torch.nn.utils.clip_grad_norm_(augmentor.parameters(), 1.0)
    optimizer.step()

    values = {name: getattr(found, name) for name in ("pose_ba", "pose_bl", "pose_rt", "ba_diff", "blr")}
    values |= {"inputs_2d": keypoints, "proj_ba": proj_ba, "proj_rt": proj_rt, "adv_3d": adv3d, "adv_2d": adv2d}
    values |= {"diff": diff, "feedback": feedback, "gen_loss": warm_up + feedback, "gen_loss_warmup": warm_up}
    values |= {"valid_rt_mask": losses.in_view(proj_rt), "gen_grad_norm_before_clip": norm}
    values |= _stored(golden, "gen_grad:", gradients) | _stored(golden, "gen_after:", augmentor.state_dict())
    values |= _stored(golden, "gen_buffer:", augmentor.state_dict())
    values |= _stored(golden, "posenet_buffer:", lifter.state_dict())
    lifter.requires_grad_(True)
    return GeneratorStep({name: value.detach().clone() for name, value in values.items()}, lifter)


def _discriminator_step(golden: Golden, name: str, model, real: torch.Tensor, fake: torch.Tensor) -> None:
    pool = ReplayPool(fake.shape[1:])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    real_scores = model(real)
    fake_scores = model(pool(fake, torch.Generator().manual_seed(0)))
    loss = losses.discriminator_loss(real_scores, fake_scores)
    golden.check(f"{name}_dis_loss", loss)
    golden.check(f"{name}_real_acc", losses.accuracy(real_scores, 1), EXACT)
    golden.check(f"{name}_fake_acc", losses.accuracy(fake_scores, 0), EXACT)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    _check_named(golden, f"{name}_clipped_grad:", {n: p.grad for n, p in model.named_parameters()})
    optimizer.step()
    _check_named(golden, f"{name}_after:", dict(model.named_parameters()))


def _lifter_step(golden: Golden, lifter, keypoints: torch.Tensor, poses: torch.Tensor) -> None:
    optimizer = torch.optim.Adam(lifter.parameters(), lr=1e-3)
    loss = torch.nn.functional.mse_loss(lifter(keypoints), poses - poses[:, :1])
    golden.check("posenet_mse", loss)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(lifter.parameters(), 1.0)
    golden.check("posenet_grad_norm_before_clip", norm, GRADIENT)
    optimizer.step()
    _check_named(golden, "posenet_after:", dict(lifter.named_parameters()))


def _check_named(golden: Golden, prefix: str, found: dict[str, torch.Tensor]) -> None:
    for name, value in _stored(golden, prefix, found).items():
        golden.check(name, value, GRADIENT)


def _stored(golden: Golden, prefix: str, found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What the file holds under that prefix, by the file's names."""
    return {prefix + name: value for name, value in found.items() if prefix + name in golden.arrays}
