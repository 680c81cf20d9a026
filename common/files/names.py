"""Names of files made of names found in data: of subjects, actions, images."""

import os
import re
import zlib

_LONGEST = 120  # bytes; systems take 255, and suffixes and temporary names are still to come
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*\ud800-\udfff]')
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # names that Windows keeps for itself


def file_name(name: object) -> str:
    """One part of a path, the same for the same name and another for another; it leads nowhere.

    Plain names stay as they are, blanks become `_`. Of others, what is no part of a file's name on some system is
    replaced (separators, control characters, a leading or trailing dot, what is too long), and a checksum follows.
    """
    text = str(name).replace(" ", "_")
    safe = _UNSAFE.sub("_", text).strip(".")
    safe = safe.encode()[:_LONGEST].decode(errors="ignore")
    try:
        os.fsencode(safe)
    except UnicodeEncodeError:  # the locale is ASCII's
        safe = safe.encode("ascii", "replace").decode().replace("?", "_")
    if safe == text and safe and not _DEVICES.fullmatch(safe):
        return safe
    return f"{safe or 'unnamed'}-{zlib.crc32(text.encode(errors='surrogatepass')):08x}".replace(".", "_")
