"""Cases of PEFT's kinds: the weight that its merge computes."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import peft
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from torch import Tensor, nn

from tests.peers.kinds import Case, Made, layer, randomise


class OneLayer(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.m = module

    def forward(self, given: Tensor) -> Tensor:
        return self.m(given)


def peft_case(kind: str, config: type, on: str, **options: Any) -> Case:
    def make(seed: int) -> Made:
        base = OneLayer(layer(on, seed))
        before = {key: value.clone() for key, value in base.m.state_dict().items()}
        torch.manual_seed(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # block sizes that PEFT adjusts
            model = peft.get_peft_model(copy.deepcopy(base), config(target_modules=["m"], **options))
        generator = nn.Module()
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                generator.register_parameter(name.replace(".", "_"), parameter)
        randomise(generator, seed)
        model.eval()
        tensors = {key: value.detach().clone() for key, value in peft.get_peft_model_state_dict(model).items()}
        saved = _as_json(model.peft_config["default"].to_dict())
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            after = {key: value.clone() for key, value in model.merge_and_unload().m.state_dict().items()}
        return Made(tensors, before, after, saved)

    algorithm = next(key.name for key, cls in PEFT_TYPE_TO_CONFIG_MAPPING.items() if cls is config)
    return Case(kind, "PEFT merge", on, make, options, algorithm)


def _as_json(config: Mapping[str, Any]) -> dict[str, Any]:
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    return json.loads(json.dumps(plain, default=str))


def own_cases() -> Iterator[Case]:
    """Yield cases of the kinds that PEFT alone has."""
    for on in ("tall", "square", "kernel"):
        yield peft_case("AdaLoRA", peft.AdaLoraConfig, on, init_r=3, lora_alpha=5, total_step=9)
    yield peft_case("AdaLoRA", peft.AdaLoraConfig, "tall", init_r=3, lora_alpha=-1, total_step=9)
    for on in ("tall", "point", "kernel", "video", "embedding"):
        yield peft_case("HiRA", peft.HiraConfig, on, r=3)
    for on in ("tall", "wide", "odd"):
        yield peft_case("MiSS", peft.MissConfig, on, r=4)
        yield peft_case("RandLoRA", peft.RandLoraConfig, on, r=4, randlora_alpha=5)
        yield peft_case("FourierFT", peft.FourierFTConfig, on, n_frequency=30, scaling=100.0, random_loc_seed=3)
        yield peft_case("WaveFT", peft.WaveFTConfig, on, n_frequency=30, scaling=5.0, wavelet_family="db1")
        yield peft_case("SHiRA", peft.ShiraConfig, on, r=2)
        yield peft_case("Super-Tuning", peft.SupertuningConfig, on, sparsity=0.8)
        yield peft_case("OSF", peft.OSFConfig, on, effective_rank=5)
        yield peft_case("HRA", peft.HRAConfig, on, r=3)
        yield peft_case("DeLoRA", peft.DeloraConfig, on, r=3)
    for on in ("tall", "square", "wide"):
        yield peft_case("C3A", peft.C3AConfig, on, block_size=4)
        yield peft_case("VB-LoRA", peft.VBLoRAConfig, on, num_vectors=9, vector_length=4, r=3, topk=2)
        yield peft_case("GraLoRA", peft.GraloraConfig, on, r=4, gralora_k=2, alpha=5)
        yield peft_case("VeRA", peft.VeraConfig, on, r=5, save_projection=True)
        yield peft_case("PVeRA", peft.PveraConfig, on, r=5, save_projection=True)
        yield peft_case("TinyLoRA", peft.TinyLoraConfig, on, r=2, u=5)
        yield peft_case("UniLoRA", peft.UniLoraConfig, on, r=3, theta_d_length=40, save_indices=True)
    yield peft_case("MiSS", peft.MissConfig, "square", r=4, init_weights="bat")
    yield peft_case("MiSS", peft.MissConfig, "tall", r=5, init_weights="mini", mini_r=6)
    yield peft_case("WaveFT", peft.WaveFTConfig, "odd", n_frequency=30, use_idwt=False)
    yield peft_case(
        "VB-LoRA", peft.VBLoRAConfig, "tall", num_vectors=9, vector_length=4, r=3, save_only_topk_weights=True
    )
    yield peft_case("GraLoRA", peft.GraloraConfig, "tall", r=4, gralora_k=2, hybrid_r=2)
    yield peft_case("Super-Tuning", peft.SupertuningConfig, "tall", sparsity=0.8, r=2, lora_alpha=3)
    for on in ("kernel", "tall"):
        yield peft_case("HRA", peft.HRAConfig, on, r=3, apply_GS=True)
    for variant in ("road_1", "road_2", "road_4"):
        yield peft_case("RoAd", peft.RoadConfig, "even", variant=variant, group_size=8)
    for path in ("lora", "vector", "constant"):
        yield peft_case("GLoRA", peft.GloraConfig, "tall", r=3, config_A_B=path)
        yield peft_case("GLoRA", peft.GloraConfig, "even", r=3, config_A_B=path, config_C="none", config_D_E="vector")
    yield peft_case("GLoRA", peft.GloraConfig, "even", r=3, config_C="none", config_D_E="constant")
    for method in ("relu", "qr"):
        yield peft_case("DEFT", peft.DeftConfig, "tall", r=3, decomposition_method=method, alpha=5)
        yield peft_case("DEFT", peft.DeftConfig, "odd", r=3, decomposition_method=method, para=True)
    for options in ({"depth": 2}, {"depth": 0}, {"depth": 1, "act_fn": "silu"}, {"depth": 1, "act_fn": "gelu"}):
        yield peft_case("PEANuT", peft.PeanutConfig, "tall", r=3, scaling=0.5, **options)
    yield peft_case("BEFT", peft.BeftConfig, "even")
    yield peft_case("LN-tuning", peft.LNTuningConfig, "norm")
    yield peft_case("trained tokens", peft.TrainableTokensConfig, "embedding", token_indices=[3, 0, 7])


def peft_cases() -> Iterator[Case]:
    yield from own_cases()
    for on in ("linear", "square", "point", "kernel"):
        yield peft_case("LoRA", peft.LoraConfig, on, r=3, lora_alpha=5)
        yield peft_case("DoRA of LoRA", peft.LoraConfig, on, r=3, lora_alpha=5, use_dora=True)
        for terms in (5, 2, 3, 4, 6):  # with 1 nothing changes
            yield peft_case("OFT", peft.OFTConfig, on, oft_block_size=2, num_cayley_neumann_terms=terms)
        for options in ({"use_cayley_neumann": False}, {"block_share": True}, {"coft": True, "eps": 0.05}):
            yield peft_case("OFT", peft.OFTConfig, on, oft_block_size=2, **options)
        yield peft_case("BOFT", peft.BOFTConfig, on, boft_block_size=2)
        for tucker in (False, True) if on == "kernel" else (False,):
            for kind, config in (("LoHa", peft.LoHaConfig), ("LoKr", peft.LoKrConfig)):
                yield peft_case(kind, config, on, r=1, alpha=3, init_weights=False, use_effective_conv2d=tucker)
        yield peft_case("LoKr", peft.LoKrConfig, on, r=1, alpha=3, init_weights=False, decompose_both=True)
        yield peft_case("LoKr", peft.LoKrConfig, on, r=8, alpha=3, init_weights=False)  # both whole, and alpha counts
    yield peft_case("DoRA of LoRA", peft.LoraConfig, "video", r=3, lora_alpha=5, use_dora=True)
    yield peft_case("LoRA", peft.LoraConfig, "linear", r=3, lora_alpha=5, use_rslora=True)
    yield peft_case("LoRA", peft.LoraConfig, "linear", r=3, alpha_pattern={r"(k|.*\.)?m": 7}, rank_pattern={"m": 2})
    yield peft_case("LoKr", peft.LoKrConfig, "linear", r=8, rank_pattern={"^m": 16}, alpha=3, init_weights=False)
    for on in ("biased", "biased kernel"):
        yield peft_case("IA3", peft.IA3Config, on, feedforward_modules=[])
        yield peft_case("IA3", peft.IA3Config, on, feedforward_modules=["m"])
