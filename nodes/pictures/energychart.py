"""Draws the report of an extraction: how much of each block's change any rank would keep, and how much is kept."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image, ImageDraw

from .drawing import BAR, FAINT, FOOT, INK, LABEL, MARGIN, PAPER, RULE, TRACK, WIDTH, as_image, fitted, typeface

HEAD, VALUE = 92, 150
MAP = MARGIN + LABEL, 616  # from and to, in pixels: energy against rank
KEPT = 644, WIDTH - MARGIN - VALUE + 18  # the bars
NONE, ALL = (233, 237, 241), (47, 111, 159)  # the map's colours for no energy and for all of it
WHOLE = 1.0 - 1e-6  # a layer that keeps this share has no more singular values


@dataclass(frozen=True, slots=True)
class Block:
    """The layers of one block of the model, added up."""

    name: str
    energy: float  # retained share of the squared change, 0 to 1
    ranks: tuple[int, int] | None  # smallest and largest; None if all its layers are stored whole
    layers: int
    curve: Mapping[int, float]  # rank -> the share that it keeps, for the ranks that all layers tell


def energy_picture(report: Any) -> torch.Tensor:
    """Return the chart as an image tensor (1, height, width, 3), a row per block in the order of the model."""
    return as_image(draw(blocks_of(report.to_dict().get("layers") or ())))


def blocks_of(layers: Iterable[Mapping[str, Any]]) -> list[Block]:
    """Return the blocks of `layers`, each layer weighted by its squared norm."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for layer in layers:
        groups.setdefault(str(layer.get("block") or layer["name"]), []).append(layer)
    families = {family: index for index, family in reversed(list(enumerate(map(_family, groups))))}
    names = sorted(groups, key=lambda name: (families[_family(name)], _numbers(name)))
    return [_block(name, groups[name]) for name in names]


def draw(blocks: list[Block]) -> Image.Image:
    row = 26 if len(blocks) <= 40 else 18
    bottom = HEAD + row * max(1, len(blocks))
    image = Image.new("RGB", (WIDTH, bottom + FOOT), PAPER)
    pen = ImageDraw.Draw(image)
    ranks = sorted({rank for block in blocks for rank in block.curve})
    pen.text((MARGIN, 20), "Energy against rank, block by block", INK, typeface(24))
    what = "Share of the squared change that each rank would keep (line: highest rank in the LoRA), and what is kept"
    pen.text((MARGIN, 52), what, FAINT, typeface(15))
    _axis(pen, ranks, bottom)
    for index, block in enumerate(blocks):
        _label(pen, block, HEAD + index * row, row)
        _cells(pen, block, ranks, HEAD + index * row, row)
        _bar(pen, block, HEAD + index * row, row)
    if not blocks:
        pen.text((MAP[0], HEAD + row / 2), "no layer changed", FAINT, typeface(15), anchor="lm")
    return image


def _axis(pen: ImageDraw.ImageDraw, ranks: list[int], bottom: int) -> None:
    for place, rank in enumerate(ranks):
        pen.text((_left(place, ranks) + _width(ranks) / 2, bottom + 8), f"{rank}", FAINT, typeface(13), anchor="ma")
    pen.text((sum(MAP) / 2, bottom + 28), "rank", FAINT, typeface(13), anchor="ma")
    for percent in (0, 50, 100):
        x = KEPT[0] + (KEPT[1] - KEPT[0]) * percent / 100
        pen.line((x, HEAD - 6, x, bottom + 4), RULE)
        pen.text((x, bottom + 8), f"{percent} %", FAINT, typeface(13), anchor="ma")
    pen.text((sum(KEPT) / 2, bottom + 28), "retained energy", FAINT, typeface(13), anchor="ma")
    pen.text((KEPT[1] + 62, HEAD - 8), "kept", FAINT, typeface(13), anchor="rd")
    pen.text((WIDTH - MARGIN, HEAD - 8), "rank", FAINT, typeface(13), anchor="rd")


