"""What decides ranks, and every declared option: a number within its limits, or an OptionError."""

from __future__ import annotations

from typing import Any

import torch

from lora_core.algebra.rankrules import Spectrum
from lora_core.algebra.ranks import rule_of, spread
from lora_core.errors import OptionError
from lora_core.operations import NODES
from lora_core.options.ranks import BUDGETS, KOHYA_RULES, RULES
from lora_core.stack.rows import check_strength
from tests.fuzz.choices import Choices
from tests.fuzz.seen import check_shown

_OPTIONS = [option for node in NODES.values() for option in node.options]
_ODD: tuple[Any, ...] = (None, True, "1", "\x1b[1m", [], {}, 10**400, -1, 0, 0.5, float("nan"), float("inf"))


def check(data: bytes) -> None:
    choices = Choices(data)
    if choices.yes():
        _check_option(choices)
    else:
        _check_rule(choices)


def _check_option(choices: Choices) -> None:
    option = choices.one_of(_OPTIONS)
    value = choices.one_of(_ODD) if choices.yes() else choices.real() if choices.yes() else choices.text(30)
    for check_value in (option.check, lambda value: check_strength(value, option.name)):
        try:
            check_value(value)
        except OptionError as error:
            check_shown(str(error))


def _spectrum(choices: Choices) -> Spectrum:
    values = sorted((choices.number(2**16) / 2 ** choices.number(40) for _ in range(choices.number(12))), reverse=True)
    tensor = torch.tensor(values, dtype=torch.float64)
    shape = (max(1, len(values)) + choices.number(20), max(1, len(values)) + choices.number(20))
    total = float(tensor.square().sum()) * (1.0 + choices.number(3))
    return Spectrum(tensor, total, shape, choices.number(100) / 10 if choices.yes() else None)


def _check_rule(choices: Choices) -> None:
    threshold = choices.real() if choices.yes() else choices.number(1000) / 999
    numbers = {"rank": 1 + choices.number(40), "max_rank": 1 + choices.number(40)}
    energy = choices.number(101) / 100
    by = choices.one_of(("auto", *RULES, *BUDGETS, *KOHYA_RULES))
    try:
        rule = rule_of(**numbers, energy=energy, rank_by=by, threshold=threshold)
        spectra = [_spectrum(choices) for _ in range(choices.number(4))]
        if rule.is_budget:
            ranks = spread(rule, spectra, 2, choices.number(2**16))
        else:
            ranks = [rule.rank_of(spectrum) for spectrum in spectra]
    except OptionError as error:
        check_shown(str(error))
        return
    assert all(0 <= rank <= min(rule.max_rank, len(one.values)) for rank, one in zip(ranks, spectra, strict=True))
    if not rule.is_budget:
        kept = zip(ranks, spectra, strict=True)
        assert all(rank >= 1 or one.total == 0 or len(one.values) == 0 for rank, one in kept)


def seeds() -> dict[str, bytes]:
    rules = {f"rule-{number}": bytes([0, 0, 200, 1, 8, 8, 50, number, 3, *range(1, 90, 3)]) for number in range(13)}
    options = {f"option-{number}": bytes([1, number * 3, 1, number]) for number in range(12)}
    return rules | options
