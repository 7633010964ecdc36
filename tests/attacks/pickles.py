"""PyTorch files made by hand to take time or memory: opcodes that torch.save would not write."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator

START, STOP = b"\x80\x02", b"."


def hostile_pickles() -> Iterator[tuple[str, bytes]]:
    """Yield names and pickles."""
    yield "nested-key", START + b"}(" + _nested(60) + b"K\x01u" + STOP
    yield "nested-frozenset", START + b"}(" + _nested(60) + b"cbuiltins\nfrozenset\n\x85RK\x01u" + STOP
    yield "nested-value", START + b"}(" + _text("a") + _nested(60) + b"u" + STOP
    yield "deep-key", START + b"}(" + b"(" * 100_000 + b"t" * 100_000 + b"K\x01u" + STOP
    yield "deep-list", START + b"]" * 500_000 + b"a" * 499_999 + STOP
    yield "bytearray", START + b"cbuiltins\nbytearray\n" + _number(4 * 2**30) + b"\x85R" + STOP
    yield "range", START + b"cbuiltins\nlist\ncbuiltins\nrange\n" + _number(2**40) + b"\x85R\x85R" + STOP
    yield "encode", START + b"c_codecs\nencode\n" + _text("\u0100" * 24_000) + _text("punycode") + b"\x86R" + STOP
    yield "dicts", START + b"}" * (8 * 2**20) + STOP
    yield "marks", START + b"(" * (8 * 2**20) + STOP
    yield "long", START + b"\x8b" + struct.pack("<i", 2**22) + b"\x7f" * 2**22 + STOP
    yield "decimal", START + b"I" + b"9" * 200_000 + b"\n" + STOP
    yield "memo", START + b"}" + b"".join(b"r" + struct.pack("<I", 2**31 + number) for number in range(100_000)) + STOP
    yield "frame", b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"}" + STOP
    yield "claims", START + b"\x8d" + struct.pack("<Q", 2**40) + b"x" + STOP
    yield "doubling", START + _doubling(40) + STOP
    yield "system", START + b"cos\nsystem\n" + _text("true") + b"\x85R" + STOP
    yield "same-key", START + b"}(" + (_text("a.lora_up.weight") + b"K\x01") * 400_000 + b"u" + STOP


def as_archive(pickled: bytes) -> bytes:
    """Return the archive that torch.save writes around a pickle."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", b"3\n")
    return written.getvalue()


def hostile_archives() -> Iterator[tuple[str, bytes]]:
    """Yield names and archives that are wrong themselves."""
    many = io.BytesIO()
    with zipfile.ZipFile(many, "w") as archive:
        for number in range(60_000):
            archive.writestr(f"archive/data/{number}", b"")
    yield "many-members", many.getvalue()
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(300 * 2**20))
    yield "bomb", bomb.getvalue()
    good = as_archive(START + b"}" + STOP)
    yield "cut", good[:-30]
    yield "claimed-members", good[:-22] + good[-22:-14] + b"\xff\xff\xff\xff" + good[-10:]
    yield "name-of-64-kb", _long_name()


def _long_name() -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for number in range(300):
            archive.writestr(f"archive/{number}{'x' * 65_000}", b"")
    return written.getvalue()


def _nested(depth: int) -> bytes:
    """A tuple that holds the one before twice, and so on: few opcodes, 2**depth values."""
    return b")" + b"".join(b"q" + bytes([place]) + b"h" + bytes([place]) + b"\x86" for place in range(depth))


def _doubling(depth: int) -> bytes:
    """A list that holds the one before twice, and so on."""
    return b"]" + b"".join(
        b"q" + bytes([place]) + b"0](h" + bytes([place]) + b"h" + bytes([place]) + b"e" for place in range(depth)
    )


def _text(text: str) -> bytes:
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _number(value: int) -> bytes:
    data = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data
