"""The 2D input of a lifter: whether it sees where a person is in the picture, or the pose alone.

    "place"      screen coordinates, as published (x in [-1, 1] over the picture's width): place and size in the picture
    "pose"       keypoints relative to the hip over their mean distance from it: the pose alone, in any picture
    "direction"  the pose, and the slopes X/Z, Y/Z of the ray to the hip: from which direction the person is seen

each with the detector's confidence behind it or without. A checkpoint names its form; files that do not have "place".
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from common.errors import InputError
from common.rotation import so3_exp_exact
from common.skeleton import Skeleton

SEES = ("place", "pose", "direction")
FOCAL = 0.9  # over the longer side of a picture, where no focal length is known: about a phone's
SMALLEST = 1e-6  # size of a pose all of whose joints are in one place


class LifterInput(NamedTuple):
    """What a lifter sees; the numbers of a joint are x, y, then the slopes, then the confidence."""

    sees: str = "place"
    confidences: bool = False

    @property
    def features(self) -> int:
        """Numbers of a joint."""
        return 2 + 2 * (self.sees == "direction") + self.confidences

    def __str__(self) -> str:
        return self.sees + " and confidences" * self.confidences


def named_form(options: Mapping[str, Any]) -> LifterInput:
    """What a checkpoint's options name; the published form where they name none."""
    return LifterInput(str(options.get("sees") or "place"), bool(options.get("confidences")))


def saved_form(options: Mapping[str, Any], features: int, where: Any) -> LifterInput:
    """As `named_form`, for weights of so many features.

    Raises:
        InputError: an unknown form, or one that the weights do not fit.
    """
    form = named_form(options)
    if form.sees not in SEES or form.features != features:
        raise InputError(
            f"{where}: its lifter takes {features} numbers a joint, but sees {form} by its options; expected one of "
            f"{', '.join(SEES)}, with confidences or without, that fits"
        )
    return form


def make_input(
    form: LifterInput, keypoints: Tensor, slopes: Tensor | None, confidence: Tensor | None, root: int = 0
) -> Tensor:
    """keypoints (..., J, 2), screen coordinates ("place"), else any with square pixels; slopes (..., 2) of the ray to
    the hip; confidence (..., J), 0 to 1; both only where the form takes them -> (..., J, features).
    """
    parts = [keypoints if form.sees == "place" else person_centred(keypoints, root)]
    if form.sees == "direction":
        parts.append(slopes.unsqueeze(-2).expand_as(keypoints))
    if form.confidences:
        known = torch.ones_like(keypoints[..., 0]) if confidence is None else confidence
        parts.append(known.unsqueeze(-1))
    return torch.cat(parts, -1) if len(parts) > 1 else parts[0]


def person_centred(keypoints: Tensor, root: int = 0) -> Tensor:
    """Keypoints (..., J, 2) relative to the root joint, divided by their mean distance from it."""
    centred = keypoints - keypoints[..., root : root + 1, :]
    return centred / size_of(centred).clamp_min(SMALLEST)


def size_of(centred: Tensor) -> Tensor:
    """Mean distance of the joints (..., J, 2) from the origin, (..., 1, 1)."""
    return torch.linalg.vector_norm(centred, dim=-1).mean(-1)[..., None, None]


def slopes_of(hip: Tensor, size: tuple[float, float], focal: float | None) -> Tensor:
    """The ray to a hip (..., 2) in pixels, as X/Z and Y/Z, of a camera whose axis goes through the middle of its
    picture; size: width and height, focal: pixels, None: `FOCAL` -> (..., 2).
    """
    return (hip - hip.new_tensor(size) / 2) / (focal or FOCAL * max(size))


def facing(slopes: Tensor) -> Tensor:
    """The smallest rotations (..., 3, 3) that turn the camera's axis into rays of slopes (..., 2): they carry a body as
    it looks in the middle of the picture to where it looks so from the camera.
    """
    x, y = slopes.unbind(-1)
    length = torch.linalg.vector_norm(slopes, dim=-1)
    across = torch.stack((-y, x, torch.zeros_like(x)), -1) / length.clamp_min(1e-12).unsqueeze(-1)
    return so3_exp_exact(across * length.atan().unsqueeze(-1))


def facing_hip(hip: Tensor, size: tuple[float, float], focal: float | None) -> Tensor:
    """`facing` of the rays to hips (..., 2) in pixels; the other arguments as of `slopes_of` -> (..., 3, 3)."""
    return facing(slopes_of(hip, size, focal))


def mirror_input(inputs: Tensor, skeleton: Skeleton) -> Tensor:
    """The mirrored person in any form: (..., J, features) -> the same."""
    signs = [1.0] * inputs.shape[-1]
    signs[0] = -1.0
    if len(signs) > 3:
        signs[2] = -1.0
    columns = [column if sign > 0 else -column for sign, column in zip(signs, inputs.unbind(-1), strict=True)]
    joints = torch.stack(columns, -1).unbind(-2)
    return torch.stack([joints[j] for j in skeleton.mirror], -2)
