"""Maps from the joints of a motion capture skeleton to Human3.6M's 17: presets by joint name, and the user's own.

Human3.6M's joints are those of a skeleton that MotionBuilder fitted: its spine is Spine1, its thorax the joint Neck
(base of the neck), its neck/nose the joint Head (base of the skull), its head the end of that bone. Its hip is the
middle of both hip joints. Presets follow that, as far as a skeleton has such joints.

Names are compared in small letters, without what stands before a colon ("mixamorig:"), without "Bip01" and any other
beginning that all joints share ("Robot_"), and without blanks, dots, underscores and hyphens. The end site of a BVH
joint X is "X end". In a map, `A + B` is the middle of two joints and `A | B` the first that there is.
"""

import logging
import os
import re
from collections.abc import Mapping

import numpy as np

from common.errors import InputError
from common.files.reading import load_yaml
from common.skeleton import H36M_17, Skeleton, conversion_matrix

log = logging.getLogger(__name__)

_ACROSS = 0.5  # cosine of the angles of a head to neck and torso; what is below in nine of ten frames is no head
_LIMBS = ("hip", "knee", "foot", "shoulder", "elbow", "wrist")
JointMap = Mapping[str, str]


def _preset(sides: str, limbs: str, needs: str = "", **centre: str) -> tuple[JointMap, tuple[str, ...]]:
    """A map, and the names without which the preset is not found by itself. `*` in a limb's name is the side."""
    joints = dict(centre)
    for side, word in zip(("left", "right"), sides.split(), strict=True):
        for limb, name in zip(_LIMBS, limbs.split(), strict=True):
            joints[f"{side} {limb}"] = name.replace("*", word)
    return joints, tuple(needs.split())


_MOTION_BUILDER = "*UpLeg *Leg *Foot *Arm *ForeArm *Hand"
# In the order in which they are tried.
PRESETS: dict[str, tuple[JointMap, tuple[str, ...]]] = {
    # CMU as BVH by cgspeed (B. Hahne), MotionBuilder-friendly. The bone that CMU calls wrist is the last third of the
    # forearm (it turns the hand; the bone after it bends it), so its end is the wrist: FingerBase.
    "cmu": _preset(
        "Left Right", "*UpLeg *Leg *Foot *Arm *ForeArm *FingerBase|*Hand", "LowerBack Neck1",
        spine="Spine", thorax="Neck", neck="Head", head="Head end",
    ),
    "mixamo": _preset(
        "Left Right", _MOTION_BUILDER, "HeadTop_End", spine="Spine1", thorax="Neck", neck="Head", head="HeadTop_End"
    ),
    # LAFAN1 (its head has no end worth the name), and whoever else keeps to MotionBuilder's names
    "lafan1": _preset(
        "Left Right", _MOTION_BUILDER, spine="Spine1|Spine", thorax="Neck", neck="Head", head="Head end"
    ),
    # cgspeed's 3ds Max-friendly files, Character Studio's and Life Forms' BVH, Xsens
    "3dsmax": _preset(
        "Left Right", "*Hip *Knee *Ankle *Shoulder *Elbow *Wrist",
        spine="Chest2|Chest|Spine1|Spine", thorax="Neck", neck="Head", head="Head end",
    ),
    # 3ds Max's Biped, as Truebones uses it
    "biped": _preset(
        "L R", "*Thigh *Calf *Foot *UpperArm *Forearm *Hand",
        spine="Spine1|Spine", thorax="Neck", neck="Head", head="HeadNub|Head end",
    ),
    # cgspeed's Daz-friendly files, Poser
    "daz": _preset(
        "l r", "*Thigh *Shin *Foot *Shldr *ForeArm *Hand",
        spine="abdomen+chest|abdomen", thorax="neck", neck="head", head="head end",
    ),
    # SMPL, SMPL-H and SMPL-X, under the names of their papers' code
    "smpl": _preset(
        "L R", "*_Hip *_Knee *_Ankle *_Shoulder *_Elbow *_Wrist", spine="Spine1+Spine2", thorax="Neck", neck="Head"
    ),
    # Acclaim, CMU: a bone's name stands for its end
    "acclaim": _preset(
        "l r", "*hipjoint *femur *tibia *clavicle *humerus *wrist",
        spine="lowerback", thorax="thorax", neck="upperneck", head="head",
    ),
    # C3D with the joint centres of Vicon's Plug-in Gait
    "plugingait": _preset("L R", "*FEP *FEO *TIO *CLO *HUO *RAO", thorax="TRXO", neck="HEDO"),
}  # fmt: skip


def read_map(path: str | os.PathLike) -> JointMap:
    """A joint map of a YAML file: lines `left knee: LeftLeg`, or a list of joints to take the middle of.

    Raises:
        InputError: no readable YAML of such lines, or a name that is no joint of Human3.6M's.
    """
    content = load_yaml(path)
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} is no joint map: expected lines such as 'left knee: LeftLeg'")
    joints = {}
    for key, value in content.items():
        name = re.sub(r"[\s_-]+", " ", str(key)).strip().lower()
        if name not in H36M_17.joints:
            raise InputError(f"{path}: unknown joint {key!r}; Human3.6M has: {', '.join(H36M_17.joints)}")
        parts = value if isinstance(value, list) else [value]
        if not parts or not all(isinstance(part, str) and part.strip() for part in parts):
            raise InputError(f"{path}: {key}: expected the name of a joint or a list of names, found {value!r:.60}")
        joints[name] = "+".join(parts)
    return joints


