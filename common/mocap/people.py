"""Subjects and actions by the names of motion capture files, and the seats they take in Human3.6M's rig."""

import re
from collections.abc import Iterable
from pathlib import Path

from common.errors import InputError
from common.h36m import TEST_SUBJECTS, TRAIN_SUBJECTS

_FILE_RULES = (r"(subject ?\d+)", r"^(\d+)_\d+", r"(?:^|_)([sp]\d+)(?:_|$)")  # LAFAN1, CMU, "S5_walk" or "walk_p05"
_LEFT_OVERS = r"_(poses|stageii|c3d)(?![a-z])"  # of AMASS's names


def person_of(file: Path, source: Path, pattern: str | None = None) -> str:
    """Who moves: by the pattern, else the file's folder in `source`, else a rule of file names, else the source.

    Raises:
        InputError: the first group of `pattern` finds nothing in the file's path inside `source`.
    """
    inside = file.relative_to(source) if source.is_dir() else Path(file.name)
    if pattern:
        found = re.search(pattern, inside.as_posix())
        if not found or not found.groups() or not found[1]:
            raise InputError(f"{file}: --subject-pattern {pattern!r} finds no person in {inside.as_posix()!r}")
        return found[1]
    if inside.parent != Path("."):
        return inside.parent.as_posix()
    found = next(filter(None, (re.search(rule, file.stem, re.IGNORECASE) for rule in _FILE_RULES)), None)
    return found[1] if found else source.stem


def action_of(stem: str, person: str) -> str:
    """An action from a file's name: "walk_fast_02_subject5" -> "WalkFast 2", CMU's "02_01" -> "Motion 1"."""
    stem = re.sub(_LEFT_OVERS, "", stem, flags=re.IGNORECASE)
    name = re.escape(person.rsplit("/", 1)[-1])
    without = re.sub(rf"(?<![a-z0-9]){name}(?![0-9])", " ", stem, flags=re.IGNORECASE)
    words = re.findall(r"[^\W_]+", without) or re.findall(r"[^\W_]+", stem) or ["Motion"]
    last, take = re.fullmatch(r"(.*?)0*(\d*)", words.pop()).groups()
    label = "".join(word[:1].upper() + word[1:] for word in [*words, last])
    if not any(letter.isalpha() for letter in label):
        label = "Motion" + "x".join(filter(None, [*words, last]))
    return f"{label} {take}" if take else label


def free_name(action: str, taken: Iterable[str]) -> str:
    """The action, or its first take, counted on from its own number, that is not among `taken`."""
    if action not in taken:
        return action
    label, take = re.fullmatch(r"(.*?)(?: (\d+))?", action).groups()
    count = int(take or 0) + 1
    while f"{label} {count}" in taken:
        count += 1
    return f"{label} {count}"


def seats_of(people: list[str], test: list[str]) -> dict[str, tuple[str, ...]]:
    """Person -> seats for their files, in turn: those of `test` in S9 and S11, the others where the field trains.

    More people than seats share them; fewer people have several each, so that as many seats as can be are taken.

    Raises:
        InputError: `test` names somebody who is not among `people`.
    """
    unknown = [person for person in test if person not in people]
    if unknown:
        raise InputError(f"--test names {', '.join(unknown)}; the people are: {', '.join(people)}")
    train = [person for person in people if person not in test]
    return {
        person: seats[i % len(seats) :: len(group)]
        for seats, group in ((TRAIN_SUBJECTS, train), (TEST_SUBJECTS, test))
        for i, person in enumerate(group)
    }
