"""LoRA Core: inspect, merge and extract LoRA files, each applied correctly or refused with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .combine import combine
from .convert import convert
from .errors import LoraError
from .extract import extract
from .inspect import inspect
from .library.words import trigger_words
from .merge import merge
from .report import Report
from .resize import resize
from .verify import verify
from .version import VERSION

if TYPE_CHECKING:
    from .importing import import_workflow
    from .workflow import run

__version__ = VERSION

__all__ = [
    "LoraError", "Report", "__version__", "combine", "convert", "extract", "import_workflow", "inspect", "merge",
    "resize", "run", "trigger_words", "verify",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import what no node needs when it is first asked for: an eighth of the time that ComfyUI's start has for us."""
    if name == "import_workflow":
        from .importing import import_workflow  # noqa: PLC0415

        return import_workflow
    if name == "run":
        from .workflow import run  # noqa: PLC0415

        return run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
