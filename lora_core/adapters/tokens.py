"""Trained tokens: rows of an embedding that take the place of the model's own, as PEFT saves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from .peft import PeftAdapter, with_dimensions
from .shapes import Shape, Shapes
from .spelling import Part, suffix_rows
from .stored import Told

_OPTIONS = ("token_indices", "trainable_token_indices")  # of its own configuration, of a LoRA's


@dataclass(frozen=True, slots=True)
class TrainedTokens(PeftAdapter):
    """delta moves the rows to their new values, whatever they are."""

    rows: torch.Tensor  # (tokens, width)
    tokens: tuple[int, ...]

    id: ClassVar[str] = "tokens"
    kind: ClassVar[str] = "trained tokens"
    suffixes: ClassVar[tuple[Part, ...]] = suffix_rows(
        "tokens", "rows", ".trainable_tokens_delta", ".token_adapter.trainable_tokens_delta"
    )

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        (rows,) = with_dimensions(shapes, 2, "rows")
        return (0, rows[1])

    @classmethod
    def fits(cls, shapes: Shapes, weight: Shape, **settings: Any) -> bool:
        return len(weight) == 2 and weight[1] == shapes["rows"][1] and max(settings["tokens"]) < weight[0]

    @classmethod
    def settings_of(cls, shapes: Shapes, told: Told) -> dict[str, Any]:
        found = next((value for name in _OPTIONS if (value := told.option(name)) is not None), None)
        if isinstance(found, Mapping):
            found = _of_module(found, told.module)
        if not isinstance(found, Sequence) or not all(type(token) is int and token >= 0 for token in found):
            raise AdapterError(f"PEFT's configuration does not say which tokens its {shapes['rows'][0]} rows are")
        if len(found) != shapes["rows"][0] or len(set(found)) != len(found):
            raise AdapterError(f"holds {shapes['rows'][0]} rows, and its configuration lists {len(set(found))} tokens")
        return {"tokens": tuple(found)}

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> TrainedTokens:
        return cls(parts["rows"], settings["tokens"])

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        change = torch.zeros_like(weight, dtype=torch.float32)
        tokens = torch.tensor(self.tokens, dtype=torch.int64, device=weight.device)
        change[tokens] = self.rows.float() - weight[tokens].float()
        return change

    def cut(self, start: int, length: int, total: int) -> TrainedTokens:
        inside = [at for at, token in enumerate(self.tokens) if start <= token < start + length]
        return TrainedTokens(self.rows[inside], tuple(self.tokens[at] - start for at in inside))


def _of_module(found: Mapping[str, Any], module: str) -> Any:
    """Return the value of the longest name that the module's ends with."""
    names = (name for name in found if f".{module}".endswith(f".{name}"))
    return found.get(max(names, key=len, default=""))
