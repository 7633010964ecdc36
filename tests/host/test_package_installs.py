"""The registry's package in a clean ComfyUI: unpacked, its requirements installed, and the first example run."""

from __future__ import annotations

import json
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests import archive, tiny
from tests.host_server import PACK, Server
from tests.tiers import find_host
from tests.watching import WATCHED

pytestmark = pytest.mark.case(38)

EXAMPLE = "example_workflows/stack_and_generate.json"
LORA = "styles/ink.safetensors"
QUICK = {  # what a user with a small machine chooses
    "ckpt_name": "sd15.safetensors",
    "rows": {"v": 1, "rows": [{"on": True, "name": LORA, "strength": 0.8}]},
    **{"width": 64, "height": 64, "steps": 1},
}
IN_COMFYUI = """
import sys
sys.path.insert(0, sys.argv[1])
sys.argv = [sys.argv[0], "--cpu", "--base-directory", sys.argv[2]]
import comfy.options
comfy.options.enable_args_parsing()
import asyncio, importlib.util
import comfy.sd, execution, nodes, server

def work():
    folder = sys.argv[3] + "/custom_nodes/PACK"
    found = importlib.util.spec_from_file_location
    spec = found("the_pack", folder + "/__init__.py", submodule_search_locations=[folder])
    pack = importlib.util.module_from_spec(spec)
    sys.modules["the_pack"] = pack
    spec.loader.exec_module(pack)
    extension = loop.run_until_complete(pack.comfy_entrypoint())
    assert len(loop.run_until_complete(extension.get_node_list())) == 8

loop = asyncio.new_event_loop()
watched(work)
""".replace("PACK", PACK)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base folder of ComfyUI in which the package was unpacked."""
    base = tmp_path_factory.mktemp("clean")
    archive.write(base / "node.zip")
    folder = base / "custom_nodes" / PACK
    with zipfile.ZipFile(base / "node.zip") as package:
        package.extractall(folder)
    host = find_host()
    assert host is not None
    requirements = [host.python, "-m", "pip", "install", "--quiet", "-r", folder / "requirements.txt"]
    subprocess.run(list(map(str, requirements)), check=True, timeout=120)
    return base


@pytest.fixture(scope="module")
def clean(installed: Path) -> Iterator[Server]:
    host = find_host()
    assert host is not None
    with Server(host, installed) as running:
        tiny.make_tiny("sd15", running.models / "checkpoints/sd15.safetensors")
        tiny.make_lora(running.models / "loras" / LORA, tiny.flat("lora_unet_", tiny.modules("sd15")))
        yield running


def prompt_of(workflow: Path, chosen: dict[str, Any]) -> dict[str, Any]:
    """Return the prompt of an editor's workflow without subgraphs, with the values that a user has `chosen`."""
    graph = json.loads(workflow.read_text(encoding="utf-8"))
    sources = {link[0]: [str(link[1]), link[2]] for link in graph["links"]}
    prompt: dict[str, Any] = {}
    for node in graph["nodes"]:
        if node["type"] == "MarkdownNote":
            continue
        values = iter(node.get("widgets_values") or ())
        inputs: dict[str, Any] = {}
        for slot in node["inputs"]:
            if slot.get("widget"):
                inputs[slot["name"]] = next(values)
                if slot["name"] == "seed":
                    next(values)  # what the page does with the seed after a run
            if slot.get("link") is not None:
                inputs[slot["name"]] = sources[slot["link"]]
        known = {name: value for name, value in chosen.items() if name in inputs}
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs | known}
    return prompt


def test_the_first_example_makes_its_image(clean: Server) -> None:
    folder = clean.base / "custom_nodes" / PACK
    assert not folder.is_symlink() and not (folder / "tests").exists()
    run = clean.run(prompt_of(folder / EXAMPLE, QUICK))
    assert (run.status, run.error) == ("success", "")
    (saved,) = (output["images"] for output in run.outputs.values() if "images" in output)
    with Image.open(clean.output / saved[0]["filename"]) as picture:
        assert picture.size == (64, 64)
        low, high = picture.convert("L").getextrema()
        assert high > low, "an image of one colour"
    (report,) = (output["text"][0] for output in run.outputs.values() if "1.5" in str(output.get("text")))
    assert LORA in report or "ink" in report


def test_the_page_has_its_scripts_and_templates(clean: Server) -> None:
    assert f"/extensions/{PACK}/loracore.js" in clean.get("/extensions")
    assert "stack_and_generate" in clean.get("/workflow_templates")[PACK]
    assert "IMPORT FAILED" not in clean.log


def test_importing_it_into_comfyui_does_nothing_else(installed: Path) -> None:
    """Its nodes are made and its routes registered; no file, process, socket or environment variable is touched."""
    host = find_host()
    assert host is not None
    command = [str(host.python), "-B", "-c", WATCHED + IN_COMFYUI, str(host.path), str(installed)]
    done = subprocess.run(command, cwd=installed, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
