"""LoRA files as they are written: in the reference writer's order, with the metadata that other tools look for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files.dtypes import dtype_name
from ..files.layout import PlannedTensor, header_text, in_written_order
from ..files.leftovers import told_of
from ..files.private import without_private
from ..files.scratch import Scratch
from ..files.tensorfile import byte_view
from ..files.tensorwriter import TensorWriter
from ..lazytorch import torch
from ..reading.loraconfig import PEFT_METADATA
from ..receipts.receipt import RECEIPT
from ..report import Report, described_file

# Metadata that describes the input's bytes or scales, and would be false for the output
_STALE = frozenset((
    *(RECEIPT, "modelspec.hash_sha256", "sshs_model_hash", "sshs_legacy_hash", "ss_network_alpha", PEFT_METADATA),
))  # fmt: skip
_PEFT_KEYS = frozenset((
    *("r", "lora_alpha", "network_alpha", "alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora"),
    *("peft_type", "target_modules", "exclude_modules", "lora_bias", "bias", "init_lora_weights"),
))  # fmt: skip

HASH_NAME = "sshs_model_hash"  # of all data, in hexadecimal digits


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


def _one(values: Iterable[float]) -> str:
    several = sorted(set(values)) or [1]
    return f"{several[0]:g}" if len(several) == 1 else "Dynamic"


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
    text = len(header_text(header))
    return 8 + text + -text % 8 + offset
