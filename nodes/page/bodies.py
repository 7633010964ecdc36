"""What is sent to our routes: JSON objects, of bounded size, for a bounded time, and not too many at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from ...lora_core.text import whole_number
from .answers import RouteError

LARGEST_BODY = 2**20  # bytes
ALL_BODIES = 2**26  # bytes of all requests at once
SECONDS = 60.0  # for a body to arrive
MOST_VALUES = 500_000  # more than any workflow; to parse so many, Python's lock is held for some 50 ms

_held = 0


@asynccontextmanager
async def body_of(request: web.Request, largest: int) -> AsyncGenerator[bytearray, None]:
    """Give what is sent, while it is needed; raises RouteError for too much, too slow, or what is not sent whole."""
    global _held  # noqa: PLW0603 - of the event loop's thread alone
    body = bytearray()
    try:
        await _all_of(request, body, largest)
        yield body
    finally:
        _held -= len(body)


async def _all_of(request: web.Request, body: bytearray, largest: int) -> None:
    try:
        await asyncio.wait_for(_received(request, body, largest), SECONDS)
    except asyncio.TimeoutError as error:
        raise RouteError(408, f"the request did not arrive within {SECONDS:g} seconds.") from error
    except (web.RequestPayloadError, web.PayloadAccessError, OSError) as error:
        raise RouteError(400, "the request did not arrive as its headers say.") from error


async def _received(request: web.Request, body: bytearray, largest: int) -> None:
    global _held  # noqa: PLW0603
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise RouteError(415, "expected JSON that is not compressed.")
    if (request.content_length or 0) > largest:
        raise RouteError(413, f"the request is above our limit of {largest} bytes.")
    async for chunk in request.content.iter_chunked(2**16):
        body += chunk
        _held += len(chunk)
        if len(body) > largest:
            raise RouteError(413, f"the request is above our limit of {largest} bytes.")
        if _held > ALL_BODIES:
            raise RouteError(503, "too much is sent at once; ask again later.")


def object_in(body: bytearray) -> dict[str, Any]:
    """Return the JSON object that the body is; raises RouteError for anything else."""
    if sum(map(body.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise RouteError(413, f"the request holds more than {MOST_VALUES} values.")
    try:
        data = json.loads(body, parse_constant=_refuse, parse_int=whole_number)
    except (ValueError, RecursionError) as error:
        raise RouteError(400, "the request is not valid JSON.") from error
    if not isinstance(data, dict):
        raise RouteError(400, "expected a JSON object.")
    return data


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
