"""Workflows flattened without ComfyUI are what the real page queues: our own inventions, and a sample of real ones."""

from __future__ import annotations

from typing import Any

import pytest

from lora_core.workflows.graph import prompt_of
from lora_core.workflows.importing import convert_workflow
from tests.browser.stage import Stage
from tests.flattening.compare import Comparison
from tests.flattening.files import templates, workflows
from tests.flattening.invented import ALONE, WITH_SETTERS
from tests.flattening.page import SETTERS, queued
from tests.tiers import find_host

# Faces of both sorts, and loaders of LoRAs behind them
SAMPLE = (
    "image_krea2_turbo_t2i.json", "image_flux2_klein_image_edit_4b_distilled.json", "video_wan2_2_14B_i2v.json",
    "flux1_dev_uso_reference_image_gen.json",
)  # fmt: skip


@pytest.mark.twice("front ends read the faces of subgraphs in their own ways")
def test_invented(stage: Stage) -> None:
    """In one test, since a clean page takes longer than a workflow."""
    assert [text for make in ALONE for text in _wrong(stage, make.__name__, make())] == []


def test_setters_and_getters(stage: Stage) -> None:
    stage.page.evaluate(SETTERS)
    make = WITH_SETTERS[0]  # the other needs the scripts of a pack, which look around a subgraph
    assert _wrong(stage, make.__name__, make()) == []


def test_real_ones_and_what_import_makes_of_them(stage: Stage) -> None:
    host = find_host()
    assert host is not None
    found = dict(workflows(path for path in templates(host) if path.name in SAMPLE))
    assert len(found) >= 3, "the templates that this ComfyUI brings are others: choose a sample of them"
    for name, workflow in found.items():
        assert _wrong(stage, name, workflow) == []
        assert _wrong(stage, f"imported {name}", convert_workflow(workflow).workflow) == []


def _wrong(stage: Stage, name: str, workflow: dict[str, Any]) -> list[str]:
    found = Comparison()
    found.add(name, workflow, queued(stage.page, workflow), prompt_of(workflow, name))
    assert found.counts["nodes"]
    return found.wrong
