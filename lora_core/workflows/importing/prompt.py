"""An API prompt as a graph: nodes by id, their inputs values or [node, output]."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .model import FoundNode, Values, WireSource
from .shapes import SHAPES


class PromptGraph:
    """Changes the prompt that it is given; `taken` are ids beside its own that a new node must not get."""

    has_modes = False

    def __init__(self, prompt: dict[str, Any], titles: Mapping[str, str], taken: Iterable[str] = ()) -> None:
        self._prompt, self._titles = prompt, titles
        ids = (*prompt, *taken)
        self._last = max((int(key) for key in ids if key.isdecimal() and len(key) < 16), default=0)
        # node -> its output -> (taker, the taker's input)
        self._takers: dict[str, dict[int, dict[tuple[str, str], None]]] = {}
        for node_id, node in prompt.items():
            self._note(node_id, node)

    def nodes(self) -> list[FoundNode]:
        return [self._found(node_id, node) for node_id, node in self._prompt.items()]

    def node(self, node: int | str) -> FoundNode:
        return self._found(str(node), self._prompt[str(node)])

    def _found(self, node_id: str, node: Mapping[str, Any]) -> FoundNode:
        inputs: Mapping[str, Any] = node.get("inputs") or {}
        wired = {name: source for name, value in inputs.items() if (source := as_source(value))}
        values = {name: value for name, value in inputs.items() if name not in wired}
        listed = node.get("widgets_values")  # of a flattened workflow, in which only the page could name them
        return FoundNode(node_id, node["class_type"], Values(listed if isinstance(listed, list) else (), values), wired)

    def consumers(self, node: int | str, slot: int) -> list[tuple[int | str, str]]:
        return list(self._takers.get(str(node), {}).get(slot, ()))

    def takers(self, node: int | str, slot: int) -> int:
        return len(self._takers.get(str(node), {}).get(slot, ()))

    def _note(self, node_id: str, node: Mapping[str, Any]) -> None:
        for name, value in (node.get("inputs") or {}).items():
            if source := as_source(value):
                self._take(node_id, name, source)

    def _take(self, node_id: str, name: str, source: WireSource) -> None:
        self._takers.setdefault(str(source.node), {}).setdefault(source.slot, {})[node_id, name] = None

    def _forget(self, node_id: str, names: Iterable[str]) -> None:
        for name in names:
            if source := as_source(self._prompt[node_id].get("inputs", {}).get(name)):
                self._takers.get(str(source.node), {}).get(source.slot, {}).pop((node_id, name), None)

    def add(
        self,
        node_type: str,
        values: Mapping[str, Any],
        sources: Mapping[str, WireSource],
        near: int | str,
        *,
        take: bool,
    ) -> str:
        self._last += 1
        self._put(str(self._last), self._made(node_type, values, sources, self._prompt[str(near)]))
        return str(self._last)

    def _put(self, node_id: str, node: dict[str, Any]) -> None:
        self._prompt[node_id] = node
        self._note(node_id, node)

    def become(
        self,
        node: int | str,
        node_type: str,
        values: Mapping[str, Any],
        sources: Mapping[str, WireSource],
        outputs: Mapping[int, WireSource | None],
    ) -> None:
        takers = [(taker, slot) for slot, takers in self._takers.get(str(node), {}).items() for taker in takers]
        made = self._made(node_type, values, sources, self._prompt[str(node)])
        self._forget(str(node), self._prompt[str(node)].get("inputs") or {})
        self._put(str(node), made)
        for (target, name), slot in takers:
            self._wire(target, name, outputs.get(slot))

    def _made(
        self, node_type: str, values: Mapping[str, Any], sources: Mapping[str, WireSource], like: Mapping[str, Any]
    ) -> dict[str, Any]:
        inputs = {**SHAPES[node_type].widgets, **values}
        inputs |= {name: [str(source.node), source.slot] for name, source in sources.items()}
        title = (like.get("_meta") or {}).get("title")
        usual = not title or title in (like["class_type"], self._titles.get(like["class_type"]))
        meta = {**(like.get("_meta") or {}), "title": SHAPES[node_type].title if usual else title}
        return {"inputs": inputs, "class_type": node_type, "_meta": meta}

    def move(self, old: tuple[int | str, int], new: WireSource | None) -> None:
        for target, name in self.consumers(*old):
            self._wire(str(target), name, new)

    def _wire(self, target: str, name: str, source: WireSource | None) -> None:
        inputs: dict[str, Any] = self._prompt[target]["inputs"]
        self._forget(target, (name,))
        if source is None:
            inputs.pop(name, None)
        else:
            inputs[name] = [str(source.node), source.slot]
            self._take(target, name, source)

    def remove(self, node: int | str) -> None:
        self._forget(str(node), self._prompt[str(node)].get("inputs") or {})
        del self._prompt[str(node)]

    def set_mode(self, node: int | str, mode: int) -> None:
        raise NotImplementedError("a prompt has no bypassed nodes")

    def finish(self) -> None:
        pass  # the prompt itself was changed


def as_source(value: Any) -> WireSource | None:
    """Return the wire that an input's value is, or None for a value."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], (str, int)) and type(value[1]) is int:  # pyright: ignore
        return WireSource(value[0], value[1])  # pyright: ignore
    return None
