"""The menu of a row, the keyboard, and rows that were edited by hand."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from playwright.sync_api import expect

from tests.browser.stage import Stage
from tests.browser.test_rows import DETAIL, INK, PASTEL, row, rows

# left and right edges of the first row, and of what it shows
BOXES = """() => {
    const row = document.querySelector(".loracore-row");
    const boxes = [row, ...row.children].map((one) => one.getBoundingClientRect());
    return boxes.filter((box) => box.width).map((box) => [box.left, box.right]);
}"""


def names(stage: Stage) -> list[str]:
    return [item["name"] for item in stage.value()["rows"]]


def test_menu_by_click(stage: Stage) -> None:
    stage.add("LoraCoreStack", rows(row(INK, strength=0.5, note="kept"), row(DETAIL), row(PASTEL)))

    def take(of: str, item: str) -> None:
        stage.page.get_by_role("button", name=f"Menu of {of}").first.click()
        stage.page.get_by_role("menuitem", name=item, exact=True).click()

    take("ink", "Duplicate")
    stage.expect(lambda: stage.value()["rows"][:2], [row(INK, strength=0.5, note="kept")] * 2)
    take("pastel", "Move to the top")
    stage.expect(lambda: names(stage), [PASTEL, INK, INK, DETAIL])
    take("pastel", "Move to the bottom")
    stage.expect(lambda: names(stage), [INK, INK, DETAIL, PASTEL])
    take("detail", "Switch off")
    stage.expect(lambda: stage.value()["rows"][2]["on"], False)
    take("ink", "Remove")
    stage.expect(lambda: names(stage), [INK, DETAIL, PASTEL])
    for _ in range(5):
        stage.undo()
    stage.expect(stage.value, rows(row(INK, strength=0.5, note="kept"), row(DETAIL), row(PASTEL)))


@pytest.mark.everywhere("the canvas wants the keys and the right button too")
def test_menu_by_keyboard_and_context_menu(stage: Stage) -> None:
    stage.add("LoraCoreStack", rows(row(INK), row(DETAIL)))
    opener = stage.page.get_by_role("button", name="Menu of detail")
    opener.focus()
    opener.press("Enter")
    expect(stage.page.get_by_role("menuitem", name="Details")).to_be_focused()
    stage.page.keyboard.press("Escape")
    expect(stage.page.get_by_role("menu")).to_have_count(0)
    expect(opener).to_be_focused()
    opener.press("Enter")
    stage.page.keyboard.press("ArrowDown")
    stage.page.keyboard.press("ArrowDown")
    stage.page.keyboard.press("ArrowDown")
    expect(stage.page.get_by_role("menuitem", name="Move to the top")).to_be_focused()
    stage.page.keyboard.press("Enter")
    stage.expect(lambda: names(stage), [DETAIL, INK])
    expect(stage.page.get_by_role("button", name="Menu of detail")).to_be_focused()
    stage.page.get_by_role("button", name="LoRA file: styles/ink").click(button="right")
    stage.page.get_by_role("menuitem", name="Remove", exact=True).click()
    stage.expect(lambda: names(stage), [DETAIL])


@pytest.mark.everywhere("the canvas wants the key too, and a change may replace the control")
def test_a_switch_keeps_the_focus(stage: Stage) -> None:
    stage.add("LoraCoreStack", rows(row(INK), row(DETAIL)))
    toggle = stage.page.get_by_role("switch", name="Use detail")
    toggle.focus()
    stage.page.keyboard.press("Space")
    stage.expect(stage.value, rows(row(INK), row(DETAIL, on=False)))
    expect(toggle).to_be_focused()
    stage.page.keyboard.press("Space")
    stage.expect(stage.value, rows(row(INK), row(DETAIL)))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (rows(row(INK, strength="much")), "A strength must be a number"),
        (rows(row(INK, strength=None)), "A strength must be a number"),
        (rows(row(INK, strength=1e300)), "A strength must be a number"),
        (rows(row(INK), 5), "not a row: 5"),  # type: ignore[arg-type]
        ({"v": 1, "rows": [None]}, "not a row: null"),
        ({"v": 1, "rows": [{"name": ["a"], "strength": 1}]}, "not a row"),
    ],
)
def test_rows_edited_by_hand_are_errors_of_their_row(stage: Stage, value: dict[str, object], shown: str) -> None:
    stage.add("LoraCoreStack", value)
    last = stage.rows().last.locator("[data-control=badge]")
    expect(last).to_have_text("error")
    expect(last).to_have_attribute("title", re.compile(shown))
    stage.add_row(DETAIL)
    stage.expect(lambda: names(stage)[-1], DETAIL)  # the rest of the editor works


@pytest.mark.parametrize("value", ["not rows", 7, {"v": 1, "rows": "ink"}])
def test_a_value_without_rows_is_told(stage: Stage, value: object) -> None:
    stage.add("LoraCoreStack", value)
    expect(stage.page.get_by_text("cannot be read")).to_be_visible()
    stage.add_row(DETAIL)
    stage.expect(lambda: names(stage), [DETAIL])


def test_a_wrong_strength_is_mended_by_typing_one(stage: Stage) -> None:
    stage.add("LoraCoreStack", rows(row(INK, strength="much")))
    field = stage.page.get_by_role("textbox", name="Strength of ink")
    expect(field).to_have_value("much")
    expect(field).to_have_attribute("aria-invalid", "true")
    field.fill("0.5")
    field.press("Enter")
    stage.expect(stage.value, rows(row(INK, strength=0.5)))
    expect(stage.rows().first.locator("[data-control=badge]")).not_to_have_text("error")


@pytest.mark.everywhere("the renderer gives the widget its width")
def test_a_narrow_node_keeps_its_controls_apart(stage: Stage) -> None:
    stage.add("LoraCoreStack", rows(row(INK, strength_clip=0.5), row("gone/away.safetensors")))
    for width in (300, 380, 620):
        stage.page.evaluate("(width) => app.graph._nodes[0].setSize([width, app.graph._nodes[0].size[1]])", width)
        stage.rest()
        # all at once: an answer of the server may replace the row by its like at any time
        outer, *boxes = stage.page.evaluate(BOXES)
        assert len(boxes) > 5
        assert all(left[1] <= right[0] + 0.5 for left, right in pairwise(boxes)), (width, boxes)
        assert boxes[-1][1] <= outer[1] + 1
