"""What other programs do with low ranks, as the operations that they perform: none of their code is here.

kohya's scripts (sd-scripts 48d368fa, networks/resize_lora.py and svd_merge_lora.py) form the dense change and take
`torch.linalg.svd` of it with its default, full_matrices=True. KJNodes' extraction (3f20054) takes `torch.svd_lowrank`
with q=rank and niter=7. PEFT is called itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

CLAMP_QUANTILE = 0.99

Factors = tuple[torch.Tensor, torch.Tensor]  # up (m, r), down (r, n)


def kohya_resize(up: torch.Tensor, down: torch.Tensor, rank: int) -> Factors:
    return full_svd(up @ down, rank)


def kohya_combine(pairs: Sequence[Factors], weights: Sequence[float], rank: int) -> Factors:
    """Return the sum of the dense changes at `rank`, its factors clamped at their quantile."""
    total = sum(weight * (up @ down) for weight, (up, down) in zip(weights, pairs, strict=True))
    assert isinstance(total, torch.Tensor)
    up, down = full_svd(total, rank)
    highest = torch.quantile(torch.cat([up.flatten(), down.flatten()]), CLAMP_QUANTILE)
    return up.clamp(-highest, highest), down.clamp(-highest, highest)


def full_svd(matrix: torch.Tensor, rank: int) -> Factors:
    left, values, right = torch.linalg.svd(matrix)
    return left[:, :rank] * values[:rank], right[:rank]


def kj_extract(matrix: torch.Tensor, rank: int) -> Factors:
    left, values, right = torch.svd_lowrank(matrix, q=rank, niter=7)
    return left * values, right.t()


class PeftLayer:
    """One linear layer under PEFT, with an adapter for each pair of factors."""

    def __init__(self, pairs: Sequence[Factors]) -> None:
        import peft  # noqa: PLC0415  (it may not be there)

        self.names = [f"adapter{index}" for index in range(len(pairs))]
        (rows, rank), columns = pairs[0][0].shape, pairs[0][1].shape[1]
        config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=["0"])
        layer = torch.nn.Sequential(torch.nn.Linear(columns, rows, bias=False))
        self.model = peft.get_peft_model(layer, config, adapter_name=self.names[0])
        for name in self.names[1:]:
            self.model.add_adapter(name, config)
        wrapped = self.model.base_model.model[0]
        for name, (up, down) in zip(self.names, pairs, strict=True):
            wrapped.lora_A[name].weight.data.copy_(down)
            wrapped.lora_B[name].weight.data.copy_(up)

    def combine(self, weights: Sequence[float], rank: int) -> None:
        self.model.add_weighted_adapter(self.names, list(weights), "all", combination_type="svd", svd_rank=rank)
        self.model.delete_adapter("all")  # or the next call would find that it is there, and do nothing
