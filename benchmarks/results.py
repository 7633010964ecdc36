"""Results as files: results.json with everything, RESULTS.md to read, and the table in the README."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.figures import number
from benchmarks.processes import REPO

JSON, TEXT, README = REPO / "benchmarks/results.json", REPO / "benchmarks/RESULTS.md", REPO / "README.md"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"

Results = Mapping[str, Mapping[str, Any]]  # subject -> what `subject.measured` returned


def read() -> dict[str, Any]:
    """Return the results of earlier runs, or nothing where there are none of this layout."""
    if not JSON.exists():
        return {}
    found = json.loads(JSON.read_text(encoding="utf-8"))
    return {name: one for name, one in found.items() if isinstance(one, dict) and "figures" in one}


def write(results: Results) -> None:
    """Write all three; the README only between its marks."""
    JSON.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    TEXT.write_text(as_text(results), encoding="utf-8")
    readme = README.read_text(encoding="utf-8")
    README.write_text(with_table(readme, results), encoding="utf-8")


def with_table(readme: str, results: Results) -> str:
    """Return the README's text with the table between its marks; raises ValueError if it has none."""
    head, begin, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"README.md: expected {BEGIN} and {END} around the table of the benchmarks.")
    return f"{head}{BEGIN}\n{readme_table(results)}\n{END}{tail}"


def readme_table(results: Results) -> str:
    lines = [f"{_where(results)} Reached: {_score(results)}.", "", *_goals(results, notes=False)]
    return "\n".join(lines)


def as_text(results: Results) -> str:
    lines = [
        "# Results",
        "",
        "`python -m benchmarks` wrote this.",
        "",
        _where(results),
        "",
        *_versions(results),
        "",
        "## Goals",
        "",
        f"Reached: {_score(results)}. A ratio is the median over the rounds of the ratio within a round, in which both",
        "sides run one after the other, in another order each time; in brackets the best round.",
        "",
        *_goals(results, notes=True),
        "",
        *_missing(results),
    ]
    for name, one in results.items():
        lines += [f"## {name.capitalize()}", "", _circumstances(one), ""]
        for table in one["tables"]:
            lines += [f"### {table['title']}", "", *_table(table), ""]
    return "\n".join(lines)


def _where(results: Results) -> str:
    one = next(iter(results.values()))
    known = one["machine"]
    memory = f", {known['memory_gb']:.0f} GB of memory" if known["memory_gb"] else ""
    return (
        f"{known['cpu']}, {known['cores']} cores{memory}, {known['disk']}; {one['taken']}; "
        f"medians of {one['rounds']} rounds where nothing else is said."
    )


def _versions(results: Results) -> list[str]:
    known = next(iter(results.values()))["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in known["versions"].items())
    return [f"{known['system']}; {versions}."]


def _circumstances(one: Mapping[str, Any]) -> str:
    busy = " **The machine was busy: these figures count for little.**" if one["busy"] else ""
    return (
        f"{one['rounds']} rounds, {one['minutes']} minutes; load for each core {one['load_before']} at the start; "
        f"free at the end: {one['machine']['free_memory_gb']} GB of memory.{busy}"
    )


def _figures(results: Results) -> Iterator[tuple[Mapping[str, Any], bool]]:
    """Yield every figure, and whether the machine was busy."""
    for one in results.values():
        for figure in one["figures"]:
            yield figure, one["busy"]


def _score(results: Results) -> str:
    with_goal = [figure for figure, _ in _figures(results) if figure["goal"] is not None]
    return f"{sum(figure['is_reached'] for figure in with_goal)} of {len(with_goal)} goals"


def _goals(results: Results, *, notes: bool) -> list[str]:
    head = ["| what | goal | measured | reached |" + (" note |" if notes else ""), "|---|---|---|---|" + "---|" * notes]
    return head + [_goal(figure, busy, notes) for figure, busy in _figures(results)]


def _goal(figure: Mapping[str, Any], busy: bool, notes: bool) -> str:
    goal, unit, reached = "–", figure["unit"], "–"
    if figure["goal"] is not None:
        goal = f"{'≤' if figure['at_most'] else '≥'} {_with_unit(figure['goal'], unit)}"
        reached = "yes" if figure["is_reached"] else "**no**"
    best = f" ({number(figure['best'])})" if figure["best"] is not None else ""
    note = f" {figure['note']} |" if notes else ""
    mark = " (busy)" if busy else ""
    return f"| {figure['what']} | {goal} | {_with_unit(figure['value'], unit)}{best} | {reached}{mark} |{note}"


def _with_unit(value: float, unit: str) -> str:
    return f"{number(value)} {unit}".strip()


def _missing(results: Results) -> list[str]:
    missing = [text for one in results.values() for text in one["missing"]]
    return ["## Not measured", "", *(f"- {text}" for text in missing), ""] if missing else []


def _table(table: Mapping[str, Any]) -> list[str]:
    rows = [[number(cell) if isinstance(cell, (int, float)) else str(cell) for cell in row] for row in table["rows"]]
    lines = [list(table["columns"]), ["---"] * len(table["columns"]), *rows]
    text = [f"| {' | '.join(line)} |" for line in lines]
    return [*text, "", table["note"]] if table["note"] else text
