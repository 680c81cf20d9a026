"""Files of the image-to-3D networks: released and old layouts, stage 1 into stage 2, ImageNet weights, refusals."""

import hashlib
import os
import sys
import types
import urllib.error
import urllib.request
import warnings

import pytest
import torch

import models
from common.errors import InputError
from common.run import checkpoint
from methods.hourglass import checkpoint as hc
from models.hourglass import hourglass
from models.resnet import ResNet

SMALL = {"features": 16, "modules": 1, "depth_modules": 1, "size": 64}


@pytest.fixture(scope="module")
def resnet() -> torch.nn.Module:
    torch.manual_seed(0)
    model = models.create("pose_resnet", layers=18, depth=True).eval()
    for name, value in model.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            value.uniform_(0.5, 1.5)
    return model


def same(found: dict, expected: dict) -> bool:
    return set(found) == set(expected) and all(torch.equal(found[name], expected[name]) for name in expected)


def rebuilt(saved: hc.SavedImageNetwork) -> dict:
    model = models.create(saved.name, **saved.sizes)
    hc.load_any_stage(model, saved.state, "file")
    return model.state_dict()


def refusal(function, *arguments) -> str:
    with pytest.raises(InputError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


# ------------------------------------------------------------ which network


@pytest.mark.parametrize("layers", [18, 34, 50, 101, 152])
@pytest.mark.parametrize("depth", [False, True])
def test_arch_of_a_state_dict(tmp_path, layers, depth):
    name, sizes = hc.parse_arch(f"msra_{layers}", joints=17, depth=depth)
    with torch.device("meta"):
        state = models.create(name, **sizes).state_dict()
    assert hc._network(state, "file") == (name, sizes)


def test_hourglass_sizes(tmp_path):
    for depth in (False, True):
        sizes = {"joints": 5, "depth": depth, "stacks": 3} | SMALL
        torch.save({"epoch": 3, "state_dict": models.create("hourglass", **sizes).state_dict()}, tmp_path / "a.pth")
        saved = hc.load(tmp_path / "a.pth")
        assert saved.name == "hourglass" and saved.epoch == 3 and hc.arch_of(saved) == "hg"
        assert saved.sizes == {key: sizes[key] for key in saved.sizes} and ("size" in saved.sizes) == depth
        assert same(rebuilt(saved), saved.state)


def test_arch_names():
    assert hc.parse_arch("hg", depth=True, size=128) == ("hourglass", {"joints": 16, "depth": True, "size": 128})
    for name in ("msra_20", "resnet", "msra_", "msra_x", "50"):
        assert "expected one of msra_18, msra_34, msra_50, msra_101, msra_152, hg" in refusal(hc.parse_arch, name)


# ------------------------------------------------------------ released files


def test_released_file(tmp_path, resnet):
    optimizer = torch.optim.Adam(resnet.parameters()).state_dict()
    torch.save({"epoch": 60, "state_dict": resnet.state_dict(), "optimizer": optimizer}, tmp_path / "model_last.pth")
    saved = hc.load(tmp_path / "model_last.pth")
    assert saved.sizes == {"layers": 18, "joints": 16, "depth": True} and hc.arch_of(saved) == "msra_18"
    assert saved.epoch == 60 and saved.file["optimizer"] == optimizer
    assert same(rebuilt(saved), resnet.state_dict())


def test_prefixes_and_files_without_batch_counters(tmp_path, resnet):
    state = {f"module.{n}": v for n, v in resnet.state_dict().items() if not n.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=False)  # as torch 0.1 wrote
    saved = hc.load(tmp_path / "a.pth")
    assert saved.epoch == 0 and saved.file == {}
    found = rebuilt(saved)
    assert same({n: found[n] for n in saved.state}, saved.state) and found["bn1.num_batches_tracked"] == 0


def whole_network(path, monkeypatch, depth: bool = True, **extra) -> torch.nn.Module:
    """A network pickled whole, its class in a module `models.hg_3d` that is gone when the file is read."""
    torch.manual_seed(0)
    model = models.create("hourglass", depth=depth, **SMALL)
    for name, value in extra.items():
        setattr(model, name, value)
    with monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the source of classes from nowhere is not found
        module = types.ModuleType("models.hg_3d")
        patch.setitem(sys.modules, "models.hg_3d", module)
        for kind in (hourglass.StackedHourglass, hourglass.Hourglass, hourglass.Residual):
            patch.setattr(kind, "__module__", "models.hg_3d")
            setattr(module, kind.__name__, kind)
        torch.save(model, path, _use_new_zipfile_serialization=path.suffix == ".zip")
    return model


@pytest.mark.parametrize("name", ["hgreg-3d.pth", "model_60.zip"])
def test_networks_pickled_whole_are_read_without_their_classes(tmp_path, monkeypatch, name):
    model = whole_network(tmp_path / name, monkeypatch)
    saved = hc.load(tmp_path / name)
    assert "models.hg_3d" not in sys.modules
    assert saved.name == "hourglass" and saved.sizes["depth"] and saved.file == {}
    assert same(rebuilt(saved), model.state_dict())


class Bomb:
    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("name", ["a.pth", "a.zip"])
def test_code_in_a_whole_network_is_refused(tmp_path, monkeypatch, name):
    whole_network(tmp_path / name, monkeypatch, bomb=Bomb(tmp_path / "ran"))
    found = refusal(hc.load, tmp_path / name)
    assert "mkdir" in found and "nothing was run" in found and "state_dict() instead" in found
    assert not (tmp_path / "ran").exists()


def test_truncated_whole_network(tmp_path, monkeypatch):
    whole_network(tmp_path / "a.pth", monkeypatch)
    content = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "b.pth").write_bytes(content[: len(content) - 1000])
    assert "cannot be read safely" in refusal(hc.load, tmp_path / "b.pth")


