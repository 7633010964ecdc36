"""Every input of every node, declared once: the node schema, the command line and the headless runner read it.

Names are permanent: shared workflow files carry them. The order of `inputs` is the order of the widgets, and so
of `widgets_values` in saved workflows: append, never insert.
"""

from __future__ import annotations

from .base import Command, Node, Option, OptionType, Socket, SocketType
from .combine import COMBINE
from .convert import CONVERT
from .extract import EXTRACT
from .importing import IMPORT, TARGET, TEXT_DIALECT, ImportTarget, TextDialect
from .inspect import INSPECT
from .live import LOAD, STACK
from .merge import MERGE, MERGE_DTYPE, MergeDtype
from .resize import RESIZE
from .shared import STRENGTH_LIMIT, Semantics
from .verify import VERIFY_COMMAND

__all__ = [
    "COMBINE", "CONVERT", "EXTRACT", "IMPORT", "INSPECT", "LOAD", "MERGE", "MERGE_DTYPE", "NODES", "RESIZE", "STACK",
    "STRENGTH_LIMIT", "TARGET", "TEXT_DIALECT", "VERIFY_COMMAND", "Command", "ImportTarget", "MergeDtype", "Node",
    "Option", "OptionType", "Semantics", "Socket", "SocketType", "TextDialect",
]  # fmt: skip

NODES: dict[str, Node] = {node.id: node for node in (LOAD, STACK, MERGE, EXTRACT, CONVERT, INSPECT, COMBINE, RESIZE)}
