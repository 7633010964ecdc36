"""The tables of docs/reliability.md, of cases and attacks, name tests that are there, and that say what they hold."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.core.samples import REPO

TABLE = REPO / "docs/reliability.md"
CASES, ATTACKS = range(1, 46), range(1, 34)
TEST = re.compile(r"`(test_\w+)::(test_\w+)`")  # names of test files are unique


Row = tuple[str, int]  # of which table, and its number


def rows() -> dict[Row, str]:
    """Return the lines of both tables: cases have numbers, attacks an A before theirs."""
    found = re.findall(r"^\| (A?)(\d+) (\|.*)$", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    numbered = {("attack" if letter else "case", int(number)): line for letter, number, line in found}
    assert len(numbered) == len(found), "each has one row"
    return numbered


def marked(path: Path) -> Iterator[tuple[str, Row]]:
    """Yield the tests of a file with the cases and attacks that they hold: by a mark of their own, or of the file's."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    of_all = [node.value for node in tree.body if isinstance(node, ast.Assign) and "pytestmark" in ast.unparse(node)]
    for item in ast.walk(tree):
        if isinstance(item, ast.FunctionDef) and item.name.startswith("test_"):
            for mark in (*item.decorator_list, *of_all):
                yield from ((item.name, row) for row in _rows_of(mark))


def _rows_of(mark: ast.expr) -> Iterator[Row]:
    kind = ast.unparse(mark.func).removeprefix("pytest.mark.") if isinstance(mark, ast.Call) else ""
    if kind in ("case", "attack") and isinstance(mark, ast.Call):
        yield from ((kind, ast.literal_eval(number)) for number in mark.args)


def test_each_has_a_row_with_a_test_and_how_it_was_seen_to_fail() -> None:
    table = rows()
    assert sorted(table) == [("attack", number) for number in ATTACKS] + [("case", number) for number in CASES]
    for row, line in table.items():
        assert TEST.search(line), f"{row} names no test"
        assert len(line.split(" | ")) == 4, f"{row}: what happens, tests, result, how it was seen to fail"
        assert line.rstrip(" |").split(" | ")[-1].strip(), f"{row} was never seen to fail"


def test_tests_and_rows_name_each_other() -> None:
    told = {(path, name, row) for row, line in rows().items() for path, name in TEST.findall(line)}
    held = {(path.stem, name, row) for path in (REPO / "tests").rglob("test_*.py") for name, row in marked(path)}
    assert told - held == set(), "in a table, without a test that says so"
    assert held - told == set(), "tests that no table names"
