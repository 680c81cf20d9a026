"""Reference vectors of the encoder-decoder: both encoders in five uses, losses, feature network and batch sampler."""

import tempfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.multiview.batches import Groups, epoch_batches, view_groups
from common.multiview.labels import Labels
from common.run import checkpoint
from methods.encoder_decoder import checkpoint as encoder_decoder_checkpoint
from models.encoder_decoder import losses
from models.encoder_decoder.network import Blend, EncoderDecoder, Partners
from models.encoder_decoder.views import own_partners, user_rotation, view_rotation
from tests.golden import encoder_decoder_oracles
from tests.golden.encoder_decoder_oracles import rolled_partners
from tests.golden.rule import EXACT, FORWARD, ROTATION, Golden, filled_state, load_filled

MODEL_INPUTS = ("extrinsic_rot", "extrinsic_rot_inv", "external_rotation_*")
OPS_INPUTS = ("pose_std", "frame_info", "sampler_rows_subj_seq_frame_cam")


def _input(golden: Golden, name: str, shape: tuple[int, ...], scale: float = 1.0) -> Tensor:
    """An array that `meta` names instead of storing it."""
    draws = np.random.default_rng(zlib.crc32(f"{golden.salt}/input/{name}".encode()))
    return torch.from_numpy((scale * draws.normal(0.0, 1.0, shape)).astype(np.float32))


# ------------------------------------------------------------ networks


@torch.no_grad()
def check_model(golden: Golden) -> None:
    """encdec_model_resnet.npz and encdec_model_unet.npz, the weights through a file like the released ones."""
    model = _from_released_file(golden)
    images, backgrounds = (_input(golden, name, (4, 3, 128, 128)) for name in ("img_crop", "bg_crop"))
    to_camera = golden["extrinsic_rot"]
    latent = model.encode(images)
    golden.check("latent_3d", latent.geometry)
    golden.check("pose3d", model.pose(latent.geometry))
    in_world, in_camera = golden["external_rotation_global"], golden["external_rotation_cam"]
    roll, stay = rolled_partners(4, 2), own_partners(4)
    mixed = Partners(stay.geometry, torch.tensor([2, 3, 0, 1]))
    cases = {
        "plain": (roll, None, None),
        "ext": (stay, user_rotation(to_camera, in_world), None),
        "ext2": (mixed, user_rotation(to_camera, in_world, in_camera), None),
        "weights": (roll, None, Blend(0.25, 0.5)),
        "sub4": (rolled_partners(4, 4), None, None),
    }
    for name, (partners, rotation, blend) in cases.items():
        rotation = view_rotation(to_camera, partners.geometry) if rotation is None else rotation
        found = model.synthesise(latent, backgrounds, rotation, partners, blend)
        golden.check(f"{name}_img", found[:, :, 1::4, 1::4])
        stats = (found.mean(), found.std(correction=0), found.min(), found.max())
        golden.check(f"{name}_img_stats", torch.stack(stats))
        golden.check(f"{name}_cam2cam", rotation, ROTATION)
        golden.check(f"{name}_shuffled_pose", partners.geometry, EXACT)
        golden.check(f"{name}_shuffled_appearance", partners.appearance, EXACT)


def _from_released_file(golden: Golden) -> EncoderDecoder:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network_best_val_t1.pth"
        torch.save(filled_state(golden.layout, golden.salt), path)
        saved = encoder_decoder_checkpoint.load(path)
        model = EncoderDecoder(**saved.sizes)
        checkpoint.load_weights(model, saved.state, path)
    construct = golden.meta["construct"]
    sizes = {
        "resolution": construct["in_resolution"], "feature_scale": construct["feature_scale"],
        "encoder": construct["encoderType"].lower(), "layers": construct["num_encoding_layers"],
        "latent_fg": construct["dimension_fg"], "latent_3d": construct["dimension_3d"],
        "joints": construct["num_joints"], "pose_layers": construct["n_hidden_to3Dpose"],
    }  # fmt: skip
    assert sizes.items() <= saved.sizes.items(), f"sizes read from the weights: {saved.sizes}"
    return model.eval()


# ------------------------------------------------------------ losses and sampler


@torch.no_grad()
def check_ops(golden: Golden) -> None:
    """encdec_ops.npz."""
    _check_poses(golden)
    _check_images(golden)
    _check_sampler(golden)


def _check_poses(golden: Golden) -> None:
    shape = (5, 51)
    scales = (("pose_pred", 0.3), ("pose_label", 0.25), ("pose_mean", 0.1))
    pred, label, mean = (_input(golden, name, shape, scale) for name, scale in scales)
    std = golden["pose_std"]
    pose, target = pred.view(5, 17, 3), label.view(5, 17, 3)
    error = torch.linalg.vector_norm(pose - target, dim=-1).mean()
    golden.check("mpjpe_w1", error)
    golden.check("mpjpe_w17_16", losses.without_root(error, 17))
    golden.check("ls_scale", losses.least_squares_scale(pose, target))
    still, unit = torch.zeros(shape), torch.ones(shape)
    scaled = encoder_decoder_oracles.scaled_mpjpe(pred, label, still, unit).mean()
    golden.check("ls_scaled_mpjpe", scaled * 16 / 17)
    golden.check("ls_scaled_mpjpe_w17_16", scaled)
    golden.check("train_loss_meanstd_mse", losses.pose_loss(pred, label, mean, std))
    golden.check("train_loss_meanstd_mse_w3", 3 * losses.pose_loss(pred, label, mean, std))
    golden.check("test_loss_unnorm_ls_mpjpe", encoder_decoder_oracles.scaled_mpjpe(pred, label, mean, std).mean())
    subjects = golden["frame_info"][:, 3].long()
    golden.check(
        "train_loss_subjects_1_5",
        encoder_decoder_oracles.subject_pose_loss(pred, label, mean, std, subjects, torch.tensor([1, 5])),
    )


