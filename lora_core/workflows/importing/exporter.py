"""Load LoRA with the stacks that are wired into it, as ComfyUI's own loaders: nobody is locked in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from ...errors import LoraError, WorkflowError, about
from ...options import LOAD, STACK
from ...stack.rows import Row, check_strength, parse_rows
from ..bounds import MOST_NODES
from .model import BYPASSED, MUTED, Converted, FoundNode, Graph, NodeId, WireSource
from .names import Names
from .rowloaders import LoadedRow, new_outputs, row_loaders
from .shapes import BUILTIN, MODEL_ONLY, SHAPES

PAPER_NOTE = (
    'built-in loaders use ComfyUI\'s own formulas, Load LoRA used the published ones (semantics "paper"): images '
    "differ for DoRA, OFT, and files that keep alpha in their header."
)


_MAX_STACKS = 1_000


class CannotError(WorkflowError):
    """A chain of built-in loaders cannot say what this node does."""


class Exporter:
    """Converts the chosen Load LoRA nodes of one level and writes what the user should know into `result`."""

    def __init__(self, graph: Graph, names: Names, result: Converted, *, with_rows: bool) -> None:
        """`with_rows` asks for the loaders that have rows, not for a chain of those that load one LoRA."""
        self._graph, self._names, self._result, self._with_rows = graph, names, result, with_rows
        self._nodes = {str(node.id): node for node in graph.nodes()}
        self._made = 0  # loaders

    def convert(self, wanted: Callable[[FoundNode], bool]) -> None:
        chosen = {key for key, node in self._nodes.items() if wanted(node)}
        for node_id in [node.id for node in self._nodes.values() if node.type == LOAD.id]:
            node = self._graph.node(node_id)  # its wires may have moved since
            try:
                stacks = self._stacks(node)
                if chosen.isdisjoint({str(node.id), *(str(stack.id) for stack in stacks)}):
                    continue
                steps = self._steps(node, stacks)
            except LoraError as error:  # one that can't be read stops no other
                if str(node.id) in chosen:
                    self._note(node, f"left as it is: {str(error).rstrip('.')}.")
                continue
            (self._rowed if self._with_rows else self._chain)(node, stacks, steps)
            self._result.converted += 1
        for node in self._nodes.values():
            if node.type == STACK.id and str(node.id) in chosen:
                self._note(node, "left as it is: something else than a converted Load LoRA uses it.")
        self._graph.finish()

    def _stacks(self, load: FoundNode) -> list[FoundNode]:
        """Return the Stack LoRAs nodes that feed `load`, in the order in which their rows are applied."""
        found: list[FoundNode] = []
        source = load.wired.get("lora_stack")
        while source is not None:
            stack = self._nodes.get(str(source.node))
            if stack is None or stack.type != STACK.id:
                raise CannotError(f"its stack comes from {stack or 'outside of this subgraph'}, not from Stack LoRAs")
            if len(found) == _MAX_STACKS or stack.mode == MUTED:
                raise CannotError(f"{stack} is muted" if stack.mode == MUTED else f"over {_MAX_STACKS} stacks in a row")
            if set(stack.wired) - {"lora_stack"}:
                raise CannotError(f"the rows of {stack} are wired")
            found.append(stack)
            source = stack.wired.get("lora_stack")
        return found[::-1]

    def _steps(self, load: FoundNode, stacks: Iterable[FoundNode]) -> list[LoadedRow]:
        wired = set(load.wired) - {"model", "clip", "lora_stack"}
        used = [name for slot, (name, _) in enumerate(SHAPES[LOAD.id].outputs) if self._graph.consumers(load.id, slot)]
        for name in (*sorted(wired), *(name for name in used if name not in ("MODEL", "CLIP"))):
            raise CannotError(f"{name} is wired, and a built-in loader has no equal")
        steps = [step for stack in stacks for step in self._rows(stack)]
        named = load.values.named(tuple(SHAPES[LOAD.id].widgets))
        if named.get("blocks"):
            raise CannotError("it has block strengths, which a built-in loader cannot apply")
        if (name := named.get("lora_name", "None")) not in ("None", ""):
            model, clip = (self._strength(load, named.get(f"strength_{part}", 1.0)) for part in ("model", "clip"))
            steps.append(LoadedRow(str(name), model, clip))
        if not self._graph.has_modes and not self._with_rows:
            self._tell_off(load, [step for step in steps if not step.on], "left out, as a prompt has no bypassed nodes")
            steps = [step for step in steps if step.on]
        if not steps:
            raise CannotError("it has no LoRA")
        if self._made + len(steps) > MOST_NODES:
            raise CannotError(f"over {MOST_NODES} loaders would be made")
        self._made += len(steps)
        if named.get("semantics") == "paper":
            self._note(load, PAPER_NOTE)
        return steps

    def _rows(self, stack: FoundNode) -> list[LoadedRow]:
        try:
            rows = parse_rows(stack.values.named(("rows",)).get("rows"))
        except LoraError as error:
            raise about(error, f"{stack}: ") from error
        return [self._step(stack, row) for row in rows if row.name not in ("", "None")]

    def _step(self, stack: FoundNode, row: Row) -> LoadedRow:
        on = row.on and stack.mode != BYPASSED
        for what, there in (("block strengths", row.blocks), ("a low-noise file", row.low)):
            if there and on:
                raise CannotError(f"{row.name} has {what}, which a built-in loader cannot apply")
            if there:
                self._note(stack, f"{row.name} is switched off and loses {what}.")
        return LoadedRow(row.name, row.strength, row.strength if row.strength_clip is None else row.strength_clip, on)

    def _strength(self, node: FoundNode, value: Any) -> float:
        try:
            return check_strength(value, LOAD.id)
        except LoraError as error:
            raise about(error, f"{node}: ") from error

    def _chain(self, load: FoundNode, stacks: list[FoundNode], steps: list[LoadedRow]) -> None:
        used_up = self._used_up(load, stacks)
        model, clip = load.wired.get("model"), load.wired.get("clip")
        near, take = (used_up[-1].id, True) if used_up else (load.id, False)
        made: list[NodeId] = []
        for step in steps:
            both = clip is not None and step.clip != 0
            sources = {name: source for name, source in (("model", model), ("clip", clip if both else None)) if source}
            values = {"lora_name": self._names.for_host(step.name), "strength_model": step.model}
            values |= {"strength_clip": step.clip} if both else {}
            kind = BUILTIN if both else MODEL_ONLY
            if step is steps[-1]:
                end = WireSource(load.id, 1) if both else clip
                self._graph.become(load.id, kind, values, sources, {0: WireSource(load.id, 0), 1: end})
                made.append(load.id)
            else:
                near, take = self._graph.add(kind, values, sources, near, take=take), False
                made.append(near)
            model, clip = WireSource(made[-1], 0), WireSource(made[-1], 1) if both else clip
        self._switch(load, steps, made)
        self._remove(used_up)

    def _rowed(self, load: FoundNode, stacks: list[FoundNode], steps: list[LoadedRow]) -> None:
        used_up = self._used_up(load, stacks)
        near, take = (used_up[-1].id, True) if used_up else (load.id, False)
        ends = {"model": load.wired.get("model"), "clip": load.wired.get("clip")}
        rows = [replace(step, name=self._names.for_host(step.name)) for step in steps]
        *before, last = row_loaders(rows, with_clip=ends["clip"] is not None)
        made = [(last, load.id)]
        for loader in before:
            near, take = self._graph.add(loader.type, loader.values, _wire(loader.socket, ends), near, take=take), False
            ends[loader.socket] = WireSource(near, 0)
            made.insert(-1, (loader, near))
        sources = _wire(last.socket, ends)
        self._graph.become(load.id, last.type, last.values, sources, new_outputs(made, ends["clip"]))
        if self._graph.has_modes:
            for _, node in made:
                self._graph.set_mode(node, load.mode)
        self._remove(used_up)

    def _remove(self, stacks: list[FoundNode]) -> None:
        for stack in stacks[::-1]:
            self._graph.remove(stack.id)
            del self._nodes[str(stack.id)]

    def _switch(self, load: FoundNode, steps: list[LoadedRow], made: list[NodeId]) -> None:
        if self._graph.has_modes:
            for step, node in zip(steps, made, strict=True):
                self._graph.set_mode(node, load.mode or (0 if step.on else BYPASSED))
            self._tell_off(load, [step for step in steps if not step.on], "switched off; its loader is bypassed")

    def _used_up(self, load: FoundNode, stacks: list[FoundNode]) -> list[FoundNode]:
        """Return the stacks that nothing but `load`, or another of them that goes, uses."""
        going: list[FoundNode] = []
        allowed = {str(load.id)}
        for stack in reversed(stacks):
            takers = {str(taker) for slot in range(3) for taker, _ in self._graph.consumers(stack.id, slot)}
            if takers - allowed:
                break
            allowed.add(str(stack.id))
            going.append(stack)
        return going[::-1]

    def _tell_off(self, load: FoundNode, steps: list[LoadedRow], what: str) -> None:
        for step in steps:
            self._note(load, f"{step.name} is {what}.")

    def _note(self, node: FoundNode, text: str) -> None:
        self._result.notes.append(f"{node}: {text}")


def _wire(socket: str, ends: dict[str, WireSource | None]) -> dict[str, WireSource]:
    """Return what is wired to a loader: the end so far of what it changes."""
    source = ends[socket]
    return {socket: source} if source else {}
