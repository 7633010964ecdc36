"""Text of strangers made fit to be shown: bounded, without control characters or those that turn text around."""

from __future__ import annotations

import html
import re
import unicodedata
from pathlib import Path
from typing import Any

LONGEST = 4_000  # characters of one value
CUT = " … (cut)"

_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
_TAG = re.compile(r"<[^<>]*>")
_BREAK = re.compile(r"(?i)<(?:br|/p|/li|/h[1-6]|/div)[^<>]*>")


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
