"""The structured report: lines in the colour of their state, names and heat map behind them, progress and the curve."""

from __future__ import annotations

import pytest
import torch
from playwright.sync_api import Request, Route, expect
from safetensors.torch import load_file, save_file

from tests import tiny
from tests.browser.stage import Stage
from tests.host_server import Server

BUILD = """([type, files, widgets]) => {
    const add = (type, x, y) => {
        const node = LiteGraph.createNode(type);
        node.pos = [x, y];
        app.graph.add(node);
        return node;
    };
    const node = add(type, 420, 60);
    const set = (node, name, value) => { node.widgets.find((widget) => widget.name === name).value = value; };
    for (const [name, value] of Object.entries(widgets)) set(node, name, value);
    if (files.length) {
        const stack = add("LoraCoreStack", 20, 260);
        set(stack, "rows", {v: 1, rows: files.map((name) => ({on: true, name, strength: 0.5}))});
        stack.connect(0, node, "lora_stack");
    }
    if (type === "LoraCoreLoad") {
        const model = add("UNETLoader", 20, 60);
        set(model, "unet_name", "report/flux.safetensors");
        model.connect(0, node, "model");
        node.connect(2, add("PreviewAny", 800, 60), 0);
    }
    return node.id;
}"""
# the files that the first node offers
CHECKPOINTS = 'app.graph._nodes[0].widgets.find((widget) => widget.name === "checkpoint").options.values'
WATCH = """() => {
    window.seen = [];
    window.watching = new MutationObserver(() => document.querySelectorAll(".loracore-progress").forEach((one) => {
        if (one.textContent !== window.seen.at(-1)) window.seen.push(one.textContent);
    }));
    window.watching.observe(document.body, {childList: true, subtree: true, characterData: true});
}"""


@pytest.fixture(scope="module", autouse=True)
def models(server: Server) -> None:
    """A tiny Flux, the same tuned, a LoRA that fits, one that fits in part, and one of another model."""
    base = tiny.make_tiny("flux", server.models / "diffusion_models/report/flux.safetensors")
    weights = load_file(base)
    noise = torch.Generator().manual_seed(1)
    tuned = {
        key: (value.float() + 0.01 * torch.randn(value.shape, generator=noise)).to(value.dtype)
        for key, value in weights.items()
    }
    save_file(tuned, base.with_name("tuned.safetensors"))
    loras = server.models / "loras/report"
    full = tiny.make_lora(loras / "full.safetensors", tiny.flat("lora_unet_", tiny.modules("flux")), 4)
    nowhere = {f"lora_unet_nowhere.lora_{side}.weight": torch.ones(2, 2) for side in ("up", "down")}
    save_file({**load_file(full), **nowhere}, loras / "partial.safetensors")
    tiny.make_lora(loras / "other.safetensors", tiny.flat("lora_unet_", tiny.modules("sd3")), 4)


def build(stage: Stage, node_type: str, files: list[str], **widgets: object) -> None:
    stage.page.evaluate(BUILD, [node_type, [f"report/{name}.safetensors" for name in files], widgets])


@pytest.mark.twice("the front end tells of runs")
def test_run_gives_each_lora_a_line_with_names_and_a_heat_map_behind_it(stage: Stage) -> None:
    build(stage, "LoraCoreLoad", ["full", "partial"])
    workflow = stage.saved()
    lines = stage.page.locator(".loracore-line:not(.is-before)")
    for is_cached in (False, True):
        stage.page.evaluate("() => app.queuePrompt(0)")
        expect(lines).to_have_count(2)
        expect(lines.nth(0)).to_contain_text("23/23 · Flux.1 dev · LoRA r4 · scale 1 (alpha 4, tensor) · Δ ")
        expect(lines.nth(0)).to_have_class("loracore-line is-full")
        expect(lines.nth(1)).to_have_class("loracore-line is-partial")
        if not is_cached:
            stage.load(workflow)
            expect(lines).to_have_count(0)
    lines.nth(1).focus()
    stage.page.keyboard.press("Enter")
    details = stage.page.get_by_role("dialog", name="partial.safetensors")
    expect(details).to_contain_text("lora_unet_nowhere")
    label = details.get_by_role("img").get_attribute("aria-label") or ""
    assert label.startswith("9 blocks. The strongest: ") and "Δ " in label
    assert details.locator("rect").count() == 9
    stage.page.keyboard.press("Escape")
    expect(details).to_have_count(0)
    expect(lines.nth(1)).to_be_focused()


