"""What LoRA Core does with files: a module or a package each, called by what it does; no operation imports another.

OPERATIONS is the list of them that the nodes, the headless runner and the command line read; `__all__` are their
functions, which lora_core has under the same names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..options import Command, Node
from ..options.combine import COMBINE
from ..options.convert import CONVERT
from ..options.extract import EXTRACT
from ..options.inspect import INSPECT
from ..options.live import LOAD, STACK
from ..options.merge import MERGE
from ..options.resize import RESIZE
from ..options.verify import VERIFY_COMMAND
from ..report import Report
from .combining.combine import combine
from .converting.convert import convert
from .extracting.extract import check_choice, extract
from .inspecting.inspect import inspect, inspect_all
from .merging.merge import merge
from .merging.verify import verify
from .resizing.resize import resize

__all__ = ["combine", "convert", "extract", "inspect", "merge", "resize", "verify"]


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
    doing: str = "working"  # what a running node is at; web/report/progress.js has words for the page


OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation(
            "inspect", INSPECT, inspect, as_node=inspect_all, doing="measuring",
            help="say what a LoRA or a checkpoint is, and whether they fit",
        ),
        Operation("merge", MERGE, merge, doing="merging"),
        Operation("verify", VERIFY_COMMAND, verify),
        Operation("extract", EXTRACT, extract, check=check_choice, doing="extracting"),
        Operation("convert", CONVERT, convert, doing="converting"),
        Operation("resize", RESIZE, resize, doing="resizing"),
        Operation("combine", COMBINE, combine, doing="combining"),
    )
}  # fmt: skip
NODE_OPERATIONS = {one.declared.id: one for one in OPERATIONS.values() if isinstance(one.declared, Node)}
NODES = {
    node.id: node
    for node in (LOAD, STACK, *(one.declared for one in OPERATIONS.values() if isinstance(one.declared, Node)))
}
