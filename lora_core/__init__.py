"""LoRA Core: inspect, merge and extract LoRA files, each applied correctly or refused with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import operations
from .errors import LoraError
from .library.words import trigger_words
from .operations import *  # noqa: F403  (one function for each operation, as listed there)
from .report import Report
from .version import VERSION

if TYPE_CHECKING:
    from .workflows.importing import import_workflow
    from .workflows.run import run

__version__ = VERSION

__all__ = ["LoraError", "Report", "__version__", "import_workflow", "run", "trigger_words"]
__all__ += operations.__all__


def __getattr__(name: str) -> Any:
    """Import what no node needs when it is first asked for: an eighth of the time that ComfyUI's start has for us."""
    if name == "import_workflow":
        from .workflows.importing import import_workflow  # noqa: PLC0415

        return import_workflow
    if name == "run":
        from .workflows.run import run  # noqa: PLC0415

        return run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
