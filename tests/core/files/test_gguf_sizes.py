"""GGUF headers made to take time or memory: their counts, texts and arrays are bounded before they are kept."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import pytest
import torch

from lora_core.errors import FileFormatError
from lora_core.files.gguffile import GgufFile
from lora_core.files.quantised import FORMATS, values_of
from tests.core import samples


def header(tensors: int, values: int, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, values) + rest


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def array(kind: int, count: int, content: bytes) -> bytes:
    return struct.pack("<IIQ", 9, kind, count) + content


def tensor(name: bytes = b"x", shape: tuple[int, ...] = (8,), kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape) + struct.pack("<IQ", kind, offset)


def shaped(count: int) -> bytes:
    """A tensor whose shape before it was folded has so many sizes."""
    value = text(b"comfy.gguf.orig_shape.x") + array(4, count, struct.pack("<I", 2) * count)
    return header(1, 1, value + tensor()) + bytes(64)


def overlapping(count: int, step: int) -> bytes:
    """Tensors of 4 KB, each begun `step` bytes behind the one before."""
    return header(count, 0, b"".join(tensor(b"%d" % at, (1024,), 0, at * step) for at in range(count))) + bytes(16384)


def one(kind: int, content: bytes, key: bytes = b"k") -> bytes:
    return header(0, 1, text(key) + struct.pack("<I", kind) + content)


MANY = 500_000
BROKEN: dict[str, tuple[bytes, str]] = {
    "shape of 3 million": (shaped(3_000_000), "tensor 'x' of shape (8,) can't have the shape of 3000000 values;"),
    "shape of 9": (shaped(9), "tensor 'x' of shape (8,) can't have the shape [2, 2, 2, 2, 2, 2, 2, 2, 2];"),
    "one place": (overlapping(3, 0), "tensor '1' overlaps another;"),
    "places that overlap": (overlapping(3, 2048), "tensor '1' overlaps another;"),
    "many in one place": (overlapping(20_000, 0), "tensor '1' overlaps another;"),
    "one key": (header(0, 2, (text(b"k") + struct.pack("<IB", 0, 1)) * 2), "the value 'k' twice;"),
    "a key of 1 MB": (one(0, b"\1", b"k" * 2**20), "a name of 1048576 bytes ('kkkkkk"),
    "no key": (one(0, b"\1", b""), "a name of 0 bytes ('');"),
    "a name of 1 MB": (header(1, 0, tensor(b"n" * 2**20)), "a name of 1048576 bytes ('nnnnnn"),
    "an array of arrays": (
        one(9, struct.pack("<IQ", 9, 1) + struct.pack("<IQ", 4, 0)),
        "an array of 1 values of type 9;",
    ),
    "arrays of arrays": (one(9, struct.pack("<IQ", 9, 2**62)), "an array of 4611686018427387904 values of type 9;"),
    "an array beyond the end": (one(9, struct.pack("<IQ", 10, 40)), "it ends at byte 49, needs 57;"),
    "texts beyond the end": (one(9, struct.pack("<IQ", 8, 45)), "it ends at byte 49, needs 57;"),
    "a text of 2^63 bytes": (one(8, struct.pack("<Q", 2**63)), "it ends at byte 45, needs 9223372036854775853;"),
    "an alignment of 2^60": (
        header(0, 1, text(b"general.alignment") + struct.pack("<IQ", 10, 2**60)),
        "an alignment of 1152921504606846976;",
    ),
    "an alignment of text": (
        header(0, 1, text(b"general.alignment") + struct.pack("<I", 8) + text(b"a" * 9)),
        "an alignment",
    ),
    "2^63 tensors": (header(2**63, 0), "9223372036854775808 tensors and 0 values; the limit is 100000;"),
    "2^63 values": (header(0, 2**63), "0 tensors and 9223372036854775808 values; the limit is 100000;"),
    "2^31 dimensions": (header(1, 0, text(b"x") + struct.pack("<I", 2**31)), "tensor 'x' of 2147483648 dimensions;"),
    "sizes of 2^63": (header(1, 0, tensor(shape=(2**63,) * 8)), "tensor 'x' of shape (9223372036854775808, "),
}
# what is read without being kept
LONG: dict[str, bytes] = {
    "bytes": one(9, struct.pack("<IQ", 0, 4 * MANY) + bytes(4 * MANY)),
    "numbers": one(9, struct.pack("<IQ", 5, MANY) + bytes(4 * MANY)),
    "switches": one(9, struct.pack("<IQ", 7, 4 * MANY) + bytes(4 * MANY)),
    "texts": one(9, struct.pack("<IQ", 8, MANY // 10) + text(b"ab") * (MANY // 10)),
    "a text": one(8, text(b"\xff" * 2 * MANY)),
}


@pytest.mark.attack(15)
@pytest.mark.parametrize("case", BROKEN)
def test_a_header_that_no_model_needs_is_refused(tmp_path: Path, case: str) -> None:
    content, expected = BROKEN[case]
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    tracemalloc.start()
    text = samples.message(FileFormatError, lambda: GgufFile(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert text.startswith(f"bad.gguf: broken GGUF header: {expected}")
    assert len(text) < 500
    assert peak < 2**20 + 20 * len(content)


@pytest.mark.attack(15)
@pytest.mark.parametrize("case", LONG)
def test_long_values_are_passed_over(tmp_path: Path, case: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(LONG[case])
    tracemalloc.start()
    with GgufFile(path) as file:
        assert file.told == {}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20 + 2 * len(LONG[case])


def test_too_many_texts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_core.files.ggufheader.MAX_TEXTS", 100)
    path = tmp_path / "x.gguf"
    path.write_bytes(header(0, 2, b"".join(text(key) + array(8, 70, text(b"a") * 70) for key in (b"a", b"b"))))
    assert samples.message(FileFormatError, lambda: GgufFile(path)).startswith(
        "x.gguf: broken GGUF header: 140 texts in its arrays; the limit is 100;"
    )


@pytest.mark.attack(4)
def test_a_small_weight_in_codes_does_not_become_a_large_one() -> None:
    one = {"weight_scale": torch.ones(())}
    with pytest.raises(FileFormatError, match=r"pre_quant_scale of \(1000, 1, 1\) does not fit \(10, 10\)"):
        values_of(FORMATS["float8_e4m3fn"], torch.ones(10, 10), {**one, "pre_quant_scale": torch.ones(1000, 1, 1)}, {})
    with pytest.raises(FileFormatError, match="groups of 16384 columns would need much more memory than 16384 codes"):
        config = {"convrot": True, "convrot_groupsize": 16384}
        values_of(FORMATS["int8_tensorwise"], torch.ones(1, 16384), one, config)
