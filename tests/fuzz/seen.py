"""What text that people see may hold: nothing that moves the cursor, colours a terminal or turns text around."""

from __future__ import annotations

import unicodedata

_TURNING = {*range(0x200E, 0x2010), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x061C, 0x2028, 0x2029, 0xFEFF}


def unfit(text: str) -> list[str]:
    """Return the characters of one line that no terminal, log or page should get."""
    return [char for char in text if unicodedata.category(char) in ("Cc", "Cs") or ord(char) in _TURNING]


def check_shown(text: str) -> None:
    assert unfit(text) == [], f"{unfit(text)!r} in {text[:200]!r}"
