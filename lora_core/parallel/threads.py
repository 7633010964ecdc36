"""Threads for torch: how many there is work for, and each with a processor of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

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


def pool_of(workers: int) -> ThreadPoolExecutor:
    """Return a pool to use inside `one_thread_each`. A new thread takes the number over only at some operations."""
    return ThreadPoolExecutor(workers, "lora_core", torch.set_num_threads, (1,))


def watched(compute: Callable[[], Result], ask: Callable[[], None] | None) -> Result:
    """Return what `compute` returns; `ask` is called meanwhile, and what it raises ends the wait at once.

    The computation can't be stopped: after a cancel it ends by itself, unheard. Without `ask` it runs right here.
    """
    if ask is None:
        return compute()
    box: list[Result] = []
    errors: list[BaseException] = []
    quiet = torch.is_inference_mode_enabled()

    def run() -> None:
        try:
            with torch.inference_mode(quiet):  # the modes of torch are each thread's own
                box.append(compute())
        except BaseException as error:  # noqa: BLE001  (raised again by the caller)
            errors.append(error)

    _wait(threading.Thread(target=run, daemon=True), ask)
    if errors:
        raise errors[0]
    return box[0]


def _wait(thread: threading.Thread, ask: Callable[[], Any]) -> None:
    thread.start()
    while thread.is_alive():
        thread.join(SECONDS)
        if thread.is_alive():
            ask()
