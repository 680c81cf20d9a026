"""Memory of the process."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_LARGEST = (1 << 30, 1 << 25)  # of the blocks kept; older versions of glibc take no more than the second


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for the next allocation instead of giving it back to the system; -> whether it does.

    Every training step frees its activations and gradients and asks for them again; on the CPU, having the system
    clear those pages anew takes a tenth of a step of the MLP lifter. `malloc_trim` still gives the memory back.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return any(mallopt(_MMAP_THRESHOLD, size) for size in _LARGEST) and bool(mallopt(_TRIM_THRESHOLD, _LARGEST[0]))
