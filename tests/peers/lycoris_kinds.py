"""Cases of LyCORIS' kinds: the weight behind its forward, for its own merge scales some kinds twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from lycoris.modules.boft import ButterflyOFTModule
from lycoris.modules.diag_oft import DiagOFTModule
from lycoris.modules.dylora import DyLoraModule
from lycoris.modules.full import FullModule
from lycoris.modules.glora import GLoRAModule
from lycoris.modules.ia3 import IA3Module
from lycoris.modules.locon import LoConModule
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from lycoris.modules.norms import NormModule

from tests.peers.kinds import Case, Made, layer, randomise, weight_behind


def lycoris_case(kind: str, cls: type, on: str, **options: Any) -> Case:
    def make(seed: int) -> Made:
        module = layer(on, seed)
        weight = module.weight.data.clone()
        torch.manual_seed(seed)
        adapter = cls("lora_unet_m", module, 1.0, **options)
        randomise(adapter, seed)
        tensors = {f"lora_unet_m.{key}": value.detach().clone() for key, value in adapter.state_dict().items()}
        if cls is FullModule:
            tensors = {"lora_unet_m.diff": adapter.weight.detach().clone()}
        adapter.eval()
        if cls is NormModule:
            before = {"weight": weight, "bias": module.bias.data.clone()}
            with torch.no_grad():
                after = dict(zip(before, adapter.get_merged_weight(), strict=True))
            return Made(tensors, before, after)
        if cls is DyLoraModule:  # its forward draws a rank at random; this is the highest
            change = adapter.get_diff_weight(rank=options["lora_dim"] - 1)[0].detach()
            return Made(tensors, {"weight": weight}, {"weight": weight + change.reshape(weight.shape)})
        adapter.apply_to()
        return Made(tensors, {"weight": weight}, {"weight": weight_behind(module, weight)})

    return Case(kind, "LyCORIS forward", on, make, options, cls.__name__)


SMALL = {"lora_dim": 3, "alpha": 2}


def lycoris_cases() -> Iterator[Case]:
    everywhere = ("linear", "square", "point", "kernel", "video")
    for on in everywhere:
        yield lycoris_case("LoRA", LoConModule, on, **SMALL)
        yield lycoris_case("LoHa", LohaModule, on, **SMALL)
        yield lycoris_case("LoKr", LokrModule, on, lora_dim=1, alpha=2)
        yield lycoris_case("GLoRA", GLoRAModule, on, **SMALL)
        for of_output in (True, False):
            for kind, cls in (("LoRA", LoConModule), ("LoHa", LohaModule), ("LoKr", LokrModule)):
                rank = {"lora_dim": 1, "alpha": 2} if cls is LokrModule else SMALL
                yield lycoris_case(f"DoRA of {kind}", cls, on, **rank, weight_decompose=True, wd_on_out=of_output)
        for constraint, rescaled in ((0, False), (0, True), (0.01, True), (10.0, False)):
            yield lycoris_case("Diag-OFT", DiagOFTModule, on, constraint=constraint, rescaled=rescaled)
            if on not in ("linear", "point"):
                options = {"constraint": constraint, "rescaled": rescaled}
                yield lycoris_case("BOFT", ButterflyOFTModule, on, lora_dim=4, **options)
        for on_input in (True, False):
            yield lycoris_case("IA3", IA3Module, on, train_on_input=on_input)
        yield lycoris_case("full difference", FullModule, on)
    yield lycoris_case("norm", NormModule, "norm")
    for on in ("linear", "kernel"):
        # With larger blocks LyCORIS trains at alpha / blocks, and yet every loader, its own too, has alpha / rank
        yield lycoris_case("DyLoRA", DyLoraModule, on, lora_dim=4, block_size=1, alpha=3)
    for on in ("kernel", "video"):
        yield lycoris_case("LoRA", LoConModule, on, **SMALL, use_tucker=True)
        yield lycoris_case("LoHa", LohaModule, on, **SMALL, use_tucker=True)
        yield lycoris_case("LoKr", LokrModule, on, lora_dim=1, alpha=2, use_tucker=True)
        yield lycoris_case("DoRA of LoKr", LokrModule, on, lora_dim=1, alpha=2, use_tucker=True, weight_decompose=True)
    for on in ("linear", "square", "kernel"):
        for options in ({"decompose_both": True}, {"full_matrix": True}, {"factor": 2, "rs_lora": True}):
            yield lycoris_case("LoKr", LokrModule, on, lora_dim=1, alpha=3, **options)
        for kind, cls in (("LoHa", LohaModule), ("LoKr", LokrModule)):
            yield lycoris_case(kind, cls, on, lora_dim=1, alpha=3, use_scalar=True)