def _check_images(golden: Golden) -> None:
    pred, label = (_input(golden, name, (2, 3, 64, 64)) for name in ("img_pred", "img_label"))
    golden.check("rgb_l1", losses.pixel_loss(pred, label))
    golden.check("rgb_mse", losses.pixel_loss(pred, label, mae=False))
    unused = encoder_decoder_checkpoint.IMAGENET_UNUSED["resnet18"]
    state = filled_state([entry for entry in golden.layout if not entry[0].startswith(unused)], golden.salt)
    for pool in (True, False):
        tag = f"maxpool{pool:d}"
        network = load_filled(losses.FeatureNet(pool, batch_statistics=False), state)
        for i, features in enumerate(network(pred)):
            golden.check(f"feat{i}_{tag}_eval", features[:, ::8, ::8, ::8])
            golden.check(f"feat{i}_{tag}_shape", features.shape, EXACT)
            golden.check(f"feat{i}_{tag}_stats", torch.stack((features.mean(), features.std(correction=0))))
        for kind, mae in (("l1", True), ("mse", False)):
            whole = losses.image_loss(pred, label, network, losses.ImageWeights(rgb=0), mae)
            golden.check(f"imagenet_{kind}_{tag}_eval", whole.total)
            published = load_filled(losses.FeatureNet(pool), state)
            weighted = 2 * losses.perceptual_loss(published, pred, label, mae)
            golden.check(f"imagenet_{kind}_{tag}_train", weighted)
            golden.check(f"imagenet_{kind}_{tag}_bn1_running_mean_after", published.bn1.running_mean, FORWARD)


def _check_sampler(golden: Golden) -> None:
    """Groups in any order, any of them left out by the cut; the order here is fixed, the published one a hash's."""
    subject, sequence, frame, camera = golden["sampler_rows_subj_seq_frame_cam"].long().unbind(1)
    labels = Labels(subject, sequence, frame, camera, torch.eye(3).expand(len(subject), 3, 3))
    two, five = view_groups(labels, 2), view_groups(labels, 2, actors=[5])
    plain = _flat(two)
    golden.check("sampler_noshuffle_cam2_bs4", _as_published(plain, golden.arrays["sampler_noshuffle_cam2_bs4"]), EXACT)
    golden.check("sampler_noshuffle_groups", _as_published(plain, golden.arrays["sampler_noshuffle_groups"]), EXACT)
    golden.check("sampler_actor5_groups", _as_published(_flat(five), golden.arrays["sampler_actor5_groups"]), EXACT)
    everything = view_groups(labels, 0)
    rows = np.sort(everything.rows[everything.rows >= 0])
    left_out = set(rows.tolist()) - set(golden.arrays["sampler_allcams_flat_sorted"].tolist())
    assert len(left_out) == len(rows) % 4, f"rows left out: {left_out}"
    golden.check("sampler_allcams_flat_sorted", np.setdiff1d(rows, list(left_out)), EXACT)
    golden.check("sampler_allcams_nbatches", len(epoch_batches(everything, 4, randomize=False)), EXACT)
    golden.check("sampler_every3_nbatches", len(epoch_batches(two, 4, every_nth_frame=3, randomize=False)), EXACT)
    # drawn at random: the same number of batches with the same structure
    published = golden.arrays["sampler_subject_batches_random_example"]
    drawn = epoch_batches(two, 8, subject_batches=True)
    for batches in (published, drawn):
        _check_structure(batches.reshape(-1, 2, 2), golden.arrays["sampler_rows_subj_seq_frame_cam"])
    assert drawn.shape == published.shape, f"{drawn.shape} batches of subjects, {published.shape} expected"
    golden.rows.append(("sampler_subject_batches_random_example", 0.0, True))


def _flat(groups: Groups) -> set[tuple[int, ...]]:
    """Every pair of views before the cut to whole batches."""
    return set(map(tuple, epoch_batches(groups, 2, randomize=False).tolist()))


def _as_published(found: set[tuple[int, ...]], published: np.ndarray) -> np.ndarray:
    """The published array if its groups are those found but for fewer than a batch of four, else zeros."""
    wanted = set(map(tuple, published.reshape(-1, 2).tolist()))
    return published if wanted <= found and len(found) - len(wanted) < 2 else np.zeros_like(published)


def _check_structure(blocks: np.ndarray, rows: np.ndarray) -> None:
    """blocks: (n, 2 frames, 2 cameras)."""
    place = rows[blocks]
    assert (place[..., 0, :3] == place[..., 1, :3]).all(), "views of a group differ in subject, sequence or frame"
    assert (place[..., 0, 3] != place[..., 1, 3]).all(), "a camera twice in a group"
    assert (place[:, 0, :, :2] == place[:, 1, :, :2]).all(), "the second frame is of another sequence"
