"""Other packs' nodes, and chains of built-in loaders, as Stack LoRAs and Load LoRA."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from ...errors import LoraError
from ...options import LOAD, STACK
from .chains import Chain, find_chains, is_loader, row_of_loader
from .left import UNKNOWN, group_with_loras, holds_loras, wired_values
from .model import Converted, FoundNode, Graph, Peer, RowValue, WireSource
from .names import Names
from .pairing import Pairing
from .peers import PEERS, core
from .shapes import SHAPES

# Peers apply LoRAs with ComfyUI's own formulas: with these the image stays what it was
_LOAD = {"lora_name": "None", "semantics": "comfyui"}
SEMANTICS_NOTE = (
    'every Load LoRA that was made has semantics "comfyui", so that images stay the same; "paper" is better for DoRA, '
    "OFT, and files that keep alpha in their header."
)
ORDER_NOTE = (
    "its own LoRAs were applied before the wired stack, and now come after it: the same for all but DoRA and OFT."
)

_NO_MODEL = "it changes a text encoder alone, and Load LoRA needs a model: no other loader of the same LoRAs is there"


class Importer:
    """Converts the chosen nodes of one level and writes what the user should know into `result`."""

    def __init__(self, graph: Graph, names: Names, result: Converted, groups: Mapping[str, Any]) -> None:
        """`groups` are the workflow's group nodes by name: what an older page had instead of subgraphs."""
        self._graph, self._names, self._result, self._groups = graph, names, result, groups
        self._reasons: dict[str, str] = {}  # node -> why it stays
        self._done: set[str] = set()  # nodes that were converted with another

    def convert(self, wanted: Callable[[FoundNode], bool]) -> None:
        nodes = [node for node in self._graph.nodes() if wanted(node)]
        self._pairs([node for node in nodes if node.type in (core.MODEL.type, core.ENCODER.type)])
        for node in nodes:
            if (peer := PEERS.get(node.type)) and str(node.id) not in self._done:
                self._peer(peer, self._graph.node(node.id))  # its wires may have moved since
        for chain in find_chains(self._graph, [node for node in nodes if is_loader(node) and self._is_readable(node)]):
            self._chain(Chain(tuple(self._graph.node(node.id) for node in chain.nodes)))
        self._name_left({str(node.id): node for node in nodes})
        self._graph.finish()

    def _name_left(self, before: Mapping[str, FoundNode]) -> None:
        """Name every node that has to do with LoRAs and was not converted."""
        for node in self._graph.nodes():
            old = before.get(str(node.id))
            if old is None or old.type != node.type:
                continue
            reason = self._reasons.get(str(node.id)) or group_with_loras(node, self._groups)
            if reason or holds_loras(node, self._names.is_listed):
                self._note(node, f"left as it is: {reason or UNKNOWN}.")

    def _is_readable(self, node: FoundNode) -> bool:
        """Return whether a built-in loader can become a row."""
        wired = sorted(set(node.wired) - {"model", "clip"})
        if wired:
            self._reasons[str(node.id)] = wired_values(wired, node)
            return False
        return self._tried(node, lambda: [row_of_loader(node, on=True)]) is not None

    def _tried(self, node: FoundNode, read: Callable[[], list[RowValue]]) -> list[RowValue] | None:
        """Return a node's rows, or None and remember why it has none: one that can't be read stops no other."""
        try:
            return read()
        except LoraError as error:
            self._reasons[str(node.id)] = str(error).rstrip(".")
            return None

    def _peer(self, peer: Peer, node: FoundNode) -> None:
        if peer.role == "encoder":
            return
        if wired := peer.wired_values(node):
            self._reasons[str(node.id)] = wired_values(wired, node)
            return
        rows = self._tried(node, lambda: peer.rows(node.values))
        if rows is None:
            return
        sources = peer.sources(node)
        if peer.own_rows_first and rows and "lora_stack" in sources:
            self._note(node, ORDER_NOTE)
        self._tell_lost(peer, node)
        self._complete(node, rows)
        make = {"loader": self._loader, "applier": self._applier, "stacker": self._stacker}[peer.role]
        make(peer, node, rows, sources)
        self._result.converted += 1
        if peer.role != "stacker":
            self._result.notes.append(SEMANTICS_NOTE)

    def _pairs(self, nodes: list[FoundNode]) -> None:
        """Convert ComfyUI's loaders with rows for text encoders, each with one for a model."""
        rows: dict[str, list[RowValue]] = {}
        for node in nodes:
            if wired := PEERS[node.type].wired_values(node):
                self._reasons[str(node.id)] = wired_values(wired, node)
                continue
            read = self._tried(node, partial(PEERS[node.type].rows, node.values))
            rows |= {} if read is None else {str(node.id): read}
        models = [node for node in nodes if node.type == core.MODEL.type and str(node.id) in rows]
        encoders = [node for node in nodes if node.type == core.ENCODER.type and str(node.id) in rows]
        pairing = Pairing(self._graph.nodes(), models, rows) if encoders else None
        for encoder in encoders:
            model = pairing.take(encoder) if pairing else None
            if model is None:
                self._reasons[str(encoder.id)] = _NO_MODEL
            else:
                self._pair(self._graph.node(model.id), encoder, core.joined(rows[str(model.id)], rows[str(encoder.id)]))

    def _pair(self, model: FoundNode, encoder: FoundNode, rows: list[RowValue]) -> None:
        """Make the loader of a model do what that of a text encoder did."""
        self._complete(model, rows)
        sources = {"model": model.wired.get("model"), "clip": encoder.wired.get("clip")}
        self._loader(core.MODEL, model, rows, {name: source for name, source in sources.items() if source})
        self._graph.move((encoder.id, 0), WireSource(model.id, SHAPES[LOAD.id].output("CLIP")))
        self._graph.remove(encoder.id)
        self._done |= {str(model.id), str(encoder.id)}
        self._result.converted += 2
        self._result.notes.append(SEMANTICS_NOTE)

    def _loader(self, peer: Peer, node: FoundNode, rows: list[RowValue], sources: dict[str, WireSource]) -> None:
        upstream = {"lora_stack": sources.pop("lora_stack")} if "lora_stack" in sources else {}
        stack = self._graph.add(STACK.id, _value(rows), upstream, node.id, take=False)
        self._graph.become(
            node.id, LOAD.id, _LOAD, {**sources, "lora_stack": WireSource(stack, 0)}, _outputs(peer, node.id, stack)
        )

    def _applier(self, peer: Peer, node: FoundNode, rows: list[RowValue], sources: dict[str, WireSource]) -> None:
        self._graph.become(node.id, LOAD.id, _LOAD, sources, _outputs(peer, node.id, node.id))

    def _stacker(self, peer: Peer, node: FoundNode, rows: list[RowValue], sources: dict[str, WireSource]) -> None:
        wanted = {name: source for name, source in sources.items() if name == "lora_stack"}
        self._graph.become(node.id, STACK.id, _value(rows), wanted, _outputs(peer, node.id, node.id))

    def _chain(self, chain: Chain) -> None:
        head, last, encoders = chain.nodes[0], chain.nodes[-1], chain.encoders
        rows, sources = chain.rows(), chain.sources()
        for item in rows:
            item["name"] = self._completed(head, item["name"])
        if encoders and encoders[-1] is not last:
            self._graph.move((encoders[-1].id, 1), WireSource(last.id, 1))
        outputs: dict[int, WireSource | None] = {slot: WireSource(last.id, slot) for slot in (0, 1)}
        if len(rows) == 1:
            strengths = {"strength_model": rows[0]["strength"], "strength_clip": _clip(rows[0])}
            own = {**_LOAD, "lora_name": rows[0]["name"] or "None", **strengths}
            self._graph.become(last.id, LOAD.id, own, sources, outputs)
        else:
            stack = self._graph.add(STACK.id, _value(rows), {}, head.id, take=True)
            self._graph.become(last.id, LOAD.id, _LOAD, {**sources, "lora_stack": WireSource(stack, 0)}, outputs)
            for node in chain.nodes[:-1]:
                self._graph.remove(node.id)
            if self._graph.has_modes:
                self._graph.set_mode(last.id, chain.mode)
                self._graph.set_mode(stack, chain.mode)
        self._result.converted += len(rows)
        self._result.notes.append(SEMANTICS_NOTE)

    def _tell_lost(self, peer: Peer, node: FoundNode) -> None:
        for slot, name in enumerate(peer.outputs):
            takers = self._graph.consumers(node.id, slot) if name in (None, "trigger_words") else []
            if takers and name is None:
                who = ", ".join(str(taker) for taker, _ in takers)
                self._note(node, f"its output {slot} (help text) has no equal; the wire to node {who} is gone.")
            elif takers:
                self._note(node, 'trigger words are now joined by ", ", not by ",, ", and come from the files.')

    def _complete(self, node: FoundNode, rows: Iterable[RowValue]) -> None:
        for item in rows:
            item["name"] = self._completed(node, item["name"])

    def _completed(self, node: FoundNode, name: str) -> str:
        found, note = self._names.completed(name)
        if note:
            self._note(node, note)
        return found

    def _note(self, node: FoundNode, text: str) -> None:
        self._result.notes.append(f"{node}: {text}")


def _value(rows: list[RowValue]) -> dict[str, Any]:
    return {"rows": {"v": 1, "rows": rows}}


def _clip(item: RowValue) -> float:
    return item["strength"] if item["strength_clip"] is None else item["strength_clip"]


def _outputs(peer: Peer, node: Any, stack: Any) -> dict[int, WireSource | None]:
    """Return where each of the peer's outputs now comes from."""
    load, rows = SHAPES[LOAD.id], SHAPES[STACK.id]
    found: dict[int, WireSource | None] = {}
    for slot, name in enumerate(peer.outputs):
        if name is None:
            found[slot] = None
        elif name in ("LORA_STACK", "lora_text") or peer.role == "stacker":
            found[slot] = WireSource(stack, rows.output(name))
        else:
            found[slot] = WireSource(node, load.output(name))
    return found
