"""Chromium on a real ComfyUI: on its own front end and on the newest one, with LiteGraph and with Nodes 2.0."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.stage import Stage
from tests.host_fixtures import started
from tests.host_server import Server
from tests.tiers import find_chromium, newest_front_end

RENDERERS = {"litegraph": False, "nodes2": True}
FRONT_ENDS = ("own", "newest")

expect.set_options(timeout=20_000)  # milliseconds: a busy machine is no fault of the page


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=find_chromium(), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="session", params=FRONT_ENDS)
def server(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The run's server, and beside it one with the newest front end: the host takes one front end for its life."""
    if request.param == "own":
        yield server
        return
    front_end = newest_front_end()
    if front_end is None:
        pytest.skip("no newest front end in .venv/front-end: run `make test`")
    with started(tmp_path_factory.mktemp("newest"), front_end) as running:
        yield running


@pytest.fixture(scope="session", params=RENDERERS)
def opened(request: pytest.FixtureRequest, browser: Browser, server: Server) -> Iterator[Stage]:
    server.post("/settings", {"Comfy.VueNodes.Enabled": RENDERERS[request.param], "Comfy.Workflow.Persist": False})
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    page.set_default_timeout(15_000)
    stage = Stage(page, server.url)
    stage.open()
    assert page.evaluate("() => Boolean(LiteGraph.vueNodesMode)") is RENDERERS[request.param]
    yield stage
    page.close()


@pytest.fixture
def stage(opened: Stage, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """An empty graph; afterwards nothing of ours may have complained."""
    opened.clear()
    yield opened
    opened.page.screenshot(path=tmp_path / "after.png")
    assert opened.complaints == []
