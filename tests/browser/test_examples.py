"""The example workflows: they load in the page as they are, and run when the user has chosen files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.browser.stage import Stage
from tests.host_server import REPO, Server

EXAMPLES = sorted((REPO / "example_workflows").glob("*.json"))

SET_WIDGETS = """(values) => {
    for (const node of app.graph._nodes)
        for (const widget of node.widgets ?? [])
            if (widget.name in values) widget.value = values[widget.name];
}"""

LORA = "examples/style.safetensors"
# sizes that a small machine generates quickly
QUICK: dict[str, Any] = {
    **{"rank": 2, "width": 64, "height": 64, "steps": 1},
    "rows": {"v": 1, "rows": [{"on": True, "name": LORA, "strength": 0.8}]},
}


def choices(server: Server, model: str) -> dict[str, Any]:
    """Write two checkpoints and a LoRA, and return the widget values of a user who chose them."""
    names = (f"{model}.safetensors", f"examples/{model}-tuned.safetensors")
    for seed, name in enumerate(names):
        path = server.models / "checkpoints" / name
        if not path.exists():
            tiny.make_tiny(model, path, seed)
    tiny.make_lora(server.models / "loras" / LORA, tiny.flat("lora_unet_", tiny.modules(model)))
    base, tuned = names
    return {**QUICK, "ckpt_name": base, "lora_name": LORA, "checkpoint": base, "base": base, "tuned": tuned}


def test_each_example_has_a_picture_and_the_host_offers_them(server: Server) -> None:
    known = {
        *("combine_loras", "extract_from_models", "extract_lora", "inspect_loras", "merge_to_checkpoint"),
        "resize_lora",
    }
    assert known <= {path.stem for path in EXAMPLES}
    assert all(path.with_suffix(".jpg").is_file() for path in EXAMPLES)
    (offered,) = [names for pack, names in server.get("/workflow_templates").items() if "lora-core" in pack]
    assert sorted(offered) == [path.stem for path in EXAMPLES]


@pytest.mark.twice("the front end reads what is saved, and makes the prompt")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(stage: Stage, server: Server, example: Path) -> None:
    # Flux is the smallest, but only SD 1.5 has its text encoder inside
    values = choices(server, "sd15" if "generate" in example.stem else "flux")
    if "from_models" in example.stem:  # which are wired
        del values["base"], values["tuned"]
    stage.load(example.read_text(encoding="utf-8"))
    loaded = json.loads(stage.saved())
    assert any(node["type"].startswith("LoraCore") for node in loaded["nodes"])
    known = stage.page.evaluate("() => app.graph._nodes.map((node) => node.type in LiteGraph.registered_node_types)")
    assert all(known)
    stage.page.evaluate(SET_WIDGETS, values)
    prompt = stage.page.evaluate("async () => (await app.graphToPrompt()).output")
    run = server.run(prompt)
    assert (run.status, run.error) == ("success", "")
