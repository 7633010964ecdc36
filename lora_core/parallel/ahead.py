"""Work on a few threads, whose results are taken in order and never pile up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, wait
from typing import TypeVar

from ..lazytorch import torch
from .threads import one_thread_each, pool_of, processors

Item = TypeVar("Item")
Result = TypeVar("Result")
MOST_WORKERS = 8  # each holds a layer
SECONDS = 0.2  # between two questions


def ahead(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    size: Callable[[Item], int] = lambda _: 0,
    room: int = 0,
    ask: Callable[[], None] | None = None,
) -> Generator[Result, None, None]:
    """Yield work(item) of each item in order, computed a few ahead, on threads that torch does not split further.

    The SVD of a layer is too small for several threads to share, and several layers are not. The next item is taken
    from `items`, on this thread, once those in hand have no more than `room` together. Raises what `work` raises; when
    the caller stops early, what was begun is finished first. While this waits, `ask` is called again and again; what it
    raises ends the wait at once, and what was begun ends by itself, unheard.
    """
    is_heard = True
    with one_thread_each():
        pool = pool_of(min(MOST_WORKERS, processors()))
        hands: deque[tuple[Future[Result], int]] = deque()
        mode = torch.is_inference_mode_enabled()  # the modes of torch are each thread's own

        def run(item: Item) -> Result:
            with torch.inference_mode(mode):
                return work(item)

        def first() -> Result:
            nonlocal is_heard
            done, _ = hands.popleft()
            is_heard = ask is None
            while ask and not wait((done,), SECONDS).done:
                ask()
            is_heard = True
            return done.result()

        try:
            for item in items:
                hands.append((pool.submit(run, item), size(item)))
                del item  # so that nothing here holds on to it
                while len(hands) > min(MOST_WORKERS, processors()) or sum(taken for _, taken in hands) > room > 0:
                    yield first()
            while hands:
                yield first()
        finally:
            pool.shutdown(wait=is_heard, cancel_futures=True)
