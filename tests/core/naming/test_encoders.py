"""Text encoders and language models: their names beside each model, alone, and what a family of them is called."""

from __future__ import annotations

import re

import pytest

from lora_core.arch import DIFFUSION_ARCHES
from lora_core.arch.base import Shapes
from lora_core.naming.detection import FoundArch, detect
from lora_core.naming.keymap import KeyMap
from tests import manifests

MODELS = {
    found.id: found
    for arch in DIFFUSION_ARCHES
    for found in (FoundArch(arch, edition, "") for edition in (arch.editions or (None,)))
    if found.id in manifests.archs()
}
# Of the models of one architecture that have the same encoders by the same numbers, the first stands for all
KIN = {(found.arch, repr(found.text_encoders)): model for model, found in reversed(MODELS.items())}

# what trainers leave out of transformers' names
LEVELS = ("model.", "text_model.", "bert.")


def keys_of(encoder: str) -> Shapes:
    return manifests.checkpoint(f"te_{encoder}").keys


@pytest.fixture(scope="module", params=sorted(KIN.values()))
def beside(request: pytest.FixtureRequest) -> tuple[KeyMap, FoundArch]:
    """A diffusion model with all its text encoders, each in a file of its own."""
    model: str = request.param
    shapes = manifests.checkpoint(model).keys
    files = [(shapes, [item for item in detect(shapes) if item.arch.role == "diffusion"])]
    encoders = ((keys_of(name), detect(keys_of(name))) for name in MODELS[model].text_encoders)
    return KeyMap(*files, *encoders), MODELS[model]


def matrices(encoder: str) -> list[str]:
    return [key for key, shape in keys_of(encoder).items() if key.endswith(".weight") and len(shape) > 1]


def outermost(keys: list[str]) -> list[str]:
    """Return the keys without those of layers between the first and the last, which are named alike."""
    numbered = {key: (re.sub(r"\d+", "#", key), [int(digits) for digits in re.findall(r"\d+", key)]) for key in keys}
    ends: dict[str, list[list[int]]] = {}
    for name, numbers in numbered.values():
        ends.setdefault(name, []).append(numbers)
    return [key for key, (name, numbers) in numbered.items() if numbers in (min(ends[name]), max(ends[name]))]


def prefixes(number: str) -> list[str]:
    """Return what kohya, OneTrainer and diffusers write before the names of a text encoder."""
    if number == "prior_te":
        return ["lora_prior_te_"]
    diffusers = "text_encoder." if number in ("te", "te1") else f"text_encoder_{number[2:]}."
    return [f"lora_{number}_", diffusers]


def test_every_style_of_name_finds_the_encoder_beside_its_model(beside: tuple[KeyMap, FoundArch]) -> None:
    for encoder, numbers in beside[1].text_encoders.items():
        check_every_style(beside[0], encoder, numbers)


def check_every_style(keymap: KeyMap, encoder: str, numbers: tuple[str, ...]) -> None:
    wrapper = manifests.checkpoint(f"te_{encoder}").comfy_prefix
    for key in outermost(matrices(encoder)):
        module = key.removesuffix(".weight")
        shorter = {module.removeprefix(level) for level in LEVELS}
        names = [
            *(f"{prefix}{name}" for number in numbers for prefix in prefixes(number) for name in shorter),
            f"text_encoders.{wrapper}{module}",
        ]
        for name in names:
            flat = name.replace(".", "_") if name.startswith("lora_") else name
            (target,) = keymap.find(flat)
            assert (target.key, target.role) == (key, "text_encoder"), flat


def test_a_bare_name_beside_a_diffusion_model_is_never_an_encoders(beside: tuple[KeyMap, FoundArch]) -> None:
    keymap, model = beside
    for key in (key for encoder in model.text_encoders for key in matrices(encoder)[:20]):
        for prefix in ("", "base_model.model."):
            assert all(target.role == "diffusion" for target in keymap.find(prefix + key.removesuffix(".weight")))


