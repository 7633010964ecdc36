"""LoRA files that lora_core resizes, loaded by PEFT and diffusers: nothing left over, and the best change of the rank.

A peer's own file is resized, and loaded and fused by the peer; every weight must have moved by the truncation of the
change that the original file makes there, computed in fp64 from the peer's own merge of it. Tolerance: the merge of the
peer is in fp32, so its change is known to some 1e-7 of the weight.
"""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn

import lora_core
from tests.peers.layouts import Weights
from tests.peers.models import (
    FAMILIES,
    Family,
    add_adapter,
    assert_same,
    changed,
    pipeline,
    plain,
    prefixed,
    randomised,
    write,
)
from tests.peers.test_converted import trained
from tests.peers.test_written import TRAINED

FP32 = 1e-5
NAME = "pytorch_lora_weights.safetensors"


@pytest.fixture(autouse=True)
def no_warnings(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """diffusers tells of keys that it does not know in its log."""
    logger = logging.getLogger("diffusers")
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.WARNING)
    yield
    logger.removeHandler(caplog.handler)
    told = [record.getMessage() for record in caplog.records]
    assert [text for text in told if "key" in text.lower() and "No LoRA keys associated" not in text] == []


def truncated(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor], rank: int) -> Weights:
    """Return the weights with the best change of a rank instead of the whole change."""
    result = dict(after)
    for key, weight in before.items():
        if weight.dim() > 1 and not torch.equal(weight, after[key]):
            u, s, v = torch.linalg.svd((after[key].double() - weight.double()).flatten(1), full_matrices=False)
            change = (u[:, :rank] * s[:rank]) @ v[:rank]
            result[key] = (weight.double() + change.reshape(weight.shape)).float()
    return result


# PEFT


class Small(nn.Module):
    """Layers whose names end alike, of both sorts."""

    def __init__(self) -> None:
        super().__init__()
        self.to_q, self.inner = nn.Linear(24, 16), nn.ModuleDict({"to_q": nn.Linear(16, 20)})
        self.conv = nn.Conv2d(6, 8, 3)


CONFIGS: dict[str, tuple[type, dict[str, Any]]] = {
    "lora": (peft.LoraConfig, {"r": 6, "lora_alpha": 9}),
    "rslora": (peft.LoraConfig, {"r": 6, "lora_alpha": 9, "use_rslora": True}),
    "patterns": (peft.LoraConfig, {"r": 6, "lora_alpha": 9, "rank_pattern": {"^to_q": 2, "conv": 8},
                                   "alpha_pattern": {"^inner.to_q": 7, "to_q": 5}}),
    "bias": (peft.LoraConfig, {"r": 6, "lora_alpha": 9, "lora_bias": True}),
    "loha": (peft.LoHaConfig, {"r": 3, "alpha": 4, "init_weights": False, "use_effective_conv2d": True}),
    "lokr": (peft.LoKrConfig, {"r": 3, "alpha": 4, "init_weights": False, "use_effective_conv2d": True}),
}  # fmt: skip


def saved(kind: str, folder: Path) -> tuple[Small, Weights]:
    """Save a random adapter of a kind and return (the model without it, its weights with the adapter merged in)."""
    config, options = CONFIGS[kind]
    base = Small()
    randomised(base)
    model = peft.get_peft_model(copy.deepcopy(base), config(target_modules=["to_q", "conv"], **options))
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if "magnitude" not in name and ("lora_" in name or "lokr_" in name or "hada_" in name):
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) / max(1, parameter.shape[-1]) ** 0.5)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*lora_B.bias")  # 1-D, which PEFT takes for a shard in its own files
        model.save_pretrained(folder)
    merged = model.merge_and_unload()
    return base, {key: tensor.clone() for key, tensor in merged.state_dict().items()}


@pytest.mark.filterwarnings("ignore:.*lora_B.bias")
@pytest.mark.parametrize("rank", [2, 4])
@pytest.mark.parametrize("kind", CONFIGS)
def test_peft_loads_a_resized_folder(tmp_path: Path, kind: str, rank: int) -> None:
    base, whole = saved(kind, tmp_path / "before")
    out = tmp_path / "after" / "adapter_model.safetensors"
    out.parent.mkdir()
    lora_core.resize(tmp_path / "before", out, rank=rank)
    assert sorted(path.name for path in out.parent.iterdir()) == ["adapter_config.json", out.name]
    before = {key: tensor.clone() for key, tensor in base.state_dict().items()}
    model = PeftModel.from_pretrained(copy.deepcopy(base), str(out.parent))
    loaded = {name for name, _ in model.named_parameters() if "lora_" in name}
    assert {name.replace(".default", "") for name in loaded} == set(load_file(out)), "every tensor has its place"
    after = model.merge_and_unload().state_dict()
    assert_same(after, truncated(before, whole, rank), FP32)


def test_what_the_configuration_says_besides_is_kept(tmp_path: Path) -> None:
    saved("rslora", tmp_path / "before")
    path = tmp_path / "before" / "adapter_config.json"
    text = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**text, "base_model_name_or_path": "some/model", "revision": "main"}), "utf-8")
    out = tmp_path / "after" / "adapter_model.safetensors"
    out.parent.mkdir()
    lora_core.resize(tmp_path / "before", out, rank=2)
    after = json.loads((out.parent / "adapter_config.json").read_text("utf-8"))
    assert (after["base_model_name_or_path"], after["revision"]) == ("some/model", "main")
    assert (after["r"], after["lora_alpha"], after["use_rslora"]) == (2, 2, False)


