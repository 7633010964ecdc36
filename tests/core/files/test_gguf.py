"""GGUF files: read as the gguf package reads them, merged into safetensors, each broken one named."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lora_core
from lora_core.errors import FileFormatError, OptionError, UnknownArchError
from lora_core.files import gguffile
from lora_core.files.gguffile import GgufFile
from lora_core.files.opening import open_tensors
from tests import tiny
from tests.core import samples

gguf = pytest.importorskip("gguf")
TYPES = gguf.GGMLQuantizationType


def write(path: Path, tensors: dict[str, tuple[torch.Tensor, Any]], shapes: dict[str, list[int]] | None = None) -> Path:
    """Writes a file with the package."""
    writer = gguf.GGUFWriter(path, "wan")
    for name, shape in (shapes or {}).items():
        writer.add_array(f"comfy.gguf.orig_shape.{name}", shape)
    writer.add_array("tokens", ["a", "b"])
    writer.add_array("numbers", [1.5, 2.5])
    for name, (tensor, kind) in tensors.items():
        writer.add_tensor(name, gguf.quants.quantize(tensor.float().numpy(), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def wan(path: Path, kind: Any) -> Path:
    """A tiny Wan whose matrices are of `kind`, the rest fp32."""
    values = {key: tiny.fill(key, shape) for key, (_, shape) in tiny.tiny("wan21").items()}
    return write(
        path,
        {
            key: (value, kind if value.dim() == 2 and value.shape[1] % 32 == 0 else TYPES.F32)
            for key, value in values.items()
        },
    )


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_values_are_those_that_the_package_reads(tmp_path: Path, kind: str) -> None:
    values = tiny.random_normal("x", (6, 64), 0)
    path = write(tmp_path / "x.gguf", {"x": (values, TYPES[kind]), "one": (torch.tensor([2.5]), TYPES.F32)})
    (reference, _) = gguf.GGUFReader(path).tensors
    expected = gguf.quants.dequantize(reference.data, reference.tensor_type)
    with open_tensors(path) as file:
        assert isinstance(file, GgufFile)
        assert file["x"].shape == (6, 64)
        assert torch.equal(file.tensor("x").float(), torch.from_numpy(np.array(expected, np.float32)))
        assert file.coded_as("x") == (None if kind in ("F32", "F16", "BF16") else kind)
        assert file.scalar("one") == 2.5
    assert float((torch.from_numpy(np.array(expected, np.float32)) - values).norm() / values.norm()) < 0.15


def test_a_folded_tensor_has_its_own_shape(tmp_path: Path) -> None:
    values = tiny.random_normal("x", (2, 128), 0)
    path = write(tmp_path / "x.gguf", {"x": (values, TYPES.Q8_0)}, {"x": [16, 16]})
    with open_tensors(path) as file:
        assert file["x"].shape == tuple(file.tensor("x").shape) == (16, 16)


@pytest.mark.parametrize("kind", ["Q8_0", "F16"])
@pytest.mark.parametrize("dtype", ["bf16", "fp16", "keep"])
def test_a_merge_writes_safetensors(tmp_path: Path, kind: str, dtype: Any) -> None:
    base = wan(tmp_path / "base.gguf", TYPES[kind])
    lora = tiny.make_lora(tmp_path / "lora.safetensors", tiny.flat("lora_unet_", tiny.modules("wan21")), 2)
    out = tmp_path / "out.safetensors"
    merge = lambda: lora_core.merge(base, [lora], out, dtype=dtype)  # noqa: E731
    if (kind, dtype) == ("Q8_0", "keep"):
        text = samples.message(OptionError, merge)
        assert text.startswith("base.gguf: '")
        assert text.endswith(
            "' is stored as Q8_0, which this version can read but not write; choose dtype bf16 or fp16."
        )
        assert samples.listing(tmp_path) == ["base.gguf", "lora.safetensors"]
        return
    report = merge()
    with open_tensors(base) as file:
        plain = {name: file.tensor(name).float() for name in file}
        kept = {name: file.tensor(name).dtype for name in file}
    samples.save(tmp_path / "plain.safetensors", plain)
    lora_core.merge(tmp_path / "plain.safetensors", [lora], tmp_path / "expected.safetensors", dtype="fp32")
    found, expected = samples.load(out), samples.load(tmp_path / "expected.safetensors")
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        wanted = {"bf16": torch.bfloat16, "fp16": torch.float16, "keep": kept[name]}[dtype]
        assert samples.same_bytes(tensor, expected[name].to(wanted)), name
    assert any("Q8_0" in note for note in report.notes) == (kind == "Q8_0")


@pytest.mark.case(15)
def test_without_the_package_the_reason_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    path = write(tmp_path / "x.gguf", {"x": (torch.ones(2, 32), TYPES.Q4_0), "y": (torch.ones(2, 2), TYPES.F16)})
    monkeypatch.setitem(sys.modules, "gguf", None)
    with open_tensors(path) as file:
        assert file.tensor("y").tolist() == [[1, 1], [1, 1]]  # needs no package
        assert samples.message(UnknownArchError, lambda: file.tensor("x")) == (
            "x.gguf: its weights are quantised as Q4_0, which needs the package gguf: add it to this "
            "Python, or use the safetensors version of the model."
        )


def header(tensors: int = 1, values: int = 0, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, values) + rest


def tensor(name: bytes = b"x", shape: tuple[int, ...] = (4,), kind: int = 0, offset: int = 0) -> bytes:
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return struct.pack("<Q", len(name)) + name + sizes + struct.pack("<IQ", kind, offset)


def array(kind: int, count: int) -> bytes:
    return struct.pack("<Q", 1) + b"k" + struct.pack("<IIQ", 9, kind, count)


BROKEN: dict[str, tuple[bytes, str]] = {
    "version": (header(version=1), "broken GGUF header: expected GGUF version 2 or 3, found b'GGUF' version 1;"),
    "tensors": (header(2**40), "broken GGUF header: 1099511627776 tensors and 0 values; the limit is 100000;"),
    "values": (header(1, 2**40), "broken GGUF header: 1 tensors and 1099511627776 values; the limit is 100000;"),
    "ends": (header(1), "broken GGUF header: it ends at byte 24, needs 32;"),
    "long name": (header(1, 0, struct.pack("<Q", 2**62)), "broken GGUF header: it ends at byte 32, needs "),
    "type": (header(1, 0, tensor(kind=99)), "broken GGUF header: tensor 'x' is of the unknown type 99;"),
    "dimensions": (header(1, 0, tensor(shape=(1,) * 9)), "broken GGUF header: tensor 'x' of 9 dimensions;"),
    "blocks": (header(1, 0, tensor(shape=(33,), kind=8)), "broken GGUF header: tensor 'x' of shape (33,) can't be st"),
    "overflow": (header(1, 0, tensor(shape=(2**40, 2**40))), "broken GGUF header: tensor 'x' of shape (10995"),
    "twice": (header(2, 0, tensor(offset=0) * 2 + bytes(64)), "broken GGUF header: tensor 'x' twice;"),
    "data": (header(1, 0, tensor()), "truncated: has 57 bytes, needs 80; download or copy it again."),
    "array": (header(0, 1, array(4, 2**60)), "broken GGUF header: an array of 1152921504606846976 values of type 4;"),
    "nested": (header(0, 1, array(9, 1)), "broken GGUF header: an array of 1 values of type 9;"),
    "value": (header(0, 1, struct.pack("<Q", 1) + b"k" + struct.pack("<I", 77)), "broken GGUF header: a value of the"),
}


@pytest.mark.case(15)
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_header_is_one_clear_error(tmp_path: Path, kind: str) -> None:
    content, expected = BROKEN[kind]
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(content)
    text = samples.message(FileFormatError, lambda: open_tensors(bad))
    assert text.startswith(f"bad.gguf: {expected}")
    lora = tiny.make_lora(tmp_path / "lora.safetensors", {"lora_unet_x": (4, 4)}, 2)
    assert samples.message(FileFormatError, lambda: lora_core.merge(bad, [lora], tmp_path / "o.safetensors")) == text
    assert samples.listing(tmp_path) == ["bad.gguf", "lora.safetensors"]


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    content = write(tmp_path / "x.gguf", {"x": (torch.ones(2, 32), TYPES.Q8_0)}).read_bytes()
    bad = tmp_path / "bad.gguf"
    end = len(content.rstrip(b"\0"))
    for length in range(4, end, 7):
        bad.write_bytes(content[:length])
        with pytest.raises(FileFormatError, match=r"broken GGUF header|truncated"):
            GgufFile(bad)


def test_our_table_of_types_is_the_packages() -> None:
    for number, (name, elements, size) in gguffile.TYPES.items():
        assert TYPES(number).name == name
        assert gguf.GGML_QUANT_SIZES[TYPES(number)] == (elements, size)
