"""The tables of an inspection as lines of text: blocks of each LoRA, and how the LoRAs of a stack agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Entries = Sequence[dict[str, Any]]  # of a report's blocks or pairs

_ROWS = 64  # blocks; the rest is in the data
_PAIRS = 15
_CELL = 8
_NAME = 24  # of a block: a table has to fit below a node
_NONE = "-"
_COLUMNS = {"relative_size": "dW/W", "norm": "|dW|", "spectral_norm": "sigma1", "effective_rank": "eff. rank"}


def lines_of(names: Sequence[str], blocks: Entries, pairs: Entries, interference: float | None) -> list[str]:
    """Return the tables of an inspection of the LoRAs `names`; none if nothing was measured."""
    lines = [line for number, name in enumerate(names) for line in _lora_lines(name, number, blocks)]
    if pairs:
        lines += [*_pair_lines(pairs, interference), *_agreement_lines(blocks, pairs)]
    return lines


def verdict_lines(verified: dict[str, Any] | None) -> list[str]:
    """Return what a verification says, with the tensors that differ; none if nothing was verified."""
    if verified is None:
        return []
    name, count, found = verified["name"], verified["tensors"], verified["differences"]
    if verified["equal"]:
        return [f"verified: {name} is what its receipt says: {count} tensors made again, every bit equal"]
    lines = [f"not verified: {len(found)} of {count} tensors of {name} differ from what its receipt says"]
    lines += [f"  {_difference(one)}" for one in found[:_ROWS]]
    return lines + ([f"  and {len(found) - _ROWS} more"] if len(found) > _ROWS else [])


def _difference(one: dict[str, Any]) -> str:
    if one["why"]:
        return f"{one['key']}: {one['why']}"
    return f"{one['key']}: {one['values']} of {one['of']} values, by at most {one['largest']:.3g}"


def _lora_lines(name: str, number: int, blocks: Entries) -> list[str]:
    rows = [(block["block"], one) for block in blocks if (one := block["loras"][number])]
    if not rows:
        return []
    columns = [column for column in _COLUMNS if any(one[column] is not None for _, one in rows)]
    head = ("block", *(_COLUMNS[column] for column in columns))
    cells = [(block, *(_cell(one, column) for column in columns)) for block, one in rows]
    return ["", f"{name}, block by block", *_table(head, cells)]


def _cell(one: dict[str, Any], column: str) -> str:
    value = one[column]
    if value is None:
        return _NONE
    if column == "relative_size":
        return f"{value:.2%}"
    if column == "effective_rank":
        return f"{value:.1f}" + (f"/{one['rank']}" if one["rank"] else "")
    return f"{value:.4g}"


def _pair_lines(pairs: Entries, interference: float | None) -> list[str]:
    shown = sorted(pairs, key=lambda pair: -abs(pair["cosine"] or 0.0))[:_PAIRS]
    lines = ["", f"LoRA against LoRA{'' if len(shown) == len(pairs) else f', the {_PAIRS} closest pairs'}"]
    for pair in shown:
        lines.append(
            f"{pair['first']} + {pair['second']}: cosine {_signed(pair['cosine'])}, "
            f"overlap of outputs {_signed(pair['column_overlap'])}, of inputs {_signed(pair['row_overlap'])} "
            f"above chance, {pair['tensors']} weights in common"
        )
    if interference is not None:
        lines.append(
            f"the whole stack: {interference:.3f} of the squared size that its LoRAs have apart ({_word(interference)})"
        )
    return lines


def _agreement_lines(blocks: Entries, pairs: Entries) -> list[str]:
    cosines = {(one["block"], place): one["cosine"] for place, pair in enumerate(pairs) for one in pair["blocks"]}
    cells: list[tuple[str, ...]] = []
    for block in blocks:
        known = [(cosine, place) for place in range(len(pairs)) if (cosine := cosines.get((block["block"], place)))]
        if block["interference"] is None:
            continue
        cosine, place = max(known, key=lambda item: abs(item[0]), default=(0.0, 0))
        one, other = pairs[place]["numbers"]
        cells.append((block["block"], f"{block['interference']:.3f}", _signed(cosine), f"{one + 1} + {other + 1}"))
    if not cells:
        return []
    return ["", "the stack, block by block", *_table(("block", "size", "cosine", "of LoRAs"), cells)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines: the first column to the left, the others to the right."""
    shown = [head, *((_short(row[0]), *row[1:]) for row in rows[:_ROWS])]
    widths = [max(_CELL, len(cell)) for cell in head]
    widths[0] = max(len(row[0]) for row in shown)
    lines = [
        "  ".join((row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))))
        for row in shown
    ]
    if len(rows) > _ROWS:
        lines.append(f"and {len(rows) - _ROWS} more blocks")
    return lines


def _short(name: str) -> str:
    """Return a block's name, its middle left out if it is long: a text encoder's id stays, and so does the number."""
    if len(name) <= _NAME:
        return name
    head, space, tail = name.rpartition(" ")
    return head + space + "…" + tail[len(head) + len(space) + 1 - _NAME :]


def _signed(value: float | None) -> str:
    return _NONE if value is None else f"{round(value, 3) + 0.0:+.3f}"


def _word(interference: float) -> str:
    if abs(interference - 1.0) < 0.005:
        return "they hardly meet"
    return "they reinforce each other" if interference > 1 else "they cancel each other in part"
