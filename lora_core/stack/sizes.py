"""How large a LoRA's change is beside the weights that it changes, told cheaply: from factors, and from a sample.

For reports alone. The change is exact, from the adapter's own tensors. Of a large weight 64 runs of 64 numbers are
read, spread evenly: of numbers that are alike |W| is then good to 5 %, where the rows' norms differ by a factor of two
to 10 %, and of a model with hundreds of such weights to 1 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..lazytorch import torch
from ..naming.blocks import in_order
from ..naming.keymap import KeyMap
from ..naming.targets import Target
from ..report import LoraReport
from ..text import counted, some_names

RUNS = RUN = 64
_GOLDEN = 0.6180339887498949  # places of the runs in their stretches: no two are alike, whatever the width of the rows

Place = tuple[str, int | None, int]  # key, first row and rows of what an adapter changes


@dataclass(frozen=True, slots=True)
class Size:
    """One adapter on one target."""

    block: str
    place: Place
    change: float | None  # |dW|² at strength 1, None for kinds that do not tell it cheaply
    weight: float | None  # |W|², about; None where the weight is stored as codes

    @classmethod
    def on(cls, target: Target, keymap: KeyMap, change: float | None, weight: float | None) -> Size:
        return cls(keymap.block(target.key), (target.key, target.start, target.shape[0]), change, weight)


def weight_square(weight: torch.Tensor, target: Target) -> torch.Tensor | None:
    """Return about |W|² of the target's part of a weight as one fp32 number on the weight's device.

    None where the weight's numbers are not there to read: codes, or a tensor that some other class stands for.
    """
    is_plain = type(weight) in (torch.Tensor, torch.nn.Parameter) and weight.is_floating_point()
    if not is_plain or weight.device.type == "meta" or not weight.is_contiguous():
        return None
    part = weight.detach() if target.start is None else target.take(weight.detach())  # in any order
    flat = part.view(-1)
    if flat.numel() <= 4 * RUNS * RUN:
        return flat.float().square().sum()
    index = _sample(flat.numel()).to(flat.device)
    codes = flat.view(torch.uint8) if flat.element_size() == 1 else flat  # fp8 has no indexing of its own
    return codes[index].view(flat.dtype).float().square().sum() * (flat.numel() / index.numel())


def counted_blocks(report: LoraReport, places: Iterable[tuple[str, Target]], keymap: KeyMap) -> list[dict[str, Any]]:
    """Return for each block how many modules of the file it has, and how many fit; last those without a place.

    `places` are the modules that fit, with their targets.
    """
    fitting: dict[str, set[str]] = {}
    for module, target in places:
        fitting.setdefault(keymap.block(target.key), set()).add(module)
    whole = {block: set(modules) for block, modules in fitting.items()}
    for item in report.mismatched:
        targets = keymap.find(item["name"]) or keymap.find_more(item["name"])
        whole.setdefault(keymap.block(targets[0].key) if targets else "", set()).add(item["name"])
    without = {*report.unmatched, *report.elsewhere, *(name for names in report.unsupported.values() for name in names)}
    whole.setdefault("", set()).update(without)
    names = [name for name in in_order(whole) if name] + ([""] if whole[""] else [])
    return [
        {
            "block": name,
            "matched": len(fitting.get(name, ())),
            "total": len(whole[name]),
            "norm": None,
            "relative_size": None,
        }
        for name in names
    ]


def told_not_finite(sizes: Iterable[Size]) -> list[str]:
    """Return the warning that names the weights of NaN or infinity, or those whose change is, if there are some."""
    keys = list(dict.fromkeys(size.place[0] for size in sizes if not _is_finite(size)))
    return [f"{counted(keys, 'weight')} of NaN or infinity, not measured: {some_names(keys)}."] if keys else []


def _is_finite(size: Size) -> bool:
    return all(value is None or math.isfinite(value) for value in (size.change, size.weight))


def sized(blocks: Iterable[Mapping[str, Any]], sizes: Sequence[Size]) -> tuple[list[dict[str, Any]], float | None]:
    """Return the blocks with their norms and relative sizes, and the relative size of the whole file.

    Weights with NaN or infinity are not among what is measured; `told_not_finite` names them.
    """
    sizes = [size for size in sizes if _is_finite(size)]
    by_block: dict[str, list[Size]] = {}
    for size in sizes:
        by_block.setdefault(size.block, []).append(size)
    filled: list[dict[str, Any]] = []
    for block in blocks:
        here = by_block.get(block["block"], [])
        known = [size.change for size in here if size.change is not None]
        norm = sum(known) ** 0.5 if known else None
        filled.append({**block, "norm": norm, "relative_size": _relative(here)})
    return filled, _relative(sizes)


def _relative(sizes: Iterable[Size]) -> float | None:
    """Return |delta| / |W| over what is known of both; a weight that two adapters of a file change counts once."""
    known = [size for size in sizes if size.change is not None and size.weight is not None]
    weight = sum({size.place: size.weight for size in known if size.weight is not None}.values())
    return (sum(size.change for size in known if size.change is not None) / weight) ** 0.5 if weight else None


@lru_cache(maxsize=256)
def _sample(count: int) -> torch.Tensor:
    """Return the places of RUNS runs of RUN numbers in `count`, one in each stretch of equal length."""
    stretch = count // RUNS
    starts = [number * stretch + int((number * _GOLDEN) % 1 * (stretch - RUN)) for number in range(RUNS)]
    return (torch.tensor(starts)[:, None] + torch.arange(RUN)).view(-1)
