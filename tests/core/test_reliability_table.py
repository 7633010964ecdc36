"""The table of fault cases in docs/reliability.md names tests that are there, and that say which case they hold."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.core.samples import REPO

TABLE = REPO / "docs/reliability.md"
CASES = range(1, 46)
TEST = re.compile(r"`(test_\w+)::(test_\w+)`")  # names of test files are unique


def rows() -> dict[int, str]:
    """Return the lines of the table by the number of their case."""
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if re.match(r"\| \d+ \|", line)]
    numbered = {int(line.split("|")[1]): line for line in lines}
    assert len(numbered) == len(lines), "a case has one row"
    return numbered


def marked(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the tests of a file with the cases that they hold."""
    for item in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for mark in item.decorator_list if isinstance(item, ast.FunctionDef) else ():
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.case":
                yield from ((item.name, ast.literal_eval(number)) for number in mark.args)


def test_every_case_has_a_row_with_a_test_and_how_it_was_seen_to_fail() -> None:
    table = rows()
    assert sorted(table) == list(CASES)
    for number, line in table.items():
        assert TEST.search(line), f"case {number} names no test"
        assert len(line.split(" | ")) == 5, f"case {number}: case, promise, tests, result, how it was seen to fail"
        assert line.rstrip(" |").split(" | ")[-1].strip(), f"case {number} was never seen to fail"


def test_tests_and_rows_name_each_other() -> None:
    told = {(path, name, number) for number, line in rows().items() for path, name in TEST.findall(line)}
    held = {(path.stem, name, number) for path in (REPO / "tests").rglob("test_*.py") for name, number in marked(path)}
    assert told - held == set(), "in the table, without a test that says so"
    assert held - told == set(), "tests that the table does not name"
