"""The one exception that means "the user can fix this"."""


class InputError(Exception):
    """Bad input, found at the border: one line saying what was found, where, what was expected and what to do.

    Scripts print the line on stderr and leave with exit status 2 (see `common.script.run_script`); no traceback.
    """
