"""Every adapter kind as the program that defined it computes with it, at every strength."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from tests.peers import kinds
from tests.peers.kind_cases import cases

# Of the change. The peers sum the same products in fp32 in another order, and LyCORIS forms W' − W before it multiplies
FP32 = 3e-6
CASES = {case.name: case for case in cases()}

logging.getLogger("LyCORIS").setLevel(logging.ERROR)  # it tells every layer that it makes


@pytest.mark.case(44)
@pytest.mark.parametrize("name", CASES)
def test_the_peers_weight(tmp_path: Path, name: str) -> None:
    made = CASES[name].make(1)
    found = kinds.ours(made, tmp_path)
    assert kinds.error(found, made) < FP32
    changed = [key for key in made.before if not torch.equal(made.before[key], made.after[key])]
    assert ("bias" if name.startswith("BEFT") else "weight") in changed
    for key in made.before:
        assert torch.equal(found[key], made.before[key]) == (key not in changed), key


@pytest.mark.parametrize("name", CASES)
def test_a_strength_scales_the_peers_change(tmp_path: Path, name: str) -> None:
    made = CASES[name].make(2)
    for strength in (0.0, 0.5, -1.0, 2.0):
        wanted = {key: value + strength * (made.after[key] - value) for key, value in made.before.items()}
        found = kinds.ours(made, tmp_path, strength)
        if strength == 0:
            assert all(torch.equal(found[key], made.before[key]) for key in made.before)
        else:
            scaled = kinds.Made(made.tensors, made.before, wanted, made.config)
            assert kinds.error(found, scaled) < FP32, strength


@pytest.mark.parametrize("kind", sorted({(case.kind, case.oracle) for case in CASES.values()}), ids=" / ".join)
def test_the_bound_notices_what_is_wrong(tmp_path: Path, kind: tuple[str, str]) -> None:
    """A fiftieth of a percent of every second number of one factor is far outside the bound."""
    case = next(case for case in CASES.values() if (case.kind, case.oracle) == kind)
    made = case.make(1)
    key = next(key for key, value in made.tensors.items() if value.is_floating_point() and value.numel() > 1)
    factor = made.tensors[key].clone()
    factor.flatten()[::2] *= 1.0002
    wrong = kinds.Made({**made.tensors, key: factor}, made.before, made.after, made.config)
    assert kinds.error(kinds.ours(wrong, tmp_path), made) > FP32
