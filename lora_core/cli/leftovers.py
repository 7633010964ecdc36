"""What interrupted runs left in a folder: told after a run, listed, and removed when asked."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import OptionError, OutputError
from ..files.leftovers import Leftover, leftovers_in
from ..text import size_text


@dataclass(slots=True)
class LeftoversReport:
    """The leftovers of one folder, and what became of each. Paths are never told, only names."""

    folder: str
    items: list[dict[str, Any]] = field(default_factory=list)  # name, target, bytes, idle_seconds, state

    def to_dict(self) -> dict[str, Any]:
        return {"operation": "leftovers", "folder": self.folder, "items": self.items}

    def text(self) -> str:
        if not self.items:
            return f"{self.folder}: nothing was left behind by interrupted runs"
        return "\n".join(
            f"{one['name']} · {size_text(one['bytes'])} · of {one['target']} · {one['state']}" for one in self.items
        )


def leftovers(folder: str | os.PathLike[str], *, remove: bool = False) -> LeftoversReport:
    """Return what killed runs left in `folder`, and with `remove` remove it.

    What a running process writes stays. An old folder that nothing has replaced yet is put back, not removed. Raises
    LoraError for a folder that can't be listed or cleared.
    """
    path = Path(folder)
    if not path.is_dir():
        raise OptionError(f"{path}: is not a folder; name the one in which results are written.")
    report = LeftoversReport(path.resolve().name)
    for left in _listed(path):
        state = _cleared(left) if remove and not left.is_in_use else _state(left)
        report.items.append({
            "name": left.path.name,
            "target": left.target.name,
            "bytes": left.nbytes,
            "idle_seconds": round(left.idle),
            "state": state,
        })  # fmt: skip
    return report


def _listed(path: Path) -> list[Leftover]:
    try:
        return leftovers_in(path)
    except OSError as error:
        raise OutputError(f"{path.name}: can't be listed: {error.strerror}.") from error


def _state(left: Leftover) -> str:
    if left.is_in_use and not left.is_known:
        return "perhaps in use: no lock tells on this disk; removed once unchanged for a day, or delete it yourself"
    if left.is_in_use:
        return "in use by a running process"
    return "the only copy, to be put back" if left.is_only_copy else "left behind"


def _cleared(left: Leftover) -> str:
    done = "put back" if left.is_only_copy else "removed"
    try:
        left.clear()
    except OSError as error:
        raise OutputError(f"{left.path.name}: can't be {done}: {error.strerror}.") from error
    return done