@pytest.mark.parametrize("name", [name for name in manifests.archs() if name.startswith("te_")])
def test_what_stands_alone_is_the_base_of_a_peft_adapter(name: str) -> None:
    """Then the model's strength counts; a name that says "text encoder" goes by the encoders' strength still."""
    shapes = manifests.checkpoint(name).keys
    keymap = KeyMap((shapes, detect(shapes)))
    for key in matrices(name.removeprefix("te_")):
        module = key.removesuffix(".weight")
        for full in (f"base_model.model.{module}", module):
            (target,) = keymap.find(full)
            assert (target.key, target.role) == (key, "diffusion")
            assert not keymap.is_elsewhere(full)
        for target in keymap.find(f"lora_te1_{module.replace('.', '_')}"):
            assert (target.key, target.role) == (key, "text_encoder")


def test_two_encoders_without_a_model_have_no_bare_names() -> None:
    files = [(keys_of(name), detect(keys_of(name))) for name in ("clip_l", "clip_g")]
    assert KeyMap(*files).find("text_model.encoder.layers.0.mlp.fc1") == ()
    assert KeyMap(*files).is_elsewhere("base_model.model.text_model.encoder.layers.0.mlp.fc1")


# Other layouts, and families in sizes that nobody has listed

LEVELS_ON_DISK = ("", "model.language_model.", "language_model.model.", "language_model.")


@pytest.mark.parametrize("level", LEVELS_ON_DISK)
@pytest.mark.parametrize("encoder", ["llama", "qwen25_7b", "gemma3_12b", "mistral3_24b"])
def test_an_encoder_is_itself_inside_a_model_that_sees(encoder: str, level: str) -> None:
    shapes = {
        f"{level}{key.removeprefix('model.')}" if key.startswith("model.") else key: shape
        for key, shape in keys_of(encoder).items()
    }
    found = detect(shapes)
    assert [(item.id, item.renamed) for item in found] == [(encoder, True)]
    keymap = KeyMap((shapes, found))
    for other in ("model.", *LEVELS_ON_DISK):
        (target,) = keymap.find(f"base_model.model.{other}layers.3.self_attn.o_proj")
        assert target.key == f"{level}layers.3.self_attn.o_proj.weight"


@pytest.mark.parametrize(
    ("prefix", "name", "expected"),
    [
        ("model.", "self_attn.qkv_proj", [(0, 3072), (2048, 3072), (2560, 3072)]),
        ("", "self_attn.qkv_proj", [(0, 3072), (2048, 3072), (2560, 3072)]),
        ("model.", "mlp.gate_up_proj", [(0, 12288), (6144, 12288)]),
    ],
)
def test_a_fused_name_on_a_model_that_splits(prefix: str, name: str, expected: list[tuple[int, int]]) -> None:
    shapes = {
        key: (512, 2048) if key.endswith(("k_proj.weight", "v_proj.weight")) else shape
        for key, shape in keys_of("qwen3_2b").items()
    }
    targets = KeyMap((shapes, detect(shapes))).find(f"base_model.model.{prefix}layers.0.{name}")
    assert [target.rows for target in targets] == expected


TINY: dict[str, tuple[int, ...]] = {
    "model.embed_tokens.weight": (96, 48),
    "model.layers.0.self_attn.o_proj.weight": (48, 48),
    "model.layers.0.input_layernorm.weight": (48,),
}


@pytest.mark.parametrize(
    ("more", "title"),
    [
        ({}, "Llama-like language model"),
        ({"model.embed_tokens.weight": (128256, 48)}, "Llama 3"),
        ({"model.embed_tokens.weight": (32000, 48)}, "Llama"),
        ({"model.embed_tokens.weight": (131072, 48)}, "Mistral"),
        ({"model.embed_tokens.weight": (256000, 48)}, "Gemma"),
        (
            {"model.layers.0.self_attn.q_proj.bias": (48,), "model.layers.0.mlp.gate_proj.weight": (80, 48)},
            "Qwen 2",
        ),
        ({"model.layers.0.self_attn.q_norm.weight": (16,)}, "Qwen 3"),
        ({"model.layers.0.pre_feedforward_layernorm.weight": (48,)}, "Gemma 2"),
        (
            {
                "model.layers.0.pre_feedforward_layernorm.weight": (48,),
                "model.layers.0.self_attn.q_norm.weight": (16,),
            },
            "Gemma 3",
        ),
        ({"model.layers.0.block_sparse_moe.gate.weight": (2, 48)}, "Mixtral"),
    ],
)
def test_a_family_is_told_by_what_only_it_has(more: Shapes, title: str) -> None:
    assert [item.title for item in detect(TINY | dict(more))] == [title]
