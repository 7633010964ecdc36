"""Stacks that lora_core combines: against PEFT's own ways to combine adapters, and loaded by PEFT and diffusers.

PEFT's functions are the oracle of the elementwise rules, entry by entry: the same operations in fp32, so only the order
of sums differs. Its SVDs are of dense matrices in fp32, which costs up to SVD of the change.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import peft.utils.merge_utils
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import nn

import lora_core
from lora_core.operations.combining.elementwise import Rule, Sign, generator_of
from tests.peers.models import FAMILIES, assert_same, pipeline, plain, prefixed, randomised, write
from tests.peers.test_converted import trained

FP32 = 3e-6
ZERO = 1e-6  # of values around 1: where a sum cancels, the order of its terms is all that is left
SVD = 1e-4
STRENGTHS = [0.8, 0.5, 1.25]


def taus(count: int = 3) -> list[torch.Tensor]:
    return [torch.randn(30, 41, generator=torch.Generator().manual_seed(seed)) for seed in range(count)]


def ours(method: str, density: float, sign: Sign, strengths: Sequence[float]) -> torch.Tensor:
    return Rule(method, density, sign, 5).merged(taus(), strengths, "layer", [0, 1, 2])


@pytest.mark.parametrize("strengths", [STRENGTHS, [0.8, -0.5, 1.25]])
@pytest.mark.parametrize("density", [0.2, 0.7])
def test_magnitude_prune_is_pefts(density: float, strengths: list[float]) -> None:
    theirs = peft.utils.merge_utils.magnitude_prune(taus(), torch.tensor(strengths), density)
    assert torch.allclose(ours("magnitude_prune", density, "weighted", strengths), theirs, rtol=FP32, atol=ZERO)


@pytest.mark.case(44)
@pytest.mark.parametrize("strengths", [STRENGTHS, [0.8, -0.5, 1.25]])
@pytest.mark.parametrize("sign", ["total", "frequency"])
@pytest.mark.parametrize("density", [0.2, 0.7])
def test_ties_is_pefts(density: float, sign: Any, strengths: list[float]) -> None:
    theirs = peft.utils.merge_utils.ties(taus(), torch.tensor(strengths), density, sign)
    assert torch.allclose(ours("ties", density, sign, strengths), theirs, rtol=FP32, atol=ZERO)


@pytest.mark.case(44)
@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_dare_is_pefts_with_the_same_masks(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """PEFT draws from torch's global generator; here it is handed the masks of ours."""
    place = iter(range(3))

    def bernoulli(chances: torch.Tensor) -> torch.Tensor:
        drawn = torch.empty(chances.shape)
        return drawn.bernoulli_(float(chances[0, 0]), generator=generator_of(5, "layer", next(place)))

    monkeypatch.setattr(torch, "bernoulli", bernoulli)
    theirs = getattr(peft.utils.merge_utils, method)(taus(), torch.tensor(STRENGTHS), 0.4)
    assert next(place, None) is None
    assert torch.allclose(ours(method, 0.4, "total", STRENGTHS), theirs, rtol=FP32, atol=ZERO)


class Adapted:
    """A tiny Flux with two adapters of PEFT, and their folders."""

    def __init__(self, folder: Path) -> None:
        family = FAMILIES["flux"]
        model = randomised(family.make())
        self.base = write(folder / "base.safetensors", prefixed(family.prefix, family.to_original(plain(model))))
        names = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and "attn." in name]
        for seed, (name, rank) in enumerate((("one", 4), ("two", 3))):
            config = LoraConfig(r=rank, lora_alpha=rank, target_modules=names)
            if seed == 0:
                self.model = get_peft_model(model, config, adapter_name=name)
            else:
                self.model.add_adapter(name, config)
            generator = torch.Generator().manual_seed(seed)
            for key, parameter in self.model.named_parameters():
                if f".{name}." in key:
                    parameter.data = torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5
        self.model.save_pretrained(str(folder))
        self.stack = [(folder / "one", 0.9), (folder / "two", 0.4)]
        self.folder = folder

    def deltas(self, adapter: str) -> dict[str, torch.Tensor]:
        found = self.model.named_modules()
        return {
            name: layer.get_delta_weight(adapter) for name, layer in found if adapter in getattr(layer, "scaling", ())
        }

    def combined(self, **options: Any) -> dict[str, torch.Tensor]:
        out = self.folder / "combined" / "adapter_model.safetensors"
        out.parent.mkdir(exist_ok=True)
        lora_core.combine(self.stack, out, base=self.base, dialect="peft", overwrite=True, **options)
        self.model.load_adapter(str(out.parent), "combined")
        return self.deltas("combined")


