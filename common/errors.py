"""`InputError`: what the user can fix, and what `run_script` turns into one line."""


class InputError(Exception):
    """Bad input, found at the border: one line saying what was found, where, what was expected and what to do.

    Scripts print the line on stderr and leave with exit status 2 (see `common.run.script.run_script`); no traceback.
    """


class NonFiniteLoss(InputError):
    """A loss or a weight became NaN or infinite; the line names the step, the term and the last good checkpoint."""
