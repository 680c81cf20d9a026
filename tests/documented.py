"""The commands that the documentation shows, and their words as a shell would see them.

A command is a line of a ```bash block. It is also a line of a block without a language, or a text in backquotes, that
begins with a program (python, torchrun, ...) or a script's name and goes on; in backquotes it may run over a line's
end. Installing packages with pip is not among them.
"""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from tests.conftest import ROOT

BLOCK = re.compile(r"^```(.*?)\n(.*?)^```", re.MULTILINE | re.DOTALL)
QUOTED = re.compile(r"`([^`]+)`")
BEGINS = re.compile(r"(?:python3?|torchrun|srun|sbatch|bash|pytest) \S|[\w/]+\.py -\S|[\w/]+\.py [\w-]+ |[\w/]+\.sh \S")
PLACEHOLDER = re.compile(r"[A-Z]{2,}(?:_[A-Z]+)*|\.\.\.")


def pages() -> list[Path]:
    """The files whose commands are promised to work."""
    named = [ROOT / name for name in ("README.md", "data/README.md", "checkpoint/README.md")]
    return [*named, *sorted(ROOT.glob("docs/*.md"))]


def commands() -> dict[str, list[str]]:
    """Command -> the pages that show it, in their order."""
    found: dict[str, list[str]] = {}
    for page in pages():
        for text in commands_of(page.read_text(encoding="utf-8")):
            names = found.setdefault(text, [])
            names += [str(page.relative_to(ROOT))] * (not names or names[-1] != str(page.relative_to(ROOT)))
    return found


def commands_of(text: str) -> list[str]:
    """Commands of a page in Markdown, each on one line, as they come."""
    found = []
    for language, block in BLOCK.findall(text):
        lines = block.replace("\\\n", " ").splitlines()
        lines = [" ".join(line.split()) for line in lines if line.strip() and not line.lstrip().startswith("#")]
        found += [line for line in lines if language == "bash" or not language and BEGINS.match(line)]
    prose = (" ".join(quoted.split()) for quoted in QUOTED.findall(BLOCK.sub("", text)))
    return found + [quoted for quoted in prose if BEGINS.match(quoted)]


def words_of(command: str, values: Mapping[str, str]) -> list[str]:
    """The words of a command, with `values` for its placeholders (FILE, IMAGE_OR_FOLDER, ...); square brackets around
    what may be left out are taken off.

    Raises:
        ValueError: a placeholder has no value, or a value no placeholder.
    """
    bare, used = re.sub(r"[][]", "", command), set()

    def value(match: re.Match) -> str:
        name = match[0]
        if name not in values:
            raise ValueError(f"{command}: {name} has no value")
        used.add(name)
        return values[name]

    words = shlex.split(PLACEHOLDER.sub(value, bare))
    if set(values) - used:
        raise ValueError(f"{command}: nothing stands for {', '.join(sorted(set(values) - used))}")
    return words
