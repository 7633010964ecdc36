"""Text of strangers in errors, logs and reports: what can't be seen is written out, so that nothing is forged.

A file, a key or a name may hold a line end, which would begin a false line of a log; an escape sequence, which a
terminal obeys; a sign that turns the text after it around; or half a character, which no output can encode.
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Callable, Sized
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
LONGEST_JSON = 16 * 2**20  # characters
MOST_PARTS = 2_000_000  # commas and brackets of one JSON text: each may cost 100 bytes of memory
MOST_LEVELS = 100  # of lists and objects within one another
MOST_DIGITS = 1_000  # of a whole number: to read it takes the square of them
CUT = " … (cut)"
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
_TAG = re.compile(r"<[^<>]*>")
_BREAK = re.compile(r"(?i)<(?:br|/p|/li|/h[1-6]|/div)[^<>]*>")

NAMES_SHOWN = 5
LONGEST_MESSAGE = 4_000  # characters, which is a screen
LONGEST_SHOWN = 200  # characters of one value or name in a message
_LOOKED_AT = 5 * LONGEST_MESSAGE
_LEFT_OUT = "… (shortened) …"
# A value that a message quotes, as Python writes it: a text in quotes that stand at no letter, or a list. One that does
# not end is taken to the end of the message, so that no sign is looked at twice. And a word longer than any path
_QUOTED = re.compile(
    r"(?<!\w)'[^'\\]*(?:\\.[^'\\]*)*\\?(?:'|\Z)" r'|(?<!\w)"[^"\\]*(?:\\.[^"\\]*)*\\?(?:"|\Z)' r"|\[[^\[\]]*|\S{500,}",
    re.DOTALL,
)
_VALUE_SHOWN = 60  # characters of a value that somebody gave


def visible(text: str) -> str:
    """Return one line with its unseen characters written as escapes, such as `\\n`, `\\x1b` and `\\u202e`."""
    return _UNSEEN.sub(_escaped, text)


def shortened(text: str, limit: int = LONGEST_SHOWN) -> str:
    """Return a text without its middle, if it is longer than `limit`: what a name ends with tells as much."""
    if len(text) <= limit:
        return text
    room = limit - len(_LEFT_OUT)
    return text[: room - room // 3] + _LEFT_OUT + text[len(text) - room // 3 :]


def fitted(text: str) -> str:
    """Return a message whose values strangers may have written, each of them short, and all of it a screen."""
    if len(text) > LONGEST_SHOWN:
        text = _QUOTED.sub(lambda match: shortened(match[0]), shortened(text, _LOOKED_AT))
    return shortened(text, LONGEST_MESSAGE)


def message_line(text: str) -> str:
    """Return such a message on one visible line."""
    return shortened(visible(fitted(text)), LONGEST_MESSAGE)


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
    return shown if len(shown) <= _VALUE_SHOWN else f"{shown[:_VALUE_SHOWN]}… ({len(shown)} characters)"


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


def parse_json(text: str | bytes, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Return what a text is in JSON, its length, parts, levels and numbers bounded; raises ValueError saying why not.

    `pairs` is json's `object_pairs_hook`.
    """
    if len(text) > LONGEST_JSON:
        raise ValueError(f"it has {len(text)} characters; the limit is {LONGEST_JSON}")
    signs = (text.count(sign) for sign in ",[{") if isinstance(text, str) else map(text.count, (b",", b"[", b"{"))
    if sum(signs) > MOST_PARTS:
        raise ValueError(f"it has more than {MOST_PARTS} parts")
    try:
        value = json.loads(text, parse_int=whole_number, object_pairs_hook=pairs)
    except RecursionError:
        raise ValueError(f"it has more than {MOST_LEVELS} levels") from None
    _check_levels(value)
    return value


def whole_number(text: str) -> int:
    """Return a number of JSON; raises ValueError for more digits than any count has."""
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _check_levels(value: Any) -> None:
    level = [value]
    for _ in range(MOST_LEVELS):
        inner = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, (dict, list)))
        level = [one for several in inner for one in several if isinstance(one, (dict, list))]
        if not level:
            return
    raise ValueError(f"it has more than {MOST_LEVELS} levels")


def json_object(text: str) -> dict[str, Any]:
    """Return the object that the text is in JSON, an empty one if it is none or larger than is reasonable."""
    try:
        value = parse_json(text) if text else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def json_list(text: str) -> list[Any] | None:
    """Return the list that the text is in JSON, None if it is none."""
    try:
        value = parse_json(text)
    except ValueError:
        return None
    return value if isinstance(value, list) else None


def counted(items: Sized, noun: str) -> str:
    """Return "1 module" or "7 modules"."""
    return f"{len(items)} {noun}" + ("" if len(items) == 1 else "s")


def some_names(names: list[str]) -> str:
    """Return the first names as one text, with the count of the rest."""
    rest = len(names) - NAMES_SHOWN
    return ", ".join(map(shortened, names[:NAMES_SHOWN])) + (f" and {rest} more" if rest > 0 else "")


def size_text(count: int) -> str:
    """Return bytes as people read them, e.g. 6.9 GB."""
    for unit, limit in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= limit:
            return f"{count / limit:.1f} {unit}"
    return f"{count} B"
