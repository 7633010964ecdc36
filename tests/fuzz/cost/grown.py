"""Honest inputs made large: pieces repeated, nested and stretched, so that a loop too many shows."""

from __future__ import annotations

from random import Random

_NESTS = (
    *((b"[", b"]"), (b'{"a":', b"}"), (b"(", b")"), (b"{", b"}"), (b"<lora:", b">"), (b'"', b'"'), (b"\\", b"")),
    *((b"a|", b""), (b"(a+", b")"), (b"[!-z]", b""), (b".*", b""), (b"{1,9}", b""), (b"a?", b""), (b"}", b"")),
    *((b"\x80\x02", b"."), (b")", b""), (b"(", b"t"), (b"\x85", b""), (b"2\x86", b""), (b"]", b""), (b"}", b"")),
)
_RUNS = b"0123456789 .,:;-_=|\\/\"'()[]{}<>#*+?^$aA\n\t\r\x00\x80\xff"


def grown(random: Random, honest: bytes, size: int) -> bytes:
    """Return about `size` bytes that an honest input became by one or two ways of growing."""
    data = honest
    for step in range(random.choice((1, 1, 2))):
        data = random.choice((_repeated, _nested, _run, _number, _ended))(
            random, data, size if step == 0 else size // 4
        )
    return data


def _cut(random: Random, data: bytes) -> tuple[bytes, bytes, bytes]:
    """Return what is before, in and after a random piece, which is short more often than long."""
    start = random.randrange(len(data) + 1)
    length = min(len(data) - start, 1 + int(random.expovariate(1 / random.choice((2, 8, 64, 512)))))
    return data[:start], data[start : start + length], data[start + length :]


def _times(piece: bytes, size: int) -> int:
    return max(1, size // max(1, len(piece)))


def _repeated(random: Random, data: bytes, size: int) -> bytes:
    before, piece, after = _cut(random, data)
    return before + piece * _times(piece, size) + after


def _nested(random: Random, data: bytes, size: int) -> bytes:
    before, piece, after = _cut(random, data)
    opened, closed = random.choice(_NESTS)
    times = _times(opened + closed, size)
    return before + opened * times + piece + closed * times + after


def _run(random: Random, data: bytes, size: int) -> bytes:
    before, piece, after = _cut(random, data)
    return before + piece + bytes([random.choice(_RUNS)]) * size + after


def _number(random: Random, data: bytes, size: int) -> bytes:
    """Stretch a number that is there, or put a long one somewhere."""
    places = [at for at, byte in enumerate(data) if 48 <= byte <= 57] or [len(data)]
    at = random.choice(places)
    return data[:at] + random.choice((b"1", b"9", b"0", b"1.", b"1e")) + b"7" * size + data[at + 1 :]


def _ended(random: Random, data: bytes, size: int) -> bytes:
    """Fill up with small pieces that look like the others but are never the same, such as names of tensors."""
    before, piece, after = _cut(random, data)
    many = _times(piece + b"12345", size)
    return before + b"".join(piece + b"%d" % number for number in range(many)) + after
