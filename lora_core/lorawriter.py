"""LoRA files as they are written: in the reference writer's order, with the metadata that other tools look for."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import OutputError
from .files.layout import PlannedTensor, in_written_order
from .files.placing import write_text
from .files.private import without_paths, without_private
from .files.scratch import Scratch
from .files.tensorfile import byte_view, dtype_name
from .files.tensorwriter import TensorWriter
from .lazytorch import torch
from .leftovers import told_of
from .loraconfig import CONFIG_NAME, PEFT_METADATA
from .receipt import RECEIPT
from .report import Report, described_file

# Metadata that describes the input's bytes or scales, and would be false for the output
_STALE = frozenset((
    *(RECEIPT, "modelspec.hash_sha256", "sshs_model_hash", "sshs_legacy_hash", "ss_network_alpha", PEFT_METADATA),
))  # fmt: skip
_PEFT_KEYS = frozenset((
    *("r", "lora_alpha", "network_alpha", "alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora"),
    *("peft_type", "target_modules", "exclude_modules", "lora_bias", "bias", "init_lora_weights"),
))  # fmt: skip

HASH_NAME = "sshs_model_hash"  # of all data, in hexadecimal digits


@dataclass(frozen=True, slots=True)
class PeftModule:
    """A LoRA that a PEFT configuration must tell of."""

    component: str  # `transformer`, `text_encoder`, …; empty in PEFT's own files
    module: str
    rank: int
    has_magnitude: bool
    has_bias: bool


def component_of(name: str, module: str, dialect: str) -> str:
    """Return what diffusers calls the model that a name belongs to; PEFT's files are for one model."""
    return "" if dialect == "peft" else name.removesuffix(module).removesuffix(".")


def write_lora(
    out: Path,
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str],
    inputs: Iterable[Path],
    report: Report,
    *,
    overwrite: bool,
) -> None:
    """Write a LoRA file and add it to the report's outputs."""
    plan = in_written_order(_planned(tensors))
    metadata = {**metadata, HASH_NAME: _hash(plan, tensors)}
    with TensorWriter(out, plan, metadata, overwrite=overwrite, inputs=inputs) as writer:
        for tensor in plan:
            writer.put(tensor.name, tensors[tensor.name])
        writer.commit()
    report.outputs.append(described_file(out))
    report.notes += told_of(out.parent)


def write_config(beside: Path, text: str, report: Report) -> None:
    """Write PEFT's configuration beside the file that it is for, and add it to the report's outputs."""
    path = beside.with_name(CONFIG_NAME)
    write_text(path, without_paths(text), overwrite=True)
    report.outputs.append(described_file(path))


def check_config(beside: Path, overwrite: bool) -> None:
    """Raise OutputError if the configuration must not be written."""
    path = beside.with_name(CONFIG_NAME)
    if path.exists() and not (overwrite and path.is_file()):
        raise OutputError(f"{path.name}: already exists beside {beside.name}; choose another folder or overwrite both.")


def rank_metadata(ranks: Iterable[int], alphas: Iterable[float] | None) -> dict[str, str]:
    """Return kohya's minimum set for adapters of these ranks and alphas; None: the file has no alphas."""
    alpha = {} if alphas is None else {"ss_network_alpha": _one(alphas)}
    return {
        "format": "pt",
        "ss_v2": "False",
        "ss_network_module": "networks.lora",
        "ss_network_dim": _one(ranks),
        **alpha,
        "ss_network_args": "{}",
        "modelspec.sai_model_spec": "1.0.1",
    }


def kept_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return what is still true of a file whose names and scales were changed."""
    known = without_private(metadata)
    stale = {key for key in known if key in _STALE or key.rpartition(".")[2] in _PEFT_KEYS}
    return {key: value for key, value in known.items() if key not in stale}


def peft_metadata(modules: Sequence[PeftModule]) -> dict[str, str]:
    """Return the header's entry for diffusers: the configuration of every component."""
    components = dict.fromkeys(module.component for module in modules)
    packed = {
        f"{component}.{key}" if component else key: value
        for component in components
        for key, value in peft_config([item for item in modules if item.component == component]).items()
    }
    return {PEFT_METADATA: json.dumps(packed, indent=2, sort_keys=True)}


def peft_config(modules: Sequence[PeftModule]) -> dict[str, Any]:
    """Return the LoraConfig of one model: alpha is the rank everywhere, as scales are folded into the factors."""
    rank = Counter(module.rank for module in modules).most_common(1)[0][0]
    pattern = {_pattern(item): item.rank for item in modules if item.rank != rank}
    return {
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": pattern,
        "alpha_pattern": dict(pattern),
        "target_modules": sorted(_target(item) for item in modules),
        "use_dora": any(item.has_magnitude for item in modules),
        "lora_bias": any(item.has_bias for item in modules),
    }


def peft_file_config(modules: Sequence[PeftModule], all_modules: Iterable[str]) -> str:
    """Return the text of PEFT's adapter_config.json; `all_modules` are the model's."""
    targets = {item.module for item in modules}
    others = {name for name in all_modules if name not in targets and _ends_in(name, targets)}
    config = {
        **peft_config(modules),
        **({"exclude_modules": sorted(others)} if others else {}),
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "bias": "none",
        "use_rslora": False,
    }
    return json.dumps(config, indent=2, sort_keys=True) + "\n"


def _one(values: Iterable[float]) -> str:
    several = sorted(set(values)) or [1]
    return f"{several[0]:g}" if len(several) == 1 else "Dynamic"


def _target(item: PeftModule) -> str:
    """Return a module's name; PEFT compares ends, and transformers 5 has no `text_model.` level in some encoders."""
    return item.module.removeprefix("text_model.")


def _pattern(item: PeftModule) -> str:
    """Return a pattern for exactly this module: PEFT compares the ends of names otherwise."""
    return _target(item) if item.component.startswith("text_encoder") else f"^{item.module}"


def _ends_in(name: str, targets: set[str]) -> bool:
    tokens = name.split(".")
    return any(".".join(tokens[place:]) in targets for place in range(1, len(tokens)))


def _planned(tensors: Mapping[str, torch.Tensor]) -> list[PlannedTensor]:
    if isinstance(tensors, Scratch):
        return tensors.planned()
    return [PlannedTensor(name, dtype_name(tensor.dtype), tuple(tensor.shape)) for name, tensor in tensors.items()]


def _hash(plan: Sequence[PlannedTensor], tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in plan:
        digest.update(byte_view(tensors[tensor.name]))
    return digest.hexdigest()


def lora_size(plan: Iterable[PlannedTensor], metadata: Mapping[str, str]) -> int:
    """Return the bytes of the LoRA file of these tensors: header, padding and data."""
    header: dict[str, Any] = {"__metadata__": {**metadata, HASH_NAME: "0" * 64}}
    offset = 0
    for tensor in in_written_order(plan):
        end = offset + tensor.nbytes
        header[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8"))
    return 8 + text + -text % 8 + offset
