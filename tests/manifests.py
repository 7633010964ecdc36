"""Reads tests/data: what real checkpoints, trainers and tiny models contain, as names, shapes and number formats.

What these functions return is shared between tests: read it, never change it.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
SUFFIX = ".json.gz"

Shape = tuple[int, ...]
Tensors = dict[str, tuple[str, Shape]]  # name: (number format as safetensors spells it, shape)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One architecture as its files hold it."""

    arch: str
    keys: dict[str, Shape]  # as on disk, with prefix
    prefix: str
    other_prefixes: tuple[str, ...]  # also in use for the same model
    renames: dict[str, str]  # key on disk: key inside ComfyUI, where they differ
    diffusers_keys: dict[str, Shape]  # empty where diffusers has no such model, and for text encoders
    detected_class: str | None  # ComfyUI's class; None for text encoders
    comfy_prefix: str  # text encoders: the prefix inside ComfyUI
    aio_prefix: str  # text encoders: the prefix in an all-in-one checkpoint of SD3 and later
    edition: str  # what the keys tell: another model's id if they are the same as its keys


@dataclass(frozen=True, slots=True)
class Alias:
    """Where ComfyUI sends one module name of a LoRA file."""

    key: str
    span: tuple[int, int, int] | None = None  # dim, start, length: the rows of a fused weight
    function: str | None = None  # swap_scale_shift: the halves along dim 0 change places


@dataclass(frozen=True, slots=True)
class TrainerFile:
    """What one trainer writes for one architecture."""

    name: str
    trainer: str
    arch: str
    how: str
    constructed: bool  # made from a naming rule, not saved by the trainer's own code
    metadata: dict[str, str]
    tensors: Tensors
    dialect: str  # of its names, "" if the file's name tells
    kind: str  # that its modules are, likewise


def archs() -> list[str]:
    """Names for `checkpoint`, text encoders included."""
    return _names("checkpoints")


@cache
def checkpoint(arch: str) -> Checkpoint:
    data = _load("checkpoints", arch)
    return Checkpoint(
        arch,
        _shapes(data["keys"]),
        data["prefix"],
        tuple(data.get("other_prefixes", ())),
        data.get("comfy_internal_renames") or {},
        _shapes(data.get("diffusers_keys") or {}),
        data.get("detected_class"),
        data.get("comfy_prefix", ""),
        data.get("aio_prefix", ""),
        data.get("edition", arch.removeprefix("te_")),
    )


def alias_archs() -> list[str]:
    """Names for `aliases` and `target_shapes`; `te_<model>` is the set of text encoders that goes with a model."""
    return _names("lora_keys")


@cache
def aliases(arch: str) -> dict[str, Alias]:
    """Every module name that ComfyUI accepts for this model, and where it goes."""
    return {name: _alias(target) for name, target in _load("lora_keys", arch)["aliases"].items()}


@cache
def target_shapes(arch: str) -> dict[str, Shape]:
    """Shapes of the weights inside ComfyUI, which the targets of `aliases` name."""
    return _shapes(_load("lora_keys", arch)["target_shapes"])


def trainers(arch: str | None = None) -> list[str]:
    """Names for `trainer`, of one architecture or of all."""
    return [name for name in _names("trainers") if arch is None or name.split("-", 1)[1] == arch]


@cache
def trainer(name: str) -> TrainerFile:
    data = _load("trainers", name)
    return TrainerFile(
        name,
        data["trainer"],
        data["arch"],
        data["how"],
        data.get("constructed", False),
        data["metadata"],
        _tensors(data["tensors"]),
        data.get("dialect", ""),
        data.get("kind", ""),
    )


def tiny_models() -> list[str]:
    return _names("tiny")


@cache
def tiny(model: str) -> Tensors:
    """Tensors of the smallest model of a family that the real ComfyUI loads and samples."""
    return _tensors(_load("tiny", model)["keys"])


def tiny_config(model: str) -> dict[str, Any]:
    """The sizes that stand in a tiny model's header; empty where its shapes tell them, or ComfyUI has no others."""
    return _load("tiny", model).get("config", {})


def tiny_folder(model: str) -> str:
    """The ComfyUI models folder that a tiny model belongs in."""
    return _load("tiny", model)["folder"]


def _names(folder: str) -> list[str]:
    return sorted(path.name.removesuffix(SUFFIX) for path in (DATA / folder).glob("*" + SUFFIX))


@cache
def _load(folder: str, name: str) -> dict[str, Any]:
    return json.loads(gzip.decompress((DATA / folder / (name + SUFFIX)).read_bytes()))


def _shapes(raw: dict[str, list[int]]) -> dict[str, Shape]:
    return {key: tuple(shape) for key, shape in raw.items()}


def _tensors(raw: dict[str, list[Any]]) -> Tensors:
    return {key: (dtype, tuple(shape)) for key, (dtype, shape) in raw.items()}


def _alias(target: str | list[Any]) -> Alias:
    if isinstance(target, str):
        return Alias(target)
    key, span, *function = target
    return Alias(key, tuple(span) if span else None, *function)


def workflows() -> list[str]:
    """Names of the files of workflows, one for each pack."""
    return sorted(path.stem for path in (DATA / "workflows").glob("*.json"))


def workflow(name: str) -> dict[str, Any]:
    """Return a workflow by its file's name and its form, `comfyroll_editor` or `comfyroll_api`; yours to change."""
    pack, _, form = name.rpartition("_")
    return _workflow_file(pack)[form]


def workflow_forms(pack: str) -> list[str]:
    """Names for `workflow`, in their order."""
    return [f"{pack}_{form}" for form in ("api", "editor") if form in _workflow_file(pack)]


def workflow_rows(pack: str) -> dict[str, list[list[Any]]]:
    """Return the rows that each Stack LoRAs has after the conversion: name, on, strength, text encoder's strength."""
    return _workflow_file(pack).get("rows", {})


def _workflow_file(pack: str) -> dict[str, Any]:
    return json.loads((DATA / "workflows" / f"{pack}.json").read_text("utf-8"))
