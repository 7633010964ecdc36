"""The rename rows against diffusers' own conversion of checkpoints: not only the shapes, but every row of every weight.

Each row of a checkpoint holds a number of its own; after the conversion, what our names find is what diffusers has.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import reduce
from itertools import accumulate

import pytest
import torch
from diffusers.loaders import lora_conversion_utils, single_file_utils

from lora_core.arch import ARCHES
from lora_core.naming.detection import FoundArch, detect
from lora_core.naming.keymap import KeyMap
from tests import manifests

Weights = dict[str, torch.Tensor]
_LATER_BLOCKS = re.compile(r"(double_blocks|single_blocks|layers|blocks)\.([2-9]|\d\d)\.")  # the same as the first two

# ComfyUI's names of HunyuanVideo's modules, and the makers', which diffusers converts
_MAKERS = (
    (r"_mod\.lin\b", "_mod.linear"),
    (r"modulation\.lin\b", "modulation.linear"),
    (r"_attn\.(qkv|proj)\b", r"_attn_\1"),
    (r"mlp\.0\b", "mlp.fc1"),
    (r"mlp\.2\b", "mlp.fc2"),
    (r"_attn\.norm\.(query|key)_norm\.scale", r"_attn_\1_norm.weight"),
    (r"\.norm\.(query|key)_norm\.scale", r".\1_norm.weight"),
    (r"query_norm", "q_norm"),
    (r"key_norm", "k_norm"),
    (r"c_embedder\.in_layer", "c_embedder.linear_1"),
    (r"c_embedder\.out_layer", "c_embedder.linear_2"),
    (r"(time_in|guidance_in|t_embedder)\.in_layer", r"\1.mlp.0"),
    (r"(time_in|guidance_in|t_embedder)\.out_layer", r"\1.mlp.2"),
)

CONVERTERS: dict[str, tuple[Callable[[Weights], Weights], tuple[tuple[str, str], ...]]] = {
    "lumina2": (single_file_utils.convert_lumina2_to_diffusers, ()),
    "z_image": (single_file_utils.convert_z_image_transformer_checkpoint_to_diffusers, ()),
    "cosmos_predict2_2b": (single_file_utils.convert_cosmos_transformer_checkpoint_to_diffusers, ()),
    "hunyuan_video": (single_file_utils.convert_hunyuan_video_transformer_to_diffusers, _MAKERS),
}


def respelled(name: str, spelling: tuple[tuple[str, str], ...]) -> str:
    return reduce(lambda text, pair: re.sub(*pair, text), spelling, name)


def numbered(model: str, spelling: tuple[tuple[str, str], ...]) -> Weights:
    """The first blocks of a checkpoint, one column wide, under the names that the converter knows."""
    manifest = manifests.checkpoint(model)
    heights: dict[str, tuple[int, ...]] = {}
    for key, shape in manifest.keys.items():
        name = key.removeprefix(manifest.prefix)
        if not _LATER_BLOCKS.match(name):
            heights[respelled(name, spelling)] = (shape[0], *(1 for _ in shape[1:]))
    ends = accumulate(shape[0] for shape in heights.values())
    return {
        key: torch.arange(end - shape[0], end).reshape(shape)
        for (key, shape), end in zip(heights.items(), ends, strict=True)
    }


@pytest.mark.parametrize("model", CONVERTERS)
def test_diffusers_names_find_the_rows_that_diffusers_converts(model: str) -> None:
    convert, spelling = CONVERTERS[model]
    weights = numbered(model, spelling)
    arch = detect(manifests.checkpoint(model).keys)[0].arch
    keymap = KeyMap(({key: tuple(w.shape) for key, w in weights.items()}, [FoundArch(arch, None, "", bool(spelling))]))
    converted = convert(dict(weights))
    assert len(converted) > 40
    for key, expected in converted.items():
        module, _, param = key.rpartition(".")
        targets = keymap.find(f"transformer.{module}", param) or keymap.find(f"transformer.{key}")
        found = [target.take(weights[target.key]) for target in targets]
        assert found, key
        assert torch.equal(torch.cat(found), expected), key


@pytest.mark.parametrize("end", [".default", ""])
def test_diffusers_reads_a_lora_of_minimax_h3_as_we_do(end: str) -> None:
    """DiffSynth's rows lie head by head, and only the adapter's name in the tensors' names tells."""
    rows = {"attn.qkv_proj": 3 * 7168, "mlp.fc1": 2 * 14336}
    state = {
        f"blocks.0.{module}.lora_{letter}{end}.weight": value
        for module, height in rows.items()
        for letter, value in (("A", torch.ones(1, 4)), ("B", torch.arange(float(height)).reshape(-1, 1)))
    }
    converted = lora_conversion_utils._convert_non_diffusers_minimax_h3_lora_to_diffusers(dict(state))
    shapes = {
        key.removeprefix("transformer.").replace(".lora_B", ""): (value.shape[0], 4)
        for key, value in converted.items()
        if ".lora_B" in key
    }
    keymap = KeyMap((shapes, [FoundArch(next(one for one in ARCHES if one.id == "minimax_h3"), None, "", True)]))
    for module in rows:
        up = state[f"blocks.0.{module}.lora_B{end}.weight"]
        targets = keymap.find_first((f"blocks.0.{module}{end}", f"blocks.0.{module}"))
        found = {target.key: torch.empty(shapes[target.key][0], 1) for target in targets}
        for target in targets:
            first = target.rows[0] if target.rows else 0
            target.put(found[target.key], up[first : first + target.shape[0]])
        assert found
        for key, value in found.items():
            name = key.removesuffix(".weight")
            assert torch.equal(value, converted[f"transformer.{name}.lora_B.weight"])
