"""The peers must not reach for the network: every file they read is one that a test has written."""

from __future__ import annotations

import socket
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: socket.socket, address: Any) -> None:
        raise AssertionError(f"a test of the peers tried to connect to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
