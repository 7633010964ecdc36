"""Jobs on a few threads: while one reads or writes, others compute. Results come in the order of the jobs.

Most of its time a job waits for the disk or computes in torch, and both let other threads run. A thread takes the next
job as soon as it is done with one, so neither the disk nor a processor waits for the other.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeVar

from .threads import one_thread_each, pool_of, processors

Result = TypeVar("Result")
MOST_WORKERS = 4  # each holds a tensor or two, and a disk gets no faster with more


class Worker(threading.local):
    """What a job is given: memory that is used again and again, and the way to tell what is written."""

    def __init__(self, told: SimpleQueue[Any], cancelled: threading.Event) -> None:
        self._told, self._cancelled = told, cancelled
        self._memory: dict[int, mmap.mmap] = {}

    def wrote(self, nbytes: int) -> None:
        """Tell of written bytes; raises if the work is cancelled."""
        if self._cancelled.is_set():
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
    failed, cancelled = threading.Event(), threading.Event()
    worker = Worker(told, cancelled)
    if not jobs:
        return []
    with one_thread_each():
        pool = pool_of(min(len(jobs), MOST_WORKERS, processors() + 1))
        try:
            futures = [pool.submit(_begin, job, worker, failed) for job in jobs]
            _listen(futures, told, on_bytes)
        except BaseException:
            failed.set()
            cancelled.set()
            raise
        finally:
            _end(pool)
    return [future.result() for future in futures]  # raises before it comes to one that was never begun


def _begin(job: Callable[[Worker], Result], worker: Worker, failed: threading.Event) -> Result:
    if failed.is_set():
        raise _StoppedError
    try:
        return job(worker)
    except BaseException:
        failed.set()
        raise


def _listen(futures: Sequence[Future[Result]], told: SimpleQueue[Any], on_bytes: Callable[[int], None]) -> None:
    """Pass on what is told, until all jobs are done or one has failed."""
    for future in futures:
        future.add_done_callback(told.put)
    running = len(futures)
    while running:
        news = told.get()
        if not isinstance(news, Future):
            on_bytes(news)
        elif news.exception() is not None:
            return
        else:
            running -= 1


def _end(pool: ThreadPoolExecutor) -> None:
    while True:
        try:
            pool.shutdown(cancel_futures=True)
            return
        except KeyboardInterrupt:  # a second one; the files must not be closed while a thread still writes
            continue
