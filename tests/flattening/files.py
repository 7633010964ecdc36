"""Real workflows: the templates that ComfyUI brings, and files of a folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.tiers import Host


def templates(host: Host) -> Iterator[Path]:
    """Yield the official workflow templates, wherever the host's Python has them."""
    below = "site-packages/comfyui_workflow_templates_json/templates/*.json"
    found = [*host.python.parent.parent.glob(f"lib/*/{below}"), *host.python.parent.parent.glob(f"Lib/{below}")]
    return (path for path in sorted(found) if not path.name.startswith("index"))


def workflows(paths: Iterable[Path]) -> Iterator[tuple[str, Any]]:
    """Yield (name, workflow) of the files in the editor's format."""
    for path in paths:
        try:
            data = json.loads(path.read_bytes())
        except ValueError:
            continue
        if isinstance(data, dict) and isinstance(data.get("nodes"), list):
            yield path.name, data
