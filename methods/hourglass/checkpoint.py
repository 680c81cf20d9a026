"""Files of the image-to-3D networks: which network they hold, its weights, and ImageNet weights to begin with.

Released and ours are dictionaries with `epoch`, `state_dict` and, where training can go on, `optimizer`. The files of
2017 (branches `hg3d` and `2D`) are whole pickled networks: read without running anything, or refused. Names may carry
`module.`, and files of torch before 0.4.1 lack `num_batches_tracked`.
"""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from common.errors import InputError
from common.files import pickled_module
from common.images import imagenet
from common.run import checkpoint

log = logging.getLogger(__name__)

# Blocks in the four stages, and whether they are bottlenecks.
_LAYERS = {
    ((2, 2, 2, 2), False): 18, ((3, 4, 6, 3), False): 34, ((3, 4, 6, 3), True): 50, ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}  # fmt: skip
# What a network with depths has beyond one without; the last of ll_ and tmpOut_ leads to the hourglass's depth tail.
_DEPTH = re.compile(r"(depth|reg_|reg)\.")


class SavedImageNetwork(NamedTuple):
    """`models.create(name, **sizes)` takes `state` through `load_any_stage`.

    epoch: of the file, 0 where it says none; file: all else that is in it (`optimizer`, ...), nothing in one of 2017.
    """

    name: str
    sizes: dict[str, Any]
    state: dict[str, Tensor]
    epoch: int
    file: dict[str, Any]


def parse_arch(arch: str, joints: int = 16, depth: bool = False, size: int = 256) -> tuple[str, dict[str, Any]]:
    """`--arch` to name and sizes for `models.create`: "msra_50", "hg". size: of the images, width = height.

    Raises:
        InputError: another name; the known ones are listed.
    """
    if arch == "hg":
        return "hourglass", {"joints": joints, "depth": depth, "size": size}
    layers = arch.removeprefix("msra_")
    if layers != arch and layers.isdecimal() and int(layers) in _LAYERS.values():
        return "pose_resnet", {"layers": int(layers), "joints": joints, "depth": depth}
    known = ", ".join(f"msra_{layers}" for layers in _LAYERS.values())
    raise InputError(f"--arch {arch}: expected one of {known}, hg")


def arch_of(saved: SavedImageNetwork) -> str:
    """The `--arch` of a file's network."""
    return "hg" if saved.name == "hourglass" else f"msra_{saved.sizes['layers']}"


def find_weights(name: str, exp_dir: Path = Path("exp")) -> Path:
    """The file of `--load_model`. The published commands run in a folder beside exp/ and models/: `../` may be too
    much here, and what is not among the released models/NAME.pth may be the run exp_dir/NAME.
    """
    path = Path(name)
    inner = Path(*path.parts[1:]) if path.parts[:1] == ("..",) else path
    candidates = [path, inner, exp_dir / path.stem / "model_last.pth"]
    return next((file for file in candidates[: 3 if inner.parts[:1] == ("models",) else 2] if file.is_file()), path)


def load(path: str | Path, device: str | torch.device = "cpu") -> SavedImageNetwork:
    """Read a file and find out what network it holds.

    Raises:
        InputError: missing, damaged or other file; what was found in it and what was expected.
    """
    if pickled_module.is_whole_network(path):
        file, state = {}, pickled_module.load_state(path)
    else:
        file = checkpoint.load(path, device)
        state = file.get("state_dict", file)
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        keys = ", ".join(map(str, list(file)[:6]))
        raise InputError(f"{path} holds {keys or 'nothing'}; expected epoch, state_dict, optimizer of a pose network")
    state = checkpoint.plain_names(state)
    name, sizes = _network(state, path)
    epoch = file.get("epoch", 0)
    rest = {key: value for key, value in file.items() if key != "state_dict"} if "state_dict" in file else {}
    return SavedImageNetwork(name, sizes, state, epoch if isinstance(epoch, int) else 0, rest)


