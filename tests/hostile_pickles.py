"""PyTorch files whose structure is made to harm, as bytes: each asks for much more time or memory than it has bytes.

Run as a script, it opens each and prints one line of JSON: name, error or None, bytes of the structure, and the peak of
memory where that is what the case is about.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

_START = b"\x80\x02"
_REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


STORAGE = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x10tQ"  # of 16 numbers
TENSOR = _REBUILD + b"(" + STORAGE + b"K\0K\x10\x85K\x01\x85\x89)tR"  # of these


def tensor(first: bytes = b"K\0", shape: bytes = b"K\x10\x85", steps: bytes = b"K\x01\x85") -> bytes:
    return _REBUILD + b"(" + STORAGE + first + shape + steps + b"\x89)tR"


def of(value: bytes, key: bytes = text("x")) -> bytes:
    """A dict with one key."""
    return _START + b"}" + key + value + b"s."


def put(index: int) -> bytes:
    return b"r" + struct.pack("<I", index)


def get(index: int) -> bytes:
    return b"j" + struct.pack("<I", index)


def tower(levels: int, start: bytes = b")", up: bytes = b"\x86") -> bytes:
    """A tuple of twice the one below, so often: each way through it is a step for who walks it."""
    return start + put(0) + b"".join(get(level) + up + put(level + 1) for level in range(levels))


def tower_of(empty: bytes, fill: Callable[[bytes], bytes], levels: int) -> bytes:
    """Lists or dicts, each of twice the one before; the last is at the top of the stack."""
    filled = (fill(get(level - 1) if level else TENSOR) for level in range(levels))
    return _START + b"".join(empty + put(level) + one for level, one in enumerate(filled)) + b"."


def memo(*values: bytes) -> bytes:
    """Values that are put where `get` finds them, in a tuple that is left below."""
    return b"(" + b"".join(value + put(index) for index, value in enumerate(values)) + b"t"


def aliased_dicts() -> bytes:
    """20,000 keys of one dict with 20,000 numbers."""
    one = b"}" + put(0) + b"(" + b"".join(b"J" + struct.pack("<i", at) + b"N" for at in range(20_000)) + b"u"
    keys = b"".join(b"J" + struct.pack("<i", at) + get(0) for at in range(20_000))
    return _START + b"}(K\0" + one + keys + b"u."


def aliased_shape() -> bytes:
    """One shape of 100,000 sizes, for each of 5,000 tensors."""
    shape = b"(" + b"K\x01" * 100_000 + b"t" + put(1)
    first = STORAGE + put(0)
    one = b"(" + get(0) + b"K\0" + get(1) + get(1) + b"\x89)t"
    rest = b"".join(get(2) + one + b"R" for _ in range(5_000))
    return of(b"(" + first + shape + _REBUILD + put(2) + rest + b"t")


def aliased_tensors() -> bytes:
    keys = b"".join(text(f"x{at}") + get(0) for at in range(20_000))
    return _START + b"}(" + text("x") + TENSOR + put(0) + keys + b"u."


def colliding_keys() -> bytes:
    """Numbers with one hash."""
    keys = b"".join(number(at * (2**61 - 1)) + b"N" for at in range(1, 20_000))
    return _START + b"}(" + keys + b"u."


def long_keys() -> bytes:
    """Two texts of 300,000 characters that are the same, compared at each of 100,000 look-ups."""
    two = memo(text("k" * 300_000), text("k" * 300_000))
    pairs = b"".join(get(at % 2) + b"N" for at in range(100_000))
    return of(two + b"}(" + pairs + b"u\x86")


def chain_of_parameters() -> bytes:
    many = b"ctorch._utils\n_rebuild_parameter\n" + put(0) + get(0) * 20_000
    return of(many + TENSOR + b"\x85R" * 20_001)


CASES: dict[str, Callable[[], bytes]] = {
    "key of tuples": lambda: of(b"N", tower(100)),
    "key of tuples with a tensor": lambda: of(TENSOR, tower(100)),
    "deep key": lambda: of(b"N", b")" + b"\x85" * 100_000),
    "key of a dict": lambda: of(b"N", b"}"),
    "tuples of tuples": lambda: of(tower(60)),
    "lists of lists": lambda: tower_of(b"]", lambda one: b"(" + one * 2 + b"e", 60),
    "dicts of dicts": lambda: tower_of(b"}", lambda one: b"(" + text("a") + one + text("b") + one + b"u", 60),
    "deep value": lambda: of(b")" + b"\x85" * 100_000),
    "deep marks": lambda: of(b"(" * 200_000),
    "bytearray": lambda: of(b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R"),
    "punycode": lambda: of(b"c_codecs\nencode\n" + text("é" * 25_000) + text("punycode") + b"\x86R"),
    "complex": lambda: of(b"cbuiltins\ncomplex\n" + text("1" * 10_000) + b"\x85R"),
    "set of tuples": lambda: of(b"cbuiltins\nset\n]" + tower(60) + b"a\x85R"),
    "size of tuples": lambda: of(b"ctorch\nSize\n" + tower(60) + b"\x85R"),
    "counter": lambda: of(b"ccollections\nCounter\n" + text("a" * 10_000) + b"\x85R"),
    "ordered dict of pairs": lambda: of(b"ccollections\nOrderedDict\n]" + tower(60) + b"a\x85R"),
    "dicts": lambda: _START + b"}" * 400_000 + b".",
    "lists": lambda: _START + b"]" * 300_000 + b".",
    "tuples": lambda: of(b"(" + b"N\x85" * 100_000 + b"t"),
    "nothings": lambda: of(b"(" + b"N" * 100_000 + b"t"),
    "sets": lambda: of(b"(" + b"\x8f" * 100_000 + b"t"),
    "small dicts": lambda: of(b"(" + b"}NNs" * 80_000 + b"t"),
    "small lists": lambda: of(b"(" + b"]Na" * 100_000 + b"t"),
    "short texts": lambda: of(b"(" + b"U\x02ab" * 50_000 + b"t"),
    "wide texts": lambda: of(b"(" + text("a" * 10_000 + "\U0001f600") * 30 + b"t"),
    "numbers": lambda: of(b"(" + b"M\x01\x02" * 50_000 + b"t"),
    "keys of nothing": lambda: _START + b"}(" + b"NN" * 200_000 + b"u.",
    "far memo": lambda: of(b"N" + put(2**31 - 1)),
    "farther memo": lambda: of(b"N" + put(2**32 - 1)),
    "hole of the memo": lambda: of(b"N" + put(1000) + get(3)),
    "long number": lambda: of(b"\x8b\xff\xff\xff\x7f"),
    "many long numbers": lambda: of(b"(" + (b"\x8a\xff" + b"\x7f" * 255) * 1_000 + b"t"),
    "text beyond the end": lambda: of(b"X\xff\xff\xff\xff"),
    "longer text beyond the end": lambda: of(b"\x8d" + b"\xff" * 7 + b"\x7f"),
    "frame": lambda: _START + b"\x95" + b"\xff" * 8 + b"}.",
    "chain of calls": lambda: of(b"ccollections\nOrderedDict\n)R" + b"\x85R" * 10_000),
    "chain of parameters": chain_of_parameters,
    "attributes": lambda: of(TENSOR + tower(60) + b"b"),
    "attributes of a number": lambda: of(b"K\x01}b"),
    "duplicates": lambda: of(b"N" + b"2" * 100_000),
    "extension": lambda: of(b"\x84\xff\xff\xff\x7f"),
    "instance": lambda: of(b"(ios\nsystem\n"),
    "object": lambda: of(b"(cos\nsystem\no"),
    "persistent text": lambda: of(b"P0\n"),
    "storage of nothing": lambda: of(b")Q"),
    "storage of a number": lambda: of(b"K\x01Q"),
    "storage of many": lambda: of(b"(" + b"N" * 100_000 + b"tQ"),
    "storage of a huge count": lambda: of(STORAGE.replace(b"K\x10tQ", number(2**2000) + b"tQ")),
    "storage of a negative count": lambda: of(STORAGE.replace(b"K\x10tQ", number(-1) + b"tQ")),
    "shape of a huge size": lambda: of(tensor(shape=number(2**62) * 3 + b"\x87", steps=b"K\0K\0K\0\x87")),
    "shape of larger sizes": lambda: of(tensor(shape=number(2**900) + b"\x85")),
    "negative shape": lambda: of(tensor(shape=number(-4) + b"\x85")),
    "negative first": lambda: of(tensor(first=number(-4))),
    "negative step": lambda: of(tensor(first=b"K\x0f", steps=number(-1) + b"\x85")),
    "shape of another length": lambda: of(tensor(steps=b")")),
    "shape of texts": lambda: of(tensor(shape=text("a") + b"\x85")),
    "one shape": aliased_shape,
    "one tensor": aliased_tensors,
    "one dict": aliased_dicts,
    "one hash": colliding_keys,
    "one text": long_keys,
    "long name of a class": lambda: of(b"c" + b"a" * 100_000 + b"\nb\n"),
    "system": lambda: of(b"cposix\nsystem\n" + text("true") + b"\x85R"),
    "no end": lambda: _START + b"}" * 3,
    "nothing": lambda: b"",
}


LARGE = ("dicts", "lists", "small dicts", "short texts", "far memo", "farther memo", "bytearray")


def archive(structure: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as there:
        there.writestr("x/data.pkl", structure)
        there.writestr("x/byteorder", b"little")
        there.writestr("x/data/0", bytes(64))
    return out.getvalue()


def main() -> None:
    from lora_core.errors import LoraError
    from lora_core.files.pytorch.pytorchfile import PickledFile

    path = Path(tempfile.mkdtemp(), "bad.pt")
    for name, make in CASES.items():
        structure, error = make(), None
        path.write_bytes(archive(structure))
        if name in LARGE:
            tracemalloc.start()  # which makes Python several times slower
        try:
            PickledFile(path).close()
        except LoraError as refused:
            error = str(refused)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        sys.stdout.write(json.dumps([name, error, len(structure), peak]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
