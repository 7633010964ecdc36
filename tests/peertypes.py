"""The types of other packs' nodes for the page, `web/lib/peertypes.js`; `python -m tests.peertypes` writes it."""

from __future__ import annotations

import json
from pathlib import Path

from lora_core.workflows.importing.peers import PEERS

FILE = Path(__file__).resolve().parents[1] / "web/lib/peertypes.js"


def script() -> str:
    """Return the file's text."""
    types = "".join(f"    {json.dumps(peer)},\n" for peer in PEERS)
    return f"""// @ts-check
/** The nodes of other packs that can be converted. Made by `python -m tests.peertypes` from lora_core. */

export const PEER_TYPES = [
{types}];
"""


if __name__ == "__main__":
    FILE.write_text(script(), encoding="utf-8")