def load_any_stage(model: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Load strictly, but for the depth head: the second stage starts from a first stage's file, which has none.

    The head (the hourglass's depth tail) then keeps its weights, and that is logged; so is a file's head that a network
    without depths leaves out. Anything else that is missing, unexpected or of another size is refused.
    """
    state, expected = checkpoint.plain_names(state), model.state_dict()
    tail = _depth_names(expected) - set(state)
    if tail and tail >= {name for name in _depth_names(expected) if _DEPTH.match(name)}:
        log.warning("%s has no depths (stage 1): those weights start afresh", source)
        state |= {name: expected[name] for name in tail}
    surplus = _depth_names(state) - set(expected)
    if surplus and not any(_DEPTH.match(name) for name in expected):
        log.warning("%s has depths, which this network leaves out", source)
        state = {name: value for name, value in state.items() if name not in surplus}
    checkpoint.load_weights(model, state, source)


def _depth_names(state: Mapping[str, Tensor]) -> set[str]:
    """Entries that only a network with depths has."""
    stacks = len({name.split(".")[1] for name in state if name.startswith("tmpOut.")})
    last = tuple(f"{layer}.{stacks - 1}." for layer in ("ll_", "tmpOut_"))
    return {name for name in state if _DEPTH.match(name) or (stacks and name.startswith(last))}


def _network(state: Mapping[str, Tensor], path: str | Path) -> tuple[str, dict[str, Any]]:
    """Name and sizes by the entries' names and shapes."""
    try:
        if "conv1_.weight" in state:
            return "hourglass", _hourglass_sizes(state)
        if "deconv_layers.0.weight" in state:
            return "pose_resnet", _resnet_sizes(state)
    except (KeyError, IndexError, ValueError, TypeError, ZeroDivisionError, OverflowError) as error:
        raise InputError(f"{path}: its weights are no known size of this network ({error}): take another") from error
    found = ", ".join(list(state)[:3])
    raise InputError(
        f"{path} holds weights {found}, ...; expected a pose network's: conv1, layer1, deconv_layers, hm (ResNet) or "
        "conv1_, hourglass, tmpOut (hourglass)"
    )


def _resnet_sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    counts = tuple(_count(state, f"layer{i}.") for i in (1, 2, 3, 4))
    layers = _LAYERS.get((counts, "layer1.0.conv3.weight" in state))
    if layers is None:
        raise ValueError(f"stages of {counts} blocks")
    return {"layers": layers, "joints": len(state["hm.weight"]), "depth": "depth.weight" in state}


def _hourglass_sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    stacks = _count(state, "tmpOut.")
    joints, features = state["tmpOut.0.weight"].shape[:2]
    modules = _count(state, "Residual.") // stacks
    sizes = {
        "joints": joints,
        "depth": "reg.weight" in state,
        "stacks": stacks,
        "modules": modules,
        "features": features,
    }
    if sizes["depth"]:
        side = round((state["reg.weight"].shape[1] / features) ** 0.5)
        sizes |= {"depth_modules": _count(state, "reg_.") // 4, "size": 64 * side}
    return sizes


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})


# ------------------------------------------------------------ ImageNet


def load_backbone(model: nn.Module, layers: int, path: str | Path | None = None) -> None:
    """ImageNet weights into the trunk (conv1, bn1, layer1, ...) of a network; what the trunk lacks (`fc`) is left out.

    path: a file of torchvision's weights; None: torch's own download (kept in its cache), checked by its hash.

    Raises:
        InputError: no file and no network, or weights of another trunk.
    """
    source = path or _fetch(layers)
    state = checkpoint.load(source)
    state = state.get("state_dict", state)
    if not isinstance(state, Mapping):
        raise InputError(f"{source} holds no weights: expected torchvision's ResNet-{layers}")
    trunk = re.compile(r"(conv1|bn1|layer\d+)\.")
    found = {name: value for name, value in checkpoint.plain_names(state).items() if trunk.match(name)}
    expected = model.state_dict()
    rest = {name: value for name, value in expected.items() if not trunk.match(name)}
    if not found:
        keys = ", ".join(map(str, list(state)[:3]))
        raise InputError(
            f"{source} holds {keys or 'nothing'}; expected torchvision's ResNet-{layers}: conv1, bn1, layer1, ..."
        )
    unused = {name for name in found if name.split(".")[0] not in {key.split(".")[0] for key in expected}}
    checkpoint.load_weights(model, {n: v for n, v in found.items() if n not in unused} | rest, source)


def _fetch(layers: int) -> Path:
    try:
        return imagenet.fetch(f"resnet{layers}")
    except InputError as error:
        raise InputError(
            f"{error}. Fetch that file elsewhere and give it with --backbone_weights FILE, or train from random "
            "weights with --backbone_weights none"
        ) from error
