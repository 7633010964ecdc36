"""Conversions in the page, by real clicks: a node's menu, the commands of the main menu, and the dialog for text."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from playwright.sync_api import Locator, TimeoutError, expect

from tests import manifests
from tests.browser.stage import Stage

TITLE_BAR = """(id) => {
    const node = app.canvas.graph.getNodeById(id), box = app.canvasEl.getBoundingClientRect();
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [260 - node.pos[0], 240 - node.pos[1]];
    app.canvas.setDirty(true, true);
    const [x, y] = app.canvas.ds.convertOffsetToCanvas([node.pos[0] + 60, node.pos[1] - 14]);
    return [box.left + x, box.top + y];
}"""
VIEW = """() => ({
    scale: app.canvas.ds.scale, offset: [...app.canvas.ds.offset],
    name: app.extensionManager.workflow.activeWorkflow.filename,
    tabs: app.extensionManager.workflow.openWorkflows.length,
})"""


def load(stage: Stage, fixture: str) -> dict[str, Any]:
    workflow = manifests.workflow(fixture)
    stage.load(json.dumps(workflow))
    return workflow


def types(stage: Stage) -> list[str]:
    return sorted(stage.page.evaluate("() => app.graph._nodes.map((node) => node.type)"))


def rows(stage: Stage) -> list[tuple[str, bool, float, float | None]]:
    value = stage.page.evaluate(
        """() => app.graph._nodes.find((node) => node.type === "LoraCoreStack").widgets
            .find((widget) => widget.name === "rows").value"""
    )
    return [(row["name"], row["on"], row["strength"], row["strength_clip"]) for row in value["rows"]]


def wait_for(stage: Stage, node_type: str) -> None:
    """Wait until a conversion has put such a node in, and told that it is at its end."""
    stage.page.wait_for_function("(type) => app.graph._nodes.some((node) => node.type === type)", arg=node_type)
    target = "LoRA Core" if node_type == "LoraCoreStack" else "built-in loaders"
    expect(stage.page.get_by_text(f"Converted to {target}: ").first).to_be_visible()
    stage.rest()


def choose_in_menu_of(stage: Stage, node_id: int, entry: str) -> None:
    where = stage.page.evaluate(TITLE_BAR, node_id)
    stage.rest()
    stage.page.mouse.click(*where, button="right")
    stage.page.get_by_text(entry, exact=True).first.click()


def choose_command(stage: Stage, label: str) -> None:
    newest = stage.page.get_by_test_id("comfy-menu-button")
    stage.page.locator(".comfy-menu-button-wrapper").or_(newest).click()
    entries = [stage.page.get_by_role("menuitem", name=text, exact=True).first for text in ("Extensions", "LoRA Core")]
    entries.append(stage.page.get_by_text(label, exact=True).first)
    for entry, inner in pairwise(entries):
        open_submenu(entry, inner)
    entries[-1].click()


def open_submenu(entry: Locator, inner: Locator) -> None:
    """Hover an entry until its submenu is there: on a busy machine, the page misses a pointer that comes too early."""
    for _ in range(20):
        entry.hover()
        with suppress(TimeoutError):
            inner.wait_for(timeout=1_000)
            return
        entry.page.mouse.move(640, 700)
    expect(inner).to_be_visible()


@pytest.mark.everywhere("each renderer has its own menu of a node, and the front end the steps")
def test_a_node_from_its_menu_and_back_by_one_undo(stage: Stage) -> None:
    load(stage, "rgthree_editor")
    before = types(stage)
    choose_in_menu_of(stage, 5, "Convert to LoRA Core")
    wait_for(stage, "LoraCoreStack")
    after = types(stage)
    assert after == sorted([*(kind for kind in before if "rgthree" not in kind), "LoraCoreLoad", "LoraCoreStack"])
    assert rows(stage) == [
        ("styles/ink.safetensors", True, 0.8, None),
        ("people/alice.safetensors", False, 1, 0.25),
        ("", True, 1, None),
        ("detail.safetensors", True, -0.5, 0),
    ]
    expect(stage.page.get_by_text("Converted to LoRA Core: 1").first).to_be_visible()
    expect(stage.page.get_by_text('semantics "comfyui"').first).to_be_visible()
    prompt = stage.page.evaluate("async () => (await app.graphToPrompt()).output")
    loader = prompt[prompt["22"]["inputs"]["model"][0]]
    assert loader["class_type"] == "LoraCoreLoad"
    assert prompt[loader["inputs"]["lora_stack"][0]]["class_type"] == "LoraCoreStack"
    assert prompt["20"]["inputs"]["clip"] == [prompt["22"]["inputs"]["model"][0], 1]
    stage.undo()
    assert types(stage) == before
    stage.redo()
    assert types(stage) == after


@pytest.mark.twice("the menu of commands is the front end's")
def test_a_whole_workflow_and_out_again_by_commands(stage: Stage) -> None:
    load(stage, "builtin_editor")
    before = types(stage)
    stage.page.evaluate("() => { app.canvas.ds.scale = 0.7; app.canvas.ds.offset = [40, 90]; }")
    view = stage.page.evaluate(VIEW)
    choose_command(stage, "Convert workflow to LoRA Core")
    wait_for(stage, "LoraCoreStack")
    assert [name for name, *_ in rows(stage)] == [
        *("styles/ink.safetensors", "turbo.safetensors", "people/alice.safetensors", "detail.safetensors"),
    ]
    assert stage.page.evaluate(VIEW) == view, "the view, the name and the tabs are those from before"
    choose_command(stage, "Convert workflow to built-in loaders")
    wait_for(stage, "LoraLoader")
    assert types(stage) == before
    modes = "() => app.graph._nodes.filter((node) => node.mode === 4).map((node) => node.widgets[0].value)"
    assert stage.page.evaluate(modes) == ["people/alice.safetensors"]
    stage.undo()
    assert "LoraCoreStack" in types(stage)
    stage.undo()
    assert types(stage) == before


@pytest.mark.twice("each renderer has its own menu of a node")
def test_inside_a_subgraph(stage: Stage) -> None:
    load(stage, "subgraph_editor")
    stage.page.evaluate("() => app.canvas.setGraph([...app.graph.rootGraph.subgraphs.values()][0])")
    stage.rest()
    choose_in_menu_of(stage, 31, "Convert to LoRA Core")
    stage.page.wait_for_function(
        "() => app.canvas.graph.nodes.some((node) => node.type === 'LoraCoreStack')", timeout=15_000
    )
    assert stage.page.evaluate("() => !app.canvas.graph.isRootGraph"), "the subgraph is still open"
    stage.page.evaluate("() => app.canvas.setGraph(app.graph.rootGraph)")


def test_nothing_to_convert_is_told(stage: Stage) -> None:
    stage.add("LoraCoreStack")
    choose_command(stage, "Convert workflow to LoRA Core")
    expect(stage.page.get_by_text("Nothing to convert").first).to_be_visible()
    assert types(stage) == ["LoraCoreStack"]


def test_a_damaged_node_is_told_and_nothing_changes(stage: Stage) -> None:
    workflow = manifests.workflow("rgthree_editor")
    workflow["nodes"][1]["widgets_values"][2]["strength"] = "much"
    stage.load(json.dumps(workflow))
    before = types(stage)
    choose_command(stage, "Convert workflow to LoRA Core")
    expect(stage.page.get_by_text("row 1: strength must be a number, found 'much'").first).to_be_visible()
    assert types(stage) == before
    stage.complaints.clear()  # the browser itself notes the answer's status


@pytest.mark.twice("the canvas wants the keys too")
def test_text_becomes_rows_of_a_new_node_and_then_of_the_selected(stage: Stage) -> None:
    choose_command(stage, "Add LoRAs from <lora:…> text")
    dialog = stage.page.get_by_role("dialog", name="Add LoRAs from text")
    text = dialog.get_by_label("Text with <lora:…>")
    expect(text).to_be_focused()
    text.fill("a cat")
    dialog.get_by_role("button", name="Add").click()
    expect(dialog.get_by_role("alert")).to_have_text("There is no <lora:…> in this text.")
    text.fill("a cat <lora:ink:0.5:0.25> <lora:gone:1>")
    dialog.get_by_label("Whose text it is").select_option("a1111")
    dialog.get_by_role("button", name="Add").click()
    expect(dialog).to_have_count(0)
    first = [("styles/ink.safetensors", True, 0.25, 0.5), ("gone", True, 1, None)]
    assert rows(stage) == first
    expect(stage.page.get_by_text("gone: no such file.").first).to_be_visible()

    stage.page.evaluate("() => app.canvas.selectNode(app.graph._nodes[0])")
    choose_command(stage, "Add LoRAs from <lora:…> text")
    text.fill("<lora:detail:2>")
    text.press("Escape")
    expect(dialog).to_have_count(0)
    assert rows(stage) == first, "closed without adding"
    choose_command(stage, "Add LoRAs from <lora:…> text")
    text.fill("<lora:detail:2>")
    dialog.get_by_role("button", name="Add").click()
    expect(dialog).to_have_count(0)
    assert rows(stage) == [*first, ("detail.safetensors", True, 2, None)]
    stage.undo()
    assert rows(stage) == first
