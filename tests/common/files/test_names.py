"""Names of files made of names in data: they lead nowhere, and stay apart."""

import os

import pytest

from common.files.names import file_name


@pytest.mark.parametrize("name", ["Walking_1", "S1", "Café", "a.b-c", "歩く"])
def test_plain_names_stay(name):
    assert file_name(name) == name


def test_blanks_are_joined_as_published():
    assert file_name("S9 Walking 1") == "S9_Walking_1"


HOSTILE = ("", ".", "..", "../../x", "/etc/passwd", "x/../../y", "a\\b", "C:x", "a\0b", "\udcff", "x" * 500, "é" * 300,
           "CON", "nul.txt", "-", ".hidden", "a\nb", "\x1b[31m", "ends.", "a?b", "a*b")  # fmt: skip


def test_names_lead_nowhere_and_stay_apart(tmp_path):
    made = [file_name(name) for name in HOSTILE]
    assert len(set(made)) == len(made)
    for name in made:
        path = tmp_path / f"prefix_{name}.gif"
        path.write_bytes(b"")
        assert path.resolve().parent == tmp_path.resolve() and len(os.fsencode(name)) < 150
        assert (tmp_path / name).resolve().parent == tmp_path.resolve()