def choose_map(joints: tuple[str, ...], preset: str = "auto") -> tuple[str, JointMap]:
    """Name and map of the preset asked for, or of the first that finds all its joints, else of the nearest."""
    if preset != "auto":
        if preset not in PRESETS:
            raise InputError(f"unknown preset {preset!r}; there are: auto, {', '.join(PRESETS)}")
        return preset, PRESETS[preset][0]
    places = _places(joints)
    fitting = [
        (name, wanted) for name, (wanted, needs) in PRESETS.items() if {_key(need) for need in needs} <= places.keys()
    ]
    name, wanted = min(fitting, key=lambda pair: len(_missing(_found(pair[1], places))))
    return name, wanted


def h36m_weights(joints: tuple[str, ...], wanted: JointMap, where) -> np.ndarray:
    """(17, J): Human3.6M's joints as mixtures of `joints`.

    The hip, unless the map names one, is between the hip joints; what else the map leaves open, or names in vain, is
    made of its neighbours (`common.skeleton`), the head by going on from the thorax over the neck as far again.

    Raises:
        InputError: a joint of the map that cannot do without is not there: which, and those that are.
    """
    places = _places(joints)
    found = _found(wanted, places)
    missing = _missing(found)
    if missing:
        named = ", ".join(f"{joint} ({wanted[joint]})" if joint in wanted else joint for joint in missing)
        raise InputError(
            f"{where} has no joint for {named}; it has: {', '.join(joints)}; "
            "choose another --preset or name the joints in a --map file"
        )
    rows = {joint: np.eye(len(joints))[where_from].mean(0) for joint, where_from in found.items()}
    if "head" not in rows:
        thorax = rows.get("thorax", (rows["left shoulder"] + rows["right shoulder"]) / 2)
        rows["head"] = 2 * rows["neck"] - thorax
    known = Skeleton("the joint map", tuple(rows), (-1,) * len(rows))
    return conversion_matrix(known, H36M_17) @ np.stack(list(rows.values()))


def h36m_poses(positions: np.ndarray, weights: np.ndarray, where="the motion") -> np.ndarray:
    """Positions (T, J, 3) and weights (17, J) -> poses (T, 17, 3).

    A head that lies on the neck, or across neck and torso all through the motion, goes on from the thorax over the
    neck: rigs whose bones point along an axis of their own write end sites that mean nothing.
    """
    used = np.flatnonzero(weights.any(0))
    poses = np.matmul(weights[:, used], positions[:, used])
    thorax, neck, head = (poses[:, H36M_17.index(joint)] for joint in ("thorax", "neck", "head"))
    up, onward, torso = neck - thorax, head - neck, thorax - poses[:, H36M_17.root]
    cosine = _cosine(up, onward)
    across = max(np.percentile(cosine, 90), np.percentile(_cosine(torso, onward), 90)) < _ACROSS
    if across:
        log.warning("%s: the end of the head lies across the neck, at %.0f degrees from it in the median: put above it",
                    where, np.degrees(np.arccos(np.median(cosine))))  # fmt: skip
    if across or np.linalg.norm(onward, axis=-1).mean() < 0.25 * np.linalg.norm(up, axis=-1).mean():
        poses[:, H36M_17.index("head")] = 2 * neck - thorax
    return poses


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of the angle between vectors (T, 3), (T,); 1 where one has no length."""
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.where(lengths > 1e-12, (a * b).sum(-1) / lengths.clip(1e-12), 1.0).clip(-1, 1)


def _key(name: str) -> str:
    key = re.sub(r"[\s_.\-]+", "", name.rsplit(":", 1)[-1]).lower()
    return re.sub(r"^bip\d+(?=.)", "", key)


def _places(joints: tuple[str, ...]) -> dict[str, int]:
    """Key -> place of the joint, with and without the beginning that all names share; the first of equal names."""
    keys = [_key(joint) for joint in joints]
    shared = len(os.path.commonprefix(keys))
    places: dict[str, int] = {}
    for cut in (0, shared):
        for place, key in enumerate(keys):
            places.setdefault(key[cut:], place)
    return places


def _found(wanted: JointMap, places: Mapping[str, int]) -> dict[str, list[int]]:
    """Joint -> places of the source joints to take the mean of, where they are all there."""
    found = {}
    for joint, text in wanted.items():
        for choice in text.split("|"):
            keys = [_key(name) for name in choice.split("+")]
            if joint not in found and all(key in places for key in keys):
                found[joint] = [places[key] for key in keys]
    return found


def _missing(found: Mapping[str, list[int]]) -> list[str]:
    """Joints of Human3.6M that nothing can stand in for."""
    needed = [f"{side} {limb}" for side in ("left", "right") for limb in _LIMBS]
    missing = [joint for joint in needed if joint not in found]
    return missing if {"head", "neck"} & found.keys() else [*missing, "head"]
