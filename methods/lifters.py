"""Which lifter a checkpoint holds, of any method of this framework, and the 2D input that it was trained on.

The sizes of a network are read off its weights. What the weights do not tell (a causal VideoPose3D, Chen's factor) is
in the file, or an option.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from common.camera import normalise_screen
from common.errors import InputError
from common.run import checkpoint
from common.skeleton import H36M_16, H36M_17, convert
from methods.adversarial import checkpoint as gan_checkpoint
from methods.adversarial.checkpoint import SavedNetwork
from methods.ites.scaling import scale_root_to_head

POSEAUG = ("mlp", "gcn", "videopose", "stgcn")  # see where in the picture a person is; 16 joints, metres
METHODS = ("teacher", "student", *POSEAUG, "gan")
# What a lifter sees besides the pose: a person's place and size in the picture, or the size in the video.
SEES = {"teacher": "size", "student": "size", "gan": "pose"} | dict.fromkeys(POSEAUG, "place")


class SavedLifter(NamedTuple):
    """`models.create(network.name, **network.sizes)` takes `network.state` (through `checkpoint.load_weights`)."""

    method: str  # one of METHODS
    network: SavedNetwork
    camera: str = ""  # gan: "kudo" or "chen"
    factor: float = 1.0  # gan: of `models.adversarial.predict.predictor`


def load(path: str | Path, method: str | None = None, causal: bool | None = None) -> SavedLifter:
    """Read a checkpoint of any of our lifting methods, own or released.

    Args:
        method: one of METHODS; None: found.
        causal: of a VideoPose3D over time; None: as the file says, else no.

    Raises:
        InputError: missing or damaged file, no lifter in it, or another method's.
    """
    if gan_checkpoint.is_npz(path):
        return _checked(_gan(path), method, path)
    file = checkpoint.load(path, pass_over=gan_checkpoint.LIGHTNING_MODULES)
    state = file.get("state_dict", file.get("model_pos"))
    if not isinstance(state, Mapping) or not state:
        keys = ", ".join(map(str, list(file)[:6])) or "nothing"
        raise InputError(f"{path} is no lifter's checkpoint: it holds {keys}; expected state_dict or model_pos")
    if "method" in file or any(str(name).startswith("gen.") for name in state):
        return _checked(_gan(path), method, path)
    plain = checkpoint.plain_names(state)
    found = _found(plain)
    if found is None:
        raise InputError(f"{path} holds {', '.join(list(plain)[:3])}: no lifter of {', '.join(METHODS)}")
    try:
        sizes = _SIZES[found](plain)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: the weights of its {found} are incomplete ({error!r})") from error
    if found == "videopose" and sizes["architecture"] is not None:
        sizes["causal"] = bool(checkpoint.saved_options(file).get("causal")) if causal is None else causal
    return _checked(SavedLifter(found, SavedNetwork(found, sizes, dict(state))), method, path)


def lifter_input(method: str, pixels: Tensor, size: tuple[int, int] | None) -> Tensor:
    """What a lifter sees of one video: (T, 17, 2) pixels -> (T, 17 or 16, 2), normalised as the method was trained.

    PoseAug's lifters: screen coordinates of 16 joints, for which the picture's size (width, height) is needed. ITES:
    root-relative, one scale for the whole video, so that hip and head are 0.2 apart on average; the focal length that
    the published form divides by falls out where it is the same in x and y. gan: pixels, as the network normalises
    every pose by itself.
    """
    if method in POSEAUG:
        if size is None:
            raise InputError(f"{method} needs the size of the picture: give --image-size WIDTHxHEIGHT")
        return normalise_screen(convert(pixels, H36M_17, H36M_16), *size)
    if method == "gan":
        return pixels
    return scale_root_to_head(pixels - pixels[:, :1], H36M_17.root, H36M_17.index("head"))


# ------------------------------------------------------------ what a file holds


def _gan(path: str | Path) -> SavedLifter:
    saved = gan_checkpoint.load(path)
    joints = saved.generator.sizes.get("joints", H36M_17.num_joints)
    if joints != H36M_17.num_joints:
        raise InputError(f"{path} lifts {joints} joints; expected {H36M_17.num_joints}")
    return SavedLifter("gan", saved.generator, saved.method, saved.factor)


def _checked(saved: SavedLifter, method: str | None, path: str | Path) -> SavedLifter:
    if method not in (None, saved.method):
        raise InputError(f"--method {method}, but {path} holds a {saved.method}: leave --method out, or take another")
    return saved


def _found(state: Mapping[str, Tensor]) -> str | None:
    """The method by the names of its weights."""
    if "alpha_layer.weight" in state:
        return "teacher"
    if "expand_conv.weight" in state:
        return "videopose"
    if any(name.startswith("stgcn.") for name in state):
        return "stgcn"
    if "gconv_output.W" in state:  # a depth of each joint, or a place
        return {1: "student", 3: "gcn"}.get(int(getattr(state["gconv_output.W"], "shape", (0,))[-1]))
    return "mlp" if {"w1.weight", "w2.weight"} <= set(state) else None


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """Modules 0, 1, ... in the list `prefix`."""
    return len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})


def _mlp(state: Mapping[str, Tensor]) -> dict[str, Any]:
    width, inputs = state["w1.weight"].shape
    return {"joints": inputs // 2, "width": width, "stages": _count(state, "linear_stages."), "dropout": 0.0}


def _gcn(state: Mapping[str, Tensor]) -> dict[str, Any]:
    return {"hidden": state["gconv_output.W"].shape[1], "stages": _count(state, "gconv_layers."), "dropout": 0.0}


def _videopose(state: Mapping[str, Tensor]) -> dict[str, Any]:
    channels, inputs, first = state["expand_conv.weight"].shape
    stages = _count(state, "layers_conv.") // 2
    widths = [first, *(state[f"layers_conv.{2 * i}.weight"].shape[2] for i in range(stages))]
    architecture = ",".join(map(str, widths)) if max(widths) > 1 else None
    return {
        "joints": inputs // 2, "channels": channels, "stages": stages, "architecture": architecture, "dropout": 0.0
    }  # fmt: skip


def _teacher(state: Mapping[str, Tensor]) -> dict[str, Any]:
    basis, width = state["alpha_layer.weight"].shape[:2]
    joints = state["fe_net.0.conv1.weight"].shape[1] // 2
    return {"num_joints": joints, "width": width, "layers": _count(state, "fe_net.") - 1, "basis": basis}


def _student(state: Mapping[str, Tensor]) -> dict[str, Any]:
    return {"hidden": state["gconv_output.W"].shape[1], "blocks": _count(state, "gconv_layers.")}


_SIZES = {
    "teacher": _teacher, "student": _student, "mlp": _mlp, "gcn": _gcn, "videopose": _videopose,
    "stgcn": lambda state: {"dropout": 0.0},
}  # fmt: skip


def check_size(points: torch.Tensor, where: Any) -> None:
    """Refuse 2D poses (T, 17, 2) that have all joints in one place, so that no scale fits them."""
    if not (points - points[:, :1]).abs().amax((1, 2)).gt(0).all():
        raise InputError(f"{where}: a 2D pose has all joints in one place, so that it has no size; choose another file")
