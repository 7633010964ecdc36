"""Flatten real workflows with the page and with ours, and count what differs; then import them, and count LoRA nodes.

    python -m tests.flattening [FOLDER ...]

Without a folder: all official templates, which takes ten minutes. ComfyUI and a Chromium are found as the tests do.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from playwright.sync_api import Error, Page, sync_playwright

from lora_core.workflows.graph import prompt_of
from lora_core.workflows.importing import convert_workflow
from lora_core.workflows.importing.left import is_lora_name
from tests.browser.stage import READY
from tests.flattening.compare import Comparison
from tests.flattening.files import templates, workflows
from tests.flattening.page import queued
from tests.host_server import Server
from tests.tiers import find_chromium, find_host

AT_ONCE = 60  # workflows that one page takes: it keeps something of each


def main(folders: list[str]) -> int:
    host = find_host()
    if host is None:
        sys.stderr.write("no ComfyUI found; set COMFYUI_PATH\n")
        return 2
    paths = [path for folder in folders for path in sorted(Path(folder).rglob("*.json"))] or list(templates(host))
    found, refused, loras = Comparison(), Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as base, Server(host, Path(base)) as server, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox", "--disable-gpu"])
        page: Page | None = None
        for number, (name, workflow) in enumerate(workflows(paths)):
            if page is None or number % AT_ONCE == 0:
                page = _opened(chromium, server, page)
            loras += _imported(name, workflow)
            try:
                found.add(name, workflow, queued(page, workflow), prompt_of(workflow, name))
            except Error as error:
                refused[f"{name}: {str(error).splitlines()[0]}"] += 1
    lines = [*sorted(found.wrong), *(f"refused by the page: {text}" for text in refused)]
    lines.append(", ".join(f"{count} {what}" for what, count in found.counts.items()))
    lines.append(
        f"{len(found.wrong)} differences without a reason, {len(refused)} workflows that the page itself refuses"
    )
    lines.append(", ".join(f"{count} {what}" for what, count in sorted(loras.items())))
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return bool(found.wrong or loras["LoRA nodes left without a word"])


def _opened(chromium: Any, server: Server, before: Page | None) -> Page:
    if before is not None:
        before.close()
    server.post("/settings", {"Comfy.Workflow.Persist": False, "Comfy.VueNodes.Enabled": False})
    page = chromium.new_page()
    page.set_default_timeout(120_000)
    page.goto(server.url)
    page.wait_for_function(READY)
    page.wait_for_function("() => !document.querySelector('#splash-loader') && app.graph._nodes.length > 0")
    return page


def _imported(name: str, workflow: Mapping[str, Any]) -> Counter[str]:
    """Count what becomes of a workflow's LoRA nodes when it is imported."""
    result = convert_workflow(workflow)
    counts = Counter[str]()
    for before, after in zip(_levels(workflow), _levels(result.workflow), strict=True):
        types = {node["id"]: node["type"] for node in after["nodes"]}
        for node in before["nodes"]:
            if is_lora_name(node["type"]) and not node["type"].startswith("LoraCore"):
                is_left = types.get(node["id"]) == node["type"]
                told = any(f"node {node['id']} ({node['type']}" in note for note in result.notes)
                word = "left and named" if told else "left without a word"
                counts[f"LoRA nodes {word if is_left else 'converted'}"] += 1
    counts["workflows with LoRA nodes"] = int(bool(counts))
    return counts


def _levels(workflow: Mapping[str, Any]) -> list[Any]:
    return [workflow, *((workflow.get("definitions") or {}).get("subgraphs") or [])]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
