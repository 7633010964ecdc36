"""Inspect LoRA: what LoRAs change, block by block, and how those of a stack agree."""

from __future__ import annotations

from typing import Any

from ..lora_core.inspect import inspect, to_inspect
from ..lora_core.options import INSPECT
from . import host
from .charts import sizes_picture
from .heatmap import conflict_picture
from .host import io, ui
from .schema import NONE, schema_of


class InspectLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema_of(INSPECT)

    @classmethod
    def validate_inputs(cls, lora_name: str | None = None, against: str | None = None) -> bool | str:
        found = host.problem(host.lora_path, _chosen(lora_name))
        return found if found is not True else host.problem(host.model_path, _chosen(against))

    @classmethod
    def fingerprint_inputs(cls, lora_name: str | None = None, against: str | None = None, **_: Any) -> list[Any]:
        loras = host.fingerprint(host.lora_path, _chosen(lora_name))
        return [*loras, *host.fingerprint(host.model_path, _chosen(against))]

    @classmethod
    def execute(cls, lora_name: str, against: str = NONE, lora_stack: list[Any] | None = None) -> io.NodeOutput:
        entries = [host.located(entry) for entry in to_inspect(lora_name, lora_stack)]
        first, *more = [(entry.path, entry[1], entry[2]) for entry in entries]
        models = [host.model_path(name) for name in _chosen(against)]
        report = inspect(first, models, stack=more, spectra=True, on_step=host.progress())
        pictures = sizes_picture(report), conflict_picture(report)
        shown = {"text": (report.text(),), "report": ({**report.to_dict(), "layers": []},)}  # thousands of layers
        images = [image for picture in pictures for image in ui.PreviewImage(picture, cls=cls).as_dict()["images"]]
        return io.NodeOutput(
            report.text(), host.trigger_words(entries), *pictures, ui={**shown, "images": images, "animated": (False,)}
        )


def _chosen(name: str | None) -> tuple[str, ...]:
    return () if name in (None, NONE) else (name,)


NODES = [InspectLora]
