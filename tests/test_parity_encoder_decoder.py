"""Both stages of the encoder-decoder take the steps of Rhodin et al.'s formulas (ECCV 2018), written out here."""

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import models
from common.multiview.write import write_multiview
from common.skeleton import H36M_17
from models.encoder_decoder.losses import FeatureNet
from tests.parity import Step, assert_same_losses, watch
from tests.tiny_dataset import tiny_poses

RUN = ("-d", "views", "--actor_subset", 1, "--every_nth_frame", 1, "--device", "cpu", "--num_workers", 0, "-b", 8)
RUN += ("-e", 2, "--latent_dropout", 0, "--test_every", 100, "--plot_every", 100)
NETWORK = ("--encoder_type", "unet", "--feature_scale", 16, "--latent_fg", 8, "--latent_3d", 30)
SIZES = {"resolution": 16, "encoder": "unet", "feature_scale": 16, "latent_fg": 8, "latent_3d": 30, "pose_width": 32}
GRADIENT, IMAGENET, POSE = 0.3, 2, 0.5  # weights; published: 0, 2, 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Four frames in four cameras, 16 x 16 pixels; random weights of ResNet-18 and of a network for the pose head."""
    folder = tmp_path_factory.mktemp("views")
    write_multiview(folder / "views", tiny_poses(4, ("S1",), ("Walking",), H36M_17), size=16, frames=4)
    torch.manual_seed(0)
    torch.save(FeatureNet().state_dict(), folder / "resnet18.pth")
    torch.save(models.create("encoder_decoder", **SIZES).state_dict(), folder / "network.pth")
    return folder


# ------------------------------------------------------------ data


def images(kind: str) -> Tensor:
    """(N, 3, 16, 16) of all rows, by ImageNet's statistics."""
    mean, std = torch.tensor((0.485, 0.456, 0.406)).double(), torch.tensor((0.229, 0.224, 0.225)).double()
    with h5py.File("views/labels.h5") as file:
        places = zip(*(np.asarray(file[key]).flatten().tolist() for key in ("seq", "cam", "frame")), strict=True)
        files = [f"views/seq_{seq:03d}/cam_{cam:02d}/{kind}_{frame:06d}.png" for seq, cam, frame in places]
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(path))) for path in files])
    return ((pixels.double() / 255 - mean) / std).permute(0, 3, 1, 2)


def labels(key: str) -> Tensor:
    with h5py.File("views/labels.h5") as file:
        return torch.from_numpy(np.asarray(file[key])).double()


def wanted_poses() -> Tensor:
    """(pose - mean) / std; the root, which is always 0, stays there."""
    pose = (labels("3D") - labels("pose_mean")) / labels("pose_std")
    return F.pad(pose[:, 3:], (3, 0))


# ------------------------------------------------------------ the textbook


def feature_maps(net: nn.Module, images: Tensor) -> list[Tensor]:
    """ResNet-18's first three, batch norm by the batch."""
    net.train()
    first = net.bn1(net.conv1(images)).relu()
    second = net.layer1(F.max_pool2d(first, 3, 2, 1))
    return [first, second, net.layer2(second)]


def synthesised(net: nn.Module, images: Tensor, backgrounds: Tensor, cameras: Tensor, draws: torch.Generator) -> Tensor:
    """Two views of a frame and two of another: each row is turned into the view of one of its frame's two, at random,
    and wears the look of one of the other frame's.
    """
    latent, rows = net.encode(images), torch.arange(len(images)).view(-1, 2)
    to_view, to_look = (torch.rand(*rows.shape, generator=draws).argsort(1) + rows[:, :1] for _ in range(2))
    views, looks = to_view.flatten().tolist(), to_look.view(-1, 2, 2).flip(1).flatten().tolist()
    geometry, appearance = [None] * len(views), [None] * len(views)
    for row, (view, look) in enumerate(zip(views, looks, strict=True)):
        turn = cameras[view] @ cameras[row].T
        geometry[view], appearance[view] = latent.geometry[row] @ turn.T, latent.appearance[look]
    turned = latent._replace(geometry=torch.stack(geometry), appearance=torch.stack(appearance))
    return net.decode(turned, backgrounds), net.pose(latent.geometry)


def synthesis_steps(net: nn.Module, features: nn.Module, steps: list[Step]) -> Iterator[dict[str, Tensor]]:
    """Adam on pixels + edges + features + pose."""
    pictures, behind, cameras, poses = images("img_crop"), images("bg_crop"), labels("extrinsic_rot"), wanted_poses()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]).double() / 4
    sobel = torch.stack((sobel, sobel.T))[:, None]
    for step in steps:
        rows = step.index
        target = pictures[rows]
        made, pose = synthesised(net, target, behind[rows], cameras[rows], step.draws())
        rgb = (made - target).abs().mean()
        gradient = F.conv2d((made - target).flatten(0, 1)[:, None], sobel).abs().mean()
        pairs = zip(feature_maps(features, made), feature_maps(features, target), strict=True)
        imagenet = sum((a - b).abs().mean() for a, b in pairs) / 3
        error = (pose - poses[rows]).square().mean()
        total = rgb + GRADIENT * gradient + IMAGENET * imagenet + POSE * error
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        yield {"loss": total, "rgb": rgb, "gradient": gradient, "imagenet": imagenet, "pose": error}


def pose_steps(encoder: nn.Module, head: nn.Module, steps: list[Step]) -> Iterator[dict[str, Tensor]]:
    """Adam on normalised poses, of the head alone; the encoder is frozen, in evaluation mode."""
    pictures, poses = images("img_crop"), wanted_poses()
    optimizer = torch.optim.Adam(head.parameters(), 1e-3)
    with torch.no_grad():
        geometry = encoder.eval().encode(pictures).geometry.flatten(1)
    for step in steps:
        loss = (head(geometry[step.index]) - poses[step.index]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield {"loss": loss}


# ------------------------------------------------------------ the scripts


def test_synthesis(here, script, monkeypatch):
    """The network is the script's, losses and views are the textbook's."""
    options = ("--input_dimension", 16, "--imagenet_weights", "resnet18.pth", "-c", "synthesis")
    weights = ("--loss_weight_gradient", GRADIENT, "--loss_weight_3d", POSE)
    small = {"encoder_decoder": {"pose_width": 32}}
    seen = watch(script, monkeypatch, "train_encoder_decoder.py", *RUN, *NETWORK, *options, *weights, small=small)
    net, features = (seen.networks[seen.find(name)] for name in ("final_stage0.weight", "layer2.0.conv1.weight"))
    assert len(seen.steps) == 4
    assert_same_losses(seen.steps, list(synthesis_steps(net, features, seen.steps)))


def test_pose(here, script, monkeypatch):
    """The encoder is the script's, the pose head the textbook's."""
    options = ("--pretrained", "network.pth", "-c", "pose")
    seen = watch(script, monkeypatch, "train_encoder_decoder_pose.py", *RUN, *options)
    (net,) = seen.networks
    hidden = [(nn.Linear(size, 32), nn.ReLU(), nn.BatchNorm1d(32), nn.Identity()) for size in (30, 32)]
    head = nn.Sequential(*hidden[0], *hidden[1], nn.Linear(32, 51)).double()
    prefix = "to_pose.fully_connected."
    head.load_state_dict({k.removeprefix(prefix): v for k, v in net.state_dict().items() if k.startswith(prefix)})
    assert len(seen.steps) == 4
    assert_same_losses(seen.steps, list(pose_steps(net, head, seen.steps)))