def _label(pen: ImageDraw.ImageDraw, block: Block, top: float, row: int) -> None:
    font = typeface(14 if row > 20 else 12)
    pen.text((MAP[0] - 12, top + row / 2), fitted(block.name, LABEL - 14, font), INK, font, anchor="rm")


def _cells(pen: ImageDraw.ImageDraw, block: Block, ranks: list[int], top: float, row: int) -> None:
    """Draw a cell for each rank, darker the more it keeps; a line stands where the LoRA's own ranks end."""
    width = _width(ranks)
    for place, rank in enumerate(ranks):
        share, left = block.curve.get(rank), _left(place, ranks)
        if share is None:
            continue
        pen.rectangle((left, top + 1, left + width - 2, top + row - 1), _shade(share))
        if row > 20 and width >= 26:
            colour = PAPER if share > 0.55 else INK
            pen.text((left + width / 2 - 1, top + row / 2), f"{100 * share:.0f}", colour, typeface(11), anchor="mm")
    reached = sum(1 for rank in ranks if block.ranks and rank <= block.ranks[1])
    if 0 < reached <= len(ranks):
        x = _left(reached, ranks) - 1
        pen.line((x, top, x, top + row), INK, 2)


def _bar(pen: ImageDraw.ImageDraw, block: Block, top: float, row: int) -> None:
    (left, right), middle, half = KEPT, top + row / 2, row * 0.32
    share, font = min(max(block.energy, 0.0), 1.0), typeface(14 if row > 20 else 12)
    pen.rounded_rectangle((left, middle - half, right, middle + half), 3, TRACK)
    if share > 0:
        end = left + max(2 * half, (right - left) * share) if share > 0.02 else left + 2
        pen.rounded_rectangle((left, middle - half, min(right, end), middle + half), 3 if share > 0.02 else 0, BAR)
    low, high = block.ranks or ("whole", "whole")
    pen.text((right + 62, middle), f"{share:.1%}", INK, font, anchor="rm")
    pen.text((WIDTH - MARGIN, middle), f"{low}" if low == high else f"{low}-{high}", FAINT, font, anchor="rm")


def _width(ranks: list[int]) -> float:
    return min(60.0, (MAP[1] - MAP[0]) / max(1, len(ranks)))


def _left(place: int, ranks: list[int]) -> float:
    return MAP[0] + place * _width(ranks)


def _shade(share: float) -> tuple[int, ...]:
    return tuple(round(low + (high - low) * min(max(share, 0.0), 1.0)) for low, high in zip(NONE, ALL, strict=True))


def _block(name: str, layers: list[Mapping[str, Any]]) -> Block:
    weights = [float(layer["norm"]) ** 2 for layer in layers]
    kept = _mean(weights, [float(layer["energy"]) for layer in layers])
    ranks = [int(layer["rank"]) for layer in layers if layer["rank"] is not None]
    return Block(name, kept, (min(ranks), max(ranks)) if ranks else None, len(layers), _curve(weights, layers))


def _curve(weights: list[float], layers: list[Mapping[str, Any]]) -> dict[int, float]:
    """Return {rank: share}, without the ranks that a layer does not tell of; what is stored whole is kept at any."""
    curves = [dict(map(tuple, layer.get("curve") or ())) for layer in layers]
    ranks = sorted({rank for curve in curves for rank in curve if rank & (rank - 1) == 0})
    found: dict[int, float] = {}
    for rank in ranks:
        shares = [_share(curve, rank) for curve in curves]
        if None not in shares:
            found[rank] = _mean(weights, [share for share in shares if share is not None])
    return found


def _share(curve: Mapping[int, float], rank: int) -> float | None:
    if not curve or (rank > max(curve) and curve[max(curve)] >= WHOLE):
        return 1.0
    return curve.get(rank)


def _mean(weights: list[float], shares: list[float]) -> float:
    total = sum(weights)
    return sum(weight * share for weight, share in zip(weights, shares, strict=True)) / total if total else 1.0


def _family(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", name)]
