"""Heat-map, depth and bone-ratio losses: values against loops over poses, gradients, and joints that do not count."""

import pytest
import torch

from models.hourglass import losses as hl
from models.hourglass.losses import GROUPS
from tests.golden import heatmap_2017


def seeded(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def looped(depth, xy, visible, weakly) -> torch.Tensor:
    """The bone loss as it is written down."""
    total = depth.new_zeros(())
    for sample in range(len(depth)):
        for group in GROUPS if weakly[sample] else ():
            lengths = []
            for a, b, weight in group:
                if visible[sample, a] > 0.5 and visible[sample, b] > 0.5:
                    flat = (xy[sample, a] - xy[sample, b]).square().sum()
                    lengths.append(weight * (flat + (depth[sample, a] - depth[sample, b]) ** 2).sqrt())
            if lengths:
                mean = sum(lengths) / len(lengths)
                total = total + sum((length - mean) ** 2 for length in lengths) / (2 * len(lengths))
    return total / len(depth)


def bones(seed: int = 0):
    depth = 0.3 * seeded(5, 16, seed=seed, dtype=torch.float64)
    xy = torch.rand(5, 16, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    visible = (seeded(5, 16, seed=seed + 1) > -0.8).double()
    return depth, xy, visible, torch.tensor([True, True, False, True, True])


def test_bone_loss_is_the_loop():
    depth, xy, visible, weakly = bones()
    visible[3] = 0
    found_at, expected_at = depth.clone().requires_grad_(True), depth.clone().requires_grad_(True)
    found, expected = hl.bone_ratio_loss(found_at, xy, visible, weakly), looped(expected_at, xy, visible, weakly)
    torch.testing.assert_close(found, expected)
    found.backward()
    expected.backward()
    torch.testing.assert_close(found_at.grad, expected_at.grad)
    assert found_at.grad[0].any() and not found_at.grad[2].any() and not found_at.grad[3].any()


def test_bone_loss_gradient_is_right():
    depth, xy, visible, weakly = bones(seed=3)
    assert torch.autograd.gradcheck(lambda z: hl.bone_ratio_loss(z, xy, visible, weakly), depth.requires_grad_(True))


def test_a_bone_without_length_has_finite_gradients():
    depth, xy = torch.zeros(1, 16, requires_grad=True), torch.zeros(1, 16, 2)
    xy[0, 5, 0] = 0.4  # all other bones have none
    loss = hl.bone_ratio_loss(depth, xy, torch.ones(1, 16), torch.tensor([True]))
    loss.backward()
    length = 0.4 * hl.SHIN
    assert loss.item() == pytest.approx((length - length / 4) ** 2 / 8) and torch.isfinite(depth.grad).all()


def test_legs_of_the_published_ratio_cost_nothing():
    depth, xy, legs = torch.zeros(1, 16), torch.zeros(1, 16, 2), torch.zeros(1, 16)
    shin = 0.2 / hl.SHIN
    xy[0, :6, 1] = torch.tensor([0.2 + shin, 0.2, 0.0, 0.0, 0.2, 0.2 + shin])  # ankle, knee, hip, hip, knee, ankle
    legs[0, :6] = 1
    assert hl.bone_ratio_loss(depth, xy, legs, torch.tensor([True])) < 1e-12
    depth[0, 0] = 0.1
    assert hl.bone_ratio_loss(depth, xy, legs, torch.tensor([True])) > 1e-5


def test_joints_that_are_not_annotated_enter_no_loss():
    output = {"hm": seeded(3, 16, 8, 8), "depth": seeded(3, 16, 8, 8, seed=1)}
    for maps in output.values():
        maps.requires_grad_(True)
    annotated = torch.ones(3, 16, dtype=torch.bool)
    annotated[0, 4] = annotated[1, 9] = False
    points = torch.randint(0, 8, (3, 16, 2), generator=torch.Generator().manual_seed(2)) * annotated[..., None]
    index = (points[..., 1] * 8 + points[..., 0]) * 16 + torch.arange(16)
    mask = annotated * torch.tensor([[0], [1], [0]])
    sample = {
        "annotated": annotated, "pts_crop": points, "reg_ind": torch.where(annotated, index, 0),
        "reg_mask": mask.byte(), "reg_target": annotated.float().unsqueeze(-1),
    }  # fmt: skip
    found = hl.losses(output, torch.zeros(3, 16, 8, 8), sample, 0.1, 0.01)
    found.total.backward()
    assert not output["hm"].grad[0, 4].any() and not output["hm"].grad[1, 9].any() and output["hm"].grad[0, 3].any()
    assert not output["depth"].grad[0, 4].any() and not output["depth"].grad[1, 9].any()
    used = output["depth"].grad.flatten(2).ne(0).sum(-1)
    assert (used <= 1).all() and used[1].sum() == 15 and used[0, [0, 1]].all()
    torch.testing.assert_close(found.total, found.heatmap + 0.1 * found.depth + 0.01 * found.bones)


def test_heatmap_loss_is_the_mean_over_everything_of_every_stack():
    first, second, target = seeded(2, 16, 4, 4), seeded(2, 16, 4, 4, seed=1), seeded(2, 16, 4, 4, seed=2)
    both = (first - target).square().mean() + (second - target).square().mean()
    torch.testing.assert_close(hl.heatmap_loss({"hm": second, "hm_stacks": (first, second)}, target), both)
    annotated = torch.ones(2, 16)
    annotated[1, 3] = 0
    expected = ((first - target).square().sum() - (first[1, 3] - target[1, 3]).square().sum()) / first.numel()
    torch.testing.assert_close(hl.heatmap_loss({"hm": first}, target, annotated), expected)


def test_depth_is_read_at_the_joint_in_either_memory_format():
    maps = seeded(2, 16, 5, 7)
    x, y = torch.arange(16) % 7, torch.arange(16) % 5
    index = (y * 7 + x) * 16 + torch.arange(16)
    expected = maps[:, torch.arange(16), y, x]
    for found in (maps, maps.to(memory_format=torch.channels_last)):
        assert torch.equal(hl.joint_depth(found, index.expand(2, 16)), expected)
    assert torch.equal(hl.joint_depth(expected, index.expand(2, 16)), expected)  # regressed


def test_depth_loss():
    depth, target, mask = seeded(3, 16), seeded(3, 16, seed=1), seeded(3, 16, seed=2) > 0
    error = (depth - target).abs()
    smooth = torch.where(error < 1, error**2 / 2, error - 0.5)
    expected = smooth[mask].sum() / (mask.sum() + 1e-4)
    torch.testing.assert_close(hl.depth_loss(depth, target.masked_fill(~mask, torch.nan), mask), expected)
    assert hl.depth_loss(depth, target, torch.zeros(3, 16)) == 0


def test_first_code():
    depth, target = seeded(2, 16), torch.zeros(2, 16, 3)
    target[0, :, 2] = seeded(16, seed=1)  # 3D truth
    target[1] = torch.cat((64 * torch.rand(16, 2, generator=torch.Generator().manual_seed(1)), torch.ones(16, 1)), 1)
    found = heatmap_2017.fusion_loss_2017(depth, target, 0.1, 0.01)
    xy = 2 * target[..., :2] / 64 - 1
    weakly = 2 * looped(depth, xy, target[..., 2], torch.tensor([False, True]))
    expected = 0.1 * (depth[0] - target[0, :, 2]).square().mean() / 2 + 0.01 * weakly
    torch.testing.assert_close(found, expected)


def test_bfloat16_outputs_are_scored_in_float32():
    depth, xy, visible, weakly = (value.float() if value.is_floating_point() else value for value in bones())
    rounded = depth.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = hl.bone_ratio_loss(rounded, xy, visible, weakly)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, hl.bone_ratio_loss(rounded.float(), xy, visible, weakly), rtol=0, atol=0)
    maps = seeded(1, 2, 4, 4).bfloat16()
    assert hl.heatmap_loss({"hm": maps}, torch.zeros(1, 2, 4, 4)).dtype == torch.float32


def test_without_weights_nothing_but_the_heat_maps_is_needed():
    found = hl.losses({"hm": seeded(1, 16, 4, 4)}, torch.zeros(1, 16, 4, 4), {"annotated": torch.ones(1, 16)})
    assert found.total == found.heatmap > 0 and found.depth == found.bones == 0
