"""Rows in another order: what a LoRA changes is the same in both layouts, row by row, by independent code."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lora_core.adapters import LoRA, rows_of
from lora_core.algebra.change import Change
from lora_core.arch import ARCHES
from lora_core.naming.detection import FoundArch
from lora_core.naming.keymap import KeyMap
from lora_core.naming.places import Place
from lora_core.naming.targets import Target
from lora_core.reading.lorafile import LoraFile
from lora_core.stack.apply import Placed, apply_stack
from lora_core.stack.matching import match_stack
from lora_core.stack.opened import StackedLora
from tests.core import samples

Weights = dict[str, torch.Tensor]
COLUMNS = 5


def arch(name: str):
    return next(one for one in ARCHES if one.id == name)


def random_weights(*shapes: tuple[str, int]) -> Weights:
    generator = torch.Generator().manual_seed(3)
    return {name: torch.randn(rows, COLUMNS, generator=generator, dtype=torch.float64) for name, rows in shapes}


def keymap(name: str, weights: Weights, *, renamed: bool) -> KeyMap:
    shapes = {key: tuple(value.shape) for key, value in weights.items()}
    return KeyMap((shapes, [FoundArch(arch(name), None, "", renamed)]))


def lora(rows: int) -> LoRA:
    generator = torch.Generator().manual_seed(rows)
    up, down = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((rows, 2), (2, COLUMNS)))
    return LoRA(up, down, None, 1.0)


def merged(weights: Weights, targets: tuple[Target, ...], adapter: LoRA) -> Weights:
    """The weights with the adapter on all of its targets, and the same by `take` and `put` and by `placed`."""
    result = {key: value.clone() for key, value in weights.items()}
    for target in targets:
        first, total = target.rows or (0, target.shape[0])
        part = rows_of(adapter, first, target.shape[0], total)
        before = result[target.key]
        result[target.key] = apply_stack(before, [Placed(part, target, 1.0)], out=torch.empty_like(before))
        taken = target.take(before)
        by_hand = before.clone()
        assert isinstance(part, LoRA)
        target.put(by_hand, taken + part.up @ part.down)
        torch.testing.assert_close(by_hand, result[target.key].double(), rtol=1e-5, atol=1e-6)
        change = Change((adapter.up, adapter.down)).placed(target, tuple(before.shape))
        torch.testing.assert_close(change.parts[0] @ change.parts[1], by_hand - before, rtol=1e-9, atol=1e-9)
        result[target.key] = by_hand
    return result


# Stable Audio 3: [q; k; v; q2; k2] in its files, [q; q2; k; k2; v] in diffusers

SA3_HERE, SA3_THERE = "transformer.layers.0.self_attn.to_qkv.weight", "transformer_blocks.0.self_attn.to_qkv.weight"


def stable_audio_3(weights: Weights) -> Weights:
    q, k, v, q2, k2 = weights[SA3_HERE].chunk(5)
    return {SA3_THERE: torch.cat([q, q2, k, k2, v])}


# PixelDiT: six chunks of 16 for each of the 256 places of a patch; ComfyUI keeps three of them in each of two weights

CHUNKS = "pixel_blocks.0.adaLN_modulation"


def pixeldit(weights: Weights) -> Weights:
    rows = weights[f"{CHUNKS}.0.weight"]
    chunk = rows.shape[0] // (256 * 6)
    halves: dict[int, list[torch.Tensor]] = {0: [], 1: []}
    for number in range(rows.shape[0]):  # place, then chunk, then row of the chunk
        halves[number // chunk % 6 // 3].append(rows[number])
    return {f"{CHUNKS}_msa.weight": torch.stack(halves[0]), f"{CHUNKS}_mlp.weight": torch.stack(halves[1])}


# MiniMax-H3: all queries, keys and values in ComfyUI's files, split in diffusers, head by head in the makers'

H3 = "blocks.0.attn.qkv_proj"
HEAD = 2  # rows


def h3_split(weights: Weights) -> Weights:
    q, k, v = weights[f"{H3}.weight"].chunk(3)
    return {f"transformer_blocks.0.attn.to_{part}.weight": rows for part, rows in zip("qkv", (q, k, v), strict=True)}


def h3_by_head(rows: torch.Tensor) -> torch.Tensor:
    """What the makers' files hold where ComfyUI's hold `rows`."""
    query, key, value = rows.chunk(3)
    heads = range(query.shape[0] // HEAD)
    return torch.cat([part[HEAD * head : HEAD * (head + 1)] for head in heads for part in (query, key, value)])


CASES: dict[str, tuple[str, Weights, Callable[[Weights], Weights]]] = {
    "stable audio 3": ("stable_audio_3_medium", random_weights((SA3_HERE, 15)), stable_audio_3),
    "pixeldit": ("pixeldit_t2i", random_weights((f"{CHUNKS}.0.weight", 256 * 12)), pixeldit),
    "h3": ("minimax_h3", random_weights((f"{H3}.weight", 3 * 56 * HEAD)), h3_split),
}


@pytest.mark.parametrize("case", CASES)
def test_a_lora_changes_the_same_rows_in_both_layouts(case: str) -> None:
    """Names of each layout, on files of each layout: converting and merging give the same in either order."""
    name, weights, convert = CASES[case]
    there = convert(weights)
    here, other = keymap(name, weights, renamed=False), keymap(name, there, renamed=True)
    for key in (*weights, *there):
        module = key.removesuffix(".weight")
        adapter = lora((weights | there)[key].shape[0])
        changed = convert(merged(weights, here.find(f"diffusion_model.{module}"), adapter))
        expected = merged(there, other.find(f"diffusion_model.{module}"), adapter)
        assert changed.keys() == expected.keys()
        for other_key, value in expected.items():
            torch.testing.assert_close(changed[other_key], value, rtol=1e-12, atol=1e-12)
        assert any(not torch.equal(expected[one], there[one]) for one in there)
        if key in there:  # as somebody would do it who knows nothing of all this
            torch.testing.assert_close(expected[key], there[key] + adapter.up @ adapter.down)


@pytest.mark.parametrize("split", [False, True])
def test_a_name_with_the_adapters_name_left_in_has_its_rows_head_by_head(split: bool) -> None:
    name, weights, convert = CASES["h3"]
    held = convert(weights) if split else weights
    adapter = lora(3 * 56 * HEAD)
    result = merged(held, keymap(name, held, renamed=split).find(f"{H3}.default"), adapter)
    rows = torch.cat(list(result.values()))
    whole = weights[f"{H3}.weight"]
    torch.testing.assert_close(h3_by_head(rows), h3_by_head(whole) + adapter.up @ adapter.down)


@pytest.mark.parametrize("end", [".default", ""])
def test_the_file_tells_which_order_its_rows_have(tmp_path: Path, end: str) -> None:
    adapter = lora(3 * 56 * HEAD)
    tensors = {
        f"{H3}.lora_A{end}.weight": adapter.down.float(),
        f"{H3}.lora_B{end}.weight": adapter.up.float(),
    }
    targets_of = keymap("minimax_h3", CASES["h3"][1], renamed=False)
    with LoraFile(samples.save(tmp_path / "lora.safetensors", tensors)) as opened:
        (spec,) = opened.adapters
        targets = targets_of.find_first(spec.names, spec.param)
        report = match_stack([StackedLora(opened)], targets_of, [], "ignore").reports[0]
    assert (report.modules_matched, report.read_as) == (1, {})
    assert bool(targets[0].order) == bool(end)


# The arithmetic of places, against lists of rows

ROWS = 240


def rows_in(place: Place) -> list[int]:
    runs = place.runs(ROWS)
    assert runs is not None
    return [row for start, length in runs for row in range(start, start + length)]


def step(generator: random.Random, place: Place, rows: list[int]) -> tuple[Place, list[int]]:
    """One thing that a rename row may do, to a place and to the list of its rows."""
    parts = generator.choice([size for size in (2, 3, 4, 5) if len(rows) % size == 0] or [1])
    size = len(rows) // parts
    pieces = [rows[number * size : (number + 1) * size] for number in range(parts)]
    what = generator.choice(("piece", "order", "swap"))
    if what == "piece":
        begin = generator.randrange(parts)
        end = generator.randint(begin + 1, parts)
        return place.piece(begin, end, parts), rows[begin * size : end * size]
    if what == "order":
        order = generator.sample(range(parts), parts)
        return place.ordered(order, parts), [row for number in order for row in pieces[number]]
    if len(rows) % 2:
        return place, rows
    return place.ordered((1, 0), 2), rows[len(rows) // 2 :] + rows[: len(rows) // 2]


@pytest.mark.parametrize("seed", range(60))
def test_places_are_lists_of_rows(seed: int) -> None:
    generator = random.Random(seed)
    place, rows = Place("a"), list(range(ROWS))
    for _ in range(4):
        place, rows = step(generator, place, rows)
    assert rows_in(place) == rows
    assert place.share(len(rows)) == ROWS
    inner, taken = Place("b"), list(range(len(rows)))
    for _ in range(3):
        inner, taken = step(generator, inner, taken)
    assert rows_in(inner.inside(place)) == [rows[number] for number in taken]
