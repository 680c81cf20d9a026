"""PoseAug's augmentor: what each part may and may not change, its layout, its gradients."""

import pytest
import torch

from common.bones import bone_lengths, bone_vectors, unit_bones
from common.errors import InputError
from common.rotation import so3_exp_exact
from models.layers import centre
from models.poseaug.augmentor import Augmentor, draw_noise, move, spread_ratios, turn_bones

FIXED = [6, 7]  # hip-spine, spine-thorax


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def setting():
    """(model, poses, augmented) in float64, training mode, with a strong augmentor."""
    torch.manual_seed(0)
    model, poses = Augmentor().double(), seeded(12, 16, 3) * 0.3 + torch.tensor([0.0, 0.0, 5.0])
    return model, poses, model(poses, noise_for(12))


def noise_for(count: int) -> tuple[torch.Tensor, ...]:
    return tuple(some.double() for some in draw_noise(count, torch.Generator().manual_seed(1)))


def test_layout_is_the_published_one():
    model = Augmentor()
    assert sum(p.numel() for p in model.parameters()) == 1_181_500
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert (
        len(shapes) == 4 * 37 and list(shapes)[0] == "BAprocess.w1.weight" and list(shapes)[-1] == "RTprocess.w2_T.bias"
    )
    assert shapes["BAprocess.w1.weight"] == (256, 96) and shapes["BAprocess.w2.bias"] == (45,)
    assert shapes["BLprocess.w1_BL.weight"] == (256, 111) and shapes["BLprocess.w2_BL.weight"] == (9, 256)
    assert shapes["RTprocess.linear_stages_T.1.batch_norm2.running_var"] == (256,)
    assert list(shapes)[-4:-2] == ["RTprocess.w2_R.weight", "RTprocess.w2_R.bias"]


def test_bone_angle_keeps_lengths_root_and_the_spine(setting):
    _, poses, found = setting
    before, after = bone_vectors(poses), bone_vectors(found.pose_ba)
    torch.testing.assert_close(bone_lengths(after), bone_lengths(before))
    torch.testing.assert_close(found.pose_ba[:, 0], poses[:, 0])
    cosine = (unit_bones(before) * unit_bones(after)).sum(-1)
    torch.testing.assert_close(found.ba_diff, 1 - cosine)
    torch.testing.assert_close(unit_bones(after)[:, FIXED], unit_bones(before)[:, FIXED])
    assert (found.ba_diff[:, FIXED].abs() < 1e-12).all()
    free = [bone for bone in range(15) if bone not in FIXED]
    assert (found.ba_diff[:, free] > 1e-4).all() and (found.ba_diff <= 2).all()


def test_bone_length_keeps_directions_and_root_and_is_the_same_on_both_sides(setting):
    _, poses, found = setting
    before, after = bone_vectors(found.pose_ba), bone_vectors(found.pose_bl)
    torch.testing.assert_close(unit_bones(after), unit_bones(before))
    torch.testing.assert_close(found.pose_bl[:, 0], poses[:, 0])
    ratios = bone_lengths(after) / bone_lengths(before) - 1
    torch.testing.assert_close(ratios[:, 0:3], ratios[:, 3:6])
    torch.testing.assert_close(ratios[:, 9:12], ratios[:, 12:15])
    torch.testing.assert_close(ratios[:, [0, 1, 2, 6, 7, 8, 9, 10, 11]], found.blr)
    assert (found.blr.abs() <= 0.2).all() and found.blr.abs().max() > 0.1
    assert (found.blr[:, 4] == 0).all(), "spine-thorax keeps its length"


def test_ratios_are_spread_as_published():
    assert spread_ratios(torch.arange(9)).tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 5, 6, 7, 8, 6, 7, 8]


def test_rigid_motion_keeps_the_shape_and_puts_the_root_at_the_translation(setting):
    _, _, found = setting
    torch.testing.assert_close(found.pose_rt[:, 0], found.translation)
    assert (found.translation[:, 2] >= 0).all()
    assert (found.rotation.abs() <= 3.1415).all()
    matrix = so3_exp_exact(found.rotation)
    expected = torch.einsum("bij,bkj->bki", matrix, centre(found.pose_bl)) + found.translation[:, None]
    torch.testing.assert_close(found.pose_rt, expected)
    torch.testing.assert_close(torch.cdist(found.pose_rt, found.pose_rt), torch.cdist(found.pose_bl, found.pose_bl))


