"""Files of the adversarial lifters: which network they hold, and its state dict by the names of `models`.

Ours (train_gan.py), and two published kinds. PyTorch-Lightning's (`*.ckpt`, of the reproduction of Chen et al., CVPR
2019): `state_dict` with generator (`gen.`) and discriminator (`dis.`); Lightning is not needed. Kudo et al.'s (2018)
generator of chainer, `gen_epoch_N.npz`. Nothing in a file is run.
"""

import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.errors import InputError
from common.files.npz import load_npz
from common.files.reading import read_text, reading
from common.run import checkpoint

# What Lightning's files hold besides data: hyper-parameters (an activation function) and callbacks, by their classes.
LIGHTNING_MODULES = ("pytorch_lightning", "lightning", "torchmetrics", "torch.nn.functional", "argparse")
PORT_EPS, CHAINER_EPS = 1e-5, 2e-5  # of the batch norms
PORT_SLOPES = {"leaky_relu": 0.01, "relu": 0.0}
CHAINER_SLOPES = {"leaky_relu": 0.2, "relu": 0.0}
CHAINER_NAMES = {
    "W": "weight", "b": "bias", "gamma": "weight", "beta": "bias", "avg_mean": "running_mean", "avg_var": "running_var",
    "N": "num_batches_tracked",
}  # fmt: skip
FIRST, LAST = {"martinez": "w1", "kudo": "l1"}, {"martinez": "w2", "kudo": "l4"}


class SavedNetwork(NamedTuple):
    """`models.create(name, **sizes)` takes `state` (through `checkpoint.load_weights`)."""

    name: str
    sizes: dict[str, Any]
    state: dict[str, Tensor]


class GanCheckpoint(NamedTuple):
    """source: "lightning", "chainer" or "train_gan"; discriminator: None where the file has none.

    method, factor: what `models.adversarial.predict.predictor` needs; published files are for Kudo's orthographic
    camera.
    """

    source: str
    generator: SavedNetwork
    discriminator: SavedNetwork | None
    method: str = "kudo"
    factor: float = 1.0


def load(path: str | Path) -> GanCheckpoint:
    """Read any of the three kinds of file, told apart by what is in it.

    Raises:
        InputError: missing, damaged or other file; what was found in it and what was expected.
    """
    with reading(path, "checkpoint of an adversarial lifter", "take another"):
        return load_chainer(path) if is_npz(path) else load_lightning(path)


def is_npz(path: str | Path) -> bool:
    """Whether a file is NumPy's archive; missing and other files are not."""
    path = Path(path)
    if not path.is_file():
        return path.suffix == ".npz"
    with reading(path, "checkpoint"):
        if not zipfile.is_zipfile(path):
            return path.suffix == ".npz"
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())


# ------------------------------------------------------------ Lightning


def load_lightning(path: str | Path) -> GanCheckpoint:
    """A file of the reproduction; of the two networks of its revisions, the one whose names it has."""
    file = checkpoint.load(path, pass_over=LIGHTNING_MODULES)
    if "method" in file:
        return _own(file, path)
    state = file.get("state_dict")
    if not isinstance(state, Mapping) or not state:
        keys = ", ".join(map(str, list(file)[:6]))
        raise InputError(
            f"{path} is no Lightning checkpoint: it holds {keys or 'nothing'}; expected state_dict with entries gen.*"
        )
    others = [str(name) for name in state if not str(name).startswith(("gen.", "dis."))]
    if others:
        raise InputError(f"{path}: state_dict has {others[0]}; expected entries of the lifter, gen.* and dis.*, only")
    slope = PORT_SLOPES[_activation(file.get("hyper_parameters"), path)]
    options = {"slope": slope, "eps": PORT_EPS}
    discriminator = _part(state, "dis.")
    return GanCheckpoint(
        "lightning",
        _generator(_part(state, "gen."), options, path),
        _discriminator(discriminator, options, path) if discriminator else None,
    )


