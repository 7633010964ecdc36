"""Workflows of other LoRA packs as LoRA Core's nodes, and LoRA Core's nodes as ComfyUI's own loaders.

Functions on workflow JSON, in the editor's format with its subgraphs and in the API format; nothing here needs the
other packs. Facts about their nodes were read in their repositories, in November 2026.
"""

from .command import counted_nodes, import_workflow, lora_names
from .text import TextRows, rows_of_text
from .workflows import convert_workflow, has_peers

__all__ = [
    "TextRows",
    "convert_workflow",
    "counted_nodes",
    "has_peers",
    "import_workflow",
    "lora_names",
    "rows_of_text",
]
