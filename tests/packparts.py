"""Modules of nodes/ that need no ComfyUI, imported as the host imports the pack: below a package of another name."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

REPO = Path(__file__).resolve().parents[1]
PACK = "lora_core_pack"


def part(name: str) -> ModuleType:
    """Return the module nodes.NAME; the packages around it are there without what their own files import."""
    for package, folder in (
        (PACK, REPO),
        (f"{PACK}.nodes", REPO / "nodes"),
        (f"{PACK}.nodes.page", REPO / "nodes/page"),
    ):
        if package not in sys.modules:
            made = ModuleType(package)
            made.__path__ = [str(folder)]
            sys.modules[package] = made
    return importlib.import_module(f"{PACK}.nodes.{name}")
