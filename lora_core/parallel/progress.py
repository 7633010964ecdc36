"""Progress that may be cancelled: how far a run is, told to a function of the caller's that may raise."""

from __future__ import annotations

from collections.abc import Callable

OnStep = Callable[[int, int], None]  # (done, total) in bytes or elements; may raise to cancel


class LayerSteps:
    """Counts layers for `on_step`, which may raise to cancel."""

    def __init__(self, on_step: OnStep | None, total: int) -> None:
        self._on_step, self._total, self._done = on_step, total, 0

    def __call__(self, count: int) -> None:
        self._done += count
        if self._on_step:
            self._on_step(self._done, self._total)
