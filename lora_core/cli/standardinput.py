"""`-` in place of a file that is read: what is piped into the command, kept as a file until it ends."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..errors import OptionError

DASH = "-"
NAME = "standard input"  # what reports call it


class StandardInput:
    """Gives the file that stands for `-`; use as a context manager, which removes it again."""

    def __init__(self) -> None:
        self._opened = ExitStack()
        self._is_used = False

    def __enter__(self) -> StandardInput:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def in_place_of(self, value: Any) -> Any:
        """Return an argument with the file in place of `-`: a path, a LoRA with its strengths, or a list of these.

        Raises OptionError if it is asked for a second time, or if nobody gives anything.
        """
        if isinstance(value, Path):
            return self._file() if str(value) == DASH else value
        if isinstance(value, tuple):
            return (self._named(value[0]), *value[1:])
        if isinstance(value, list):
            return [self._named(one) if isinstance(one, str) else self.in_place_of(one) for one in value]
        return value

    def _named(self, name: Any) -> Any:
        return str(self._file()) if name == DASH else name

    def _file(self) -> Path:
        if self._is_used:
            raise OptionError(f"{DASH}: is {NAME}, which can be read once; give the other file by its name.")
        if sys.stdin is None or sys.stdin.isatty():
            raise OptionError(f"{DASH}: is {NAME}, and nothing is piped into it; give a file by its name.")
        self._is_used = True
        folder = self._opened.enter_context(tempfile.TemporaryDirectory(prefix="lora-core-"))
        path = Path(folder, NAME)
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file, 2**20)
        return path


def refuse_output(values: Sequence[Any]) -> None:
    """Raise OptionError for `-` where a file is written: it is written at once and checked, which a pipe can't be."""
    if any(isinstance(value, Path) and str(value) == DASH for value in values):
        raise OptionError(f"--out: {DASH} would be standard output, which can't be checked; name a file.")