def test_lora_of_another_model_is_red_with_the_reason(stage: Stage) -> None:
    build(stage, "LoraCoreLoad", ["other"])
    stage.page.evaluate("() => app.queuePrompt(0)")
    expect(stage.page.get_by_role("alert").and_(stage.page.locator(".loracore-line"))).to_contain_text(
        "other.safetensors"
    )


@pytest.mark.parametrize("file", ["full", "other"])
def test_a_late_answer_to_the_check_does_not_hide_what_the_run_told(stage: Stage, file: str) -> None:
    waiting: list[Route] = []
    ended: list[Request] = []  # answered, or given up by the page

    def end(request: Request) -> None:
        ended.append(request)

    def hold(question: Route) -> None:
        waiting.append(question)

    stage.page.route("**/lora-core/check", hold)
    stage.page.on("requestfinished", end)
    stage.page.on("requestfailed", end)
    try:
        build(stage, "LoraCoreLoad", [file])
        stage.page.evaluate("() => app.extensionManager.workflow.activeWorkflow.changeTracker.captureCanvasState()")
        stage.until(lambda: waiting)
        stage.page.evaluate("() => app.queuePrompt(0)")
        line = stage.page.locator(".loracore-line:not(.is-before)")
        expect(line).to_contain_text("23/23" if file == "full" else "other.safetensors: this is a")
        for question in waiting:
            question.continue_()
        stage.until(lambda: all(question.request in ended for question in waiting))
        stage.rest()
        expect(line).to_have_count(1)
    finally:
        stage.page.unroute("**/lora-core/check")
        stage.page.remove_listener("requestfinished", end)
        stage.page.remove_listener("requestfailed", end)


@pytest.mark.twice("the front end hands on what the server says meanwhile")
def test_merge_tells_phase_and_share_while_it_runs_and_then_the_sizes(stage: Stage) -> None:
    build(stage, "LoraCoreMerge", ["full"], checkpoint="diffusion_models/report/flux.safetensors", verify=True)
    stage.page.evaluate(WATCH)
    before = stage.page.evaluate(f"async () => {{ await app.refreshComboInNodes(); return ({CHECKPOINTS}).length; }}")
    stage.page.evaluate("() => app.queuePrompt(0)")
    expect(stage.page.get_by_role("log", name="Report").filter(has_text="wrote merged")).to_have_count(1)
    stage.page.wait_for_function(f"(before) => ({CHECKPOINTS}).length === before + 1", arg=before)
    seen = stage.page.evaluate("() => { window.watching.disconnect(); return window.seen; }")
    assert any(said.startswith("reading") for said in seen), seen
    assert any("verifying every byte" in said for said in seen), seen
    assert any(said.endswith("100 %") for said in seen), seen
    expect(stage.page.get_by_role("progressbar", name="Progress")).to_have_count(0)
    expect(stage.page.locator(".loracore-line.is-full:not(.is-before)")).to_contain_text("Δ ")


def test_extract_draws_the_energy_curve(stage: Stage) -> None:
    files = {
        side: f"diffusion_models/report/{name}.safetensors" for side, name in (("base", "flux"), ("tuned", "tuned"))
    }
    build(stage, "LoraCoreExtract", [], **files, rank=8)
    stage.page.evaluate("() => app.queuePrompt(0)")
    chart = stage.page.get_by_role("img", name="Retained energy by rank")
    expect(chart).to_be_visible()
    assert " 8: " in (chart.get_attribute("aria-label") or "")
    expect(stage.page.locator(".loracore-energy")).to_contain_text("at rank 8")
    chart.hover()
    expect(stage.page.locator(".loracore-energy")).to_contain_text("would keep")
