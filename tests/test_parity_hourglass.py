"""train_hourglass.py takes the steps of Zhou et al.'s formulas (ICCV 2017, and their later code), written out here."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tests.parity import Step, assert_same_losses, watch
from tests.tiny_dataset import write_tiny_dataset

DATA = ("--dataset", "synthetic", "--motion", "tiny", "--subjects-train", "S1", "--subjects-test", "S9")
DATA += ("--synthetic_images", 4, "--synthetic_test", 1, "--num_workers", 0, "--device", "cpu", "--val_intervals", 0)
SMALL = ("--input_h", 32, "--input_w", 32, "--arch", "msra_18", "--backbone_weights", "none", "--batch_size", 4)
EVERY_LOSS = ("--task", "human3d", "--ratio_3d", 1, "--weight_3d", 0.1, "--weight_var", 0.01)
SHIN, FOREARM = 1.0085885098415446, 1.1375361376887123
GROUPS = (
    ((0, 1, SHIN), (1, 2, 1), (3, 4, 1), (4, 5, SHIN)),
    ((10, 11, FOREARM), (11, 12, 1), (13, 14, 1), (14, 15, FOREARM)),
    ((2, 6, 1), (3, 6, 1)),
    ((12, 8, 1), (13, 8, 1)),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny set of poses, to draw people from."""
    folder = tmp_path_factory.mktemp("hourglass")
    write_tiny_dataset(folder / "data", frames=5, actions=("Walking",), subjects=("S1", "S9"))
    return folder


class Network(nn.Module):
    """Images to a quarter of their size, (B, 16, h, w) heat maps and depths: any network will do here."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 12, 7, 4, 2), nn.BatchNorm2d(12), nn.ReLU())
        self.hm, self.depth = nn.Conv2d(12, 16, 3, padding=1), nn.Conv2d(12, 16, 3, padding=1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.trunk(images)
        return {"hm": self.hm(features), "depth": self.depth(features)}


def network_input(images: Tensor) -> Tensor:
    """Blue, green, red over 256, by ImageNet's statistics of red, green, blue."""
    mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    return ((images.flip(-1).double() / 256 - mean) / std).permute(0, 3, 1, 2)


def heatmaps(points: Tensor, drawn: Tensor, size: int) -> Tensor:
    """A Gaussian of sigma 2 and peak 1 at each joint, 13 x 13 pixels of it."""
    maps = torch.zeros(*drawn.shape, size, size, dtype=torch.float64)
    for b, j in drawn.nonzero().tolist():
        column, row = points[b, j].tolist()
        for y in range(max(0, row - 6), min(size, row + 7)):
            for x in range(max(0, column - 6), min(size, column + 7)):
                maps[b, j, y, x] = torch.tensor(-((x - column) ** 2 + (y - row) ** 2) / 8).exp()
    return maps


def bone_variance(places: Tensor, depth: Tensor, visible: Tensor) -> Tensor:
    """Of one person: sum over groups of (l - E)^2 / 2 n."""
    total = torch.zeros((), dtype=torch.float64)
    for group in GROUPS:
        ends = [(a, b, weight) for a, b, weight in group if visible[a] > 0.5 and visible[b] > 0.5]
        lengths = [w * ((places[a] - places[b]).square().sum() + (depth[a] - depth[b]) ** 2).sqrt() for a, b, w in ends]
        if lengths:
            lengths = torch.stack(lengths)
            total = total + (lengths - lengths.mean()).square().sum() / (2 * len(lengths))
    return total


def losses(output: dict[str, Tensor], sample: dict[str, Tensor]) -> dict[str, Tensor]:
    """heat maps + 0.1 depths of people with 3D + 0.01 bone ratios of the others."""
    size, count = output["hm"].shape[-1], len(output["hm"])
    points, target = sample["pts_crop"], sample["reg_target"][..., 0].double()
    assert sample["annotated"].all()
    heatmap = (output["hm"] - heatmaps(points, sample["drawn"], size)).square().mean()
    inside = ((points >= 0) & (points < size)).all(-1)
    x, y = torch.where(inside[..., None], points, 0).long().unbind(-1)
    depth = output["depth"][torch.arange(count)[:, None], torch.arange(16), y, x]
    mask = sample["reg_mask"].bool()
    error = (depth - target).abs()[mask]
    error = torch.where(error < 1, error.square() / 2, error - 0.5).sum() / (mask.sum() + 1e-4)
    bones = [bone_variance(points[b] / size, depth[b], target[b]) for b in range(count) if not mask[b].any()]
    bones = sum(bones) / count
    return {"loss": heatmap + 0.1 * error + 0.01 * bones, "heatmap": heatmap, "depth": error, "bones": bones}


def hourglass_steps(net: nn.Module, steps: list[Step], samples: list[dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    """Adam; the rate falls to a tenth after an epoch, of two steps."""
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for i, (_, sample) in enumerate(zip(steps, samples, strict=True)):
        optimizer.param_groups[0]["lr"] = 1e-3 if i < 2 else 1e-4
        terms = losses(net(network_input(sample["image"])), sample)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        yield terms


def test_hourglass(here, script, monkeypatch):
    """The samples are the script's, targets and losses the textbook's."""
    samples, batches = [], DataLoader.__iter__

    def note(loader):
        for batch in batches(loader):
            samples.append(batch)
            yield batch

    monkeypatch.setattr(DataLoader, "__iter__", note)
    torch.manual_seed(0)
    small = {"pose_resnet": Network()}
    options = ("--num_epochs", 2, "--lr_step", 1)
    seen = watch(script, monkeypatch, "train_hourglass.py", *DATA, *SMALL, *EVERY_LOSS, *options, small=small)
    (start,) = seen.networks
    assert len(seen.steps) == 4
    assert_same_losses(seen.steps, list(hourglass_steps(start, seen.steps, samples)))
