"""Our routes on a real ComfyUI: what they answer, and who and what they refuse."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.host_fixtures import write_lora
from tests.host_server import Server
from tests.tiny import make_tiny

INK = "styles/ink.safetensors"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
SVG = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"
MIB = 2**20

Answer = tuple[int, dict[str, str], bytes]


def ask(
    server: Server, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> Answer:
    """Send exactly this path: urllib would tidy it up."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def check(server: Server, data: Any, headers: dict[str, str] | None = None) -> Answer:
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    return ask(server, "POST", "/lora-core/check", body, {"Content-Type": "application/json", **(headers or {})})


def info(server: Server, name: str, more: str = "") -> Answer:
    return ask(server, "GET", f"/lora-core/info?name={quote(name)}{more}")


@pytest.fixture
def secret(server: Server) -> Iterator[Path]:
    """A LoRA file outside every folder that ComfyUI lists, beside the loras folder."""
    path = server.models / "secret.safetensors"
    write_lora(server, "../secret.safetensors", {"modelspec.title": "secret"})
    yield path
    path.unlink()


def test_info_of_a_file(server: Server) -> None:
    status, headers, body = info(server, INK, "&hash=1")
    found = json.loads(body)
    assert status == 200
    assert headers["content-type"].startswith("application/json")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert (found["name"], found["arches"], found["kinds"], found["rank"]) == (INK, [], ["LoRA"], [4, 4])
    assert found["words"] == [{"word": "inkwash", "source": "modelspec.trigger_phrase", "count": None}]
    assert found["tags"] == [{"tag": "inkwash", "count": 20}, {"tag": "brush", "count": 3}]
    assert len(found["hash"]) == 64
    assert json.loads(info(server, INK)[2])["hash"] == found["hash"]  # known from now on


TRAVERSALS = [
    "../secret.safetensors",
    "%2e%2e/secret.safetensors",
    "%2e%2e%2fsecret.safetensors",
    "%252e%252e%252fsecret.safetensors",
    "..%5csecret.safetensors",
    "styles/../../secret.safetensors",
    "styles/../styles/ink.safetensors",
    "styles/ink.safetensors%00.png",
    "%00",
    "gone.safetensors",
    "",
    "%ff%fe",
    "C:%5Cwindows%5Cwin.ini",
    "/etc/passwd",
]


@pytest.mark.case(33)
@pytest.mark.parametrize("name", TRAVERSALS)
@pytest.mark.parametrize("route", ["info", "preview"])
def test_only_listed_names(server: Server, secret: Path, route: str, name: str) -> None:
    status, _, body = ask(server, "GET", f"/lora-core/{route}?name={name}")
    assert status == 404
    assert json.loads(body) == {"error": "no such LoRA file; refresh the list."}


def test_a_name_is_needed(server: Server) -> None:
    assert ask(server, "GET", "/lora-core/info")[0] == 404


@pytest.mark.case(33)
@pytest.mark.parametrize(
    "headers, status",
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "pc.local:8188", "Origin": "http://evil.example"}, 403),  # here ComfyUI itself lets it pass
        ({"Host": "pc.local:8188", "Origin": "http://pc.local:8188"}, 200),
    ],
)
def test_pages_from_elsewhere(server: Server, headers: dict[str, str], status: int) -> None:
    path = f"/lora-core/info?name={INK}"
    assert ask(server, "GET", path, headers=headers)[0] == status
    assert check(server, {"model": None, "rows": []}, headers)[0] == status


@pytest.mark.case(33)
def test_methods(server: Server) -> None:
    assert ask(server, "GET", "/lora-core/check")[0] in (404, 405)
    assert ask(server, "POST", f"/lora-core/info?name={INK}", b"{}", {"Content-Type": "application/json"})[0] == 405
    assert ask(server, "DELETE", f"/lora-core/info?name={INK}")[0] in (404, 405)


