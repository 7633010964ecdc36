"""safetensors headers: what we accept the reference library accepts with equal tensors; the rest is a LoraError."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import safetensors
from safetensors import safe_open

from lora_core.errors import LoraError
from lora_core.files.dtypes import DTYPES
from lora_core.files.tensorfile import TensorFile
from lora_core.files.tensorheader import element_count
from tests.core import samples
from tests.fuzz.choices import Choices
from tests.fuzz.scratch import written

_NAMES = ("x", "lora_unet_x.alpha", "é", "../x", "\x1b[31m", "", "__metadata__", "n" * 513)
_ODD = (None, True, -1, 2**63, 2**64, 1.5, "F32", [], {}, [[]], float("nan"))
_SIZES = (0, 1, 2, 3, 7, 2**31, 2**32, 2**61, 2**62, 2**63 - 1)
_LARGEST = 2**16  # bytes of data that are made up


def check(data: bytes) -> None:
    content = _content(data)
    path = written("header.safetensors", content)
    try:
        file = TensorFile(path)
    except LoraError:
        return
    with closing(file):
        theirs: dict[str, Any] = dict(safetensors.deserialize(content))
        assert file.keys() == theirs.keys()
        for name, info in file.items():
            assert (info.dtype, list(info.shape)) == (theirs[name]["dtype"], theirs[name]["shape"])
            assert file.read(name) == theirs[name]["data"]
            assert tuple(file.tensor(name).shape) == info.shape
        with safe_open(path, "pt") as opened:
            assert (opened.metadata() or {}) == file.metadata
            for name in file:
                assert samples.same_bytes(file.tensor(name), opened.get_tensor(name))


def _content(data: bytes) -> bytes:
    """Return a whole file: the bytes themselves, or a header with its length made right, or one made of choices."""
    choices = Choices(data)
    mode = choices.number(3)
    if mode == 0:
        return choices.rest()
    if mode == 1:
        count = choices.number(_LARGEST)
        return samples.raw(choices.rest(), bytes(count))
    header: dict[str, Any] = {}
    end = 0
    for _ in range(choices.number(6)):
        name, entry, end = _entry(choices, end)
        header[name] = entry
    if choices.yes():
        header["__metadata__"] = {choices.text(8): choices.one_of(_ODD) if choices.yes(8) else choices.text(20)}
    text = json.dumps(header, ensure_ascii=choices.yes()).encode("utf-8", "surrogatepass")
    return samples.raw(text, choices.rest().ljust(max(0, min(end, _LARGEST)), b"\0")[: max(0, min(end, _LARGEST))])


def _entry(choices: Choices, start: int) -> tuple[str, dict[str, Any], int]:
    name = choices.one_of(_NAMES) if choices.yes() else choices.text(12)
    dtype = choices.one_of([*DTYPES, "F4", "F6_E2M3", "f32"])
    shape: list[Any] = [
        choices.one_of(_SIZES) if choices.yes(4) else choices.number(5) for _ in range(choices.number(10))
    ]
    end = start + element_count(shape) * DTYPES.get(dtype, (1, ""))[0]
    if choices.yes(12):
        shape.append(choices.one_of(_ODD))
    first = choices.one_of((start, start + 1, 0, -start, 2**64 - 1)) if choices.yes(12) else start
    entry: dict[str, Any] = {"dtype": dtype, "shape": shape, "data_offsets": [first, end]}
    if choices.yes(12):
        entry[choices.one_of(("dtype", "shape", "data_offsets", "more"))] = choices.one_of(_ODD)
    return name, entry, end


def seeds() -> dict[str, bytes]:
    """Return the hand-made files that `test_tensorfile` holds, and whole files."""
    from tests.core.files.test_tensorfile import BROKEN

    files = {case.replace(" ", "-").replace("^", ""): b"\0" + content for case, (content, _) in BROKEN.items()}
    entry = b'{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
    files |= {
        "whole": b"\0" + samples.raw({"x": samples.F32}, bytes(8)),
        "header-with-metadata": b"\x01\x08\x00" + b'{"__metadata__":{"a":"b"},"x":' + entry + b"}   ",
        "header-with-more-fields": b"\x01\x08\x00" + b' {"x":{"more":[1],' + entry[1:] + b"}",
        "made-of-choices": b"\x02\x03\x00\x01\x01\x00\x02\x02\x03" + bytes(30),
        "no-tensors": b"\0" + samples.raw(b"{}"),
    }
    return {name: content for name, content in files.items() if len(content) < 4096}
