"""Long loops that ask, again and again, whether the user cancels: opening a LoRA of many modules, placing them.

Who begins the work says once what is asked; the loops below need not hand it down. On other threads nothing is asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from .progress import OnStep

Item = TypeVar("Item")

SECONDS = 0.2  # between two questions
_TOGETHER = 64  # items between two looks at the clock
_ask: ContextVar[Callable[[], None] | None] = ContextVar("ask", default=None)


@contextmanager
def asking(on_step: OnStep | None) -> Generator[OnStep | None, None, None]:
    """Let `each` ask `on_step`, which may raise to cancel; yields what is to be called instead of it.

    It is asked with what it was told last, so that the progress it shows stays as it is.
    """
    last = (0, 1)

    def step(done: int, total: int) -> None:
        nonlocal last
        last = (done, total)
        if on_step:
            on_step(done, total)

    token = _ask.set(None if on_step is None else lambda: step(*last))
    try:
        yield None if on_step is None else step
    finally:
        _ask.reset(token)


def each(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items; what is asked meanwhile may raise to cancel."""
    ask = _ask.get()
    return iter(items) if ask is None else _asked(items, ask)


def _asked(items: Iterable[Item], ask: Callable[[], None]) -> Iterator[Item]:
    last = time.monotonic()
    for number, item in enumerate(items):
        if number % _TOGETHER == 0 and time.monotonic() - last >= SECONDS:
            ask()
            last = time.monotonic()
        yield item
