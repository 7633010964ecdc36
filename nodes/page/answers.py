"""How our routes answer: JSON, pictures and refusals, each with headers that keep a browser from running anything."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from ...lora_core.report import as_json_has_it

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}
JSON = "application/json"


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


class Answer(web.Response):
    """A response whose safe headers are set last: ComfyUI gives every response a policy for its own page."""

    async def prepare(self, request: web.BaseRequest) -> Any:
        self.headers.update(HEADERS)
        return await super().prepare(request)


def answer_of(found: Mapping[str, Any] | Picture | None, known_tag: str | None) -> Answer:
    """Return what a route found as its answer; a picture with the tag that the browser knows is not sent again."""
    if found is None:
        return Answer(status=204, headers={"Cache-Control": "no-store"})
    if not isinstance(found, Picture):
        return json_answer(found)
    headers = {"ETag": f'"{found.tag}"', "Cache-Control": "private, no-cache"}
    if known_tag == headers["ETag"]:
        return Answer(status=304, headers=headers)
    try:
        return Answer(body=found.read(), content_type=found.type, headers=headers)
    except OSError as error:
        raise RouteError(404, "the picture is no longer there; refresh the list.") from error


def refusal(error: RouteError) -> Answer:
    return json_answer({"error": str(error)}, error.status)


def json_answer(data: Mapping[str, Any], status: int = 200) -> Answer:
    """Return data as JSON. It is encoded value by value, so that other threads have their turn: all at once, Python's
    lock is held for as long as it takes, and an answer may hold a whole workflow."""
    encoder = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
    text = "".join(encoder.iterencode(as_json_has_it(data, "", {})))
    return Answer(text=text, status=status, content_type=JSON, headers={"Cache-Control": "no-store"})
