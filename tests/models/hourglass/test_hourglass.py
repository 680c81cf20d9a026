"""Stacked hourglass: released layouts, outputs, depth tail, precision."""

import pytest
import torch

import models
from common.errors import InputError
from models.hourglass.hourglass import Hourglass, Residual

SMALL = {"features": 16, "modules": 1, "depth_modules": 1, "size": 64}


def images(size: int = 64, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("depth", "entries", "millions"), [(True, 1446, 14.50), (False, 1272, 12.64)])
def test_released_layout(depth, entries, millions):
    with torch.device("meta"):
        state = models.create("hourglass", depth=depth).state_dict()
    assert len(state) == entries
    assert sum(value.numel() for value in state.values()) / 1e6 == pytest.approx(millions, abs=0.005)
    stacks = 2 if depth else 1  # what goes back into the trunk after the last stack leads to the tail
    assert [name for name in state if name.startswith("ll_") and name.endswith("bias")] == [
        f"ll_.{i}.bias" for i in range(stacks)
    ]
    assert state["hourglass.1.low2.low2.low2.low2_.1.conv3.weight"].shape == (256, 128, 1, 1)
    assert ("reg.weight" in state) == depth


@torch.no_grad()
def test_outputs():
    torch.manual_seed(0)
    model = models.create("hourglass", depth=True, stacks=3, **SMALL).eval()
    output = model(images())
    assert [tuple(maps.shape) for maps in output["hm_stacks"]] == 3 * [(2, 16, 16, 16)]
    assert output["hm"] is output["hm_stacks"][-1] and output["depth"].shape == (2, 16)
    flat = models.create("hourglass", stacks=3, **SMALL).eval()
    flat.load_state_dict({name: value for name, value in model.state_dict().items() if name in flat.state_dict()})
    found = flat(images())
    assert set(found) == {"hm", "hm_stacks"}
    torch.testing.assert_close(found["hm"], output["hm"])


@torch.no_grad()
def test_depth_is_half_of_the_regression():
    model = models.create("hourglass", depth=True, **SMALL).eval()
    model.reg.weight.zero_()
    model.reg.bias.fill_(0.5)
    assert (model(images())["depth"] == 0.25).all()


@torch.no_grad()
def test_residual_step_by_step():
    block, x = Residual(4, 8).eval(), torch.randn(2, 4, 5, 5)
    kept = x.clone()
    out = block.conv1(block.bn(x).relu())
    out = block.conv3(block.bn2(block.conv2(block.bn1(out).relu())).relu()) + block.conv4(x)
    torch.testing.assert_close(block(x), out)
    assert torch.equal(x, kept) and Residual(4, 4).conv4 is None


@torch.no_grad()
def test_hourglass_step_by_step():
    hourglass, x = Hourglass(1, 1, 4).eval(), torch.randn(1, 4, 6, 6)
    low = hourglass.low1_[0](torch.nn.functional.max_pool2d(x, 2))
    low = hourglass.low3_[0](hourglass.low2_[0](low))
    doubled = low.repeat_interleave(2, -1).repeat_interleave(2, -2)
    torch.testing.assert_close(hourglass(x), hourglass.up1_[0](x) + doubled)


def test_every_weight_learns_and_outputs_are_float32_under_autocast():
    torch.manual_seed(0)
    model = models.create("hourglass", depth=True, **SMALL).train()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(images(64, 4))
    assert output["hm"].dtype == output["depth"].dtype == torch.float32
    (sum(maps.square().sum() for maps in output["hm_stacks"]) + output["depth"].square().sum()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert all(p.grad.any() for name, p in model.named_parameters() if name.endswith("weight"))


def test_sizes_that_the_tail_cannot_have():
    with pytest.raises(InputError, match="images of 100 x 100: expected a multiple of 64"):
        models.create("hourglass", depth=True, size=100)
