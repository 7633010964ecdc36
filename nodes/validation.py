"""What a prompt names, looked at before it runs: beside the event loop, never for long, and without reading a file."""

from __future__ import annotations

from collections.abc import Callable

from ..lora_core.parallel.asking import TookTooLongError
from .lanes import BusyError, Lane

_LANE = Lane("lora-core validation", threads=2, most=4, waiting=1_000, seconds=10)


async def looked_at(problem: Callable[[], bool | str]) -> bool | str:
    """Return True, or what is wrong as `problem` tells it; True as well where that takes too long: the run tells."""
    try:
        return await _LANE.run(problem)
    except (BusyError, TookTooLongError):
        return True
