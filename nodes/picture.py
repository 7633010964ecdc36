"""Draws the report of an extraction: how much of each block's change the LoRA keeps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

WIDTH, MARGIN, LABEL, VALUE = 960, 28, 230, 150
HEAD, FOOT = 92, 58
PAPER, INK, FAINT, RULE, BAR, TRACK = "#fbfbfa", "#22262b", "#6d747d", "#d9dce0", "#2f6f9f", "#e9edf1"


@dataclass(frozen=True, slots=True)
class Block:
    """The layers of one block of the model, added up."""

    name: str
    energy: float  # retained share of the squared change, 0 to 1
    ranks: tuple[int, int] | None  # smallest and largest; None if all its layers are stored whole
    layers: int


def energy_picture(report: Any) -> torch.Tensor:
    """Return the chart as an image tensor (1, height, width, 3), a bar per block in the order of the model."""
    blocks = blocks_of(report.to_dict().get("layers") or ())
    pixels = np.asarray(draw(blocks), dtype=np.float32) / 255.0
    return torch.from_numpy(pixels)[None]


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
    height = HEAD + row * max(1, len(blocks)) + FOOT
    image = Image.new("RGB", (WIDTH, height), PAPER)
    pen = ImageDraw.Draw(image)
    left, right, bottom = MARGIN + LABEL, WIDTH - MARGIN - VALUE, height - FOOT
    pen.text((MARGIN, 24), "Retained energy per block", INK, _font(24))
    pen.text((MARGIN, 56), "Share of the squared weight change that the extracted LoRA keeps", FAINT, _font(15))
    _axis(pen, left, right, bottom)
    for index, block in enumerate(blocks):
        _bar(pen, block, HEAD + index * row, row, (left, right))
    if not blocks:
        pen.text((left, HEAD + row / 2), "no layer changed", FAINT, _font(15), anchor="lm")
    return image


def _axis(pen: ImageDraw.ImageDraw, left: int, right: int, bottom: int) -> None:
    for percent in range(0, 101, 25):
        x = left + (right - left) * percent / 100
        pen.line((x, HEAD - 6, x, bottom + 4), RULE)
        pen.text((x, bottom + 8), f"{percent} %", FAINT, _font(13), anchor="ma")
    pen.text(((left + right) / 2, bottom + 28), "retained energy", FAINT, _font(13), anchor="ma")
    pen.text((right + 64, HEAD - 8), "kept", FAINT, _font(13), anchor="rd")
    pen.text((WIDTH - MARGIN, HEAD - 8), "rank", FAINT, _font(13), anchor="rd")


def _bar(pen: ImageDraw.ImageDraw, block: Block, top: float, row: int, span: tuple[int, int]) -> None:
    left, right = span
    middle, half, size = top + row / 2, row * 0.32, 14 if row > 20 else 12
    share = min(max(block.energy, 0.0), 1.0)
    pen.text((left - 12, middle), _fitted(block.name, LABEL - 14, _font(size)), INK, _font(size), anchor="rm")
    pen.rounded_rectangle((left, middle - half, right, middle + half), 3, TRACK)
    if share > 0:
        pen.rounded_rectangle((left, middle - half, left + (right - left) * share, middle + half), 3, BAR)
    low, high = block.ranks or ("whole", "whole")
    rank = f"{low}" if low == high else f"{low}-{high}"
    pen.text((right + 64, middle), f"{share:.1%}", INK, _font(size), anchor="rm")
    pen.text((WIDTH - MARGIN, middle), rank, FAINT, _font(size), anchor="rm")


def _block(name: str, layers: list[Mapping[str, Any]]) -> Block:
    weights = [float(layer["norm"]) ** 2 for layer in layers]
    total = sum(weights)
    kept = sum(weight * float(layer["energy"]) for weight, layer in zip(weights, layers, strict=True))
    ranks = [int(layer["rank"]) for layer in layers if layer["rank"] is not None]
    return Block(name, kept / total if total else 1.0, (min(ranks), max(ranks)) if ranks else None, len(layers))


def _family(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", name)]


def _fitted(text: str, width: int, font: Any) -> str:
    """Return `text`, its start left out where it is wider than `width`; the end tells blocks apart."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength("…" + text) > width:
        text = text[1:]
    return "…" + text


def _font(size: int) -> Any:
    return ImageFont.load_default(size)
