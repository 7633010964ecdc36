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
from functools import partial
from pathlib import Path
from typing import Any

from ...lora_core.errors import LoraError
from ...lora_core.library.info import info
from ...lora_core.library.precheck import Precheck
from ...lora_core.library.previews import preview_of
from ...lora_core.parallel.asking import ask
from ...lora_core.stack.rows import MOST_ROWS
from ...lora_core.text import plain_line, without_path
from .. import host, library
from .answers import Picture, RouteError
from .guard import HASHING, PREFIX, Again, gate, reading, taking_json
from .importing import LARGEST_WORKFLOW, imported

_precheck = Precheck()


def register() -> None:
    """Add the routes to ComfyUI's server; without one, as in a script that imports the pack, nothing is to do."""
    host.add_gate(gate)
    for method, path, handler in ROUTES:
        host.add_route(method, path, handler)


def _info(query: Mapping[str, Any]) -> dict[str, Any] | Again:
    if query.get("hash") == "1":
        return Again(HASHING, partial(_told, query, with_hash=True))
    return _told(query)


def _told(query: Mapping[str, Any], *, with_hash: bool = False) -> dict[str, Any]:
    name, path, names = _lora(query)
    try:
        return info(path, name, names, library.HASHES, with_hash=with_hash)
    except LoraError as error:
        raise RouteError(422, plain_line(without_path(error, path), 1_000)) from error
    except OSError as error:
        raise _gone() from error


def _preview(query: Mapping[str, Any]) -> Picture | None:
    _, path, _ = _lora(query)
    found = preview_of(path)
    return Picture(found.read, found.type, f"{found.size:x}-{found.mtime_ns:x}") if found else None


def _check(data: Mapping[str, Any]) -> dict[str, Any] | Again:
    model, rows = data.get("model"), data.get("rows")
    if not isinstance(rows, list) or len(rows) > MOST_ROWS:
        raise RouteError(400, f"rows: expected a list of at most {MOST_ROWS} rows.")
    if model is not None and not (isinstance(model, str) and model in host.model_names()):
        raise RouteError(404, "no such model file; refresh the list.")
    try:
        path = host.model_path(model) if model else None
    except LoraError as error:
        raise _gone() from error
    found = _precheck.check(path, rows, library.loras())
    return Again(HASHING, partial(_check_by_content, path, rows)) if any(map(_is_open, found["rows"])) else found


def _check_by_content(model: Path | None, rows: list[Any]) -> dict[str, Any]:
    """Return the same after a look into the files that may be those of the rows, which takes long once."""
    return _precheck.check(model, rows, library.loras(lambda _, __: ask()))


def _is_open(row: Mapping[str, Any]) -> bool:
    """Tell whether only the content of files can say which one a row means."""
    low = row["low"]
    return (row["state"] == "unknown" and row["name"] is None) or (low is not None and _is_open(low))


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
    ("GET", f"{PREFIX}info", reading(_info)),
    ("GET", f"{PREFIX}preview", reading(_preview)),
    ("POST", f"{PREFIX}check", taking_json(_check)),
    ("POST", f"{PREFIX}import", taking_json(imported, LARGEST_WORKFLOW)),
)
