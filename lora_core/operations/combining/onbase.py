"""Changes that depend on the weight: what the stack makes of the base's own weights, in stack order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from ...adapters import KINDS, DoRA
from ...errors import AdapterError, OptionError
from ...lazytorch import torch
from ...reading.checkpoint import Checkpoint
from ...stack.apply import apply_stack
from ...stack.matching import PlacedSpec, match_lora
from ...writing.plan import Slot
from .changes import depends_on_weight
from .members import Contribution, Member, StackedLayer


@dataclass
class OnBase:
    """The weights of `base`, and the members' adapters on each of them."""

    base: Checkpoint | None
    members: Sequence[Member]
    _known: dict[tuple[str, tuple[float | None, ...]], torch.Tensor] = field(default_factory=dict)

    def change(self, layer: StackedLayer, strengths: Sequence[float | None]) -> torch.Tensor:
        """Return W' - W of a layer in fp32, each member at its strength, None for its own; 0 leaves it out.

        Raises OptionError without a base that has the weight.
        """
        if self.base is None or not (targets := self.base.keymap.find(layer.slot.name, layer.slot.param)):
            raise self._missing(layer)
        pieces = [target.take(self._difference(target.key, tuple(strengths))) for target in targets]
        return torch.cat(pieces).reshape(layer.slot.shape)

    def norm(self, slot: Slot) -> float | None:
        """Return |W|_F of a layer's weight, None without a base that has it."""
        targets = self.base.keymap.find(slot.name, slot.param) if self.base else ()
        if self.base is None or not targets:
            return None
        squares = (float(target.take(self.base.tensor(target.key)).double().square().sum()) for target in targets)
        return sum(squares) ** 0.5

    @cached_property
    def _by_key(self) -> dict[str, list[tuple[int, PlacedSpec]]]:
        """Every adapter on each weight of the base, in stack order."""
        assert self.base is not None
        found: dict[str, list[tuple[int, PlacedSpec]]] = {}
        for member in self.members:
            changing: dict[str, bool] = {}
            strengths = member.item.strengths_on(self.base.keymap)
            for spec, target in match_lora(member.lora, self.base.keymap).places:
                placed = PlacedSpec(member.lora, spec, target, strengths.at(target), member.report, changing)
                found.setdefault(target.key, []).append((member.index, placed))
        return found

    def _difference(self, key: str, strengths: tuple[float | None, ...]) -> torch.Tensor:
        """Return the whole weight's change; the last is kept, as the pieces of a fused weight follow one another."""
        if (key, strengths) not in self._known:
            self._known.clear()
            assert self.base is not None
            weight = self.base.tensor(key).float()
            placed = [
                replace(one, strength=one.strength if (own := strengths[index]) is None else own).read()
                for index, one in self._by_key.get(key, ())
                if strengths[index] != 0
            ]
            result = apply_stack(weight, placed)
            if result.shape != weight.shape:
                raise AdapterError(
                    f"{key}: an adapter that makes the weight larger can't be combined with DoRA or OFT."
                )
            self._known[key, strengths] = result - weight
        return self._known[key, strengths]

    def _missing(self, layer: StackedLayer) -> OptionError:
        part: Contribution = next((part for part in layer.parts if depends_on_weight(part)), layer.parts[0])
        kind = DoRA.kind if part.spec.magnitude is not None else KINDS[part.spec.kind].kind
        which = f"; {self.base.name} does not have it" if self.base else ""
        return OptionError(
            f"{part.where}: the change of {kind} depends on the weight{which}. To combine it, give the model that the "
            "LoRAs are for with --base (input base)."
        )
