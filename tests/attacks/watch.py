"""Whether a server still answers: asked for its own state again and again, with the worst answer remembered.

A wait counts in seconds of the server's own work too: what else the machine does is not its affair.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable

PAUSE = 0.05  # seconds between two questions
LONGEST = 60.0  # seconds that an answer is waited for


class Watch:
    """Asks on a thread of its own, from `start` to `stop`; `label` is what is sent meanwhile."""

    def __init__(self, port: int, worked: Callable[[], float]) -> None:
        """`worked` tells how many seconds of work the server has done."""
        self.label = ""
        self.worst: dict[str, tuple[float, float]] = {}  # label -> seconds of its work and of the clock
        self._port, self._worked = port, worked
        self._asked: float | None = None  # when, if the answer has not come yet
        self._ended = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._ask, daemon=True).start()

    def stop(self) -> None:
        self._ended.set()

    def waiting(self) -> float:
        """Return for how long the server has not answered."""
        asked = self._asked
        return 0.0 if asked is None else time.monotonic() - asked

    def _ask(self) -> None:
        while not self._ended.wait(PAUSE):
            label, self._asked, worked = self.label, time.monotonic(), self._worked()
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=LONGEST)
                connection.request("GET", "/system_stats")
                connection.getresponse().read()
                connection.close()
            except OSError:
                if self._ended.is_set():
                    return
            self.worst[label] = max(self.worst.get(label, (0.0, 0.0)), (self._worked() - worked, self.waiting()))
            self._asked = None
