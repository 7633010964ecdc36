"""ComfyUI's page as the browser tests use it: a graph with our nodes on it, and the controls of the rows widget."""

from __future__ import annotations

import json
import re
from typing import Any

from playwright.sync_api import ConsoleMessage, FloatRect, Locator, Page, expect

from tests.host_server import PACK

READY = (
    "!!(window.app?.graph && window.app?.extensionManager && window.LiteGraph?.registered_node_types?.LoraCoreStack)"
)

# What the page says of its own scripts, with no pack at all. The last: no script of ours reads `input.link`, as
# manners.test.mjs holds, but the page's own do.
STOCK = (
    "The legacy queue/history menu is deprecated",
    "ComfyApp.open_maskeditor is deprecated",
    "input.link is deprecated",
)

EMPTY = {"version": 0.4, "nodes": [], "links": [], "last_node_id": 0, "last_link_id": 0}

ADD_NODE = """([type, rows]) => {
    const node = LiteGraph.createNode(type);
    node.pos = [160 + 480 * app.graph._nodes.length, 140];
    app.graph.add(node);
    if (rows) node.widgets.find((widget) => widget.name === "rows").value = rows;
    const tracker = app.extensionManager.workflow.activeWorkflow?.changeTracker;
    (tracker?.captureCanvasState ?? tracker?.checkState)?.call(tracker);
    return node.id;
}"""


def box_of(locator: Locator) -> FloatRect:
    """Return where a control lies on the page, once it is shown and lies still: Nodes 2.0 lays a new node out twice."""
    last = None
    for _ in range(100):
        expect(locator).to_be_visible()
        box = locator.bounding_box()
        if box is not None and box == last:
            return box
        last = box
        locator.page.wait_for_timeout(50)
    raise AssertionError(f"{locator} does not come to rest")


class Stage:
    """One page in one renderer."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.complaints: list[str] = []
        page.on("console", self._note_console)
        page.on("pageerror", lambda error: self._note(f"{error}\n{error.stack}"))

    def open(self) -> None:
        self.page.goto(self.url)
        self.page.wait_for_function(READY, timeout=120_000)
        # the page starts with a workflow of its own, which may still be loading, and would lie on what a test adds
        self.page.wait_for_function("() => !document.querySelector('#splash-loader') && app.graph._nodes.length > 0")
        self.page.wait_for_timeout(800)
        self.clear()

    def clear(self) -> None:
        """Empty the graph and start a new undo history."""
        self.page.keyboard.press("Escape")
        self.page.evaluate(
            "() => app.loadGraphData({version: 0.4, nodes: [], links: [], last_node_id: 0, last_link_id: 0})"
        )
        self.page.evaluate("() => { app.canvas.ds.scale = 1; app.canvas.ds.offset = [60, 60]; }")
        self.complaints.clear()

    def add(self, node_type: str, rows: Any = None) -> None:
        self.page.evaluate(ADD_NODE, [node_type, rows])
        self.page.wait_for_timeout(300)

    def node(self, expression: str) -> Any:
        """Return an expression of the first `node` of the graph."""
        return self.page.evaluate(f"() => {{ const node = app.graph._nodes[0]; return {expression}; }}")

    def value(self) -> dict[str, Any]:
        """Return what a prompt would hold for the rows of the first node."""
        output = self.page.evaluate("async () => (await app.graphToPrompt()).output")
        return next(iter(output.values()))["inputs"]["rows"]

    def settles(self, expected: dict[str, Any]) -> None:
        """Assert that the rows of the first node become this: an undo takes the page a moment."""
        for _ in range(50):
            if self.value() == expected:
                return
            self.page.wait_for_timeout(200)
        assert self.value() == expected

    def rows(self) -> Locator:
        return self.page.locator(".loracore-row")

    def choose(self, opener: Locator, name: str, search: str = "") -> None:
        opener.click()
        # only the lines in sight are there, so the name is searched for
        stem = name.rsplit("/", 1)[-1].removesuffix(".safetensors")
        self.page.get_by_role("combobox", name="Search LoRA files").fill(search or stem)
        self.page.get_by_role("option").and_(self.page.get_by_title(name, exact=True)).click()

    def add_row(self, name: str, search: str = "") -> None:
        self.choose(self.page.get_by_role("button", name="Add LoRA"), name, search)

    def saved(self) -> str:
        return self.page.evaluate("() => JSON.stringify(app.graph.serialize())")

    def load(self, workflow: str) -> None:
        self.page.evaluate("(workflow) => app.loadGraphData(workflow)", json.loads(workflow))
        self.page.wait_for_timeout(500)

    def undo(self) -> None:
        self.page.keyboard.press("Control+z")
        self.page.wait_for_timeout(600)

    def redo(self) -> None:
        self.page.keyboard.press("Control+y")
        self.page.wait_for_timeout(600)

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._note(f"{message.text} ({message.location.get('url')})")

    def _note(self, text: str) -> None:
        """Keep what concerns this pack; the page itself and the host complain of other things.

        A deprecation does not say whose script it means, and no other pack is here.
        """
        if any(known in text for known in STOCK):
            return
        if PACK in text or re.search("loracore|deprecated", text, re.IGNORECASE):
            self.complaints.append(text)
