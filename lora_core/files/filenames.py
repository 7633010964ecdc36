"""What a file may be called: on this system, and on every system that a name may travel to."""

from __future__ import annotations

import os
import re
import sys
import unicodedata

from ..visible import visible

LONGEST = 255  # bytes of a name on most file systems
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?")  # devices of Windows
_FORBIDDEN = re.compile(r'[/\\<>:"|?*]')


def is_plain(name: str) -> bool:
    """Tell whether a file may have this name on every system, and whoever reads it sees what it is."""
    wrong = name in ("", ".", "..") or name != name.strip() or name.endswith(".") or visible(name) != name
    return not (wrong or _FORBIDDEN.search(name) or _RESERVED.fullmatch(name))


def is_possible(name: str) -> bool:
    """Tell whether this system can have a file of this name; on Windows some names are devices, streams or drives."""
    try:
        encoded = os.fsencode(name)
    except UnicodeEncodeError:  # half a character
        return False
    possible = 0 < len(encoded) <= LONGEST and b"\0" not in encoded
    return possible and (sys.platform != "win32" or is_plain(name))


def compared(name: str) -> str:
    """Return the form in which two names are one file on some system: upper and lower case, é as one sign or two."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
