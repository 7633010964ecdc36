"""Everything that reads bytes of strangers, each as one function of bytes, with honest inputs to grow."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lora_core.files.hashes import Hashes
from lora_core.files.opening import open_tensors
from lora_core.library.info import info
from lora_core.reading.lorafile import LoraFile
from lora_core.receipts.readback import read_receipt
from lora_core.stack.blockterms import parse_blocks
from lora_core.stack.rows import parse_rows
from lora_core.workflows.graph import graph_of
from lora_core.workflows.importing import convert_workflow, has_peers, rows_of_text
from tests import manifests
from tests.core import samples
from tests.fuzz import gguf_header
from tests.fuzz.scratch import written
from tests.fuzz.sidecars import SUFFIXES
from tests.fuzz.sidecars import seeds as sidecars

Read = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads bytes, or raises a LoraError."""

    read: Read
    honest: tuple[bytes, ...]


def _text(function: Callable[[str], object]) -> Read:
    return lambda data: function(data.decode("utf-8", "replace"))


def _json(function: Callable[[Any], object]) -> Read:
    def read(data: bytes) -> object:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return None  # not ours to read
        return function(value)

    return read


def _file(ending: str, data: bytes) -> None:
    with closing(open_tensors(written(f"cost.{ending}", data))):
        pass


def _header(data: bytes) -> None:
    _file("safetensors", samples.raw(data))


def _pickle(data: bytes) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in (("x/data.pkl", data), ("x/version", b"3\n"), ("x/data/0", bytes(64))):
            archive.writestr(name, content)
    _file("pt", out.getvalue())


_MODULES = [f"transformer_blocks.{number}.attn.to_q" for number in range(60)]


def _lora(metadata: dict[str, str]) -> Path:
    names = [f"base_model.model.{module}.lora_{part}.weight" for module in _MODULES for part in "AB"]
    entries = {
        name: {"dtype": "F32", "shape": [1, 2] if "lora_A" in name else [2, 1], "data_offsets": [8 * at, 8 * at + 8]}
        for at, name in enumerate(names)
    }
    header: dict[str, Any] = {"__metadata__": metadata, **entries}
    return written("cost.lora.safetensors", samples.raw(header, bytes(8 * len(names))))


def _config(data: bytes) -> None:
    """A folder of PEFT: what its configuration says of 60 modules."""
    path = _lora({"format": "pt"})
    folder = path.with_name("adapter")
    folder.mkdir(exist_ok=True)
    (folder / "adapter_model.safetensors").write_bytes(path.read_bytes())
    (folder / "adapter_config.json").write_bytes(data)
    with LoraFile(folder / "adapter_model.safetensors") as lora:
        _ = list(lora.adapters)


def _metadata(key: str, data: bytes) -> None:
    path = _lora({key: data.decode("utf-8", "replace")})
    with LoraFile(path) as lora:
        _ = list(lora.adapters)
    info(path, path.name, (), Hashes())


def _sidecar(suffix: str, data: bytes) -> None:
    path = _lora({})
    beside = path.with_name(path.stem + suffix)
    beside.write_bytes(data)
    try:
        info(path, path.name, (), Hashes())
    finally:
        beside.unlink()


def _workflow(value: Any) -> None:
    has_peers(value)
    convert_workflow(value, names=("a.safetensors",))


def _pickle_of(content: Any) -> bytes:
    out = io.BytesIO()
    torch.save(content, out)
    with zipfile.ZipFile(out) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


_ENTRY = b'"x.lora_A.weight":{"dtype":"F32","shape":[0,1],"data_offsets":[0,0]}'
_TEXT = b"<lora:ink:0.8:0.5>, (a cat:1.2), {<lora:a>|<lora:b:0.5>} [x:y:0.5] # note\n"
_PATTERNS = {"rank_pattern": {"blocks.[0-3].attn": 8, "^a.*\\.b$": 4}, "alpha_pattern": {"(a|b)+c": 1, "x{1,3}": 2}}
_PEFT = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["to_q"], **_PATTERNS}
_SS = {"ss_tag_frequency": {"img": {"ink": 3, "bold, style": 2}}, "ss_bucket_info": {"buckets": {"0": {"count": 1}}}}


def readers() -> dict[str, Reader]:
    """Return all readers by name."""
    workflows = tuple(
        json.dumps(manifests.workflow(form)).encode()
        for pack in manifests.workflows()
        for form in manifests.workflow_forms(pack)
    )
    rows = json.dumps({"v": 1, "rows": [{"name": "a.safetensors", "strength": 0.5, "blocks": "double.0-9=0.5"}]})
    found = {
        "header": Reader(_header, (b"{" + _ENTRY + b"}", b'{"__metadata__":{"a":"b"},' + _ENTRY + b"}")),
        "gguf": Reader(partial(_file, "gguf"), tuple(data[1:] for data in gguf_header.seeds().values())),
        "pickle": Reader(_pickle, (_pickle_of({"x": torch.ones(2), "y": {"z": (1, [2.5, "t"])}}),)),
        "config": Reader(_config, (json.dumps(_PEFT).encode(),)),
        "peft metadata": Reader(partial(_metadata, "lora_adapter_metadata"), (json.dumps(_PEFT).encode(),)),
        "training log": Reader(
            partial(_metadata, "ss_tag_frequency"), (json.dumps(_SS["ss_tag_frequency"]).encode(), b"ink, bold")
        ),
        "receipt": Reader(_text(lambda text: read_receipt(text, "x")), (b'{"v":1,"inputs":[{"name":"a"}]}',)),
        "blocks": Reader(_text(parse_blocks), (b"double.0-9=0.5, te=0", b"all=1e1\nsingle.3=-.5")),
        "rows": Reader(_json(parse_rows), (rows.encode(),)),
        "workflow": Reader(_json(_workflow), workflows),
        "graph": Reader(_json(lambda value: graph_of(value, "x.json")), workflows),
    }
    for dialect in ("lora-manager", "prompt-control", "easy-use", "a1111"):
        found[f"text {dialect}"] = Reader(_text(partial(rows_of_text, dialect=dialect)), (_TEXT,))
    for suffix in SUFFIXES:
        honest = tuple(data[1:] for name, data in sidecars().items() if name == f"as{suffix}") or (b"ink, bold\nstyle",)
        found[f"sidecar {suffix}"] = Reader(partial(_sidecar, suffix), honest)
    return found
