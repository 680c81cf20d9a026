"""Mirroring, flip averaging, and windows of frames."""

import pytest
import torch

from common import lifting
from common.skeleton import H36M_16, H36M_17


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("skeleton", [H36M_16, H36M_17])
def test_mirror_negates_x_and_exchanges_the_sides(skeleton, axes):
    points = torch.randn(4, skeleton.num_joints, axes)
    mirrored = lifting.mirror(points, skeleton)
    left, right, hip = skeleton.index("left knee"), skeleton.index("right knee"), skeleton.index("hip")
    assert torch.equal(mirrored[:, left, 0], -points[:, right, 0])
    assert torch.equal(mirrored[:, right, 1:], points[:, left, 1:])
    assert torch.equal(mirrored[:, hip, 1:], points[:, hip, 1:])
    assert torch.equal(lifting.mirror(mirrored, skeleton), points)


def test_flip_average_of_a_mirror_symmetric_model_is_the_model():
    def symmetric(keypoints):
        return torch.cat([keypoints, keypoints[..., :1].square()], dim=-1)

    keypoints = torch.randn(3, 16, 2)
    torch.testing.assert_close(lifting.flip_average(symmetric, keypoints, H36M_16), symmetric(keypoints))


def test_flip_average_takes_both_sides():
    def shifted(keypoints):  # off to the right by 1, whatever it sees
        return torch.cat([keypoints + torch.tensor([1.0, 0.0]), keypoints[..., :1].square()], dim=-1)

    keypoints = torch.randn(3, 5, 16, 2)
    averaged = lifting.flip_average(shifted, keypoints, H36M_16)
    torch.testing.assert_close(averaged[..., :2], keypoints)


def naive_window(item: int, start: int, length: int, size: int, causal: bool) -> list[int]:
    before = size - 1 if causal else size // 2
    frames = list(range(start, start + length))
    padded = [frames[0]] * size + frames + [frames[-1]] * size
    centre = padded.index(item, size) if item != start else size
    return padded[centre - before : centre - before + size]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("size", [1, 3, 9, 27])
def test_windows_stay_in_their_sequence(size, causal):
    lengths = (5, 1, 30, 2)
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    owner = [i for i, length in enumerate(lengths) for _ in range(length)]
    first = torch.tensor([starts[i] for i in owner])
    last = torch.tensor([starts[i] + lengths[i] - 1 for i in owner])
    index = torch.randperm(len(owner), generator=torch.Generator().manual_seed(0))
    found = lifting.windows(index, first[index], last[index], size, causal)
    expected = [naive_window(i, starts[owner[i]], lengths[owner[i]], size, causal) for i in index.tolist()]
    assert found.tolist() == expected
    assert found.dtype == torch.int64
