"""What a node shows of its report: the text and the pictures on the node, and the figures for the page."""

from __future__ import annotations

from typing import Any

from .host import io, ui


def shown(cls: type[io.ComfyNode], report: Any, *pictures: Any) -> dict[str, Any]:
    """Return the `ui` part of a node's output; the pictures are image tensors (1, height, width, 3)."""
    images = [image for picture in pictures for image in ui.PreviewImage(picture, cls=cls).as_dict()["images"]]
    found = {"text": (report.text(),), "report": (report.to_dict(),)}
    return {**found, "images": images, "animated": (False,)} if images else found
