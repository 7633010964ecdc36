"""Jobs on a few threads: while one reads or writes, others compute. Results come in the order of the jobs.

Most of its time a job waits for the disk or computes in torch, and both let other threads run. A thread takes the next
job as soon as it is done with one, so neither the disk nor a processor waits for the other.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from .threads import SECONDS, Computation, one_thread_each, processors
from .workers import Workers

Result = TypeVar("Result")
MOST_WORKERS = 4  # each holds a tensor or two, and a disk gets no faster with more


@dataclass(slots=True)
class _Stop:
    """Why no further job is begun. No Event: setting one takes a lock, which an interrupt may leave locked."""

    has_failed: bool = False
    is_cancelled: bool = False


class Worker(threading.local):
    """What a job is given: memory that is used again and again, and the way to tell what is written."""

    def __init__(self, told: SimpleQueue[Any], stop: _Stop) -> None:
        self._told, self._stop = told, stop
        self._memory: dict[int, mmap.mmap] = {}

    def wrote(self, nbytes: int) -> None:
        """Tell of written bytes; raises if the work is cancelled."""
        if self._stop.is_cancelled:
            raise _StoppedError
        self._told.put(nbytes)

    def memory(self, number: int, nbytes: int) -> memoryview:
        """Return this thread's buffer of that number, holding whatever an earlier job left in it."""
        known = self._memory.get(number)
        if known is None or len(known) < nbytes:
            known = self._memory[number] = mmap.mmap(-1, max(nbytes, 1))
            if hasattr(mmap, "MADV_HUGEPAGE"):  # fewer page faults: each costs as much as filling the page
                known.madvise(mmap.MADV_HUGEPAGE)
        return memoryview(known)[:nbytes]


class _StoppedError(Exception):
    """The work was cancelled, or another job failed; seen by nobody, because the reason is raised instead."""


def run_jobs(jobs: Sequence[Callable[[Worker], Result]], on_bytes: Callable[[int], None]) -> list[Result]:
    """Run the jobs on a few threads and return their results in order.

    `on_bytes` gets what the jobs tell, on this thread, and may raise to cancel. When a job fails, those that were begun
    are finished and the error of the first in order is raised, so that the same input gives the same error. No thread
    is left afterwards, whatever happens.
    """
    told: SimpleQueue[Any] = SimpleQueue()
    stop = _Stop()
    worker = Worker(told, stop)
    if not jobs:
        return []
    with one_thread_each():
        pool = Workers(min(len(jobs), MOST_WORKERS, processors() + 1), told)
        try:
            tasks = [pool.submit(partial(_begin, job, worker, stop)) for job in jobs]
            _listen(tasks, told, on_bytes, pool, stop)
        except BaseException:
            stop.has_failed = stop.is_cancelled = True
            raise
        finally:
            pool.end()
    return [task.result() for task in tasks]  # raises before it comes to one that was never begun


def _begin(job: Callable[[Worker], Result], worker: Worker, stop: _Stop) -> Result:
    if stop.has_failed:
        raise _StoppedError
    try:
        return job(worker)
    except BaseException:
        stop.has_failed = True
        raise


def _listen(
    tasks: Sequence[Computation[Any]],
    told: SimpleQueue[Any],
    on_bytes: Callable[[int], None],
    pool: Workers,
    stop: _Stop,
) -> None:
    """Pass on what is told, until all jobs are done or one has failed."""
    running = len(tasks)
    while running:
        try:
            news = told.get(timeout=SECONDS)
        except Empty:
            pool.check()
            news = 0  # so that a cancel is heard during a long job
        if not isinstance(news, Computation):
            on_bytes(news)
        elif stop.has_failed:
            return
        else:
            running -= 1
