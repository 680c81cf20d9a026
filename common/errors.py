"""`InputError`: what the user can fix, and what `run_script` turns into one line."""


class InputError(Exception):
    """Bad input, found at the border: one line saying what was found, where, what was expected and what to do.

    Scripts print the line on stderr and leave with exit status 2 (see `common.run.script.run_script`); no traceback.
    Names out of files may be in it: it is one line, and characters that steer a terminal are shown as escapes.
    """

    def __init__(self, line: object = "") -> None:
        super().__init__(printable(" ".join(str(line).split())))


class NonFiniteLoss(InputError):
    """A loss or a weight became NaN or infinite; the line names the step, the term and the last good checkpoint."""


def printable(text: str) -> str:
    """Text fit for any terminal: control characters, marks that turn the writing's direction, and parts of names that
    are not UTF-8 become escapes (`\\x1b`). Line ends stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t " else ascii(c)[1:-1] for c in text)