def test_dora_in_peft_keeps_its_norms(tmp_path: Path) -> None:
    """The inner change is the truncated one, and every row has the magnitude as its norm."""
    CONFIGS["dora"] = (peft.LoraConfig, {"r": 6, "lora_alpha": 9, "use_dora": True})
    base, whole = saved("dora", tmp_path / "before")
    del CONFIGS["dora"]
    out = tmp_path / "after" / "adapter_model.safetensors"
    out.parent.mkdir()
    lora_core.resize(tmp_path / "before", out, rank=3)
    after = PeftModel.from_pretrained(copy.deepcopy(base), str(out.parent)).merge_and_unload().state_dict()
    factors = load_file(tmp_path / "before" / "adapter_model.safetensors")
    for key, weight in base.state_dict().items():
        if weight.dim() < 2:
            continue
        name = f"base_model.model.{key.removesuffix('.weight')}.lora_"
        up, down = factors[f"{name}B.weight"].double().flatten(1), factors[f"{name}A.weight"].double().flatten(1)
        u, s, v = torch.linalg.svd(up @ down * 1.5, full_matrices=False)
        direction = weight.double().flatten(1) + (u[:, :3] * s[:3]) @ v[:3]
        expected = direction / direction.norm(dim=1, keepdim=True) * whole[key].double().flatten(1).norm(dim=1)[:, None]
        assert_same({key: after[key].flatten(1)}, {key: expected.float()}, FP32)


# diffusers


def fused(family: Family, lora: Path) -> tuple[Weights, Weights]:
    """Return the weights of a model before and after diffusers has loaded and fused a file."""
    model = randomised(family.make())
    before = plain(model)
    pipe = pipeline(family.loader, **{family.component: model})
    pipe.load_lora_weights(str(lora.parent), weight_name=lora.name)
    pipe.fuse_lora(components=[family.component])
    return before, plain(model)


@pytest.mark.parametrize("name", ["flux", "sd15", "wan"])
@pytest.mark.parametrize("variant", [{"r": 6, "lora_alpha": 9}, {"r": 6, "lora_alpha": 9, "patterns": True}])
def test_diffusers_loads_its_own_file_resized(tmp_path: Path, name: str, variant: dict[str, Any]) -> None:
    family = FAMILIES[name]
    weights, config = add_adapter(randomised(family.make()), **variant)
    parts = {f"{family.component}_lora_layers": weights, f"{family.component}_lora_adapter_metadata": config}
    for folder in ("before", "after"):
        (tmp_path / folder).mkdir()
    family.loader.save_lora_weights(tmp_path / "before", weight_name=NAME, **parts)
    lora_core.resize(tmp_path / "before" / NAME, tmp_path / "after" / NAME, rank=3)
    before, whole = fused(family, tmp_path / "before" / NAME)
    _, found = fused(family, tmp_path / "after" / NAME)
    assert_same(found, truncated(before, whole, 3), FP32)
    assert len(changed(before, found)) == len(weights) // 2


@pytest.mark.parametrize(
    ("name", "options", "ranks"),
    # of SD's, diffusers loses alphas that differ, so all ranks must be the same
    [("sd15", {"rank": 2}, {2}), ("flux", {"rank": 3}, {3}), ("flux", {"energy": 0.8}, {2, 3, 4})],
)
def test_diffusers_loads_kohyas_file_resized(
    tmp_path: Path, name: str, options: dict[str, Any], ranks: set[int]
) -> None:
    family = FAMILIES[name]
    original = family.to_original(randomised(family.make()).state_dict())
    base = write(tmp_path / "base.safetensors", prefixed(family.prefix, original))
    layers = {key: weight for key, weight in original.items() if TRAINED[name](key)}
    source = write(tmp_path / "trained.safetensors", trained(layers, "lora_unet_", ranks=name == "flux"))
    kohya, out = tmp_path / "kohya.safetensors", tmp_path / NAME
    lora_core.convert(source, kohya, dialect="kohya", base=base)
    report = lora_core.resize(kohya, out, **options)
    found = {layer["name"]: layer["rank"] for layer in report.layers}
    assert set(found.values()) == ranks
    lora_core.merge(base, [kohya], tmp_path / "merged.safetensors")
    merged = {k.removeprefix(family.prefix): t for k, t in load_file(tmp_path / "merged.safetensors").items()}
    expected: Weights = {}
    names = {key: "lora_unet_" + key.removesuffix(".weight").replace(".", "_") for key in original}
    if name == "sd15":  # whose modules kohya calls as diffusers does, and whose ranks are all the same
        names = dict.fromkeys(original, next(iter(found)))
    for key, weight in original.items():
        rank = found.get(names[key], 0)
        expected.update(truncated({key: weight}, {key: merged[key]}, rank) if rank else {key: weight})
    before, after = (family.to_original(weights) for weights in fused(family, out))
    assert_same(after, expected, FP32)
    assert changed(before, after) == {key for key in layers if not torch.equal(merged[key], original[key])} != set()
