"""Files of the encoder-decoder: released ones by names and shapes, ours, ImageNet's; anything else is refused."""

import hashlib
import logging

import pytest
import torch

from common.errors import InputError
from common.images import imagenet
from common.run import checkpoint
from methods.encoder_decoder import checkpoint as files
from models.encoder_decoder.losses import FeatureNet
from models.encoder_decoder.network import EncoderDecoder
from models.encoder_decoder.resnet_encoder import ResNetEncoder
from models.resnet import ResNet

UNET = {"resolution": 32, "encoder": "unet", "feature_scale": 16, "latent_fg": 8, "latent_3d": 12, "pose_width": 16}
RESNET = {"resolution": 64, "encoder": "resnet", "feature_scale": 16, "latent_fg": 8, "latent_3d": 12, "pose_width": 16}


def released(model: EncoderDecoder, encoder: str) -> dict[str, torch.Tensor]:
    """A state dict with what the original has besides, batch-norm counters left out as before torch 0.4.1."""
    state = {name: value for name, value in model.state_dict().items() if "num_batches" not in name}
    unused = {"fc_1_stage0.weight": torch.ones(8, 12), "fc_2_stage0.bias": torch.ones(51)}
    if encoder == "resnet":
        unused |= {"conv_1_stage0.conv1.0.weight": torch.ones(4, 3, 3, 3), "to_3d.0.weight": torch.ones(12, 100)}
    return state | unused


def refusal(function, *arguments) -> str:
    with pytest.raises(InputError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def load_into_model(path) -> EncoderDecoder:
    saved = files.load(path)
    model = EncoderDecoder(**saved.sizes)
    checkpoint.load_weights(model, saved.state, path)
    return model.eval()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("sizes", [UNET, RESNET, UNET | {"skip_background": False, "upsampling": "half", "layers": 3},
                                   UNET | {"joints": 16, "pose_layers": 1, "layers": 5}])  # fmt: skip
def test_released_file(tmp_path, sizes, zipped):
    torch.manual_seed(0)
    model = EncoderDecoder(**sizes).eval()
    path = tmp_path / "network_best_val_t1.pth"
    torch.save(released(model, sizes["encoder"]), path, _use_new_zipfile_serialization=zipped)
    saved = files.load(path)
    assert saved.source == "published" and sizes.items() <= saved.sizes.items()
    images = torch.randn(1, 3, sizes["resolution"], sizes["resolution"])
    with torch.no_grad():
        found = load_into_model(path)
        geometry = model.encode(images).geometry
        assert torch.equal(found.encode(images).geometry, geometry)
        assert torch.equal(found.pose(geometry), model.pose(geometry))


def test_nothing_but_the_unused_entries_is_passed_over(tmp_path):
    path = tmp_path / "network.pth"
    whole = released(EncoderDecoder(**UNET), "unet")
    for change, words in (
        ({"extra.weight": torch.ones(1)}, "extra.weight"),
        ({"conv_5_stage0.conv1.0.weight": torch.ones(1)}, "conv_5_stage0"),  # unused by the ResNet only
        ({"final_stage0.bias": torch.ones(4)}, "final_stage0.bias: (4,) in the file, (3,) expected"),
        ({"final_stage0.bias": "text"}, "final_stage0.bias"),
    ):
        torch.save(whole | change, path)
        assert words in refusal(load_into_model, path)
    torch.save({name: value for name, value in whole.items() if name != "conv_2_stage0.conv1.0.bias"}, path)
    assert "1 missing (conv_2_stage0.conv1.0.bias)" in refusal(load_into_model, path)


def test_files_of_something_else(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"epoch": 1, "model_pos": {"w": torch.ones(2)}}, path)
    assert "it holds epoch, model_pos" in refusal(files.load, path)
    torch.save({"from_latent.0.weight": torch.ones(4, 3)}, path)
    assert "cannot be told from its weights" in refusal(files.load, path)
    whole = released(EncoderDecoder(**UNET), "unet")
    torch.save(whole | {"from_latent.0.weight": torch.ones(7, 12)}, path)
    assert "no square map" in refusal(files.load, path)
    torch.save({"network": "gan_lifter", "sizes": {}, "state_dict": {}}, path)
    assert "'gan_lifter'" in refusal(files.load, path)
    torch.save(whole, path)
    path.write_bytes(path.read_bytes()[:5000])
    assert "truncated or not a checkpoint" in refusal(files.load, path)
    assert "is missing" in refusal(files.load, tmp_path / "b.pth")


def test_our_file(tmp_path):
    model = EncoderDecoder(**UNET)
    path = tmp_path / "last.bin"
    checkpoint.save(path, {"network": files.NETWORK, "sizes": UNET, "state_dict": model.state_dict(), "epoch": 3})
    saved = files.load(path)
    assert saved.source == "train_encoder_decoder" and saved.sizes == UNET and saved.file["epoch"] == 3
    found = load_into_model(path).state_dict()
    assert all(torch.equal(found[name], value) for name, value in model.state_dict().items())


# ------------------------------------------------------------ ImageNet


@pytest.mark.parametrize(("layers", "name", "network"), [(18, "resnet18", FeatureNet), (50, "resnet50", ResNetEncoder)])
def test_imagenet_weights(tmp_path, layers, name, network):
    torch.manual_seed(0)
    state = ResNet(layers, stages=3).state_dict() | {"fc.weight": torch.ones(1000, 4), "fc.bias": torch.ones(1000)}
    path = tmp_path / "imagenet.pth"
    torch.save(state, path)
    model = network()
    others = {key: value.clone() for key, value in model.state_dict().items() if key not in state or key[:3] == "fc."}
    files.load_imagenet(model, name, path)
    found = model.state_dict()
    used = [key for key in state if key in found and not key.startswith("fc.")]
    assert len(used) > 40 and all(torch.equal(found[key], state[key]) for key in used)
    assert all(torch.equal(found[key], value) for key, value in others.items())
    torch.save(state | {"layer9.weight": torch.ones(1)}, path)
    assert "layer9.weight" in refusal(files.load_imagenet, model, name, path)
    torch.save({key: value for key, value in state.items() if key != "bn1.weight"}, path)
    assert "bn1.weight" in refusal(files.load_imagenet, model, name, path)


def test_where_imagenet_weights_come_from(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("http_proxy", raising=False)
    content = b"weights"
    name = f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / name).write_bytes(content)
    monkeypatch.setattr(imagenet, "URL", (tmp_path / "server").as_uri() + "/")
    assert files.imagenet_file("resnet18", "none") is None and not caplog.records
    with caplog.at_level(logging.WARNING):
        assert files.imagenet_file("resnet18") is None  # the server does not have it
    assert "cannot be fetched" in caplog.text
    monkeypatch.setitem(imagenet.FILES, "resnet18", name)
    path = files.imagenet_file("resnet18")
    assert path.read_bytes() == content and path.parent == tmp_path / "hub" / "checkpoints"
    (tmp_path / "server" / name).unlink()
    assert files.imagenet_file("resnet18") == path  # cached
    path.unlink()
    (tmp_path / "server" / name).write_bytes(b"something else")
    assert files.imagenet_file("resnet18") is None and not path.exists()
    assert "SHA-256" in caplog.text
    assert files.imagenet_file("resnet18", __file__).name.startswith("test_")
    assert "does not exist" in refusal(files.imagenet_file, "resnet18", tmp_path / "no.pth")
