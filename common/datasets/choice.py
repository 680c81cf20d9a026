"""Which actions and which frames of a data set an option asks for."""

import hashlib
from collections.abc import Iterable

from common.errors import InputError
from common.h36m import action_label, canonical_action


def select_actions(available: Iterable[str], wanted: str | Iterable[str] = "*", exact: bool = False) -> set[str]:
    """The actions that a request means; upper and lower case alike.

    "*" is all; any other name means every action that begins with it, as published (ITES, VideoPose3D): "Walking 1" is
    that take, "Walking" all its takes, "Walk" also WalkDog and WalkTogether, and "Sitting", a quirk, SittingDown too.
    With `exact` (PoseAug) a name means the action of just that name, all its takes, or one take.

    Raises:
        InputError: a name that fits nothing; the actions that there are.
    """
    available, chosen = list(available), set()
    for name in names_of(wanted):
        key = canonical_action(name).lower()
        found = [action for action in available if name == "*" or _fits(action.lower(), key, exact)]
        if not found:
            there = ", ".join(dict.fromkeys(action_label(action) for action in available))
            raise InputError(f"unknown action {name!r}; there are: {there}")
        chosen.update(found)
    return chosen


def _fits(action: str, key: str, exact: bool) -> bool:
    """Whether a request fits an action, both in small letters."""
    return key in (action, action_label(action)) if exact else action.startswith(key)


def deterministic_random(low: int, high: int, text: str) -> int:
    """A whole number in [low, high) that depends on `text` alone (VideoPose3D's choice of a subset)."""
    digest = hashlib.sha256(text.encode()).digest()
    return low + int(int.from_bytes(digest[:4], "little") / (2**32 - 1) * (high - low))


def frame_window(length: int, subset: float = 1.0, downsample: int = 1) -> range:
    """Which frames of a sequence are used: a contiguous share `subset`, placed by the length, every `downsample`-th."""
    if not 0 < subset <= 1:
        raise InputError(f"--subset is {subset}; expected a share in (0, 1]")
    if downsample < 1:
        raise InputError(f"--downsample is {downsample}; expected 1 or more")
    if subset == 1:
        return range(0, length, downsample)
    count = round(length // downsample * subset) * downsample
    start = deterministic_random(0, length - count + 1, str(length))
    return range(start, start + count, downsample)


def names_of(text: str | Iterable[str]) -> list[str]:
    """Names from a list or from text with commas, each once."""
    parts = text.split(",") if isinstance(text, str) else text
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))
