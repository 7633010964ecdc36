"""The live stack in ComfyUI, which benchmarks/live_stack.py measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.figures import Findings


def measure(rounds: int, folder: Path, quick: bool) -> dict[str, Any]:
    """Return what live_stack.measure returns: figures, tables, and what is missing."""
    found = Findings()
    with found.part("live stack"):
        from benchmarks import live_stack  # noqa: PLC0415  (it asks for ComfyUI)

        return live_stack.measure(rounds)
    return found.as_dict()
