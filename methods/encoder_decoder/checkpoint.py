"""Files of the encoder-decoder: the released ones and ours, with the sizes they are for; and ImageNet's weights.

The released files (`network_best_val_t1.pth`, `network_last_val.pth`) are bare state dicts. They hold modules that the
network of the file never uses; those entries are known by name and left out, and no other is. Ours hold `network`,
`sizes`, `stage` ("synthesis" or "pose"), `state_dict` and what a resume needs. Nothing in a file is run.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import models
from common.errors import InputError
from common.images import imagenet
from common.run import checkpoint
from common.run.losses import LossBuffer
from common.run.run import Run
from common.run.state import Progress, State

log = logging.getLogger(__name__)

NETWORK = "encoder_decoder"  # the name in our files
BEST = "best-model.pth"
STAGES = {"synthesis": "train_encoder_decoder.py", "pose": "train_encoder_decoder_pose.py"}
FREE = (  # options that a resumed run may change, besides those of every script
    "encoder_weights", "num_training_iterations", "plot_every", "preload_gb", "print_every",
    "synthetic_dir",
)  # fmt: skip

# Modules in the released state dicts that no output depends on.
_HIDDEN = ("fc_1_stage0.", "fc_2_stage0.")
UNUSED = {"resnet": (*(f"conv_{i}_stage0." for i in range(1, 7)), "to_3d.", "to_fg.", *_HIDDEN), "unet": _HIDDEN}
DEEPEST_FILTERS = {2: 128, 3: 256, 4: 512, 5: 512, 6: 512}  # channels of the deepest map by layers, times feature_scale

# Modules of torchvision's ImageNet classifiers that we have no use for, and those that we have.
IMAGENET_UNUSED = {"resnet18": ("layer3.", "layer4.", "fc."), "resnet50": ("layer4.", "fc.")}
IMAGENET_USED = {
    "resnet18": ("conv1", "bn1", "layer1", "layer2"),
    "resnet50": ("conv1", "bn1", "layer1", "layer2", "layer3"),
}


class SavedEncoderDecoder(NamedTuple):
    """`EncoderDecoder(**sizes)` takes `state` (through `checkpoint.load_weights`).

    source: "published" or "train_encoder_decoder"; file: all of our file, empty for a published one.
    """

    source: str
    sizes: dict[str, Any]
    state: dict[str, Tensor]
    file: dict[str, Any]


def load(path: str | Path) -> SavedEncoderDecoder:
    """Read a released file or one of ours, told apart by what is in it.

    Raises:
        InputError: missing, damaged or other file; what was found in it and what was expected.
    """
    file = checkpoint.load(path)
    if "network" in file:
        return _own(file, path)
    state = checkpoint.plain_names(file)
    if not isinstance(state.get("from_latent.0.weight"), Tensor):
        found = ", ".join(list(state)[:4]) or "nothing"
        raise InputError(
            f"{path} is no encoder-decoder: it holds {found}; expected from_latent.0.weight and the like "
            "(network_best_val_t1.pth), or a file of train_encoder_decoder.py"
        )
    try:
        sizes = published_sizes(state)
    except (KeyError, IndexError, ValueError, AttributeError, TypeError, ZeroDivisionError, OverflowError) as error:
        raise InputError(
            f"{path}: the sizes of the network cannot be told from its weights ({error}); is the file whole?"
        ) from error
    unused = UNUSED[sizes["encoder"]]
    used = {name: value for name, value in state.items() if not name.startswith(unused)}
    return SavedEncoderDecoder("published", sizes, used, {})


def load_network(path: str | Path, args: Any, **changed: Any) -> tuple[nn.Module, SavedEncoderDecoder]:
    """The network of a file, with its weights, and what the file holds. changed: sizes to be other than the file's.

    Fills in `--input_dimension`, which is the file's.

    Raises:
        InputError: as `load`; or `--input_dimension` is given, and is another one.
    """
    found = load(path)
    found = found._replace(sizes=found.sizes | changed)
    resolution = found.sizes["resolution"]
    if args.input_dimension not in (None, resolution):
        raise InputError(
            f"{path} is for images of {resolution} pixels, --input_dimension is {args.input_dimension}; leave that out"
        )
    args.input_dimension = resolution
    model = checkpoint.build(lambda: models.create("encoder_decoder", **found.sizes), found.state, path)
    checkpoint.load_weights(model, found.state, path)
    return model, found


def _own(file: dict[str, Any], path: str | Path) -> SavedEncoderDecoder:
    sizes, state = file.get("sizes"), file.get("state_dict")
    if file["network"] != NETWORK or not isinstance(sizes, Mapping) or not isinstance(state, Mapping):
        raise InputError(
            f"{path} holds the network {file['network']!r}; expected {NETWORK} with sizes and state_dict, as "
            "train_encoder_decoder.py saves it"
        )
    return SavedEncoderDecoder("train_encoder_decoder", dict(sizes), dict(state), file)


def published_sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of `EncoderDecoder` that a released state dict is for, from its shapes.

    Raises:
        KeyError, ValueError, ...: entries are missing or do not fit together.
    """

    def shape(name: str) -> tuple[int, ...]:
        return tuple(state[name].shape)

    encoder = "resnet" if any(name.startswith("encoder.") for name in state) else "unet"
    ups = {name.split("_")[1] for name in state if name.startswith("upconv_")}
    layers = len(ups) + 1
    feature_scale = 64 // shape("final_stage0.weight")[1]
    entry, latent_3d = shape("from_latent.0.weight")
    numbers = shape("encoder.fc.weight")[0] - latent_3d if encoder == "resnet" else shape("to_fg.0.weight")[0]
    channels = DEEPEST_FILTERS[layers] // feature_scale - numbers
    side = round((entry / channels) ** 0.5)
    if channels * side**2 != entry:
        raise ValueError(f"from_latent makes {entry} numbers, which is no square map of {channels} channels")
    head = sorted(
        (name for name in state if name.startswith("to_pose.") and state[name].dim() == 2),
        key=lambda name: int(name.split(".")[2]),
    )
    return {
        "resolution": side << (layers - 1),
        "encoder": encoder,
        "feature_scale": feature_scale,
        "layers": layers,
        "latent_fg": numbers,
        "latent_3d": latent_3d,
        "upsampling": "half" if "upconv_1_stage0.up.weight" in state else "upper",
        "skip_background": "conv_1_stage_bg0.conv1.0.weight" in state,
        "joints": shape(head[-1])[0] // 3,
        "pose_width": shape(head[0])[0],
        "pose_layers": len(head) - 1,
    }


