"""Whether a server still answers: asked for its own state again and again, with the worst answer remembered."""

from __future__ import annotations

import http.client
import threading
import time
from types import TracebackType

PAUSE = 0.05  # seconds between two questions
LONGEST = 60.0  # seconds that an answer is waited for


class Watch:
    """Asks from a thread of its own, while it is entered; `label` is what is sent meanwhile."""

    def __init__(self, port: int) -> None:
        self.label = ""
        self.worst: dict[str, float] = {}  # label -> seconds
        self._port = port
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join(LONGEST)

    def slowest(self) -> tuple[str, float]:
        return max(self.worst.items(), key=lambda item: item[1], default=("", 0.0))

    def _ask(self) -> None:
        while not self._ended.wait(PAUSE):
            label, start = self.label, time.monotonic()
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=LONGEST)
                connection.request("GET", "/system_stats")
                connection.getresponse().read()
                connection.close()
            except OSError:
                if self._ended.is_set():
                    return
            self.worst[label] = max(self.worst.get(label, 0.0), time.monotonic() - start)
