"""Another front end than the one the server started with, at a request: the tests' pages need two."""

from pathlib import Path

from aiohttp import web
from server import PromptServer

host = PromptServer.instance
own = host.web_root


@host.routes.post("/testing/front-end")
async def choose(request: web.Request) -> web.Response:
    """Take a folder from now on, or with none the server's own; pages that are open keep what they have loaded."""
    folder = (await request.json())["folder"]
    host.web_root = folder or own  # the host asks this for its first page and its list of scripts
    return web.json_response({"folder": host.web_root})


@web.middleware
async def from_the_chosen(request: web.Request, handler) -> web.StreamResponse:
    """Answer with a file of the chosen front end: the host has tied all other paths to its own."""
    path = Path(host.web_root, request.path.lstrip("/"))
    if host.web_root != own and request.method == "GET" and ".." not in path.parts and path.is_file():
        return web.FileResponse(path)
    return await handler(request)


host.app.middlewares.append(from_the_chosen)
