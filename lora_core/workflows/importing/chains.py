"""Straight chains of ComfyUI's own loaders: each gets the model from the one before, and nothing else hangs on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .model import BYPASSED, FoundNode, Graph, NodeId, RowValue, WireSource, row
from .shapes import BUILTIN, MODEL_ONLY

_WIDGETS = {BUILTIN: ("lora_name", "strength_model", "strength_clip"), MODEL_ONLY: ("lora_name", "strength_model")}


@dataclass(frozen=True, slots=True)
class Chain:
    """Loaders in the order in which they change the model."""

    nodes: tuple[FoundNode, ...]

    @property
    def encoders(self) -> list[FoundNode]:
        """Those that change the text encoder too."""
        return [node for node in self.nodes if node.type == BUILTIN]

    @property
    def mode(self) -> int:
        """The mode of all, or 0 for a chain with some loaders bypassed: these are rows switched off."""
        modes = {node.mode for node in self.nodes}
        return modes.pop() if len(modes) == 1 else 0

    def sources(self) -> dict[str, WireSource]:
        found = {"model": self.nodes[0].wired.get("model")}
        found["clip"] = self.encoders[0].wired.get("clip") if self.encoders else None
        return {name: source for name, source in found.items() if source}

    def rows(self) -> list[RowValue]:
        mode = self.mode
        return [row_of_loader(node, on=node.mode == mode) for node in self.nodes]


def is_loader(node: FoundNode) -> bool:
    return node.type in _WIDGETS


def find_chains(graph: Graph, chosen: Iterable[FoundNode]) -> list[Chain]:
    """Return the longest straight chains that are made of `chosen` loaders, one of a single loader included."""
    loaders = {str(node.id): node for node in chosen}
    followers = {key: _follower(graph, node, loaders) for key, node in loaders.items()}
    heads = loaders.keys() - {str(node.id) for node in followers.values() if node}
    return [_chain(graph, node, followers) for key, node in loaders.items() if key in heads]


def _chain(graph: Graph, head: FoundNode, followers: dict[str, FoundNode | None]) -> Chain:
    nodes = [head]
    while following := followers[str(nodes[-1].id)]:
        nodes.append(following)
    return Chain(tuple(nodes))


def _follower(graph: Graph, node: FoundNode, loaders: dict[str, FoundNode]) -> FoundNode | None:
    """Return the loader after `node`, if it alone gets the model, and its text encoder has come the same way."""
    taker = _only_taker(graph, node, 0)
    following = loaders.get(str(taker[0])) if taker and taker[1] == "model" else None
    if following is None or not _switchable(node.mode, following.mode):
        return None
    return following if _same_way(graph, node, following, loaders) else None


def _switchable(one: int, other: int) -> bool:
    """Return whether two loaders can be rows of one stack: a bypassed one is switched off."""
    return one == other or {one, other} == {0, BYPASSED}


def _same_way(graph: Graph, node: FoundNode, following: FoundNode, loaders: dict[str, FoundNode]) -> bool:
    """Return whether `following` alone takes the text encoder of the last loader before it that has one."""
    if following.type == MODEL_ONLY:
        return True
    last: FoundNode | None = node
    while last is not None and last.type == MODEL_ONLY:
        source = last.wired.get("model")
        last = loaders.get(str(source.node)) if source else None
        last = last if last and _only_taker(graph, last, 0) else None
    if last is None:  # model-only loaders before it: its text encoder is the first of the chain
        return True
    source = following.wired.get("clip")
    return source is not None and source.same(last.id, 1) and _only_taker(graph, last, 1) is not None


def _only_taker(graph: Graph, node: FoundNode, slot: int) -> tuple[NodeId, str] | None:
    """Return who gets an output, and at which input, if nobody else does."""
    return graph.consumers(node.id, slot)[0] if graph.takers(node.id, slot) == 1 else None


def row_of_loader(node: FoundNode, *, on: bool) -> RowValue:
    """Return the row that says what a loader does. Raises LoraError for a strength that is no number."""
    named = node.values.named(_WIDGETS[node.type])
    clip = named.get("strength_clip", 1.0) if node.type == BUILTIN else 0.0
    return row(named.get("lora_name", ""), named.get("strength_model", 1.0), clip, on=on, where="lora_name")
