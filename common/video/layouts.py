"""Joint layouts of 2D detectors: found by the joints' names or their number, converted to Human3.6M's 17 joints."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from common.errors import InputError
from common.skeleton import COCO_17, H36M_16, H36M_17, LAYOUTS, MPII_16, Skeleton, conversion_matrix

# The places of COCO's joints among those of layouts that hold them: BlazePose's 33, OpenPose's 25; BODY_25B's, Halpe's
# and COCO-WholeBody's begin with them. Feet, face, hands and midpoints are left.
_BODY_25 = (0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11)
_BLAZEPOSE_33 = (0, 2, 5, 7, 8, *range(11, 17), *range(23, 29))
_COCO_PLACES = {
    "body25": (25, _BODY_25), "halpe26": (26, tuple(range(17))), "wholebody133": (133, tuple(range(17))),
    "halpe136": (136, tuple(range(17))), "body25b": (25, tuple(range(17))), "blazepose33": (33, _BLAZEPOSE_33),
}  # fmt: skip
LAYOUT_NAMES = (*LAYOUTS, *_COCO_PLACES)
_BY_COUNT = {
    18: "openpose18", 26: "halpe26", 32: "h36m32", 33: "blazepose33", 133: "wholebody133", 136: "halpe136",
}  # fmt: skip
_ALIASES = {
    "coco": "coco17", "h36m": "h36m17", "openpose": "openpose18", "body_25": "body25", "mpii": "mpii16",
    "body_25b": "body25b", "halpe": "halpe26", "wholebody": "wholebody133", "coco_wholebody": "wholebody133",
}  # fmt: skip
_FACE_SHARE = 0.3  # of a body's size: five face joints (COCO's first) stay below, a pelvis with a leg (ours) above
_LIMBS = [
    f"{side} {joint}" for side in ("left", "right") for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "foot")
]
# Other names of the joints, in small letters without "_" and "-".
_OTHER_NAMES = {
    "ankle": "foot", "root": "hip", "pelvis": "hip", "midhip": "hip", "neck base": "neck", "head top": "head",
    "top head": "head", "belly": "spine", "torso": "spine",
}  # fmt: skip


def layout_of(wanted: Any, points: np.ndarray, where: Any) -> str:
    """One of LAYOUT_NAMES for points (T, J, 2 or more), NaN where missing: as named, else by the number of joints.

    Raises:
        InputError: an unknown name, another number of joints than the name has, or a number that tells nothing.
    """
    count = points.shape[1]
    if wanted is None:
        name = {17: _guess_17, 25: _guess_25}.get(count, lambda _: _BY_COUNT.get(count))(points)
        if name is None:
            raise InputError(f"{where} has {count} joints: name their layout, one of {', '.join(LAYOUT_NAMES)}")
        return name
    name = _ALIASES.get(str(wanted).lower(), str(wanted).lower())
    if name not in LAYOUT_NAMES:
        raise InputError(f"unknown joint layout {wanted!r}; known: {', '.join(LAYOUT_NAMES)}")
    expected = len(joint_names(name))
    if count != expected:
        raise InputError(f"{where} has {count} joints, but the layout {name} has {expected}")
    return name


def layout_by_names(names: Sequence[str]) -> tuple[str, list[int]] | None:
    """The layout most of whose joints are among `names`, and their places there, -1 for a joint that is not.

    None if arms and legs are not all there. Case, "_", "-" and what stands in brackets do not count; ankles are feet.
    MMPose, COCO's annotations and others bring their joints' names.
    """
    plain = [_plain(name) for name in names]
    if "neck" in plain and not {"thorax", "nose"} & set(plain):
        plain[plain.index("neck")] = "thorax"  # CrowdPose: no joint of the face, so that the neck is its base
    if not set(_LIMBS) <= set(plain):
        return None
    layouts = {"coco17": COCO_17, "h36m17": H36M_17, "h36m16": H36M_16, "mpii16": MPII_16}
    share = {name: np.mean([joint in plain for joint in skeleton.joints]) for name, skeleton in layouts.items()}
    layout = max(share, key=share.get)
    return layout, [plain.index(joint) if joint in plain else -1 for joint in layouts[layout].joints]


def _plain(name: str) -> str:
    text = re.sub(r"[_\-\s]+", " ", re.sub(r"\(.*?\)", "", str(name))).strip().lower()
    text = re.sub(r"^([lr]) (?=\w)", lambda m: {"l": "left ", "r": "right "}[m[1]], text)
    side, _, rest = text.rpartition(" ") if text.startswith(("left ", "right ")) else ("", "", text)
    return f"{side} {_OTHER_NAMES.get(rest, rest)}".strip()


def joint_names(layout: str) -> tuple[str, ...]:
    """Names of the joints of a layout in its order; "joint 19" for those that nothing is made of."""
    if layout not in _COCO_PLACES:
        return LAYOUTS[layout].joints
    count, places = _COCO_PLACES[layout]
    names = {place: name for place, name in zip(places, COCO_17.joints, strict=True)}
    return tuple(names.get(j, f"joint {j}") for j in range(count))


def h36m_matrix(layout: str) -> np.ndarray:
    """(17, J) float64: Human3.6M's joints as mixtures of those of `layout`; rows sum to one.

    From COCO and OpenPose as published (Kudo et al.'s demo): hip and thorax between the hips and shoulders, spine
    between those, neck/nose the nose, and the top of the head as far above the nose as that is above the thorax.
    From MPII as in the published mpii_poses.npy: Human3.6M's thorax, the base of the neck, is MPII's "upper neck" (its
    "thorax" lies between the shoulders), and neck/nose is halfway from there to the top of the head. The spine is
    halfway from hip to thorax (in the published file, by a slip, it is MPII's thorax).
    """
    if layout == "openpose18" or layout in _COCO_PLACES:
        return h36m_matrix("coco17") @ coco_matrix(layout)
    matrix = conversion_matrix(layout, H36M_17)
    if layout == "coco17":
        nose, thorax = (matrix[H36M_17.index(joint)] for joint in ("neck", "thorax"))
        matrix[H36M_17.index("head")] = 2 * nose - thorax
    if layout == "mpii16":
        hip, base_of_neck, top = (np.eye(16)[MPII_16.index(joint)] for joint in ("hip", "upper neck", "head"))
        made = {"thorax": base_of_neck, "neck": (base_of_neck + top) / 2, "spine": (hip + base_of_neck) / 2}
        for joint, row in made.items():
            matrix[H36M_17.index(joint)] = row
    return matrix


def coco_matrix(layout: str) -> np.ndarray | None:
    """(17, J) float64: COCO's joints among those of `layout`; None where it lacks eyes and ears."""
    if layout in _COCO_PLACES:
        count, places = _COCO_PLACES[layout]
        return np.eye(count)[list(places)]
    return conversion_matrix(layout, COCO_17) if layout in ("coco17", "openpose18") else None


def made_of(matrix: np.ndarray, layout: str, target: Skeleton = H36M_17) -> tuple[str, ...]:
    """How each row of a conversion matrix comes about: "", "nose" (another name), "midpoint of ...", "beyond ..."."""
    names, texts = joint_names(layout), []
    for row, joint in zip(matrix, target.joints, strict=True):
        parts = [names[j] for j in np.flatnonzero(row)]
        if parts == [joint]:
            texts.append("")
        elif len(parts) == 1:
            texts.append(parts[0])
        else:
            texts.append(("beyond " if (row < 0).any() else "midpoint of ") + ", ".join(parts))
    return tuple(texts)


def _guess_17(points: np.ndarray) -> str:
    """COCO's 17 begin with five joints of the face, Human3.6M's with the pelvis and a leg: tell them apart by size."""

    def diagonal(part: np.ndarray) -> np.ndarray:
        low, high = np.where(np.isnan(part), np.inf, part).min(1), np.where(np.isnan(part), -np.inf, part).max(1)
        return np.linalg.norm(high - low, axis=-1)

    with np.errstate(invalid="ignore", divide="ignore"):
        share = diagonal(points[:, :5, :2]) / diagonal(points[..., :2])
    known = share[np.isfinite(share)]
    return "coco17" if len(known) and np.median(known) < _FACE_SHARE else "h36m17"


def _guess_25(points: np.ndarray) -> str:
    """BODY_25 and BODY_25B, both OpenPose's, differ in the joints' order: in the right one bones are short."""

    def bone(layout: str) -> float:
        joints = points[:, _COCO_PLACES[layout][1], :2]
        lengths = [np.linalg.norm(joints[:, a] - joints[:, b], axis=-1) for a, b in COCO_17.bones]
        lengths = np.stack(lengths)[np.isfinite(lengths)]
        return float(lengths.mean()) if lengths.size else np.inf

    return "body25b" if bone("body25b") < bone("body25") else "body25"
