"""The row editor of Stack LoRAs, by real clicks and keys, in both renderers."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.stage import Stage, box_of
from tests.host_fixtures import write_lora
from tests.host_server import Server

INK, DETAIL, PASTEL = "styles/ink.safetensors", "detail.safetensors", "styles/pastel.safetensors"


def row(name: str, **fields: Any) -> dict[str, Any]:
    return {
        "on": True,
        "name": name,
        "strength": 1,
        "strength_clip": None,
        "blocks": "",
        "hash": "",
        "size": 0,
        **fields,
    }


def rows(*items: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"v": 1, "rows": list(items), **fields}


def chosen(stage: Stage) -> dict[str, Any]:
    """Return the value without the hashes and sizes that the page notes of new rows as it gets to know them."""
    value = stage.value()
    return {**value, "rows": [{**item, "hash": "", "size": 0} for item in value["rows"]]}


@pytest.mark.everywhere("the widget comes to the page, and all its controls answer")
def test_add_rows_set_strength_toggle_and_remove(stage: Stage) -> None:
    stage.add("LoraCoreStack")
    stage.expect(stage.value, rows())
    stage.add_row(INK, search="ink")
    stage.add_row(DETAIL)
    assert chosen(stage) == rows(row(INK), row(DETAIL))

    strength = stage.page.get_by_role("textbox", name="Strength of ink")
    strength.click()
    strength.press_sequentially("0,8")
    strength.press("Enter")
    assert chosen(stage) == rows(row(INK, strength=0.8), row(DETAIL))
    expect(strength).to_have_value("0.80")

    stage.page.get_by_role("switch", name="Use detail").click()
    assert chosen(stage) == rows(row(INK, strength=0.8), row(DETAIL, on=False))
    expect(stage.page.get_by_role("switch", name="All LoRAs")).to_have_attribute("aria-checked", "mixed")
    stage.page.get_by_role("switch", name="All LoRAs").click()
    assert chosen(stage) == rows(row(INK, strength=0.8), row(DETAIL))

    stage.page.get_by_role("button", name="Remove ink").click()
    assert chosen(stage) == rows(row(DETAIL))
    expect(stage.rows()).to_have_count(1)


def test_another_file_for_a_row(stage: Stage) -> None:
    stage.add("LoraCoreStack", rows(row(INK, strength=0.5, hash="abc", size=9)))
    stage.choose(stage.page.get_by_role("button", name="LoRA file: styles/ink"), PASTEL, search="PAST")
    assert chosen(stage) == rows(row(PASTEL, strength=0.5)), "the old file's hash and size went with it"


@pytest.mark.everywhere("the focus goes into the list above the page and back")
def test_picker_by_keyboard(stage: Stage) -> None:
    stage.add("LoraCoreStack", rows(row(INK)))
    opener = stage.page.get_by_role("button", name="LoRA file: styles/ink")
    opener.focus()
    opener.press("Enter")
    search = stage.page.get_by_role("combobox", name="Search LoRA files")
    expect(search).to_be_focused()
    search.fill("styles")
    search.press("ArrowDown")
    search.press("Enter")
    stage.expect(lambda: stage.value()["rows"][0]["name"], PASTEL)
    stage.rest()  # the button that has the focus again must not be pressed by the same key
    expect(search).to_have_count(0)
    stage.page.get_by_role("button", name="LoRA file: styles/pastel").press("Enter")
    search.press("Escape")
    expect(search).to_have_count(0)
    stage.expect(lambda: stage.value()["rows"][0]["name"], PASTEL)


@pytest.mark.twice("the renderers use the pointer themselves")
def test_strength_by_buttons_keys_and_dragging(stage: Stage) -> None:
    stage.add("LoraCoreStack", rows(row(INK)))
    stage.page.get_by_role("button", name="Raise Strength of ink").click()
    stage.expect(lambda: stage.value()["rows"][0]["strength"], 1.05)
    field = stage.page.get_by_role("textbox", name="Strength of ink")
    field.click()
    field.press("ArrowDown")
    field.press("Shift+ArrowDown")
    stage.expect(lambda: stage.value()["rows"][0]["strength"], 0.99)
    field.press("Escape")

    box = box_of(field)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    stage.page.mouse.move(x, y)
    stage.page.mouse.down()
    stage.page.mouse.move(x + 31, y, steps=5)
    stage.page.mouse.up()
    stage.expect(lambda: stage.value()["rows"][0]["strength"], 1.09)
    field.fill("nonsense")
    field.press("Enter")
    expect(field).to_have_value("1.09")
    field.fill("1000")
    field.press("Enter")
    stage.expect(lambda: stage.value()["rows"][0]["strength"], 100)


def test_clip_strength_follows_until_it_is_set(stage: Stage) -> None:
    stage.add("LoraCoreStack", rows(row(INK, strength=0.8), row(DETAIL)))
    toggle = stage.page.get_by_role("button", name="Clip strength", exact=True)
    toggle.click()
    stage.expect(stage.value, rows(row(INK, strength=0.8), row(DETAIL)))  # showing the column changes nothing
    clip = stage.page.get_by_role("textbox", name="Clip strength of ink")
    expect(clip).to_have_value("0.80")
    stage.page.get_by_role("button", name=re.compile("^Raise Strength of ink")).click()
    expect(clip).to_have_value("0.85")
    clip.fill("0.25")
    clip.press("Enter")
    stage.expect(stage.value, rows(row(INK, strength=0.85, strength_clip=0.25), row(DETAIL)))
    toggle.click()
    stage.expect(stage.value, rows(row(INK, strength=0.85), row(DETAIL)))


@pytest.mark.twice("the renderers use the pointer themselves")
def test_move_rows_by_dragging_and_by_keys(stage: Stage) -> None:
    stage.add("LoraCoreStack", rows(row(INK), row(DETAIL), row(PASTEL)))
    grip = box_of(stage.page.get_by_role("button", name="Move ink", exact=True))
    target = box_of(stage.page.get_by_role("button", name="Move pastel", exact=True))
    stage.page.mouse.move(grip["x"] + 8, grip["y"] + 12)
    stage.page.mouse.down()
    stage.page.mouse.move(target["x"] + 8, target["y"] + 14, steps=8)
    stage.page.mouse.up()
    stage.expect(lambda: [item["name"] for item in stage.value()["rows"]], [DETAIL, PASTEL, INK])
    stage.page.get_by_role("button", name="Move ink", exact=True).press("ArrowUp")
    stage.expect(lambda: [item["name"] for item in stage.value()["rows"]], [DETAIL, INK, PASTEL])
    expect(stage.page.get_by_role("button", name="Move ink", exact=True)).to_be_focused()


@pytest.mark.everywhere("what is saved, and the size of a loaded node")
def test_saved_workflow_keeps_rows_and_unknown_fields(stage: Stage) -> None:
    value = rows(row(INK, strength=0.5, future={"a": [1]}), row(DETAIL, strength_clip=0.25), note="kept")
    stage.add("LoraCoreStack", value)
    size = stage.node("[...node.size]")
    workflow = stage.saved()
    stage.clear()
    stage.load(workflow)
    stage.expect(stage.value, value)
    expect(stage.rows()).to_have_count(2)
    assert stage.node("[...node.size]") == pytest.approx(size, abs=1), "loading must not make the node grow"
    assert stage.node("node.widgets_values ?? node.serialize().widgets_values") == [value]


def test_rows_survive_a_reload_of_the_page(stage: Stage) -> None:
    value = rows(row(INK, strength=0.5), row(DETAIL))
    stage.add("LoraCoreStack", value)
    workflow = stage.saved()
    stage.open()
    stage.load(workflow)
    expect(stage.rows()).to_have_count(2)
    stage.expect(stage.value, value)


@pytest.mark.everywhere("the front end makes the steps, and the renderer replaces the widget")
def test_undo_and_redo(stage: Stage) -> None:
    stage.add("LoraCoreStack")
    stage.add_row(INK)
    stage.page.get_by_role("button", name="Raise Strength of ink").click()
    stage.page.get_by_role("switch", name="Use ink").click()
    assert chosen(stage) == rows(row(INK, strength=1.05, on=False))
    stage.undo()
    assert chosen(stage) == rows(row(INK, strength=1.05))
    expect(stage.page.get_by_role("switch", name="Use ink")).to_have_attribute("aria-checked", "true")
    stage.undo()
    assert chosen(stage) == rows(row(INK))
    expect(stage.page.get_by_role("textbox", name="Strength of ink")).to_have_value("1.00")
    stage.undo()
    assert chosen(stage) == rows()
    expect(stage.rows()).to_have_count(0)
    stage.redo()
    assert chosen(stage) == rows(row(INK))
    expect(stage.rows()).to_have_count(1)


@pytest.mark.everywhere("Nodes 2.0 keeps the element of a node that is gone")
def test_another_workflow_in_the_same_step_shows_its_own_rows(stage: Stage) -> None:
    """The second node has the id of the first, so a page that looks at ids only would show the first one's rows."""
    stage.add("LoraCoreStack", rows(row(INK)))
    expect(stage.rows()).to_have_count(1)
    stage.page.evaluate(
        """(rows) => {
            app.graph.clear();
            const node = LiteGraph.createNode("LoraCoreStack");
            node.pos = [160, 140];
            app.graph.add(node);
            node.widgets[0].value = rows;
        }""",
        rows(row(DETAIL), row(PASTEL)),
    )
    expect(stage.rows()).to_have_count(2)
    stage.page.get_by_role("switch", name="Use pastel").click()
    stage.expect(stage.value, rows(row(DETAIL), row(PASTEL, on=False)))


