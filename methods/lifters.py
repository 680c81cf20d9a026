"""Lifting by whatever lifter a checkpoint holds: which one it is, the 2D input that it was trained on, its poses.

A method is the name of a row of `models.lifters.LIFTERS`, or "gan", whose files name their network themselves. What a
network's weights do not tell (a causal VideoPose3D, Chen's factor) is in the file, or an option.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import models
from common.camera import normalise_screen
from common.errors import InputError
from common.lifter_input import LifterInput, facing_hip, make_input, mirror_input, saved_form, slopes_of
from common.run import checkpoint
from common.skeleton import H36M_16, H36M_17, convert, mirror
from methods.adversarial import checkpoint as gan_checkpoint
from methods.adversarial.checkpoint import SavedNetwork
from methods.ites.scaling import scale_root_to_head
from models.adversarial.geometry import predictor
from models.lifters import LIFTERS, lifter_of

# What a lifter sees besides the pose: a person's place and size in the picture, or the size in the video.
SEES = {name: lifter.sees for name, lifter in LIFTERS.items()} | {"gan": "pose"}
METHODS = tuple(SEES)
POSEAUG = tuple(name for name in METHODS if SEES[name] == "place")  # 16 joints, metres
BATCH = 1 << 12


class SavedLifter(NamedTuple):
    """`network_of` makes the network."""

    method: str  # one of METHODS
    network: SavedNetwork
    camera: str = ""  # gan: "kudo" or "chen"
    factor: float = 1.0  # gan: of `models.adversarial.predict.predictor`
    form: LifterInput = LifterInput()  # PoseAug's lifters: what they see


# ------------------------------------------------------------ what a file holds


def load(path: str | Path, method: str | None = None, causal: bool | None = None) -> SavedLifter:
    """Read a checkpoint of any of our lifting methods, own or released.

    Args:
        method: one of METHODS; None: found.
        causal: of a VideoPose3D over time; None: as the file says, else no.

    Raises:
        InputError: missing or damaged file, no lifter in it, or another method's.
    """
    saved = _load(path, causal)
    if method not in (None, saved.method):
        raise InputError(f"--method {method}, but {path} holds a {saved.method}: leave --method out, or take another")
    return saved


def _load(path: str | Path, causal: bool | None) -> SavedLifter:
    if gan_checkpoint.is_npz(path):
        return _gan(path)
    file = checkpoint.load(path, pass_over=gan_checkpoint.LIGHTNING_MODULES)
    wrapped = (file[key] for key in ("state_dict", "model_pos", "model", "net") if isinstance(file.get(key), Mapping))
    bare = file if file and all(isinstance(value, Tensor) for value in file.values()) else None
    state = next(wrapped, bare)
    if not state:
        keys = ", ".join(map(str, list(file)[:6])) or "nothing"
        raise InputError(f"{path} is no lifter's checkpoint: it holds {keys}; expected state_dict or model_pos")
    if "method" in file or any(str(name).startswith("gen.") for name in state):
        return _gan(path)
    plain = checkpoint.plain_names(state)
    found = lifter_of(plain)
    if found is None:
        raise InputError(f"{path} holds {', '.join(list(plain)[:3])}: no lifter of {', '.join(METHODS)}")
    try:
        sizes = LIFTERS[found].sizes(plain)
    except (KeyError, IndexError, ValueError, AttributeError, TypeError, ZeroDivisionError) as error:
        raise InputError(f"{path}: the weights of its {found} are incomplete ({error!r})") from error
    if sizes.get("architecture") is not None:  # over time
        sizes["causal"] = bool(checkpoint.saved_options(file).get("causal")) if causal is None else causal
    form = LifterInput()
    if SEES[found] == "place":
        form = saved_form(checkpoint.saved_options(file), sizes.get("features", 2), path)
    return SavedLifter(found, SavedNetwork(found, sizes, dict(state)), form=form)


def _gan(path: str | Path) -> SavedLifter:
    saved = gan_checkpoint.load(path)
    joints = saved.generator.sizes.get("joints", H36M_17.num_joints)
    if joints != H36M_17.num_joints:
        raise InputError(f"{path} lifts {joints} joints; expected {H36M_17.num_joints}")
    return SavedLifter("gan", saved.generator, saved.method, saved.factor)


def sees(saved: SavedLifter) -> str:
    """What it sees besides the pose, as `models.lifters.Lifter.sees` has it; "pose": nothing."""
    return SEES[saved.method] if saved.form.sees == "place" else "pose"


def network_of(saved: SavedLifter, path: str | Path) -> nn.Module:
    """The network with its weights, in evaluation mode, on the CPU; `path` is named where they do not fit."""
    name, sizes, state = saved.network
    network = checkpoint.build(lambda: models.create(name, **sizes), state, path)
    checkpoint.load_weights(network, state, path)
    return network.eval()


# ------------------------------------------------------------ 2D in, 3D out


def input_of(
    saved: SavedLifter,
    pixels: Tensor,
    size: tuple[int, int] | None,
    confidence: Tensor | None = None,
    focal: float | None = None,
) -> Tensor:
    """What a lifter sees of one video: (T, 17, 2) pixels -> (T, 17 or 16, 2 or more), as the network was trained.

    PoseAug's lifters: what `saved.form` says of 16 joints; all but the pose alone needs the picture's size (width,
    height). ITES: root-relative, one scale for the whole video, so that hip and head are 0.2 apart on average; the
    focal length that the published form divides by falls out where it is the same in x and y. gan: pixels, as the
    network normalises every pose by itself.

    Args:
        confidence: (T, 17), of the keypoints; 1 where left out.
        focal: pixels; None: `common.lifter_input.FOCAL`.
    """
    sees = SEES[saved.method]
    if sees == "pose":
        return pixels
    if sees == "size":
        return scale_root_to_head(pixels - pixels[:, :1], H36M_17.root, H36M_17.index("head"))
    if size is None and saved.form.sees != "pose":
        raise InputError(f"{saved.method} needs the size of the picture: give --image-size WIDTHxHEIGHT")
    keypoints, slopes = convert(pixels, H36M_17, H36M_16), None
    if saved.form.sees == "place":
        keypoints = normalise_screen(keypoints, *size)
    if saved.form.sees == "direction":
        slopes = slopes_of(keypoints[:, H36M_16.root], size, focal)
    if confidence is not None:
        confidence = convert(confidence.unsqueeze(-1), H36M_17, H36M_16).squeeze(-1)
    return make_input(saved.form, keypoints, slopes, confidence)


@torch.inference_mode()
def lift(
    saved: SavedLifter,
    network: nn.Module,
    pixels: Tensor,
    size: tuple[int, int] | None,
    confidence: Tensor | None = None,
    focal: float | None = None,
) -> Tensor:
    """Keypoints of a video (T, 17, 2) -> poses (T, 17, 3) as of `camera_poses`, on the network's device; the other
    arguments as of `input_of`. What a lifter that sees the pose alone gives is turned to where the person stands.
    """
    device = next(network.parameters()).device
    pose = camera_poses(saved, network, input_of(saved, pixels, size, confidence, focal).to(device))
    if saved.form.sees == "pose" and size:
        pose = pose @ facing_hip(pixels[:, H36M_17.root], size, focal).mT.to(pose)
    return pose


def check_size(points: Tensor, where: Any) -> None:
    """Refuse 2D poses (T, 17, 2) that have all joints in one place, so that no scale fits them."""
    if not (points - points[:, :1]).abs().amax((1, 2)).gt(0).all():
        raise InputError(f"{where}: a 2D pose has all joints in one place, so that it has no size; choose another file")


@torch.inference_mode()
def camera_poses(saved: SavedLifter, network: nn.Module, keypoints: Tensor) -> Tensor:
    """Poses of every frame, in the axes of the camera (x right, y down, z forward), the hip at the origin.

    Args:
        network: `network_of(saved)`, in evaluation mode.
        keypoints: (T, J, features), T consecutive frames, of `input_of`.

    Returns:
        (T, 17, 3) float32, in metres from PoseAug's lifters, in the network's own unit from the others. A joint that
        the 16-joint lifters lack, the neck, is halfway from thorax to head.
    """
    pose = _lift(saved, network, keypoints).float()
    if saved.form.sees != "place":  # the published ones are as published
        mirrored = _lift(saved, network, mirror_input(keypoints, H36M_16)).float()
        pose = (pose + mirror(mirrored, H36M_16)) / 2
    if pose.shape[1] == H36M_16.num_joints:
        pose = convert(pose, H36M_16, H36M_17)
    return pose - pose[:, :1]


def _lift(saved: SavedLifter, network: nn.Module, keypoints: Tensor) -> Tensor:
    """(T, J, features) -> (T, J, 3), as the network gives it."""
    if getattr(network, "receptive_field", 1) > 1:
        return _over_time(network, keypoints)
    forward = forward_of(saved, network)
    return torch.cat([forward(part) for part in keypoints.split(BATCH)])


def forward_of(saved: SavedLifter, network: nn.Module) -> Callable[[Tensor], Tensor]:
    """-> a function, 2D input (B, J, features) -> pose (B, J, 3), camera axes."""
    if saved.method == "gan":
        predict = predictor(network, saved.camera, saved.factor)
        return lambda keypoints: predict(keypoints).pose
    return lambda keypoints: LIFTERS[saved.method].pose(network, keypoints)


def _over_time(network: nn.Module, keypoints: Tensor) -> Tensor:
    """(T, J, features) -> (T, J, 3) by VideoPose3D over windows; beyond the ends, the frame at the end is repeated."""
    before, after = network.pad + network.causal_shift, network.pad - network.causal_shift
    flat = F.pad(keypoints.flatten(1).t().unsqueeze(0), (before, after), mode="replicate")
    padded = flat.squeeze(0).t().unflatten(1, keypoints.shape[1:])
    frames = network.receptive_field - 1
    parts = [
        network.sequences(padded[start : start + BATCH + frames].unsqueeze(0)).squeeze(0)
        for start in range(0, len(keypoints), BATCH)
    ]
    return torch.cat(parts)
