"""The details of a row: block strengths, trigger words, what the file says of itself, and pairs."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, expect

from tests import tiny
from tests.browser.stage import Stage
from tests.browser.test_rows import INK, row, rows
from tests.host_fixtures import write_lora
from tests.host_server import Server

HIGH, LOW = "details/wan_high_noise.safetensors", "details/wan_low_noise.safetensors"
RICH = "details/rich.safetensors"
HOSTILE = "<img src=x onerror=window.hurt=1>"


@pytest.fixture(autouse=True, scope="module")
def files(server: Server) -> Iterator[None]:
    folder = server.models / "loras" / "details"
    folder.mkdir(exist_ok=True)
    for name in (HIGH, LOW):
        tiny.make_lora(server.models / "loras" / name, tiny.flat("lora_unet_", tiny.modules("flux")))
    tags = {"10_ink": {HOSTILE: 30, **{f"tag {at}": 20 - at for at in range(15)}}}
    said = {"title": HOSTILE, "trigger_phrase": "richwash", "description": f"{HOSTILE}\nsecond line"}
    spec = {f"modelspec.{name}": value for name, value in said.items()}
    write_lora(server, RICH, {"ss_tag_frequency": json.dumps(tags), **spec})
    yield
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def opened(stage: Stage, tab: str, index: int = 0) -> Locator:
    stage.rows().nth(index).locator("[data-control=badge]").click()
    dialog = stage.page.get_by_role("dialog")
    dialog.get_by_role("tab", name=tab).click()
    return dialog


def test_blocks_by_slider_preset_and_text(stage: Stage) -> None:
    stage.page.evaluate("() => app.refreshComboInNodes()")
    stage.add("LoraCoreStack", rows(row(HIGH)))
    dialog = opened(stage, "Blocks")
    text = dialog.get_by_role("textbox", name="Block strengths as text")
    dialog.get_by_role("slider", name="Single blocks").fill("0.5")
    expect(text).to_have_value("single=0.5")
    stage.expect(lambda: stage.value()["rows"][0]["blocks"], "single=0.5")
    text.fill("double.0-3=0, single=0.5")
    text.press("Enter")
    stage.expect(lambda: stage.value()["rows"][0]["blocks"], "double.0-3=0, single=0.5")
    double = dialog.get_by_role("slider", name="Double blocks", exact=True)
    expect(double).to_have_attribute("aria-valuetext", "mixed")
    dialog.locator("summary").first.click(position={"x": 4, "y": 10})
    dialog.get_by_role("slider", name="Double blocks 4").fill("0")
    expect(text).to_have_value("double.0-4=0, single=0.5")
    text.fill("nonsense=1")
    expect(dialog.get_by_role("alert")).to_contain_text("no blocks “nonsense”")
    preset = dialog.get_by_role("combobox", name="Preset")
    preset.select_option(index=1)
    chosen = stage.value()["rows"][0]["blocks"]
    assert chosen
    assert "=" not in chosen
    dialog.get_by_role("button", name="Reset").click()
    stage.expect(lambda: stage.value()["rows"][0]["blocks"], "")
    stage.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(stage.rows().first.locator("[data-control=badge]")).to_be_focused()


def test_words_are_copied(stage: Stage) -> None:
    stage.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    stage.add("LoraCoreStack", rows(row(RICH)))
    dialog = opened(stage, "Words")
    dialog.get_by_role("button", name="Copy richwash", exact=True).click()
    copied = "() => navigator.clipboard.readText()"
    stage.page.wait_for_function("async () => (await navigator.clipboard.readText()) === 'richwash'")
    dialog.get_by_role("button", name="Copy all words").click()
    stage.page.wait_for_function("async () => (await navigator.clipboard.readText()).startsWith('richwash')")
    assert "richwash" in stage.page.evaluate(copied)
    stage.page.keyboard.press("Escape")


@pytest.mark.case(35)
def test_what_a_file_says_is_text(stage: Stage) -> None:
    stage.add("LoraCoreStack", rows(row(INK), row(RICH)))
    dialog = opened(stage, "Information", 1)
    expect(dialog.get_by_text(HOSTILE).first).to_be_visible()
    expect(dialog.locator("img")).to_have_count(0)
    expect(dialog.locator(".loracore-chart li")).to_have_count(16)
    expect(dialog.locator(".is-hash code")).not_to_be_empty()
    dialog.get_by_text("Metadata (").click()
    expect(dialog.get_by_role("rowheader", name="modelspec.title")).to_be_visible()
    assert stage.page.evaluate("() => window.hurt") is None
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)


def test_a_pair_is_offered_and_set_by_the_user(stage: Stage) -> None:
    stage.page.evaluate("() => app.refreshComboInNodes()")
    stage.add("LoraCoreStack")
    stage.add_row(HIGH, search="wan high")
    offer = stage.page.get_by_role("button", name=f"Use the low-noise partner {LOW}")
    expect(offer).to_be_visible()
    assert "low" not in stage.value()["rows"][0]
    offer.click()
    found = stage.value()["rows"][0]
    assert (found["name"], found["low"], found["low_strength"]) == (HIGH, LOW, None)
    expect(stage.page.get_by_text("high · low")).to_be_visible()
    dialog = opened(stage, "Pair")
    field = dialog.get_by_role("textbox", name="Low-noise strength")
    field.fill("0.25")
    field.press("Enter")
    stage.expect(lambda: stage.value()["rows"][0]["low_strength"], 0.25)
    stage.page.keyboard.press("Escape")
    stage.page.get_by_role("button", name="Menu of wan_high_noise").click()
    stage.page.get_by_role("menuitem", name="Remove the low-noise partner").click()
    assert not [key for key in stage.value()["rows"][0] if key.startswith("low")]
