"""What PEFT's configuration says of a file's type: refused by its name, or held against the tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lora_core.errors import AdapterError
from lora_core.reading.lorafile import LoraFile

LORA = {"m.lora_A.weight": torch.ones(2, 4), "m.lora_B.weight": torch.ones(6, 2)}
VERA = {"m.vera_lambda_b": torch.ones(6), "m.vera_lambda_d": torch.ones(2)}
SHARED = {"vera_A": torch.ones(2, 9), "vera_B": torch.ones(8, 2)}


def folder(path: Path, tensors: dict[str, torch.Tensor], prefix: str = "base_model.model.", **config: Any) -> Path:
    named = {(prefix if name.startswith("m.") else "base_model.") + name: value for name, value in tensors.items()}
    save_file(named, path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text(json.dumps(config))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(AdapterError) as caught:
        LoraFile(path)
    return str(caught.value)


@pytest.mark.parametrize("name", ["SHADOW", "LILY", "ADAMSS", "FROD", "PSOFT", "PeftType.LILY"])
def test_a_type_that_can_not_be_merged_is_named(tmp_path: Path, name: str) -> None:
    text = refusal(folder(tmp_path, {"m.lily_A.weight": torch.ones(2, 4)}, peft_type=name))
    assert f"is a PEFT adapter of the type {name.rpartition('.')[2]} (" in text


def test_an_unknown_type_over_the_names_of_a_lora_is_refused(tmp_path: Path) -> None:
    text = refusal(folder(tmp_path, LORA, peft_type="NEWLORA", r=2, lora_alpha=2))
    assert "type NEWLORA, which this version can't apply" in text


@pytest.mark.parametrize("name", ["ADALORA", "HIRA", "VERA"])
def test_another_type_over_the_names_of_a_lora_is_refused(tmp_path: Path, name: str) -> None:
    text = refusal(folder(tmp_path, LORA, peft_type=name, r=2, lora_alpha=2))
    assert "lora_E" in text if name == "ADALORA" else f"says {name}, and its tensors are named as a LoRA's" in text


def test_an_adalora_without_one_of_its_parts_is_an_error(tmp_path: Path) -> None:
    whole = {"m.lora_A": torch.ones(2, 4), "m.lora_B": torch.ones(6, 2), "m.lora_E": torch.ones(2, 1)}
    with LoraFile(folder(tmp_path, whole, peft_type="ADALORA", lora_alpha=4, init_r=8)) as file:
        assert file.kinds == ["AdaLoRA"]
        assert torch.allclose(file.adapter(file.adapters[0]).delta(torch.zeros(6, 4)), torch.ones(6, 4))
    for missing in ("m.lora_A", "m.lora_B"):
        rest = {name: value for name, value in whole.items() if name != missing}
        assert "expected three matrices" in refusal(folder(tmp_path, rest, peft_type="ADALORA", lora_alpha=4))


def test_shared_tensors_are_parts_of_all_modules_that_have_the_kind(tmp_path: Path) -> None:
    second = {name.replace("m.", "m.n."): value.clone() for name, value in VERA.items()}
    with LoraFile(folder(tmp_path, {**VERA, **second, **SHARED}, peft_type="VERA")) as file:
        assert {spec.module for spec in file.adapters} == {"base_model.model.m", "base_model.model.m.n"}
        assert not file.unsupported and not file.unknown and not file.not_adapters
        for spec in file.adapters:
            assert spec.fits((6, 9)) and not spec.fits((6, 10)) and not spec.fits((5, 9))
            assert torch.equal(file.adapter(spec).delta(torch.zeros(6, 4)), torch.full((6, 4), 2.0))


def test_modules_without_the_shared_tensors_are_an_error(tmp_path: Path) -> None:
    text = refusal(folder(tmp_path, VERA, peft_type="VERA"))
    assert "without down and up" in text
    assert "save it with them" in refusal(folder(tmp_path, VERA, peft_type="VERA", save_projection=False))
    text = refusal(folder(tmp_path, {**LORA, **SHARED}, peft_type="LORA"))
    assert "without of_output" in text


@pytest.mark.parametrize(
    ("tensors", "config", "text"),
    [
        ({"m.fourierft_spectrum": torch.ones(5)}, {"scaling": 2.0}, "random_loc_seed"),
        ({"m.fourierft_spectrum": torch.ones(5)}, {"random_loc_seed": -1, "scaling": 2.0}, "random_loc_seed: -1"),
        ({"m.fourierft_spectrum": torch.ones(5)}, {"random_loc_seed": 1, "scaling": "x"}, "scaling: x"),
        ({"m.hra_u": torch.ones(4, 2)}, {}, "apply_GS"),
        ({"m.waveft_spectrum": torch.ones(5)}, {"use_idwt": True, "wavelet_family": "sym3"}, "only db1"),
        ({"m.trainable_tokens_delta": torch.ones(2, 4)}, {}, "does not say which tokens"),
        ({"m.trainable_tokens_delta": torch.ones(2, 4)}, {"token_indices": [1]}, "lists 1 tokens"),
        ({"m.trainable_tokens_delta": torch.ones(2, 4)}, {"token_indices": [1, 1]}, "lists 1 tokens"),
        ({"m.trainable_tokens_delta": torch.ones(1, 4)}, {"token_indices": ["a"]}, "does not say which tokens"),
    ],
)
def test_a_setting_that_its_numbers_need_is_asked_for(
    tmp_path: Path, tensors: dict[str, torch.Tensor], config: dict[str, Any], text: str
) -> None:
    assert text in refusal(folder(tmp_path, tensors, peft_type="MIXED", **config))


def test_without_any_configuration_the_file_says_what_it_lacks(tmp_path: Path) -> None:
    save_file({"m.hra_u": torch.ones(4, 2)}, tmp_path / "alone.safetensors")
    assert "adapter_config.json, which is not beside the file" in refusal(tmp_path / "alone.safetensors")


def test_places_outside_the_weight_are_an_error(tmp_path: Path) -> None:
    tensors = {"m.shira_weight": torch.ones(2), "m.shira_indices": torch.tensor([[0, 7], [0, 0]])}
    with LoraFile(folder(tmp_path, tensors, peft_type="SHIRA")) as file:
        adapter = file.adapter(file.adapters[0])
        assert adapter.delta(torch.zeros(8, 2)).sum() == 2
        with pytest.raises(AdapterError, match="places outside a weight"):
            adapter.delta(torch.zeros(7, 2))
