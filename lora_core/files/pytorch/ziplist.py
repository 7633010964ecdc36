"""The list of a zip archive's members, its own counts and sizes checked before it is read.

Format: pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, sections 4.3.12 to 4.3.16.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ..openfile import OpenFile
from ..tensorheader import MAX_LISTED_BYTES, MAX_TENSORS

MAX_MEMBERS = MAX_TENSORS + 10
MAX_ENTRY_BYTES = 2_048  # of a name and what follows it
_END = struct.Struct("<4s4H2LH")  # mark, disks, counts, bytes and place of the list, length of the comment
_END64 = struct.Struct("<4sQ2H2L4Q")  # the same with 64 bits
_LOCATOR = struct.Struct("<4sLQL")  # mark, disk and place of the former, disks
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LONGEST_COMMENT = 2**16 - 1
_UNKNOWN = 2**32 - 1  # a size that stands in what follows the name, with 64 bits
_IS_UTF8, _IS_ENCRYPTED = 0x800, 1


class ZipError(ValueError):
    """The list is broken."""


class TooLongError(ZipError):
    """The list is longer than that of any model."""


@dataclass(frozen=True, slots=True)
class ListedMember:
    name: str
    is_stored: bool  # as it is, neither compressed nor encrypted
    nbytes: int
    header: int  # where its local header begins


@dataclass(frozen=True, slots=True)
class ZipList:
    members: list[ListedMember]
    start: int  # where the list begins, and so the members end


def read_list(file: OpenFile) -> ZipList:
    """Return the list; raises ZipError for a broken one, TooLongError for one that no model needs."""
    count, length, start, end = _ending(file)
    if count > MAX_MEMBERS or length > MAX_LISTED_BYTES:
        raise TooLongError
    if start + length != end:
        raise ZipError("its list of members is not where it should be")
    members = list(_entries(bytes(file.read(start, length)), count))
    return ZipList(members, start)


def _ending(file: OpenFile) -> tuple[int, int, int, int]:
    """Return (members, bytes of the list, its place, where it ends), as the end of the archive says."""
    tail_start = max(0, file.size - _END.size - _LONGEST_COMMENT)
    tail = bytes(file.read(tail_start, file.size - tail_start))
    at = tail.rfind(b"PK\5\6")
    if at < 0 or at + _END.size > len(tail):
        raise ZipError("File is not a zip file")
    _, _, _, _, count, length, start, comment = _END.unpack_from(tail, at)
    if at + _END.size + comment != len(tail):
        raise ZipError("its comment is not complete")
    if at >= _LOCATOR.size and tail.startswith(b"PK\6\7", at - _LOCATOR.size):
        return _ending64(file, _LOCATOR.unpack_from(tail, at - _LOCATOR.size)[2], tail_start + at - _LOCATOR.size)
    return count, length, start, tail_start + at


def _ending64(file: OpenFile, at: int, before: int) -> tuple[int, int, int, int]:
    if at + _END64.size > before:
        raise ZipError("its end is not where it should be")
    mark, _, _, _, _, _, _, count, length, start = _END64.unpack(file.read(at, _END64.size))
    if mark != b"PK\6\6":
        raise ZipError("its end is not where it should be")
    return count, length, start, at


def _entries(raw: bytes, count: int) -> Iterator[ListedMember]:
    at = 0
    for _ in range(count):
        if at + _ENTRY.size > len(raw):
            raise ZipError("its list of members is shorter than it says")
        (mark, _, _, flags, method, _, _, _, packed, nbytes, name_length, more_length, comment_length, *_, header) = (
            _ENTRY.unpack_from(raw, at)
        )
        if mark != b"PK\1\2":
            raise ZipError("its list of members is damaged")
        if name_length + more_length + comment_length > MAX_ENTRY_BYTES:
            raise TooLongError
        at += _ENTRY.size
        name, more = raw[at : at + name_length], raw[at + name_length : at + name_length + more_length]
        if _UNKNOWN in (packed, nbytes, header):
            nbytes, packed, header = _long_sizes(more, (nbytes, packed, header))
        at += name_length + more_length + comment_length
        is_stored = method == 0 and not flags & _IS_ENCRYPTED
        yield ListedMember(_text(name, flags), is_stored, nbytes, header)
    if at != len(raw):
        raise ZipError("its list of members is longer than it says")


def _text(name: bytes, flags: int) -> str:
    return name.decode("utf-8" if flags & _IS_UTF8 else "cp437", "replace")


def _long_sizes(more: bytes, sizes: tuple[int, int, int]) -> list[int]:
    """Return the sizes with those of 64 bits in place of what says that they stand here."""
    at = 0
    while at + 4 <= len(more):
        kind, length = struct.unpack_from("<HH", more, at)
        if kind == 1:
            numbers = iter(struct.unpack_from(f"<{length // 8}Q", more[: at + 4 + length], at + 4))
            return [next(numbers, _UNKNOWN) if size == _UNKNOWN else size for size in sizes]
        at += 4 + length
    return list(sizes)