def test_other_files(tmp_path):
    for content, words in (
        ({"epoch": 1, "model_pos": {"w": torch.ones(2)}}, "holds epoch, model_pos; expected epoch, state_dict"),
        ({"state_dict": {"w1.weight": torch.ones(2)}}, "holds weights w1.weight"),
        ({"state_dict": {}}, "expected epoch, state_dict"),
        ({"state_dict": {"deconv_layers.0.weight": torch.ones(2), "hm.weight": torch.ones(2)}}, "stages of (0, 0, 0"),
        ({"state_dict": {"conv1_.weight": torch.ones(2)}}, "no known size"),
    ):
        torch.save(content, tmp_path / "a.pth")
        assert words in refusal(hc.load, tmp_path / "a.pth")
    assert "is missing" in refusal(hc.load, tmp_path / "b.pth")
    (tmp_path / "c.pth").write_text("nothing")
    assert "not a checkpoint" in refusal(hc.load, tmp_path / "c.pth")


# ------------------------------------------------------------ stage 1 into stage 2


@pytest.mark.parametrize("kind", ["pose_resnet", "hourglass"])
def test_stage_2_starts_from_stage_1(kind, caplog):
    sizes = {"layers": 18} if kind == "pose_resnet" else SMALL
    flat, deep = models.create(kind, **sizes), models.create(kind, depth=True, **sizes)
    fresh = {name: value.clone() for name, value in deep.state_dict().items()}
    hc.load_any_stage(deep, flat.state_dict(), "mpii.pth")
    found = deep.state_dict()
    assert same({name: found[name] for name in flat.state_dict()}, flat.state_dict())
    own = set(found) - set(flat.state_dict())
    assert own and all(torch.equal(found[name], fresh[name]) for name in own)
    assert "mpii.pth has no depths" in caplog.text
    hc.load_any_stage(flat, fresh, "fusion_3d.pth")
    assert same(flat.state_dict(), {name: fresh[name] for name in flat.state_dict()})
    assert "fusion_3d.pth has depths, which this network leaves out" in caplog.text


