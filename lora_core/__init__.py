"""LoRA Core: inspect, merge and extract LoRA files, each applied correctly or refused with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import LoraError
from .library.words import trigger_words
from .operations.combining.combine import combine
from .operations.converting.convert import convert
from .operations.extracting.extract import extract
from .operations.inspecting.inspect import inspect
from .operations.merging.merge import merge
from .operations.merging.verify import verify
from .operations.resizing.resize import resize
from .report import Report
from .version import VERSION

if TYPE_CHECKING:
    from .workflows.importing import import_workflow
    from .workflows.run import run

__version__ = VERSION

__all__ = [
    "LoraError", "Report", "__version__", "combine", "convert", "extract", "import_workflow", "inspect", "merge",
    "resize", "run", "trigger_words", "verify",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import what no node needs when it is first asked for: an eighth of the time that ComfyUI's start has for us."""
    if name == "import_workflow":
        from .workflows.importing import import_workflow  # noqa: PLC0415

        return import_workflow
    if name == "run":
        from .workflows.run import run  # noqa: PLC0415

        return run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
