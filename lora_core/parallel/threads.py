"""Threads that no interrupt leaves waiting: how many there is work for, and one computation on a thread of its own."""

from __future__ import annotations

import _thread
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar, cast

from ..lazytorch import torch

SECONDS = 0.2  # between two questions
Result = TypeVar("Result")


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_thread_each() -> Generator[None, None, None]:
    """Let torch compute on the thread that asks; more threads for each would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Computation(Generic[Result]):
    """A computation for another thread, and then its result or its error.

    An interrupt comes to the main thread between any two of its steps, also while it holds a lock of Python's that the
    threads and pools of the standard library take; then nobody ever gets that lock. So a task tells how far it is by
    plain attributes, which whoever waits looks at again and again, and its bell is a queue that is no Python code. At
    the end of the program nothing waits for its thread.
    """

    def __init__(self, compute: Callable[[], Result], bell: SimpleQueue[object] | None = None) -> None:
        """`bell` is where `self` is put once it is done: one of its own, if nobody gives one."""
        self.is_running = self.is_done = False
        self._compute: Callable[[], Result] | None = compute
        self._bell = SimpleQueue[object]() if bell is None else bell
        self._is_dropped = False
        self._result: Result | None = None
        self._error: BaseException | None = None

    def start(self) -> None:
        """Begin it on a thread of its own; raises RuntimeError if the system has none left."""
        _thread.start_new_thread(self.run, ())

    def run(self) -> None:
        """Compute on this thread, unless it was dropped before."""
        self.is_running = True  # before the look at what `drop` sets before it looks at this
        compute, self._compute = self._compute, None  # so that nothing here holds on to it
        try:
            if compute is not None and not self._is_dropped:
                self._result = compute()
        except BaseException as error:  # noqa: BLE001  (raised again by `result`)
            self._error = error
        finally:
            del compute
            self.is_running, self.is_done = False, True
            self._bell.put(self)

    def wait(self, seconds: float = SECONDS) -> None:
        """Wait until it is done, or about so long."""
        with suppress(Empty):
            if not self.is_done:
                self._bell.get(timeout=seconds)

    def drop(self) -> None:
        """Return when nothing of it runs, and see to it that nothing ever will; an interrupt is raised only then."""
        self._is_dropped = True
        try:
            while self.is_running:
                self.wait()
        except BaseException:
            self.drop()
            raise

    def result(self) -> Result:
        """Return its result once it is done, or raise what it raised; to be asked once."""
        assert self.is_done
        result, error = self._result, self._error
        self._result = self._error = None  # an error holds the frames that it came through, and they hold tensors
        try:
            if error is not None:
                raise error
            return cast("Result", result)
        finally:
            del error


def watched(compute: Callable[[], Result], ask: Callable[[], None] | None) -> Result:
    """Return what `compute` returns; `ask` is called meanwhile, and what it raises ends the wait at once.

    The computation can't be stopped: after a cancel it ends by itself, unheard. Without `ask` it runs right here.
    """
    if ask is None:
        return compute()
    quiet = torch.is_inference_mode_enabled()

    def run() -> Result:
        with torch.inference_mode(quiet):  # the modes of torch are each thread's own
            return compute()

    task = Computation(run)
    task.start()
    while not task.is_done:
        task.wait()
        if not task.is_done:
            ask()
    return task.result()