@pytest.fixture
def adapted(tmp_path: Path) -> Adapted:
    return Adapted(tmp_path)


WAYS: list[tuple[str, dict[str, Any], dict[str, Any], float]] = [
    ("cat", {}, {}, FP32),
    ("svd", {"svd_rank": 5}, {"rank": 5}, SVD),
    (
        "magnitude_prune_svd", {"svd_rank": 6, "density": 0.6},
        {"method": "magnitude_prune", "rank": 6, "density": 0.6}, SVD,
    ),
    (
        "ties_svd", {"svd_rank": 6, "density": 0.6},
        {"method": "ties", "rank": 6, "density": 0.6, "sign": "total"}, SVD,
    ),
    (
        "ties_svd", {"svd_rank": 6, "density": 0.6, "majority_sign_method": "frequency"},
        {"method": "ties", "rank": 6, "density": 0.6, "sign": "frequency"}, SVD,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("way", "theirs", "options", "tolerance"), WAYS)
def test_the_same_as_pefts_weighted_adapter(
    adapted: Adapted, way: str, theirs: dict[str, Any], options: dict[str, Any], tolerance: float
) -> None:
    adapted.model.add_weighted_adapter(["one", "two"], [0.9, 0.4], "theirs", combination_type=way, **theirs)
    expected, found = adapted.deltas("theirs"), adapted.combined(**options)
    assert set(found) == set(expected) and len(found) > 5
    assert max(float((found[name] - expected[name]).norm() / expected[name].norm()) for name in found) < tolerance


@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute")
@pytest.mark.parametrize("dialect", ["kohya", "diffusers"])
@pytest.mark.parametrize("name", ["flux", "sdxl", "wan"])
def test_diffusers_fuses_the_combined_file_as_it_fuses_the_stack(tmp_path: Path, name: str, dialect: Any) -> None:
    family = FAMILIES[name]
    original = family.to_original(randomised(family.make()).state_dict())
    varied = dialect == "diffusers"  # of kohya's names, diffusers mistakes alphas that differ
    layers = {key: weight for key, weight in original.items() if "attn" in key or "ffn" in key}
    base = write(tmp_path / "base.safetensors", prefixed(family.prefix, original))
    first = write(tmp_path / "a.safetensors", trained(layers, "lora_unet_", ranks=varied))
    tensors = {key: tensor.flip(0) if tensor.dim() else tensor for key, tensor in trained(layers, "lora_unet_").items()}
    second = write(tmp_path / "b.safetensors", tensors)
    stack, strengths = [first, second], [0.8, -0.5]
    for file in stack:  # diffusers needs its own names for some models
        lora_core.convert(file, file.with_stem(file.stem + "_there"), dialect="diffusers", base=base)
    results = []
    out = tmp_path / "combined.safetensors"
    lora_core.combine(list(zip(stack, strengths, strict=True)), out, dialect=dialect, base=base)
    for files, weights in (([f"{file.stem}_there" for file in stack], strengths), ([out.stem], [1.0])):
        model = randomised(family.make())
        pipe = pipeline(family.loader, **{family.component: model})
        for file in files:
            pipe.load_lora_weights(str(tmp_path), weight_name=f"{file}.safetensors", adapter_name=file)
        pipe.set_adapters(files, weights)
        pipe.fuse_lora(components=[family.component], adapter_names=files)
        results.append(family.to_original(plain(model)))
    assert_same(results[1], results[0], FP32)


def test_peft_loads_a_combined_file_as_the_merged_stack(tmp_path: Path) -> None:
    family = FAMILIES["sd3"]
    original = family.to_original(randomised(family.make()).state_dict())
    base = write(tmp_path / "base.safetensors", prefixed(family.prefix, original))
    one = write(tmp_path / "a.safetensors", trained(original, "lora_unet_", ranks=True))
    two = write(tmp_path / "b.safetensors", trained(dict(list(original.items())[::2]), "lora_unet_"))
    stack = [(one, 0.7), (two, -0.3)]
    lora_core.merge(base, stack, tmp_path / "merged.safetensors")
    folder = tmp_path / "peft"
    folder.mkdir()
    lora_core.combine(stack, folder / "adapter_model.safetensors", dialect="peft", base=base, on_unmatched="error")
    model = PeftModel.from_pretrained(randomised(family.make()), str(folder))
    merged = {key.removeprefix(family.prefix): t for key, t in load_file(tmp_path / "merged.safetensors").items()}
    assert_same(family.to_original(model.merge_and_unload().state_dict()), merged, FP32)
