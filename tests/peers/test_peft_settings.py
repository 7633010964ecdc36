"""PEFT's settings on a language model: its saved folders, merged, are the weights of its own merge."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file

import lora_core
from lora_core.errors import AdapterError, LoraError, UnmatchedError
from tests.peers.kinds import randomise

# PEFT asks transformers a question by a name that is going, and speaks of block sizes and of saved embeddings
pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::UserWarning", "ignore::peft.utils.PeftWarning"
)
SIZES = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 64,
}  # fmt: skip
ATTENTION = ["q_proj", "v_proj"]
LORAS: dict[str, dict[str, Any]] = {
    "plain": {},
    "all biases": {"bias": "all"},
    "biases of its layers": {"bias": "lora_only"},
    "bias of its own": {"lora_bias": True},
    "rank stabilised": {"use_rslora": True},
    "patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.self_attn.v_proj": 7}},
    "DoRA": {"use_dora": True},
    "head saved whole": {"modules_to_save": ["lm_head"]},
    "head and embedding saved whole": {"modules_to_save": ["lm_head", "embed_tokens"]},
    "norms saved whole": {"modules_to_save": ["input_layernorm", "norm"]},
    "embedding": {"target_modules": [*ATTENTION, "embed_tokens"]},
    "head": {"target_modules": [*ATTENTION, "lm_head"]},
    "embedding alone": {"target_modules": ["embed_tokens"]},
    "embedding with DoRA": {"target_modules": ["embed_tokens", "q_proj"], "use_dora": True},
    "tokens": {"trainable_token_indices": [3, 0, 11]},
    "tokens by name": {"trainable_token_indices": {"embed_tokens": [5, 60]}},
}


def model_of(family: str, **options: Any) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SIZES, **options)
    return getattr(transformers, f"{family}ForCausalLM")(config).eval()


def randomised(model: peft.PeftModel) -> peft.PeftModel:
    trained = torch.nn.Module()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            trained.register_parameter(name.replace(".", "_"), parameter)
    randomise(trained, 1)
    return model


def check(tmp_path: Path, model: Any, config: peft.PeftConfig, **saving: Any) -> None:
    """Save, merge, and hold every weight against PEFT's own merge; what it left alone stays to the bit."""
    base, adapter, out = tmp_path / "base", tmp_path / "adapter", tmp_path / "out"
    model.save_pretrained(base)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tuned = randomised(peft.get_peft_model(copy.deepcopy(model), config))
    tuned.save_pretrained(adapter, **saving)
    report = lora_core.merge(base, [adapter], out, on_unmatched="error")
    assert report.loras[0].modules_matched == report.loras[0].modules_total
    assert report.warnings == []
    again = peft.PeftModel.from_pretrained(copy.deepcopy(model), adapter)  # what PEFT itself makes of the folder
    wanted = again.merge_and_unload().state_dict()
    found = {name: value for path in out.glob("*.safetensors") for name, value in load_file(path).items()}
    assert found
    changed = [name for name in before if not torch.equal(before[name], wanted[name])]
    assert changed
    for name, value in found.items():
        difference = float((value.double() - wanted[name].double()).abs().max())
        change = float((wanted[name].double() - before[name].double()).abs().max())
        assert difference <= 1e-6 * max(change, float(before[name].abs().max()) / 10), name


@pytest.mark.parametrize("family", ["Llama", "Qwen2"])
@pytest.mark.parametrize("name", LORAS)
def test_settings_of_a_lora(tmp_path: Path, family: str, name: str) -> None:
    options = {"r": 3, "lora_alpha": 5, "target_modules": ATTENTION, **LORAS[name]}
    biased = "bias" in name and family == "Llama"  # Qwen2 has some of its own
    model = model_of(family, **({"attention_bias": True} if biased else {}))
    if name == "bias of its own" and family == "Qwen2":
        options["target_modules"] = ["q_proj", "k_proj"]
    check(tmp_path, model, peft.LoraConfig(**options))


