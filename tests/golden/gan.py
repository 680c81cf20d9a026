"""Reference vectors of the adversarial lifters: networks of both methods, normalisations, losses and errors."""

import tempfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import models
from common.camera import project
from common.datasets.poses_2d import MPII_FILE, load_mpii
from models.adversarial import geometry
from models.adversarial import losses as gan
from tests.golden import adversarial_oracles
from tests.golden.rule import EXACT, Golden, Tolerance, filled_state, load_filled

INPUTS = ("theta", "world_pts", "cam_*", "mpii_pose_in")
METRIC_MM = Tolerance(absolute=1e-3)
PIXELS = Tolerance(absolute=1e-3, relative=1e-6)
ACTIVATIONS = {"leaky_relu": 0.2, "relu": 0.0}  # slopes of chainer's
PORT = {"slope": 0.01, "eps": 1e-5}  # of the torch port
MPII_POSES = 19919


@torch.no_grad()
def check(golden: Golden) -> None:
    """Every array of gan_lifter.npz."""
    _check_networks(golden)
    keypoints = geometry.normalise_2d(_input(golden, "pose2d", 34, 80).unflatten(1, (17, 2)) + 400)
    target = geometry.normalise_3d(_input(golden, "pose3d", 51, 250).unflatten(1, (17, 3)))
    golden.check("normalize_2d", keypoints.flatten(1))
    golden.check("normalize_3d", target.pose.flatten(1))
    golden.check("normalize_3d_scale", target.scale)
    depth = _input(golden, "z_pred", 17, 0.6)
    _check_rotation(golden, keypoints, depth)
    _check_adversarial(golden)
    _check_errors(golden, keypoints, depth, target)
    _check_data(golden)


def _input(golden: Golden, name: str, size: int, scale: float) -> Tensor:
    """An array that `meta` names instead of storing it: six rows of the shared rule."""
    draws = np.random.default_rng(zlib.crc32(f"{golden.salt}/input/{name}".encode()))
    return torch.from_numpy((scale * draws.normal(0.0, 1.0, (6, size))).astype(np.float32))


def _check_networks(golden: Golden) -> None:
    flat = {34: _input(golden, "xy", 34, 0.7), 51: _input(golden, "xyz", 51, 0.7)}

    def output(model: torch.nn.Module, layout: str) -> Tensor:
        weights = filled_state(golden.layout[layout], golden.salt)
        model, poses = load_filled(model, weights), flat[next(iter(weights.values())).shape[1]]
        found = model(poses)
        alone = torch.cat([model(pose) for pose in poses.view(6, 1, 17, -1)])
        assert torch.allclose(found, alone, atol=1e-5), f"{layout}: a batch of one, in joints, differs"
        return found

    golden.check("martinez_generator", output(models.create("gan_lifter"), "martinez_generator"))
    logit = output(models.create("gan_discriminator", axes=3), "martinez_discriminator")
    golden.check("martinez_discriminator_logit", logit)
    golden.check("martinez_discriminator", logit.sigmoid())
    for role, norm in ((role, norm) for role in ("generator", "discriminator") for norm in (False, True)):
        layout, sizes = f"{role}_bn{norm:d}", {"batch_norm": norm}
        for activation, slope in ACTIVATIONS.items():
            found = output(models.create(f"kudo_{role}", slope=slope, **sizes), f"kudo_{layout}")
            golden.check(f"kudo_chainer_{layout}_{activation}", found)
        found = output(models.create(f"kudo_{role}", **PORT, **sizes), f"kudo_{layout}")
        golden.check(f"kudo_torch_{layout}", found if role == "generator" else found.sigmoid())
    later = output(models.create("kudo_generator", batch_norm=True, **PORT), "kudo_generator_bn1_v2")
    golden.check("kudo_torch_generator_bn1_v2", later)
    later = output(models.create("kudo_discriminator", axes=3, batch_norm=True, **PORT), "kudo_discriminator_bn1_v2")
    golden.check("kudo_torch_discriminator_bn1_v2", later.sigmoid())


