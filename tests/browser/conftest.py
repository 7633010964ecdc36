"""Chromium on a real ComfyUI: on its own front end and on the newest one, with LiteGraph and with Nodes 2.0.

Most tests run once, where they are most likely to break: on the newest front end, which moves, and in Nodes 2.0, which
places, measures and replaces our widgets by itself. What our scripts draw and answer inside a widget is the same
everywhere. A test says what else it needs, and why:

- `@pytest.mark.everywhere("why")`: all four. For what the renderer and the front end decide together: how a widget
  comes to the page and leaves it, sizes, focus, keys that the canvas wants too, what is saved, and what an
  undo brings back.
- `@pytest.mark.twice("why")`: the host's own front end with LiteGraph too. For what depends on one of the two, such as
  the front end's menus, events and settings, or the renderer's way with pointer and wheel: both are seen once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.stage import Stage
from tests.host_server import Server
from tests.tiers import find_chromium, newest_front_end

expect.set_options(timeout=20_000)  # milliseconds: a busy machine is no fault of the page


class Setting(NamedTuple):
    """What a page runs on."""

    front_end: str  # own or newest
    renderer: str  # litegraph or nodes2


USUAL, LIKELY = Setting("own", "litegraph"), Setting("newest", "nodes2")
ALL = (USUAL, Setting("own", "nodes2"), Setting("newest", "litegraph"), LIKELY)
MARKS = {"everywhere": ALL, "twice": (USUAL, LIKELY)}


def pytest_configure(config: pytest.Config) -> None:
    for mark in MARKS:
        config.addinivalue_line("markers", f"{mark}(why): the test runs on other front ends or renderers too")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "opened" in metafunc.fixturenames:
        chosen = [settings for mark, settings in MARKS.items() if metafunc.definition.get_closest_marker(mark)]
        settings = chosen[0] if chosen else (LIKELY,)
        metafunc.parametrize("opened", settings, indirect=True, scope="session", ids="-".join)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=find_chromium(), args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def opened(request: pytest.FixtureRequest, browser: Browser, server: Server) -> Iterator[Stage]:
    """The page, loaded once for all tests of a front end and a renderer."""
    setting: Setting = request.param
    newest = newest_front_end()
    if newest is None:
        pytest.skip("no newest front end in .venv/front-end: run `make test`")
    is_newest, is_nodes2 = setting.front_end == "newest", setting.renderer == "nodes2"
    server.serve_front_end(newest if is_newest else None)
    server.post("/settings", {"Comfy.VueNodes.Enabled": is_nodes2, "Comfy.Workflow.Persist": False})
    page = browser.new_page(viewport={"width": 1280, "height": 860}, reduced_motion="reduce")
    page.set_default_timeout(15_000)
    stage = Stage(page, server.url)
    stage.open()
    assert page.evaluate("() => Boolean(LiteGraph.vueNodesMode)") is is_nodes2
    version = page.evaluate("() => window.__COMFYUI_FRONTEND_VERSION__")
    assert any(newest.parents[1].glob(f"*-{version}.dist-info")) is is_newest
    yield stage
    page.close()


@pytest.fixture
def stage(opened: Stage, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """An empty graph; afterwards nothing of ours may have complained. A failed test leaves a picture of the page."""
    opened.clear()
    yield opened
    if request.node.stash.get(FAILED, False):
        opened.page.screenshot(path=tmp_path / "after.png")
    assert opened.complaints == []
