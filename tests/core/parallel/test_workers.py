"""Threads of our own: what ends them, what comes through them, and that nothing of them is left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from lora_core.parallel.ahead import ahead
from lora_core.parallel.pipeline import Worker, run_jobs
from lora_core.parallel.threads import Computation, watched
from lora_core.parallel.workers import Workers
from tests.core import samples


class HostInterruptError(BaseException):
    """As ComfyUI ends a run: no Exception, so that nothing that catches errors swallows it."""


def interrupt(*_: object) -> None:
    raise HostInterruptError


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    threads = samples.threads()
    yield
    assert samples.threads(threads) <= threads


@pytest.mark.attack(32)
@pytest.mark.parametrize("where", ["progress", "job"])
def test_the_hosts_interrupt_comes_through_the_jobs_of_a_merge(where: str) -> None:
    def job(worker: Worker) -> None:
        worker.wrote(1)
        if where == "job":
            interrupt()

    with pytest.raises(HostInterruptError):
        run_jobs([job] * 9, interrupt if where == "progress" else lambda nbytes: None)


@pytest.mark.attack(32)
def test_the_hosts_interrupt_comes_through_a_long_job() -> None:
    """Which tells nothing by itself."""
    with pytest.raises(HostInterruptError):
        run_jobs([lambda worker: time.sleep(1)], interrupt)


@pytest.mark.attack(32)
@pytest.mark.parametrize("where", ["ask", "work", "items", "consumer"])
def test_the_hosts_interrupt_comes_through_work_ahead(where: str) -> None:
    def work(item: int) -> int:
        if where == "work" and item == 3:
            interrupt()
        time.sleep(0.3 if where == "ask" else 0)
        return item

    def items() -> Iterator[int]:
        for item in range(50):
            if where == "items" and item == 3:
                interrupt()
            yield item

    with (
        pytest.raises(HostInterruptError),
        closing(ahead(work, items(), ask=interrupt if where == "ask" else None)) as all_,
    ):
        for item in all_:
            if where == "consumer" and item == 3:
                interrupt()


@pytest.mark.attack(32)
def test_the_hosts_interrupt_ends_a_watch() -> None:
    with pytest.raises(HostInterruptError):
        watched(lambda: time.sleep(0.5), interrupt)
    with pytest.raises(HostInterruptError):
        watched(interrupt, lambda: None)


@pytest.mark.attack(32)
def test_what_is_dropped_before_it_begins_never_runs() -> None:
    """A thread may begin after whoever started it was interrupted, and its file has been closed."""
    ran: list[int] = []
    computation = Computation(lambda: ran.append(1))
    computation.drop()  # returns though it never runs
    computation.start()
    while not computation.is_done:
        computation.wait()
    assert ran == []


@pytest.mark.attack(32)
def test_workers_that_have_ended_begin_nothing() -> None:
    pool, ran = Workers(2), list[int]()
    assert pool.submit(lambda: 1) is not None
    pool.end()
    late = pool.submit(lambda: ran.append(1))
    pool.end()
    assert (late.is_done, ran) == (False, [])


@pytest.mark.attack(32)
def test_a_result_is_not_kept() -> None:
    computation = Computation(lambda: [1])
    computation.run()
    assert computation.result() == [1]
    assert computation.result() is None
