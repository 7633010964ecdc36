"""Coverage-guided fuzzing of all that reads strangers' text and files: `make fuzz`, see CONTRIBUTING.md.

One file per target: `check(data)` raises for an input that breaks the target's promise, and `seeds()` gives inputs to
start from. What a fuzzer found stays in `corpus/TARGET`, which an ordinary test replays without the fuzzer.
"""

from __future__ import annotations

from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
TARGETS = (
    *("header", "gguf_header", "pickled", "keys", "adapters", "metadata"),
    *("sidecars", "blocks", "rows", "ranks", "workflows", "names"),
)
