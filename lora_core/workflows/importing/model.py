"""What importing works on: peers' nodes as values, and a workflow's level as a graph that can be changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from ...errors import WorkflowError
from ...operations import NODES
from ...stack.rows import check_strength

NodeId = int | str
RowValue = dict[str, Any]  # one row of Stack LoRAs, as it is saved

MUTED, BYPASSED = 2, 4  # the editor's modes "never" and "bypass"


@dataclass(frozen=True, slots=True)
class WireSource:
    """Where a wire comes from; `link` is the editor's number of the wire, so that it can keep it."""

    node: NodeId
    slot: int
    link: NodeId | None = field(default=None, compare=False)

    def same(self, node: NodeId, slot: int) -> bool:
        return str(self.node) == str(node) and self.slot == slot


@dataclass(frozen=True, slots=True)
class Values:
    """A node's widget values: by position in the editor's format, by input name in the API format, or both."""

    listed: Sequence[Any] = ()
    by_name: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def named(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the values by name; `names` are those of the widgets, in order. What is named counts."""
        return {**dict(zip(names, self.listed, strict=False)), **self.by_name}


@dataclass(frozen=True, slots=True)
class FoundNode:
    """One node of a workflow: what it holds, and what is wired to its inputs by name."""

    id: NodeId
    type: str
    values: Values
    wired: Mapping[str, WireSource]
    mode: int = 0
    inputs: tuple[str, ...] = ()  # the names of all its inputs, as far as the file has them

    def __str__(self) -> str:
        declared = NODES.get(self.type)
        return f"node {self.id} ({declared.display_name if declared else self.type})"


Role = Literal["loader", "stacker", "applier", "encoder"]


@dataclass(frozen=True, slots=True)
class Peer:
    """A node of others that ours can stand for."""

    type: str
    # loader: LoRAs of its own onto a model; applier: a stack onto a model; stacker: a stack; encoder: LoRAs onto a text
    # encoder alone, which needs a loader beside it
    role: Role
    title: str  # what the page calls it when the user has given it no name
    outputs: tuple[str | None, ...]  # our name for each of its outputs; None: nothing of ours says this
    rows: Callable[[Values], list[RowValue]] = lambda values: []
    model: str = "model"  # its names for our inputs
    clip: str = "clip"
    lora_stack: str = "lora_stack"
    ignores: tuple[str, ...] = ()  # inputs that may be wired without any effect
    own_rows_first: bool = False  # before the stack that is wired in; ours come after it

    def sources(self, node: FoundNode) -> dict[str, WireSource]:
        """Return what is wired to the node, by the names of our inputs."""
        return {ours: node.wired[name] for name, ours in self._sockets().items() if name in node.wired}

    def wired_values(self, node: FoundNode) -> list[str]:
        """Return the inputs that are wired, although our nodes keep what comes there in a row."""
        return [name for name in node.wired if name not in self._sockets() and name not in self.ignores]

    def _sockets(self) -> dict[str, str]:
        return {self.model: "model", self.clip: "clip", self.lora_stack: "lora_stack"}


@dataclass(slots=True)
class Converted:
    """A converted workflow, how many nodes were converted, and what the user should know."""

    workflow: dict[str, Any]
    notes: list[str] = field(default_factory=list[str])
    converted: int = 0


class Graph(Protocol):
    """One level of a workflow: the whole of an API prompt, the editor's top level, or one subgraph."""

    has_modes: bool  # whether a node can be bypassed

    def nodes(self) -> list[FoundNode]: ...

    def node(self, node: NodeId) -> FoundNode:
        """Return a node as it is now."""
        ...

    def consumers(self, node: NodeId, slot: int) -> list[tuple[NodeId, str]]:
        """Return who gets an output: (node, name of its input)."""
        ...

    def takers(self, node: NodeId, slot: int) -> int:
        """Return how many get an output."""
        ...

    def add(
        self, node_type: str, values: Mapping[str, Any], sources: Mapping[str, WireSource], near: NodeId, *, take: bool
    ) -> NodeId:
        """Make a node with the mode, title and colours of `near`: in its place if it will go (`take`), or beside it."""
        ...

    def become(
        self,
        node: NodeId,
        node_type: str,
        values: Mapping[str, Any],
        sources: Mapping[str, WireSource],
        outputs: Mapping[int, WireSource | None],
    ) -> None:
        """Make an existing node another, where it stands; `outputs` says where each of its old outputs comes from."""
        ...

    def move(self, old: tuple[NodeId, int], new: WireSource | None) -> None:
        """Wire all that gets an output to another one, or to none."""
        ...

    def remove(self, node: NodeId) -> None: ...

    def set_mode(self, node: NodeId, mode: int) -> None: ...

    def finish(self) -> None:
        """Write what has changed into the workflow."""
        ...


def row(name: Any, strength: Any, clip: Any, *, on: bool, where: str) -> RowValue:
    """Return a row with `/` in its name; `clip` None, or as `strength`, means as `strength`.

    Raises OptionError for a strength that is no number or out of range.
    """
    if not isinstance(name, str):
        raise WorkflowError(f"{where}: the name must be text, found {str(name)[:40]!r}.")
    model = check_strength(strength, where)
    encoder = None if clip is None else check_strength(clip, where)
    return {
        "on": on,
        "name": "" if name in ("", "None") else name.replace("\\", "/"),
        "strength": model,
        "strength_clip": None if encoder == model else encoder,
        "blocks": "",
        "hash": "",
        "size": 0,
    }
