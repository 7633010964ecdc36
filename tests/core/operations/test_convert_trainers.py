"""Every file that a trainer writes has, module by module, a name in every dialect; decided without tensor data."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from lora_core.errors import UnknownArchError
from lora_core.naming.detection import detect
from lora_core.naming.dialects import WRITINGS
from lora_core.reading.lorafile import LoraFile
from lora_core.writing.model import ModelNames, choose_model
from lora_core.writing.plan import plan
from tests import manifests
from tests.core.naming.test_trainers import KINDS, MODEL_OF, TRAINERS, write_lora

# Files that fit several models whose names differ, so that convert asks which one is meant: HunyuanVideo and
# Motif-Video share all that these change; an OFT of the outputs alone does not tell Stable Diffusion 1.5 from 2
ASKS = {"musubi_lora-framepack", "diffusers_peft-motif_video", "kohya_oft-sd15", "kohya_oft_all-sd15"}


@cache
def detected(arch: str) -> tuple[str, str]:
    """Return the ids of the edition and the architecture that a trainer file is for."""
    found = detect(manifests.checkpoint(MODEL_OF.get(arch, arch)).keys)[0]
    return found.id, found.arch.id


def sample() -> list[str]:
    """Return the first list of each trainer and kind and of each family of models, and those that have no one answer.

    The others are kin: the same trainer's names for another model, and that model's names by another trainer.
    """
    chosen, seen = set(ASKS), set[str]()
    for name in TRAINERS:
        trainer, _, model = name.partition("-")
        kind = next((kind for words, kind in KINDS if re.search(words, trainer)), "")
        what = {f"{trainer.partition('_')[0]} {kind}", re.split(r"[\d_.]", model)[0]}
        if what - seen:
            chosen.add(name)
        seen |= what
    return sorted(chosen, key=lambda name: name.partition("-")[::-1])  # each model's key maps are made once


@pytest.mark.parametrize("name", sample())
def test_no_module_is_without_a_name(tmp_path: Path, name: str) -> None:
    edition, arch = detected(manifests.trainer(name).arch)
    with LoraFile(write_lora(tmp_path / f"{name}.safetensors", name)) as lora:
        model = choose_model(lora, edition, None, WRITINGS["comfy"])
        for writing in WRITINGS.values():
            todo = plan(lora, model.keymap, writing, model.diffusers)
            assert (todo.unmatched, todo.mismatched, todo.kept) == ([], [], [])
            names = [(job.slot.name, job.slot.param, job.pieces[0].spec.kind) for job in todo.jobs]
            assert len(names) == len(set(names))
            assert {id(piece.spec) for job in todo.jobs for piece in job.pieces} == {
                id(spec) for spec in lora.adapters if not spec.optional
            }
        if name in ASKS:
            with pytest.raises(UnknownArchError, match="--arch"):
                for writing in (WRITINGS["diffusers"], WRITINGS["comfy"]):
                    choose_model(lora, "", None, writing)
        else:
            assert_guess(lora, model, edition, arch)


def assert_guess(lora: LoraFile, model: ModelNames, edition: str, arch: str) -> None:
    """The model is found without being told, or it makes no difference, or the file does not tell."""
    if not lora.arches:  # text encoders alone: which ones, only the model's name tells
        with pytest.raises(UnknownArchError, match="--arch"):
            choose_model(lora, "", None, WRITINGS["kohya"])
        return
    for writing in (WRITINGS["diffusers"], WRITINGS["comfy"]):
        guess = choose_model(lora, "", None, writing)
        assert guess.id in (edition, arch, None)
        if guess.id == edition:  # the same outline, and so the same names
            continue
        found, told = (plan(lora, item.keymap, writing, item.diffusers) for item in (guess, model))
        assert {job.slot.name for job in found.jobs} == {job.slot.name for job in told.jobs}
