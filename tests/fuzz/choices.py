"""Choices made by bytes: how a fuzzer's input becomes a structured value. Bytes that are missing count as 0."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """Takes bytes from the front; the same bytes make the same choices."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        self._at = min(len(self._data), self._at + count)
        return taken

    def number(self, limit: int) -> int:
        """Return a number from 0 to `limit` - 1."""
        return int.from_bytes(self.take(1 if limit <= 256 else 2 if limit <= 65536 else 4), "little") % limit

    def one_of(self, items: Sequence[T]) -> T:
        return items[self.number(len(items))]

    def yes(self, share: int = 2) -> bool:
        """Return true once in `share` times, false when the bytes are at their end."""
        return self.number(share) == share - 1

    def real(self) -> float:
        """Return any float there is, NaN and infinity too."""
        return struct.unpack("<d", self.take(8).ljust(8, b"\0"))[0]

    def text(self, most: int = 255) -> str:
        """Return a text of any characters, lone surrogates too."""
        return self.take(self.number(most + 1)).decode("utf-8", "surrogateescape" if self.yes(3) else "replace")

    def rest(self) -> bytes:
        return self.take(self.left)