@pytest.mark.parametrize("name", ["plain", "tokens", "embedding"])
def test_tied_embeddings(tmp_path: Path, name: str) -> None:
    options = {"r": 3, "lora_alpha": 5, "target_modules": ATTENTION, **LORAS[name]}
    check(tmp_path, model_of("Llama", tie_word_embeddings=True), peft.LoraConfig(**options))


@pytest.mark.parametrize("name", ["plain", "embedding"])
def test_saved_embeddings(tmp_path: Path, name: str) -> None:
    options = {"r": 3, "lora_alpha": 5, "target_modules": ATTENTION, **LORAS[name]}
    check(tmp_path, model_of("Llama"), peft.LoraConfig(**options), save_embedding_layers=True)


KINDS: dict[str, peft.PeftConfig] = {
    "AdaLoRA": peft.AdaLoraConfig(target_modules=ATTENTION, init_r=4, lora_alpha=5, total_step=9),
    "HiRA": peft.HiraConfig(target_modules=[*ATTENTION, "embed_tokens"], r=3),
    "VeRA": peft.VeraConfig(target_modules=[*ATTENTION, "down_proj"], r=3),
    "RandLoRA": peft.RandLoraConfig(target_modules=[*ATTENTION, "down_proj"], r=4),
    "VB-LoRA": peft.VBLoRAConfig(target_modules=ATTENTION, num_vectors=9, vector_length=8, r=3),
    "MiSS": peft.MissConfig(target_modules=ATTENTION, r=4),
    "FourierFT": peft.FourierFTConfig(target_modules=ATTENTION, n_frequency=20),
    "SHiRA": peft.ShiraConfig(target_modules=ATTENTION, r=2),
    "LN-tuning": peft.LNTuningConfig(target_modules=["input_layernorm", "norm"]),
    "trained tokens": peft.TrainableTokensConfig(target_modules=["embed_tokens"], token_indices=[4, 2]),
    "DeLoRA": peft.DeloraConfig(target_modules=ATTENTION, r=3),
    "OSF": peft.OSFConfig(target_modules=ATTENTION, effective_rank=8),
    "TinyLoRA": peft.TinyLoraConfig(target_modules=ATTENTION, r=2, u=3, weight_tying=1.0),
}


@pytest.mark.parametrize("name", KINDS)
def test_other_kinds_on_a_model(tmp_path: Path, name: str) -> None:
    check(tmp_path, model_of("Llama"), copy.deepcopy(KINDS[name]))


def test_a_head_that_the_base_has_not_is_told(tmp_path: Path) -> None:
    """With tied embeddings PEFT trains two, and there is one to put them in."""
    options = {"target_modules": ATTENTION, "modules_to_save": ["lm_head", "embed_tokens"]}
    with pytest.raises(UnmatchedError, match=r"lm_head"):
        check(tmp_path, model_of("Llama", tie_word_embeddings=True), peft.LoraConfig(**options))


def test_groups_of_tinylora_are_refused(tmp_path: Path) -> None:
    config = peft.TinyLoraConfig(target_modules=ATTENTION, r=2, u=3)
    with pytest.raises(AdapterError, match=r"several groups of layers"):
        check(tmp_path, model_of("Llama"), config)


