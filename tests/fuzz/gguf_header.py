"""GGUF headers: a file opens with tensors that lie inside it and can be read, or is a LoraError."""

from __future__ import annotations

import struct
from contextlib import closing

from lora_core.errors import LoraError
from lora_core.files.gguffile import GgufFile
from lora_core.files.ggufheader import TYPES
from lora_core.files.tensorheader import element_count
from tests.fuzz.choices import Choices
from tests.fuzz.scratch import written

_LARGEST = 2**18  # elements that are read


def check(data: bytes) -> None:
    path = written("gguf_header.gguf", _content(data))
    try:
        file = GgufFile(path)
    except LoraError:
        return
    with closing(file):
        for name, info in file.items():
            assert 0 <= info.start <= info.start + file._tensors[name].nbytes <= file.size
            if element_count(info.shape) > _LARGEST:
                continue
            try:
                assert tuple(file.tensor(name).shape) == info.shape
            except LoraError:
                continue


def _content(data: bytes) -> bytes:
    """Return the bytes themselves, or a file whose lengths and counts are right."""
    choices = Choices(data)
    if choices.yes():
        return choices.rest()
    values = [_value(choices) for _ in range(choices.number(4))]
    tensors = [_tensor(choices) for _ in range(choices.number(4))]
    head = b"GGUF" + struct.pack("<IQQ", choices.one_of((3, 2, 1)), len(tensors), len(values))
    return head + b"".join([*values, *tensors]) + choices.rest() + bytes(2048)


def _text(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _value(choices: Choices) -> bytes:
    names = (b"general.alignment", b"general.architecture", b"comfy.gguf.orig_shape.x", b"n\xff")
    kind = choices.number(14)
    if kind == 8:
        value = _text(choices.take(choices.number(9)))
    elif kind == 9:
        inner, count = choices.number(14), choices.number(9)
        value = struct.pack("<IQ", inner, count) + choices.take(8 * count).ljust(8 * count, b"\x01")
    else:
        sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1}
        value = choices.take(8).ljust(8, b"\0")[: sizes.get(kind, 8)]
    return _text(choices.one_of(names)) + struct.pack("<I", kind) + value


def _tensor(choices: Choices) -> bytes:
    name = choices.one_of((b"x", b"y", b"blocks.0.weight", b"", b"\xff"))
    kind = choices.one_of([*TYPES, 4, 99])
    sizes = [choices.one_of((1, 2, 3, 32, 256, 0, 2**32, 2**63)) for _ in range(choices.number(5))]
    offset = choices.one_of((0, 32, 64, 31, 2**40))
    return _text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, offset)


def seeds() -> dict[str, bytes]:
    entry = _text(b"x") + struct.pack("<IQIQ", 1, 2, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
    whole = head + _text(b"general.architecture") + struct.pack("<I", 8) + _text(b"flux") + entry
    folded = head + _text(b"comfy.gguf.orig_shape.x") + struct.pack("<IIQii", 9, 5, 2, 1, 2) + entry
    deep = head + _text(b"a") + struct.pack("<IIQ", 9, 9, 1) * 40
    files = {"whole": whole, "folded": folded, "arrays-of-arrays": deep, "cut": whole[:40], "empty": b""}
    raw = {name: b"\x01" + content.ljust(256, b"\0") for name, content in files.items()}
    return {**raw, "made-of-choices": bytes([0, 1, 4, 4, 1, 0, 0, 0, 2, 0, 10, 2, 4, 4, 0, 1, 8, 1, 3, 0, 0])}
