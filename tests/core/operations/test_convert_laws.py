"""Laws of conversion, on tiny models: whichever way names travel, the change of every weight stays the same."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lora_core
from lora_core.reading.checkpoint import Checkpoint
from lora_core.reading.lorafile import LoraFile
from lora_core.stack.apply import Placed, apply_stack
from tests import tiny
from tests.core import samples

MODELS = ("flux", "sd3", "wan21")
DIALECTS = ("comfy", "kohya", "diffusers", "peft")
# Factors are joined, cut and folded with their scale in fp32: a few roundings each
TOLERANCE = 2e-6


@cache
def base_of(folder: Path, model: str) -> Path:
    return tiny.make_tiny(model, folder / f"{model}.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("laws")


def changes(lora: Path, base: Path) -> dict[str, torch.Tensor]:
    """The change of every weight, as W' − 0."""
    found: dict[str, torch.Tensor] = {}
    with Checkpoint(base) as checkpoint, LoraFile(lora) as file:
        for spec in file.adapters:
            targets = checkpoint.keymap.find(spec.module, spec.param)
            assert len(targets) == 1, spec.module
            key = targets[0].key
            weight = found.get(key, torch.zeros(checkpoint.shapes[key]))
            found[key] = apply_stack(weight, [Placed(file.adapter(spec), targets[0], 1.0)])
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_way_through_the_dialects_keeps_the_change(folder: Path, data: st.DataObject) -> None:
    model = data.draw(st.sampled_from(MODELS), "model")
    base, modules = base_of(folder, model), tiny.modules(model)
    chosen = data.draw(st.lists(st.sampled_from(sorted(modules)), min_size=1, unique=True), "modules")
    way = data.draw(st.lists(st.sampled_from(DIALECTS), min_size=1, max_size=4), "way")
    path = folder / "start.safetensors"
    alpha = data.draw(st.sampled_from((None, 1.0, 3.0)), "alpha")
    named = tiny.flat("lora_unet_", {name: modules[name] for name in chosen})
    tiny.make_lora(path, named, data.draw(st.integers(1, 5), "rank"), alpha=alpha, dtype=torch.float32)
    before = changes(path, base)
    for step, dialect in enumerate(way):
        out = folder / f"step{step}.safetensors"
        lora_core.convert(path, out, dialect=dialect, base=base, overwrite=True)
        path = out
    after = changes(path, base)
    assert after.keys() == before.keys()
    for key, change in before.items():
        assert float((after[key] - change).abs().max()) <= TOLERANCE * float(change.abs().max())


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(dialect=st.sampled_from(DIALECTS), model=st.sampled_from(MODELS))
def test_converting_to_the_same_dialect_again_changes_no_byte(folder: Path, dialect: str, model: str) -> None:
    first, second = folder / "first.safetensors", folder / "second.safetensors"
    base = base_of(folder, model)
    source = tiny.make_lora(folder / "source.safetensors", tiny.flat("lora_unet_", tiny.modules(model)), 2)
    lora_core.convert(source, first, dialect=dialect, base=base, overwrite=True)
    lora_core.convert(first, second, dialect=dialect, base=base, overwrite=True)
    there, again = samples.load(first), samples.load(second)
    assert there.keys() == again.keys()
    assert all(samples.same_bytes(there[name], again[name]) for name in there)
