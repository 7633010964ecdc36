"""Draws an inspection: how much each block changes, of which effective rank, and how its singular values fall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image, ImageDraw

from .drawing import (
    BAR,
    FAINT,
    FOOT,
    INK,
    MARGIN,
    PAPER,
    RULE,
    TRACK,
    WIDTH,
    as_image,
    fitted,
    label_of,
    note_picture,
    typeface,
)

COLOURS = (BAR, "#c8763a", "#4f8f57", "#8a5ca8", "#b54a56", "#4b9aa0", "#8c7a3d", "#6d747d")  # one for each LoRA
HEAD, LINE = 84, 20
SIZES, RANKS, SPECTRA = (258, 490), (585, 715), (805, WIDTH - MARGIN)  # from and to, in pixels
VALUE = 64  # beside a bar
BANDS = 9  # a bar's height where several LoRAs share a row

Entry = Mapping[str, Any]


def sizes_picture(report: Any) -> torch.Tensor:
    """Return the chart of an inspection as an image tensor (1, height, width, 3), a row per block."""
    data = report.to_dict()
    return as_image(draw_sizes(data["blocks"], [lora["name"] for lora in data["loras"]]))


def draw_sizes(blocks: Sequence[Entry], names: Sequence[str]) -> Image.Image:
    """Return the chart; of more LoRAs than there are colours the first are drawn."""
    names = names[: len(COLOURS)]
    if not any(one for block in blocks for one in block["loras"][: len(names)]):
        return note_picture("Size of each block's change", "No layer could be measured; the report says why.")
    row = (26 if len(blocks) <= 40 else 20) if len(names) == 1 else BANDS * len(names) + 8
    head = HEAD + LINE * (len(names) if len(names) > 1 else 0)
    image = Image.new("RGB", (WIDTH, head + 26 + row * len(blocks) + FOOT), PAPER)
    pen = ImageDraw.Draw(image)
    field, highest = _largest(blocks, names), _highest(blocks, names)
    longest = max(len(one["spectrum"]) for block in blocks for one in block["loras"][: len(names)] if one)
    _head(pen, names, is_relative=field[0] == "relative_size")
    top, bottom = head + 26, head + 26 + row * len(blocks)
    _axes(pen, field[1], highest, top, bottom, is_relative=field[0] == "relative_size")
    pen.text((sum(SPECTRA) / 2, top - 10), f"first {longest} singular values", FAINT, typeface(13), anchor="md")
    for place, block in enumerate(blocks):
        middle = top + row * (place + 0.5)
        pen.text((SIZES[0] - 12, middle), label_of(block["block"]), INK, typeface(14), anchor="rm")
        for number, one in enumerate(block["loras"][: len(names)]):
            if one:
                _row(pen, one, field, highest, (top + row * place, row), (number, len(names)))
                colour, span = COLOURS[number], (top + row * place + 3, top + row * (place + 1) - 3)
                _spectrum(pen, one["spectrum"], longest, span, colour, filled=len(names) == 1)
    return image


def _head(pen: ImageDraw.ImageDraw, names: Sequence[str], *, is_relative: bool) -> None:
    pen.text((MARGIN, 22), "Size of each block's change", INK, typeface(24))
    what = "its share of the weights' size" if is_relative else "its norm (with a model: its share of the weights)"
    pen.text(
        (MARGIN, 54), f"Left to right: {what}; effective rank; singular values, largest first", FAINT, typeface(15)
    )
    for number, name in enumerate(names if len(names) > 1 else ()):
        y = HEAD + LINE * number
        pen.rectangle((MARGIN, y + 2, MARGIN + 12, y + 14), COLOURS[number])
        pen.text((MARGIN + 20, y + 8), fitted(name, WIDTH - 3 * MARGIN, typeface(14)), INK, typeface(14), anchor="lm")


def _axes(
    pen: ImageDraw.ImageDraw, largest: float, highest: float, top: int, bottom: int, *, is_relative: bool
) -> None:
    for (left, right), limit, title in (
        (SIZES, largest, "change / weight" if is_relative else "norm of the change"),
        (RANKS, highest, "effective rank"),
    ):
        for part in (0.0, 0.5, 1.0):
            x = left + (right - left) * part
            pen.line((x, top - 6, x, bottom + 4), RULE)
            value = f"{limit * part:.2%}" if is_relative and title[0] == "c" else f"{limit * part:.3g}"
            pen.text((x, bottom + 8), value, FAINT, typeface(12), anchor="ma")
        pen.text(((left + right) / 2, top - 10), title, FAINT, typeface(13), anchor="md")


def _row(
    pen: ImageDraw.ImageDraw,
    one: Entry,
    field: tuple[str, float],
    highest: float,
    span: tuple[float, int],
    which: tuple[int, int],
) -> None:
    """Draw one LoRA's two bars in the row of a block."""
    (top, row), (number, count) = span, which
    band = row * 0.64 if count == 1 else BANDS - 1
    upper = top + (row - band) / 2 if count == 1 else top + 4 + BANDS * number
    colour, size = COLOURS[number], one[field[0]] or 0.0
    effective = one["effective_rank"]
    for (left, right), value, limit in ((SIZES, size, field[1]), (RANKS, effective or 0.0, highest)):
        pen.rectangle((left, upper, right, upper + band), TRACK)
        if value > 0:
            pen.rectangle((left, upper, left + max(1, (right - left) * min(1.0, value / limit)), upper + band), colour)
    if count == 1:
        text = f"{size:.2%}" if field[0] == "relative_size" else f"{size:.3g}"
        pen.text((SIZES[1] + VALUE, upper + band / 2), text, INK, typeface(13), anchor="rm")
        rank = "-" if effective is None else f"{effective:.1f}" + (f" of {one['rank']}" if one["rank"] else "")
        pen.text((RANKS[1] + VALUE, upper + band / 2), rank, FAINT, typeface(13), anchor="rm")


def _spectrum(
    pen: ImageDraw.ImageDraw,
    values: Sequence[float],
    longest: int,
    span: tuple[float, float],
    colour: str,
    *,
    filled: bool,
) -> None:
    """Draw relative singular values as a falling line, steep where few directions carry the change."""
    if not values:
        return
    (left, right), (top, bottom) = SPECTRA, span
    ends = [*values, 0.0] if len(values) < longest else values
    step = (right - left) / max(1, longest - 1)
    points = [(left + step * place, bottom - (bottom - top) * value) for place, value in enumerate(ends)]
    if filled:
        pen.polygon([(left, bottom), *points, (points[-1][0], bottom)], TRACK)
    pen.line((left, bottom, right, bottom), RULE)
    pen.line(points, colour, 2 if filled else 1)


def _largest(blocks: Sequence[Entry], names: Sequence[str]) -> tuple[str, float]:
    """Return which of a block's sizes is drawn, and the largest: relative to the weights if that is known."""
    drawn = [one for block in blocks for one in block["loras"][: len(names)] if one]
    field = "relative_size" if any(one["relative_size"] for one in drawn) else "norm"
    return field, max((one[field] or 0.0 for one in drawn), default=0.0) or 1.0


def _highest(blocks: Sequence[Entry], names: Sequence[str]) -> float:
    drawn = [one["effective_rank"] for block in blocks for one in block["loras"][: len(names)] if one]
    return max((value for value in drawn if value), default=0.0) or 1.0
