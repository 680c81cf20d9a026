"""Published files of the adversarial lifters: read without Lightning, chainer, or running what they hold."""

import argparse
import json
import os
import struct
import sys
import types

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import models
from common.errors import InputError
from common.run import checkpoint
from methods.adversarial import checkpoint as gan_checkpoint

KEYPOINTS = torch.randn(3, 17, 2, generator=torch.Generator().manual_seed(0))


def lightning_classes(monkeypatch) -> tuple[type, type]:
    """Two callbacks by Lightning's names, known to pickle while a file is written and gone when it is read."""
    found = []
    for name, module in (("ModelCheckpoint", "model_checkpoint"), ("EarlyStopping", "early_stopping")):
        parts = ("pytorch_lightning", "callbacks", module)
        for i in range(3):
            monkeypatch.setitem(sys.modules, ".".join(parts[: i + 1]), types.ModuleType(parts[i]))
        found.append(type(name, (), {"__module__": ".".join(parts)}))
        setattr(sys.modules[".".join(parts)], name, found[-1])
    return tuple(found)


def write_lightning(path, monkeypatch, state: dict, **hyper_parameters) -> None:
    """As Lightning 1.2 lays its files out, with a callback as a key and another as a value."""
    with monkeypatch.context() as patch:
        saving, stopping = lightning_classes(patch)
        stopping = stopping()
        stopping.patience = 3
        file = {
            "epoch": 7,
            "global_step": 700,
            "pytorch-lightning_version": "1.2.0",
            "callbacks": {saving: {"best_model_score": torch.tensor(91.0), "dirpath": "x"}, "s": stopping},
            "optimizer_states": [{"state": {0: {"step": 1, "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-3}]}],
            "lr_schedulers": [],
            "state_dict": state,
            "hparams_name": "kwargs",
            "hyper_parameters": {"gen_lr": 1e-3, "args": argparse.Namespace(a=1), **hyper_parameters},
        }
        torch.save(file, path)


def prefixed(**networks: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {f"{prefix}.{key}": v for prefix, model in networks.items() for key, v in model.state_dict().items()}


def rebuilt(saved: gan_checkpoint.SavedNetwork) -> torch.nn.Module:
    model = models.create(saved.name, **saved.sizes)
    checkpoint.load_weights(model, saved.state, "file")
    return model.eval()


def lively(model: torch.nn.Module) -> torch.nn.Module:
    """With running statistics and affine weights that matter."""
    for name, value in model.state_dict().items():
        if value.dim() == 1:
            value.copy_(0.5 + torch.rand(value.shape, generator=torch.Generator().manual_seed(len(name))))
    return model.eval()


def refusal(function, *arguments) -> str:
    with pytest.raises(InputError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


# ------------------------------------------------------------ Lightning


def test_lightning_martinez(tmp_path, monkeypatch):
    generator = lively(models.create("gan_lifter", width=24, stages=3))
    discriminator = lively(models.create("gan_discriminator", width=16, stages=2, axes=3))
    path = tmp_path / "best-model-epoch=7.ckpt"
    write_lightning(path, monkeypatch, prefixed(gen=generator, dis=discriminator), activate_func=F.leaky_relu)
    found = gan_checkpoint.load(path)
    assert found.source == "lightning"
    assert found.generator[:2] == ("gan_lifter", {"joints": 17, "width": 24, "stages": 3})
    assert found.discriminator[:2] == ("gan_discriminator", {"axes": 3, "width": 16, "stages": 2})
    assert torch.equal(rebuilt(found.generator)(KEYPOINTS), generator(KEYPOINTS))
    poses = F.pad(KEYPOINTS, (0, 1))
    assert torch.equal(rebuilt(found.discriminator)(poses), discriminator(poses))


@pytest.mark.parametrize(("function", "slope"), [(F.leaky_relu, 0.01), (F.relu, 0.0), (None, 0.01)])
def test_lightning_kudo(tmp_path, monkeypatch, function, slope):
    generator = lively(models.create("kudo_generator", width=24, batch_norm=True, slope=slope, eps=1e-5))
    write_lightning(tmp_path / "a.ckpt", monkeypatch, prefixed(gen=generator), activate_func=function)
    found = gan_checkpoint.load(tmp_path / "a.ckpt")
    sizes = {"joints": 17, "width": 24, "batch_norm": True, "slope": slope, "eps": 1e-5}
    assert found.generator[:2] == ("kudo_generator", sizes) and found.discriminator is None
    assert torch.equal(rebuilt(found.generator)(KEYPOINTS), generator(KEYPOINTS))


def test_callbacks_and_functions_are_passed_over(tmp_path, monkeypatch):
    write_lightning(tmp_path / "a.ckpt", monkeypatch, {"gen.x": torch.ones(1)}, activate_func=F.leaky_relu)
    file = checkpoint.load(tmp_path / "a.ckpt", pass_over=gan_checkpoint.LIGHTNING_MODULES)
    function = file["hyper_parameters"]["activate_func"]
    assert issubclass(function, checkpoint.NotLoaded) and function.__name__ == "torch.nn.functional.leaky_relu"
    assert isinstance(file["callbacks"]["s"], checkpoint.NotLoaded) and not vars(file["callbacks"]["s"])
    assert file["epoch"] == 7 and "pytorch_lightning" not in sys.modules
    refused = refusal(checkpoint.load, tmp_path / "a.ckpt")  # only for those who ask
    assert "nothing was run" in refused


class Bomb:
    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


def test_code_in_a_lightning_file_is_refused(tmp_path, monkeypatch):
    write_lightning(tmp_path / "a.ckpt", monkeypatch, {"gen.x": torch.ones(1)}, bomb=Bomb(tmp_path / "ran"))
    assert "nothing was run" in refusal(gan_checkpoint.load, tmp_path / "a.ckpt")
    assert not (tmp_path / "ran").exists()


def test_other_torch_files_are_refused_by_what_they_hold(tmp_path, monkeypatch):
    torch.save({"epoch": 1, "model_pos": {"w": torch.ones(2)}}, tmp_path / "ours.bin")
    assert "epoch, model_pos" in refusal(gan_checkpoint.load, tmp_path / "ours.bin")
    for state, words in (
        ({"gen.conv.weight": torch.ones(2)}, "the generator holds conv.weight"),
        ({"net.w1.weight": torch.ones(2)}, "state_dict has net.w1.weight"),
        (prefixed(dis=models.create("gan_discriminator", width=4)), "the generator holds nothing"),
        (prefixed(gen=models.create("gan_discriminator", width=4)), "this is a discriminator"),
        ({"gen.w1.weight": torch.ones(4, 34), "gen.w2.weight": torch.ones(17, 5)}, "(4, 34) and the last one's (17"),
    ):
        write_lightning(tmp_path / "a.ckpt", monkeypatch, state)
        assert words in refusal(gan_checkpoint.load, tmp_path / "a.ckpt")
    write_lightning(tmp_path / "a.ckpt", monkeypatch, {"gen.w1.weight": torch.ones(1)}, activate_func=F.elu)
    assert "activate_func is elu" in refusal(gan_checkpoint.load, tmp_path / "a.ckpt")


def test_files_that_are_none(tmp_path):
    assert "is missing" in refusal(gan_checkpoint.load, tmp_path / "a.ckpt")
    assert "does not exist" in refusal(gan_checkpoint.load, tmp_path / "a.npz")
    (tmp_path / "a.ckpt").write_text("no checkpoint")
    assert "not a checkpoint" in refusal(gan_checkpoint.load, tmp_path / "a.ckpt")
    torch.save({"state_dict": {"gen.w1.weight": torch.ones(100, 100)}}, tmp_path / "b.ckpt")
    whole = (tmp_path / "b.ckpt").read_bytes()
    (tmp_path / "b.ckpt").write_bytes(whole[: len(whole) // 2])
    assert "not a checkpoint" in refusal(gan_checkpoint.load, tmp_path / "b.ckpt")


# ------------------------------------------------------------ chainer

CHAINER = {"weight": "W", "bias": "b"}
CHAINER_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "avg_mean", "running_var": "avg_var"}


def chainer_arrays(model: torch.nn.Module) -> dict[str, np.ndarray]:
    arrays = {}
    for key, value in model.state_dict().items():
        layer, kind = key.split(".")
        names = CHAINER_NORM | {"num_batches_tracked": "N"} if layer.startswith("bn") else CHAINER
        arrays[f"{layer}/{names[kind]}"] = value.numpy()
    return arrays


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(("activation", "slope"), [(None, 0.2), ("leaky_relu", 0.2), ("relu", 0.0)])
def test_chainer_generator(tmp_path, batch_norm, activation, slope):
    generator = lively(models.create("kudo_generator", width=24, batch_norm=batch_norm, slope=slope))
    np.savez(tmp_path / "gen_epoch_20.npz", **chainer_arrays(generator))
    if activation:
        (tmp_path / "options.json").write_text(json.dumps({"activate_func": activation, "gpu": 0}))
    found = gan_checkpoint.load(tmp_path / "gen_epoch_20.npz")
    sizes = {"joints": 17, "width": 24, "batch_norm": batch_norm, "slope": slope, "eps": 2e-5}
    assert found.source == "chainer" and found.discriminator is None
    assert found.generator[:2] == ("kudo_generator", sizes)
    assert torch.equal(rebuilt(found.generator)(KEYPOINTS), generator(KEYPOINTS))


def test_a_file_is_known_by_what_it_holds(tmp_path):
    generator = models.create("kudo_generator", width=8)
    np.savez(tmp_path / "a.npz", **chainer_arrays(generator))
    (tmp_path / "a.npz").rename(tmp_path / "gen_epoch_20")
    assert gan_checkpoint.load(tmp_path / "gen_epoch_20").generator.name == "kudo_generator"


def test_other_npz_files_are_refused(tmp_path):
    arrays = chainer_arrays(models.create("kudo_generator", width=8))
    judge = chainer_arrays(models.create("kudo_discriminator", width=8))
    snapshot = {"updater/model:gen/l1/W": np.ones(3), "updater/iteration": np.ones(1)}
    unborn = arrays | {"l1/W": np.array(None, dtype=object)}
    short = {key: value for key, value in arrays.items() if not key.startswith("l4")}
    for found, words in (
        (snapshot, "updater/model:gen/l1/W"),
        ({}, "holds nothing"),
        (judge, "this is a discriminator"),
        (unborn, "l1/W is no array of numbers"),
        (short, "expected w1, linear_stages, w2 (Martinez) or l1 to l4 (Kudo)"),
    ):
        np.savez(tmp_path / "a.npz", **found)
        if not found:
            assert "a.npz" in refusal(gan_checkpoint.load, tmp_path / "a.npz")
        else:
            assert words in refusal(gan_checkpoint.load, tmp_path / "a.npz")
    without = {key: value for key, value in arrays.items() if key != "l2/b"}
    np.savez(tmp_path / "a.npz", **without)
    assert "l2.bias" in refusal(rebuilt, gan_checkpoint.load(tmp_path / "a.npz").generator)


@pytest.mark.parametrize("text", ["[1]", "{", '{"activate_func": "elu"}'])
def test_odd_options(tmp_path, text):
    np.savez(tmp_path / "a.npz", **chainer_arrays(models.create("kudo_generator", width=8)))
    (tmp_path / "options.json").write_text(text)
    assert "options.json" in refusal(gan_checkpoint.load, tmp_path / "a.npz")


def test_an_archive_whose_end_is_of_another_disk_is_one_line(tmp_path):
    """Python looks at the end of a file to tell a zip archive, and some versions raise there."""
    (tmp_path / "a.ckpt").write_bytes(struct.pack("<4sLQL", b"PK\x06\x07", 1, 0, 1) + b"PK\x05\x06" + bytes(18))
    with pytest.raises(InputError, match=r"a\.ckpt is truncated, damaged or no"):
        gan_checkpoint.is_npz(tmp_path / "a.ckpt")
