"""VB-LoRA: factors are put together from the vectors of a bank that a file has once for all modules.

Li et al., arXiv:2405.15179, as PEFT has it: each piece is the mean of the k best vectors, weighted by a softmax of
their logits. A file may hold the k weights, without the last, in place of the logits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from .lora import LoRA
from .peft import PeftLoRA, whole_option, with_dimensions
from .shapes import Shape, Shapes
from .spelling import Part, suffix_rows
from .stored import Told


@dataclass(frozen=True, slots=True)
class VBLoRA(PeftLoRA):
    """How a file holds it; once read it is a LoRA."""

    id: ClassVar[str] = "vblora"
    kind: ClassVar[str] = "VB-LoRA"
    has_factors: ClassVar[bool] = False
    flags: ClassVar[tuple[str, ...]] = ("down_places", "up_places")
    suffixes: ClassVar[tuple[Part, ...]] = (
        *suffix_rows("vblora", "down", ".vblora_logits_A", ".vblora_logits_A_topk_weights"),  # (r, in / v, …)
        *suffix_rows("vblora", "up", ".vblora_logits_B", ".vblora_logits_B_topk_weights"),  # (out / v, r, …)
        *suffix_rows("vblora", "down_places", ".vblora_logits_A_topk_indices"),
        *suffix_rows("vblora", "up_places", ".vblora_logits_B_topk_indices"),
        *suffix_rows("vblora", "bank", ".vblora_vector_bank", shared=True),  # (vectors, v)
    )

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        down, up = with_dimensions(shapes, 3, "down", "up")
        ((vectors, length),) = with_dimensions(shapes, 2, "bank")
        places = {f"{name}_places" for name in ("down", "up")}
        listed = {name: (*shapes[name][:-1], *(size - 1 for size in shapes[name][-1:])) for name in places & {*shapes}}
        whole = listed == {"down_places": down, "up_places": up} if listed else down[2] == up[2] == vectors
        if down[0] != up[1] or not whole:
            raise AdapterError(f"A {list(down)}, B {list(up)} and {vectors} vectors do not fit each other")
        return (up[0] * length, down[1] * length)

    @classmethod
    def room(cls, shapes: Shapes, weight: Shape, **settings: Any) -> int:
        """The k vectors of each piece of the factors."""
        best = settings.get("best") or max(shapes[f"{name}_places"][2] for name in ("down", "up"))
        pieces = math.prod(shapes["down"][:2]) + math.prod(shapes["up"][:2])
        return pieces * best * shapes["bank"][1]

    @classmethod
    def settings_of(cls, shapes: Shapes, told: Told) -> dict[str, Any]:
        if "up_places" in shapes:
            return {}
        best = whole_option(told, "topk", 1)
        if best > shapes["bank"][0]:
            raise AdapterError(f"its configuration says topk: {best}, and there are {shapes['bank'][0]} vectors")
        return {"best": best}

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> LoRA:
        bank = parts["bank"].float()
        down, up = (_pieces(parts, name, bank, settings.get("best", 0)) for name in ("down", "up"))
        return LoRA(up.transpose(1, 2).flatten(0, 1), down.flatten(1), None, 1.0)


def _pieces(parts: Mapping[str, torch.Tensor], name: str, bank: torch.Tensor, best: int) -> torch.Tensor:
    """Return the mean of vectors for each piece, (…, …, v)."""
    stored = parts[name].float()
    if best:
        logits, places = stored.topk(best, dim=-1)
        weights = logits.softmax(dim=-1)
    else:
        places = parts[f"{name}_places"].long()
        weights = torch.cat((stored, 1 - stored.sum(-1, keepdim=True)), dim=-1)
    if places.numel() and (places.min() < 0 or places.max() >= len(bank)):
        raise AdapterError(f"VB-LoRA has places outside its bank of {len(bank)} vectors")
    return (weights.unsqueeze(-1) * bank[places]).sum(-2)
