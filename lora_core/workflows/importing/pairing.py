"""Which loader for a model takes over a loader for a text encoder: of the same LoRAs, and not wired to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from .model import FoundNode, RowValue

MOST_STEPS = 1_000_000  # along wires, for all pairs of a level


class Pairing:
    """The loaders for models that no encoder's loader has been given to yet, and what hangs on what."""

    def __init__(
        self, nodes: Iterable[FoundNode], models: Iterable[FoundNode], rows: Mapping[str, list[RowValue]]
    ) -> None:
        self._above = {str(node.id): [str(source.node) for source in node.wired.values()] for node in nodes}
        self._taken_over: dict[str, str] = {}  # the loader of an encoder -> that of the model
        self._rows, self._steps = rows, 0
        self._free: dict[int, dict[str, FoundNode]] = {}  # by mode
        self._same: dict[tuple[int, tuple[str, ...]], dict[str, FoundNode]] = {}  # by mode and names
        for node in models:
            self._free.setdefault(node.mode, {})[str(node.id)] = node
            self._same.setdefault((node.mode, self._names(node)), {})[str(node.id)] = node

    def take(self, encoder: FoundNode) -> FoundNode | None:
        """Return the loader of the same LoRAs, or the only one there is, and take it; None if none is fitting."""
        same = self._same.get((encoder.mode, self._names(encoder)), {})
        model = next(self._fitting(same.values(), encoder), None)
        if model is None:
            others = self._fitting(self._free.get(encoder.mode, {}).values(), encoder)
            model = next(others, None)
            model = None if next(others, None) is not None else model
        if model is not None:
            del self._free[model.mode][str(model.id)]
            del self._same[model.mode, self._names(model)][str(model.id)]
            self._above[str(model.id)] = [*self._above[str(model.id)], *self._above[str(encoder.id)]]
            self._taken_over[str(encoder.id)] = str(model.id)
        return model

    def _names(self, node: FoundNode) -> tuple[str, ...]:
        return tuple(one["name"] for one in self._rows[str(node.id)])

    def _fitting(self, models: Iterable[FoundNode], encoder: FoundNode) -> Iterator[FoundNode]:
        for model in models:
            if not self._is_above(model, encoder) and not self._is_above(encoder, model):
                yield model

    def _is_above(self, above: FoundNode, below: FoundNode) -> bool:
        """Return whether a node gets something from another; where that takes too long to tell, it may."""
        waiting, seen = [str(below.id)], {str(below.id)}
        while waiting and self._steps < MOST_STEPS:
            self._steps += 1
            for source in self._above.get(waiting.pop(), ()):
                key = self._taken_over.get(source, source)
                if key == str(above.id):
                    return True
                if key not in seen:
                    seen.add(key)
                    waiting.append(key)
        return self._steps >= MOST_STEPS
