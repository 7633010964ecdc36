"""Names that no table has: models that nobody described, wrapped and shortened names, one weight under two names.

What a merge changes is stated in fp64; fp32 weights of these sizes hold a change to 2e-6 of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lora_core import combine, convert, extract, inspect, merge
from lora_core.errors import AdapterError, NothingMatchedError, UnmatchedError
from lora_core.report import Report
from tests.core import samples

RANK, ALPHA, WIDTH = 2, 3.0, 16
LAYERS = {"mix.query.weight": (WIDTH, WIDTH), "mix.pair.weight": (2 * WIDTH, WIDTH), "rise.weight": (24, WIDTH)}
SHAPES = {
    "stem.weight": (WIDTH, 4, 2, 2),
    "stem.bias": (WIDTH,),
    **{f"tower.{i}.{name}": shape for i in range(2) for name, shape in LAYERS.items()},
    "tower.0.scale_shift_table": (6, WIDTH),
}
MODULES = [key.removesuffix(".weight") for key in SHAPES if key.startswith("tower") and key.endswith(".weight")]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape) * 31 + seed))


def model(prefix: str = "") -> dict[str, Tensor]:
    return {prefix + key: normal(*shape, seed=n) for n, (key, shape) in enumerate(SHAPES.items())}


def lora(
    names: Mapping[str, str], seed: int = 0, down: str = "lora_A", up: str = "lora_B"
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tensors under the names {module: name}, and the change of each module in fp64."""
    tensors: dict[str, Tensor] = {}
    change: dict[str, Tensor] = {}
    for number, (module, name) in enumerate(names.items()):
        out, width = SHAPES[f"{module}.weight"][0], SHAPES[f"{module}.weight"][-1]
        a, b = normal(RANK, width, seed=seed + number), normal(out, RANK, seed=seed + number)
        tensors |= {f"{name}.{down}.weight": a, f"{name}.{up}.weight": b, f"{name}.alpha": torch.tensor(ALPHA)}
        change[f"{module}.weight"] = b.double() @ a.double() * (ALPHA / RANK)
    return tensors, change


def merged(folder: Path, base: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Report]:
    samples.save(folder / "base.safetensors", base)
    samples.save(folder / "lora.safetensors", tensors)
    report = merge(folder / "base.safetensors", [folder / "lora.safetensors"], folder / "out.safetensors")
    return samples.load(folder / "out.safetensors"), report


def check(found: Mapping[str, Tensor], base: Mapping[str, Tensor], change: Mapping[str, Tensor]) -> None:
    for key, before in base.items():
        if key in change:
            error = (found[key].double() - before.double() - change[key]).norm() / change[key].norm()
            assert error < 2e-6, key
        else:
            assert torch.equal(found[key], before), key
    assert set(change) <= set(base)


def flat(name: str) -> str:
    return name.replace(".", "_")


Spelling = Callable[[str], str]
SPELLED: dict[str, Spelling] = {
    "bare": lambda name: name,
    "ComfyUI's": lambda name: f"diffusion_model.{name}",
    "diffusers'": lambda name: f"transformer.{name}",
    "PEFT's": lambda name: f"base_model.model.{name}",
    "kohya's": lambda name: f"lora_unet_{flat(name)}",
    "SimpleTuner's": lambda name: f"lycoris_{flat(name)}",
}
WRAPPED: dict[str, Spelling] = {
    "PEFT in a pipeline": lambda name: f"transformer.base_model.model.{name}",
    "PEFT twice": lambda name: f"base_model.model.base_model.model.{name}",
    "compiled": lambda name: f"_orig_mod.{name}",
    "compiled layer by layer": lambda name: f"{name[:7]}._orig_mod.{name[8:]}",
    "FSDP": lambda name: f"_fsdp_wrapped_module.{name}",
    "activation checkpoints": lambda name: f"{name[:7]}._checkpoint_wrapped_module{name[7:]}",
    "DataParallel, compiled": lambda name: f"module._orig_mod.{name}",
    "a checkpoint's prefix": lambda name: f"model.diffusion_model.{name}",
    "DiffSynth's pipeline": lambda name: f"pipe.dit.{name}",
    "a trainer's state": lambda name: f"model_state.model.{name}",
    "compiled, for kohya": lambda name: f"lora_unet__orig_mod_{flat(name)}",
    "half dotted": lambda name: "lora_unet_" + name.replace(".", "_", 1),
    "dotted at the end": lambda name: "lora_unet_" + flat(name.rpartition(".")[0]) + "." + name.rpartition(".")[2],
    "an underscore at the end": lambda name: f"lora_unet_{flat(name)}_",
    "flat without a prefix": flat,
    "an unknown prefix": lambda name: f"my_trainer.net.{name}",
    "an unknown prefix in kohya's": lambda name: f"lora_unet_my_net_{flat(name)}",
    "an unknown prefix before a known one": lambda name: f"run7.transformer.{name}",
}  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "net."])
@pytest.mark.parametrize("how", SPELLED)
def test_a_model_that_nobody_described_has_its_own_names(tmp_path: Path, how: str, prefix: str) -> None:
    base = model(prefix)
    tensors, change = lora({module: SPELLED[how](module) for module in MODULES})
    found, report = merged(tmp_path, base, tensors)
    check(found, base, {prefix + key: value for key, value in change.items()})
    assert any("no known architecture fits; its own names are used" in note for note in report.notes)
    assert report.loras[0].modules_matched == len(MODULES) and report.loras[0].read_as == {}


