"""LoRA Core: inspect, merge and extract LoRA files, each applied correctly or refused with the reason."""

from __future__ import annotations

from .combine import combine
from .convert import convert
from .errors import LoraError
from .extract import extract
from .importing import import_workflow
from .inspect import inspect
from .library.words import trigger_words
from .merge import merge
from .report import Report
from .resize import resize
from .verify import verify
from .version import VERSION
from .workflow import run

__version__ = VERSION

__all__ = [
    "LoraError", "Report", "__version__", "combine", "convert", "extract", "import_workflow", "inspect", "merge",
    "resize", "run", "trigger_words", "verify",
]  # fmt: skip
