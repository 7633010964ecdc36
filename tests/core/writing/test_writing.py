"""Every name that is written is read back, and is one that ComfyUI, or diffusers' model, has too."""

from __future__ import annotations

import re
from functools import cache

import pytest

from lora_core.arch import DIFFUSION_ARCHES
from lora_core.naming.component import Component, WrittenName
from lora_core.naming.dialects import WRITINGS
from lora_core.naming.keymap import KeyMap
from lora_core.naming.outlines import outlined, outlines_of, read_outline
from lora_core.options.shared import WrittenDialect
from lora_core.writing.names import written
from tests import manifests
from tests.core.naming.alias_reasons import ONLY_IN_DIFFUSERS

MODELS = {found.id: found for arch in DIFFUSION_ARCHES for found in outlines_of(arch)}


@cache
def keymap(name: str) -> KeyMap:
    """Return the names of a model with the text encoders that belong to it."""
    model = MODELS[name]
    found = [model, *(encoder for name in model.text_encoders for encoder in outlined(name)[:1])]
    return KeyMap(*((read_outline(item.id).shapes, [item]) for item in found))


def names(model: str, component: Component, dialect: WrittenDialect) -> list[tuple[str, WrittenName]]:
    chosen = read_outline(model).diffusers if component.arch.role == "diffusion" else frozenset()
    return list(written(component, WRITINGS[dialect], chosen))


@pytest.mark.parametrize("dialect", WRITINGS)
@pytest.mark.parametrize("model", MODELS)
def test_a_written_name_is_read_back(model: str, dialect: WrittenDialect) -> None:
    components = keymap(model).components
    for component in components[:1] if dialect == "peft" else components:  # PEFT's files hold one model
        mine = names(model, component, dialect)
        assert [full for full, name in mine if keymap(model).find(full, name.param) != (name.target,)] == []
        assert len({(full, name.param) for full, name in mine}) == len(mine) > 0


@pytest.mark.parametrize("dialect", WRITINGS)
@pytest.mark.parametrize("model", MODELS)
def test_every_row_of_a_model_is_named_once(model: str, dialect: WrittenDialect) -> None:
    component = keymap(model).components[0]
    rows: dict[str, int] = dict.fromkeys(component.shapes, 0)
    for _, name in names(model, component, dialect):
        rows[name.target.key] += name.target.shape[0] if name.target.shape else 1
    assert rows == {key: shape[0] if shape else 1 for key, shape in component.shapes.items()}


COMFY_MODELS = [name for name in manifests.archs() if name in manifests.alias_archs() and name in MODELS]


@pytest.mark.parametrize("dialect", ["comfy", "kohya"])
@pytest.mark.parametrize("name", COMFY_MODELS)
def test_comfyui_knows_every_layer_by_the_names_that_are_written_for_it(name: str, dialect: WrittenDialect) -> None:
    aliases = manifests.aliases(name)
    layers = {
        full
        for full, written_name in names(name, keymap(name).components[0], dialect)
        if written_name.param == "weight" and len(written_name.target.shape) > 1
    }
    assert len(layers) > 10
    unknown = _UNKNOWN_TO_THE_HOST.get((name, dialect)) or _UNKNOWN_TO_THE_HOST.get((name, ""), "")
    assert sorted(full for full in layers if full not in aliases and not re.fullmatch(unknown, full)) == []


# What ComfyUI 0.33 has no name for: layers that it drops, splits on loading, or knows by the makers' names alone
_UNKNOWN_TO_THE_HOST = {
    ("hidream_o1", ""): r".*deepstack_merger_list.*",
}


THERE = [name for name in MODELS if name in manifests.archs() and manifests.checkpoint(name).diffusers_keys]


@pytest.mark.parametrize("name", THERE)
def test_diffusers_model_has_every_name_that_is_written_for_it(name: str) -> None:
    there = manifests.checkpoint(name).diffusers_keys
    shapes: dict[str, tuple[int, ...]] = {}
    for full, written_name in names(name, keymap(name).components[0], "diffusers"):
        module = full.partition(".")[2]
        shapes[module if module in there else f"{module}.{written_name.param}"] = written_name.target.shape
    missing = {key for key, shape in there.items() if shapes.get(key) != shape}
    elsewhere = "|".join(ONLY_IN_DIFFUSERS.get(name, ()))
    missing = {key for key in missing if not (elsewhere and re.fullmatch(elsewhere, key))}
    assert sorted(missing - _MISNAMED.get(name, set())) == []


# Lumina 2 has Z-Image's rename rows, whose name of this module is not its own
_MISNAMED = {"lumina2": {"x_embedder.weight", "x_embedder.bias"}}
