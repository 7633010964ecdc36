"""The nodes of LoRA Core: one module per family, each ending in NODES."""

from . import combine, convert, extract, inspect, load, merge, resize, stack
from .host import ComfyExtension, io
from .page import routes

FAMILIES = (load, stack, merge, extract, convert, inspect, combine, resize)


class LoraCoreExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [node for family in FAMILIES for node in family.NODES]


def extension() -> ComfyExtension:
    routes.register()
    return LoraCoreExtension()
