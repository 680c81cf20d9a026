"""The lifters, networks from a 2D pose to a 3D pose: one row each, with all that scripts must know of a network.

A new lifter is its own file and its row here. PoseAug's scripts then train and score it (`methods.poseaug.options`),
and `demo.py` and `export_onnx.py` know its checkpoints (`methods.lifters`).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from models.gcn import GCN
from models.mlp import MLP
from models.stgcn import STGCN
from models.student import Student
from models.teacher import Teacher, published_pose
from models.videopose import VideoPose

State = Mapping[str, Tensor]  # weights by name


class Lifter(NamedTuple):
    """A row.

    network: the class. PoseAug's options `stages`, `dropout`, `architecture` and `causal` go to arguments so named.
    sees: what else of a person than the pose. "place": where in the picture, and how large (screen coordinates of 16
        joints -> metres, as PoseAug trains them); "size": how large within a video (17 joints, ITES).
    weight: begins the name of a weight that no lifter in a row above has; tells whose a checkpoint is.
    sizes: weights -> the constructor's arguments; dropout is 0 where only a network in training mode has it.
    pose: (network, 2D input (B, J, features)) -> pose (B, J, 3), camera axes.
    """

    network: Callable[..., nn.Module]
    sees: str
    weight: str
    sizes: Callable[[State], dict[str, Any]]
    pose: Callable[[nn.Module, Tensor], Tensor] = lambda network, keypoints: network(keypoints)


def _count(state: State, prefix: str) -> int:
    """Modules 0, 1, ... in the list `prefix`."""
    return len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})


def _teacher(state: State) -> dict[str, Any]:
    basis, width = state["alpha_layer.weight"].shape[:2]
    joints = state["fe_net.0.conv1.weight"].shape[1] // 2
    return {"num_joints": joints, "width": width, "layers": _count(state, "fe_net.") - 1, "basis": basis}


def _student(state: State) -> dict[str, Any]:
    return {"hidden": state["gconv_output.W"].shape[1], "blocks": _count(state, "gconv_layers.")}


def _mlp(state: State) -> dict[str, Any]:
    width, inputs = state["w1.weight"].shape
    joints = len(state["w2.weight"]) // 3 + 1
    sizes = {"joints": joints, "width": width, "stages": _count(state, "linear_stages."), "dropout": 0.0}
    return sizes | {"features": inputs // joints}


def _gcn(state: State) -> dict[str, Any]:
    sizes = {"hidden": state["gconv_output.W"].shape[1], "stages": _count(state, "gconv_layers."), "dropout": 0.0}
    return sizes | {"features": state["gconv_input.0.gconv.W"].shape[1]}


def _videopose(state: State) -> dict[str, Any]:
    channels, inputs, first = state["expand_conv.weight"].shape
    stages, joints = _count(state, "layers_conv.") // 2, len(state["shrink.weight"]) // 3 + 1
    widths = [first, *(state[f"layers_conv.{2 * i}.weight"].shape[2] for i in range(stages))]
    architecture = ",".join(map(str, widths)) if max(widths) > 1 else None
    sizes = {"joints": joints, "channels": channels, "stages": stages, "dropout": 0.0}
    return sizes | {"architecture": architecture, "features": inputs // joints}


def _stgcn(state: State) -> dict[str, Any]:
    return {"dropout": 0.0, "features": len(state["stgcn.data_bn.weight"]) // 17}


LIFTERS = {
    "teacher": Lifter(Teacher, "size", "alpha_layer.weight", _teacher, published_pose),
    "student": Lifter(Student, "size", "gconv_layers.0.gconv1.non_local", _student, lambda net, k: net(k).pose),
    "mlp": Lifter(MLP, "place", "w1.weight", _mlp),
    "gcn": Lifter(GCN, "place", "gconv_output.W", _gcn),
    "videopose": Lifter(VideoPose, "place", "expand_conv.weight", _videopose),
    "stgcn": Lifter(STGCN, "place", "stgcn.", _stgcn),
}


def lifter_of(state: State) -> str | None:
    """The name of the lifter whose weights these are; None: none's."""
    names = (name for name, lifter in LIFTERS.items() if any(key.startswith(lifter.weight) for key in state))
    return next(names, None)
