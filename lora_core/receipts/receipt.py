"""Receipts: what a written file was made from, as one JSON text in its metadata.

A receipt names files by their last names and content hashes, never by folders. Its text is as long before the hashes
are known as it is with them, so that there is room for it in a header, which is written first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..files.layout import PlannedTensor, in_written_order
from ..files.openfile import read_whole
from ..files.tensorfile import byte_view
from ..lazytorch import torch
from ..parallel.progress import OnStep
from ..reading.checkpoint import Checkpoint
from ..reading.loraconfig import CONFIG_NAME
from ..reading.lorafile import LoraFile
from ..report import Report
from ..stack.opened import StackedLora
from ..version import VERSION
from .hashing import InputHashes

RECEIPT = "lora_core.receipt"  # the key in the metadata
RECEIPT_FILE = "lora_core_receipt.json"  # in a model folder, as its shards are done before everything is known
SPARE = 1024  # bytes of a header for what a receipt tells at the end
FORMAT = 1
UNKNOWN = "0" * 64
_LARGEST_CONFIG = 1 << 20

HashOf = Mapping[Path, str]


class NamedModel(Protocol):
    """A model that something is made from, in files or loaded."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Input:
    """A file or a model folder that something was made from."""

    told: Mapping[str, Any]  # name, and what else is known at once
    path: Path | None = None  # the file whose hash is told too
    files: tuple[Input, ...] = ()  # of a folder
    shards: tuple[Input, ...] = ()  # that the file, an index, lists

    def paths(self) -> list[Path]:
        own = [] if self.path is None else [self.path]
        return own + [path for file in (*self.files, *self.shards) for path in file.paths()]

    def entry(self, hashes: HashOf | None) -> dict[str, Any]:
        hashed = {} if self.path is None else {"sha256": hashes[self.path] if hashes else UNKNOWN}
        several = (("files", self.files), ("shards", self.shards))
        below = {name: [file.entry(hashes) for file in files] for name, files in several if files}
        return {**self.told, **hashed, **below}


@dataclass(frozen=True, slots=True)
class Receipt:
    """What goes into a file's receipt."""

    operation: str
    options: Mapping[str, Any]
    inputs: Mapping[str, Sequence[Input]]  # "base" and "tuned", one each; "loras" in the order of the stack

    def text(self, hashes: HashOf | None = None, report: Report | None = None) -> str:
        """Return the receipt, with zeros for hashes that are not known yet."""
        several = {role: [one.entry(hashes) for one in some] for role, some in self.inputs.items() if some}
        inputs = {role: some if role == "loras" else some[0] for role, some in several.items()}
        found = report.precision if report else []
        whole = {
            "v": FORMAT,
            "operation": self.operation,
            **inputs,
            "options": dict(self.options),
            **({"precision": [_short(one) for one in found]} if found else {}),
            "versions": self.versions(),
        }
        return json.dumps(whole, ensure_ascii=False, separators=(",", ":"))

    def metadata(self, hashes: HashOf | None = None, report: Report | None = None) -> dict[str, str]:
        return {RECEIPT: self.text(hashes, report)}

    @staticmethod
    def versions() -> dict[str, str]:
        return {"lora_core": VERSION, "torch": str(torch.__version__).partition("+")[0]}

    def hashing(self, on_step: OnStep | None) -> InputHashes:
        """Return what hashes the inputs beside the work."""
        return InputHashes(self.paths(), on_step=on_step)

    def paths(self) -> list[Path]:
        """Return the files to hash, LoRAs first: they are small, and the work reads them all the time."""
        ordered = [one for role in ("loras", "base", "tuned") for one in self.inputs.get(role, ())]
        return [path for one in ordered for path in one.paths()]


def receipt_of(
    operation: str,
    options: Mapping[str, Any],
    *,
    base: NamedModel | None = None,
    tuned: NamedModel | None = None,
    stack: Sequence[StackedLora] = (),
    pairs: Sequence[str | None] = (),
) -> Receipt:
    """Return the receipt of what is about to be made; `pairs` say which of the stack is what file of a pair."""
    models = {"base": base, "tuned": tuned}
    inputs = {role: [_model_input(model)] for role, model in models.items() if model is not None}
    known = [*pairs, *[None] * len(stack)]
    loras = [_lora_input(item, pair) for item, pair in zip(stack, known, strict=False)]
    return Receipt(operation, options, {**inputs, "loras": loras})


def _model_input(model: NamedModel) -> Input:
    if not isinstance(model, Checkpoint):  # one that is loaded, which no file holds as it is
        return Input({"name": model.name})
    if not model.is_folder:
        return _file_input(model.paths[0], model.name)
    files = [_file_input(path, path.relative_to(model.path).as_posix()) for path in model.paths]
    return Input({"name": model.name}, files=tuple(files))


def _lora_input(item: StackedLora, pair: str | None) -> Input:
    lora, config = item.lora, config_hash(item.lora)
    more = {**({"config": config} if config else {}), **({"pair": pair} if pair else {})}
    if not lora.file.paths:
        return Input({**item.described(), "bytes": lora.file.size, "sha256": _hash_in_memory(lora), **more})
    shards = tuple(_file_input(path, path.name) for path in lora.file.paths if path != lora.path)
    return Input({**item.described(), "bytes": lora.path.stat().st_size, **more}, lora.path, shards=shards)


def _file_input(path: Path, name: str) -> Input:
    return Input({"name": name, "bytes": path.stat().st_size}, path)


def config_hash(lora: LoraFile) -> str:
    """Return the hash of the configuration beside a file, if it counts: it tells alphas and more."""
    if not lora.file.paths or not lora.configs().beside:
        return ""
    return hashlib.sha256(read_whole(lora.path.parent / CONFIG_NAME, _LARGEST_CONFIG, "a configuration")).hexdigest()


def _hash_in_memory(lora: LoraFile) -> str:
    """Return the content hash of the file that safetensors, and so ComfyUI, would write of these tensors."""
    digest = hashlib.sha256()
    for tensor in in_written_order(PlannedTensor(name, info.dtype, info.shape) for name, info in lora.file.items()):
        digest.update(byte_view(lora.file.tensor(tensor.name)))
    return digest.hexdigest()


def _short(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in found.items()}
