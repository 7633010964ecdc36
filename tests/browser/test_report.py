"""The report under a node: filled by a run, read-only, never saved, and never wider or taller than its node."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

from tests.browser.stage import Stage, box_of
from tests.host_fixtures import LORAS

ROWS = {"v": 1, "rows": [{"on": True, "name": name, "strength": 0.5} for name in LORAS]}
SHOW_LORA_TEXT = """() => {
    const show = LiteGraph.createNode("PreviewAny");
    show.pos = [700, 140];
    app.graph.add(show);
    app.graph._nodes[0].connect(1, show, 0);
}"""


@pytest.mark.everywhere("a run brings a second widget to the page, which is not saved")
def test_run_fills_the_report_and_a_cached_run_does_again(stage: Stage) -> None:
    stage.add("LoraCoreStack", ROWS)
    stage.page.evaluate(SHOW_LORA_TEXT)
    report = stage.page.get_by_role("log", name="Report")
    expect(report).to_have_count(0)
    stage.page.evaluate("() => app.queuePrompt(0)")
    expect(report).to_contain_text("<lora:styles/ink:0.5>")
    workflow = stage.saved()
    saved = next(node for node in json.loads(workflow)["nodes"] if node["type"] == "LoraCoreStack")
    assert len(saved["widgets_values"]) == 1
    assert "ink:0.5" not in workflow, "the report is not saved"
    stage.load(workflow)
    expect(report).to_have_count(0)
    stage.page.evaluate("() => app.queuePrompt(0)")
    expect(report).to_contain_text("<lora:styles/ink:0.5>")


@pytest.mark.everywhere("the front end makes the node anew, and the renderer its widget")
def test_report_survives_an_undo(stage: Stage) -> None:
    stage.add("LoraCoreStack", ROWS)
    stage.page.evaluate(SHOW_LORA_TEXT)
    report = stage.page.get_by_role("log", name="Report")
    stage.page.evaluate("() => app.queuePrompt(0)")
    expect(report).to_contain_text("<lora:styles/ink:0.5>")
    stage.page.get_by_role("switch", name="Use ink").click()
    stage.undo()
    expect(report).to_contain_text("<lora:styles/ink:0.5>")


@pytest.mark.everywhere("the renderer measures the widget, the front end sizes the node")
@pytest.mark.parametrize("node_type", ["LoraCoreLoad", "LoraCoreMerge", "LoraCoreExtract", "LoraCoreConvert"])
def test_long_report_stays_inside_its_node(stage: Stage, node_type: str) -> None:
    stage.add(node_type)
    before = stage.node("node.serialize().widgets_values")
    stage.page.evaluate(
        "() => app.graph._nodes[0].onExecuted({text: ['x'.repeat(500) + '\\n' + 'a line\\n'.repeat(200)]})"
    )
    stage.rest()
    report = stage.page.get_by_role("log", name="Report")
    sizes = report.evaluate("pre => [pre.scrollWidth, pre.clientWidth, pre.scrollHeight, pre.clientHeight]")
    assert sizes[0] <= sizes[1], "no sideways scrolling"
    assert sizes[2] > sizes[3] > 60, "a long text scrolls, and enough of it shows"
    box = box_of(report)
    scale = stage.page.evaluate("() => app.canvas.ds.scale")
    width, height = stage.node("[...node.size]")
    assert box["width"] <= width * scale
    assert box["height"] <= height * scale
    assert stage.node("node.serialize().widgets_values") == before
    stage.page.evaluate("() => app.graph._nodes[0].onExecuted({})")
    expect(report).to_have_text("")
