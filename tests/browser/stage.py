"""ComfyUI's page as the browser tests use it: a graph with our nodes on it, and the controls of the rows widget."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
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

# a tab of its own, which begins a history; those of earlier tests would make the page slow
ANEW = """async (empty) => {
    await app.loadGraphData(empty);
    const { openWorkflows, activeWorkflow, closeWorkflow } = app.extensionManager.workflow;
    for (const tab of [...openWorkflows]) if (tab.path !== activeWorkflow.path) await closeWorkflow(tab);
}"""

ADD_NODE = """([type, rows]) => {
    const node = LiteGraph.createNode(type);
    node.pos = [160 + 480 * app.graph._nodes.length, 140];
    app.graph.add(node);
    if (rows) node.widgets.find((widget) => widget.name === "rows").value = rows;
    const tracker = app.extensionManager.workflow.activeWorkflow?.changeTracker;
    (tracker?.captureCanvasState ?? tracker?.checkState)?.call(tracker);
    return node.id;
}"""


# The page lies still once it has been the same for some frames: Nodes 2.0 lays a new node out twice, and measures it.
REST = """async () => {
    const shown = () => [...document.querySelectorAll("[data-node-id], .loracore")];
    const look = () => JSON.stringify([app.graph.serialize(), shown().map((one) => one.getBoundingClientRect())]);
    let [seen, same] = [look(), 0];
    for (let frames = 0; same < 6 && frames < 900; frames++) {
        await new Promise((resolve) => requestAnimationFrame(resolve));
        const now = look();
        same = now === seen ? same + 1 : 0;
        seen = now;
    }
    return same > 0;
}"""
HISTORY = """() => {
    const tracker = app.extensionManager.workflow.activeWorkflow.changeTracker;
    return {undo: tracker.undoQueue.length, redo: tracker.redoQueue.length, busy: tracker._restoringState};
}"""


def box_of(locator: Locator) -> FloatRect:
    """Return where a control lies on the page, once it is shown and lies still."""
    for _ in range(20):
        expect(locator).to_be_visible()
        assert locator.page.evaluate(REST), "the page does not come to rest"
        box = locator.bounding_box()
        if box is not None:  # it may just be replaced by its like
            return box
    raise AssertionError(f"{locator} does not stay")


class Stage:
    """One page in one renderer."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.complaints: list[str] = []
        self.at_load: list[str] = []  # what was complained of while the page loaded
        page.on("console", self._note_console)
        page.on("pageerror", lambda error: self._note(f"{error}\n{error.stack}"))

    def open(self) -> None:
        self.page.goto(self.url)
        self.page.wait_for_function(READY, timeout=120_000)
        # the page starts with a workflow of its own, which may still be loading, and would lie on what a test adds
        self.page.wait_for_function("() => !document.querySelector('#splash-loader') && app.graph._nodes.length > 0")
        self.rest()
        self.at_load = list(self.complaints)
        self.clear()

    def clear(self) -> None:
        """Empty the graph, start a new undo history, and take away what was told."""
        self.page.keyboard.press("Escape")
        self.page.evaluate("() => document.querySelectorAll('.p-toast-close-button').forEach((one) => one.click())")
        expect(self.page.locator(".p-toast-message")).to_have_count(0)
        self.page.evaluate(ANEW, EMPTY)
        self.page.evaluate("() => { app.canvas.ds.scale = 1; app.canvas.ds.offset = [60, 60]; }")
        self.complaints.clear()

    def add(self, node_type: str, rows: Any = None) -> None:
        self.page.evaluate(ADD_NODE, [node_type, rows])
        self.rest()

    def until(self, condition: Callable[[], object]) -> None:
        """Let the page go on until something holds here."""
        for _ in range(2000):
            if condition():
                return
            self.page.wait_for_timeout(10)
        raise AssertionError("what the test waits for does not come")

    def expect(self, found: Callable[[], object], wanted: object) -> None:
        """Hold that something comes to be as wanted: the page answers a key or a click in its own time."""
        for _ in range(500):
            if found() == wanted:
                return
            self.page.wait_for_timeout(20)
        assert found() == wanted

    def rest(self) -> None:
        """Wait until the page has laid out what was added or loaded, however long this machine takes for it."""
        assert self.page.evaluate(REST), "the page does not come to rest"

    def node(self, expression: str) -> Any:
        """Return an expression of the first `node` of the graph."""
        return self.page.evaluate(f"() => {{ const node = app.graph._nodes[0]; return {expression}; }}")

    def value(self) -> dict[str, Any]:
        """Return what a prompt would hold for the rows of the first node."""
        output = self.page.evaluate("async () => (await app.graphToPrompt()).output")
        return next(iter(output.values()))["inputs"]["rows"]

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
        self.rest()

    def undo(self) -> None:
        self._step("Control+z", "redo")

    def redo(self) -> None:
        self._step("Control+y", "undo")

    def _step(self, keys: str, grows: str) -> None:
        """Press the keys, and wait for the step in the history and for the graph that it brings back."""
        before = self.page.evaluate(HISTORY)[grows]
        self.page.keyboard.press(keys)
        self.page.wait_for_function(
            f"([side, before]) => {{ const now = ({HISTORY})(); return now[side] > before && !now.busy; }}",
            arg=[grows, before],
        )
        self.rest()

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
