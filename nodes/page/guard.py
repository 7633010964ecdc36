"""What every route of ours has in common: who may ask, how much, for how long, and that nothing is done on the loop.

ComfyUI asks nobody who they are, so any page in the user's browser can reach these routes. They change nothing; a page
from elsewhere is refused all the same, and no answer names a folder of this machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from ...lora_core.parallel.asking import TookTooLongError
from ..lanes import BusyError, Lane, StoppedError
from .answers import JSON, Answer, Picture, RouteError, answer_of, refusal
from .bodies import LARGEST_BODY, body_of, object_in

PREFIX = "/lora-core/"
# So few that other requests stay quick however many of ours wait: files are parsed by Python, one thread at a time.
READING = Lane("lora-core reading", threads=2, most=6, waiting=256, seconds=60)
HASHING = Lane("lora-core hashing", threads=1, most=3, waiting=256, seconds=900)


@dataclass(frozen=True)
class Again:
    """What is to be done next, in another lane, to have the answer."""

    lane: Lane
    work: Callable[[], Any]


Work = Callable[[Mapping[str, Any]], "dict[str, Any] | Picture | Again | None"]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def reading(work: Work) -> Handler:
    """Return the handler of a GET route: `work` gets the query, on a thread of a lane."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            _refuse_strangers(request)
            return await _answered(request, partial(work, dict(request.query)))
        except RouteError as error:
            return refusal(error)

    return handle


def taking_json(work: Work, largest: int = LARGEST_BODY) -> Handler:
    """Return the handler of a POST route: `work` gets the JSON object that was sent, on a thread of a lane."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            _refuse_strangers(request)
            if request.content_type != JSON:
                raise RouteError(415, f"expected {JSON}.")
            async with body_of(request, largest) as body:
                return await _answered(request, lambda: work(object_in(body)))
        except RouteError as error:
            return refusal(error)

    return handle


@web.middleware
async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse addresses that are none, for our routes alone: ComfyUI's own look at them would fail."""
    if request.path.removeprefix("/api").startswith(PREFIX):
        try:
            _refuse_strangers(request)
        except RouteError as error:
            return refusal(error)
    return await handler(request)


async def _answered(request: web.Request, work: Callable[[], Any]) -> Answer:
    def is_wanted() -> bool:
        return request.transport is not None and not request.transport.is_closing()

    def answer() -> Answer | Again:
        found = work()
        return found if isinstance(found, Again) else answer_of(found, request.headers.get("If-None-Match"))

    lane = READING
    try:
        while isinstance(found := await lane.run(answer, is_wanted), Again):
            lane, work = found.lane, found.work
        return found
    except BusyError as error:
        raise RouteError(503, "too much is asked for at once; ask again later.") from error
    except (TookTooLongError, asyncio.TimeoutError) as error:
        raise RouteError(503, f"this takes longer than {lane.seconds:g} seconds, so it was given up.") from error
    except StoppedError as error:  # whoever asked has gone
        raise RouteError(408, "nobody waits for the answer.") from error
    except RecursionError as error:
        raise RouteError(422, "nested deeper than can be read.") from error
    except MemoryError as error:
        raise RouteError(503, "not enough memory for this.") from error


def _refuse_strangers(request: web.Request) -> None:
    """Raise RouteError for a request that a page of another site makes, or that gives no address as its own.

    A browser tells itself whether a page is the server's own; where it doesn't, the page's address must be ours.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    host = _netloc(f"//{request.headers.get('Host', '')}", "Host")
    page = None if origin is None else _netloc(origin, "Origin")
    if site is not None and site not in ("same-origin", "none"):
        raise RouteError(403, "this page may not ask here.")
    if site is None and page is not None and page != host:
        raise RouteError(403, "this page may not ask here.")


def _netloc(address: str, header: str) -> str:
    """Return host and port of an address; raises RouteError for one that Python, and so ComfyUI, can't take apart."""
    try:
        parts = urlsplit(address)
        _ = parts.port, (parts.hostname or "").encode("idna")
    except ValueError as error:
        raise RouteError(400, f"{header}: expected an address, as browsers send it.") from error
    return parts.netloc.lower()
