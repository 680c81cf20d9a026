"""Human3.6M's people, by the common protocol five to train on and two to test on, and the names of its actions."""

import re

TRAIN_SUBJECTS, TEST_SUBJECTS = ("S1", "S5", "S6", "S7", "S8"), ("S9", "S11")
SUBJECTS = TRAIN_SUBJECTS + TEST_SUBJECTS
TRAIN_LIST, TEST_LIST = ",".join(TRAIN_SUBJECTS), ",".join(TEST_SUBJECTS)  # as options name them: "S1,S5,..."
# Human3.6M itself calls these two actions differently from subject to subject; the field's files use the short names.
ACTION_VARIANTS = {"takingphoto": "Photo", "walkingdog": "WalkDog"}


def canonical_action(action: str) -> str:
    """An action's name with Human3.6M's naming variants levelled: "Taking Photo 1" -> "Photo 1"."""
    name, take = re.fullmatch(r"(.*?)( \d+)?", action.strip(), re.DOTALL).groups()
    return ACTION_VARIANTS.get(name.replace(" ", "").lower(), name) + (take or "")


def action_label(action: str) -> str:
    """The action without the number of its take: "Walking 1" -> "Walking"."""
    return re.sub(r" \d+$", "", canonical_action(action))
