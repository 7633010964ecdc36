"""The routes of LoRA Core: they read, for files that ComfyUI lists itself, and write nothing.

| route | what it answers |
|---|---|
| GET /lora-core/info?name=NAME[&hash=1] | what is known of a LoRA file; `hash=1` computes its hash |
| GET /lora-core/preview?name=NAME | the picture beside a LoRA file; 204 without one |
| POST /lora-core/check {model, rows} | how rows of Stack LoRAs fit a model file, before a run |
| POST /lora-core/import {workflow, nodes, to} or {text, dialect} | the workflow converted, or the text's rows |
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...lora_core.errors import LoraError
from ...lora_core.library.info import info
from ...lora_core.library.precheck import Precheck
from ...lora_core.library.previews import preview_of
from ...lora_core.stack.rows import MOST_ROWS
from ...lora_core.text import plain_line, without_path
from .. import host, library
from .guard import Picture, RouteError, reading, taking_json
from .importing import LARGEST_WORKFLOW, imported

_precheck = Precheck()


def register() -> None:
    """Add the routes to ComfyUI's server; without one, as in a script that imports the pack, nothing is to do."""
    for method, path, handler in ROUTES:
        host.add_route(method, path, handler)


def _info(query: Mapping[str, Any]) -> dict[str, Any]:
    name, path, names = _lora(query)
    try:
        return info(path, name, names, library.HASHES, with_hash=query.get("hash") == "1")
    except LoraError as error:
        raise RouteError(422, plain_line(without_path(error, path), 1_000)) from error
    except OSError as error:
        raise _gone() from error


def _preview(query: Mapping[str, Any]) -> Picture | None:
    _, path, _ = _lora(query)
    found = preview_of(path)
    return Picture(found.read, found.type, f"{found.size:x}-{found.mtime_ns:x}") if found else None


def _check(data: Mapping[str, Any]) -> dict[str, Any]:
    model, rows = data.get("model"), data.get("rows")
    if not isinstance(rows, list) or len(rows) > MOST_ROWS:
        raise RouteError(400, f"rows: expected a list of at most {MOST_ROWS} rows.")
    if model is not None and not (isinstance(model, str) and model in host.model_names()):
        raise RouteError(404, "no such model file; refresh the list.")
    try:
        path = host.model_path(model) if model else None
    except LoraError as error:
        raise _gone() from error
    return _precheck.check(path, rows, library.loras())


def _lora(query: Mapping[str, Any]) -> tuple[str, Path, list[str]]:
    """Return the name that is asked for, its file, and all names; only a name that ComfyUI lists has a file."""
    name, names = query.get("name", ""), host.lora_names()
    if name not in names:
        raise RouteError(404, "no such LoRA file; refresh the list.")
    try:
        return name, host.listed_lora(name), names
    except LoraError as error:
        raise _gone() from error


def _gone() -> RouteError:
    return RouteError(404, "the file is no longer there; refresh the list.")


ROUTES = (
    ("GET", "/lora-core/info", reading(_info)),
    ("GET", "/lora-core/preview", reading(_preview)),
    ("POST", "/lora-core/check", taking_json(_check)),
    ("POST", "/lora-core/import", taking_json(imported, LARGEST_WORKFLOW)),
)
