"""Headers with many megabytes of metadata: read as the reference library does, and refused for the same faults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import lora_core
from lora_core.errors import FileFormatError
from lora_core.files.longmetadata import LONG
from lora_core.files.tensorfile import TensorFile
from tests import tiny
from tests.core import samples
from tests.core.samples import F32, raw

TAGS = 'watercolor, {lighthouse}, [cliff], "soft" light, back\\slash, é, 水彩, \U0001f3a8, \u2028, tab\t, '
BIG = 'x": ,{[' * (LONG // 4)


def header(pairs: str, before: str = "", after: str = "") -> bytes:
    tensor = json.dumps(F32)
    return f'{{{before}"__metadata__":{{{pairs}}}{after},"x":{tensor}}}'.encode()


@pytest.mark.parametrize("letter", ["", "é", "水", "\U0001f3a8"])
@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_metadata_is_what_the_reference_library_reads(tmp_path: Path, letter: str, ensure_ascii: bool) -> None:
    metadata = {
        "ss_tag_frequency": json.dumps({"10_sea": {TAGS * 20_000: 1}}, ensure_ascii=ensure_ascii),
        f"own{letter}": BIG + letter,
        "empty": "",
        "format": "pt",
    }
    path = samples.save(tmp_path / "x.safetensors", {"x": torch.ones(2)}, metadata)
    assert path.stat().st_size > 2 * LONG
    with TensorFile(path) as file:
        assert (dict(file.metadata), list(file)) == (samples.metadata_of(path), ["x"])


@pytest.mark.parametrize("spaced", [False, True])
def test_metadata_may_stand_anywhere(tmp_path: Path, spaced: bool) -> None:
    """Where JSON has spaces, behind the tensors, and with a tensor whose name looks like it."""
    content = {'"__metadata__":{': F32, "__metadata__": {"a": BIG, "b": '"__metadata__":{"c":"d"}'}}
    text = json.dumps(content, indent=2 if spaced else None)
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw(text.encode(), bytes(8)))
    with TensorFile(path) as file:
        assert (dict(file.metadata), list(file)) == (content["__metadata__"], ['"__metadata__":{'])


LONG_TEXT = json.dumps(BIG)
BROKEN = {
    "a key twice": (header(f'"a":{LONG_TEXT},"a":"b"'), "a key appears twice"),
    "metadata twice": (header(f'"a":{LONG_TEXT}', after=',"__metadata__":{}'), "a key appears twice"),
    "a number": (header(f'"a":{LONG_TEXT},"b":1'), "__metadata__ must map text to text"),
    "an object": (header(f'"a":{LONG_TEXT},"b":{{}}'), "__metadata__ must map text to text"),
    "a comma too many": (header(f'"a":{LONG_TEXT},'), "a comma too many in __metadata__"),
    "no colon": (header(f'"a":{LONG_TEXT},"b" "c"'), "expected ':' in __metadata__"),
    "no comma": (header(f'"a":{LONG_TEXT} "b":"c"'), "__metadata__ is not complete"),
    "no end": (header(f'"a":{LONG_TEXT}')[:-200].rstrip(b'}"'), ""),
    "half a letter": (header(f'"a":{LONG_TEXT},"b":"\\ud800"'), "a text in __metadata__ is not text"),
    "a line end": (header(f'"a":{LONG_TEXT},"b":"\n"'), "Invalid control character"),
    "no UTF-8": (header(f'"a":{LONG_TEXT},"b":"~"').replace(b"~", b"\xff"), "can't decode byte 0xff"),
    "many keys": (header(",".join(f'"{n}":"{n:010}"' for n in range(100_001))), "more than 100000 keys"),
    "settings": (header(f'"lora_adapter_metadata":{json.dumps("x" * (8 * 2**20 + 1))}'), "above our limit of 8388608"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_metadata_is_refused(tmp_path: Path, fault: str) -> None:
    content, reason = BROKEN[fault]
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw(content, bytes(8)))
    assert reason in samples.message(FileFormatError, lambda: TensorFile(path))


def test_every_operation_takes_it_and_keeps_it(tmp_path: Path) -> None:
    base = tiny.make_tiny("wan21", tmp_path / "base.safetensors")
    plain = tiny.make_lora(tmp_path / "plain.safetensors", tiny.flat("lora_unet_", tiny.modules("wan21")), 4)
    metadata = {"ss_tag_frequency": json.dumps({"1_a": {f"{TAGS}{n}": n + 1 for n in range(50_000)}})}
    lora = samples.save(tmp_path / "big.safetensors", samples.load(plain), metadata)
    assert lora.stat().st_size > 6 * 2**20
    for path, name in ((plain, "a"), (lora, "b")):
        lora_core.merge(base, [path], tmp_path / f"{name}.safetensors")
    merged = [samples.load(tmp_path / f"{name}.safetensors") for name in "ab"]
    assert all(samples.same_bytes(merged[0][key], merged[1][key]) for key in merged[0])
    lora_core.resize(lora, tmp_path / "small.safetensors", rank=2)
    lora_core.convert(lora, tmp_path / "peft.safetensors", dialect="peft", base=base)
    for name in ("small", "peft"):
        kept = samples.metadata_of(tmp_path / f"{name}.safetensors")["ss_tag_frequency"]
        assert kept == metadata["ss_tag_frequency"]
    assert lora_core.inspect(lora, [base]).loras[0].modules_matched == len(tiny.modules("wan21"))
