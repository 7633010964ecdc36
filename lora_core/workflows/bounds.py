"""How much a workflow may be: told from its own sizes, before any of it is copied, opened or run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import WorkflowError
from .saved import Level

MAX_DEPTH, MAX_VALUES = 100, 2_000_000  # of the JSON
MOST_NODES = 100_000  # of a prompt: a few subgraphs inside each other would make billions
MOST_OPENED = 5_000_000  # values of all nodes, each as often as a subgraph shows it
MOST_TEXT = 50_000_000  # characters of all ids of nodes, in which those of the subgraphs around them stand
MOST_STEPS = 10_000_000  # along wires
TOO_MANY = f"more than {MOST_NODES} nodes with those inside of subgraphs; no workflow has."


def check_size(data: Any, where: str) -> None:
    """Raise WorkflowError for JSON that is nested deeper, or holds more values, than any workflow."""
    _counted(data, f"{where}: ")


class _Opened(NamedTuple):
    """What a level comes to with all that is inside of it."""

    nodes: int
    values: int
    text: int


def check_opened(top: Level, levels: Mapping[str, Level]) -> None:
    """Raise WorkflowError where opening all subgraphs would make too much; `levels` are theirs, innermost first."""
    known: dict[str, _Opened] = {}
    for key, level in levels.items():
        known[key] = _opened(level, known)
    whole = _opened(top, known)
    if whole.nodes > MOST_NODES:
        raise WorkflowError(TOO_MANY)
    if whole.values > MOST_OPENED or whole.text > MOST_TEXT:
        raise WorkflowError("its subgraphs, opened, are larger than any workflow; take some out of each other.")


def _opened(level: Level, known: Mapping[str, _Opened]) -> _Opened:
    nodes, values, text = len(level.nodes), _counted(level.data), sum(map(len, level.nodes))
    for name, node in level.nodes.items():
        if (inner := known.get(node["type"])) is not None:
            nodes += inner.nodes
            values += inner.values
            text += inner.text + (len(name) + 1) * inner.nodes
    return _Opened(*(min(count, 2 * MOST_TEXT) for count in (nodes, values, text)))


def _counted(data: Any, where: str = "") -> int:
    """Return how many values JSON holds."""
    waiting: list[tuple[Any, int]] = [(data, 1)]
    seen = 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if depth > MAX_DEPTH or seen > MAX_VALUES:
            what = f"deeper than {MAX_DEPTH} levels" if depth > MAX_DEPTH else f"more than {MAX_VALUES} values"
            raise WorkflowError(f"{where}{what}; no workflow is.")
        if isinstance(value, Mapping):
            waiting += [(item, depth + 1) for item in value.values()]
        elif isinstance(value, list):
            waiting += [(item, depth + 1) for item in value]
    return seen
