"""All adapters that a stack has for one weight, as a patch that ComfyUI's ModelPatcher holds and LoRA Core computes.

One patch per weight carries them all, so the live weight comes from the same function as the merged file's. Facts about
the host that this relies on: a patch is rebuilt as `type(patch)(loaded_keys, weights)` when tensors move between
devices, so everything sits in `weights`, nested tuples of tensors and plain values.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from ...lora_core.adapters import unpacked
from ...lora_core.options import Semantics
from ...lora_core.stack.apply import Placed, apply_stack
from ...lora_core.stack.matching import PlacedSpec
from ..hostmodels import WeightAdapterBase


class KeyStack(WeightAdapterBase):
    """All adapters that a stack has for one weight."""

    name = "lora_core"

    def __init__(self, loaded_keys: set[str], weights: tuple[Any, ...]) -> None:
        self.loaded_keys = loaded_keys
        self.weights = weights

    @classmethod
    def of(cls, placed: Iterable[PlacedSpec], semantics: Semantics) -> KeyStack:
        """Return the patch of adapters that are in memory; raises AdapterError for NaN or infinity."""
        stack = tuple((one.lora.packed(one), one.target, one.strength, one.spec.module) for one in placed)
        return cls({name for *_, name in stack}, (semantics, stack))

    @property
    def role(self) -> str:
        """Whose weight it is."""
        return self.weights[1][0][1].role

    def calculate_shape(self, key: str) -> tuple[int, ...] | None:
        """Return the shape that the weight is padded to, for the host to make room for it; None if it keeps its own."""
        adapters = [unpacked(adapter) for adapter, _, strength, _ in self.weights[1] if strength != 0]
        return next((adapter.new_shape for adapter in reversed(adapters) if adapter.new_shape is not None), None)

    def calculate_weight(
        self,
        weight: Any,
        key: str,
        strength: float,
        strength_model: float,
        offset: Any,
        function: Any,
        intermediate_dtype: Any = None,
        original_weight: Any = None,
    ) -> Any:
        """Return the weight with the stack applied: in fp32 where the host rounds afterwards, else in its dtype.

        The host asks for fp32 when it loads a model, and rounds into the storage dtype itself. In low-VRAM mode it
        asks for the weight's own dtype at every use, and feeds the result to the layer as it is. The weight is a copy
        that is the patch's to change, as the host's own adapters do.
        """
        semantics, stack = self.weights
        placed = [
            Placed(unpacked(adapter), target, adapter_strength * strength, name)
            for adapter, target, adapter_strength, name in stack
        ]
        is_wanted = weight.dtype in (torch.float32, intermediate_dtype)
        return apply_stack(weight, placed, semantics, out=weight if is_wanted else None)

    def h(self, x: Any, base_out: Any) -> Any:
        raise RuntimeError("LoRA Core: bypass mode is not supported; use Load LoRA, which has a live mode of its own.")
