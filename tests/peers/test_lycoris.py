"""The forward of modules that LyCORIS trains, against the forward of plain modules with lora_core's delta added.

LyCORIS' forward is the reference, not its own merge, which scales some kinds twice. Tolerance: the outputs are sums
of up to 108 products in fp32, and LyCORIS forms its delta as (W + d) - W, which rounds d to the precision of W.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lora_core.naming.targets import Target
from lora_core.reading.lorafile import LoraFile
from lora_core.stack.apply import Placed, apply_stack
from tests.peers.models import deviation, randomised
from tests.tiny import random_normal

lycoris = pytest.importorskip("lycoris", reason="lycoris-lora is not installed")

FP32 = 3e-6

INPUTS: dict[str, tuple[int, ...]] = {
    "linear": (3, 12),
    "point": (2, 6, 5, 5),
    "kernel": (2, 6, 5, 5),
    "video": (2, 4, 3, 5, 5),
    "layer_norm": (3, 12),
    "group_norm": (2, 6, 5, 5),
}
NORMS = ("layer_norm", "group_norm")


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 20)
        self.point = nn.Conv2d(6, 10, 1)
        self.kernel = nn.Conv2d(6, 11, 3, padding=1, stride=2)
        self.video = nn.Conv3d(4, 7, 3, padding=1)
        self.layer_norm = nn.LayerNorm(12)
        self.group_norm = nn.GroupNorm(3, 6)


VARIANTS: dict[str, dict[str, Any]] = {
    "locon": {"linear_dim": 4, "linear_alpha": 4, "conv_dim": 4, "conv_alpha": 4},
    "alpha": {"linear_dim": 4, "linear_alpha": 1, "conv_dim": 3, "conv_alpha": 5},
    "tucker": {"linear_dim": 4, "linear_alpha": 3, "conv_dim": 3, "conv_alpha": 2, "use_tucker": True},
    "rs_lora": {"linear_dim": 4, "linear_alpha": 3, "conv_dim": 3, "conv_alpha": 2, "rs_lora": True},
    "use_scalar": {"linear_dim": 4, "linear_alpha": 3, "conv_dim": 3, "conv_alpha": 2, "use_scalar": True},
    "all of these": {
        "linear_dim": 4,
        "linear_alpha": 3,
        "conv_dim": 3,
        "conv_alpha": 2,
        "use_tucker": True,
        "rs_lora": True,
        "use_scalar": True,
    },
    "train_norm": {"linear_dim": 4, "linear_alpha": 3, "conv_dim": 3, "conv_alpha": 2, "train_norm": True},
    "full": {"algo": "full"},
    "full and norms": {"algo": "full", "train_norm": True},
}


def trained(base: nn.Module, multiplier: float, **options: Any) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """Return a copy of `base` under a random LyCORIS network, and what that network saves."""
    model = copy.deepcopy(base)
    network = lycoris.create_lycoris(model, multiplier, **options)
    network.apply_to()
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():  # a full difference starts from the weight itself, so it is added to
        fan_in = parameter[0].numel() if parameter.dim() > 1 else 2
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) / fan_in**0.5)
    state = {key: tensor.detach().clone().contiguous() for key, tensor in network.state_dict().items()}
    return model.eval(), state


def patched(base: nn.Module, lora: Path, multiplier: float) -> tuple[nn.Module, set[str]]:
    """Return a copy of `base` with lora_core's deltas in its weights, and the names of these weights."""
    model = copy.deepcopy(base).eval()
    weights = dict(model.named_parameters())
    names = {f"lycoris_{name.rpartition('.')[0]}": name.rpartition(".")[0] for name in weights}
    reached: set[str] = set()
    with LoraFile(lora) as file:
        assert not file.not_adapters and not file.unsupported
        for spec in file.adapters:
            key = f"{names[spec.module]}.{spec.param}"
            placed = Placed(file.adapter(spec), Target(key, tuple(weights[key].shape)), multiplier)
            weights[key].data = apply_stack(weights[key].data, [placed])
            reached.add(key)
    return model, reached


@pytest.mark.case(44)
@pytest.mark.parametrize("multiplier", [1.0, -0.6])
@pytest.mark.parametrize("variant", VARIANTS)
def test_forward(tmp_path: Path, variant: str, multiplier: float) -> None:
    options = VARIANTS[variant]
    base = randomised(Layers()).eval()
    # LyCORIS' full difference knows only the whole change once it is applied
    multiplier = 1.0 if options.get("algo") == "full" else multiplier
    model, state = trained(base, multiplier, **options)
    save_file(state, tmp_path / "lora.safetensors")
    assert any("lora_mid" in key for key in state) == bool(options.get("use_tucker"))
    ours, reached = patched(base, tmp_path / "lora.safetensors", multiplier)
    with_norms = bool(options.get("train_norm"))
    has_bias = options.get("algo") == "full"
    assert reached == {
        f"{name}.{param}"
        for name in INPUTS
        for param in ("weight", "bias")
        if (with_norms if name in NORMS else param == "weight" or has_bias)
    }
    for name, shape in INPUTS.items():
        given = random_normal(name, shape, 0)
        with torch.no_grad():
            theirs, got, plain = (getattr(m, name)(given) for m in (model, ours, base))
        assert deviation(got, theirs) < FP32, name
        assert (deviation(plain, theirs) > 1e-2) == (with_norms or name not in NORMS), name
