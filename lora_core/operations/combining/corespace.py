"""Rules in the space that the LoRAs of a layer span: K×K matrices instead of the layer's own, K the sum of ranks.

Experimental. Core Space (Panariello et al., arXiv:2509.17786): with orthonormal bases U of [B1 | B2 | …] and V of
[A1; A2; …], M_i = U.T dW_i V; a rule merges the M_i, and dW = U M V.T has at most rank K. A linear rule gives the
exact sum. An elementwise rule sees other numbers than the changes' own entries, so it is another method than on them.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...algebra.svd import Svd
from ...lazytorch import torch
from .changes import FactoredChange
from .elementwise import Rule

NEGLIGIBLE = 1e-9  # of the largest singular value


def merged_in_core(changes: Sequence[FactoredChange], rule: Rule, name: str) -> Svd:
    """Return what `rule` makes of the changes of the layer `name`, several of one LoRA added up first."""
    columns = _basis(torch.cat([change.up.double() for change in changes], dim=1))  # (out, K)
    rows = _basis(torch.cat([change.down.double() for change in changes]).t())  # (in·kernel, K)
    cores: dict[int, torch.Tensor] = {}
    strengths: dict[int, float] = {}
    for change in changes:
        core = (columns.t() @ change.up.double()) @ (change.down.double() @ rows) * change.scale
        cores[change.member] = cores[change.member] + core if change.member in cores else core
        strengths[change.member] = change.strength
    merged = rule.merged(list(cores.values()), list(strengths.values()), name, list(cores))
    return _svd(columns, merged, rows)


def task_singular_vectors(changes: Sequence[FactoredChange]) -> Svd:
    """Return TSV-Merge of the changes (Gargiulo et al., arXiv:2412.00081) in factored form.

    Each LoRA gives its first floor(min(out, in) / number) singular triplets; the stacked left and right vectors become
    orthonormal by their polar factors U and V, and dW = U diag(strength · S) V.T.
    """
    found = [_own_svd([change for change in changes if change.member == member]) for member in _members(changes)]
    most = max(1, min(len(found[0][0]), len(found[0][2])) // len(found))
    left = torch.cat([columns[:, :most] for columns, _, _ in found], dim=1)
    values = torch.cat([values[:most] for _, values, _ in found])
    right = torch.cat([rows[:, :most] for _, _, rows in found], dim=1)
    (columns, turned), (rows, turned_rows) = _polar(left), _polar(right)
    return _svd(columns, turned * values @ turned_rows.t(), rows)


def _members(changes: Sequence[FactoredChange]) -> list[int]:
    return list(dict.fromkeys(change.member for change in changes))


def _own_svd(changes: Sequence[FactoredChange]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (left, strength · sigma, right) of one LoRA's change in fp64, vectors as columns."""
    columns, core_up = torch.linalg.qr(torch.cat([change.up.double() * change.weight for change in changes], dim=1))
    rows, core_down = torch.linalg.qr(torch.cat([change.down.double() for change in changes]).t())
    left, values, right = torch.linalg.svd(core_up @ core_down.t(), full_matrices=False)
    kept = _number_of(values)
    return columns @ left[:, :kept], values[:kept], rows @ right[:kept].t()


def _basis(stacked: torch.Tensor) -> torch.Tensor:
    """Return the left singular vectors of a tall matrix (m, K) in fp64, without those of zeros."""
    columns, core = torch.linalg.qr(stacked)
    left, values, _ = torch.linalg.svd(core, full_matrices=False)
    return columns @ left[:, : _number_of(values)]


def _polar(stacked: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (Q, P) with Q·P the polar factor of a matrix (m, K): P Q.T of its SVD, directions of zeros left out."""
    columns, core = torch.linalg.qr(stacked)
    left, values, right = torch.linalg.svd(core, full_matrices=False)
    kept = _number_of(values)
    return columns, left[:, :kept] @ right[:kept]


def _svd(columns: torch.Tensor, core: torch.Tensor, rows: torch.Tensor) -> Svd:
    """Return the singular values of columns · core · rows.T, whose outer matrices are orthonormal."""
    left, values, right = torch.linalg.svd(core, full_matrices=False)
    kept = _number_of(values)
    total = float(values.square().sum())
    return Svd((columns @ left[:, :kept]).float(), values[:kept], (right[:kept] @ rows.t()).float(), total)


def _number_of(values: torch.Tensor) -> int:
    return int((values > values[:1] * NEGLIGIBLE).sum()) if len(values) and float(values[0]) else 0
