"""Work on a few threads, whose results are taken in order and never pile up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from .threads import one_thread_each, processors

Item = TypeVar("Item")
Result = TypeVar("Result")
MOST_WORKERS = 8  # each holds a layer


def ahead(work: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result, None, None]:
    """Yield work(item) of each item in order, computed a few ahead, on threads that torch does not split further.

    The SVD of a layer is too small for several threads to share, and several layers are not. Raises what `work` raises;
    when the caller stops early, what was begun is finished first.
    """
    workers = min(MOST_WORKERS, processors())
    with one_thread_each():
        pool = ThreadPoolExecutor(workers, "lora_core")
        try:
            waiting: deque[Future[Result]] = deque()
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