def test_missing_file_stays_and_is_marked(stage: Stage) -> None:
    value = rows(row("old/gone.safetensors", strength=0.7), row(INK))
    stage.add("LoraCoreStack", value)
    expect(stage.rows().nth(0)).to_have_class(re.compile("is-missing"))
    expect(stage.rows().nth(1)).not_to_have_class(re.compile("is-missing"))
    button = stage.page.get_by_role("button", name="LoRA file, missing: old/gone.safetensors")
    red, plain = (
        locator.evaluate("element => getComputedStyle(element).color")
        for locator in (button.locator(".is-stem"), stage.rows().nth(1).locator(".is-stem"))
    )
    assert red != plain
    stage.expect(stage.value, value)


def test_moved_file_is_found_and_its_name_kept(stage: Stage) -> None:
    value = rows(row("old/place/INK.safetensors"))
    stage.add("LoraCoreStack", value)
    expect(stage.rows().nth(0)).not_to_have_class(re.compile("is-missing"))
    expect(stage.rows().nth(0).get_by_title(f"old/place/INK.safetensors, found as {INK}").first).to_be_visible()
    stage.expect(stage.value, value)


@pytest.mark.twice("the front end calls the node with its new lists")
def test_refresh_of_the_page_lists_brings_new_files(stage: Stage, server: Server) -> None:
    stage.add("LoraCoreStack", rows(row("fresh/new one.safetensors")))
    expect(stage.rows().nth(0)).to_have_class(re.compile("is-missing"))
    write_lora(server, "fresh/new one.safetensors")
    try:
        stage.page.evaluate("() => app.refreshComboInNodes()")
        expect(stage.rows().nth(0)).not_to_have_class(re.compile("is-missing"))
    finally:
        (server.models / "loras" / "fresh" / "new one.safetensors").unlink()
        stage.page.evaluate("() => app.refreshComboInNodes()")


