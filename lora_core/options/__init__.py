"""Every input of every node, declared once: the node schema, the command line and the headless runner read it.

Names are permanent: shared workflow files carry them. The order of `inputs` is the order of the widgets, and so
of `widgets_values` in saved workflows: append, never insert. A node of an operation is listed in lora_core.operations.
"""

from __future__ import annotations

from .base import Command, Node, Option, OptionType, Socket, SocketType
from .importing import IMPORT, TARGET, TEXT_DIALECT, ImportTarget, TextDialect
from .live import LOAD, STACK
from .merge import MERGE_DTYPE, MergeDtype
from .shared import STRENGTH_LIMIT, Semantics

__all__ = [
    "IMPORT", "LOAD", "MERGE_DTYPE", "STACK", "STRENGTH_LIMIT", "TARGET", "TEXT_DIALECT", "Command", "ImportTarget",
    "MergeDtype", "Node", "Option", "OptionType", "Semantics", "Socket", "SocketType", "TextDialect",
]  # fmt: skip
