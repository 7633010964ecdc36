"""What LoRA Core does with files, one package each; no operation imports another.

OPERATIONS is the list of them that the nodes, the headless runner and the command line read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..options import COMBINE, CONVERT, EXTRACT, INSPECT, MERGE, RESIZE, VERIFY_COMMAND, Command, Node
from ..report import Report
from .combining.combine import combine
from .converting.convert import convert
from .extracting.extract import check_choice, extract
from .inspecting.inspect import inspect, inspect_all
from .merging.merge import merge
from .merging.verify import verify
from .resizing.resize import resize


@dataclass(frozen=True, slots=True)
class Operation:
    """A command, and mostly a node: what it takes, as declared, and the function that does it.

    The function takes every input as the argument that the declaration says, and `on_step`.
    """

    name: str  # of the command
    declared: Node | Command
    function: Callable[..., Report]
    check: Callable[..., None] | None = None  # raises for values of a node's inputs that do not go together
    as_node: Callable[..., Report] | None = None  # what the node does, if it is not the same
    help: str = ""  # of the command, if it is not the node's description


OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation(
            "inspect", INSPECT, inspect, as_node=inspect_all,
            help="say what a LoRA or a checkpoint is, and whether they fit",
        ),
        Operation("merge", MERGE, merge),
        Operation("verify", VERIFY_COMMAND, verify),
        Operation("extract", EXTRACT, extract, check=check_choice),
        Operation("convert", CONVERT, convert),
        Operation("resize", RESIZE, resize),
        Operation("combine", COMBINE, combine),
    )
}  # fmt: skip
NODE_OPERATIONS = {one.declared.id: one for one in OPERATIONS.values() if isinstance(one.declared, Node)}
