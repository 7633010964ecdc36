"""A thousand rows, and a list of twenty thousand files."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.stage import Stage
from tests.browser.test_rows import DETAIL, INK, row, rows

MANY = [f"folder {at % 100:02}/lora number {at:05}.safetensors" for at in range(20_000)]
# how many elements the page makes for a value
MADE = """async (value) => {
    const create = document.createElement;
    let made = 0;
    document.createElement = function (...named) { made++; return create.apply(this, named); };
    app.graph._nodes[0].widgets[0].value = value;
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    document.createElement = create;
    return made;
}"""
# the least milliseconds in which a new list of names opens
OPENING = """async (names) => {
    const took = [];
    for (let round = 0; round < 3; round++) {
        const rows = ["LORACORE_ROWS", {loras: [...names]}];
        app.graph._nodes[0].refreshComboInNode({LoraCoreStack: {input: {optional: {rows}}}});
        const start = performance.now();
        document.querySelector(".loracore [data-control=add]").click();
        await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
        took.push(performance.now() - start);
        document.querySelector(".loracore-picker").hidePopover();
    }
    return Math.min(...took);
}"""


@pytest.mark.twice("each renderer has its way with the wheel")
def test_a_thousand_rows_stay_usable(stage: Stage) -> None:
    stage.add("LoraCoreStack")
    value = rows(*[row(INK if at % 2 else DETAIL, strength=round(at % 100 / 100, 2)) for at in range(1000)])
    assert stage.page.evaluate(MADE, value) < 3000, "about 25 for each row in sight"
    assert 24 <= stage.rows().count() < 60, "only the rows in sight are in the page"
    assert stage.node("node.size[1]") < 1000
    height = stage.node("node.size[1]")
    scale = stage.page.evaluate("() => app.canvas.ds.scale")
    stage.rows().nth(2).hover()
    stage.page.mouse.wheel(0, 4000)
    expect(stage.page.locator("[data-row='130']")).to_be_visible()
    assert stage.page.evaluate("() => app.canvas.ds.scale") == scale, "the wheel scrolls the rows"
    stage.page.locator("[data-row='130'] [data-control=switch]").click()
    stage.expect(lambda: stage.value()["rows"][130]["on"], False)
    expect(stage.page.locator("[data-row='130']")).to_be_visible()
    stage.page.get_by_role("button", name="Add LoRA").dispatch_event("click")  # it lies below the window
    stage.page.get_by_role("combobox", name="Search LoRA files").fill("ink")
    stage.page.get_by_role("option").first.click()
    expect(stage.page.locator("[data-row='1000']")).to_be_visible()
    assert stage.node("node.size[1]") == height


def test_a_list_of_twenty_thousand_files_opens_at_once(stage: Stage) -> None:
    stage.add("LoraCoreStack")
    few = stage.page.evaluate(OPENING, MANY[::10])
    assert stage.page.evaluate(OPENING, MANY) < 30 * few, "ten times as many names take about ten times as long"
    stage.page.get_by_role("button", name="Add LoRA").click()
    options = stage.page.get_by_role("option")
    expect(options.first).to_be_visible()
    assert options.count() < 60
    search = stage.page.get_by_role("combobox", name="Search LoRA files")
    search.fill("number 0001 folder")
    expect(options.first).to_have_attribute("aria-setsize", "12")
    search.fill("")
    expect(options.first).to_have_attribute("aria-label", "Folder folder 00/, closed")
    search.press("ArrowRight")
    expect(options.first).to_have_attribute("aria-label", "Folder folder 00/, open")
    search.press("ArrowDown")
    search.press("Enter")
    stage.expect(lambda: stage.value()["rows"][0]["name"], "folder 00/lora number 00000.safetensors")
    stage.page.evaluate("() => app.refreshComboInNodes()")
