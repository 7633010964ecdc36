"""Threads for torch: how many there is work for, and each with a processor of its own."""

from __future__ import annotations

import os
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from .lazytorch import torch


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