@pytest.mark.filterwarnings("ignore:The following rank_pattern keys did not match:RuntimeWarning")
def test_adalora_after_it_gave_its_ranks_away(tmp_path: Path) -> None:
    """Trained until its budget is spent, so that modules have ranks of their own, some none."""
    model = model_of("Llama")
    config = peft.AdaLoraConfig(
        target_modules=[*ATTENTION, "down_proj"], init_r=4, target_r=1, lora_alpha=5, total_step=7, tinit=1, tfinal=2
    )
    model.save_pretrained(tmp_path / "base")
    tuned = randomised(peft.get_peft_model(copy.deepcopy(model), config))
    tokens = torch.arange(12).reshape(2, 6) * 7 % 64
    for step in range(8):
        tuned(tokens, labels=tokens).loss.backward()
        tuned.base_model.update_and_allocate(step)
        tuned.zero_grad()
    tuned.save_pretrained(tmp_path / "adapter")
    ranks = {value.shape[0] for value in load_file(tmp_path / "adapter/adapter_model.safetensors").values()}
    assert 0 in ranks and len(ranks) > 3, ranks
    report = lora_core.merge(tmp_path / "base", [tmp_path / "adapter"], tmp_path / "out", on_unmatched="error")
    assert report.warnings == []
    again = peft.PeftModel.from_pretrained(copy.deepcopy(model), tmp_path / "adapter")
    found = load_file(tmp_path / "out/model.safetensors")
    wanted = again.merge_and_unload().state_dict()
    for name, value in found.items():
        change = max(float((wanted[name] - model.state_dict()[name]).abs().max()), 0.01)
        assert float((value - wanted[name]).abs().max()) <= 1e-6 * change, name


@pytest.mark.parametrize("targets", [ATTENTION, [*ATTENTION, "embed_tokens"]])
def test_added_words(tmp_path: Path, targets: list[str]) -> None:
    """They are saved whole, and fit a base that has them; any other is told."""
    model = model_of("Llama")
    model.save_pretrained(tmp_path / "smaller")
    model.resize_token_embeddings(70, mean_resizing=False)
    check(tmp_path, model, peft.LoraConfig(r=3, target_modules=targets), save_embedding_layers=True)
    report = lora_core.merge(tmp_path / "smaller", [tmp_path / "adapter"], tmp_path / "other")
    assert "of another shape" in report.warnings[0] and "embed_tokens" in report.warnings[0]


@pytest.mark.parametrize("name", ["VeRA", "RandLoRA", "FourierFT", "SHiRA", "AdaLoRA", "LN-tuning", "OSF"])
@pytest.mark.parametrize("kind", ["keep", "lora"])
def test_other_kinds_are_converted(tmp_path: Path, name: str, kind: Any) -> None:
    """Their numbers mean nothing without PEFT's configuration, so they become what anyone reads."""
    model = model_of("Llama")
    check(tmp_path, model, copy.deepcopy(KINDS[name]))
    base, out = tmp_path / "base", tmp_path / "converted.safetensors"
    lora_core.convert(tmp_path / "adapter", out, dialect="peft", base=base, kind=kind)
    lora_core.merge(base, [out], tmp_path / "again", on_unmatched="error")
    wanted = load_file(tmp_path / "out/model.safetensors")
    for key, value in load_file(tmp_path / "again/model.safetensors").items():
        change = max(float((wanted[key] - model.state_dict()[key]).abs().max()), 0.01)
        assert float((value - wanted[key]).abs().max()) <= 2e-6 * change, key


def test_two_adapters_of_one_weight_do_not_become_one_lora_in_silence(tmp_path: Path) -> None:
    """An embedding that was trained is saved whole beside its LoRA."""
    config = peft.LoraConfig(r=3, target_modules=[*ATTENTION, "embed_tokens"])
    check(tmp_path, model_of("Llama"), config, save_embedding_layers=True)
    base, out = tmp_path / "base", tmp_path / "converted.safetensors"
    with pytest.raises(LoraError, match=r"embed_tokens: several of its adapters change this weight"):
        lora_core.convert(tmp_path / "adapter", out, dialect="peft", base=base, kind="lora")
    lora_core.combine([tmp_path / "adapter"], out, base=base, dialect="peft")
    lora_core.merge(base, [out], tmp_path / "again", on_unmatched="error")
    wanted = load_file(tmp_path / "out/model.safetensors")
    for key, value in load_file(tmp_path / "again/model.safetensors").items():
        assert float((value - wanted[key]).abs().max()) <= 2e-6, key
