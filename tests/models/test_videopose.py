"""The temporal lifter: released layout, both forms equal, receptive fields, causality, refusals."""

import pytest
import torch
from torch.nn import functional as F

import models
from common.errors import InputError
from common.pose_set import windows
from common.run import checkpoint
from models.videopose import kernel_widths


def seeded(*shape: int, seed: int = 0, scale: float = 0.2) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def lively(model: torch.nn.Module) -> torch.nn.Module:
    """Norms as if trained, so that they matter in evaluation."""
    for i, norm in enumerate(m for m in model.modules() if isinstance(m, torch.nn.BatchNorm1d)):
        norm.running_mean.copy_(seeded(norm.num_features, seed=i))
        norm.running_var.copy_(0.5 + seeded(norm.num_features, seed=i).abs())
        norm.weight.copy_(1 + seeded(norm.num_features, seed=i + 100))
        norm.bias.copy_(seeded(norm.num_features, seed=i + 200))
    return model.eval()


def small(**options) -> torch.nn.Module:
    torch.manual_seed(0)
    return lively(models.create("videopose", channels=12, **options))


def by_convolutions(model, keypoints: torch.Tensor) -> torch.Tensor:
    """The published dilated network on (B, C, T), by conv1d. keypoints: (B, T, J, 2) -> (B, T - F + 1, J, 3)."""
    x = F.relu(model.expand_bn(F.conv1d(keypoints.flatten(2).mT, model.expand_conv.weight)))
    dilation = model.widths[0]
    for i, width in enumerate(model.widths[1:]):
        pad = (width - 1) * dilation // 2
        shift = width // 2 * dilation if model.causal else 0
        kept = x[:, :, pad + shift : x.shape[2] - pad + shift]
        y = F.conv1d(x, model.layers_conv[2 * i].weight, dilation=dilation)
        y = F.relu(model.layers_bn[2 * i](y))
        x = kept + F.relu(model.layers_bn[2 * i + 1](F.conv1d(y, model.layers_conv[2 * i + 1].weight)))
        dilation *= width
    pose = F.conv1d(x, model.shrink.weight, model.shrink.bias).mT
    return F.pad(pose, (3, 0)).unflatten(2, (16, 3))


def test_single_frame_sizes_and_layout_are_the_released_ones():
    model = models.create("videopose")
    assert sum(p.numel() for p in model.parameters()) == 8_485_933
    state = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert len(state) == 5 + 2 + 1 + 8 + 8 * 5
    assert list(state)[0] == "expand_bn.weight" and list(state)[5:8] == ["shrink.weight", "shrink.bias",
                                                                        "expand_conv.weight"]  # fmt: skip
    assert list(state)[8:10] == ["layers_conv.0.weight", "layers_conv.1.weight"]
    assert state["expand_conv.weight"] == (1024, 32, 1) and state["shrink.weight"] == (45, 1024, 1)
    assert model.receptive_field == 1 and model.pad == model.causal_shift == 0


def test_temporal_layout():
    model = small(architecture="3,5,1")
    assert model.expand_conv.weight.shape == (12, 32, 3)
    assert [tuple(conv.weight.shape) for conv in model.layers_conv] == [
        (12, 12, 5), (12, 12, 1), (12, 12, 1), (12, 12, 1),
    ]  # fmt: skip
    assert (model.receptive_field, model.pad, model.causal_shift) == (15, 7, 0)
    assert small(architecture="3,5,1", causal=True).causal_shift == 7


@pytest.mark.parametrize(("architecture", "frames"), [("3,3,3", 27), ("3,3,3,3", 81), ("3,3,3,3,3", 243)])
def test_published_receptive_fields(architecture, frames):
    assert small(architecture=architecture).receptive_field == frames


@pytest.mark.parametrize("count", [1, 5])
def test_single_frames_flat_poses_and_sequences_agree(count):
    model, keypoints = small(stages=2), seeded(count, 16, 2)
    pose = model(keypoints)
    assert pose.shape == (count, 16, 3) and torch.equal(pose[:, 0], torch.zeros(count, 3))
    for same in (model(keypoints.flatten(1)), model(keypoints[:, None]), model.sequences(keypoints[None])[0]):
        torch.testing.assert_close(same, pose)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("architecture", ["3,3,3", "1,3,1", "5,3", "3,1,5", "1,1"])
def test_both_forms_are_the_published_convolutions(architecture, causal):
    model, keypoints = small(architecture=architecture, causal=causal), seeded(2, 40, 16, 2)
    whole = model.sequences(keypoints)
    frames = model.receptive_field
    assert whole.shape == (2, 40 - frames + 1, 16, 3)
    torch.testing.assert_close(whole, by_convolutions(model, keypoints), rtol=1e-4, atol=1e-6)
    cut = torch.cat([keypoints[:, i : i + frames] for i in range(whole.shape[1])])
    torch.testing.assert_close(model(cut), whole.transpose(0, 1).flatten(0, 1), rtol=1e-4, atol=1e-6)


