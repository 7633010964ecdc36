"""Work on a few threads, whose results are taken in order and never pile up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import TypeVar

from ..lazytorch import torch
from .threads import Computation, one_thread_each, processors
from .workers import Workers

Item = TypeVar("Item")
Result = TypeVar("Result")
MOST_WORKERS = 8  # each holds a layer


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
        pool = Workers(min(MOST_WORKERS, processors()))
        hands: deque[tuple[Computation[Result], int]] = deque()
        mode = torch.is_inference_mode_enabled()  # the modes of torch are each thread's own

        def run(item: Item) -> Result:
            with torch.inference_mode(mode):
                return work(item)

        def first() -> Result:
            nonlocal is_heard
            task, _ = hands.popleft()
            is_heard = ask is None
            while not task.is_done:
                task.wait()
                pool.check()
                if ask and not task.is_done:
                    ask()
            is_heard = True
            return task.result()

        try:
            for item in items:
                hands.append((pool.submit(partial(run, item)), size(item)))
                del item  # so that nothing here holds on to it
                while len(hands) > min(MOST_WORKERS, processors()) or sum(taken for _, taken in hands) > room > 0:
                    yield first()
            while hands:
                yield first()
        finally:
            pool.end(wait=is_heard)
