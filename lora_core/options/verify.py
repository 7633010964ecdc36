"""Verify: a file made again from what its receipt names, and compared."""

from __future__ import annotations

from .base import Command, Option

VERIFY_BASE = Option("base", "MODEL_FILE", "The checkpoint that the file was merged into, under any name.")
SEARCH = Option(
    "search", "STRING", "A folder to look for inputs in, by their content: whatever they are called by now; repeat."
)

VERIFY_COMMAND = Command(
    "verify",
    "prove that a merged file is what its receipt says: every tensor is made again from the inputs and compared",
    (VERIFY_BASE, SEARCH),
)
