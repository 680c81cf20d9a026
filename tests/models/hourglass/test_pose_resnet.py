"""ResNet with transposed convolutions: released layouts, sizes, initial weights, memory format, precision."""

import pytest
import torch

import models
from common.errors import InputError
from models.resnet import ResNet


def images(size: int = 64, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return models.create("pose_resnet", layers=18, depth=True).eval()


# entries of the released layouts, and parameters: torchvision's ResNet without `fc` and three deconvolutions, two heads
@pytest.mark.parametrize(("layers", "entries"), [(18, 142), (34, 238), (50, 340), (101, 646), (152, 952)])
def test_released_layout(layers, entries):
    with torch.device("meta"):
        state = models.create("pose_resnet", layers=layers, depth=True).state_dict()
    names = list(state)
    assert len(names) == entries
    assert names[:2] == ["conv1.weight", "bn1.weight"] and names[-4:] == [
        "depth.weight", "depth.bias", "hm.weight", "hm.bias",
    ]  # fmt: skip
    wide = 512 if layers < 50 else 2048
    assert state["deconv_layers.0.weight"].shape == (wide, 256, 4, 4) and state["hm.weight"].shape == (16, 256, 1, 1)
    if layers >= 50:  # the stride is the 3x3 convolution's
        assert state["layer2.0.downsample.0.weight"].shape == (512, 256, 1, 1)
        assert state["layer1.0.conv3.weight"].shape == (256, 64, 1, 1)


def test_stage_1_has_no_depth_head():
    with torch.device("meta"):
        names = list(models.create("pose_resnet", layers=18, joints=17).state_dict())
    assert not [name for name in names if name.startswith("depth")] and len(names) == 140


@torch.no_grad()
def test_any_size_that_32_divides(model):
    for height, width in ((64, 64), (128, 128), (64, 96)):
        output = model(torch.zeros(1, 3, height, width))
        assert {name: tuple(maps.shape) for name, maps in output.items()} == {
            "hm": (1, 16, height // 4, width // 4),
            "depth": (1, 16, height // 4, width // 4),
        }


def test_the_stride_of_a_bottleneck_is_in_the_middle():
    block = ResNet(50).layer2[0]
    assert block.conv1.stride == (1, 1) and block.conv2.stride == (2, 2) and block.conv3.stride == (1, 1)
    assert block.bn1.momentum == 0.1


def test_published_initial_weights(model):
    for weight in (model.deconv_layers[0].weight, model.deconv_layers[6].weight, model.hm.weight, model.depth.weight):
        assert weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert not model.hm.bias.any() and not model.depth.bias.any()
    assert (model.deconv_layers[1].weight == 1).all()
    assert model.conv1.weight.std().item() == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.05)  # He, by fan out


@torch.no_grad()
def test_both_heads_at_once_are_the_heads(model):
    x = model.deconv_layers(model.features(images()))
    output = model(images())
    torch.testing.assert_close(output["hm"], model.hm(x))
    torch.testing.assert_close(output["depth"], model.depth(x))


@torch.no_grad()
def test_channels_last_gives_the_same_and_stays(model):
    expected = model(images())["hm"]
    swapped = models.create("pose_resnet", layers=18, depth=True).eval()
    swapped.load_state_dict(model.state_dict())
    swapped.to(memory_format=torch.channels_last)
    features = []
    swapped.deconv_layers.register_forward_hook(lambda module, inputs, output: features.append(output))
    found = swapped(images().to(memory_format=torch.channels_last))["hm"]
    assert features[0].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, expected)


def test_every_weight_learns_and_maps_are_float32_under_autocast():
    model = models.create("pose_resnet", layers=18, depth=True).train()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(images(64, 4))
    assert output["hm"].dtype == output["depth"].dtype == torch.float32
    (output["hm"].square().sum() + output["depth"].square().sum()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() and p.grad.any() for p in model.parameters())


def test_trunks_of_fewer_stages():
    trunk = ResNet(18, stages=2).eval()
    assert trunk.channels == 128 and not hasattr(trunk, "layer3")
    with torch.no_grad():
        assert trunk(images()).shape == (2, 128, 8, 8) and trunk.stem(images()).shape == (2, 64, 32, 32)


def test_unknown_number_of_layers():
    with pytest.raises(InputError, match="ResNet of 20 layers: expected one of 18, 34, 50, 101, 152"):
        ResNet(20)
