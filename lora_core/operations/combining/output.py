"""The tensors of the new LoRA, layer by layer, and what the report says of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...adapters.parts import Parts
from ...algebra.rounding import round_to
from ...algebra.svd import Svd
from ...lazytorch import torch
from ...naming.blocks import block_in
from ...naming.dialects import Writing
from ...report import Report
from ...text import counted, some_names
from ...writing.converter import Made
from ...writing.layers import Ranked, Truncation, WrittenLayer
from ...writing.names import lora_suffixes
from ...writing.parts import spelled
from ...writing.plan import Slot
from .concatenated import Joined
from .members import StackedLayer

EXACT = 1.0  # share of the squared change that is kept
EXACT_LOSS = 1e-9  # what rounding in the fit of an exact rank may leave


@dataclass(frozen=True, slots=True)
class StoredDifference:
    """A change that is stored as it is."""

    tensor: torch.Tensor  # in the layer's shape
    kind: str  # full or norm


# What becomes of a layer: an exact sum, singular values of which a rule takes some, a difference, or an adapter that
# keeps its kind; None if the change is zero
Result = Joined | Svd | StoredDifference | Made | None


@dataclass(slots=True)
class Output:
    """Collects what becomes of the layers; `finish` returns what to write."""

    truncation: Truncation
    writing: Writing
    dtype: torch.dtype  # of all tensors but alphas
    report: Report
    magnitudes: set[str] = field(default_factory=set)  # names of layers that are DoRA
    alphas: dict[str, float] = field(default_factory=dict)  # of layers whose alpha is not their rank
    empty: list[str] = field(default_factory=list)  # layers whose change is zero
    rounded: int = 0  # layers with values that the dtype does not hold
    _vectors: list[tuple[Slot, torch.Tensor]] = field(default_factory=list)

    def layer(self, layer: StackedLayer, weight_norm: float | None = None) -> WrittenLayer:
        slot = layer.slot
        return WrittenLayer(
            name=slot.name,
            module=slot.module,
            block=block_in(slot.component, slot.module),
            shape=layer.shape,
            suffixes=lora_suffixes(self.writing, slot.name),
            has_alpha=self.writing.has_alpha,
            weight_norm=weight_norm,
            was=kinds_of(layer),
        )

    def put(self, layer: StackedLayer, result: Result, weight_norm: float | None = None) -> None:
        """Take what becomes of a layer; `weight_norm` is of its weight, where the rule asks for it."""
        if isinstance(result, Joined):
            self._put_joined(layer, result)
        elif isinstance(result, Made):
            self._put_made(layer, result)
        elif isinstance(result, StoredDifference) and bool(result.tensor.any()):
            self._put_difference(layer, result)
        elif isinstance(result, Svd) and len(result.values) and result.total:
            shape = torch.tensor(layer.shape)
            is_grown = layer.shape != layer.slot.shape and self.writing.has_alpha
            beside = {f"{layer.slot.name}.reshape_weight": shape} if is_grown else None
            self.truncation.add(self.layer(layer, weight_norm), result, beside)
        else:
            self.empty.append(layer.slot.name)

    def _put_joined(self, layer: StackedLayer, joined: Joined) -> None:
        shape, norm = layer.shape, joined.norm()
        joined = joined if joined.is_untouched else self._folded(joined)
        ones = (1,) * (len(shape) - 2)
        fields = {
            "up": joined.up.reshape(*joined.up.shape, *ones),
            "down": joined.down.reshape(joined.rank, *shape[1:]),
        }
        grown = shape if shape != layer.slot.shape else None
        self._put(layer.slot, Parts("lora", fields, joined.scale, joined.rank, new_shape=grown))
        self.alphas[layer.slot.name] = joined.scale * joined.rank
        self._describe(layer, joined.rank, EXACT, norm)

    def _folded(self, joined: Joined) -> Joined:
        """Put the scale into the factors, so that alpha is the rank, unless that rounds what nothing else does.

        diffusers mistakes alphas of kohya's names that differ from layer to layer.
        """
        up = joined.up.float() * joined.scale
        is_exact = self.dtype == torch.float32 or torch.equal(up.to(self.dtype).float(), up)
        return replace(joined, up=up, scale=1.0) if is_exact else joined

    def _put_difference(self, layer: StackedLayer, found: StoredDifference) -> None:
        if layer.is_vector and not self.writing.has_alpha:
            self._vectors.append((layer.slot, found.tensor))
        else:
            self._put(layer.slot, Parts(found.kind, {"diff": found.tensor}))
            self._describe(layer, None, EXACT, float(torch.linalg.vector_norm(found.tensor)))

    def _put_made(self, layer: StackedLayer, made: Made) -> None:
        if made.parts.magnitude is not None and not made.parts.magnitude_of_input:
            self.magnitudes.add(layer.slot.name)
        if made.parts.rank:
            self.alphas[layer.slot.name] = made.parts.scale * made.parts.rank
        self._put(layer.slot, made.parts)
        self._describe(layer, made.parts.rank, max(0.0, EXACT - made.error**2), 0.0)

    def layers_with(self, ranked: Sequence[Ranked]) -> list[Mapping[str, Any]]:
        """Return what metadata is made of if these layers get these ranks."""
        new = [{"name": item.layer.name, "module": item.layer.module, "rank": item.rank} for item in ranked]
        names = {item["name"] for item in new}
        return [*(layer for layer in self.report.layers if layer["name"] not in names), *new]

    def finish(self) -> Mapping[str, torch.Tensor]:
        """Decide the ranks that wait, and return all tensors."""
        tensors = self.truncation.finish()
        self._put_biases()
        return tensors

    def say(self, method: str) -> None:
        """Tell the report what was made, and what was lost."""
        layers, notes = self.report.layers, self.report.notes
        ranks = [layer["rank"] for layer in layers if layer["rank"]]
        low, high = (min(ranks), max(ranks)) if ranks else (0, 0)
        notes.append(f"{method}; {counted(layers, 'layer')}, rank {low}" + ("" if low == high else f" to {high}"))
        share, name, most = lost(layers)
        if share > EXACT_LOSS:
            notes.append(f"lost {share:.2%} of the squared change in all, at most {most:.2%} in a layer ({name})")
        if self.rounded:
            step = torch.finfo(self.dtype).eps / 2
            notes.append(
                f"{self.rounded} layers rounded to {str(self.dtype).removeprefix('torch.')}, each value by "
                f"{step:.2%} at most; dtype fp32 rounds nothing"
            )
        if self.empty:
            notes.append(f"{counted(self.empty, 'layer')} without effect left out: {some_names(self.empty)}")
        if self.truncation.clamped:
            self.report.warnings.append(
                f"{self.truncation.clamped} values were beyond the range of the written number format and were clamped."
            )

    def _put_biases(self) -> None:
        """PEFT and diffusers read a bias beside a LoRA, if all LoRAs have one, and no other vector."""
        layers = {layer["name"] for layer in self.report.layers if layer["rank"]}
        biases = [(slot, value) for slot, value in self._vectors if slot.param == "bias" and slot.name in layers]
        if {slot.name for slot, _ in biases} == layers:
            for slot, value in biases:
                self._put(slot, Parts("bias", {"diff": value}))
                self._describe(StackedLayer(slot), None, EXACT, float(torch.linalg.vector_norm(value)))
        else:
            biases = []
        kept = {(slot.name, slot.param) for slot, _ in biases}
        others = [f"{s.name}.{s.param}" for s, _ in self._vectors if (s.name, s.param) not in kept]
        if others:
            self.report.warnings.append(
                f"{counted(others, 'change')} of biases and norms left out, which {self.writing.id} does not read: "
                f"{some_names(others)}."
            )

    def _put(self, slot: Slot, parts: Parts) -> None:
        was_rounded = False
        for name, tensor in spelled(parts, slot.name, slot.param, slot.shape, self.writing).items():
            if tensor.is_floating_point() and not name.endswith(".alpha"):
                rounded, beyond = round_to(tensor.float(), self.dtype)
                self.truncation.clamped += beyond
                was_rounded = was_rounded or not torch.equal(rounded.float(), tensor.float())
                self.truncation.keep(name, rounded)
            else:
                self.truncation.keep(name, tensor)
        self.rounded += was_rounded

    def _describe(self, layer: StackedLayer, rank: int | None, energy: float, norm: float) -> None:
        slot, was = layer.slot, kinds_of(layer)
        entry: dict[str, Any] = {
            "name": slot.name, "block": block_in(slot.component, slot.module), "module": slot.module, "rank": rank,
            "energy": energy, "norm": norm, "curve": [], "excess": 0.0,
        }  # fmt: skip
        more = {"param": slot.param} if slot.param != "weight" else {}
        self.report.layers.append({**entry, **more, **({"was": was} if was else {})})


def kinds_of(layer: StackedLayer) -> str:
    return " and ".join(dict.fromkeys(kind for part in layer.parts for kind in part.spec.kinds))


def lost(layers: Sequence[Mapping[str, Any]]) -> tuple[float, str, float]:
    """Return (lost share of the squared change, the layer that lost the largest share, that share)."""
    losses = [(max(0.0, 1.0 - layer["energy"]), layer["norm"] ** 2, str(layer["name"])) for layer in layers]
    most, _, name = max(losses)
    total = sum(size for _, size, _ in losses)
    return (sum(share * size for share, size, _ in losses) / total if total else most), name, most
