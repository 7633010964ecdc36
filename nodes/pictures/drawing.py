"""What the pictures of the nodes share: sizes, colours, type, and how a picture becomes an image of ComfyUI."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

WIDTH, MARGIN, LABEL = 960, 28, 230
FOOT = 58  # below the last row
PAPER, INK, FAINT, RULE, BAR, TRACK = "#fbfbfa", "#22262b", "#6d747d", "#d9dce0", "#2f6f9f", "#e9edf1"


def as_image(picture: Image.Image) -> torch.Tensor:
    """Return a picture as ComfyUI's images are: (1, height, width, 3) in fp32, 0 to 1."""
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255.0)[None]


def label_of(block: str) -> str:
    """Return a block's name as it fits beside its row: a text encoder's id stays, and so does the number."""
    head, space, tail = block.rpartition(" ")
    font = typeface(14)
    return head + space + fitted(tail, LABEL - 14 - font.getlength(head + space), font)


def note_picture(title: str, text: str) -> Image.Image:
    """Return a small picture that says why there is no other."""
    image = Image.new("RGB", (WIDTH, 110), PAPER)
    pen = ImageDraw.Draw(image)
    pen.text((MARGIN, 24), title, INK, typeface(24))
    pen.text((MARGIN, 64), text, FAINT, typeface(15))
    return image


def fitted(text: str, width: int, font: Any) -> str:
    """Return `text`, its start left out where it is wider than `width`; the end tells blocks apart."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength("…" + text) > width:
        text = text[1:]
    return "…" + text


def typeface(size: int) -> Any:
    return ImageFont.load_default(size)
