"""A clothed person as tapered capsules around Human3.6M's 17 joints, and the looks that people have.

Points are camera-frame metres (x right, y down, z forward). The parts are data: each end of a capsule is a weighted sum
of joints and of the body's own directions (front, left and up of pelvis, chest and head; the front of the feet), so
that a whole batch of poses becomes capsules in one matrix product. Sizes are those of a body whose leg is 0.9 m.
"""

import colorsys
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy import ndarray as Array

from common.skeleton import H36M_17
from common.synthetic.capsules import Capsules, Layer, View

LEG = 0.9  # metres, of the body that the sizes below are made for
DIRECTIONS = (
    "pelvis front", "pelvis left", "pelvis up", "chest front", "chest left", "chest up", "head front", "head left",
    "head up", "left toes", "right toes",
)  # fmt: skip
MATERIALS = (
    "shirt",
    "sleeve",
    "cuff",
    "collar",
    "emblem",
    "belt",
    "seat",
    "thigh",
    "shin",
    "shoe",
    "skin",
    "hair",
    "eye",
)

# material | first end | second end | radii, metres | texture: "torso" from thorax to hip, otherwise along the capsule.
# "*" stands for left and right. A number stands before its joint or, in metres, before its direction.
_PARTS = """
shirt  | .62 thorax .38 * shoulder -.10 chest up .0 chest front | .9 spine .1 * shoulder .0 chest front | .098 .092 | torso
shirt  | .9 spine .1 * shoulder | .5 hip .5 * hip .05 pelvis up | .092 .096 | torso
shirt  | .5 thorax .5 * shoulder -.12 chest up .01 chest front | 1 thorax -.14 chest up .012 chest front | .092 .1 | torso
shirt  | 1 thorax -.06 chest up -.005 chest front | .25 thorax .75 * shoulder -.03 chest up | .075 .06 | torso
shirt  | 1 thorax -.02 chest up -.015 chest front | .4 thorax .6 * shoulder .0 chest up | .06 .045 | torso
shirt  | 1 thorax -.12 chest up .015 chest front | 1 spine .015 chest front | .1 .1 | torso
shirt  | 1 spine .015 chest front | .8 hip .2 spine .01 pelvis front | .1 .1 | torso
emblem | 1 thorax -.12 chest up .092 chest front | 1 spine .05 chest up .088 chest front | .026 .024 |
belt   | .5 hip .5 * hip .02 pelvis up | 1 hip .02 pelvis up | .1 .103 |
seat   | .5 hip .5 * hip .0 pelvis up | 1 hip .0 pelvis up | .1 .1 |
seat   | .15 hip .85 * hip -.035 pelvis front -.02 pelvis up | .8 * hip .2 * knee -.015 pelvis front | .09 .08 |
thigh  | .35 hip .65 * hip -.02 pelvis up -.01 pelvis front | 1 * knee | .096 .058 |
shin   | 1 * knee | .7 * knee .3 * foot -.016 * toes | .057 .057 |
shin   | .7 * knee .3 * foot -.016 * toes | 1 * foot | .057 .038 |
shoe   | 1.09 * foot -.09 * knee -.03 * toes | 1.10 * foot -.10 * knee .13 * toes | .045 .037 |
sleeve | 1 * shoulder -.02 chest up | 1 * elbow | .056 .044 |
cuff   | 1 * elbow | 1 * wrist | .043 .031 |
skin   | 1 * wrist | 1.32 * wrist -.32 * elbow | .032 .038 |
skin   | 1.32 * wrist -.32 * elbow | 1.6 * wrist -.6 * elbow | .037 .02 |
skin   | 1.1 * wrist -.1 * elbow | 1.35 * wrist -.35 * elbow .045 chest front | .021 .014 |
skin   | 1 thorax -.05 chest up | .5 thorax .5 head -.01 head front | .058 .052 |
collar | 1 thorax -.03 chest up -.005 chest front | 1 thorax .005 head up -.005 head front | .064 .058 |
skin   | 1 head -.055 head up .005 head front | 1 head -.125 head up .02 head front | .09 .062 |
skin   | 1 head -.08 head up .085 head front | 1 head -.115 head up .096 head front | .014 .019 |
skin   | 1 head -.08 head up .087 * head left | 1 head -.105 head up .085 * head left | .02 .016 |
eye    | 1 head -.075 head up .075 head front .037 * head left | 1 head -.077 head up .075 head front .03 * head left | .019 .017 |
hair   | 1 head -.04 head up -.012 head front | 1 head -.08 head up -.03 head front | .100 .088 |
hair   | 1 head -.08 head up -.04 head front | 1 head -.14 head up -.045 head front | .08 .05 |
"""  # noqa: E501


