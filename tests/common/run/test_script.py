"""What scripts print of names that a terminal cannot show, or that would steer it."""

import io

from common.run.script import Shown


def test_what_steers_a_terminal_is_shown():
    stream = io.StringIO()
    print("S1\x1b[2J\u202e\udce9", file=Shown(stream))
    assert stream.getvalue() == "S1\\x1b[2J\\u202e\\udce9\n"


def test_a_progress_bar_may_steer():
    stream = io.StringIO()
    Shown(stream, steers=True).writelines(["\r1 %", "\r2 %"])
    assert stream.getvalue() == "\r1 %\r2 %"


def test_an_ascii_terminal_shows_escapes():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "ascii")
    assert Shown(stream).write("café") == 4
    stream.flush()
    assert raw.getvalue() == b"caf\\xe9"
