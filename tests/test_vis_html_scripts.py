"""`--vis-html FILE` of the scripts that score lifters, on tiny data and untrained networks."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import models
from common.run import checkpoint
from methods.poseaug import options as lifter_options
from tests.common.draw.test_page import contents, decoded
from tests.conftest import assert_refused
from tests.tiny_dataset import write_tiny_dataset

DATA = ("--data-dir", ".", "-d", "tiny", "-k", "gt", "--device", "cpu", "--output", "out", "--vis-html", "page.html")


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    write_tiny_dataset(tmp_path, frames=6, actions=("Walking",))
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    return tmp_path


def assert_page(path: Path, methods: list[str], joints: int) -> dict:
    """A page of the first sequence, six frames at 50 a second: methods, truth, 2D input."""
    content = contents(path)
    assert [method["name"] for method in content["methods"]] == [*methods, "truth", "2D input"]
    assert (content["frames"], content["fps"]) == (6, 50)
    truth = decoded(content["methods"][-2]["pose"], joints=joints)
    assert truth.shape == (6, joints, 3)
    head, foot = (content["skeletons"][0]["joints"].index(name) for name in ("head", "left foot"))
    assert (truth[:, head, 2] - truth[:, foot, 2] > 1.2).all()  # upright
    for method in content["methods"][: len(methods)]:  # the errors are those of the poses beside them
        errors = np.frombuffer(base64.b64decode(method["errors"]), "<f4")
        found = 1000 * np.linalg.norm(decoded(method["pose"], joints=joints) - truth, axis=-1).mean(-1)
        np.testing.assert_allclose(errors, found, atol=0.2, rtol=1e-4)
    return content


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_ites(here, script, name):
    sizes = {"teacher": {"width": 32, "layers": 1, "basis": 12}, "student": {"hidden": 16, "blocks": 1}}[name]
    options = ("--n-fully-connected", 32, "--n-layers", 1, "--hid-dim", 16, "--n-blocks", 1)
    checkpoint.save("net.bin", {"model_pos": models.create(name, **sizes).state_dict()})
    done = script(f"test_{name}.py", *DATA, *options, "-c", "net.bin")
    assert done.status == 0, done.err
    assert "page: page.html" in done.out and "MPJPE" not in done.out  # asked for the page alone
    content = assert_page(here / "page.html", [name, f"{name}, depth mirrored"], 17)
    pose, mirror = (decoded(method["pose"]) for method in content["methods"][:2])
    assert (pose != mirror).any()
    assert_refused(script(f"train_{name}.py", *DATA[:8], "--vis-html", "x.html"), "test scripts")
    assert_refused(script(f"test_{name}.py", *DATA[:8], *options, "-c", "net.bin", "--vis-html", "x.txt"), ".html")


@pytest.mark.parametrize(("lifter", "architecture"), [("mlp", ""), ("videopose", "3,3")])
def test_evaluate(here, script, lifter, architecture):
    """A lifter of one frame, and one of nine: the page's errors are those of the scores."""
    options = ("--posenet_name", lifter, "--stages", 1, "--dropout", 0, "--architecture", architecture)
    save_lifter(options)
    done = script("run_evaluate.py", *DATA, *options, "--cross_data", "none", "--evaluate", "net.pth")
    assert done.status == 0, done.err
    assert "page: page.html" in done.out
    assert_page(here / "page.html", [lifter], 16)
    assert json.loads(next((here / "out").glob("results*.json")).read_text())


def save_lifter(options) -> None:
    """An untrained lifter of the options."""
    args = lifter_options.evaluation_parser("").parse_args(list(map(str, options)))
    model = models.create(args.posenet_name, **lifter_options.lifter_sizes(args))
    checkpoint.save("net.pth", {"model_pos": model.state_dict()})


def test_gan(here, script):
    sizes = {"batch_norm": False, "slope": 0.2}
    lifter = models.create("kudo_generator", **sizes)
    weights = {f"gen.{name}": value for name, value in lifter.state_dict().items()}
    checkpoint.save(
        "net.ckpt",
        {"state_dict": weights, "method": "kudo", "factor": 1.0, "network": "kudo_generator", "sizes": sizes},
    )
    tiny = ("--data-dir", ".", "--dataset", "tiny", "--device", "cpu")
    done = script("test_gan.py", *tiny, "--ckpt", "net.ckpt", "--vis-html", "deep/page.html")
    assert done.status == 0, done.err
    assert "page: deep/page.html" in done.out
    assert_page(here / "deep/page.html", ["kudo", "kudo, depth mirrored"], 17)
