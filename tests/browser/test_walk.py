"""One user's way through the pack by clicks and keys: rows, badges, details, a run, a merge, a missing file, a pair.

PICTURES=FOLDER keeps what it sees for the README and the help pages; see `picture`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Locator, expect

from tests import tiny
from tests.browser.stage import Stage
from tests.browser.test_rows_badges import WIRE
from tests.host_server import Server

INK, LINES, OTHER = "walk/ink wash.safetensors", "walk/line art.safetensors", "walk/made for sd15.safetensors"
HIGH, LOW = "walk/motion_high_noise.safetensors", "walk/motion_low_noise.safetensors"
GONE = "friends/soft light.safetensors"
CHECKPOINT = "walk flux.safetensors"


MERGE = """(checkpoint) => {
    const merge = LiteGraph.createNode("LoraCoreMerge");
    merge.pos = [160, 900]; // below the others
    app.canvas.ds.offset = [60, -560]; // a widget out of sight is not on the page
    app.graph.add(merge);
    merge.widgets.find((widget) => widget.name === "checkpoint").value = checkpoint;
    // not the first node: a click brings a node to the front, and so to the end of the list
    app.graph._nodes.find((node) => node.type === "LoraCoreStack").connect(0, merge, "lora_stack");
}"""


@pytest.fixture(autouse=True, scope="module")
def files(server: Server) -> Iterator[None]:
    folder = server.models / "loras/walk"
    folder.mkdir(exist_ok=True)
    tiny.make_tiny("flux", server.models / "checkpoints" / CHECKPOINT, 0)
    for seed, name in enumerate((INK, LINES, HIGH, LOW)):
        tiny.make_lora(server.models / "loras" / name, tiny.flat("lora_unet_", tiny.modules("flux")), 4, seed=seed)
    tiny.make_lora(server.models / "loras" / OTHER, tiny.flat("lora_unet_", tiny.modules("sd15")), 4)
    words = [{"word": "inkwash", "count": 20}, {"word": "brush strokes", "count": 12}]
    (folder / "ink wash.safetensors.rgthree-info.json").write_text(json.dumps({"trainedWords": words}))
    for stem, colours in {"ink wash": ("#22405c", "#d9e4ea"), "line art": ("#5a2a3c", "#f1d9c8")}.items():
        preview(*colours).save(folder / f"{stem}.preview.png")
    yield
    for path in [*folder.iterdir(), server.models / "checkpoints" / CHECKPOINT]:
        path.unlink()
    folder.rmdir()


def preview(dark: str, light: str) -> Image.Image:
    image = Image.new("RGB", (128, 128), light)
    pen = ImageDraw.Draw(image)
    for radius in range(60, 4, -12):
        pen.ellipse((64 - radius, 64 - radius, 64 + radius, 64 + radius), outline=dark, width=4)
    return image


def picture(stage: Stage, name: str, tmp_path: Path) -> None:
    """Keep what the page shows: in the folder PICTURES, or with the test."""
    folder = Path(os.environ.get("PICTURES") or tmp_path)
    stage.page.screenshot(path=folder / f"{name}.png", animations="disabled")


def badge(stage: Stage, index: int) -> Locator:
    return stage.rows().nth(index).locator("[data-control=badge]")


@pytest.mark.twice("all of it together")
def test_rows_report_details_run_and_merge(stage: Stage, tmp_path: Path) -> None:
    page = stage.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("() => app.refreshComboInNodes()")
    stage.add("LoraCoreStack")

    # rows: found by typing, strengths by typing and by the arrow keys, moved by the keyboard, duplicated by the menu
    stage.add_row(LINES, search="art")
    stage.add_row(INK, search="ink wash")
    strength = page.get_by_role("textbox", name="Strength of ink wash", exact=True)
    strength.fill("0.8")
    strength.press("Enter")
    page.get_by_role("button", name="Move ink wash", exact=True).press("ArrowUp")
    stage.expect(lambda: [row["name"] for row in stage.value()["rows"]], [INK, LINES])
    page.get_by_role("button", name="Menu of line art").click()
    picture(stage, "menu", tmp_path)
    page.get_by_role("menuitem", name="Duplicate").click()
    expect(stage.rows()).to_have_count(3)
    stage.undo()
    expect(stage.rows()).to_have_count(2)
    stage.redo()
    expect(stage.rows()).to_have_count(3)
    page.get_by_role("button", name="Menu of line art").last.click()
    page.get_by_role("menuitem", name="Remove", exact=True).click()
    page.get_by_role("button", name="Add LoRA").click()
    expect(page.get_by_role("option").first).to_be_visible()
    picture(stage, "list", tmp_path)
    page.keyboard.press("Escape")

    # the report before a run, as soon as a model is wired
    page.evaluate(WIRE, CHECKPOINT)
    expect(badge(stage, 0)).to_have_text(re.compile(r"^(\d+)/\1$"))
    expect(page.locator(".loracore-line.is-before")).to_have_count(2)
    stage.add_row(OTHER, search="sd15")
    expect(badge(stage, 2)).to_have_class(re.compile("is-bad"))
    picture(stage, "rows", tmp_path)
    page.get_by_role("switch", name="Use made for sd15").click()

    # block strengths, words, information
    badge(stage, 0).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("tab", name="Blocks").click()
    dialog.get_by_role("slider", name="Single blocks").fill("0.5")
    stage.expect(lambda: stage.value()["rows"][0]["blocks"], "single=0.5")
    picture(stage, "blocks", tmp_path)
    dialog.get_by_role("tab", name="Words").click()
    dialog.get_by_role("button", name="Copy inkwash", exact=True).click()
    page.wait_for_function("async () => (await navigator.clipboard.readText()) === 'inkwash'")
    picture(stage, "words", tmp_path)
    dialog.get_by_role("tab", name="Information").click()
    expect(dialog.locator(".is-hash code")).not_to_be_empty()
    picture(stage, "information", tmp_path)
    page.keyboard.press("Escape")

    # the run, its lines and the heat map; again from the cache
    for _ in range(2):
        page.evaluate("() => app.queuePrompt(0)")
        expect(page.locator(".loracore-line.is-full:not(.is-before)")).to_have_count(2, timeout=60_000)
    expect(badge(stage, 0)).to_have_attribute("title", re.compile("^Last run: "))
    line = page.locator(".loracore-line.is-full:not(.is-before)").first
    expect(line).to_contain_text("Flux.1 dev · LoRA r4 · scale 1 (alpha 4, tensor) · Δ ")
    line.click()
    expect(page.get_by_role("dialog").locator("rect").first).to_be_visible()
    picture(stage, "report", tmp_path)
    page.keyboard.press("Escape")

    # a merge says what it wrote
    page.evaluate(MERGE, CHECKPOINT)
    page.evaluate("() => app.queuePrompt(0)")
    written = page.get_by_role("log", name="Report").filter(has_text="wrote merged")
    expect(written).to_have_count(1, timeout=60_000)
    picture(stage, "merge", tmp_path)


def test_shared_workflow_with_a_file_that_is_not_there(stage: Stage, tmp_path: Path) -> None:
    page = stage.page
    page.evaluate("() => app.refreshComboInNodes()")
    hash_ = "3f786850e387550fdab836ed7e6dc881de23001b" + "0" * 24
    moved = {"on": True, "name": "C:\\loras\\styles\\LINE ART.safetensors", "strength": 0.6}
    gone = {"on": True, "name": GONE, "strength": 1, "hash": hash_, "size": 1000}
    stage.add("LoraCoreStack", {"v": 1, "rows": [moved, gone]})
    page.evaluate(WIRE, CHECKPOINT)
    expect(badge(stage, 0)).to_have_attribute("title", re.compile(f"Found as {LINES}"))
    expect(badge(stage, 1)).to_have_text("missing")
    picture(stage, "missing", tmp_path)
    with page.expect_response(lambda answer: answer.url.endswith("/prompt")) as answered:
        page.evaluate("() => app.queuePrompt(0)")
    refused = answered.value.text()
    assert GONE in refused and hash_[:12] in refused, "the queue stops and tells what to look for"
    page.keyboard.press("Escape")
    saved = stage.saved()
    stage.load(saved)
    stage.expect(lambda: [row["name"] for row in stage.value()["rows"]], [moved["name"].replace("\\", "/"), GONE])


def test_pair_is_offered(stage: Stage, tmp_path: Path) -> None:
    stage.page.evaluate("() => app.refreshComboInNodes()")
    stage.add("LoraCoreStack")
    stage.add_row(HIGH, search="motion high")
    stage.page.get_by_role("button", name=f"Use the low-noise partner {LOW}").click()
    stage.expect(lambda: stage.value()["rows"][0]["low"], LOW)
    expect(stage.page.get_by_text("high · low")).to_be_visible()
    picture(stage, "pair", tmp_path)
