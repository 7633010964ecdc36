"""Draws the conflict map of a stack: how its LoRAs agree, block by block."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image, ImageDraw

from .drawing import (
    FAINT,
    FOOT,
    INK,
    LABEL,
    MARGIN,
    PAPER,
    RULE,
    WIDTH,
    as_image,
    fitted,
    label_of,
    note_picture,
    typeface,
)
from .sizechart import LINE

ALL = "all blocks"
TITLE = "Where the LoRAs agree"
STACK = "stack: squared size of the sum over that of its parts. 1: they don't meet; above: reinforce; below: cancel"
SPACES = "outputs, inputs: how far two LoRAs write to, and read from, the same directions; 0 is chance, near 1 the same"
CANCEL, REINFORCE, SHARED = (181, 74, 86), (47, 111, 159), (79, 143, 87)
EMPTY = "#f1f2f3"
MOST_PAIRS = 10
TOP, ROW, CELL = 106, 24, 62
DETAILS = ("cosine", "column_overlap", "row_overlap")
DETAIL_TITLES = {"cosine": "cosine", "column_overlap": "outputs", "row_overlap": "inputs", "interference": "stack"}

Entry = Mapping[str, Any]
Column = tuple[str, str, Mapping[str, float | None]]  # title above, kind of value, value of each row


def conflict_picture(report: Any) -> torch.Tensor:
    """Return the map as an image tensor (1, height, width, 3); with one LoRA a note that it takes two."""
    data = report.to_dict()
    if not data["pairs"]:
        return as_image(note_picture(TITLE, "The map compares LoRAs: give two or more, as a stack."))
    return as_image(draw_conflicts(data))


def draw_conflicts(data: Entry) -> Image.Image:
    columns = _columns(data)
    rows = [ALL, *(block["block"] for block in data["blocks"] if block["interference"] is not None)]
    left = MARGIN + LABEL
    head = TOP + LINE * (1 + len(data["loras"])) + 44
    width = max(WIDTH, left + CELL * len(columns) + MARGIN)
    image = Image.new("RGB", (width, head + ROW * len(rows) + FOOT + 16), PAPER)
    pen = ImageDraw.Draw(image)
    _head(pen, data, width)
    for place, (title, kind, _) in enumerate(columns):
        x = left + CELL * (place + 0.5)
        pen.text((x, head - 24), title, INK, typeface(13), anchor="md")
        pen.text((x, head - 8), DETAIL_TITLES[kind], FAINT, typeface(12), anchor="md")
    for number, row in enumerate(rows):
        top = head + ROW * number + (6 if number else 0)
        pen.text((left - 12, top + ROW / 2), label_of(row), INK, typeface(14), anchor="rm")
        for place, (_, kind, values) in enumerate(columns):
            _cell(pen, values.get(row), kind, (left + CELL * place, top))
    _scale(pen, left, head + ROW * len(rows) + 24)
    return image


def _columns(data: Entry) -> list[Column]:
    """Return the stack's column, and one for each pair, or three where there is room: the closest pairs."""
    pairs = sorted(data["pairs"], key=lambda pair: -abs(pair["cosine"] or 0.0))[:MOST_PAIRS]
    kinds = DETAILS if len(pairs) <= 3 else DETAILS[:1]
    stack = {block["block"]: block["interference"] for block in data["blocks"]}
    columns: list[Column] = [("", "interference", {ALL: data["interference"], **stack})]
    for pair in sorted(pairs, key=lambda pair: pair["numbers"]):
        one, other = pair["numbers"]
        for kind in kinds:
            values = {ALL: pair[kind], **{block["block"]: block[kind] for block in pair["blocks"]}}
            columns.append((f"{one + 1} + {other + 1}", kind, values))
    return columns


def _head(pen: ImageDraw.ImageDraw, data: Entry, width: int) -> None:
    pen.text((MARGIN, 22), TITLE, INK, typeface(24))
    pen.text((MARGIN, 54), STACK, FAINT, typeface(15))
    pen.text((MARGIN, 74), SPACES, FAINT, typeface(15))
    for number, lora in enumerate(data["loras"]):
        strengths = dict.fromkeys(f"{lora[name]:g}" for name in ("strength_model", "strength_clip"))
        text = f"{number + 1}   {lora['name']}, strength {', '.join(strengths)}"
        pen.text((MARGIN, TOP + LINE * number), fitted(text, width - 2 * MARGIN, typeface(14)), INK, typeface(14))
    if len(data["pairs"]) > MOST_PAIRS:
        text = f"the {MOST_PAIRS} closest of {len(data['pairs'])} pairs"
        pen.text((MARGIN, TOP + LINE * len(data["loras"])), text, FAINT, typeface(13))


def _cell(pen: ImageDraw.ImageDraw, value: float | None, kind: str, corner: tuple[float, float]) -> None:
    left, top = corner
    box = (left + 1, top + 1, left + CELL - 1, top + ROW - 1)
    if value is None:
        pen.rectangle(box, EMPTY)
        return
    fill = _colour(value, kind)
    value = 0.0 if abs(value) < 0.005 else value
    pen.rectangle(box, fill, RULE)
    dark = sum(fill) < 390
    text = f"{value:.2f}" if kind == "interference" or abs(value) < 0.005 else f"{value:+.2f}"
    pen.text((left + CELL / 2, top + ROW / 2), text, PAPER if dark else INK, typeface(12), anchor="mm")


def _colour(value: float, kind: str) -> tuple[int, int, int]:
    """Return a colour whose strength is the root of the value, so that small values differ too."""
    amount = value - 1.0 if kind == "interference" else value
    hue = SHARED if "overlap" in kind else REINFORCE if amount > 0 else CANCEL
    strength = math.sqrt(min(1.0, abs(amount))) if amount > 0 or "overlap" not in kind else 0.0
    red, green, blue = (round(255 - (255 - part) * strength) for part in hue)
    return red, green, blue


def _scale(pen: ImageDraw.ImageDraw, left: int, top: int) -> None:
    ticks: Sequence[float] = (-1.0, -0.5, -0.1, 0.0, 0.1, 0.5, 1.0)
    for place, value in enumerate(ticks):
        x = left + 46 * place
        pen.rectangle((x, top, x + 44, top + 10), _colour(value, "cosine"), RULE)
        pen.text((x + 22, top + 16), f"{value:+g}" if value else "0", FAINT, typeface(12), anchor="ma")
    pen.text((left - 12, top + 5), "cancel", FAINT, typeface(12), anchor="rm")
    pen.text(
        (left + 46 * len(ticks) + 10, top + 5), "reinforce (cosine; stack: minus 1)", FAINT, typeface(12), anchor="lm"
    )