@pytest.mark.case(33)
@pytest.mark.parametrize(
    "body, type, status",
    [
        (b'{"model": null, "rows": []}', "text/plain", 415),
        (b'{"model": null, "rows": []}', "application/x-www-form-urlencoded", 415),
        (b"{", "application/json", 400),
        (b"[" * 200_000, "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"rows": {}}', "application/json", 400),
        (b'{"model": 7, "rows": []}', "application/json", 404),
        (b'{"model": "../secret.safetensors", "rows": []}', "application/json", 404),
        (json.dumps({"rows": [{"name": "x" * 10 * MIB}]}).encode(), "application/json", 413),
    ],
)
def test_bodies(server: Server, body: bytes, type: str, status: int) -> None:
    found, _, answer = check(server, body, {"Content-Type": type})
    assert found == status
    assert str(server.base) not in answer.decode()


@pytest.mark.case(33)
def test_a_broken_file_names_no_folder(server: Server) -> None:
    path = server.models / "loras/broken.safetensors"
    path.write_bytes(b"not a LoRA at all, but long enough to be read as one")
    try:
        status, _, body = info(server, "broken.safetensors")
        rows = json.loads(check(server, {"model": None, "rows": [{"name": "broken.safetensors"}]})[2])["rows"]
    finally:
        path.unlink()
    assert status == 422
    assert "broken.safetensors: expected a safetensors file, found text" in json.loads(body)["error"]
    assert str(server.base) not in body.decode()
    assert rows[0]["state"] == "broken"
    assert str(server.base) not in rows[0]["reason"]


def test_previews(server: Server) -> None:
    folder = server.models / "loras/styles"
    path = f"/lora-core/preview?name={INK}"
    assert ask(server, "GET", path)[::2] == (204, b"")
    try:
        (folder / "ink.preview.png").write_bytes(SVG)  # of the right name, and no picture
        (folder / "ink.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(64))
        assert ask(server, "GET", path)[0] == 204
        (folder / "INK.PNG").write_bytes(PNG)
        status, headers, body = ask(server, "GET", path)
        assert (status, headers["content-type"], body) == (200, "image/png", PNG)
        assert headers["x-content-type-options"] == "nosniff"
        assert ask(server, "GET", path, headers={"If-None-Match": headers["etag"]})[::2] == (304, b"")
        assert json.loads(info(server, INK)[2])["has_preview"] is True
    finally:
        for name in ("ink.preview.png", "ink.mp4", "INK.PNG"):
            (folder / name).unlink(missing_ok=True)


def test_rows_on_a_model(server: Server) -> None:
    make_tiny("flux", server.models / "diffusion_models/check_flux.safetensors")
    rows = [
        {"name": INK},
        {"name": "STYLES\\Ink.safetensors", "low": "gone.safetensors"},
        {"name": "gone.safetensors"},
        {"name": ""},
        {"name": INK, "strength": "much"},
    ]
    status, _, body = check(server, {"model": "diffusion_models/check_flux.safetensors", "rows": rows})
    found = json.loads(body)
    assert (status, found["title"]) == (200, "Flux.1 dev")
    first, second, missing, empty, broken = found["rows"]
    assert (first["state"], first["name"], first["how"]) == ("full", INK, "exact")
    assert first["summary"] == "1/1 · Flux.1 dev · LoRA r4 · scale 1 (alpha 4, tensor)"
    assert (second["name"], second["how"], second["low"]["state"]) == (INK, "case", "missing")
    assert (missing["state"], missing["name"]) == ("missing", None)
    assert empty["state"] == "empty"
    assert (broken["state"], broken["reason"]) == ("broken", "row 5: strength must be a number, found 'much'.")


def test_a_thousand_rows(server: Server) -> None:
    rows = [{"name": INK, "strength": 1.0, "hash": "0" * 64, "size": 7, "unknown": "x" * 400} for _ in range(1_000)]
    status, _, body = check(server, {"model": None, "rows": rows})
    assert status == 200
    assert len(json.loads(body)["rows"]) == 1_000
    assert check(server, {"rows": [{"name": ""}] * 2_001})[0] == 400


@pytest.mark.case(33)
def test_many_at_once_leave_the_server_quick(server: Server) -> None:
    rows = [{"name": name} for name in (INK, "detail.safetensors")] * 200
    statuses: list[int] = []
    check_stays_quick(server, *[lambda: statuses.append(check(server, {"model": None, "rows": rows})[0])] * 50)
    assert statuses == [200] * 50


def check_stays_quick(server: Server, *work: Callable[[], object]) -> None:
    """Start all `work` at once: no question for the server's own state may have to wait until most of it is done."""
    threads = [threading.Thread(target=one) for one in work]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    slowest = 0.0
    while any(thread.is_alive() for thread in threads):
        start = time.monotonic()
        server.get("/system_stats")
        slowest = max(slowest, time.monotonic() - start)
    assert slowest < (time.monotonic() - begin) / 2


BAD_ADDRESSES = [
    "http://[",
    "http://[::1",
    "http://x:abc",
    "http://x:99999",
    "http://" + "a" * 70,
    "//",
    "\xff",
    "[",
    "a b",
]


@pytest.mark.attack(22)
@pytest.mark.parametrize("address", BAD_ADDRESSES)
@pytest.mark.parametrize("header", ["Origin", "Host"])
@pytest.mark.parametrize("prefix", ["", "/api"])
def test_addresses_that_are_none(server: Server, prefix: str, header: str, address: str) -> None:
    headers = {"Origin": f"http://127.0.0.1:{server.port}", header: address}
    status, _, body = ask(server, "GET", f"{prefix}/lora-core/info?name={INK}", headers=headers)
    assert status in (400, 403)
    if b"error" in body:  # not the server's own parser, but we
        assert 10 < len(json.loads(body)["error"]) < 200


BROKEN_HEADERS = [
    {"Content-Type": ""},
    {"Content-Type": "application/json; charset=nonsense", "X": "y"},
    {"Content-Type": "a/b/c; =;"},
    {"Content-Type": "\xff/\xfe"},
    {"Content-Type": "application/json", "Content-Encoding": "deflate"},
    {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    {"Content-Type": "application/json", "Content-Encoding": "nonsense"},
    {"Content-Type": "application/json", "Content-Length": "-1"},
    {"Content-Type": "application/json", "Content-Length": "1e3"},
    {"Content-Type": "application/json", "Content-Length": str(2**70)},
    {"Content-Type": "application/json", "Transfer-Encoding": "nonsense"},
    {"Content-Type": "application/json", "Sec-Fetch-Site": "\xff"},
    {"Content-Type": "application/json", "If-None-Match": '"' * 1000},
]


@pytest.mark.attack(22)
@pytest.mark.parametrize("headers", BROKEN_HEADERS)
@pytest.mark.parametrize("route", ["check", "import"])
def test_headers_that_are_broken(server: Server, route: str, headers: dict[str, str]) -> None:
    body = b'{"rows": [], "text": "<lora:ink:1>"}'
    status, _, answer = ask(server, "POST", f"/lora-core/{route}", body, headers)
    assert status in (200, 400, 403, 411, 413, 415)
    assert len(answer) < 20_000


BODIES = [
    b"", b"{", b"[]", b"null", b"7", b'"x"', b"\xff\xfe", b"\xef\xbb\xbf", b"{}" * 9, b"[" * 300_000,
    b'{"a":' * 100_000, b'{"rows": NaN}', b'{"rows": Infinity}', b'{"rows": 1' + b"0" * 5_000 + b"}",
    b"[" + b"0," * 500_000 + b"0]", b'{"rows": {}, "text": 7, "workflow": []}', b'{"rows": [[], 7, null, "x"]}',
    b'{"rows": "x", "text": [], "workflow": "x"}', b'{"rows": [], "model": {}, "text": null}',
    b'{"rows": [], "model": ["x"], "workflow": {"nodes": 7}}', b'{"rows": [], "model": 1e999, "workflow": {}}',
    b'{"rows": [], "model": "\\u0000", "workflow": {"nodes": [], "links": 7}}', b'{"rows": [], "model": "\\ud800"}',
    b'{"workflow": {"nodes": [null, 7, []]}, "nodes": {}}', b'{"workflow": {"nodes": []}, "to": 7, "rows": 7}',
    b'{"workflow": {"nodes": []}, "to": [], "rows": 7}', b'{"text": "x", "dialect": {}, "rows": 7}',
    b'{"workflow": ' + b'{"nodes": ' * 400 + b"[]" + b"}" * 400 + b', "rows": 7}',
    b'{"text": "\\ud800<lora:\\udfff:1>", "rows": 7}',
]  # fmt: skip


@pytest.mark.attack(22)
@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
@pytest.mark.parametrize("route", ["check", "import"])
def test_bodies_that_nobody_would_send(server: Server, route: str, body: bytes) -> None:
    status, headers, answer = ask(server, "POST", f"/lora-core/{route}", body, {"Content-Type": "application/json"})
    assert status == 200 or 400 <= status < 500
    assert headers["content-type"].startswith("application/json")
    found = json.loads(answer)
    assert status == 200 or 10 < len(found["error"]) < 1_100


@pytest.mark.attack(22)
@pytest.mark.parametrize(
    "row",
    [
        {"name": "\0"}, {"name": "\ud800"}, {"name": "x" * 100_000}, {"name": "a/" * 5_000}, {"name": 7},
        {"name": [INK]}, {"name": INK, "strength": 1e300}, {"name": INK, "strength": "1" * 10_000}, {"on": []},
        {"name": INK, "blocks": "x=" * 10_000}, {"name": INK, "blocks": {}}, {"name": INK, "hash": 7},
        {"name": "gone", "hash": {}, "size": 10**400}, {"name": "gone", "hash": "0" * 64, "size": -1},
        {"name": INK, "low": {}}, {"name": INK, "low": "\0"},
    ],
    ids=repr,
)  # fmt: skip
def test_rows_that_nobody_would_send(server: Server, row: dict[str, Any]) -> None:
    status, _, body = check(server, {"model": None, "rows": [row, {"name": INK}]})
    assert status == 200
    first, second = json.loads(body)["rows"]
    assert len(json.dumps(first)) < 8_000
    assert second["state"] == "unknown" and second["name"] == INK


@pytest.mark.attack(23)
@pytest.mark.parametrize(
    "path", ["info?name=styles/ink.safetensors", "info?name=gone", "preview?name=styles/ink.safetensors"]
)
def test_a_browser_runs_nothing_of_an_answer(server: Server, path: str) -> None:
    """ComfyUI gives each response the policy of its own page, which lets scripts run; ours is set after it."""
    picture = server.models / "loras/styles/ink.png"
    picture.write_bytes(PNG)
    try:
        for prefix in ("", "/api"):
            _, headers, _ = ask(server, "GET", f"{prefix}/lora-core/{path}")
            assert headers["content-security-policy"] == "default-src 'none'; sandbox"
            assert headers["x-content-type-options"] == "nosniff"
    finally:
        picture.unlink()
