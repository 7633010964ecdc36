"""Whether the work of this thread is still wanted: who waits for it says how to ask, and long loops ask.

Reading a file of strangers goes through many hands, and each of them may be the one that takes long. So the question
belongs to the thread, not to every function's arguments. On other threads nothing is asked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from .progress import OnStep

Item = TypeVar("Item")
Question = Callable[[], None]

SECONDS = 0.2  # between two questions to an `on_step`, which may draw something each time
_local = threading.local()


class TookTooLongError(Exception):
    """What was asked for took longer than anybody waits."""


@contextmanager
def asking(question: Question) -> Generator[None, None, None]:
    """Let `ask` on this thread call `question`, which raises once nobody waits any more; questions around it too."""
    before = _questions()
    _local.questions = (*before, question)
    try:
        yield
    finally:
        _local.questions = before


def ask() -> None:
    """Raise what the one who waits wants raised; do nothing where nobody said how to ask."""
    for question in _questions():
        question()


def each(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items, and ask before each."""
    return _asked(items) if _questions() else iter(items)


def _asked(items: Iterable[Item]) -> Iterator[Item]:
    for item in items:
        ask()
        yield item


def _questions() -> tuple[Question, ...]:
    return getattr(_local, "questions", ())


@contextmanager
def within(seconds: float) -> Generator[None, None, None]:
    """Let `ask` on this thread raise TookTooLongError once so much time is over."""
    end = time.monotonic() + seconds

    def question() -> None:
        if time.monotonic() > end:
            raise TookTooLongError

    with asking(question):
        yield


@contextmanager
def cancellable(on_step: OnStep | None) -> Generator[OnStep | None, None, None]:
    """Let `ask` call `on_step`, which may raise to cancel; yields what is to be called instead of it.

    It is asked with what it was told last, so that the progress it shows stays as it is.
    """
    if on_step is None:
        yield None
        return
    told, last = (0, 1), time.monotonic()

    def step(done: int, total: int) -> None:
        nonlocal told, last
        told, last = (done, total), time.monotonic()
        on_step(done, total)

    def question() -> None:
        if time.monotonic() - last >= SECONDS:
            step(*told)

    with asking(question):
        yield step
