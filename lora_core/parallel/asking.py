"""Whether the work of this thread is still wanted: who waits for it says how to ask, and long loops ask.

Reading a file of strangers goes through many hands, and each of them may be the one that takes long. So the question
belongs to the thread, not to every function's arguments.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

_local = threading.local()


class TookTooLongError(Exception):
    """What was asked for took longer than anybody waits."""


@contextmanager
def asking(question: Callable[[], None]) -> Generator[None, None, None]:
    """Let `ask` on this thread call `question`, which raises once nobody waits any more; questions around it too."""
    before: tuple[Callable[[], None], ...] = getattr(_local, "questions", ())
    _local.questions = (*before, question)
    try:
        yield
    finally:
        _local.questions = before


def ask() -> None:
    """Raise what the one who waits wants raised; do nothing where nobody said how to ask."""
    for question in getattr(_local, "questions", ()):
        question()


@contextmanager
def within(seconds: float) -> Generator[None, None, None]:
    """Let `ask` on this thread raise TookTooLongError once so much time is over."""
    end = time.monotonic() + seconds

    def question() -> None:
        if time.monotonic() > end:
            raise TookTooLongError

    with asking(question):
        yield