@dataclass(frozen=True)
class Parts:
    """The compiled table: P capsules."""

    ends: Array  # (2 P, 17 joints + directions) float32
    texture: Array  # (2 P, 17 joints + directions) float32
    radii: Array  # (P, 2) float32, metres
    material: Array  # (P,) int, index into MATERIALS


@cache
def parts() -> Parts:
    """Compile `_PARTS`."""
    ends, texture, radii, material = [], [], [], []
    for line in _PARTS.strip().splitlines():
        name, first, second, size, kind = (cell.strip() for cell in line.split("|"))
        for side in ("left", "right") if "*" in first + second else ("",):
            points = _row(first, side), _row(second, side)
            ends += points
            texture += (_row("1 thorax", ""), _row("1 hip", "")) if kind == "torso" else points
            radii.append([float(number) for number in size.split()])
            material.append(MATERIALS.index(name))
    return Parts(np.stack(ends), np.stack(texture), np.array(radii, np.float32), np.array(material))


def _row(text: str, side: str) -> Array:
    """Weights (17 + directions,) of ".45 hip .55 * knee": `side` stands for the star, "right" head left is negative."""
    names = (*H36M_17.joints, *DIRECTIONS)
    weights, words = np.zeros(len(names), np.float32), text.split()
    starts = [i for i, word in enumerate(words) if _is_number(word)]
    for start, end in zip(starts, [*starts[1:], len(words)], strict=True):
        name, weight = " ".join(words[start + 1 : end]), float(words[start])
        if name.startswith("*") and name[2:] in DIRECTIONS:  # "* head left": to the side meant
            name, weight = name[2:], -weight if side == "right" else weight
        weights[names.index(name.replace("*", side))] += weight
    return weights


def _is_number(word: str) -> bool:
    return word.lstrip("-").replace(".", "", 1).isdigit()


def body_size(joints: Array) -> Array:
    """Leg of poses (..., 17, 3) as a share of the leg that the parts are made for: (...)."""
    chain = joints[..., [[1, 2, 3], [4, 5, 6]], :]
    return np.linalg.norm(np.diff(chain, axis=-2), axis=-1).sum(-1).mean(-1) / LEG


def directions(joints: Array) -> Array:
    """Poses (..., 17, 3) -> unit vectors (..., 11, 3) in the order of `DIRECTIONS`."""
    j = {name: joints[..., i, :] for i, name in enumerate(H36M_17.joints)}
    result = []
    for left, right, low, high in (
        ("left hip", "right hip", "hip", "spine"),
        ("left shoulder", "right shoulder", "spine", "thorax"),
    ):
        up = _unit(j[high] - j[low])
        front = _unit(np.cross(j[left] - j[right], up))
        result += [front, np.cross(up, front), up]
    # The nose is in front of the line from neck to crown; where a skeleton has it on that line, the chest decides.
    chest, up = result[3], _unit(j["head"] - j["thorax"])
    ahead = _across(j["neck"] - j["thorax"], up) + 0.02 * _across(chest, up)
    front = _unit(ahead)
    result += [front, np.cross(up, front), up]
    for side in ("left", "right"):
        knee, foot = j[f"{side} knee"], j[f"{side} foot"]
        bow = knee - 0.5 * (j[f"{side} hip"] + foot)  # a bent knee points where the toes do
        result.append(_unit(_across(bow + 0.08 * result[0], _unit(foot - knee))))
    return np.stack(result, -2)


def _unit(vectors: Array) -> Array:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _across(vectors: Array, axis: Array) -> Array:
    """The part of vectors (..., 3) at right angles to unit vectors (..., 3)."""
    return vectors - (vectors * axis).sum(-1, keepdims=True) * axis


@dataclass(frozen=True)
class Look:
    """How a person looks, by material (M of them, in the order of `MATERIALS`); float32."""

    colours: Array  # (M, 2, 3), 0..1, see `capsules.Capsules`
    split: Array  # (M,)
    stripes: Array  # (M,)
    girth: Array  # (M,), times the radii


_WHOLE = 9.0  # a split that no texture coordinate reaches
_SKIN = ((0.96, 0.80, 0.69), (0.88, 0.67, 0.52), (0.74, 0.53, 0.38), (0.55, 0.37, 0.26), (0.36, 0.24, 0.17))
_HAIR = ((0.09, 0.07, 0.06), (0.27, 0.17, 0.10), (0.45, 0.29, 0.15), (0.80, 0.65, 0.38), (0.55, 0.53, 0.52))


