"""Temporary: the schema of Load LoRA, until the live patching lands."""

from ..lora_core.options import LOAD
from .host import io
from .schema import schema_of


class LoadLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema_of(LOAD)

    @classmethod
    def execute(cls, model, clip=None, **options) -> io.NodeOutput:
        raise NotImplementedError("Load LoRA is not here yet.")


NODES = [LoadLora]
