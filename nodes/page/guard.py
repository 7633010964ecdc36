"""What every route of ours has in common: who may ask, how much, and how the answer is sent.

ComfyUI asks nobody who they are, so any page in the user's browser can reach these routes. They change nothing; a page
from elsewhere is refused all the same, and no answer names a folder of this machine.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from ...lora_core.report import as_json_has_it

LARGEST_BODY = 2**20  # bytes
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}
JSON = "application/json"

# So few that other requests stay quick however many of ours wait: files are parsed by Python, one thread at a time.
_WORKERS = ThreadPoolExecutor(2, "lora-core")


class RouteError(Exception):
    """A request is refused, with a status and a text for its sender."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Picture:
    """An answer that is a picture: its bytes are read when they are wanted."""

    read: Callable[[], bytes]
    type: str
    tag: str


Work = Callable[[Mapping[str, Any]], "dict[str, Any] | Picture | None"]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def reading(work: Work) -> Handler:
    """Return the handler of a GET route: `work` gets the query, in a thread of its own."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return await _answered(request, work, dict(request.query))

    return handle


def taking_json(work: Work, largest: int = LARGEST_BODY) -> Handler:
    """Return the handler of a POST route: `work` gets the JSON object that was sent, in a thread of its own."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            _refuse_strangers(request)
            data = await _object(request, largest)
        except RouteError as error:
            return _failed(error)
        return await _answered(request, work, data)

    return handle


async def _answered(request: web.Request, work: Work, data: Mapping[str, Any]) -> web.StreamResponse:
    try:
        _refuse_strangers(request)
        return await asyncio.get_running_loop().run_in_executor(_WORKERS, _answer, request, work, data)
    except RouteError as error:
        return _failed(error)


def _answer(request: web.Request, work: Work, data: Mapping[str, Any]) -> web.Response:
    found = work(data)
    if found is None:
        return web.Response(status=204, headers={**HEADERS, "Cache-Control": "no-store"})
    if not isinstance(found, Picture):
        return _json(found)
    headers = {**HEADERS, "ETag": f'"{found.tag}"', "Cache-Control": "private, no-cache"}
    if request.headers.get("If-None-Match") == headers["ETag"]:
        return web.Response(status=304, headers=headers)
    return web.Response(body=found.read(), content_type=found.type, headers=headers)


def _refuse_strangers(request: web.Request) -> None:
    """Raise RouteError for a request that a page of another site makes.

    A browser tells itself whether a page is the server's own; where it doesn't, the page's address must be ours.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None and site not in ("same-origin", "none"):
        raise RouteError(403, "this page may not ask here.")
    if site is None and origin is not None and urlsplit(origin).netloc.lower() != request.host.lower():
        raise RouteError(403, "this page may not ask here.")


async def _object(request: web.Request, largest: int) -> dict[str, Any]:
    if request.content_type != JSON:
        raise RouteError(415, f"expected {JSON}.")
    body = bytearray()
    async for chunk in request.content.iter_chunked(2**16):
        body += chunk
        if len(body) > largest:
            raise RouteError(413, f"the request is above our limit of {largest} bytes.")
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RouteError(400, "the request is not valid JSON.") from error
    if not isinstance(data, dict):
        raise RouteError(400, "expected a JSON object.")
    return data


def _failed(error: RouteError) -> web.Response:
    return _json({"error": str(error)}, error.status)


def _json(data: dict[str, Any], status: int = 200) -> web.Response:
    text = json.dumps(as_json_has_it(data, "", {}), allow_nan=False, separators=(",", ":"))
    headers = {**HEADERS, "Cache-Control": "no-store"}
    return web.Response(text=text, status=status, content_type=JSON, headers=headers)
