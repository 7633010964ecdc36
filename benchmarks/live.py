"""The live stack in ComfyUI, which benchmarks/live_stack.py measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.figures import Findings


def measure(rounds: int, folder: Path, quick: bool) -> dict[str, Any]:
    """Return what live_stack.measure returns: what `Findings.as_dict` makes. Anything else is kept under "details"."""
    found = Findings()
    with found.part("live stack"):
        from benchmarks import live_stack  # noqa: PLC0415  (it asks for ComfyUI)

        details = live_stack.measure(rounds, quick=quick)
        if "figures" in details:
            return {**found.as_dict(), **details}
        found.missing.append("live stack: figures beside goals; what was measured is in results.json only")
        return {**found.as_dict(), "details": details}
    return found.as_dict()
