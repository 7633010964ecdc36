"""Rows, stacks and `<lora:…>` text: strengths are finite and in range, names are those that are there, or told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lora_core.errors import LoraError
from lora_core.library.listing import Listing
from lora_core.library.stackfiles import missing_files, rows_in_use
from lora_core.options import STRENGTH_LIMIT, TEXT_DIALECT
from lora_core.stack.rows import each_file, join_stacks, lora_text, parse_rows, stack_of
from lora_core.workflows.importing import rows_of_text
from tests.fuzz.choices import Choices
from tests.fuzz.seen import check_shown

NAMES = ("ink.safetensors", "styles/ink.safetensors", "Styles/é.safetensors", "a.b.safetensors", "x" * 240)
_ODD: tuple[Any, ...] = (None, True, 0, -1, 1e308, 10**400, float("nan"), "0.5", "", "None", "nan", "\x1b[2J", [], {})
_FIELDS = ("name", "on", "strength", "strength_clip", "blocks", "hash", "size", "low", "low_strength", "low_size")


def check(data: bytes) -> None:
    choices = Choices(data)
    mode = choices.number(4)
    if mode == 0:
        _check_rows(choices.rest().decode("utf-8", "surrogateescape"))
    elif mode == 1:
        rows = [_row(choices) for _ in range(choices.number(5))]
        _check_rows(choices.one_of((rows, {"v": 1, "rows": rows}, {"__value__": rows}, json.dumps(rows), *rows[:1])))
    elif mode == 2:
        dialect = choices.one_of(TEXT_DIALECT.choices)
        _check_text(choices.rest().decode("utf-8", "surrogateescape"), dialect)
    else:
        _check_stack([tuple(_value(choices) for _ in range(2 + choices.number(3))) for _ in range(choices.number(4))])


def _value(choices: Choices) -> Any:
    kind = choices.number(4)
    if kind == 0:
        return choices.one_of(_ODD)
    return choices.text(20) if kind == 1 else choices.real() if kind == 2 else choices.one_of(NAMES)


def _row(choices: Choices) -> Any:
    row = {"name": choices.one_of(NAMES), "strength": 0.5}
    row |= {choices.one_of(_FIELDS): _value(choices) for _ in range(choices.number(4))}
    return choices.one_of(_ODD) if choices.yes(16) else row


def _check_rows(value: Any) -> None:
    try:
        rows = parse_rows(value)
        for line in missing_files(rows_in_use(rows), Listing(list(NAMES), Path, "the folder")).split("\n"):
            check_shown(line)
        _check_entries(stack_of(rows))
    except LoraError as error:
        for line in str(error).split("\n"):
            check_shown(line)


def _check_stack(entries: list[Any]) -> None:
    try:
        _check_entries(join_stacks(entries, []))
    except LoraError as error:
        check_shown(str(error))


def _check_entries(entries: list[Any]) -> None:
    for entry in each_file(entries):
        assert isinstance(entry[0], str)
        assert all(abs(strength) <= STRENGTH_LIMIT for strength in entry[1:])
        try:
            assert Listing(list(NAMES), Path, "the folder").find(entry[0]).name in NAMES
        except LoraError as error:
            check_shown(str(error))
    _check_text(lora_text(entries), "lora-manager")


def _check_text(text: str, dialect: Any) -> None:
    try:
        found = rows_of_text(text, dialect, names=NAMES)
    except LoraError as error:
        check_shown(str(error))
        return
    for note in found.notes:
        check_shown(note)
    assert len(parse_rows(found.to_dict())) == text.lower().count("<lora:") or found.notes or "<" in text
    json.dumps(found.to_dict(), allow_nan=False)


def seeds() -> dict[str, bytes]:
    row = {"on": True, "name": "ink.safetensors", "strength": 0.8, "strength_clip": None, "blocks": "double=0.5"}
    pair = {**row, "low": "styles/ink.safetensors", "low_strength": 1, "hash": "ab", "size": 3}
    values: tuple[Any, ...] = ([row], {"v": 1, "rows": [pair]}, {"v": 2}, "x", [[]], None, [{"name": "\x1b[2J\n"}])
    texts = [json.dumps(value) for value in values]
    files = {f"rows-{number}": b"\0" + text.encode() for number, text in enumerate(texts)}
    tags = ("<lora:ink:0.5>", "<lora:styles/ink:1:0.5:LBW=x>", "[a:<lora:ink:1>:0.5]", "<lora:x:te=1:unet=nan>")
    for dialect in range(4):
        files |= {f"text-{dialect}-{number}": bytes([2, dialect]) + tag.encode() for number, tag in enumerate(tags)}
    return {**files, "made": bytes([1, 3, 0, 1, 2, 0, 4, *range(20)]), "stack": bytes([3, 2, 1, 3, 0, 2, *range(20)])}