# ------------------------------------------------------------ a run's state


def run_state(
    args: Any, run: Run, stage: str, model: nn.Module, optimizer: torch.optim.Optimizer, sizes: dict[str, Any]
) -> State:
    """What a run of a stage saves as last.pth, with the network's sizes. stage: of `STAGES`."""
    parts = {"state_dict": model, "optimizer": optimizer}
    fixed = {"network": NETWORK, "sizes": sizes, "stage": stage}
    return State(run, args, parts, args.checkpoint / "last.pth", fixed, FREE)


def resume(state: State, steps: int, total: int) -> Progress:
    """Put a run back where its last.pth was saved. steps: of an epoch; total: of the whole run.

    Raises:
        InputError: as `State.resume`; a file of another stage; a run that has finished.
    """

    def check_stage(saved: dict[str, Any], path: Path) -> None:
        if saved.get("stage") != state.fixed["stage"]:
            script = STAGES[state.fixed["stage"]]
            raise InputError(f"{path} is no state to resume from: give the last.pth of a run of {script}")

    progress = state.resume(check=check_stage)
    done = progress.epoch * steps + progress.step
    if done >= total and not progress.more.get("stopped"):  # stopped in its last step: the last row is to come
        raise InputError(
            f"{state.args.resume} has finished {done} steps; to go on, ask for more --epochs and "
            "--num_training_iterations"
        )
    return progress


def save_or_stop(state: State, now: Progress, record: LossBuffer, done: int, improved: bool) -> None:
    """After a step: best-model.pth where the score improved; where a signal asked for it, last.pth, and leave.

    now: without the losses, which `record` has; done: steps of the run.
    """
    stop = state.run.stop_requested
    if improved or stop:
        now = now._replace(losses=record.state_dict(), more={**now.more, "stopped": stop})
    if improved:
        state.run.save(state.path.with_name(BEST), state.contents(now))
    if stop:
        state.stop(now, where=f"at step {done}")


def save_epoch(state: State, now: Progress, record: LossBuffer, steps: int, scored: bool) -> Progress:
    """After an epoch of `steps`: last.pth, and best-model.pth too where nobody is there to score. -> where the run is.

    now: without the losses. A run that ends in mid-epoch keeps it, as more iterations may be asked for.
    """
    if now.step < steps:
        now = now._replace(losses=record.state_dict())
    else:
        now = Progress(now.epoch + 1, best=now.best, more={"scores": {}})
    state.save(now, *(() if scored else (BEST,)))
    return now


def saved_option(path: str | Path, name: str) -> Any:
    """An option of the run that a last.pth, or its folder, is of."""
    options = checkpoint.saved_options(checkpoint.load(checkpoint.state_file(path, "last.pth")))
    if name not in options:
        raise InputError(f"{path} is no state to resume from: its options are missing or damaged")
    return options[name]


# ------------------------------------------------------------ ImageNet


def imagenet_file(name: str, source: str | Path = "download", run: Run | None = None) -> Path | None:
    """The file of ImageNet weights: `source` itself, or torch's cache, filled from torch's server where it is empty.

    name: "resnet18" (feature network of the perceptual loss) or "resnet50" (encoder); source: a file, "download", or
    "none"; run: of which all processes must have the file, or none. None: "none" was asked for, or there is no network;
    the reason is logged as a warning.

    Raises:
        InputError: the file that `source` names does not exist; some processes have one and others not.
    """
    path = _imagenet_file(name, source)
    if run is not None and 0 < run.average(torch.tensor(float(path is not None))) < 1:
        raise InputError(
            f"the ImageNet weights of {name} are there for some processes only: copy {imagenet.FILES[name]} into "
            "torch's cache of every machine, or give none in place of download"
        )
    return path


def _imagenet_file(name: str, source: str | Path) -> Path | None:
    if str(source) == "none":
        return None
    if str(source) != "download":
        if not Path(source).is_file():
            raise InputError(f"{source}, ImageNet weights of {name}, does not exist; expected a file, download or none")
        return Path(source)
    try:
        return imagenet.fetch(name)
    except InputError as error:
        log.warning("%s", error)
        return None


def load_imagenet(network: nn.Module, name: str, path: str | Path) -> None:
    """Put a torchvision classifier's weights into the modules of `network` that bear its names (`IMAGENET_USED`).

    What the network has no place for (`IMAGENET_UNUSED`) is passed over by name; anything else must fit.

    Raises:
        InputError: the file cannot be read or does not fit.
    """
    state = checkpoint.load(path)
    used = {key: value for key, value in state.items() if not str(key).startswith(IMAGENET_UNUSED[name])}
    trunk = nn.ModuleDict({part: getattr(network, part) for part in IMAGENET_USED[name]})
    checkpoint.load_weights(trunk, used, f"{path} ({name} of ImageNet)")