def test_anything_else_must_fit(resnet):
    state = resnet.state_dict()
    without = {name: value for name, value in state.items() if name != "hm.bias"}
    assert "1 missing (hm.bias)" in refusal(hc.load_any_stage, resnet, without, "file")
    half = {name: value for name, value in state.items() if name != "depth.bias"}
    assert "1 missing (depth.bias)" in refusal(hc.load_any_stage, resnet, half, "file")
    assert "1 unexpected (fc.bias)" in refusal(hc.load_any_stage, resnet, state | {"fc.bias": torch.ones(1)}, "file")
    wider = models.create("pose_resnet", layers=18, joints=17, depth=True)
    assert "4 of another size" in refusal(hc.load_any_stage, wider, state, "file")


# ------------------------------------------------------------ ImageNet


def imagenet(layers: int = 18) -> dict[str, torch.Tensor]:
    """As torchvision's file: the trunk and `fc`, without batch counters."""
    state = models.create("pose_resnet", layers=layers).state_dict()
    trunk = {n: v + 1 for n, v in state.items() if n.split(".")[0] not in ("deconv_layers", "hm")}
    trunk = {n: v for n, v in trunk.items() if not n.endswith("num_batches_tracked")}
    return trunk | {"fc.weight": torch.ones(1000, 512), "fc.bias": torch.ones(1000)}


def test_backbone_weights_of_a_file(tmp_path):
    state = imagenet()
    torch.save(state, tmp_path / "resnet18.pth")
    model = models.create("pose_resnet", layers=18)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    hc.load_backbone(model, 18, tmp_path / "resnet18.pth")
    for name, value in model.state_dict().items():
        assert torch.equal(value, state.get(name, before[name])), name
    short = ResNet(18, stages=2)
    hc.load_backbone(short, 18, tmp_path / "resnet18.pth")
    assert torch.equal(short.layer2[1].conv2.weight, state["layer2.1.conv2.weight"])


def test_backbone_weights_of_another_network(tmp_path):
    torch.save(imagenet(), tmp_path / "resnet18.pth")
    assert "does not fit PoseResNet" in refusal(
        hc.load_backbone, models.create("pose_resnet", layers=34), 34, tmp_path / "resnet18.pth"
    )
    torch.save({"a": torch.ones(1)}, tmp_path / "b.pth")
    model = models.create("pose_resnet", layers=18)
    assert "expected torchvision's ResNet-18" in refusal(hc.load_backbone, model, 18, tmp_path / "b.pth")


def test_backbone_weights_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def unreachable(url, timeout):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    found = refusal(hc.load_backbone, models.create("pose_resnet", layers=18), 18)
    assert "resnet18-f37072fd.pth cannot be fetched (no route to host)" in found and "--backbone_weights FILE" in found
    assert not list(tmp_path.rglob("*.pth"))


def test_backbone_weights_of_the_download(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    state = imagenet()
    torch.save(state, tmp_path / "weights.pth")
    name = f"resnet18-{hashlib.sha256((tmp_path / 'weights.pth').read_bytes()).hexdigest()[:8]}.pth"
    (tmp_path / "weights.pth").rename(tmp_path / name)
    monkeypatch.setattr(hc.imagenet, "URL", tmp_path.as_uri() + "/")
    monkeypatch.setitem(hc.imagenet.FILES, "resnet18", name)
    model = models.create("pose_resnet", layers=18)
    hc.load_backbone(model, 18)
    assert torch.equal(model.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])


def test_our_own_file(tmp_path, resnet):
    checkpoint.save(tmp_path / "model_last.pth", {
        "epoch": 4, "state_dict": resnet.state_dict(), "optimizer": {}, "rng": checkpoint.rng_state(), "options": "{}",
    })  # fmt: skip
    saved = hc.load(tmp_path / "model_last.pth")
    assert saved.epoch == 4 and set(saved.file) == {"epoch", "optimizer", "rng", "options"}
