"""A workflow as the real page queues it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from playwright.sync_api import Page

QUEUED = """async (workflow) => {
    await app.loadGraphData(workflow);
    return (await app.graphToPrompt()).output;
}"""

# Setters and getters are scripts of other packs; these do what KJNodes' and Easy-Use's do when a workflow is queued.
SETTERS = """() => {
    class Setter extends LiteGraph.LGraphNode {
        constructor(title) {
            super(title);
            this.isVirtualNode = true;
            this.addWidget("text", "Constant", "", () => {});
            this.addInput("*", "*");
            this.addOutput("*", "*");
        }
    }
    class Getter extends LiteGraph.LGraphNode {
        constructor(title) {
            super(title);
            this.isVirtualNode = true;
            this.addWidget("text", "Constant", "", () => {});
            this.addOutput("*", "*");
        }
        getInputLink(slot) {
            const of = (node) => node.type === "SetNode" && node.widgets[0].value === this.widgets[0].value;
            const link = this.graph._nodes.find(of)?.inputs[slot]?.link;
            return link == null ? null : this.graph.getLink(link);
        }
    }
    LiteGraph.registerNodeType("SetNode", Setter);
    LiteGraph.registerNodeType("GetNode", Getter);
}"""


def queued(page: Page, workflow: Mapping[str, Any]) -> dict[str, Any]:
    """Load a workflow and return the prompt that the page makes of it."""
    return page.evaluate(QUEUED, workflow)