def test_rows_of_a_newer_version_are_left_alone(stage: Stage) -> None:
    value = {"v": 2, "lists": [{"name": INK}]}
    stage.add("LoraCoreStack", value)
    stage.expect(stage.value, value)
    expect(stage.page.get_by_text("saved by a newer LoRA Core")).to_be_visible()


@pytest.mark.everywhere("the canvas wants the key too")
def test_delete_key_in_the_editor_leaves_the_node(stage: Stage) -> None:
    stage.add("LoraCoreStack", rows(row(INK)))
    stage.page.evaluate("() => app.canvas.selectNode(app.graph._nodes[0])")
    field = stage.page.get_by_role("textbox", name="Strength of ink")
    field.click()
    field.press("Delete")
    stage.page.get_by_role("switch", name="Use ink").focus()
    stage.page.keyboard.press("Delete")
    assert stage.page.evaluate("() => app.graph._nodes.length") == 1


@pytest.mark.everywhere("the renderer measures the widget, the front end sizes the node")
def test_node_grows_and_shrinks_with_its_rows(stage: Stage) -> None:
    stage.add("LoraCoreStack")
    empty = stage.node("node.size[1]")
    for _ in range(3):
        stage.add_row(DETAIL)
    full = stage.node("node.size[1]")
    assert full > empty + 80
    stage.page.wait_for_function("() => app.graph._nodes[0].widgets[0].value.rows.every((row) => row.hash)")
    expect(stage.rows()).to_have_count(3)
    bottom = box_of(stage.page.get_by_role("button", name="Add LoRA"))
    last = box_of(stage.rows().nth(2))
    assert bottom["y"] >= last["y"] + last["height"]
    for _ in range(3):
        stage.page.get_by_role("button", name="Remove detail").first.click()
    assert stage.node("node.size[1]") == pytest.approx(empty, abs=2)


@pytest.mark.everywhere("what is saved, and a second widget of the same kind")
def test_copy_and_paste_copies_the_rows(stage: Stage) -> None:
    stage.add("LoraCoreStack", rows(row(INK, strength=0.3)))
    stage.page.evaluate(
        "() => { app.canvas.selectNode(app.graph._nodes[0]); app.canvas.copyToClipboard();"
        " app.canvas.pasteFromClipboard(); }"
    )
    stage.rest()
    values = stage.page.evaluate("() => app.graph._nodes.map((node) => node.widgets[0].value)")
    assert values == [rows(row(INK, strength=0.3))] * 2
