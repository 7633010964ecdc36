"""Starts ComfyUI, sends it every attack, and says what became of it; ends with 1 if a limit was passed."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.attacks.campaign import Campaign, Limits
from tests.host_server import REPO
from tests.tiers import find_host, why_not


def main(words: Sequence[str] | None = None) -> int:
    options = _options(words)
    host = find_host()
    if host is None:
        sys.exit(f"attacks: {why_not('host')}")
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a shell's background job; the server inherits it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="lora-core-attacks-") as made:
        campaign = Campaign(host, Path(made), options.pack, options.match, Limits())
        campaign.run(options.parts)
        problems = campaign.tell(sys.stdout)
        if options.json:
            data = {"tried": [asdict(one) for one in campaign.tried], "problems": problems}
            options.json.write_text(json.dumps(data, indent=1), "utf-8")
    return 1 if problems or not campaign.tried else 0


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.attacks", description=__doc__)
    parser.add_argument("--pack", type=Path, default=REPO, help="the folder of the pack that is attacked")
    parser.add_argument("--match", default="", metavar="TEXT", help="only attacks with this text in their name")
    parser.add_argument("--parts", nargs="+", choices=Campaign.PARTS, default=list(Campaign.PARTS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was tried there")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
