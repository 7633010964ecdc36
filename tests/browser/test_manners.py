"""What the page and the server say of this pack's scripts: nothing of what the host is about to remove is used."""

from __future__ import annotations

import pytest

from tests.browser.stage import Stage
from tests.host_server import Server


@pytest.mark.everywhere("each front end deprecates what it wants, while it loads")
def test_neither_page_nor_server_calls_anything_deprecated(stage: Stage, server: Server) -> None:
    stage.add("LoraCoreStack", {"v": 1, "rows": [{"on": True, "name": "detail.safetensors", "strength": 1}]})
    stage.add("LoraCoreLoad")
    stage.page.get_by_role("button", name="Raise Strength of detail").click()
    said = [*stage.at_load, *stage.complaints]
    assert [text for text in said if "deprecated" in text.lower()] == []
    assert "DEPRECATION" not in server.log


def test_a_deprecated_script_is_noticed(stage: Stage, server: Server) -> None:
    # not one that loads: the page's warning is what counts, and the server's log must stay clean for the other test
    stage.page.evaluate("() => console.warn('[ComfyUI Deprecated] Importing from scripts/ui.js is deprecated.')")
    stage.page.wait_for_function("() => true")
    assert stage.complaints
    stage.complaints.clear()
