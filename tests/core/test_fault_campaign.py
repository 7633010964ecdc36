"""A few points of each fault campaign; `make faults` tries many more."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from tests.core import samples
from tests.faults.__main__ import CAMPAIGNS
from tests.faults.operations import OPERATIONS


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Sequence[dict[str, Any]]:
    told = tmp_path_factory.mktemp("faults") / "points.json"
    # how much memory libraries need before they can even say so differs from machine to machine: `make faults` alone
    faults = [fault for fault in CAMPAIGNS if fault != "little memory"]
    words = ["--points", "2", "--seed", "1", "--json", str(told), "--faults", *faults]
    done = samples.python("-m", "tests.faults", *words, seconds=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads(told.read_text())
    assert "WRONG" not in done.stdout
    return [*data["points"], *({"fault": fault, "skipped": why} for fault, why in data["skipped"].items())]


def of(points: Sequence[dict[str, Any]], fault: str) -> list[dict[str, Any]]:
    """The points of one fault, all operations with a new and an old target among them; skips where it can't be made."""
    found = [point for point in points if point["fault"] == fault]
    if found and "skipped" in found[0]:
        pytest.skip(found[0]["skipped"])
    pairs = {(point["operation"], point["target"]) for point in found}
    assert pairs == {(operation, target) for operation in OPERATIONS for target in ("new", "old")}
    assert [point for point in found if point["problem"]] == []
    return found


def states(found: Sequence[dict[str, Any]]) -> set[str]:
    found_states = {point["state"] for point in found}
    assert found_states <= {"absent", "old", "complete"}
    return found_states


@pytest.mark.case(19)
def test_killed_at_any_point_the_target_is_absent_old_or_complete(points: Sequence[dict[str, Any]]) -> None:
    found = of(points, "kill")
    assert states(found) >= {"absent", "old"}
    assert {point["code"] for point in found} <= {-9, 0}
    assert sum(point["left"] for point in found) > 0  # and each was told and removed


@pytest.mark.case(20)
def test_cancelled_at_any_point_nothing_half_written_is_left(points: Sequence[dict[str, Any]]) -> None:
    found = of(points, "cancel")
    assert states(found) >= {"absent", "old"}
    assert {point["left"] for point in found} == {0}
    assert {point["code"] for point in found} >= {130}


@pytest.mark.case(20)
@pytest.mark.attack(32)
@pytest.mark.parametrize("fault", ["stop", "place"])
def test_interrupted_at_any_moment_it_ends_and_nothing_half_written_is_left(
    points: Sequence[dict[str, Any]], fault: str
) -> None:
    found = of(points, fault)  # none of them hangs
    assert states(found) >= {"absent", "old"}
    assert {point["left"] for point in found} == {0}
    assert {point["code"] for point in found} <= {0, 130}


@pytest.mark.case(20)
@pytest.mark.attack(32)
def test_a_merge_ends_wherever_the_interrupt_comes() -> None:
    """Wherever a function of the parts that threads share may be interrupted: no lock is left locked."""
    words = ["--faults", "place", "--operations", "merge", "--points", "60"]
    done = samples.python("-m", "tests.faults", *words, seconds=1200)
    assert (done.returncode, "WRONG" in done.stdout) == (0, False), done.stdout + done.stderr


@pytest.mark.attack(33)
@pytest.mark.parametrize("fault", ["few handles"])
def test_with_too_little_it_ends_with_one_clear_error(points: Sequence[dict[str, Any]], fault: str) -> None:
    found = of(points, fault)
    assert states(found) >= {"absent", "old"}
    assert {point["left"] for point in found} == {0}
    assert {point["code"] for point in found} <= {0, 1}


@pytest.mark.case(22)
@pytest.mark.parametrize("fault", ["full disk", "size limit"])
def test_a_disk_that_fills_up_at_any_point(points: Sequence[dict[str, Any]], fault: str) -> None:
    found = of(points, fault)
    assert states(found) >= {"absent", "old"}
    assert {point["left"] for point in found} == {0}
    assert {point["code"] for point in found} <= {0, 1}


@pytest.mark.case(19)
def test_after_a_power_cut_the_target_is_absent_old_or_complete(points: Sequence[dict[str, Any]]) -> None:
    found = of(points, "power cut")
    assert states(found) >= {"absent", "old"}
    assert {point["state"] for point in found if point["where"] == "after the end"} == {"complete"}
