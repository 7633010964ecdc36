"""Sorts tests into tiers by folder, and ends every run with one line per tier: ran with counts, or skipped and why."""

from __future__ import annotations

import math
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from lora_core.parallel import asking
from tests import tiers

TESTS = Path(__file__).parent
WEB_TIMEOUT = 120  # seconds that one file of JavaScript tests may take
FIRST = (*tiers.ON_HOST, *(tier for tier in tiers.TIERS if tier not in tiers.ON_HOST))
ORDER = ("passed", "failed", "errors", "skipped", "xfailed", "xpassed")

# One of several processes: threads that wait for each other's processors would make minutes of seconds.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

# what they import is there only where the host's tests can run
pytest_plugins = [] if tiers.why_not("host") else ["tests.host_fixtures"]

# A time limit per example fails on a busy machine and says nothing about the code.
settings.register_profile("lora-core", deadline=None)
settings.load_profile("lora-core")


@pytest.fixture(autouse=True)
def _no_questions_by_the_clock() -> Iterator[None]:
    """What a slow machine is asked between two steps is asked of nobody, so that a test can count the steps."""
    with pytest.MonkeyPatch.context() as patch:  # its own: a test's ends before the test's other fixtures
        patch.setattr(asking, "SECONDS", math.inf)
        yield


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a shell's background job; tests interrupt themselves
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for tier in tiers.TIERS:
        config.addinivalue_line("markers", f"{tier}: tests below tests/{tier}; set by folder, never by hand")
    config.addinivalue_line("markers", "case(*numbers): the fault cases of docs/reliability.md that the test holds")
    config.addinivalue_line("markers", "attack(*numbers): the attacks of docs/reliability.md that the test holds")
    config.pluginmanager.register(TierReport(), "tier-report")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leaves out what can't run here, a tier or the tests of one pack, before a module imports what is missing."""
    tier = _tier(collection_path)
    is_absent = tier == "packs" and tiers.is_without_pack(collection_path)
    return True if tier and (is_absent or tiers.why_not(tier)) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        tier = _tier(item.path)
        if tier is None:
            raise pytest.UsageError(f"{item.path}: a test belongs in one of {', '.join(tiers.TIERS)} below tests/")
        item.add_marker(tier)
    # What takes longest in one process begins first; the browser's page works as long as it is open, so it comes last.
    items.sort(key=lambda item: FIRST.index(_tier(item.path)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from tests.processes import OneServer

    return OneServer(config, log)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if _tier(file_path) == "web" and file_path.name.endswith(".test.mjs"):
        return WebFile.from_parent(parent, path=file_path)
    return None


def _tier(path: Path) -> str | None:
    below = path.relative_to(TESTS).parts if path.is_relative_to(TESTS) else ()
    return below[0] if below and below[0] in tiers.TIERS else None


class WebFile(pytest.File):
    """A file of JavaScript tests; Node runs it whole, so it counts as one test."""

    def collect(self) -> Iterator[pytest.Item]:
        yield WebTest.from_parent(self, name=self.path.name)


class WebTest(pytest.Item):
    def runtest(self) -> None:
        command = [tiers.find_node() or "node", "--test", str(self.path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=WEB_TIMEOUT, check=False)
        if done.returncode:
            pytest.fail(f"{done.stdout}\n{done.stderr}", pytrace=False)


class TierReport:
    """Counts outcomes per tier, and fails a run in which a tier that can run left a test out."""

    def __init__(self) -> None:
        self.counts = {tier: Counter[str]() for tier in tiers.TIERS}
        self.collected: dict[str, str] = {}  # file that could not be collected -> what became of it
        self.left_out: list[str] = []
        self.finished = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome == "passed" and report.when != "call":
            return
        outcome = "errors" if report.failed and report.when != "call" else report.outcome
        if hasattr(report, "wasxfail"):
            outcome = "xfailed" if report.skipped else "xpassed"
        self._count(report.nodeid, outcome)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if not report.passed:
            self._collected(report.nodeid, "errors" if report.failed else "skipped")

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Hear from one of several processes, each of which collects every file, what it could not collect."""
        for nodeid, outcome in getattr(node, "workeroutput", {}).get("collected", {}).items():
            self._collected(nodeid, outcome)

    def _collected(self, nodeid: str, outcome: str) -> None:
        if nodeid not in self.collected:
            self.collected[nodeid] = outcome
            self._count(nodeid, outcome)

    def _count(self, nodeid: str, outcome: str) -> None:
        tier = tiers.tier_of(nodeid)
        if tier not in self.counts:
            return
        self.counts[tier][outcome] += 1
        if outcome == "skipped" and tier in tiers.STRICT:
            self.left_out.append(nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.finished = not session.config.option.collectonly
        if hasattr(session.config, "workeroutput"):  # this is one of several processes
            session.config.workeroutput["collected"] = self.collected
        if self.left_out and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """Here and not in the terminal summary, so that these lines are the last ones of a run."""
        terminal = config.pluginmanager.get_plugin("terminalreporter")
        if not self.finished or terminal is None:
            return
        for nodeid in self.left_out:
            terminal.write_line(f"FAILED {nodeid}: it was skipped, but its tier can run here, so it must run", red=True)
        for tier, counts in self.counts.items():
            terminal.write_line(f"tier {tier}: {self._line(tier, counts)}")

    @staticmethod
    def _line(tier: str, counts: Counter[str]) -> str:
        why_not = tiers.why_not(tier)
        if why_not:
            return f"skipped: {why_not}"
        if not counts:
            return "not run: no test of it was selected"
        counted = ", ".join(f"{counts[outcome]} {outcome}" for outcome in ORDER if counts[outcome])
        return f"ran, {counted}{tiers.more_of(tier)}"
