"""Work ahead on threads: in order, and never more in hand than there is room for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lora_core.parallel import ahead as module


@pytest.mark.parametrize("room", [10, 20])
def test_no_more_is_in_hand_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    monkeypatch.setattr(module, "processors", lambda: 8)
    sizes = (3, 5, 2, 9, 1, 4, 4, 6, 1, 1, 1, 7)
    in_hand: list[int] = []
    sums: list[int] = []  # when the next was taken

    def items() -> Iterator[int]:
        for size in sizes:
            sums.append(sum(in_hand))
            in_hand.append(size)
            yield size

    for size in module.ahead(lambda item: item, items(), size=lambda item: item, room=room):
        assert in_hand.pop(0) == size
    assert len(sums) == len(sizes)
    assert 5 < max(sums) <= room