@pytest.mark.parametrize("how", WRAPPED)
def test_wrapped_names_find_their_places_and_it_is_said(tmp_path: Path, how: str) -> None:
    base = model()
    tensors, change = lora({module: WRAPPED[how](module) for module in MODULES})
    found, report = merged(tmp_path, base, tensors)
    check(found, base, change)
    assert sum(len(modules) for modules in report.loras[0].read_as.values()) == len(MODULES)
    assert "placed by its name" in report.text()


def test_a_prefix_that_helps_some_names_only_is_not_removed(tmp_path: Path) -> None:
    names = {module: f"my_trainer.{module}" for module in MODULES}
    tensors, _ = lora(names | {MODULES[0]: "my_trainer.elsewhere"})
    with pytest.raises(NothingMatchedError):
        merged(tmp_path, model(), tensors)


def test_a_name_that_may_mean_two_weights_means_none(tmp_path: Path) -> None:
    base = model() | {"tower_0.mix.query.weight": normal(WIDTH, WIDTH)}
    tensors, _ = lora({"tower.0.mix.query": "lora_unet_tower_0_mix_query"})
    with pytest.raises(NothingMatchedError):
        merged(tmp_path, base, tensors)


def test_other_operations_use_the_models_own_names_too(tmp_path: Path) -> None:
    base = model()
    tensors, change = lora({module: f"diffusion_model.{module}" for module in MODULES})
    merged(tmp_path, base, tensors)
    at = {name: tmp_path / f"{name}.safetensors" for name in ("base", "lora", "out", "extracted", "converted", "sum")}
    report = inspect(at["lora"], against=[at["base"]])
    assert report.loras[0].modules_matched == len(MODULES)
    extract(at["base"], at["out"], at["extracted"], rank=RANK, dtype="fp32")
    again, _ = merged(tmp_path / "again", base, samples.load(at["extracted"]))
    assert all(
        (again[key].double() - base[key].double() - value).norm() < 1e-4 * value.norm() for key, value in change.items()
    )
    convert(at["lora"], at["converted"], dialect="kohya", base=at["base"])
    converted, _ = merged(tmp_path / "converted", base, samples.load(at["converted"]))
    check(converted, base, change)
    combine([at["lora"], at["lora"]], at["sum"], base=at["base"], dtype="fp32")
    twice, _ = merged(tmp_path / "twice", base, samples.load(at["sum"]))
    assert all(
        (twice[key].double() - base[key].double() - 2 * value).norm() < 1e-4 * value.norm()
        for key, value in change.items()
    )


# One weight under two names


@pytest.mark.parametrize("second", ["diffusion_model.{}", "base_model.model.{}", "_orig_mod.{}"])
def test_the_same_change_under_two_names_counts_once(tmp_path: Path, second: str) -> None:
    base = model()
    once, change = lora({module: module for module in MODULES})
    twice, _ = lora({module: second.format(module) for module in MODULES})
    found, report = merged(tmp_path, base, once | twice)
    check(found, base, change)
    (told,) = report.loras
    assert sorted(name.removeprefix(second[:-2]) for name in told.repeated) == sorted(MODULES)
    assert told.modules_matched == told.modules_total == 2 * len(MODULES)
    assert "applied once" in report.text()


def test_two_changes_under_two_names_are_an_error_that_names_both(tmp_path: Path) -> None:
    once, _ = lora({MODULES[1]: MODULES[1]})
    other, _ = lora({MODULES[1]: f"transformer.{MODULES[1]}"}, seed=7)
    with pytest.raises(
        AdapterError, match=rf"{MODULES[1]} and transformer\.{MODULES[1]} are two names of the same rows"
    ):
        merged(tmp_path, model(), once | other)
    assert not (tmp_path / "out.safetensors").exists()


