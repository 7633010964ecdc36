"""Metadata of many megabytes, such as the captions of a data set, read from a header text by text.

As a part of the header they would be many times as large in memory: Python holds a text in as many bytes a letter as
its widest letter needs, and JSON with millions of commas in texts can't be told from JSON with millions of parts.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from ..errors import FileFormatError

LONG = 2**20  # bytes of a header that is read in this way
MAX_KEYS = 100_000

_NAME = '"__metadata__"'
_BEFORE = frozenset("{, \t\r\n")  # a quote behind one of these begins a text: within one it would be escaped
_AFTER = re.compile(_NAME + r"[ \t\r\n]*:[ \t\r\n]*(?=\{)")
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


def without_long_metadata(path: Path, raw: bytes | bytearray) -> tuple[bytes | bytearray, dict[str, str] | None]:
    """Return a header with nothing in its metadata, and the metadata; a short header as it is, and None."""
    if len(raw) < LONG:
        return raw, None
    text = raw.decode("latin-1")  # a letter for each byte, whatever they spell
    start = _metadata_in(text)
    if start is None:
        return raw, None
    metadata, end = _Pairs(path, text).read(start)
    return (text[:start] + "{}" + text[end:]).encode("latin-1"), metadata


def _metadata_in(text: str) -> int | None:
    """Return where the metadata begins. Searched as a text: an expression takes fifty times as long, and holds
    Python's lock all the while."""
    at = text.find(_NAME)
    while at >= 0:
        if at and text[at - 1] in _BEFORE and (found := _AFTER.match(text, at)):
            return found.end()
        at = text.find(_NAME, at + 1)
    return None


class _Pairs:
    """Reads an object of texts that begins at some place of a text."""

    def __init__(self, path: Path, text: str) -> None:
        self._path, self._text = path, text

    def read(self, at: int) -> tuple[dict[str, str], int]:
        """Return the object and where it ends."""
        found: dict[str, str] = {}
        at = self._after_space(at + 1)
        while self._text[at : at + 1] != "}":
            key, at = self._string(at)
            at = self._after_space(self._after(":", at))
            value, at = self._string(at)
            if key in found:
                raise self._broken("a key appears twice")
            found[key] = value
            if len(found) > MAX_KEYS:
                raise self._broken(f"__metadata__ has more than {MAX_KEYS} keys")
            at = self._after_space(at)
            if self._text[at : at + 1] == ",":
                at = self._after_space(at + 1)
                if self._text[at : at + 1] == "}":
                    raise self._broken("a comma too many in __metadata__")
            elif self._text[at : at + 1] != "}":
                raise self._broken("__metadata__ is not complete")
        return found, at + 1

    def _string(self, at: int) -> tuple[str, int]:
        if self._text[at : at + 1] != '"':
            raise self._broken("__metadata__ must map text to text")
        try:
            value, end = _DECODER.raw_decode(self._text, at)
            if not value.isascii():  # the bytes of wider letters, or letters that escapes spell
                value = json.loads(self._text[at:end].encode("latin-1").decode("utf-8"))
                value.encode()  # an escape may spell half a character
        except UnicodeEncodeError as error:
            raise self._broken("a text in __metadata__ is not text") from error
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise self._broken(str(error)) from error
        return value, end

    def _after(self, sign: str, at: int) -> int:
        at = self._after_space(at)
        if self._text[at : at + 1] != sign:
            raise self._broken(f"expected {sign!r} in __metadata__")
        return at + 1

    def _after_space(self, at: int) -> int:
        found = _SPACE.match(self._text, at)
        return found.end() if found else at

    def _broken(self, what: str) -> FileFormatError:
        return FileFormatError(f"{self._path.name}: broken header: {what}.")
