"""What stackers with numbered slots have in common: a count, and a choice between one strength and two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....errors import WorkflowError


def count_of(named: Mapping[str, Any], name: str, limit: int) -> int:
    """Return how many slots are in use. Raises WorkflowError for what is no count."""
    value = named.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= limit:
        raise WorkflowError(f"{name}: expected 0 to {limit}, found {str(value)[:40]!r}.")
    return int(value)


def mode_of(named: Mapping[str, Any], name: str) -> str:
    """Return "simple" (one strength a slot) or "advanced" (two). Raises WorkflowError for another."""
    value = named.get(name)
    if value not in ("simple", "advanced"):
        raise WorkflowError(f"{name}: expected simple or advanced, found {str(value)[:40]!r}.")
    return value
