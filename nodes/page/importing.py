"""What the page's conversions ask for: workflows and `<lora:…>` text, with the names of the files that are there.

lora_core.workflows.importing is imported when it is first asked for, so that ComfyUI starts without it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ...lora_core.errors import LoraError
from .. import host
from .answers import RouteError

LARGEST_WORKFLOW = 2**24  # bytes: some hold pictures


def imported(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return {workflow, notes, converted} for {workflow, nodes, to}, or {rows, notes} for {text, dialect}."""
    try:
        return _rows(data) if "text" in data else _workflow(data)
    except LoraError as error:
        raise RouteError(422, str(error)[:1_000]) from error


def _rows(data: Mapping[str, Any]) -> dict[str, Any]:
    from ...lora_core.workflows.importing import rows_of_text  # noqa: PLC0415

    text, dialect = data["text"], data.get("dialect", "lora-manager")
    if not isinstance(text, str):
        raise RouteError(400, "text: expected text.")
    found = rows_of_text(text, dialect, names=host.lora_names())
    return {"rows": found.rows, "notes": found.notes}


def _workflow(data: Mapping[str, Any]) -> dict[str, Any]:
    from ...lora_core.workflows.importing import convert_workflow  # noqa: PLC0415

    workflow, nodes = data.get("workflow"), data.get("nodes")
    if not isinstance(workflow, dict):
        raise RouteError(400, "workflow: expected a workflow as an object.")
    if nodes is not None and not (isinstance(nodes, list) and all(isinstance(node, (int, str)) for node in nodes)):
        raise RouteError(400, "nodes: expected a list of ids, or null for all.")
    result = convert_workflow(
        workflow, nodes=nodes, to=data.get("to", "loracore"), names=host.lora_names(), separator=os.sep
    )
    return {"workflow": result.workflow, "notes": result.notes, "converted": result.converted}
