"""The size of a LoRA file, known before it is written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from .tensorheader import DTYPES
from .tensorwriter import PlannedTensor

HASH_NAME = "sshs_model_hash"  # of all data, in hexadecimal digits


def in_written_order(plan: Iterable[PlannedTensor]) -> list[PlannedTensor]:
    """Return the tensors aligned, as the reference writer orders them."""
    return sorted(plan, key=lambda tensor: (-DTYPES[tensor.dtype][0], tensor.name))


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