def _own(file: dict[str, Any], path: str | Path) -> GanCheckpoint:
    """What train_gan.py saved."""
    try:
        generator = SavedNetwork(file["network"], dict(file["sizes"]), _part(file["state_dict"], "gen."))
        return GanCheckpoint("train_gan", generator, None, str(file["method"]), float(file["factor"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is no whole checkpoint of train_gan.py ({error}): take another") from error


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _activation(hyper_parameters: Any, path: str | Path) -> str:
    """Name of the function in `activate_func`; the leaky ReLU where there is none."""
    found = hyper_parameters.get("activate_func") if isinstance(hyper_parameters, Mapping) else None
    name = getattr(found, "__name__", found) or "leaky_relu"
    name = str(name).rpartition(".")[2]
    if name not in PORT_SLOPES:
        raise InputError(f"{path}: activate_func is {name}; expected one of {', '.join(PORT_SLOPES)}")
    return name


# ------------------------------------------------------------ chainer


def load_chainer(path: str | Path) -> GanCheckpoint:
    """Kudo's generator. Its activation is that of the `options.json` beside it, else the default, a leaky ReLU."""
    arrays = load_npz(path)
    unknown = [
        name for name in arrays if not re.fullmatch(r"(l[1-4]/[Wb])|(bn[1-3]/(gamma|beta|avg_mean|avg_var|N))", name)
    ]
    if unknown or not arrays:
        found = f"{len(unknown)} other arrays ({unknown[0]}, ...)" if unknown else "nothing"
        raise InputError(
            f"{path} is not Kudo's generator: it holds {found}; expected l1/W to l4/b and, with --use_bn, bn1/gamma to "
            "bn3/avg_var (gen_epoch_N.npz, not a snapshot of the trainer)"
        )
    wrong = [
        name for name, value in arrays.items() if not isinstance(value, np.ndarray) or value.dtype.kind not in "fi"
    ]
    if wrong:
        raise InputError(f"{path}: {wrong[0]} is no array of numbers; was the network saved before its first step?")
    state = {}
    for name, value in arrays.items():
        layer, kind = name.split("/")
        dtype = torch.int64 if kind == "N" else torch.float32
        state[f"{layer}.{CHAINER_NAMES[kind]}"] = torch.from_numpy(value.copy()).to(dtype)
    slope = CHAINER_SLOPES[_options_activation(Path(path).with_name("options.json"))]
    return GanCheckpoint("chainer", _generator(state, {"slope": slope, "eps": CHAINER_EPS}, path), None)


def _options_activation(path: Path) -> str:
    if not path.is_file():
        return "leaky_relu"
    try:
        options = json.loads(read_text(path))
        name = str(options.get("activate_func", "leaky_relu"))
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} is no table of options ({error}); it says how the weights beside it were trained"
        ) from error
    if name not in CHAINER_SLOPES:
        raise InputError(f"{path}: activate_func is {name!r}; expected one of {', '.join(CHAINER_SLOPES)}")
    return name


# ------------------------------------------------------------ both


def _generator(state: dict[str, Tensor], options: dict[str, Any], path: str | Path) -> SavedNetwork:
    kind = _kind(state, "generator", path)
    width, inputs, outputs = _sizes(state, kind, path)
    if inputs != 2 * outputs:
        raise InputError(
            f"{path}: the generator makes {outputs} numbers of {inputs}; expected a depth for each of (x, y): "
            "17 of 34" + ("; this is a discriminator" if outputs == 1 else "")
        )
    name = {"martinez": "gan_lifter", "kudo": "kudo_generator"}[kind]
    return SavedNetwork(name, {"joints": outputs, "width": width} | _rest(state, kind, options), state)


def _discriminator(state: dict[str, Tensor], options: dict[str, Any], path: str | Path) -> SavedNetwork:
    kind = _kind(state, "discriminator", path)
    width, inputs, outputs = _sizes(state, kind, path)
    if outputs != 1 or inputs not in (34, 51):
        raise InputError(f"{path}: the discriminator makes {outputs} numbers of {inputs}; expected 1 of 34 or of 51")
    name = {"martinez": "gan_discriminator", "kudo": "kudo_discriminator"}[kind]
    return SavedNetwork(name, {"axes": inputs // 17, "width": width} | _rest(state, kind, options), state)


def _kind(state: dict[str, Tensor], role: str, path: str | Path) -> str:
    """The network whose first and last layer are there."""
    for kind in FIRST:
        if {f"{FIRST[kind]}.weight", f"{LAST[kind]}.weight"} <= set(state):
            return kind
    found = ", ".join(list(state)[:3]) or "nothing"
    raise InputError(f"{path}: the {role} holds {found}; expected w1, linear_stages, w2 (Martinez) or l1 to l4 (Kudo)")


def _sizes(state: dict[str, Tensor], kind: str, path: str | Path) -> tuple[int, int, int]:
    """(width, inputs, outputs)."""
    first, last = state[f"{FIRST[kind]}.weight"], state[f"{LAST[kind]}.weight"]
    shapes = [tuple(getattr(value, "shape", ())) for value in (first, last)]
    if any(len(shape) != 2 for shape in shapes) or shapes[0][0] != shapes[1][1]:
        raise InputError(f"{path}: the first layer's weight is {shapes[0]} and the last one's {shapes[1]}; expected "
                         "(width, inputs) and (outputs, width)")  # fmt: skip
    return shapes[0][0], shapes[0][1], shapes[1][0]


def _rest(state: dict[str, Tensor], kind: str, options: dict[str, Any]) -> dict[str, Any]:
    if kind == "kudo":
        return {"batch_norm": "bn1.weight" in state, **options}
    stages = {name.split(".")[1] for name in state if name.startswith("linear_stages.")}
    return {"stages": len(stages)}
