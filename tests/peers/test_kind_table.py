"""docs/kinds.md has a row for every type of PEFT and every algorithm of LyCORIS, and tells what becomes of it."""

from __future__ import annotations

import re

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from tests.peers import kind_table

# A number of the page that is not held: the version that it was made with, and errors
NUMBERS = re.compile(r"\d\.\de-\d+|(?<=## PEFT )[\d.]+|(?<=## LyCORIS )[\d.]+")


def test_the_page_is_what_the_command_writes() -> None:
    written = kind_table.PAGE.read_text(encoding="utf-8")
    assert NUMBERS.sub("", written) == NUMBERS.sub("", kind_table.page(lambda _: 1e-7))


def test_every_type_and_algorithm_has_one_row() -> None:
    rows = [line.split(" | ")[0].removeprefix("| ") for line in kind_table.PAGE.read_text().splitlines()]
    for name in (*(key.name for key in PEFT_TYPE_TO_CONFIG_MAPPING), *kind_table.ALGORITHMS):
        assert rows.count(name) == 1, name


def test_an_error_of_the_page_is_small() -> None:
    errors = [float(text) for text in re.findall(r"exact, (\S+?)[; ]", kind_table.PAGE.read_text())]
    assert len(errors) > 35 and max(errors) < 2e-6
