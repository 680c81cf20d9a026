"""methods.ites.scaling: the networks' 2D input."""

import pytest
import torch

from common.datasets.h36m_layout import load_pose_set
from common.errors import InputError
from methods.ites.scaling import network_input, normalise, scale_root_to_head
from tests.tiny_dataset import write_tiny_dataset


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_dataset(tmp_path_factory.mktemp("tiny"), keypoints=("gt", "noisy"))


def test_input_of_a_split(tiny):
    pose_set = load_pose_set(tiny, "tiny", "noisy", "S9,S11")
    before = pose_set.keypoints.clone()
    focal = torch.tensor([seq.camera.focal for seq in pose_set.sequences])[pose_set.sequence]
    found = network_input(pose_set)
    assert torch.equal(pose_set.keypoints, before) and found.dtype == torch.float32
    points = (before - before[:, :1]).double() / focal[:, None].double()
    expected = points * 0.2 / (points[:, 0] - points[:, 10]).norm(dim=-1).mean()
    torch.testing.assert_close(found.double(), expected, atol=1e-7, rtol=1e-6)
    assert (found[:, 10] - found[:, 0]).norm(dim=-1).mean().item() == pytest.approx(0.2, rel=1e-6)
    one = load_pose_set(tiny, "tiny", "noisy", "S9")  # another split has another scale
    assert not torch.allclose(network_input(one), found[: len(one)], rtol=1e-5)
    torch.testing.assert_close(normalise(before, focal, length=0.4), 2 * found)


def test_scale_is_summed_accurately():
    """A running float32 sum of 2 million equal lengths is off by more than this."""
    points = torch.zeros(2_000_000, 2, 2)
    points[:, 1, 0] = 0.1
    points[0, 1, 0] = 1e5
    mean = (1e5 + 1_999_999 * float(torch.tensor(0.1))) / 2_000_000
    assert scale_root_to_head(points, 0, 1)[1, 1, 0].item() == pytest.approx(
        0.2 * float(torch.tensor(0.1)) / mean, rel=2e-7
    )
    with pytest.raises(InputError, match="fall together"):
        scale_root_to_head(torch.ones(3, 17, 2))
