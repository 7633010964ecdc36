"""Threads beside ComfyUI's event loop, for what the page asks and for what a prompt names.

Each kind of work has a lane: a few threads and a queue with an end. Work that takes long gives its place to a further
thread, so that two bad files never keep good ones waiting; it is stopped when its time is over or nobody waits for it
any more, because readers ask. The threads are daemons: Python waits for no other kind before it ends.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..lora_core.parallel.asking import TookTooLongError, asking

PATIENCE = 1.0  # seconds: work that takes longer is not counted as having a thread
T = TypeVar("T")


class BusyError(Exception):
    """More is waiting in this lane already than it takes."""


class StoppedError(Exception):
    """Nobody waits for this work any more."""


def _always() -> bool:
    return True


@dataclass(slots=True, eq=False)
class _Job:
    work: Callable[[], Any]
    seconds: float  # from its start
    is_wanted: Callable[[], bool]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    is_stopped: bool = False
    started: float = 0.0

    def run(self) -> None:
        try:
            with asking(self._ask):
                self._ask()
                found = self.work()
        except BaseException as error:  # noqa: BLE001  (raised again where it is waited for)
            self._settle(None, error)
        else:
            self._settle(found, None)

    def _ask(self) -> None:
        if self.is_stopped or not self.is_wanted():
            raise StoppedError
        if time.monotonic() > self.started + self.seconds:
            raise TookTooLongError

    def _settle(self, found: Any, error: BaseException | None) -> None:
        try:
            self.loop.call_soon_threadsafe(_settle, self.future, found, error)
        except RuntimeError:  # the loop has ended, and with it whoever waited
            return


def _settle(future: asyncio.Future[Any], found: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(found)
    else:
        future.set_exception(error)


@dataclass(eq=False)
class Lane:
    """`threads` at a time, up to `most` where some take long; `waiting` at most; `seconds` for each."""

    name: str
    threads: int
    most: int
    waiting: int
    seconds: float
    _moved: threading.Condition = field(default_factory=threading.Condition)
    _queue: deque[_Job] = field(default_factory=deque[_Job])
    _running: set[_Job] = field(default_factory=set[_Job])
    _idle: int = 0

    async def run(self, work: Callable[[], T], is_wanted: Callable[[], bool] = _always) -> T:
        """Return what `work` returns on a thread of this lane, where `ask` raises once it is to stop.

        Raises what `work` raises, BusyError, or TookTooLongError, even where `work` does not ask.
        """
        loop = asyncio.get_running_loop()
        job = _Job(work, self.seconds, is_wanted, loop, loop.create_future())
        self._take(job)
        try:
            await asyncio.wait((job.future,), timeout=2 * self.seconds)  # to wait, and to work
            if not job.future.done():
                raise TookTooLongError
            return job.future.result()
        finally:
            job.is_stopped = True
            job.future.cancel()  # nobody hears what comes now

    def _take(self, job: _Job) -> None:
        with self._moved:
            if len(self._queue) >= self.waiting:
                raise BusyError
            self._queue.append(job)
        self._staff(job)

    def _staff(self, job: _Job) -> None:
        """See to it that a thread comes for the queue, now and again until `job` has one."""
        with self._moved:
            now = time.monotonic()
            quick = self._idle + sum(now - one.started < PATIENCE for one in self._running)
            if len(self._queue) > self._idle and quick < self.threads and len(self._running) < self.most:
                threading.Thread(target=self._serve, args=(self._first(),), name=self.name, daemon=True).start()
            self._moved.notify(len(self._queue))
            is_waiting = job in self._queue
        if is_waiting:
            job.loop.call_later(PATIENCE, self._staff, job)

    def _serve(self, job: _Job | None) -> None:
        while job is not None:
            job.run()
            with self._moved:
                self._running.discard(job)
                job = None  # so that nothing is held while it waits
                while not self._queue and self._idle < self.threads:
                    self._idle += 1
                    self._moved.wait()
                    self._idle -= 1
                if self._queue and len(self._running) < self.most:
                    job = self._first()

    def _first(self) -> _Job:
        """Take the first job of the queue, which is begun now; the lock is held."""
        job = self._queue.popleft()
        job.started = time.monotonic()
        self._running.add(job)
        return job