def test_both_forms_give_equal_gradients():
    """One window: the dilated form has one place, too."""
    model, keypoints = small(architecture="3,3,3").double(), seeded(4, 27, 16, 2).double()
    gradients = []
    for form in (model, model.sequences):
        model.zero_grad()
        form(keypoints).square().sum().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], msg=name)


@pytest.mark.parametrize("causal", [False, True])
def test_windows_of_a_sequence_give_the_poses_of_the_padded_sequence(causal):
    """At the sequence's ends as well; causal poses depend on no later frame."""
    model, keypoints = small(architecture="3,3", causal=causal), seeded(14, 16, 2)
    index = torch.arange(14)
    rows = windows(index, torch.zeros_like(index), torch.full_like(index, 13), model.receptive_field, causal)
    pose = model(keypoints[rows])
    before, after = model.pad + model.causal_shift, model.pad - model.causal_shift
    padded = torch.cat([keypoints[:1].expand(before, -1, -1), keypoints, keypoints[-1:].expand(after, -1, -1)])
    torch.testing.assert_close(pose, model.sequences(padded[None])[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_what_each_pose_sees(causal):
    model, keypoints = small(architecture="3,3,3", causal=causal), seeded(60, 16, 2).requires_grad_()
    index = torch.tensor([30])
    rows = windows(index, index * 0, index * 0 + 59, model.receptive_field, causal)
    model(keypoints[rows]).square().sum().backward()
    seen = keypoints.grad.abs().sum((1, 2)).nonzero().flatten().tolist()
    assert seen == (list(range(4, 31)) if causal else list(range(17, 44)))


def test_the_residual_is_the_frame_of_the_pose():
    """With silent convolutions only the residuals are left: the pose is that of its own neighbourhood of width 3."""
    for causal, middle in ((False, 13), (True, 25)):
        model = small(architecture="3,3,3", causal=causal)
        for norm in model.layers_bn:
            torch.nn.init.zeros_(norm.weight)
            torch.nn.init.zeros_(norm.bias)
        keypoints = seeded(1, 27, 16, 2).requires_grad_()
        model(keypoints).square().sum().backward()
        seen = keypoints.grad.abs().sum((0, 2, 3)).nonzero().flatten().tolist()
        assert seen == [middle - 1, middle, middle + 1]


def test_bfloat16_stays_near_float32():
    model, keypoints = lively(models.create("videopose", channels=64, architecture="3,3")), seeded(16, 9, 16, 2)
    expected = model(keypoints)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(keypoints)
        loss = model.train()(keypoints).square().mean()
    loss.backward()
    assert found.dtype == loss.dtype == torch.float32
    assert (found - expected).abs().mean() < 0.03 * expected.abs().mean()


def test_training_normalises_over_poses_and_frames():
    model, keypoints = small(architecture="3,3", dropout=0.0).train(), seeded(4, 9, 16, 2)
    model.load_state_dict(model.state_dict())
    before = model.expand_bn.running_mean.clone()
    model(keypoints)
    rows = F.linear(keypoints.reshape(12, 96), model.expand_conv.weight.mT.flatten(1))
    torch.testing.assert_close(model.expand_bn.running_mean, 0.9 * before + 0.1 * rows.mean(0))


@pytest.mark.parametrize("architecture", ["3,4,3", "3,,3", "three", "0,3", "-3", (3, 2)])
def test_wrong_widths_are_refused(architecture):
    with pytest.raises(InputError, match="odd kernel widths"):
        kernel_widths(architecture)


@pytest.mark.parametrize("shape", [(2, 8, 16, 2), (2, 10, 16, 2), (2, 9, 17, 2), (2, 16, 2), (2, 9, 32)])
def test_wrong_windows_are_refused(shape):
    with pytest.raises(InputError, match="receptive field of 9|receptive field is 9"):
        small(architecture="3,3")(torch.zeros(shape))


def test_short_sequences_are_refused():
    with pytest.raises(InputError, match="8 frames.*sees 9"):
        small(architecture="3,3").sequences(torch.zeros(1, 8, 16, 2))


def test_checkpoints_of_another_architecture_are_refused_in_one_line():
    for options, part in (({"stages": 3}, "layers_conv.6.weight"), ({"architecture": "1,1,3,1,1"}, "layers_conv.2")):
        with pytest.raises(InputError) as caught:
            checkpoint.load_weights(
                models.create("videopose", channels=8), models.create("videopose", channels=8, **options).state_dict(),
                "file.pth",
            )  # fmt: skip
        assert "\n" not in str(caught.value) and part in str(caught.value)
