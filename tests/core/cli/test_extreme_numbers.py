"""Numbers that nobody means, for every option that is one: a value in its range, or one short error."""

from __future__ import annotations

import argparse
import math
from typing import Any

import pytest

from lora_core.cli.flags import Parser, _converter
from lora_core.errors import OptionError
from lora_core.operations import NODES
from lora_core.options.base import Option
from lora_core.stack.rows import check_strength

pytestmark = pytest.mark.attack(27)

TEXTS = (
    *("nan", "-nan", "inf", "-inf", "Infinity", "1e400", "-1e400", "1e-400", "-1e308", "1e308", "0x10", "-0x10"),
    *("1_000", "-1_000", "\uff11\uff12", "-\u0661", "1e", "", " ", "-", "--", "1,5", "1.5.5", "True", "None", "\x00"),
    *("9" * 4_200, "9" * 10_000, "-" + "9" * 10_000, "0." + "3" * 10_000, "1e" + "9" * 5_000, "\u00b2", "4.0"),
)
OPTIONS = [(name, one) for name, node in NODES.items() for one in node.options if one.type in ("INT", "FLOAT")]
LONGEST = 300  # characters of an error


def is_in_range(option: Option, value: Any) -> bool:
    low, high = option.low or 0, math.inf if option.high is None else option.high
    return isinstance(value, (int, float)) and low <= value <= high


@pytest.mark.parametrize(("node", "option"), OPTIONS, ids=lambda one: getattr(one, "name", one))
def test_a_flag_takes_it_or_says_why_not(node: str, option: Option) -> None:
    for text in TEXTS:
        try:
            value = _converter(option)(text)
        except argparse.ArgumentTypeError as error:
            assert len(str(error)) < LONGEST and "limit" not in str(error), text
        else:
            assert is_in_range(option, value), text


@pytest.mark.parametrize(("node", "option"), OPTIONS, ids=lambda one: getattr(one, "name", one))
def test_a_widget_takes_it_or_says_why_not(node: str, option: Option) -> None:
    for value in (*TEXTS, math.nan, math.inf, -math.inf, -1e308, 10**4000, -(10**9000), 2**63, True, None, [], {}):
        try:
            option.check(value)
        except OptionError as error:
            assert len(str(error)) < LONGEST
        else:
            assert is_in_range(option, value), value


def test_a_strength_takes_it_or_says_why_not() -> None:
    for value in (*TEXTS, math.nan, math.inf, -1e308, 10**4000, -(10**9000), True, None, []):
        try:
            assert -100 <= check_strength(value, "x") <= 100
        except OptionError as error:
            assert len(str(error)) < LONGEST


@pytest.mark.parametrize("text", [one for one in TEXTS if one.startswith("-") and one not in ("-", "--", "-0x10")])
def test_a_negative_number_is_no_flag(text: str) -> None:
    parser = Parser()
    parser.add_argument("--lora", nargs="+")
    parser.add_argument("--rank")
    assert parser.parse_args(["--lora", "file", text]).lora == ["file", text]
    assert parser.parse_args(["--rank", text]).rank == text
