"""Lanes: work beside an event loop that ends when it should, and never keeps other work waiting."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.packparts import REPO, part

lanes: Any = part("lanes")
TookTooLongError = lanes.TookTooLongError
ask: Callable[[], None] = sys.modules[lanes.asking.__module__].ask


@pytest.fixture
def hold() -> Iterator[threading.Event]:
    """What stuck work waits for; set at the end, so that its threads end."""
    event = threading.Event()
    yield event
    event.set()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """What ``asyncio.run`` gives in a thread of its own: a browser test may have left a loop running in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def lane(**changes: Any) -> Any:
    return lanes.Lane(**{"name": "test", "threads": 2, "most": 6, "waiting": 64, "seconds": 60.0, **changes})


class Endless:
    """Work that goes on until it is told not to."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def __call__(self) -> None:
        try:
            while True:
                ask()
                time.sleep(0.01)
        finally:
            self.ended.set()


@pytest.mark.attack(2)
def test_two_that_are_stuck_do_not_keep_others_waiting(hold: threading.Event) -> None:
    async def tried() -> list[int]:
        one = lane()
        stuck = [asyncio.ensure_future(one.run(hold.wait)) for _ in range(4)]
        found = await asyncio.gather(*[one.run(lambda number=number: number) for number in range(30)])
        hold.set()
        await asyncio.gather(*stuck)
        return found

    assert run(asyncio.wait_for(tried(), 120)) == list(range(30))


@pytest.mark.attack(2)
def test_work_that_asks_is_ended_when_its_time_is_over() -> None:
    endless = Endless()
    with pytest.raises(TookTooLongError):
        run(lane(seconds=0.1).run(endless))
    assert endless.ended.wait(60)


@pytest.mark.attack(2)
def test_work_that_does_not_ask_is_given_up(hold: threading.Event) -> None:
    with pytest.raises(TookTooLongError):
        run(lane(seconds=0.1).run(hold.wait))


def test_work_ends_when_nobody_waits_any_more() -> None:
    endless = Endless()

    async def left() -> None:
        task = asyncio.ensure_future(lane().run(endless))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(left())
    assert endless.ended.wait(60)
    with pytest.raises(lanes.StoppedError):
        run(lane().run(endless, lambda: False))


def test_a_full_queue_is_refused_at_once(hold: threading.Event) -> None:
    async def tried() -> int:
        one = lane(threads=1, most=1, waiting=2)
        tasks = [asyncio.ensure_future(one.run(hold.wait)) for _ in range(10)]
        await asyncio.sleep(0)
        refused = [task for task in tasks if task.done()]
        for task in refused:
            assert isinstance(task.exception(), lanes.BusyError)
        hold.set()
        await asyncio.gather(*set(tasks).difference(refused))
        return len(refused)

    assert run(tried()) == 7  # of one at work and two that wait


def test_what_work_raises_is_raised() -> None:
    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        run(lane().run(fail))


def test_no_more_threads_stay_than_there_is_room_for() -> None:
    async def many() -> int:
        one = lane(name="many")
        for _ in range(20):
            await asyncio.gather(*[one.run(lambda: None) for _ in range(20)])
        return sum(thread.name == "many" for thread in threading.enumerate())

    assert run(many()) in (1, 2)


ENDING = """
import asyncio, threading
from tests.packparts import part
lanes = part("lanes")
async def leave():
    lane = lanes.Lane("stuck", threads=2, most=4, waiting=10, seconds=3600)
    for _ in range(4):
        asyncio.ensure_future(lane.run(threading.Event().wait))
    await asyncio.sleep(0.1)
    raise KeyboardInterrupt
asyncio.run(leave())
"""


@pytest.mark.attack(2)
def test_python_ends_while_work_is_stuck() -> None:
    done = subprocess.run([sys.executable, "-c", ENDING], cwd=REPO, capture_output=True, timeout=120, check=False)
    assert b"KeyboardInterrupt" in done.stderr
