"""PEFT adapters merged into sharded language models, as transformers saves them: the model gives PEFT's own logits."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model

import lora_core

SIZES = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 128,
}  # fmt: skip
MODELS = ("Llama", "Mistral", "Qwen2")
# PEFT asks transformers a question by a name that is going
pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Setting .save_embedding_layers.:UserWarning"),
]
TOKENS = torch.arange(12).reshape(2, 6) * 7 % 128


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(TOKENS).logits


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("pickled", [False, True])
def test_a_merged_folder_gives_the_logits_of_merge_and_unload(tmp_path: Path, family: str, pickled: bool) -> None:
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SIZES)
    model = getattr(transformers, f"{family}ForCausalLM")(config)
    base = tmp_path / "base"
    model.save_pretrained(base, max_shard_size="60KB")
    shards = sorted(path.name for path in base.glob("*.safetensors"))
    assert len(shards) > 3
    tuned = get_peft_model(
        copy.deepcopy(model),
        LoraConfig(r=4, lora_alpha=10, target_modules=["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"]),
    )
    for name, parameter in tuned.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    tuned.save_pretrained(tmp_path / "adapter")
    adapter = tmp_path / "adapter"
    if pickled:  # as older versions of PEFT save it
        from safetensors.torch import load_file

        torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
        (adapter / "adapter_model.safetensors").unlink()
        adapter /= "adapter_model.bin"
    out = tmp_path / "out"
    report = lora_core.merge(base, [adapter], out)
    assert report.loras[0].modules_matched == report.loras[0].modules_total == 10
    assert report.warnings == []
    assert sorted(path.name for path in out.glob("*.safetensors")) == shards
    index = "model.safetensors.index.json"
    assert json.loads((out / index).read_text())["weight_map"] == json.loads((base / index).read_text())["weight_map"]
    merged = type(model).from_pretrained(out)
    expected = logits(tuned.merge_and_unload())
    torch.testing.assert_close(logits(merged), expected, rtol=1e-5, atol=1e-5)
    assert float((expected - logits(model)).abs().max()) > 0.01  # or the adapter had done nothing


@pytest.mark.parametrize("dora", [False, True])
def test_an_embedding_goes_through_peft_merge_conversion_and_extraction(tmp_path: Path, dora: bool) -> None:
    """PEFT's own file is merged as PEFT does; what we write of it, converted or extracted, PEFT loads."""
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES))
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    model.save_pretrained(base)
    targets = ["embed_tokens", "q_proj", "lm_head"]
    tuned = get_peft_model(copy.deepcopy(model), LoraConfig(r=4, lora_alpha=10, target_modules=targets, use_dora=dora))
    for name, parameter in tuned.named_parameters():
        if "lora_" in name and "magnitude" not in name:
            torch.nn.init.normal_(parameter, std=0.1)
    tuned.save_pretrained(adapter)
    expected = logits(copy.deepcopy(tuned).merge_and_unload())
    report = lora_core.merge(base, [adapter], tmp_path / "merged")
    assert report.loras[0].modules_matched == report.loras[0].modules_total == 4 and report.warnings == []
    merged = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(merged), expected, rtol=1e-5, atol=1e-5)
    kohya, again, found = (tmp_path / name for name in ("kohya.safetensors", "again", "found"))
    lora_core.convert(adapter, kohya, dialect="comfy", base=base)
    again.mkdir()
    found.mkdir()
    lora_core.convert(kohya, again / "adapter_model.safetensors", dialect="peft", base=base)
    options = {"rank": 64, "dialect": "peft", "dtype": "fp32"}
    lora_core.extract(base, tmp_path / "merged", found / "adapter_model.safetensors", **options)
    for folder in (again, found):
        loaded = PeftModel.from_pretrained(copy.deepcopy(model), str(folder))
        torch.testing.assert_close(logits(loaded.merge_and_unload()), expected, rtol=1e-4, atol=1e-4)
