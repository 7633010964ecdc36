"""The structure of a PyTorch file, read by a small stack machine of our own: it makes texts, numbers, lists, dicts and
the values of `values`, and nothing else, whatever the structure says.

It knows the operations that torch.save writes. Each takes a bounded number of steps, and what all of them make is
bounded by the bytes of the structure. Nothing is hashed but texts and short whole numbers, so no key costs more than
its own bytes; nothing is walked, so values that hold one another many times cost nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from .archive import ZipMember
from .stack import DICT, LIST, MAX_OPEN, NUMBER, TOO_MUCH, TUPLE, VALUE, PickleStack
from .values import Named, Opaque, PickledTensor, StructureError, made, named, storage_of

_MAX_GLOBAL = 200  # bytes of the name of a class or function
_STOP = ord(".")
_LENGTH, _SIGNED, _SHORT, _FLOAT = struct.Struct("<I"), struct.Struct("<i"), struct.Struct("<H"), struct.Struct(">d")


def read_structure(raw: bytes, storages: Mapping[str, ZipMember]) -> Any:
    """Return what the structure holds; raises StructureError for what is broken or no part of a model."""
    return _Machine(raw, storages).run()


class _Machine(PickleStack):
    """The operations: each is given the place behind its code, and returns where the next one begins."""

    def run(self) -> Any:
        raw, operations, at = self.raw, _OPERATIONS, 0
        try:
            while (code := raw[at]) != _STOP:
                operation = operations[code]
                if operation is None:
                    raise StructureError(f"it has the operation {code:#x}, which torch.save does not write")
                at = operation(self, at + 1)
                if self.room < 0:
                    raise StructureError(TOO_MUCH)
            return self.stack.pop()
        except (IndexError, struct.error) as error:
            raise StructureError("it ends too early, or takes what it has not given") from error

    # Numbers, texts and names

    def none(self, at: int) -> int:
        self.stack.append(None)
        return at

    def yes(self, at: int) -> int:
        self.stack.append(True)
        return at

    def no(self, at: int) -> int:
        self.stack.append(False)
        return at

    def number(self, at: int) -> int:
        self.room -= NUMBER
        self.stack.append(_SIGNED.unpack_from(self.raw, at)[0])
        return at + 4

    def number_of_a_byte(self, at: int) -> int:
        self.stack.append(self.raw[at])  # which Python has once
        return at + 1

    def number_of_two_bytes(self, at: int) -> int:
        self.room -= NUMBER
        self.stack.append(_SHORT.unpack_from(self.raw, at)[0])
        return at + 2

    def long_number(self, at: int) -> int:
        end = at + 1 + self.raw[at]
        self.room -= NUMBER + self.raw[at]
        self.stack.append(int.from_bytes(self.bytes_of(at + 1, end), "little", signed=True))
        return end

    def fraction(self, at: int) -> int:
        self.room -= NUMBER
        self.stack.append(_FLOAT.unpack_from(self.raw, at)[0])
        return at + 8

    def text(self, at: int) -> int:
        end = at + 4 + _LENGTH.unpack_from(self.raw, at)[0]
        self.push_text(self.bytes_of(at + 4, end))
        return end

    def short_text(self, at: int) -> int:
        end = at + 1 + self.raw[at]
        self.push_text(self.bytes_of(at + 1, end))
        return end

    def name(self, at: int) -> int:
        middle = self.raw.find(b"\n", at, at + _MAX_GLOBAL) + 1
        end = self.raw.find(b"\n", middle, middle + _MAX_GLOBAL) + 1 if middle else 0
        parts = self.raw[at:end].split(b"\n")
        if not end or not all(part.isascii() for part in parts):
            raise StructureError("a name of a class or function is broken")
        self.room -= VALUE + 100
        self.stack.append(named(f"{parts[0].decode()}.{parts[1].decode()}"))
        return end

    # Containers

    def mark(self, at: int) -> int:
        if len(self.below) >= MAX_OPEN:
            raise StructureError(f"it has more than {MAX_OPEN} levels")
        self.below.append(self.stack)
        self.stack = []
        return at

    def empty_dict(self, at: int) -> int:
        self.room -= DICT
        self.stack.append({})
        return at

    def empty_list(self, at: int) -> int:
        self.room -= LIST
        self.stack.append([])
        return at

    def empty_set(self, at: int) -> int:
        self.room -= VALUE
        self.stack.append(Opaque("a set"))
        return at

    def empty_tuple(self, at: int) -> int:
        self.stack.append(())  # which Python has once
        return at

    def tuple_to_the_mark(self, at: int) -> int:
        items = self.to_mark()
        self.room -= TUPLE + 8 * len(items)
        self.stack.append(tuple(items))
        return at

    def tuple_of_one(self, at: int) -> int:
        self.room -= TUPLE
        self.stack[-1] = (self.stack[-1],)
        return at

    def tuple_of_two(self, at: int) -> int:
        self.room -= TUPLE
        self.stack[-2:] = [(self.stack[-2], self.stack[-1])]
        return at

    def tuple_of_three(self, at: int) -> int:
        self.room -= TUPLE
        self.stack[-3:] = [(self.stack[-3], self.stack[-2], self.stack[-1])]
        return at

    def append(self, at: int) -> int:
        self.add([self.stack.pop()])
        return at

    def append_to_the_mark(self, at: int) -> int:
        self.add(self.to_mark())
        return at

    def set_item(self, at: int) -> int:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_pairs([key, value])
        return at

    def set_to_the_mark(self, at: int) -> int:
        self.set_pairs(self.to_mark())
        return at

    # Memo, calls and storages

    def put(self, at: int) -> int:
        self.keep(self.raw[at])
        return at + 1

    def put_far(self, at: int) -> int:
        self.keep(_LENGTH.unpack_from(self.raw, at)[0])
        return at + 4

    def get(self, at: int) -> int:
        self.recall(self.raw[at])
        return at + 1

    def get_far(self, at: int) -> int:
        self.recall(_LENGTH.unpack_from(self.raw, at)[0])
        return at + 4

    def call(self, at: int) -> int:
        given = self.stack.pop()
        self.room -= VALUE
        self.stack[-1] = made(self.stack[-1], given)
        return at

    def new(self, at: int) -> int:
        """Make an instance of a class: a name without content."""
        self.stack.pop()
        kind = self.stack[-1]
        if type(kind) is not Named:
            raise StructureError("an instance of what is no class")
        self.room -= VALUE
        self.stack[-1] = Opaque(kind.name, is_tensor=kind.name.endswith(("Tensor", ".Parameter")))
        return at

    def build(self, at: int) -> int:
        """Leave out the attributes of an instance."""
        self.stack.pop()
        if type(self.stack[-1]) not in (dict, Opaque, PickledTensor):
            raise StructureError("attributes of what has none")
        return at

    def storage(self, at: int) -> int:
        self.room -= VALUE
        self.stack[-1] = storage_of(self.stack[-1], self.storages)
        return at

    def protocol(self, at: int) -> int:
        return at + 1


_BY_CODE: dict[str, Callable[[_Machine, int], int]] = {
    "\x80": _Machine.protocol, "N": _Machine.none, "\x88": _Machine.yes, "\x89": _Machine.no,
    "J": _Machine.number, "K": _Machine.number_of_a_byte, "M": _Machine.number_of_two_bytes,
    "\x8a": _Machine.long_number, "G": _Machine.fraction, "X": _Machine.text, "U": _Machine.short_text,
    "c": _Machine.name, "(": _Machine.mark, "}": _Machine.empty_dict, "]": _Machine.empty_list,
    "\x8f": _Machine.empty_set, ")": _Machine.empty_tuple, "t": _Machine.tuple_to_the_mark,
    "\x85": _Machine.tuple_of_one, "\x86": _Machine.tuple_of_two, "\x87": _Machine.tuple_of_three,
    "a": _Machine.append, "e": _Machine.append_to_the_mark, "s": _Machine.set_item, "u": _Machine.set_to_the_mark,
    "q": _Machine.put, "r": _Machine.put_far, "h": _Machine.get, "j": _Machine.get_far,
    "R": _Machine.call, "\x81": _Machine.new, "b": _Machine.build, "Q": _Machine.storage,
}  # fmt: skip
_OPERATIONS = tuple(_BY_CODE.get(chr(code)) for code in range(256))
