"""Which outlines LoRA files fit, and that a key map of outlines is made once."""

from __future__ import annotations

from pathlib import Path

from lora_core.arch import ARCHES
from lora_core.naming.outlines import outlined, outlines_of
from lora_core.reading.guess import best_outlines, fitting, outline_keymap, with_encoders
from lora_core.reading.lorafile import LoraFile
from tests.core.naming.test_trainers import write_lora


def test_the_editions_that_most_adapters_fit_are_found_among_all(tmp_path: Path) -> None:
    with LoraFile(write_lora(tmp_path / "lora.safetensors", "kohya_lora-sdxl")) as lora:
        candidates = [found for arch in lora.arches for found in outlines_of(arch)]
        best = best_outlines([lora], candidates)
        assert len(candidates) > len(best)
        # those that take more channels have the same blocks
        assert [found.id for found in best] == ["sdxl_inpaint", "sdxl_instructpix2pix", "sdxl"]
        model = with_encoders(best[-1:], [lora])
        assert [found.id for found in model] == ["sdxl", *best[0].text_encoders]
        assert fitting(lora, outline_keymap(model)) == len(lora.adapters)


def test_text_encoders_come_along_only_if_a_file_changes_one(tmp_path: Path) -> None:
    with LoraFile(write_lora(tmp_path / "lora.safetensors", "diffusers_peft_all_linear-sdxl")) as lora:
        assert [found.id for found in with_encoders(outlined("sdxl")[-1:], [lora])] == ["sdxl"]


def test_a_key_map_is_made_once_and_those_of_all_candidates_of_a_file_are_remembered() -> None:
    outlines = tuple(outlined("clip_l")[:1])
    assert outline_keymap(outlines) is outline_keymap(tuple(outlined("clip_l")[:1]))
    most = max(len(outlines_of(arch)) for arch in ARCHES)
    assert most <= (outline_keymap.cache_info().maxsize or 0)
