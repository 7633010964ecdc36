"""The nodes of LoRA Core: Load LoRA, Stack LoRAs, and one for each operation that lora_core declares as a node."""

from ..lora_core.operations import NODE_OPERATIONS, NODES
from .host import ComfyExtension, io
from .inspect import InspectLora
from .load import LoadLora
from .merge import MergeToCheckpoint
from .operation import OperationNode, operation_node
from .page import routes
from .resize import ResizeLora
from .stack import StackLoras

_OWN = {"LoraCoreInspect": InspectLora, "LoraCoreMerge": MergeToCheckpoint, "LoraCoreResize": ResizeLora}


class LoraCoreExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        made = (operation_node(NODES[node_id], _OWN.get(node_id, OperationNode)) for node_id in NODE_OPERATIONS)
        return [LoadLora, StackLoras, *made]


def extension() -> ComfyExtension:
    routes.register()
    return LoraCoreExtension()
