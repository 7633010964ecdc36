"""The operation of a node in ComfyUI: the files that it names, and its run on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..lora_core.options import Node
from ..lora_core.options.shared import NO_FILE
from ..lora_core.workflows.perform import Performed, perform
from . import host, library
from .wiredmodel import LoadedModel

Names = tuple[str | None, ...]  # of files, as the widgets have them; a linked one is None


class _ListedFiles:
    """The files that nodes name, as ComfyUI lists them."""

    model = staticmethod(host.model_path)
    lora = staticmethod(host.lora_path)
    located = staticmethod(library.found)
    loaded_model = LoadedModel

    def new_path(self, prefix: str, beside: str | None) -> Path:
        return host.new_lora_path(prefix) if beside is None else host.new_model_path(beside, prefix)

    def listed_name(self, path: Path, beside: str | None) -> str:
        return host.listed_name(path, "loras" if beside is None else host.model_folder(beside))


def performed(node: Node, inputs: Mapping[str, Any], *phases: str, **more: Any) -> Performed:
    """Run the node's operation; the page is told of `phases`, as `host.progress` says."""
    return perform(node, inputs, _ListedFiles(), on_step=host.progress(*phases), **more)


def problem(loras: Names = (), models: Names = ()) -> bool | str:
    """Return True, or what is wrong with the first name that means no file."""
    found = host.problem(host.lora_path, _chosen(loras))
    return found if found is not True else host.problem(host.model_path, _chosen(models))


def fingerprint(loras: Names = (), models: Names = ()) -> list[Any]:
    """Return names, sizes and times of the files, so that a node runs again after one was overwritten."""
    marks = host.fingerprint(host.lora_path, _chosen(loras))
    return [*marks, *host.fingerprint(host.model_path, _chosen(models))]


def _chosen(names: Names) -> list[str]:
    return [name for name in names if name not in (None, NO_FILE)]
