"""Cases of PEFT's kinds: the weight that its merge computes."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import peft
import torch
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

    return Case(kind, "PEFT merge", on, make, options)


def _as_json(config: Mapping[str, Any]) -> dict[str, Any]:
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    return json.loads(json.dumps(plain, default=str))


def peft_cases() -> Iterator[Case]:
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