def test_a_quarter_turn_about_z_carries_x_to_y():
    points = torch.tensor([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
    found = move(points, torch.tensor([[0.0, 0.0, torch.pi / 2]]), torch.tensor([[1.0, 2.0, 3.0]]))
    torch.testing.assert_close(found, torch.tensor([[[1.0, 2.0, 3.0], [1.0, 3.0, 3.0]]]))


def test_only_the_pose_about_its_root_is_seen(setting):
    model, poses, found = setting
    moved = model.eval()(poses + torch.tensor([1.0, -2.0, 3.0]), noise_for(12))
    still = model(poses, noise_for(12))
    model.train()
    torch.testing.assert_close(moved.pose_rt, still.pose_rt)
    torch.testing.assert_close(moved.pose_ba, still.pose_ba + torch.tensor([1.0, -2.0, 3.0]))


def test_each_trunk_hears_its_own_noise(setting):
    model, poses, _ = setting
    model.eval()
    quiet = [torch.zeros_like(some) for some in noise_for(12)]
    reference = model(poses, quiet)
    changed = []
    for trunk in range(4):
        found = model(
            poses, [n if i == trunk else q for i, (n, q) in enumerate(zip(noise_for(12), quiet, strict=True))]
        )
        same = [
            torch.equal(getattr(found, n), getattr(reference, n)) for n in ("ba_diff", "blr", "rotation", "translation")
        ]
        changed.append([not equal for equal in same])
    model.train()
    assert changed == torch.eye(4, dtype=torch.bool).tolist()


def test_turning_by_nothing_is_nothing_and_the_spine_hears_no_delta():
    directions = unit_bones(seeded(3, 15, 3))
    torch.testing.assert_close(turn_bones(directions, torch.zeros(3, 15, 3)), directions)
    delta = seeded(3, 15, 3, seed=4).requires_grad_()
    turned = turn_bones(directions, delta)
    torch.testing.assert_close(bone_lengths(turned), torch.ones(3, 15, dtype=torch.float64))
    turned.square().sum(-1).mul(torch.arange(15)).add(turned.sum(-1)).sum().backward()
    assert (delta.grad[:, FIXED] == 0).all()
    assert (delta.grad[:, :6].abs().sum(-1) > 0).all() and (delta.grad[:, 8:].abs().sum(-1) > 0).all()


def test_every_weight_gets_a_gradient():
    model = Augmentor()
    found = model(seeded(8, 16, 3).float(), draw_noise(8, torch.Generator().manual_seed(0)))
    sum(some.sin().sum() for some in found).backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent
    assert (model.BLprocess.w2_BL.weight.grad[4] == 0).all()
    assert (model.BAprocess.w2.weight.grad.view(15, 3, 256)[FIXED] == 0).all()


def test_noise_comes_from_the_generator():
    first, again = (draw_noise(5, torch.Generator().manual_seed(7)) for _ in range(2))
    assert [tuple(some.shape) for some in first] == [(5, 48)] * 4
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])


def test_tanh_limit_is_the_bound():
    model = Augmentor(tanh_limit=0.05)
    with torch.no_grad():
        model.BLprocess.w2_BL.bias.fill_(100)
    blr = model(seeded(4, 16, 3).float(), draw_noise(4)).blr
    torch.testing.assert_close(blr[:, [0, 1, 2, 3, 5, 6, 7, 8]], torch.full((4, 8), 0.05))


def test_other_skeletons_are_refused():
    with pytest.raises(InputError, match="17 joints"):
        Augmentor(joints=17)


def test_under_autocast_geometry_stays_float32(setting):
    model, poses = Augmentor().eval(), seeded(6, 16, 3).float()
    noise = draw_noise(6, torch.Generator().manual_seed(0))
    expected = model(poses, noise)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(poses, noise)
    assert {some.dtype for some in found} == {torch.float32}
    after = bone_lengths(bone_vectors(found.pose_ba))
    torch.testing.assert_close(after, bone_lengths(bone_vectors(poses)), rtol=1e-5, atol=1e-6)
    assert (found.blr - expected.blr).abs().max() < 0.02
