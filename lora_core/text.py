"""Text of strangers in errors, logs and reports: what can't be seen is written out, so that nothing is forged.

A file, a key or a name may hold a line end, which would begin a false line of a log; an escape sequence, which a
terminal obeys; a sign that turns the text after it around; or half a character, which no output can encode.
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Sized
from contextlib import suppress
from pathlib import Path
from typing import Any

# C0, DEL and C1; zero width, except those that join; directions; line and paragraph ends; half characters; tags
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

LONGEST = 4_000  # characters of one value
LONGEST_JSON = 16 * 2**20  # characters; in memory it may be twenty times as large
CUT = " … (cut)"
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
_TAG = re.compile(r"<[^<>]*>")
_BREAK = re.compile(r"(?i)<(?:br|/p|/li|/h[1-6]|/div)[^<>]*>")

NAMES_SHOWN = 5
_SHOWN = 60  # characters of a value


def visible(text: str) -> str:
    """Return one line with its unseen characters written as escapes, such as `\\n`, `\\x1b` and `\\u202e`."""
    return _UNSEEN.sub(_escaped, text)


def visible_json(value: Any) -> str:
    """Return a value as indented JSON; what can't be seen in its texts is escaped as JSON has it."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return _UNSEEN.sub(lambda match: match[0] if match[0] == "\n" else json.dumps(match[0])[1:-1], text)


def short_repr(value: Any) -> str:
    """Return how a message shows a value that somebody gave, cut where it is long."""
    try:
        shown = repr(value)
    except ValueError:  # a whole number of thousands of digits
        return "a number of thousands of digits"
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}… ({len(shown)} characters)"


def _escaped(match: re.Match[str]) -> str:
    char = match[0]
    code = ord(char)
    long = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return _SHORT.get(char, long)


def storable(text: str) -> str:
    """Return text as a file can hold it in UTF-8.

    The half characters that stand for a file name's bytes become the characters that these are, or else escapes. In
    JSON such an escape is read back as the half character, so that a receipt gives the name again.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        with suppress(UnicodeEncodeError):  # others than of a file name
            text = text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
        text = text.encode("utf-8", "backslashreplace").decode()
    return text


def plain(value: Any, limit: int = LONGEST) -> str:
    """Return text as it may be shown, with a mark where it was cut; empty for anything that is no text or number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = f"{value:g}" if isinstance(value, float) else str(value) if abs(value) < 10**30 else ""
    if isinstance(value, Exception):
        value = str(value)
    if not isinstance(value, str):
        return ""
    text = _UNFIT.sub("", value[: limit + 1].replace("\r\n", "\n").replace("\r", "\n"))
    return (text[:limit] + CUT if len(value) > limit else text).strip()


def plain_line(value: Any, limit: int = 300) -> str:
    """Return the same on one line."""
    return " ".join(plain(value, limit).split())


def without_markup(value: Any) -> str:
    """Return what a text with HTML says; a page that shows it as text shows no tags."""
    text = plain(value)
    text = _TAG.sub("", _BREAK.sub("\n", text))
    return plain(re.sub(r"\n{3,}", "\n\n", html.unescape(text)))


def normal(name: str) -> str:
    """Return a file name in the form in which names compare: systems write é as one sign or as two."""
    return unicodedata.normalize("NFC", name)


def without_path(error: Exception, path: Path) -> str:
    """Return an error's text with the name of the file that it is about instead of its path."""
    text = str(error)
    for known in (str(path), repr(str(path))[1:-1]):
        text = text.replace(known, path.name)
    return text.replace(str(path.parent), "…")


def json_object(text: str) -> dict[str, Any]:
    """Return the object that the text is in JSON, an empty one if it is none or longer than is reasonable."""
    try:
        value = json.loads(text) if 0 < len(text) <= LONGEST_JSON else {}
    except (ValueError, RecursionError):  # ValueError: also a number of thousands of digits
        return {}
    return value if isinstance(value, dict) else {}


def json_list(text: str) -> list[Any] | None:
    """Return the list that the text is in JSON, None if it is none."""
    try:
        value = json.loads(text) if len(text) <= LONGEST_JSON else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) else None


def counted(items: Sized, noun: str) -> str:
    """Return "1 module" or "7 modules"."""
    return f"{len(items)} {noun}" + ("" if len(items) == 1 else "s")


def some_names(names: list[str]) -> str:
    """Return the first names as one text, with the count of the rest."""
    rest = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def size_text(count: int) -> str:
    """Return bytes as people read them, e.g. 6.9 GB."""
    for unit, limit in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= limit:
            return f"{count / limit:.1f} {unit}"
    return f"{count} B"
