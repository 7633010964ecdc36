"""Strengths of blocks: read, written and read again they are the same; on a model they are finite numbers, or told."""

from __future__ import annotations

import math

from lora_core.arch import ARCHES
from lora_core.errors import OptionError
from lora_core.library.info import block_groups, presets_of
from lora_core.naming.blocks import ModelBlocks
from lora_core.options import STRENGTH_LIMIT
from lora_core.stack.blockstrengths import factors_on
from lora_core.stack.blockterms import parse_blocks
from tests.fuzz.choices import Choices
from tests.fuzz.seen import check_shown

_MODELS = [arch for arch in ARCHES if arch.role == "diffusion"]
_PIECES = ("double", "single", "te", "te.clip_l", "all", "other", "input", ".", "-", "=", ",", "\n", " ", "0", "19")


def check(data: bytes) -> None:
    choices = Choices(data)
    model = ModelBlocks.of_arch(choices.one_of(_MODELS))
    if choices.yes():
        groups = [str(group["name"]) for group in block_groups(model)] + list(presets_of(model))
        pieces = (*_PIECES, *groups)
        text = "".join(choices.one_of(pieces) if choices.yes() else choices.text(4) for _ in range(choices.number(24)))
    else:
        text = choices.rest().decode("utf-8", "surrogateescape")
    try:
        strengths = parse_blocks(text)
    except OptionError as error:
        check_shown(str(error))
        return
    again = parse_blocks(str(strengths)) if len(str(strengths)) <= 1000 else strengths
    assert [term.selector for term in again.terms] == [term.selector for term in strengths.terms]
    for one, other in zip(again.terms, strengths.terms, strict=True):
        assert (one.value is None) == (other.value is None)
        assert one.value is None or other.value is None or math.isclose(one.value, other.value, rel_tol=1e-5)
    try:
        factors = factors_on(strengths, model, "row")
    except OptionError as error:
        check_shown(str(error))
        return
    known = [(name, number) for name, numbers in model.groups.items() for number in numbers or (None,)]
    assert all(abs(factors.of(block)) <= STRENGTH_LIMIT for block in known)
    for line in (*factors.unused(known), *factors.told(known)):
        check_shown(line)


def seeds() -> dict[str, bytes]:
    texts = (
        *("double.0-9=0.5, te=0", "style", "all=0,double.3=1", "te.clip_l=-1e1", "double.9-0=1", "x", "=", "double.=1"),
        *("double.3", "double=nan", "double=1e999", "double=101", "DOUBLE.00-018=.5", "a\u202eb=1", "double.1-=1"),
    )
    files = {f"text-{number}": b"\0\0" + text.encode() for number, text in enumerate(texts)}
    return {**files, "pieces": b"\x01\x01\x0c" + bytes([1, 0, 1, 7, 1, 13, 1, 9, 1, 13, 1, 10])}
