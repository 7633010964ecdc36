"""Parts of one module: an adapter that fits a weight changes it into one of the same shape, or is a LoraError."""

from __future__ import annotations

import itertools

import torch

from lora_core.adapters import check_numbers, tensors_of
from lora_core.adapters.suffixes import PARTS
from lora_core.errors import LoraError
from lora_core.naming.targets import Target
from lora_core.reading.lorafile import LoraFile
from lora_core.stack.apply import Placed, apply_stack
from tests.fuzz.choices import Choices

_KINDS = sorted({part.kind for part in PARTS if part.kind and not part.beside})
_MODULES = ("lora_unet_x", "base_model.model.x", "oft_unet_x", "lora_transformer_x", "img_in", "x_lora1")
_ALPHAS = (1.0, 0.0, -2.0, 0.5, 1e30, float("nan"), float("inf"))


def check(data: bytes) -> None:
    choices = Choices(data)
    weight = _weight(choices)
    tensors = _tensors(choices, tuple(weight.shape))
    semantics = choices.one_of(("paper", "comfyui"))
    try:
        lora = LoraFile(tensors, semantics)
    except LoraError:
        return
    for spec in lora.adapters:
        if spec.param != "weight":
            continue
        try:
            if not spec.fits(tuple(weight.shape)):
                continue
            placed = Placed(lora.adapter(spec), Target("x", tuple(weight.shape)), 0.5, "x")
            check_numbers(tensors_of(placed.adapter), placed.name)
            before = weight.clone()
            changed = apply_stack(weight, [placed], semantics)
        except LoraError:
            continue
        assert torch.equal(before, weight)
        assert tuple(changed.shape) == (spec.new_shape or tuple(weight.shape))


def _weight(choices: Choices) -> torch.Tensor:
    sizes = (4, 6, 1, 8, 2, 3)
    shape = [choices.one_of(sizes), choices.one_of(sizes)]
    shape += [choices.one_of((1, 3)) for _ in range(choices.number(4))]
    return torch.ones(shape[: 1 + choices.number(5)] if choices.yes(4) else shape)


def _tensors(choices: Choices, weight: tuple[int, ...]) -> dict[str, torch.Tensor]:
    module = choices.one_of(_MODULES)
    kinds = [choices.one_of(_KINDS)] + ([choices.one_of(_KINDS)] if choices.yes(8) else [])
    sizes = (*weight, 1, 2, 3, choices.number(9))
    tensors: dict[str, torch.Tensor] = {}
    for part in PARTS:
        if part.kind not in (*kinds, "") or choices.yes(6):
            continue
        if part.kind == "" and not choices.yes(4):
            continue
        if part.field == "alpha":
            tensors[module + part.suffix] = torch.tensor(choices.one_of(_ALPHAS))
            continue
        shape = [choices.one_of(sizes) for _ in range(choices.one_of((2, 2, 2, 1, 3, 4, 0)))]
        tensors[module + part.suffix] = torch.full(shape, 0.5)
        if part.field == "shape":
            tensors[module + part.suffix] = torch.tensor([choices.number(16) for _ in range(choices.number(5))])
    return dict(itertools.islice(tensors.items(), 12))


def seeds() -> dict[str, bytes]:
    return {f"kind-{number}": bytes([0, 0, 0, 0, number % 6, number, 0, 2, *([0, 1, 1, 2, 0, 3] * 12)])
            for number in range(len(_KINDS))}  # fmt: skip
