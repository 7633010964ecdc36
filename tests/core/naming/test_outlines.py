"""The outlines that ship with the pack hold exactly what real checkpoints hold, in the architecture's own layout."""

from __future__ import annotations

import pytest

from lora_core.arch import ARCHES
from lora_core.arch.base import Shape
from lora_core.naming.detection import FoundArch, detect
from lora_core.naming.outlines import FOLDER, Outline, expanded, outlined, outlines_of, read_outline
from tests import outlines

SOURCES = list(outlines.sources())


@pytest.mark.parametrize(("found", "outline"), SOURCES, ids=[found.id for found, _ in SOURCES])
def test_an_outline_is_its_checkpoint(found: FoundArch, outline: Outline) -> None:
    assert len(outline.shapes) > 50
    assert read_outline(found.id) == outline, "run `python -m tests.outlines`"
    assert (FOLDER / f"{found.id}.json").read_text("utf-8") == outlines.text(outline)


@pytest.mark.parametrize("found", [found for found, _ in SOURCES], ids=[found.id for found, _ in SOURCES])
def test_an_outline_is_recognised_as_what_it_is(found: FoundArch) -> None:
    first = detect(read_outline(found.id).shapes)[0]
    assert (first.id, first.prefix, first.renamed) == (found.id, "", False)
    assert (found.arch.id, found.id) in [(item.arch.id, item.id) for item in outlined(found.id)]


def test_no_two_checkpoints_share_an_outline_and_none_is_left_over() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == sorted(found.id for found, _ in SOURCES)


def test_every_architecture_of_a_diffusion_model_has_an_outline() -> None:
    assert [arch.id for arch in ARCHES if arch.role == "diffusion" and not outlines_of(arch)] == []


@pytest.mark.parametrize(
    ("shapes", "rows"),
    [
        ({"a.0.weight": (2,), "a.1.weight": (2,), "a.3.weight": (2,)}, {"a.{0-1,3}.weight": [2]}),
        ({"a.0.weight": (2,), "a.1.weight": (3,)}, {"a.0.weight": [2], "a.1.weight": [3]}),
        ({f"a.{i}.{j}.b": (1,) for i in (1, 2) for j in (0, 4)}, {"a.{1-2}.{0,4}.b": [1]}),
        ({"a.0.1": (1,), "a.1.0": (1,), "a.1.1": (1,)}, {"a.{0-1}.1": [1], "a.1.0": [1]}),
        ({"scalar": ()}, {"scalar": []}),
    ],
)
def test_rows_stand_for_keys(shapes: dict[str, Shape], rows: dict[str, list[int]]) -> None:
    assert outlines.compact(shapes) == rows
    assert expanded(rows) == shapes


def test_ids_that_name_several_editions_or_nothing() -> None:
    assert [item.id for item in outlined("flux1_dev")] == ["flux1_dev"]
    assert [item.id for item in outlined("clip_h")] == ["clip_h"]
    assert [item.id for item in outlined("sdxl")][-1] == "sdxl"
    assert {item.id for item in outlined("flux1")} >= {"flux1_dev", "flux1_schnell"}
    assert outlined("no such model") == []
