"""One adapter of a file as a target takes it."""

from __future__ import annotations

from ..adapters import Adapter, check_numbers, rows_of, tensors_of
from ..errors import AdapterError
from ..naming.targets import Target
from ..reading.adapterspec import AdapterSpec
from ..reading.lorafile import LoraFile


def placed_adapter(lora: LoraFile, spec: AdapterSpec, target: Target) -> Adapter:
    """Read an adapter's tensors, cut to the rows of its target; raises AdapterError for NaN or infinity."""
    name, adapter = f"{lora.name}: {spec.module}", lora.adapter(spec)
    if target.rows:
        first, rows = target.rows
        try:
            adapter = rows_of(adapter, first, target.shape[0], rows)
        except AdapterError as error:
            raise AdapterError(f"{name}: {error}.") from error
    check_numbers(tensors_of(adapter), name)
    return adapter