def test_a_wrong_tensor_beside_right_ones_is_told_and_is_an_error_on_demand(tmp_path: Path) -> None:
    tensors, change = lora({module: module for module in MODULES})
    base = model()
    found, report = merged(tmp_path, base, tensors | {"some.thing": normal(3), "n.alpha": torch.tensor(1.0)})
    check(found, base, change)
    (told,) = report.loras
    assert sorted(told.unmatched) == ["n.alpha", "some.thing"]
    assert (told.modules_matched, told.modules_total) == (len(MODULES), len(MODULES) + 2)
    assert any("without a place" in warning for warning in report.warnings)
    with pytest.raises(UnmatchedError, match=r"some\.thing"):
        merge(
            tmp_path / "base.safetensors",
            [tmp_path / "lora.safetensors"],
            tmp_path / "no.safetensors",
            on_unmatched="error",
        )


@pytest.mark.parametrize("part", ["lora_diag", "lora_C.weight", "m", "scale_w", "gate.0.weight"])
def test_a_part_that_nobody_knows_leaves_its_module_out_and_says_so(tmp_path: Path, part: str) -> None:
    tensors, change = lora({module: module for module in MODULES})
    base = model()
    found, report = merged(tmp_path, base, tensors | {f"{MODULES[0]}.{part}": normal(RANK)})
    check(found, base, {key: value for key, value in change.items() if key != f"{MODULES[0]}.weight"})
    assert report.loras[0].unsupported == {f"unknown.{part}": [MODULES[0]]}
    assert any(part in warning for warning in report.warnings)


@pytest.mark.parametrize("operation", ["convert", "combine"])
def test_conversion_and_combination_read_names_as_a_merge_does(tmp_path: Path, operation: str) -> None:
    """A common prefix, a weight under two names, and a tensor of nobody."""
    base = model()
    once, change = lora({module: f"my_trainer.{module}" for module in MODULES})
    twice, _ = lora({MODULES[0]: f"transformer.{MODULES[0]}"})
    samples.save(tmp_path / "base.safetensors", base)
    file = samples.save(tmp_path / "lora.safetensors", once | twice | {"x.y": normal(3)})
    out = tmp_path / "made.safetensors"
    if operation == "convert":
        report = convert(file, out, dialect="comfy", base=tmp_path / "base.safetensors")
    else:
        report = combine([file], out, base=tmp_path / "base.safetensors", dialect="comfy", dtype="fp32")
    (told,) = report.loras
    assert (told.unmatched, len(told.repeated)) == (["x.y"], 1)
    assert told.read_as == {"without 'my_trainer.'": [f"my_trainer.{module}" for module in sorted(MODULES)]}
    assert any("x.y" in warning for warning in report.warnings)
    made = {name: tensor for name, tensor in samples.load(out).items() if name != "x.y"}
    found, _ = merged(tmp_path / "again", base, made)
    check(found, base, change)


@pytest.mark.parametrize("alone", [False, True])
def test_a_head_that_is_tied_to_the_embedding_is_told(tmp_path: Path, alone: bool) -> None:
    """A language model that stores one weight for both: a change of the head is none of the embedding."""
    base = {key: value for key, value in llama().items() if key != "lm_head.weight"}
    names = ["lm_head"] if alone else ["lm_head", "model.layers.0.self_attn.q_proj"]
    tensors: dict[str, Tensor] = {}
    for name in names:
        out, width = llama()[f"{name}.weight"].shape
        tensors |= {
            f"base_model.model.{name}.lora_A.weight": normal(RANK, width),
            f"base_model.model.{name}.lora_B.weight": normal(out, RANK),
        }
    if alone:
        with pytest.raises(NothingMatchedError, match=r"tied to the embedding.*untie them first"):
            merged(tmp_path, base, tensors)
        return
    found, report = merged(tmp_path, base, tensors)
    assert torch.equal(found["model.embed_tokens.weight"], base["model.embed_tokens.weight"])
    assert report.loras[0].unmatched == ["base_model.model.lm_head"]
    assert any("untie them first" in warning for warning in report.warnings)


def llama() -> dict[str, Tensor]:
    shapes = {"model.embed_tokens": (60, 32), "model.norm": (32,), "lm_head": (60, 32)}
    at = "model.layers.0."
    shapes |= {f"{at}self_attn.{part}_proj": (32, 32) for part in "qkvo"}
    shapes |= {f"{at}mlp.gate_proj": (48, 32), f"{at}mlp.up_proj": (48, 32), f"{at}mlp.down_proj": (32, 48)}
    shapes |= {f"{at}{name}_layernorm": (32,) for name in ("input", "post_attention")}
    return {f"{module}.weight": normal(*shape, seed=n) for n, (module, shape) in enumerate(shapes.items())}
