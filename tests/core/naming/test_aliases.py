"""ComfyUI's own tables as the oracle: every name that it accepts goes to the same place here, or has its reason."""

from __future__ import annotations

import re
from functools import cache

import pytest

from lora_core.naming.detection import detect
from lora_core.naming.keymap import KeyMap
from lora_core.naming.targets import Target
from tests import manifests
from tests.core.naming.alias_reasons import FAULTS, LACKS, MODEL_OF, ONLY_IN_DIFFUSERS, ONLY_IN_OWN_LAYOUT

TABLES = manifests.alias_archs()
MODELS = [table for table in TABLES if not table.startswith("te_")]
NO_SUCH_KEY = "the target is not in the model"


@cache
def keymap_of(table: str) -> KeyMap:
    """The targets of a model, or of text encoders beside the model that they go with."""
    shapes = [manifests.target_shapes(table)]
    if table.startswith("te_"):
        shapes.append(manifests.target_shapes(MODEL_OF.get(table, table.removeprefix("te_"))))
    return KeyMap(*((held, detect(held)) for held in shapes))


@cache
def compared(table: str) -> tuple[int, list[str], dict[str, set[str]], list[str]]:
    """(names that agree, names that differ, {reason: names that may differ}, names without a target or a reason)."""
    keymap, held = keymap_of(table), manifests.target_shapes(table)
    agree, differ, explained, rest = 0, [], {}, []
    for name, alias in manifests.aliases(table).items():
        targets = keymap.find(name)
        if [spelled(target) for target in targets] == [(alias.key, alias.span, alias.function)]:
            agree += 1
            continue
        reason = why(table, name, FAULTS if targets else LACKS)
        if alias.key not in held:
            reason = NO_SUCH_KEY
        if reason:
            explained.setdefault(reason, set()).add(name)
        elif targets:
            differ.append(f"{name}: ComfyUI {alias}, here {targets}")
        else:
            rest.append(name)
    return agree, differ, explained, rest


def spelled(target: Target) -> tuple[str, tuple[int, int, int] | None, str | None]:
    span = None if target.start is None else (0, target.start, target.shape[0])
    first, half = target.start or 0, target.shape[0] // 2 if target.shape else 0
    is_swapped = target.order == ((first + half, half), (first, half))
    return target.key, span, "swap_scale_shift" if is_swapped else None


def why(table: str, name: str, reasons: dict[str, tuple[str, tuple[str, ...]]]) -> str | None:
    fitting = (reason for reason, (names, where) in reasons.items() if table in where and re.fullmatch(names, name))
    return next(fitting, None)


@pytest.mark.parametrize("table", TABLES)
def test_every_name_that_comfyui_accepts_goes_to_the_same_place(table: str) -> None:
    agree, differ, explained, rest = compared(table)
    assert differ == []
    assert rest == []
    total = len(manifests.aliases(table))
    assert agree + sum(map(len, explained.values())) == total
    assert agree > 0.6 * total


def test_every_reason_is_needed_where_it_is_given() -> None:
    given = {
        (reason, table) for reasons in (LACKS, FAULTS) for reason, (_, where) in reasons.items() for table in where
    }
    used = {(reason, table) for table in TABLES for reason in compared(table)[2] if reason != NO_SUCH_KEY}
    assert used == given


@pytest.mark.parametrize("model", MODELS)
def test_a_target_has_the_shape_of_its_part_of_the_weight(model: str) -> None:
    shapes = manifests.target_shapes(model)
    for name in manifests.aliases(model):
        for target in keymap_of(model).find(name):
            rows = (target.start or 0) + target.shape[0] if target.shape else 0
            assert target.shape[1:] == shapes[target.key][1:]
            assert target.shape == shapes[target.key] if target.start is None else rows <= shapes[target.key][0]


@pytest.mark.parametrize("model", [model for model in MODELS if manifests.checkpoint(model).diffusers_keys])
def test_every_name_reaches_the_same_rows_in_diffusers_layout(model: str) -> None:
    """A name's change has one shape in both layouts, and its pieces there follow one another without a gap."""
    shapes = manifests.checkpoint(model).diffusers_keys
    there, missing = KeyMap((shapes, detect(shapes))), []
    for name in manifests.aliases(model):
        here = keymap_of(model).find(name)
        if not here:
            continue
        targets = there.find(name)
        if not targets:
            missing.append(name)
            continue
        assert targets[0].adapter_shape == here[0].adapter_shape, name
        if targets[0].rows:
            heights = [target.shape[0] for target in targets]
            assert [target.rows for target in targets] == [
                (sum(heights[:number]), sum(heights)) for number in range(len(heights))
            ]
    reason = r"|".join(ONLY_IN_OWN_LAYOUT.get(model, ()))
    assert [name for name in missing if not (reason and re.fullmatch(reason, name))] == []


@pytest.mark.parametrize("model", [model for model in MODELS if manifests.checkpoint(model).diffusers_keys])
def test_every_module_in_diffusers_naming_has_its_place(model: str) -> None:
    keymap = keymap_of(model)
    for key, shape in manifests.checkpoint(model).diffusers_keys.items():
        module, _, param = key.rpartition(".")
        targets = keymap.find(f"transformer.{module}", param) or keymap.find(f"transformer.{key}")
        if not targets and re.fullmatch("|".join(ONLY_IN_DIFFUSERS.get(model, ())), key):
            continue
        assert targets, key
        assert targets[0].adapter_shape == shape, key
