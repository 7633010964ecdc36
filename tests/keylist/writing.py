"""Prints a proposal, or puts its file into lora_core/arch and its line into the list there."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lora_core import arch as archs
from tests.keylist import architecture

FOLDER = Path(archs.__file__).parent


def propose(names: Sequence[str], arch_id: str, title: str, write: bool) -> None:
    proposal = architecture.propose(names, arch_id, title)
    text = formatted(architecture.text(proposal))
    if not write:
        sys.stdout.write(text)
        return
    module = re.sub(r"\W", "_", proposal.arch.id)
    path = FOLDER / f"{module}.py"
    if path.exists():
        sys.exit(f"{path} is there already; without --write the proposal is printed.")
    path.write_text(text, encoding="utf-8")
    listed = FOLDER / "__init__.py"
    listed.write_text(
        formatted(with_entry(listed.read_text("utf-8"), module, architecture.constant(proposal.arch.id))),
        encoding="utf-8",
    )
    sys.stdout.write(f"{path}: written, {len(proposal.doubts)} things to look at in its comments.\n")


def with_entry(text: str, module: str, name: str) -> str:
    """Return the list of architectures with one more, before those of one layout."""
    line = f"from .{module} import {name}\n"
    imports = re.findall(r"^from \.\w+ import .*\n", text, re.MULTILINE)
    after = max((one for one in imports if one < line), default=imports[0])
    text = text.replace(after, after + line, 1)
    return text.replace("    *ONE_LAYOUT,\n", f"    {name},\n    *ONE_LAYOUT,\n", 1)


def formatted(text: str) -> str:
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", "lora_core/arch/proposed.py", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
