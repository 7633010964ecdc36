"""A few threads that take tasks in order: a pool that an interrupt at any moment leaves able to end."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

from ..lazytorch import torch
from .threads import Computation

Result = TypeVar("Result")


class Workers:
    """At most so many threads, each with a processor of its own: to use inside `one_thread_each`.

    `end` has to be called at last, whatever happens. `done` is where tasks are put when they are done, if anywhere.
    """

    def __init__(self, most: int, done: SimpleQueue[object] | None = None) -> None:
        self._most = most
        self._done = done
        self._tasks = SimpleQueue["Computation[object] | None"]()
        self._threads: list[Computation[None]] = []
        self._is_over = False

    def submit(self, compute: Callable[[], Result]) -> Computation[Result]:
        """Have it computed as soon as a thread is free; raises RuntimeError if there can't be a thread."""
        task = Computation(compute, self._done)
        self._tasks.put(task)  # pyright: ignore[reportArgumentType]  (a task of anything is one of objects)
        if len(self._threads) < self._most:
            self._threads.append(Computation(self._work))
            self._threads[-1].start()
        return task

    def check(self) -> None:
        """Raise what ended a thread, if anything did: its tasks would never be done."""
        for thread in self._threads:
            if thread.is_done:
                thread.result()

    def end(self, *, wait: bool = True) -> None:
        """Begin no further task, and unless told otherwise return when the begun ones are done, also if interrupted."""
        self._is_over = True
        try:
            for _ in self._threads:
                self._tasks.put(None)  # whichever takes it ends
            for thread in self._threads if wait else ():
                thread.drop()
        except BaseException:
            self.end(wait=wait)
            raise

    def _work(self) -> None:
        torch.set_num_threads(1)  # a new thread takes the number over only at some operations
        while not self._is_over:
            task = self._tasks.get()
            if task is not None and not self._is_over:
                task.run()
            del task  # its result, before the next one comes
