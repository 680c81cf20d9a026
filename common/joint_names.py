"""Joint layouts of other people: their joints' names, in the spellings of the field, levelled to those of our layouts.

"LeftAnkle", "l_ankle", "lankle" and "ankle.L" are `left foot` here, as in Human3.6M, whose foot is the ankle. Its
"neck" is the middle of neck and nose, its "head" the top of the head, and its "thorax" the base of the neck.
"""

import re
from collections.abc import Sequence

from common.errors import InputError
from common.skeleton import Skeleton

# Our joint <- what others call it, in small letters with blanks: the first that there is.
_LIMBS = {
    "hip": ("hip", "up leg", "upper leg", "thigh", "hip joint"),
    "knee": ("knee", "leg", "lower leg", "calf", "shin"),
    "foot": ("ankle", "foot"),
    "shoulder": ("upper arm", "arm", "shoulder"),  # MotionBuilder's "shoulder" is the collar bone
    "elbow": ("elbow", "fore arm", "lower arm"),
    "wrist": ("wrist", "hand"),
}
_TRUNK = {
    "hip": ("pelvis", "root", "mid hip", "hips", "hip"),
    "spine": ("spine", "belly", "torso", "spine 1", "abdomen"),
    "thorax": ("thorax", "upper neck", "neck", "chest", "sternum"),
    "head": ("head top", "head top end", "top of head", "top head", "head end", "head"),
}
_JOINED = "hip|knee|ankle|foot|shoulder|elbow|wrist|hand|eye|ear|toe|thigh|shin|calf|collar|heel"


def named_layout(title: str, names: Sequence[str], parents: Sequence[int] | None = None) -> Skeleton:
    """A layout by its joints' names, those that mean a joint of ours under our name; without parents all are roots.

    A neck is Human3.6M's neck (between its base and the nose) where there is a thorax, else the base of the neck.

    Raises:
        InputError: a name twice, or parents that make no tree.
    """
    plain = [plain_name(name) for name in names]
    if not plain or len(set(plain)) < len(plain):
        twice = ", ".join(sorted({str(name) for name in names if plain.count(plain_name(name)) > 1}))
        raise InputError(f"{title}: joint names {f'mean the same: {twice}' if twice else 'are missing'}")
    found = {}
    for joint, others in _ours().items():
        place = next((plain.index(name) for name in others if name in plain), None)
        if place is not None and place not in found.values():
            found[joint] = place
    ours = {place: joint for joint, place in found.items()}
    joints = tuple(ours.get(place, f"{name} (own)" if name in found else name) for place, name in enumerate(plain))
    return Skeleton(title, joints, _checked_parents(title, parents, len(joints)))


def plain_name(name: str) -> str:
    """A joint's name in small letters, words apart, the side before it: "mixamorig:LeftUpLeg" -> "left up leg"."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z\d])|(?<=^[LR])(?=[A-Z][a-z])", " ", str(name).rsplit(":", 1)[-1])
    text = re.sub(r"[\s_.\-]+", " ", text).strip().lower()
    text = re.sub(rf"^([lr])(?=(?:{_JOINED})\b)", r"\1 ", text)
    text = re.sub(r"^(.*\S) (l|r|left|right)$", r"\2 \1", text)
    return re.sub(r"^([lr])(?= )", lambda side: {"l": "left", "r": "right"}[side[1]], text)


def _ours() -> dict[str, tuple[str, ...]]:
    sides = {f"{side} {limb}": tuple(f"{side} {name}" for name in others)
             for side in ("left", "right") for limb, others in _LIMBS.items()}  # fmt: skip
    return _TRUNK | {"neck": ("neck", "neck base")} | sides


def _checked_parents(title: str, parents: Sequence[int] | None, count: int) -> tuple[int, ...]:
    if parents is None:
        return (-1,) * count
    parents = tuple(parents)
    if len(parents) != count or parents.count(-1) != 1 or not all(-1 <= parent < count for parent in parents):
        raise InputError(f"{title}: expected the places of {count} parents, -1 for the one root; found {parents}")
    for joint in range(count):
        steps = 0
        while joint >= 0 and steps <= count:
            joint, steps = parents[joint], steps + 1
        if joint >= 0:
            raise InputError(f"{title}: the parents {parents} go round in a circle")
    return parents