def make_look(*seed: int) -> Look:
    """A look made up from `seed` (numbers, 0 or more): skin, hair, clothes and build; same seed, same look."""
    rng = np.random.default_rng(seed)
    skin = np.array(_SKIN[rng.integers(len(_SKIN))]) * rng.uniform(0.94, 1.04)
    hair = np.array(_HAIR[rng.integers(len(_HAIR))]) * rng.uniform(0.8, 1.15)
    shirt = _cloth(rng)
    trousers, accent, shoe = _cloth(rng, shirt), _cloth(rng, shirt), _cloth(rng)
    sleeve, leg = (
        rng.choice((0.12, 0.6, _WHOLE), p=(0.15, 0.45, 0.4)),
        rng.choice((0.55, 0.92, _WHOLE), p=(0.2, 0.2, 0.6)),
    )
    pattern = rng.choice(("plain", "stripes", "two"), p=(0.5, 0.3, 0.2))
    paint = {material: (skin, skin, _WHOLE, 0.0) for material in MATERIALS}
    paint["shirt"] = {
        "plain": (shirt, shirt, _WHOLE, 0.0),
        "stripes": (shirt, accent, _WHOLE, rng.uniform(3, 8)),
        "two": (shirt, accent, rng.uniform(0.25, 0.6), 0.0),
    }[pattern]
    paint["collar"] = (0.8 * shirt, shirt, _WHOLE, 0.0)
    paint["emblem"] = (accent if pattern == "plain" else 0.5 * shirt, shirt, _WHOLE, 0.0)
    paint["sleeve"] = (shirt, skin, sleeve, 0.0)
    paint["cuff"] = (shirt, skin, 0.92, 0.0) if sleeve == _WHOLE else paint["skin"]
    paint["belt"] = (0.5 * trousers, trousers, _WHOLE, 0.0)
    paint["seat"] = (trousers, trousers, _WHOLE, 0.0)
    paint["thigh"] = (trousers, skin, leg, 0.0)
    paint["shin"] = (trousers, trousers, _WHOLE, 0.0) if leg == _WHOLE else paint["skin"]
    paint["shoe"], paint["hair"] = (shoe, shoe, _WHOLE, 0.0), (hair, hair, _WHOLE, 0.0)
    paint["eye"] = ((0.07, 0.06, 0.06), (0.07, 0.06, 0.06), _WHOLE, 0.0)
    first, second, split, stripes = zip(*(paint[material] for material in MATERIALS), strict=True)
    colours = np.stack((np.array(first), np.array(second)), 1).clip(0, 1)
    torso, limbs = rng.uniform(0.93, 1.12), rng.uniform(0.94, 1.12)
    girth = [
        {
            "shirt": torso,
            "belt": torso,
            "seat": torso,
            "thigh": limbs,
            "shin": limbs,
            "sleeve": limbs,
            "cuff": limbs,
        }.get(m, 1.0)
        for m in MATERIALS
    ]
    return Look(*(np.array(values, np.float32) for values in (colours, split, stripes, girth)))


def _cloth(rng: np.random.Generator, other: Array | None = None) -> Array:
    """A colour (3,) of cloth, well apart from `other`."""
    while True:
        hue, saturation, value = rng.random(), rng.choice((0.08, 0.45, 0.75)), rng.uniform(0.12, 0.95)
        colour = np.array(colorsys.hsv_to_rgb(hue, saturation, value))
        if other is None or np.abs(colour - other).sum() > 0.6:
            return colour


def dress(joints: Array, look: Look, view: View) -> Capsules:
    """Capsules, in pixels, of one person: joints (17, 3) in the camera frame, metres, in front of the camera."""
    table, size = parts(), body_size(joints)
    basis = np.concatenate((joints, size * directions(joints))).astype(np.float32)
    points = (np.concatenate((table.ends, table.texture)) @ basis).reshape(2, -1, 2, 3)
    (ends, texture), scale = view.project(points), view.scale(points[0, ..., 2])
    radii = table.radii * (size * look.girth[table.material, None] * scale)
    paint = (values[table.material] for values in (look.colours, look.split, look.stripes))
    return Capsules(*(np.asarray(values, np.float32) for values in (ends, radii, texture, *paint)))


# How far the surface may be in front of a joint that is seen, metres, by joint.
_DEPTH_INSIDE = np.array((15, 15, 9, 8, 15, 9, 8, 14, 12, 8, 14, 11, 8, 7, 11, 8, 7)) / 100


def visible_joints(layer: Layer, joints: Array, depth: Array, view: View, poses: Array) -> Array:
    """Which of the 17 joints are seen: (17,) bool; False where the body or a thing hides them, or outside.

    Args:
        layer: the drawn picture.
        joints, depth: (17, 2), (17,) in pixels of the picture.
        poses: (17, 3) of the camera frame, metres.
    """
    margin = 1.15 * _DEPTH_INSIDE * body_size(poses) * view.scale(poses[:, 2])
    return layer.depth_at(joints) > depth - margin  # outside is NaN, which is not above anything
