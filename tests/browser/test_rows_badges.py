"""What rows say of their files before and after a run: badges, names found elsewhere, ComfyUI's own missing models."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Locator, Request, Route, expect

from tests import tiny
from tests.browser.stage import Stage, box_of
from tests.browser.test_rows import DETAIL, INK, row, rows
from tests.host_server import Server

FULL, OTHER = "badges/full.safetensors", "badges/other.safetensors"
PICTURE = "badges/picture.safetensors"
FLUX = "badges flux.safetensors"
GONE = "gone/away.safetensors"

WIRE = """(checkpoint) => {
    const add = (type, x, y) => {
        const node = LiteGraph.createNode(type);
        node.pos = [x, y];
        app.graph.add(node);
        return node;
    };
    const stack = app.graph._nodes[0];
    const load = add("LoraCoreLoad", 700, 140), loader = add("CheckpointLoaderSimple", 160, 640);
    loader.widgets[0].value = checkpoint;
    const show = add("PreviewAny", 1100, 140);
    loader.connect(0, load, 0);
    stack.connect(0, load, load.inputs.findIndex((input) => input.name === "lora_stack"));
    load.connect(2, show, 0);
    const tracker = app.extensionManager.workflow.activeWorkflow?.changeTracker;
    (tracker?.captureCanvasState ?? tracker?.checkState)?.call(tracker);
}"""


@pytest.fixture(autouse=True, scope="module")
def files(server: Server) -> Iterator[None]:
    """A Flux checkpoint, a LoRA that fits it in full, and one for another model."""
    checkpoint = server.models / "checkpoints" / FLUX
    tiny.make_tiny("flux", checkpoint, 0)
    (server.models / "loras" / "badges").mkdir(exist_ok=True)
    tiny.make_lora(server.models / "loras" / FULL, tiny.flat("lora_unet_", tiny.modules("flux")))
    pictured = tiny.make_lora(server.models / "loras" / PICTURE, tiny.flat("lora_unet_", tiny.modules("flux")))
    Image.new("RGB", (32, 32), "teal").save(pictured.with_suffix(".png"))
    tiny.make_lora(server.models / "loras" / OTHER, tiny.flat("lora_unet_", tiny.modules("sd15")))
    yield
    checkpoint.unlink()
    for name in (FULL, OTHER, PICTURE):
        (server.models / "loras" / name).unlink()
    pictured.with_suffix(".png").unlink()


def refreshed(stage: Stage) -> None:
    stage.page.evaluate("() => app.refreshComboInNodes()")


def badge(stage: Stage, index: int) -> Locator:
    return stage.rows().nth(index).locator("[data-control=badge]")


@pytest.mark.twice("the front end tells of changes of the graph")
def test_badges_say_what_each_file_does_on_the_model(stage: Stage) -> None:
    refreshed(stage)
    stage.add("LoraCoreStack", rows(row(FULL), row(OTHER), row(GONE), row(FULL, blocks="nonsense=1")))
    expect(badge(stage, 0)).to_have_text("Flux.1")  # without a model, what the file is for
    stage.page.evaluate(WIRE, FLUX)
    expect(badge(stage, 0)).to_have_text(re.compile(r"^(\d+)/\1$"))
    expect(badge(stage, 0)).to_have_class(re.compile("is-good"))
    expect(badge(stage, 0)).to_have_attribute("aria-label", re.compile(r"Report of full: \d+/\d+ · Flux.1"))
    expect(badge(stage, 1)).to_have_text(re.compile("^0/"))
    expect(badge(stage, 1)).to_have_class(re.compile("is-bad"))
    expect(badge(stage, 2)).to_have_text("missing")
    expect(badge(stage, 3)).to_have_class(re.compile("is-bad"))
    expect(badge(stage, 3)).to_have_attribute("title", re.compile("nonsense"))
    # the wire to the model goes: the badges follow without a click on this node
    stage.page.evaluate(
        "() => { app.graph._nodes[1].disconnectInput(0);"
        " app.extensionManager.workflow.activeWorkflow.changeTracker.captureCanvasState(); }"
    )
    expect(badge(stage, 0)).to_have_text("Flux.1")


def test_one_question_for_all_rows(stage: Stage) -> None:
    asked: list[Any] = []

    def listen(request: Request) -> None:
        if request.url.endswith("/lora-core/check"):
            asked.append(request.post_data_json)

    stage.page.on("request", listen)
    try:
        stage.add("LoraCoreStack", rows(*[row(INK)] * 30))
        expect(badge(stage, 0)).not_to_have_text("")
        assert len(asked) == 1
        assert len(asked[0]["rows"]) == 30
        stage.page.get_by_role("switch", name="Use ink").first.click()
        stage.page.get_by_role("button", name="Raise Strength of ink").first.click()
        stage.page.wait_for_timeout(600)  # longer than the pause before a question
        assert len(asked) == 1, "switch and strength change no answer"
    finally:
        stage.page.remove_listener("request", listen)


def test_an_answer_disturbs_neither_typing_nor_a_press(stage: Stage) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    stage.page.route("**/lora-core/check", hold)
    try:
        stage.add("LoraCoreStack", rows(row(INK)))
        strength = stage.page.get_by_role("textbox", name="Strength of ink")
        strength.click()
        strength.press_sequentially("0,")
        answer(stage, held)
        strength.press_sequentially("8")
        strength.press("Enter")
        stage.expect(lambda: stage.value()["rows"][0]["strength"], 0.8)
        expect(badge(stage, 0)).not_to_have_text("")

        held.clear()
        stage.add_row(DETAIL)
        box = box_of(stage.page.get_by_role("switch", name="Use ink"))
        stage.page.mouse.move(box["x"] + 8, box["y"] + 8)
        stage.page.mouse.down()
        answer(stage, held)
        stage.page.mouse.up()
        stage.expect(lambda: stage.value()["rows"][0]["on"], False)
        expect(badge(stage, 1)).not_to_have_text("")
    finally:
        stage.page.unroute("**/lora-core/check")


def answer(stage: Stage, held: list[Route]) -> None:
    """Let the server answer what the page asked of it, and the page take the answer."""
    stage.until(lambda: held)
    with stage.page.expect_response("**/lora-core/check") as answered:
        held.pop().continue_()
    answered.value.finished()
    stage.rest()


@pytest.mark.twice("the front end keeps the settings")
def test_the_settings_turn_checks_and_pictures_off(stage: Stage) -> None:
    turn = "([name, on]) => app.extensionManager.setting.set(`loracore.rows.${name}`, on)"
    pictures: list[str] = []

    def listen(sent: Request) -> None:
        if "/lora-core/preview" in sent.url:
            pictures.append(sent.url)

    refreshed(stage)
    stage.page.on("request", listen)
    for is_on in (True, False):
        for name in ("checks", "previews"):
            stage.page.evaluate(turn, [name, is_on])
        stage.clear()
        stage.rest()
        pictures.clear()  # what rows of before asked for late
        stage.add("LoraCoreStack", rows(row(FULL), row(PICTURE)))
        stage.page.evaluate(WIRE, FLUX)
        expect(badge(stage, 0)).to_have_text(re.compile(r"^(\d+)/\1$") if is_on else "Flux.1")
        expect(stage.rows().locator(".loracore-thumb.is-filled")).to_have_count(1 if is_on else 0)
    assert pictures == []
    stage.page.remove_listener("request", listen)
    for name in ("checks", "previews"):
        stage.page.evaluate(turn, [name, True])


def test_a_moved_file_is_told_and_its_name_taken_by_the_user_only(stage: Stage) -> None:
    value = rows(row("old/place/INK.safetensors", strength=0.5, hash="ab", size=3))
    stage.add("LoraCoreStack", value)
    expect(badge(stage, 0)).to_have_attribute("title", re.compile(f"Found as {INK}"))
    stage.expect(stage.value, value)
    stage.page.get_by_role("button", name="Menu of INK").click()
    stage.page.get_by_role("menuitem", name="Use this name").click()
    stage.expect(stage.value, rows(row(INK, strength=0.5, hash="ab", size=3)))
    stage.undo()
    stage.expect(stage.value, value)


@pytest.mark.twice("the list is the front end's")
def test_comfyui_lists_our_missing_files_itself(stage: Stage) -> None:
    """In its own list of missing models, with our row's name, and off it when the row has another file."""
    stage.add("LoraCoreStack", rows(row(INK), row(GONE, strength=0.5)))
    size = stage.node("[...node.size]")
    workflow = stage.saved()
    assert stage.node("node.serialize().widgets_values") == [rows(row(INK), row(GONE, strength=0.5))]
    assert stage.node("node.serialize().properties.models") == [
        {"name": INK, "directory": "loras"},
        {"name": GONE, "directory": "loras"},
    ]
    inputs = stage.page.evaluate("async () => Object.values((await app.graphToPrompt()).output)[0].inputs")
    assert list(inputs) == ["rows"], "the prompt knows nothing of it"
    stage.load(workflow)
    expect(stage.page.get_by_text(f"{GONE} is missing")).to_be_visible()
    assert stage.node("[...node.size]") == pytest.approx(size, abs=1)
    stage.choose(stage.page.get_by_role("button", name="LoRA file, missing"), DETAIL)
    expect(stage.page.get_by_text(f"{GONE} is missing")).to_have_count(0)


@pytest.mark.twice("the front end makes the steps")
def test_a_new_row_gets_hash_and_size_without_a_step_to_undo(stage: Stage) -> None:
    stage.add("LoraCoreStack")
    stage.add_row(INK)
    stage.page.wait_for_function("() => app.graph._nodes[0].widgets[0].value.rows[0].hash.length === 64")
    found = stage.value()["rows"][0]
    assert found["size"] > 0
    stage.undo()
    stage.expect(stage.value, rows())
    stage.redo()
    stage.expect(stage.value, rows(found))
