"""The standard streams of the command: closed ones, readers that went away, and terminals that lack letters."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO


def open_streams() -> None:
    """Make the standard streams safe to use.

    Where one is closed, the next file that is opened would get its number, and whatever a library prints would be
    written into that file: the null device takes the place. A letter that a stream has no code for is escaped.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    sys.stdout, sys.stderr = sys.stdout or _nowhere(), sys.stderr or _nowhere()  # None where it was closed
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(stream: TextIO, text: str) -> None:
    """Write and flush; raises OSError if nobody can read it, and then the stream is of no more use."""
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        _give_up(stream)
        raise


def _give_up(stream: TextIO) -> None:
    """Let what could not be written go nowhere: Python would try again at its end, and complain."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")
