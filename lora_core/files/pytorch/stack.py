"""What the reader of a PyTorch file's structure works on: its stack, its memo, and the memory that is left to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .archive import ZipMember
from .values import Named, Opaque, StructureError

ROOM, ROOM_PER_BYTE = 16 * 2**20, 8  # bytes of memory for what is made; files of torch's take about 5 a byte
TEXT, NUMBER, LIST, TUPLE, DICT, ENTRY, VALUE = 64, 32, 120, 64, 96, 200, 120  # bytes that each takes, about
MAX_OPEN = 1_000  # dicts, lists and tuples that are begun within one another
MAX_KEY = 4_096  # characters of a key
TOO_MUCH = "it would fill memory with much more than it holds"
_NO_KEY = "a key that is no text"
_NOTHING = object()  # in a place of the memo that was not written


class PickleStack:
    """The state: what is made takes from `room`, and each operation ends if there is none left."""

    def __init__(self, raw: bytes, storages: Mapping[str, ZipMember]) -> None:
        self.raw, self.storages = raw, storages
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # stacks under each mark
        self.memo: list[Any] = []
        self.room = ROOM + ROOM_PER_BYTE * len(raw)

    def bytes_of(self, start: int, end: int) -> bytes:
        if end > len(self.raw):
            raise StructureError(f"it has {len(self.raw)} bytes, and a value in it needs {end}")
        return self.raw[start:end]

    def push_text(self, raw: bytes) -> None:
        try:
            text = raw.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise StructureError("a text is not UTF-8") from error
        self.room -= TEXT + (len(raw) if text.isascii() else 4 * len(text))
        self.stack.append(text)

    def to_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.below.pop()
        return items

    def add(self, items: list[Any]) -> None:
        to = self.stack[-1]
        if type(to) is list:
            to.extend(items)
        elif type(to) is not Opaque:
            raise StructureError("it appends to what is no list")

    def set_pairs(self, items: list[Any]) -> None:
        to = self.stack[-1]
        if type(to) is Opaque:
            return
        if type(to) is not dict or len(items) % 2:
            raise StructureError("it sets keys of what is no dict")
        self.room -= ENTRY * (len(items) // 2)
        if self.room < 0:
            raise StructureError(TOO_MUCH)
        for at in range(0, len(items), 2):
            to[_key(items[at])] = items[at + 1]

    def keep(self, number: int) -> None:
        value, missing = self.stack[-1], number - len(self.memo)
        if missing == 0:  # torch counts on, one by one
            self.memo.append(value)
            return
        if missing > 0:
            self.room -= 8 * missing
            if self.room < 0:
                raise StructureError(TOO_MUCH)
            self.memo.extend([_NOTHING] * (missing + 1))
        self.memo[number] = value

    def recall(self, number: int) -> None:
        value = self.memo[number]
        if value is _NOTHING:
            raise IndexError
        self.stack.append(value)


def _key(key: Any) -> Any:
    """Return what stands for a key: itself, if it is a text or a number as counts have it, or else a name for it.

    Nothing else is hashed: of tuples within one another that would take a step for each way through them.
    """
    if type(key) is str:
        if len(key) > MAX_KEY:
            raise StructureError(f"a key of {len(key)} characters")
        return key
    if type(key) is int and abs(key) < 2**60:  # larger ones could be made to have one hash
        return key
    return key if type(key) in (Named, Opaque) else Opaque(_NO_KEY)
