"""What the benchmarks make of their measurements; the measurements themselves are no tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import results
from benchmarks.figures import Figure, Findings, number
from benchmarks.processes import ProcessError, finish
from benchmarks.turns import Sample, in_turn, wall_ratios


def _subject(*figures: Figure, busy: bool = False, missing: tuple[str, ...] = ()) -> dict[str, object]:
    machine = {"cpu": "cpu", "cores": 2, "memory_gb": 24.0, "free_memory_gb": 20.0, "disk": "ext4", "system": "Linux"}
    found = Findings(list(figures), missing=list(missing)).as_dict()
    circumstances = {"taken": "2026-01-01", "rounds": 5, "minutes": 1.0, "load_before": 0.1, "busy": busy}
    return {**circumstances, "machine": {**machine, "versions": {"torch": "2"}}, **found}


def test_goals_are_limits_above_or_below() -> None:
    assert Figure("time", 1.2, "×", 1.2).is_reached
    assert not Figure("time", 1.21, "×", 1.2).is_reached
    assert Figure("speed", 4.0, "×", 4, at_most=False).is_reached
    assert not Figure("speed", 3.9, "×", 4, at_most=False).is_reached


def test_the_table_stands_between_the_marks_and_nothing_else_changes() -> None:
    readme = f"before\n\n{results.BEGIN}\nold\n{results.END}\n\nafter"
    done = results.with_table(readme, {"merge": _subject(Figure("SDXL", 1.3, "×", 1.2, best=1.1), busy=True)})
    assert done.startswith(f"before\n\n{results.BEGIN}\n") and done.endswith(f"\n{results.END}\n\nafter")
    assert "| SDXL | ≤ 1.2 × | 1.3 × (1.1) | **no** (busy) |" in done
    assert "old" not in done and "0 of 1 goals" in done
    assert results.with_table(done, {"merge": _subject(Figure("SDXL", 1.3, "×", 1.2, best=1.1), busy=True)}) == done


def test_a_readme_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="expected <!-- benchmarks: begin -->"):
        results.with_table("no marks", {"merge": _subject()})


def test_the_readme_has_the_marks() -> None:
    readme = results.README.read_text(encoding="utf-8")
    assert readme.count(results.BEGIN) == readme.count(results.END) == 1


def test_what_failed_is_told_and_the_rest_kept() -> None:
    found = Findings()
    with found.part("peer"):
        raise ProcessError("not there")
    found.figures.append(Figure("ours", 1.0))
    assert found.as_dict()["missing"] == ["peer: ProcessError: not there"]
    text = results.as_text({"merge": _subject(missing=("peer: not there",))})
    assert "## Not measured\n\n- peer: not there\n" in text


def test_every_case_runs_once_a_round_and_begins_one_in_turn() -> None:
    order: list[str] = []

    def case(name: str, seconds: float) -> Sample:
        order.append(name)
        return Sample(seconds, seconds)

    samples = in_turn(3, {"a": lambda: case("a", 3.0), "b": lambda: case("b", 2.0)})
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert wall_ratios(samples["a"], samples["b"]) == (1.5, 1.5)


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    assert finish([sys.executable, "-c", "print(input())"], stdin="given").output == "given\n"
    with pytest.raises(ProcessError, match="ended with 1: ValueError: reason"):
        finish([sys.executable, "-c", "raise ValueError('reason')"], cwd=tmp_path)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1.00000012, "1"), (1.0012, "1.0012"), (0.0301, "0.0301"), (2e-14, "2.0e-14"), (1234.5, "1,234")],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text