def _check_rotation(golden: Golden, keypoints: Tensor, depth: Tensor) -> None:
    theta = golden["theta"]
    turned = adversarial_oracles.turn_about_y(torch.cat((keypoints, depth.unsqueeze(-1)), dim=-1), theta)
    golden.check("projected_2d", geometry.kudo_projection(keypoints, depth, theta).flatten(1))
    golden.check("proper_rotated_xyz", turned.flatten(1))
    # the reproduction leaves z as it was: corrected here, so only its x and y are those of ours
    golden.check("lightning_xyz_fake", torch.cat((turned[..., :2], depth.unsqueeze(-1)), dim=-1).flatten(1))
    golden.check("rotation_sine", gan.facing_sine(keypoints, depth).unsqueeze(-1))
    golden.check("heuristic_loss", gan.heuristic_loss(keypoints, depth))


def _check_adversarial(golden: Golden) -> None:
    real, fake = _input(golden, "y_real", 1, 1.5), _input(golden, "y_fake", 1, 1.5)
    golden.check("loss_gen", gan.generator_loss(fake))
    golden.check("loss_dis", gan.discriminator_loss(real, fake))
    golden.check("acc_real", gan.accuracy_real(real))
    golden.check("acc_fake", gan.accuracy_fake(fake))
    # the reproduction squashes twice, which training here does not
    golden.check("lightning_loss_gen", gan.generator_loss(fake.sigmoid()))
    golden.check("lightning_loss_dis", gan.discriminator_loss(real.sigmoid(), fake.sigmoid()))
    golden.check("lightning_acc_dis", gan.accuracy(real, fake))


def _check_errors(golden: Golden, keypoints: Tensor, depth: Tensor, target: geometry.Normalised) -> None:
    errors = gan.kudo_error(keypoints, depth, target)
    golden.check("euclid_per_sample", errors, METRIC_MM)
    golden.check("euclidean_distance", errors.mean(), METRIC_MM)
    golden.check("euclid_per_sample_inverted", gan.kudo_error(keypoints, -depth, target), METRIC_MM)
    facing = adversarial_oracles.kudo_error_facing(keypoints, depth, target).mean()
    golden.check("euclidean_distance_allow_inversion_by_sine", facing, METRIC_MM)
    golden.check(
        "euclidean_distance_best_of_two",
        adversarial_oracles.kudo_error_best(keypoints, depth, target).mean(),
        METRIC_MM,
    )
    golden.check("z_mse", gan.depth_loss(depth, target.pose))


def _check_data(golden: Golden) -> None:
    """Projection of the Human3.6M points, and MPII's poses in their published order."""
    points = (golden["world_pts"] - golden["cam_T"].T) @ golden["cam_R"].T
    f, c, k, p = (golden[f"cam_{name}"].flatten() for name in "fckp")
    golden.check("proj_xy", project(points, torch.cat((f, c, k, p.flip(0)))), PIXELS)  # p the other way round
    golden.check("proj_depth", points[:, 2], METRIC_MM)
    normalised = geometry.normalise_2d(golden["mpii_pose_in"].unflatten(1, (17, 2)))
    golden.check("mpii_pose_out", normalised.view(3, 1, 34))
    golden.check("mpii_dummy_xyz", torch.nn.functional.pad(normalised, (0, 1)).view(3, 1, 51))
    with tempfile.TemporaryDirectory() as folder:  # as many poses as MPII has, each of its own number
        np.save(Path(folder) / MPII_FILE, np.arange(MPII_POSES, dtype=np.float32).repeat(34).reshape(-1, 34))
        train, test = (load_mpii(folder, split)[:, 0, 0].long() for split in ("train", "test"))
    golden.check("mpii_perm_first10", train[:10], EXACT)
    golden.check("mpii_split_sizes", [len(train), len(test)], EXACT)
    assert len(torch.cat((train, test)).unique()) == MPII_POSES, "MPII's splits share poses"
