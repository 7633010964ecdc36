"""Query, key and value of a model that nobody described: apart in a LoRA and fused in the model, or the reverse."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from lora_core import merge
from lora_core.errors import NothingMatchedError
from lora_core.naming.detection import detect, unknown_arch
from lora_core.naming.keymap import AS_FUSED, KeyMap
from tests import growing
from tests.core import samples

OTHER = {"tower.0.rise.weight": (24, 16)}


def keymap(shapes: Mapping[str, tuple[int, ...]]) -> KeyMap:
    shapes = {f"{module}.weight": shape for module, shape in shapes.items()} | OTHER
    assert not detect(shapes)
    return KeyMap((shapes, [unknown_arch("unknown model", "")]))


def rows(shapes: Mapping[str, tuple[int, ...]], name: str) -> list[tuple[str, int | None, tuple[int, ...]]]:
    return [(target.key, target.start, target.shape) for target in keymap(shapes).find(name)]


@pytest.mark.parametrize("fused", ["qkv", "to_qkv", "qkv_proj", "img_qkv", "add_qkv_proj", "qkv_x"])
@pytest.mark.parametrize("apart", ["to_#", "#", "#_proj"])
@pytest.mark.parametrize("spelled", ["diffusion_model.{}", "transformer.{}", "lora_unet_{}", "{}", "_orig_mod.{}"])
def test_a_part_is_a_third_of_the_fused_layer(fused: str, apart: str, spelled: str) -> None:
    stem = next(stem for stem in ("to_qkv", "qkv_proj", "qkv") if stem in fused)
    for number, part in enumerate("qkv"):
        module = f"tower.0.mix.{fused.replace(stem, apart.replace('#', part))}"
        name = spelled.format(module.replace(".", "_") if spelled.startswith("lora") else module)
        found = keymap({f"tower.0.mix.{fused}": (48, 16)}).look_up(name)
        assert found[1] == AS_FUSED
        assert [(target.start, target.shape) for target in found[0]] == [(16 * number, (16, 16))]


@pytest.mark.parametrize("apart", ["to_#", "#", "#_proj", "add_#_proj"])
@pytest.mark.parametrize("fused", ["to_qkv", "qkv_proj", "qkv"])
def test_a_fused_change_is_for_the_three_parts(apart: str, fused: str) -> None:
    shapes = {f"tower.0.mix.{apart.replace('#', part)}": (16, 16) for part in "qkv"}
    name = f"tower.0.mix.{'add_' if apart.startswith('add') else ''}{fused}"
    assert rows(shapes, name) == [(f"{module}.weight", None, (16, 16)) for module in shapes]
    assert [target.rows for target in keymap(shapes).find(name)] == [(0, 48), (16, 48), (32, 48)]


UNCLEAR = {
    "rows that are no three parts": ({"mix.qkv": (50, 16)}, "mix.to_q"),
    "two fused layers for one name": ({"mix.qkv": (48, 16), "mix.to_qkv": (48, 16)}, "mix.to_q"),
    "a part stands beside the fused layer": ({"mix.qkv": (48, 16), "mix.to_k": (16, 16)}, "mix.to_q"),
    "parts of two sizes": ({"mix.q": (32, 16), "mix.k": (16, 16), "mix.v": (16, 16)}, "mix.qkv"),
    "a part is missing": ({"mix.q": (16, 16), "mix.k": (16, 16)}, "mix.qkv"),
    "two kinds of parts for one name": (
        {**{f"mix.{p}": (16, 16) for p in "qkv"}, **{f"mix.to_{p}": (16, 16) for p in "qkv"}},
        "mix.qkv",
    ),
    "two names that are one with underscores": ({"mix.qkv": (48, 16), "mix_qkv": (48, 16)}, "lora_unet_mix_to_q"),
    "another word": ({"mix.qkvs": (48, 16)}, "mix.to_q"),
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_what_has_no_one_reading_has_none(case: str) -> None:
    shapes, name = UNCLEAR[case]
    assert rows(shapes, name) == []


def test_a_layers_own_name_comes_first() -> None:
    shapes = {"mix.qkv": (48, 16), "mix.to_q": (7, 16)}
    assert rows(shapes, "transformer.mix.to_q") == [("mix.to_q.weight", None, (7, 16))]
    assert rows(shapes, "transformer.mix.qkv") == [("mix.qkv.weight", None, (48, 16))]


def test_fewer_heads_of_keys_are_no_thirds_and_nothing_is_made_of_them(tmp_path: Path) -> None:
    """The fused rows can be divided by three here, and the LoRA's parts are no thirds: another layout."""
    shapes = {"mix.qkv.weight": (32 + 8 + 8, 16), "mix.out.weight": (16, 16)}
    samples.save(tmp_path / "base.safetensors", {key: torch.zeros(shape) for key, shape in shapes.items()})
    tensors = {}
    for part, height in (("q", 32), ("k", 8), ("v", 8)):
        name = f"transformer.mix.to_{part}"
        tensors |= {f"{name}.lora_A.weight": torch.ones(2, 16), f"{name}.lora_B.weight": torch.ones(height, 2)}
    samples.save(tmp_path / "lora.safetensors", tensors)
    with pytest.raises(NothingMatchedError):
        merge(tmp_path / "base.safetensors", [tmp_path / "lora.safetensors"], tmp_path / "out.safetensors")


def test_a_known_models_names_are_its_own(tmp_path: Path) -> None:
    """Where somebody has said what a model's layers are called, nothing is guessed."""
    shapes = {
        "embed_image_indicator.weight": (2, 16),
        "layers.0.attention.qkv.weight": (48, 16),
    }
    known = KeyMap((shapes, detect(shapes)))
    assert [target.start for target in known.find("transformer.layers.0.attention.to_k")] == [16]
    assert known.find("transformer.layers.0.attention.k_proj") == ()


def test_many_blocks_cost_as_much_each_as_few() -> None:
    def reading(blocks: int) -> growing.Run:
        names = keymap({f"tower.{i}.mix.qkv": (48, 16) for i in range(blocks)})
        return lambda: [names.find(f"transformer.tower.{i}.mix.to_q") for i in range(blocks)]

    assert growing.exponent(reading, 25) < 1.2
