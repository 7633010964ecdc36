"""Long computations that can be cancelled: they run beside, while the caller is asked again and again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from .lazytorch import torch

SECONDS = 0.2  # between two questions
Result = TypeVar("Result")


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
